"""Limits how many requests an address may send to routes that need no token."""

# Rules:
#   1. an address may send `burst` requests at once, and `per_second` in the long run;
#   2. at most `MAX_SOURCES` addresses are stored; the one that was quiet for the longest is dropped, because by then it may
#      send nearly a whole burst again.

import time
from collections.abc import Callable

MAX_SOURCES = 4096


class AddressLimits:
    """Token buckets, one for each address (``source_of`` in ``access/failed_logins.py``). Used by one event loop."""

    def __init__(self, burst: int, per_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._burst = burst
        self._per_second = per_second
        self._clock = clock
        # By address, the one that was quiet for the longest first: the requests that it may send, and the time of that number.
        self._buckets: dict[str, tuple[float, float]] = {}

    def wait(self, source: str) -> float:
        """Count a request, and return 0; if it is one too many, count nothing and return the seconds until the next one."""
        now = self._clock()
        left, since = self._buckets.pop(source, (float(self._burst), now))
        left = min(float(self._burst), left + max(0.0, now - since) * self._per_second)
        allowed = left >= 1
        if len(self._buckets) >= MAX_SOURCES:
            del self._buckets[next(iter(self._buckets))]
        self._buckets[source] = (left - 1 if allowed else left), now
        return 0.0 if allowed else (1 - left) / self._per_second
