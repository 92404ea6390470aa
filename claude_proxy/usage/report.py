"""The status of pool and usage as one JSON value. Plain functions; times are Unix seconds.

Every viewer sees the labels, states and sums of the credentials that they may use. Only the holder of the master key sees other
users, their models and their failovers.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from claude_proxy.config.settings import POOL_SOURCES
from claude_proxy.credentials.course import Sample, begun
from claude_proxy.credentials.credential import NO_TERMS, Kind, Terms
from claude_proxy.credentials.expiry import EXPIRED as LOGIN_EXPIRED
from claude_proxy.credentials.expiry import login_of, token_expiry_of
from claude_proxy.credentials.rate_limits import Cooldown, Snapshot, Window, general_windows
from claude_proxy.credentials.scope import EVERYTHING
from claude_proxy.usage.events import RecentEvents
from claude_proxy.usage.numbers import Totals
from claude_proxy.usage.used import Counts, Range, Used

KINDS = {Kind.OAUTH: "OAuth token", Kind.API_KEY: "API key"}
# The ranges of the sums.
RANGES = (Range.TODAY, Range.LAST_WEEK)
# The maximum number of samples of a window's course that are shown.
MAX_SHOWN = 60
_WINDOW_NAME = re.compile(r"(?P<count>[0-9]{1,4})(?P<unit>[hd])(?:_(?P<family>.+))?")
_UNITS = {"h": ("hour", 3600.0), "d": ("day", 86400.0)}
LIMIT_REACHED = "limit reached: "
USABLE, PARTLY_LIMITED, RATE_LIMITED = "usable", "partly rate-limited", "rate-limited"
REJECTED, PAUSED, EXPIRED = "rejected", "paused", "expired"
STATES = (USABLE, PARTLY_LIMITED, RATE_LIMITED, REJECTED, PAUSED, EXPIRED)


class Viewer(NamedTuple):
    """The viewer of the status. ``sees_all_users``: including their usage; ``hidden``: credentials reserved for others."""

    name: str
    sees_all_users: bool
    hidden: frozenset[str] = frozenset()


class StoreStatus(NamedTuple):
    """The status of the shared store: its kind (None without one), and since when this process runs."""

    kind: str | None
    unavailable: bool
    process_started: float


def report(
    snapshots: Iterable[Snapshot],
    used: Used,
    viewer: Viewer,
    store: StoreStatus,
    now: float,
    *,
    events: RecentEvents,
    problems: Sequence[str] = (),
) -> dict[str, Any]:
    """Return everything that a viewer may see; ``problems`` are those of the pool's files."""
    pool = [one for one in snapshots if one.credential.label not in viewer.hidden]
    user = None if viewer.sees_all_users else viewer.name
    errors = events.errors()
    by_credential = {one: used.of(one).by_credential for one in RANGES}
    return {
        "now": now,
        "viewer": {"name": viewer.name, "sees_all_users": viewer.sees_all_users},
        "store": {**store._asdict(), "usage_since": used.since},
        "pool": {
            "credentials": len(pool),
            "usable": sum(not is_cooling_down(one) for one in pool),
            "headroom": headroom_of_pool(pool),
            "problems": [*problems] if viewer.sees_all_users else [],
        },
        "credentials": [
            credential(one, now)
            | (_written(one) if viewer.sees_all_users else {})
            | _row(by_credential, one.credential.label)
            | {"last_error": errors[label]._asdict() if (label := one.credential.label) in errors else None}
            for one in pool
        ],
        "users": _rows({one: used.of(one).by_user(user) for one in RANGES}),
        "models": _rows({one: used.of(one).by_model(user) for one in RANGES}),
        # A failover names the model that somebody requested, so others' are for the holder of the master key.
        "failovers": [
            one._asdict()
            for one in events.failovers()
            if (viewer.sees_all_users or one.user == viewer.name) and one.text.partition(": ")[0] not in viewer.hidden
        ],
    }


