"""The numbers of usage, and the names under which they are counted. Plain values."""

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from claude_proxy.config.money import shown

# Names that stand for many models: the rest, models that the proxy does not serve, and models that a user may not use.
OTHER, UNKNOWN, NOT_ALLOWED = "other", "unknown model", "model not allowed"
GENERAL_NAMES = frozenset({"", OTHER, UNKNOWN, NOT_ALLOWED})
# The maximum of a number of one entry; the sum of a million of them still fits into 64 bits.
MAX_NUMBER = 10**12
# The upper bounds of the histogram buckets, in seconds; the last one has none. A bucket is at most 1.4 times as wide as the one
# before where first bytes are, so that a percentile is known within a fifth.
BUCKETS = (
    0.1, 0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 1.8, 2.5, 3.5, 5.0, 7.0, 10.0, 14.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, math.inf,
)  # fmt: skip

# Returns whether the proxy lists a model, in contrast to a name that a client made up.
Listed = Callable[[str], bool]


class Names(NamedTuple):
    """The dimensions of usage. ``groups`` are joined by commas; ``credential`` is empty for providers other than Claude."""

    user: str
    groups: str
    model: str
    served: str
    credential: str
    project: str


class Totals(NamedTuple):
    """The counts of usage; ``unpriced`` are responses without a known cost."""

    requests: int = 0
    errors: int = 0
    failovers: int = 0
    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    micro_usd: int = 0
    unpriced: int = 0

    @property
    def usd(self) -> str:
        """The cost in USD; empty if none is known."""
        return "" if self.unpriced and not self.micro_usd else shown(self.micro_usd)

    def __add__(self, other: tuple[Any, ...]) -> "Totals":
        return Totals(*(one + more for one, more in zip(self, other, strict=True)))


# All numbers of an entry in their order: the counts, the sums of times in milliseconds, and the buckets of both times.
_COUNTS = len(Totals._fields)
FIRST_BYTE_MS, TOTAL_MS = _COUNTS, _COUNTS + 1
FIRST_BYTE = slice(_COUNTS + 2, _COUNTS + 2 + len(BUCKETS))
TOTAL = slice(FIRST_BYTE.stop, FIRST_BYTE.stop + len(BUCKETS))
WIDTH = TOTAL.stop
COLUMNS = (
    *Totals._fields, "first_byte_ms", "total_ms", *(f"f{place}" for place in range(len(BUCKETS))),
    *(f"t{place}" for place in range(len(BUCKETS))),
)  # fmt: skip

Numbers = Sequence[int]


def totals_of(numbers: Numbers) -> Totals:
    """Return the counts of an entry's numbers."""
    return Totals(*numbers[:_COUNTS])


def numbers_of_totals(totals: Totals) -> list[int]:
    """Return the numbers of an entry without times."""
    return [*totals, *[0] * (WIDTH - _COUNTS)]


def bucket_of(buckets: slice, seconds: float) -> int:
    """Return the place of a time's bucket among the numbers of an entry."""
    return int(buckets.start) + bisect_left(BUCKETS, seconds)


def add(sums: list[int], numbers: Numbers) -> None:
    """Add an entry's numbers to others; each stays at most ``MAX_NUMBER``."""
    for place, number in enumerate(numbers):
        if number:
            sums[place] = min(sums[place] + number, MAX_NUMBER)


def percentiles(buckets: Numbers, shares: Sequence[float]) -> list[float | None]:
    """Return the times below which the shares of requests were, in seconds, interpolated within their bucket.

    ``shares`` are in ascending order. All are None without a request. A time beyond the last bound is that bound.
    """
    count = sum(buckets)
    found: list[float | None] = []
    if not count:
        return [None] * len(shares)
    below, place = 0, 0
    for share in shares:
        while place < len(buckets) - 1 and below + buckets[place] < share * count:
            below += buckets[place]
            place += 1
        lower = BUCKETS[place - 1] if place else 0.0
        upper = BUCKETS[place] if place < len(BUCKETS) - 1 else lower
        part = (share * count - below) / buckets[place] if buckets[place] else 1.0
        found.append(round(lower + (upper - lower) * min(1.0, part), 3))
    return found
