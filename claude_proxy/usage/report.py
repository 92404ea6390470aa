"""Quota and usage at a glance: the pool and the book as one JSON value. Plain functions; times are Unix seconds.

What a viewer may see: everybody sees the credentials' labels, states and sums; of people, who does not hold the master key
sees only itself.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from claude_proxy.config.settings import POOL_SOURCES
from claude_proxy.credentials.credential import NO_TERMS, Kind, Terms
from claude_proxy.credentials.expiry import EXPIRED as LOGIN_EXPIRED
from claude_proxy.credentials.expiry import age_of, login_of
from claude_proxy.credentials.rate_limits import ALL_MODELS, OVERAGE, Cooldown, Snapshot, Window
from claude_proxy.credentials.scope import EVERYTHING
from claude_proxy.usage.ledger import Book
from claude_proxy.usage.ledger_page import Names, Taken

KINDS = {Kind.OAUTH: "OAuth token", Kind.API_KEY: "API key"}
WEEK_DAYS = 7
_WINDOW_NAME = re.compile(r"(?P<count>[0-9]{1,4})(?P<unit>[hd])(?:_(?P<family>.+))?")
_UNITS = {"h": ("hour", 3600.0), "d": ("day", 86400.0)}
LIMIT_REACHED = "limit reached: "
USABLE, PARTLY_LIMITED, RATE_LIMITED = "usable", "partly rate-limited", "rate-limited"
REJECTED, PAUSED, EXPIRED = "rejected", "paused", "expired"
STATES = (USABLE, PARTLY_LIMITED, RATE_LIMITED, REJECTED, PAUSED, EXPIRED)


class Viewer(NamedTuple):
    """Who looks: ``everybody`` says that it may see other people's usage; ``hidden`` are credentials that are for others."""

    name: str
    everybody: bool
    hidden: frozenset[str] = frozenset()


class StoreStatus(NamedTuple):
    """Where the answer comes from: the store that is shared, if there is one, whether it is away, and the process's start."""

    shared: str | None
    away: bool
    since: float


def report(
    snapshots: Iterable[Snapshot],
    book: Book,
    viewer: Viewer,
    knowledge: StoreStatus,
    now: float,
    *,
    problems: Sequence[str] = (),
) -> dict[str, Any]:
    """Return all that a viewer may see; ``problems`` is what is wrong with the pool's files."""
    pool = [one for one in snapshots if one.credential.label not in viewer.hidden]
    week = book.last_days(WEEK_DAYS)
    periods = {"today": book.taken({book.today()}), "week": book.taken(week)}
    own = {
        period: {names: taken for names, taken in found.items() if viewer.everybody or names.user == viewer.name}
        for period, found in periods.items()
    }
    errors = book.errors()
    by_credential = _sums(periods, "credential")
    return {
        "now": now,
        "viewer": {"name": viewer.name, "sees_everybody": viewer.everybody},
        "knowledge": {**knowledge._asdict(), "usage_since": book.since()},
        "pool": {
            "credentials": len(pool),
            "usable": sum(not is_cooling_down(one) for one in pool),
            "headroom": headroom_of_pool(pool),
            "problems": [*problems] if viewer.everybody else [],
        },
        "credentials": [
            credential(one, now)
            | (_written(one) if viewer.everybody else {})
            | _row(by_credential, one.credential.label)
            | {"last_error": errors[label]._asdict() if (label := one.credential.label) in errors else None}
            for one in pool
        ],
        "users": _rows(own, "user"),
        "models": _rows(own, "model"),
        "failovers": [
            one._asdict() | {"user": one.user if viewer.everybody or one.user == viewer.name else ""}
            for one in book.failovers()
            if one.text.partition(": ")[0] not in viewer.hidden
        ],
    }


def credential(snapshot: Snapshot, now: float) -> dict[str, Any]:
    """Return what is known of one credential itself."""
    age, login = age_of(snapshot), login_of(snapshot)
    return {
        "label": snapshot.credential.label,
        "kind": KINDS[snapshot.credential.kind],
        "state": state(snapshot),
        "windows": [_window(name, window, now) for name, window in windows(snapshot).items()],
        "sessions": snapshot.sessions,
        "login": {"expires": login.expires, "words": login.words(now)} if login else None,
        "age": {**age._asdict(), "warning": age.warning(now), "words": age.words(now)} if age else None,
    }


def _written(snapshot: Snapshot) -> dict[str, Any]:
    """Return where a credential is written down, whether a command can change that, and its unusual terms."""
    one = snapshot.credential
    return {"source": one.source, "editable": one.source not in POOL_SOURCES, "terms": unusual(one.terms)}


def unusual(terms: Terms) -> dict[str, Any]:
    """Return the terms that are others than without a word; groups as a sorted list."""
    found = {name: value for name, value in vars(terms).items() if value != getattr(NO_TERMS, name)}
    return {name: sorted(value) if isinstance(value, frozenset) else value for name, value in found.items()}


