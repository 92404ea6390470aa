"""The course of a window: how its utilization has changed since the window opened. Plain values, no I/O.

Four rules:
  1. A course belongs to one window until its reset; the first report of a later reset begins another course.
  2. A sample is taken when the utilization has changed, at most ``MAX_SAMPLES`` times in the length of a window. After a long
     time without a change, the last report before the change is a sample too, so that a line through the samples is flat there.
  3. It has at most ``MAX_POINTS`` samples, in the order of their times.
  4. Processes share their courses; of two versions of one course the one with the later last sample applies.
"""

import functools
from typing import NamedTuple, Protocol

from claude_proxy.credentials.order import length

# Every 42 minutes for a window of a week, and every 75 seconds for one of five hours.
MAX_SAMPLES = 240
MAX_POINTS = 2 * MAX_SAMPLES
# The time between two samples, in seconds: at least, and for a window of unknown length.
LEAST_SECONDS = 60.0
UNKNOWN_SECONDS = 900.0
# Two reports of one window may differ by this in its reset, in seconds.
RESET_SECONDS = 60.0


class Report(Protocol):
    """What a response said of a window: its utilization as a fraction, and Unix seconds."""

    utilization: float
    reset: float
    seen: float


class Sample(NamedTuple):
    """The utilization of a window, as a fraction, at a time in Unix seconds."""

    at: float
    utilization: float


class Course(NamedTuple):
    """The samples of one window, which resets at ``reset``, in Unix seconds."""

    reset: float
    samples: tuple[Sample, ...]

    def belongs_to(self, window: Report) -> bool:
        """Whether this is the course of the window, and not of an earlier one."""
        return abs(self.reset - window.reset) <= RESET_SECONDS

    def after(self, name: str, before: Report | None, window: Report) -> "Course":
        """Return the course after a report; the same object if no sample is due. ``before`` is the report before it."""
        last = self.samples[-1]
        if not self.belongs_to(window):
            return begun(window)
        pause = seconds_between(name)
        if window.utilization == last.utilization or window.seen < last.at + pause:
            return self
        added = [Sample(window.seen, window.utilization)]
        if before is not None and before.utilization == last.utilization and last.at + pause < before.seen < window.seen:
            added.insert(0, Sample(before.seen, before.utilization))
        return Course(self.reset, (*self.samples, *added)[-MAX_POINTS:])

    def shown(self, window: Report, most: int) -> list[Sample]:
        """Return at most ``most`` samples of an open window, evenly chosen; the last one is the last report."""
        samples = self.samples if self.belongs_to(window) else ()
        found = [one for one in samples if one.at < window.seen]
        kept = most - 1
        if len(found) > kept:
            found = [found[round(place * (len(found) - 1) / (kept - 1))] for place in range(kept)]
        return [*found, Sample(window.seen, window.utilization)]


def begun(window: Report) -> Course:
    """Return the course of a window that has been reported for the first time."""
    return Course(window.reset, (Sample(window.seen, window.utilization),))


@functools.lru_cache(maxsize=1000)
def seconds_between(name: str) -> float:
    """Return the least time between two samples of a window, by its name: ``7d_opus`` is one of seven days."""
    seconds = length(name)
    return max(LEAST_SECONDS, seconds / MAX_SAMPLES) if seconds else UNKNOWN_SECONDS
