"""A history in memory for tests that are not asynchronous, and what is made of it."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from claude_proxy.history import schema
from claude_proxy.history.page import total_of
from claude_proxy.history.service import History
from claude_proxy.usage import prometheus
from claude_proxy.usage import report as reports
from claude_proxy.usage.numbers import totals_of


class Recorded:
    """Records requests, and returns what the history has of them."""

    def __init__(self, *, clock, listed=lambda _: True, path=None):
        self.history = History(path, clock=clock, listed=listed)
        self.events = self.history.events
        self.record = self.history.record

    def used(self):
        return self._run(self.history.used)

    def counted(self):
        return self._run(self.history.counted)

    def csv(self):
        return self._run(self.history.table)

    def totals(self):
        """The counts by names."""
        found = self._run(lambda: self.history.read(entries))
        return {names: totals_of(numbers) for names, numbers in found.items()}

    def flush(self):
        assert self._run(self.history.flush)

    def merge(self, rows):
        """Take over rows of a store."""
        for part in self.history.shared:
            part.merge(rows)
        for _ in range(4):
            self.flush()

    def _run(self, call):
        with ThreadPoolExecutor(1) as thread:  # an event loop may be running in this one
            return thread.submit(lambda: asyncio.run(call())).result()


def report(pool, recorded, viewer, store, now, **more):
    """The status with what is recorded."""
    return reports.report(pool, recorded.used(), viewer, store, now, events=recorded.events, **more)


def exposition(pool, recorded, viewer, store, more=()):
    """The metrics with what is recorded."""
    return prometheus.exposition(pool, recorded.counted(), viewer, store, more)


def entries(connection):
    """All entries of a history with their numbers, summed over its pages."""
    pages = [schema.read_page(connection, place) for place in schema.places(connection)]
    return total_of(page.entries.items() for page in pages)
