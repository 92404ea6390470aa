"""The share of requests that failed in the last minutes, counted in every process and shared as rows. Plain and synchronous.

Three rules:
  1. A process counts its own requests by minute; only the last ``MINUTES`` are kept. The share is that of all processes.
  2. A request has failed if the proxy or a provider caused it: a 5xx, a 429 of a provider, or a response that broke off. A
     refused request, and a client that disconnects, do not count as failed.
  3. A row has the counts of one process, which alone writes it.
"""

import json
import math
import secrets
from collections.abc import Callable, Sequence

from claude_proxy.alerts.situation import ErrorShare
from claude_proxy.state.rows import Row, skipping_unreadable
from claude_proxy.usage.record import Record

PREFIX = "errors"
MINUTES = 10
# How often the counts are shared, in seconds.
SHARE_SECONDS = 5.0
MAX_WRITERS = 200
MAX_WRITER = 64
MAX_COUNT = 10**9
Counts = dict[int, tuple[int, int]]


class ErrorRate:
    """``clock`` returns Unix seconds; ``writer`` names this process."""

    def __init__(self, clock: Callable[[], float], writer: str | None = None) -> None:
        self._clock = clock
        self._writer = writer or secrets.token_hex(8)
        self._counts: dict[str, Counts] = {self._writer: {}}
        self._stamps: dict[str, float] = {}
        self._is_changed = False
        self._shared_at = 0.0

    def record(self, record: Record) -> None:
        """Count a request in the minute of its end."""
        if record.counts_tokens:
            return
        own = self._counts[self._writer]
        minute = int(self._clock() // 60)
        if minute not in own:
            self._counts[self._writer] = own = {at: counts for at, counts in own.items() if minute - MINUTES <= at <= minute}
        requests, failed = own.get(minute, (0, 0))
        own[minute] = requests + 1, failed + has_failed(record)
        self._is_changed = True

    def share(self, minutes: int = MINUTES) -> ErrorShare:
        """Return the sums of all processes over the last minutes, including the current one."""
        now = int(self._clock() // 60)
        found = [counts for own in self._counts.values() for at, counts in own.items() if now - minutes < at <= now]
        return ErrorShare(sum(requests for requests, _ in found), sum(failed for _, failed in found), minutes)

    def changed(self) -> list[Row]:
        """Return this process's counts if they have changed, at most once in ``SHARE_SECONDS``."""
        now = self._clock()
        if not self._is_changed or self._shared_at <= now < self._shared_at + SHARE_SECONDS:
            return []
        self._is_changed, self._shared_at = False, now
        return self.everything()

    def everything(self) -> list[Row]:
        """Return this process's counts."""
        own = self._counts[self._writer]
        if not own:
            return []
        value = json.dumps([[minute, *counts] for minute, counts in own.items()])
        return [Row(f"{PREFIX}:{self._writer}", self._clock(), value)]

    def merge(self, rows: Sequence[Row]) -> None:
        """Apply the counts of other processes. Rows that do not belong here are skipped."""
        for row in rows:
            kind, _, writer = row.key.partition(":")
            if kind != PREFIX or writer == self._writer or row.stamp <= self._stamps.get(writer, -math.inf):
                continue
            with skipping_unreadable(row):
                self._put(writer, row)

    def _put(self, writer: str, row: Row) -> None:
        if len(writer) > MAX_WRITER:
            raise ValueError("not a writer")
        counts = {_whole(minute): (_whole(requests), _whole(failed)) for minute, requests, failed in json.loads(row.value)}
        newest = dict(sorted(counts.items())[-MINUTES - 1 :])
        self._counts[writer], self._stamps[writer] = newest, row.stamp
        if len(self._stamps) > MAX_WRITERS:
            oldest = min(self._stamps, key=self._stamps.__getitem__)
            del self._stamps[oldest], self._counts[oldest]


def has_failed(record: Record) -> bool:
    """Return whether the proxy or a provider is the reason that a request failed."""
    if record.status >= 500:
        return True
    if record.status == 429:
        return bool(record.served)
    return record.status < 400 and bool(record.error)


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_COUNT:
        raise ValueError("not a count")
    return value
