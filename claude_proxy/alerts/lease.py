"""Which process sends the alerts: the holder of a lease, a row in the store. Plain and synchronous; times are Unix seconds.

Six rules:
  1. The holder renews the lease. If it does not for ``LEASE_SECONDS``, or has released it, another process claims it.
  2. Of two claims the later one wins, of two at the same time that in the store. Who sees such a claim is not the holder.
  3. A claim is used only once it has come back from the store, and after ``SETTLE_SECONDS``, in which those of others arrive.
  4. While the store is not available, the holder stays the holder. Without a known holder, each process becomes its own after
     ``ALONE_SECONDS``: an alert that arrives twice is better than one that does not arrive.
  5. Without a store, a process is the holder.
  6. The row's stamp only says which claim is later, so a clock that was wrong for a moment blocks nothing.
"""

import json
import logging
import math
import secrets
from collections.abc import Callable, Sequence

from claude_proxy.state.rows import Row

logger = logging.getLogger(__name__)

KEY = "alerts:lease"
LEASE_SECONDS = 60.0
RENEW_SECONDS = 15.0
SETTLE_SECONDS = 5.0
ALONE_SECONDS = 300.0
# A lease that ends further in the future than this is that of a wrong clock, and not valid.
MAX_AHEAD = 3600.0
MAX_WRITER = 64
# A stamp from which larger ones can be made, whatever a clock has been.
MAX_STAMP = 1e12


class Lease:
    """``clock`` returns Unix seconds; ``is_shared`` is whether there is a store; ``writer`` names this process."""

    def __init__(self, clock: Callable[[], float], *, is_shared: bool, writer: str | None = None) -> None:
        self._clock = clock
        self._is_shared = is_shared
        self._writer = writer or secrets.token_hex(8)
        self._holder = ""
        self._until = 0.0
        self._stamp = -math.inf
        self._claimed_at = math.inf
        # Whether the store has had this process's claim.
        self._is_confirmed = False
        self._unavailable_since: float | None = None
        self._is_changed = False

    def is_held(self, *, unavailable: bool = False) -> bool:
        """Renew or claim the lease, and return whether this process holds it. ``unavailable``: the store is away."""
        now = self._clock()
        if not self._is_shared:
            return True
        if unavailable:
            return self._is_held_alone(now)
        self._unavailable_since = None
        is_valid = bool(self._holder) and now < self._until <= now + MAX_AHEAD
        if is_valid and self._holder != self._writer:
            return False
        if not is_valid:  # also an own one: this process did not run for a while, and another may have claimed it
            self._claimed_at, self._is_confirmed = now, False
            self._put(self._writer, now)
        elif now >= self._until - LEASE_SECONDS + RENEW_SECONDS:
            self._put(self._writer, now)
        return self._is_settled(now)

    def _is_held_alone(self, now: float) -> bool:
        if self._unavailable_since is None:
            self._unavailable_since = now
        if self._is_confirmed:
            return self._is_settled(now)
        if self._holder not in ("", self._writer):
            return False
        return now >= self._unavailable_since + ALONE_SECONDS

    def _is_settled(self, now: float) -> bool:
        return self._is_confirmed and now >= self._claimed_at + SETTLE_SECONDS

    def release(self) -> None:
        """Let another process claim the lease at once."""
        if self._holder == self._writer:
            self._put("", self._clock())

    def _put(self, holder: str, now: float) -> None:
        self._holder, self._until, self._stamp = holder, now + LEASE_SECONDS, max(now, math.nextafter(self._stamp, math.inf))
        self._is_changed = True

    def changed(self) -> list[Row]:
        """Return the lease if this process has changed it."""
        if not self._is_changed:
            return []
        self._is_changed = False
        return self.everything()

    def everything(self) -> list[Row]:
        """Return the lease."""
        return [Row(KEY, self._stamp, json.dumps([self._holder, self._until]))] if math.isfinite(self._stamp) else []

    def merge(self, rows: Sequence[Row]) -> None:
        """Apply the lease of another process if it is later."""
        for row in rows:
            if row.key != KEY or not self._stamp <= row.stamp < MAX_STAMP:
                continue
            try:
                holder, until = _lease_in(row)
            except (ValueError, TypeError, RecursionError):
                logger.debug("skipped a store row that this version cannot read: %.200r", row.key)
                continue
            if holder != self._writer or row.stamp > self._stamp:
                self._is_changed = False
            self._holder, self._until, self._stamp = holder, until, row.stamp
            self._is_confirmed = holder == self._writer


def _lease_in(row: Row) -> tuple[str, float]:
    """Return the holder in a row, and until when; raise ValueError or TypeError for another one."""
    holder, until = json.loads(row.value)
    if (
        not isinstance(holder, str)
        or len(holder) > MAX_WRITER
        or not isinstance(until, int | float)
        or not math.isfinite(until)
    ):
        raise ValueError("not a lease")
    return holder, float(until)
