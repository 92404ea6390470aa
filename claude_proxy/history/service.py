"""The history of one process: its book, the database, and what is written and read when."""

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, timedelta, tzinfo
from pathlib import Path
from typing import TypeVar

from claude_proxy.history import closing, periods, queries, schema, table
from claude_proxy.history.book import OWN_DAYS, HistoryBook
from claude_proxy.history.database import HistoryDatabase, HistoryUnavailable
from claude_proxy.history.exchange import HistoryExchange
from claude_proxy.history.queries import Found
from claude_proxy.history.sums import RecentSums
from claude_proxy.history.view import View
from claude_proxy.history.writing import Part, Work, Writer
from claude_proxy.usage.events import RecentEvents
from claude_proxy.usage.numbers import Listed
from claude_proxy.usage.record import Record
from claude_proxy.usage.used import Counted, Used

Result = TypeVar("Result")

# How often the sums of what was used lately are made, if nobody asks for them, in seconds.
SUM_SECONDS = 10.0

_OWN_NAMES = (
    "SELECT DISTINCT users.text, models.text FROM usage "
    "JOIN name users ON users.id = user JOIN name models ON models.id = model WHERE period >= ?"
)


class History:
    """One per process, used from one event loop.

    ``path`` is the file, None for memory. ``zone`` returns the time zone of days. ``shares``: whether pages are shared through
    a store instead of the file. ``parts`` are written with the book; ``tables`` create their tables.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        clock: Callable[[], float],
        listed: Listed = lambda _: True,
        zone: Callable[[], tzinfo] = lambda: UTC,
        shares: bool = False,
        parts: Sequence[Part] = (),
        tables: Sequence[str] = (),
    ) -> None:
        self._clock = clock
        self._zone = zone
        self.database = HistoryDatabase(path, [*schema.TABLES, *tables])
        self.book = HistoryBook(clock=clock, listed=listed, shares=shares)
        self.exchange = HistoryExchange(self.book, clock=clock, zone=zone, listed=listed, shares=shares)
        upkeep: list[Part] = [_OwnNames(self.book, clock), _Closing(clock, zone, listed, self.exchange.share)]
        self._writer = Writer(self.database, [self.book, *parts, self.exchange, *upkeep])
        self._running: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()
        self.events = RecentEvents(clock=clock)
        self._sums = RecentSums(listed)
        # What ``used`` returned last, for those who cannot wait.
        self.latest = Used()
        self._counted = Counted()

    @property
    def shared(self) -> tuple[HistoryExchange, RecentEvents]:
        """What the processes share through a store."""
        return self.exchange, self.events

    @property
    def zone(self) -> tzinfo:
        """The time zone of days."""
        return self._zone()

    def record(self, *records: Record) -> None:
        """Count finished requests; they are written within a second."""
        found = [record for record in records if not record.counts_tokens]
        for record, model in zip(found, self.book.record_all(found) if found else (), strict=True):
            self.events.record(record, model)

    async def used(self) -> Used:
        """Return what was used lately. Without the database: what was known last."""
        with suppress(HistoryUnavailable):
            self.latest = await self._sums_of(self._sums.used)
        return self.latest

    async def counted(self) -> Counted:
        """Return what was used in total. Without the database: what was known last."""
        with suppress(HistoryUnavailable):
            self._counted = await self._sums_of(self._sums.counted)
        return self._counted

    async def table(self, by: Sequence[str] = table.BY, first: str = "") -> str:
        """Return the usage as CSV; raise ``HistoryUnavailable``."""
        return await self.read(lambda connection: table.table(connection, self._zone(), by=by, first=first))

    def start(self) -> None:
        """Begin to write in the background, if that has not begun."""
        if self._running is None:
            self._running = asyncio.ensure_future(self._run())

    async def _run(self) -> None:
        await asyncio.gather(self._writer.run(), self._sum())

    async def _sum(self) -> None:
        """Keep ``latest`` up to date, for alerts."""
        while not self._closing.is_set():
            await self.used()
            with suppress(TimeoutError):
                async with asyncio.timeout(SUM_SECONDS):
                    await self._closing.wait()

    async def flush(self) -> bool:
        """Write everything that was recorded; return whether it is written."""
        return await self._writer.flush()

    async def find(self, view: View) -> Found:
        """Return what a view shows, with everything that this process has recorded; raise ``HistoryUnavailable``."""
        return await self.read(lambda connection: queries.find(connection, view))

    async def read(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        """Read from the database after a flush, beside what is written; raise ``HistoryUnavailable``."""
        await self.flush()
        return await self.database.read(work)

    async def _sums_of(self, work: Callable[[sqlite3.Connection, float, tzinfo], Result]) -> Result:
        """Make sums after a flush, in the thread that writes: they are kept there, and take a few milliseconds."""
        await self.flush()
        return await self.database.run(lambda connection: work(connection, self._clock(), self._zone()))

    async def close(self) -> None:
        """Write the last records and close the file."""
        self._closing.set()
        await self._writer.close()
        if self._running is not None:
            await self._running


class _OwnNames:
    """Gives the book the made-up model names of the database, at the start and in each new hour."""

    def __init__(self, book: HistoryBook, clock: Callable[[], float]) -> None:
        self._book = book
        self._clock = clock
        self._hour = ""
        self._found: list[tuple[str, str]] = []

    def take(self) -> Work | None:
        now = self._clock()
        if periods.hour_at(now) == self._hour:
            return None
        first = (periods.today_at(now, UTC) - timedelta(OWN_DAYS)).isoformat()

        def work(connection: sqlite3.Connection) -> None:
            self._found = connection.execute(_OWN_NAMES, (first,)).fetchall()

        return work

    def written(self, *, done: bool) -> None:
        if done:
            self._hour = periods.hour_at(self._clock())
            self._book.learn_own_names(self._found)


class _Closing:
    """Closes old periods at the start and in each new hour; ``on_closed`` gets those that this process has closed."""

    def __init__(
        self,
        clock: Callable[[], float],
        zone: Callable[[], tzinfo],
        listed: Listed,
        on_closed: Callable[[Sequence[str]], None],
    ) -> None:
        self._clock = clock
        self._zone = zone
        self._listed = listed
        self._on_closed = on_closed
        self._hour = ""
        self._found: tuple[Sequence[str], bool] = (), False

    def take(self) -> Work | None:
        now, zone = self._clock(), self._zone()
        if periods.hour_at(now) == self._hour:
            return None

        def work(connection: sqlite3.Connection) -> None:
            self._found = closing.close(connection, now, zone, self._listed)

        return work

    def written(self, *, done: bool) -> None:
        if done:
            closed, is_complete = self._found
            self._on_closed(closed)
            if is_complete:
                self._hour = periods.hour_at(self._clock())
