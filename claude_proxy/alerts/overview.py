"""The state of the proxy in one sentence, as a JSON value for ``/pool``. Plain functions; times are Unix seconds."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from claude_proxy.alerts.rules import Alert, in_list, in_use, in_words, shortage
from claude_proxy.alerts.situation import Situation
from claude_proxy.config.alerts import CRITICAL, WARNING
from claude_proxy.credentials.rate_limits import Snapshot, general_windows
from claude_proxy.usage.report import PARTLY_LIMITED, full_at, headroom_of_pool, is_cooling_down, state_name

GOOD = "good"
WEEK = "7d"
# The maximum number of credentials that a sentence names.
MAX_NAMED = 5
CLOSED = "You may use no credential of the pool: each is for another group."
CLOSED_IN_WORDS = "no credential of the pool is for you"


def overview(
    situation: Situation, alerts: Sequence[Alert], money: Mapping[str, float], *, is_closed: bool = False
) -> dict[str, Any]:
    """Return the level, the sentence, and when the pool is empty. ``alerts`` are those that the viewer may see.

    ``week`` has the first and the last of the seven days whose sums alerts and tables have.
    ``is_closed``: the pool has credentials, and the viewer may use none of them.
    """
    pool = in_use(situation.pool)
    serious = [alert for alert in alerts if alert.severity in (WARNING, CRITICAL)]
    level = serious[0].severity if serious else WARNING if is_closed or shortage(situation.pool) else GOOD
    return {
        "level": level,
        "sentence": CLOSED if is_closed and not serious else _sentence(pool, serious, situation),
        "empty_at": situation.empty_at,
        "empty_in_words": CLOSED_IN_WORDS if is_closed else _empty_in_words(pool, situation),
        "money": dict(money),
        "week": _week(situation),
    }


def alerts_as_json(alerts: Sequence[Alert], since: Mapping[str, float], now: float) -> list[dict[str, Any]]:
    """Return alerts as JSON values; ``since`` has when each was noticed, by key. An earlier cause began before that."""
    fields = ("key", "severity", "text", "action", "on_page")
    return [
        {name: getattr(one, name) for name in fields} | {"since": min(one.cause or now, since.get(one.key, now))}
        for one in alerts
    ]


def _week(situation: Situation) -> dict[str, str]:
    today = datetime.fromtimestamp(situation.now, situation.zone).date()
    return {"from": (today - timedelta(6)).isoformat(), "to": today.isoformat()}


def _sentence(pool: Sequence[Snapshot], serious: Sequence[Alert], situation: Situation) -> str:
    if serious:
        first, *others = serious
        more = f" Also: {others[0].text}" if len(others) == 1 else f" {len(others)} more things need attention."
        return f"{first.text}{more if others else ''}"
    if short := shortage(situation.pool):  # the alert is off
        return f"{short.words(situation.zone, situation.now)}."
    if not pool:
        return "All is well; the pool has no credential in use."
    usable = sum(not is_cooling_down(one) for one in pool)
    verb = "is" if usable == 1 else "are"
    found = f"{usable} of {len(pool)} credentials {verb} usable"
    if len(pool) == 1:
        found = "the credential is usable"
    partly = sum(state_name(one) == PARTLY_LIMITED and not is_cooling_down(one) for one in pool)
    found = f"the credential is {PARTLY_LIMITED}" if partly and len(pool) == 1 else found
    notes = [f"{partly} of them {PARTLY_LIMITED}"] if partly and len(pool) > 1 else []
    if paused := len(situation.pool) - len(pool):
        notes.append(f"{paused} more {'is' if paused == 1 else 'are'} paused")
    some = f" ({'; '.join(notes)})" if notes else ""
    return f"All is well: {found}{some}{_room(pool, situation.now)}."


def _room(pool: Sequence[Snapshot], now: float) -> str:
    """Return how much of the week is free, or of the fullest windows where no credential has a window of a week."""
    weeks = [
        1.0 - min(1.0, window.utilization)
        for one in pool
        for name, window in general_windows(one.windows).items()
        if name == WEEK and window.reset > now
    ]
    if weeks:
        return f", {sum(weeks) / len(weeks):.0%} of the week is free".replace("%", " %")
    room = headroom_of_pool(pool)
    seen = any(one.windows for one in pool)
    return f", {room:.0%} of the fullest windows is free".replace("%", " %") if room is not None and seen else ""


def _empty_in_words(pool: Sequence[Snapshot], situation: Situation) -> str:
    empty, short = situation.empty_at, shortage(situation.pool)
    if short and not short.is_whole:
        return f"no credential is usable for {short.names}"
    if not pool:
        return "the pool has no credential in use"
    if empty is None:
        return f"at this pace the pool does not run out within a week{_filling(pool, len(situation.pool) - len(pool))}"
    if empty <= situation.now:
        return "the pool is empty"
    return f"at this pace the pool is empty on {in_words(empty, situation.zone, situation.now)}"


def _filling(pool: Sequence[Snapshot], paused: int) -> str:
    """Return which credentials become full for all models at the pace of their windows, the first to be full first."""
    soonest = {one.credential.label: at for one in pool if (at := _full_at(one)) is not None}
    if not soonest:
        return ""
    names = sorted(soonest, key=lambda label: (soonest[label], label))
    more = [f"{len(names) - MAX_NAMED} more"] if len(names) > MAX_NAMED else []
    words = "becomes full before it resets" if len(names) == 1 else "become full before they reset"
    which = f"{len(pool)} credentials that are not paused" if paused else f"{len(pool)} credentials"
    return f", but {len(names)} of {which} {words}: {in_list([*names[:MAX_NAMED], *more])}"


def _full_at(one: Snapshot) -> float | None:
    found = (full_at(name, window) for name, window in general_windows(one.windows).items())
    return min((at for at in found if at is not None), default=None)