def credential(snapshot: Snapshot, now: float) -> dict[str, Any]:
    """Return the status of one credential."""
    token, login = token_expiry_of(snapshot), login_of(snapshot)
    return {
        "label": snapshot.credential.label,
        "kind": KINDS[snapshot.credential.kind],
        "state": state(snapshot),
        "windows": [_window(name, window, _course(snapshot, name, window), now) for name, window in windows(snapshot).items()],
        "sessions": snapshot.sessions,
        "login": {"expires": login.expires, "words": login.words(now)} if login else None,
        "setup_token": {**token._asdict(), "warning": token.warning(now), "words": token.words(now)} if token else None,
    }


def _written(snapshot: Snapshot) -> dict[str, Any]:
    """Return where a credential is configured, whether a command can change it, and its non-default terms."""
    one = snapshot.credential
    return {"source": one.source, "editable": one.source not in POOL_SOURCES, "terms": unusual(one.terms)}


def unusual(terms: Terms) -> dict[str, Any]:
    """Return the terms that differ from their defaults, without the time of a pause; groups as a sorted list."""
    found = {name: value for name, value in vars(terms).items() if value != getattr(NO_TERMS, name)}
    found.pop("paused_since", None)
    return {name: sorted(value) if isinstance(value, frozenset) else value for name, value in found.items()}


def state(snapshot: Snapshot) -> dict[str, Any]:
    """Return a credential's state: its name (one of ``STATES``), its cooldowns (longest first), and both in words (UTC).

    ``since`` is when it was paused, if it is and that is known.
    """
    cooldowns = sorted(snapshot.cooldowns.items(), key=lambda cooldown: (cooldown[0] != EVERYTHING, -cooldown[1].until))
    name = state_name(snapshot)
    words = [name] if name in (USABLE, PARTLY_LIMITED) else []
    since = snapshot.credential.terms.paused_since
    if snapshot.disabled:
        words.append((f"{PAUSED} since {_utc(since)}" if since else PAUSED) if name == PAUSED else LOGIN_EXPIRED)
    if snapshot.extra_until:
        words.append(f"its plan is used up; paid extra usage until {_utc(snapshot.extra_until)}")
    for scope, cooldown in cooldowns:
        what = f"rate-limited for {scope.words}" if scope != EVERYTHING else REJECTED if cooldown.rejected else RATE_LIMITED
        words.append(f"{what} until {_utc(cooldown.until)}: {_reason(cooldown, snapshot)}")
    found = [
        {
            **scope._asdict(),
            "scope": scope.words,
            "since": cooldown.recorded_at or None,
            "until": cooldown.until,
            "reason": _reason(cooldown, snapshot),
        }
        for scope, cooldown in cooldowns
    ]
    return {"name": name, "since": since if name == PAUSED else None, "cooldowns": found, "words": "; ".join(words)}


def state_name(snapshot: Snapshot) -> str:
    """Return which of ``STATES`` applies to a credential."""
    if snapshot.disabled:
        return PAUSED if snapshot.credential.terms.paused else EXPIRED
    everything = snapshot.cooldowns.get(EVERYTHING)
    if everything:
        return REJECTED if everything.rejected else RATE_LIMITED
    return PARTLY_LIMITED if snapshot.cooldowns else USABLE


def is_cooling_down(snapshot: Snapshot) -> bool:
    """Return whether a credential cannot be used for any model family that clients request."""
    if snapshot.disabled or EVERYTHING in snapshot.cooldowns:
        return True
    limited = bool(snapshot.cooldowns and snapshot.requested)
    return limited and not any(map(snapshot.can_serve, snapshot.requested))


def unserved_families(pool: Collection[Snapshot]) -> list[str]:
    """Return the model families that clients request and that no credential of a pool can serve now."""
    requested = {family for one in pool for family in one.requested}
    return sorted(family for family in requested if not any(one.can_serve(family) for one in pool))


def headroom(snapshot: Snapshot) -> float:
    """Return the free fraction of the fullest window for all models; 0 during a cooldown."""
    if is_cooling_down(snapshot):
        return 0.0
    loads = (window.utilization for window in general_windows(snapshot.windows).values())
    return max(0.0, 1.0 - max(loads, default=0.0))


