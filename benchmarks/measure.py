"""Measures a process from outside, through ``/proc``, and fits lines to the results. Without third-party code."""

import math
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

PAGE = os.sysconf("SC_PAGE_SIZE")
TICK = os.sysconf("SC_CLK_TCK")
MEGABYTE = 1024 * 1024
# The listening state in the kernel's table of connections.
LISTENS = "0A"


class Sample(NamedTuple):
    """A process at one moment: seconds since the start, bytes, CPU seconds, and open files."""

    at: float
    rss: int
    cpu: float
    files: int
    sockets: int
    threads: int
    # Seconds in which it was runnable but another process ran. Delays during that time are not the process's fault.
    waited: float
    state_bytes: int


def sample(pid: int, at: float, folder: Path | None = None) -> Sample:
    """Measure a process, and the size of the state files in a folder."""
    proc = Path(f"/proc/{pid}")
    pages = int((proc / "statm").read_text(encoding="ascii").split()[1])
    # After the process name, which may contain anything.
    fields = (proc / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    opened = _opened(pid)
    size = sum(path.stat().st_size for path in folder.glob("pool.sqlite3*")) if folder else 0
    return Sample(
        at,
        pages * PAGE,
        (int(fields[11]) + int(fields[12])) / TICK,
        len(opened),
        sum(name.startswith("socket:") for name in opened),
        int(fields[17]),
        int((proc / "schedstat").read_text(encoding="ascii").split()[1]) / 1e9,
        size,
    )


def together(samples: Sequence[Sample]) -> Sample:
    """Return the sum of several processes' samples, which share one folder of state files; the first one's moment."""
    first, sums = samples[0], [sum(values) for values in zip(*(one[1:-1] for one in samples), strict=True)]
    return Sample(first.at, *sums, first.state_bytes)  # type: ignore[arg-type]  # the sums of integers are integers


def with_children(pid: int) -> list[int]:
    """Return a process and all processes below it."""
    found = [pid]
    for one in found:
        with suppress(FileNotFoundError):  # ended in the meantime
            found += map(int, Path(f"/proc/{one}/task/{one}/children").read_text(encoding="ascii").split())
    return found


def connections(pid: int, port: int) -> int:
    """Return the number of a process's connections with this port at either end.

    A connection that the other side has closed counts as long as the process holds it; a listening socket does not count.
    """
    held = _opened(pid)
    lines = Path(f"/proc/{pid}/net/tcp").read_text(encoding="ascii").splitlines()[1:]
    found = 0
    for _, local, remote, state, *rest in (line.split() for line in lines):
        ports = {int(local.rpartition(":")[2], 16), int(remote.rpartition(":")[2], 16)}
        found += state != LISTENS and port in ports and f"socket:[{rest[5]}]" in held
    return found


def _opened(pid: int) -> list[str]:
    opened = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed in the meantime
            opened.append(str(entry.readlink()))
    return opened


@dataclass(frozen=True)
class Slope:
    """A line through points: its rise per hour, and the standard error of the rise."""

    per_hour: float
    error: float

    @property
    def at_least(self) -> float:
        """The rise that is exceeded with 97.5 % certainty."""
        return self.per_hour - 2 * self.error


def slope(points: Sequence[tuple[float, float]]) -> Slope:
    """Fit a line by least squares; ``points`` are (seconds, value), in order.

    Neighbouring samples are correlated: memory that a peak took is kept for a while. So the standard error is widened by the
    residuals' correlation with their neighbours (a first-order process); otherwise more samples would suggest more certainty.
    """
    count = len(points)
    if count < 4:
        return Slope(0.0, math.inf)
    middle = sum(at for at, _ in points) / count
    mean = sum(value for _, value in points) / count
    spread = sum((at - middle) ** 2 for at, _ in points)
    rise = sum((at - middle) * (value - mean) for at, value in points) / spread
    left = [value - mean - rise * (at - middle) for at, value in points]
    squares = sum(one * one for one in left)
    error = math.sqrt(squares / (count - 2) / spread)
    alike = sum(one * other for one, other in pairwise(left)) / squares if squares else 0.0
    alike = min(max(alike, 0.0), 0.95)
    return Slope(3600 * rise, 3600 * error * math.sqrt((1 + alike) / (1 - alike)))


def percentile(values: Sequence[float], share: float) -> float:
    """Return a percentile of values in any order; 0 without values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def in_blocks(points: Sequence[tuple[float, float]], seconds: float, share: float | None = None) -> list[tuple[float, float]]:
    """Return one point per block of so many seconds: the mean of its values, or a percentile."""
    blocks: dict[int, list[float]] = {}
    for at, value in points:
        blocks.setdefault(int(at // seconds), []).append(value)
    return [
        ((block + 0.5) * seconds, sum(values) / len(values) if share is None else percentile(values, share))
        for block, values in sorted(blocks.items())
    ]


@dataclass(frozen=True)
class Drift:
    """How a latency changes during a run: its first and last third, and the certain growth as a fraction."""

    first: float
    last: float
    certain: float


def drift(points: Sequence[tuple[float, float]], share: float, blocks: int = 30) -> Drift:
    """Fit a line to a percentile in each block; ``certain`` is the certain rise over the run, relative to the first third."""
    if not points:
        return Drift(0.0, 0.0, 0.0)
    begin, end = min(at for at, _ in points), max(at for at, _ in points)
    third = (end - begin) / 3
    first = percentile([value for at, value in points if at <= begin + third], share)
    last = percentile([value for at, value in points if at >= end - third], share)
    fitted = slope(in_blocks(points, max((end - begin) / blocks, 1e-9), share))
    return Drift(first, last, fitted.at_least * (end - begin) / 3600 / first if first else 0.0)
