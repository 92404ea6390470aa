"""When the pool is empty if requests continue at the pace of the current windows. Plain functions; times are Unix seconds.

Four rules:
  1. The pace of a window is its utilization by the time since it opened. The sum over the pool is the demand; it stays the
     same, and is divided among the usable credentials by their weight.
  2. A credential is unavailable while one of its windows for all models is full, until that window resets, and during a
     cooldown for everything. One that Anthropic rejects, or that is paused, does not come back by itself.
  3. A window that resets is empty again, and open for its whole length.
  4. An API key has no windows and never becomes full.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from claude_proxy.credentials.credential import Kind
from claude_proxy.credentials.rate_limits import Snapshot, general_windows
from claude_proxy.credentials.scope import EVERYTHING
from claude_proxy.usage.report import is_cooling_down, window_length

# How far the forecast looks, in seconds, and the maximum number of its steps.
HORIZON_SECONDS = 7 * 86400.0
MAX_STEPS = 2000
# A window that has been open for less than this share of its length has no pace of its own yet.
LEAST_SHARE = 0.05
# What counts as full, so that rounding does not lead to endless small steps.
FULL = 1.0 - 1e-9


@dataclass
class _Window:
    length: float
    used: float
    reset: float


@dataclass
class _Member:
    """A credential in the simulation: ``back_at`` is the end of a cooldown."""

    weight: float
    back_at: float = 0.0
    windows: dict[str, _Window] = field(default_factory=dict)

    def is_usable(self, at: float) -> bool:
        return self.back_at <= at and all(window.used < FULL for window in self.windows.values())

    def open_windows(self, names: Iterable[str], now: float) -> None:
        """Add the windows that the next request opens."""
        for name in names:
            self.windows.setdefault(name, _Window(window_length(name), 0.0, now + window_length(name)))

    def use(self, pace: Mapping[str, float], seconds: float) -> None:
        for name, window in self.windows.items():
            window.used += pace.get(name, 0.0) * seconds

    def reset_windows(self, at: float) -> None:
        for window in self.windows.values():
            if window.reset <= at:
                window.used, window.reset = 0.0, at + window.length


def empty_at(pool: Iterable[Snapshot], now: float) -> float | None:
    """Return when no credential is usable; ``now`` if that is so already, None if it does not happen within a week.

    Also None for a pool in which no credential is in use.
    """
    snapshots = [one for one in pool if not one.disabled]
    if not snapshots:
        return None
    if all(is_cooling_down(one) for one in snapshots):
        return now
    usable = [one for one in snapshots if not _is_rejected(one)]
    demand = _demand(snapshots, now)
    if not demand or any(one.credential.kind is Kind.API_KEY for one in usable):
        return None
    return _simulate([_member(one, now) for one in usable], demand, now)


def _member(snapshot: Snapshot, now: float) -> _Member:
    cooldown = snapshot.cooldowns.get(EVERYTHING)
    member = _Member(snapshot.credential.terms.weight, cooldown.until if cooldown else 0.0)
    for name, window in general_windows(snapshot.windows).items():
        if window_length(name) and window.reset > now:
            member.windows[name] = _Window(window_length(name), min(window.utilization, 1.0), window.reset)
    return member


def _is_rejected(snapshot: Snapshot) -> bool:
    return EVERYTHING in snapshot.cooldowns and snapshot.cooldowns[EVERYTHING].rejected


def _demand(pool: Sequence[Snapshot], now: float) -> dict[str, float]:
    """Return the weighted pace of all credentials together, by the name of a window, in windows a second."""
    found: dict[str, float] = {}
    for snapshot in pool:
        for name, window in _member(snapshot, now).windows.items():
            opened = window.reset - window.length
            since = max(now - opened, LEAST_SHARE * window.length)
            found[name] = found.get(name, 0.0) + snapshot.credential.terms.weight * window.used / since
    return {name: pace for name, pace in found.items() if pace > 0}


def _simulate(members: Sequence[_Member], demand: dict[str, float], now: float) -> float | None:
    at, end = now, now + HORIZON_SECONDS
    for member in members:
        member.open_windows(demand, now)
    for _ in range(MAX_STEPS):
        usable = [member for member in members if member.is_usable(at)]
        if not usable:
            return at
        weight = sum(member.weight for member in usable)
        pace = {name: amount / weight for name, amount in demand.items()}
        step = _next(members, usable, pace, at)
        if step >= end:
            return None
        for member in usable:
            member.use(pace, step - at)
        at = step
        for member in members:
            member.reset_windows(at)
    return None


def _next(members: Iterable[_Member], usable: Iterable[_Member], pace: dict[str, float], at: float) -> float:
    """Return when something changes: a window is full or resets, or a cooldown ends."""
    changes = [member.back_at for member in members if member.back_at > at]
    changes += [window.reset for member in members for window in member.windows.values()]
    changes += [
        at + max(0.0, FULL - window.used) / pace[name] + 1e-3
        for member in usable
        for name, window in member.windows.items()
        if pace.get(name)
    ]
    return min(changes)