def headroom_of_pool(pool: Iterable[Snapshot]) -> float | None:
    """Return the mean headroom of the credentials that are not paused; None if there are none."""
    found = [headroom(one) for one in pool if not one.credential.terms.paused]
    return sum(found) / len(found) if found else None


def windows(snapshot: Snapshot) -> dict[str, Window]:
    """Return a credential's windows by name, the shortest first; if several families reported one, the latest applies."""
    latest = sorted(snapshot.windows.items(), key=lambda place: place[1].seen)
    found = {name: window for (_, name), window in latest}
    return dict(sorted(found.items(), key=lambda window: (window_length(window[0]), window[0])))


def window_title(name: str) -> str:
    """Return a window's name in words: ``7d_opus`` is the 7-day window of Opus."""
    match = _WINDOW_NAME.fullmatch(name)
    if match is None:
        return name
    return f"{match['count']}-{_UNITS[match['unit']][0]} window" + (f" of {_title(match['family'])}" if match["family"] else "")


def full_at(name: str, window: Window) -> float | None:
    """Return when a window is full if its rate since its start continues; None if it resets before that.

    The start of a window is its reset minus its length, which is part of its name.
    """
    if window.utilization >= 1:
        return window.seen
    if not window_length(name) or window.utilization <= 0:
        return None
    opened = window.reset - window_length(name)
    full = opened + max(0.0, window.seen - opened) / window.utilization
    return full if opened < window.seen < full < window.reset else None


def window_length(name: str) -> float:
    """Return the length of a window in seconds; 0 if its name does not contain it."""
    match = _WINDOW_NAME.fullmatch(name)
    return int(match["count"]) * _UNITS[match["unit"]][1] if match else 0.0


def _course(snapshot: Snapshot, name: str, window: Window) -> list[Sample]:
    """Return how a window's utilization has changed since it opened, the oldest sample first."""
    place = next((place for place, one in snapshot.windows.items() if place[1] == name and one is window), None)
    course = snapshot.courses.get(place) if place else None
    return (course or begun(window)).shown(window, MAX_SHOWN)


def _window(name: str, window: Window, course: Sequence[Sample], now: float) -> dict[str, Any]:
    full, seconds = full_at(name, window), window_length(name)
    return {
        "name": name,
        "title": window_title(name),
        "utilization": window.utilization,
        "reset": window.reset,
        "seen": window.seen,
        # When it opened; None if that is not known.
        "opened": window.reset - seconds if seconds else None,
        "course": [[*sample] for sample in course],
        # By the minute, so that a report that is polled does not change each second.
        "full_at": full if full is None else max(now - now % 60, full),
    }


def _reason(cooldown: Cooldown, snapshot: Snapshot) -> str:
    if cooldown.explanation:
        return f'{cooldown.reason}: "{cooldown.explanation}"'
    if not cooldown.reason.startswith(LIMIT_REACHED):
        return cooldown.reason
    loads = {name: window.utilization for name, window in windows(snapshot).items()}
    names = cooldown.reason.removeprefix(LIMIT_REACHED).split(", ")
    return ", ".join(
        window_title(name) + (f" at {loads[name]:.0%}".replace("%", " %") if name in loads else "") for name in names
    )


def _row(sums: Mapping[Range, Mapping[str, Counts]], name: str) -> dict[str, Any]:
    """Return the sums for one name, by range."""
    return {one.value: Totals(*found.get(name, ()))._asdict() for one, found in sums.items()}


def _rows(sums: Mapping[Range, Mapping[str, Counts]]) -> list[dict[str, Any]]:
    """Return the sums for each name, the one with the most requests first."""
    rows = [{"name": name, **_row(sums, name)} for name in {name for found in sums.values() for name in found}]
    return sorted(rows, key=lambda row: (-row["week"]["requests"], row["name"]))


def _title(family: str) -> str:
    return family.replace("_", " ").title()


def _utc(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"
