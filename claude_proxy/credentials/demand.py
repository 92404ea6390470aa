"""Which model families clients request of the pool, shared as rows. Plain and synchronous; time is an argument."""

import math
from collections.abc import Iterator

from claude_proxy.credentials.scope import MESSAGES, STANDARD, Scope
from claude_proxy.state.rows import Row

PREFIX = "requested:"
# How long a model family counts as requested, and how often that is recorded, in seconds.
REQUESTED_FOR, RECORD_SECONDS = 86400.0, 60.0
MAX_FAMILIES, MAX_FAMILY = 50, 64


class Demand:
    """When each model family was last requested, in Unix seconds. A client may make up a family, so their number is bounded."""

    def __init__(self) -> None:
        self._last: dict[str, float] = {}

    def record(self, scope: Scope, now: float) -> Row | None:
        """Record a request; return a row for the other processes, at most once a minute.

        Token counting and fast mode do not count: they have limits of their own.
        """
        if now - self._last.get(scope.family, -math.inf) < RECORD_SECONDS or (scope.endpoint, scope.speed) != (
            MESSAGES,
            STANDARD,
        ):
            return None
        return _row(scope.family, now) if self._put(scope.family, now) else None

    def families(self, now: float) -> frozenset[str]:
        """Return the families that clients have requested within ``REQUESTED_FOR``."""
        return frozenset(family for family, at in self._last.items() if now - REQUESTED_FOR < at)

    def rows(self) -> Iterator[Row]:
        """Yield everything as rows."""
        return (_row(family, at) for family, at in self._last.items())

    def merge(self, row: Row, now: float) -> None:
        """Apply a row of another process."""
        family, at = row.key.removeprefix(PREFIX), min(row.stamp, now)
        if math.isfinite(row.stamp) and at > self._last.get(family, -math.inf):
            self._put(family, at)

    def _put(self, family: str, at: float) -> bool:
        """Record a request of that time; return whether the family is one, and among the latest ones."""
        if not 0 < len(family) <= MAX_FAMILY or not family.isprintable() or ":" in family:
            return False
        self._last[family] = at
        if len(self._last) > MAX_FAMILIES:
            del self._last[min(self._last, key=self._last.__getitem__)]
        return family in self._last


def _row(family: str, at: float) -> Row:
    """Return the last request of a family; the stamp is its time."""
    return Row(f"{PREFIX}{family}", at, "null")