def state(snapshot: Snapshot) -> dict[str, Any]:
    """Return a credential's state: its name, one of ``STATES``, its rests, the longest first, and both in words (UTC)."""
    cooldowns = sorted(snapshot.cooldowns.items(), key=lambda cooldown: (cooldown[0] != EVERYTHING, -cooldown[1].until))
    name = state_name(snapshot)
    words = [] if is_cooling_down(snapshot) else [USABLE]
    if snapshot.closed:
        words.append(PAUSED if name == PAUSED else LOGIN_EXPIRED)
    if snapshot.extra_until:
        words.append(f"its plan is used up: paid extra usage until {_utc(snapshot.extra_until)}")
    for scope, cooldown in cooldowns:
        what = f"rate-limited for {scope.words}" if scope != EVERYTHING else REJECTED if cooldown.rejected else RATE_LIMITED
        words.append(f"{what} until {_utc(cooldown.until)}: {_because(cooldown, snapshot)}")
    found = [
        {**scope._asdict(), "what": scope.words, "until": cooldown.until, "because": _because(cooldown, snapshot)}
        for scope, cooldown in cooldowns
    ]
    return {"name": name, "cooldowns": found, "words": "; ".join(words)}


def state_name(snapshot: Snapshot) -> str:
    """Return which of ``STATES`` a credential is in."""
    if snapshot.closed:
        return PAUSED if snapshot.credential.terms.paused else EXPIRED
    everything = snapshot.cooldowns.get(EVERYTHING)
    if everything:
        return REJECTED if everything.rejected else RATE_LIMITED
    return PARTLY_LIMITED if snapshot.cooldowns else USABLE


def is_cooling_down(snapshot: Snapshot) -> bool:
    """Whether a credential may be asked for no model at all."""
    return snapshot.closed or EVERYTHING in snapshot.cooldowns


def headroom(snapshot: Snapshot) -> float:
    """Return what the fullest window of all models leaves, as a fraction; nothing while the credential rests."""
    if is_cooling_down(snapshot):
        return 0.0
    loads = [
        window.utilization for (family, name), window in snapshot.windows.items() if family == ALL_MODELS and name != OVERAGE
    ]
    return max(0.0, 1.0 - max(loads, default=0.0))


def headroom_of_pool(pool: Iterable[Snapshot]) -> float | None:
    """Return the mean headroom of the credentials that are not paused; None without any."""
    found = [headroom(one) for one in pool if not one.credential.terms.paused]
    return sum(found) / len(found) if found else None


def windows(snapshot: Snapshot) -> dict[str, Window]:
    """Return a credential's windows by name, the shorter first; of what several families heard of one the latest counts."""
    latest = sorted(snapshot.windows.items(), key=lambda place: place[1].seen)
    found = {name: window for (_, name), window in latest}
    return dict(sorted(found.items(), key=lambda window: (_length(window[0]), window[0])))


def window_title(name: str) -> str:
    """Return a window's name in words: ``7d_opus`` is the 7-day window of Opus."""
    match = _WINDOW_NAME.fullmatch(name)
    if match is None:
        return name
    return f"{match['count']}-{_UNITS[match['unit']][0]} window" + (f" of {_title(match['family'])}" if match["family"] else "")


def full_at(name: str, window: Window) -> float | None:
    """Return when a window is full if it goes on filling as it did since it opened; None if it opens anew before that.

    A window opens its length before its reset: that much its name says, and no other answer has to be remembered.
    """
    if window.utilization >= 1:
        return window.seen
    if not _length(name) or window.utilization <= 0:
        return None
    opened = window.reset - _length(name)
    full = opened + max(0.0, window.seen - opened) / window.utilization
    return full if opened < window.seen < full < window.reset else None


def _length(name: str) -> float:
    """Return how long a window is, in seconds; 0 when its name does not say."""
    match = _WINDOW_NAME.fullmatch(name)
    return int(match["count"]) * _UNITS[match["unit"]][1] if match else 0.0


def _window(name: str, window: Window, now: float) -> dict[str, Any]:
    full = full_at(name, window)
    return {
        "name": name,
        "title": window_title(name),
        "utilization": window.utilization,
        "reset": window.reset,
        "seen": window.seen,
        "full_at": full if full is None else max(now, full),
    }


def _because(cooldown: Cooldown, snapshot: Snapshot) -> str:
    if not cooldown.reason.startswith(LIMIT_REACHED):
        return cooldown.reason
    loads = {name: window.utilization for name, window in windows(snapshot).items()}
    names = cooldown.reason.removeprefix(LIMIT_REACHED).split(", ")
    return ", ".join(
        window_title(name) + (f" at {loads[name]:.0%}".replace("%", " %") if name in loads else "") for name in names
    )


def _sums(periods: Mapping[str, Mapping[Names, Taken]], by: str) -> dict[str, dict[str, Taken]]:
    """Return the sums for each name in one place, by period."""
    sums: dict[str, dict[str, Taken]] = {}
    for period, found in periods.items():
        sums[period] = {}
        for names, taken in found.items():
            name = getattr(names, by)
            sums[period][name] = sums[period].get(name, Taken()) + taken
    return sums


def _row(sums: Mapping[str, Mapping[str, Taken]], name: str) -> dict[str, Any]:
    """Return the sums for one name, by period."""
    return {period: found.get(name, Taken())._asdict() for period, found in sums.items()}


def _rows(periods: Mapping[str, Mapping[Names, Taken]], by: str) -> list[dict[str, Any]]:
    """Return the sums for each name, the one with the most requests first."""
    sums = _sums(periods, by)
    rows = [{"name": name, **_row(sums, name)} for name in {name for found in sums.values() for name in found}]
    return sorted(rows, key=lambda row: (-row["week"]["requests"], row["name"]))


def _title(family: str) -> str:
    return family.replace("_", " ").title()


def _utc(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"
