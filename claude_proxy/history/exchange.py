"""Shares the history of replicas through a store's rows, and takes over what version 0.1.0 left there.

Five rules:
  1. Each process shares its own pages of hours, at most once in ``SHARE_SECONDS``; who closes a period shares its page.
     Processes with one file share through the file, and no rows at all (``shares``).
  2. A page replaces an earlier version of itself: the one with the larger stamp. So it does not matter how often rows come, or
     in which order.
  3. The page of a closed period replaces all pages of hours and days in it, and no other page of it is taken any more. The same
     is true of the rows of version 0.1.0, so each of them counts once, however often the store is read.
  4. Reading and writing pages is work of the database's thread; the event loop only hands rows on, a bounded number at a time.
  5. A row that cannot be read is skipped.
"""

import logging
import math
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from datetime import tzinfo

from claude_proxy.history import earlier, page_text, periods, schema
from claude_proxy.history.book import HistoryBook
from claude_proxy.history.page import Page
from claude_proxy.history.page_text import InvalidPage
from claude_proxy.history.schema import CLOSED, Place
from claude_proxy.history.writing import Work
from claude_proxy.state.rows import Row
from claude_proxy.text import clean
from claude_proxy.usage.numbers import Listed

logger = logging.getLogger(__name__)

# How often changes are shared with the other processes, in seconds.
SHARE_SECONDS = 1.0
# The number of rows that are taken over, and of pages that are read, in one transaction; and of rows that wait for that.
AT_ONCE = 50
MAX_WAITING = 50_000
# The largest page that is written as text on the event loop, by its entries: it takes a few milliseconds.
MAX_WRITTEN = 300
# The maximum number of pages, of which a store has as many, and the maximum length of a process name.
MAX_PAGES = 20_000
MAX_WRITER = 64
# The prefixes of keys, by the length of the period.
PREFIXES = {
    periods.HOUR_LENGTH: "history-hour:",
    periods.DAY_LENGTH: "history-day:",
    periods.MONTH_LENGTH: "history-month:",
}


class HistoryExchange:
    """Implements ``Shared`` for the synchronizer, and ``Part`` for the writer."""

    def __init__(
        self,
        book: HistoryBook,
        *,
        clock: Callable[[], float],
        zone: Callable[[], tzinfo],
        listed: Listed,
        shares: bool,
    ) -> None:
        self._book = book
        self._clock = clock
        self._zone = zone
        self._listed = listed
        self._shares = shares
        self._shared_at = -math.inf
        # Rows to take over, pages to read for sharing, and rows to share.
        self._incoming: list[Row] = []
        self._to_read: list[Place] = []
        self._outgoing: list[Row] = []
        self._read_all = False
        # What the work in progress takes, and what it has read.
        self._taken = 0, 0
        self._found: list[Row] = []
        self._all: list[Place] = []
        if shares:
            self._read_since = periods.hour_at(clock() - 2 * periods.HOUR_SECONDS)
            self._read_all = True

    # --- for the synchronizer ------------------------------------------------------------------------------------------------

    def changed(self) -> list[Row]:
        """Return the pages that have changed here, and some of those that were closed, at most once in ``SHARE_SECONDS``."""
        now = self._clock()
        if self._shared_at <= now < self._shared_at + SHARE_SECONDS:
            return []
        hours, self._book.unshared = self._book.unshared, set()
        large = {hour for hour in hours if len(self._book.pages[hour].entries) > MAX_WRITTEN}
        # Those are read from the database and written as text in its thread, which would hold the event loop too long.
        self._to_read += [self._book.place_of(hour) for hour in sorted(large)]
        waiting, self._outgoing = self._outgoing[:AT_ONCE], self._outgoing[AT_ONCE:]
        if hours or waiting:
            self._shared_at = now
        return [*self._own(hours - large), *waiting]

    def flush_next(self) -> None:
        """Let the next ``changed`` return everything that has changed, because it may be the last one."""
        self._shared_at = -math.inf

    def everything(self) -> list[Row]:
        """Return the pages in memory; those in the database follow with ``changed``, because the store may have lost them."""
        if not self._shares:
            return []
        self._read_all, self._read_since = True, ""
        return [*self._own(hour for hour, page in self._book.pages.items() if len(page.entries) <= MAX_WRITTEN)]

    def _own(self, hours: Iterable[str]) -> Iterable[Row]:
        for hour in sorted(hours):
            yield row_of(self._book.place_of(hour), self._book.pages[hour])

    def merge(self, rows: Iterable[Row]) -> None:
        """Hand on the rows with pages; they are applied with the next flush."""
        for row in rows:
            place = place_of(row.key) if self._shares else None
            is_earlier = row.key.startswith(earlier.PREFIXES) and earlier.place_of(row.key) is not None
            if (place is not None and not self._book.is_own(place)) or is_earlier:
                self._incoming.append(row)
        del self._incoming[:-MAX_WAITING]

    def share(self, closed: Iterable[str]) -> None:
        """Share the pages of periods that were closed here."""
        if self._shares:
            self._to_read += [Place(period) for period in closed]

    # --- for the writer ------------------------------------------------------------------------------------------------------

    def take(self) -> Work | None:
        """Return the work that takes over rows and reads pages."""
        if self._read_all and not self._to_read:
            self._read_all = False
            self._all, since = [], self._read_since
            return lambda connection: self._all.extend(place for place in schema.places(connection) if place.period >= since)
        self._to_read, self._all = [*dict.fromkeys((*self._to_read, *self._all))], []
        # Closed pages first: what is in them is then not taken over in parts.
        self._incoming.sort(key=_urgency)
        rows, places = self._incoming[:AT_ONCE], self._to_read[:AT_ONCE]
        if len(self._outgoing) > 4 * AT_ONCE:
            places = []
        if not rows and not places:
            return None
        self._taken, self._found = (len(rows), len(places)), []
        now, zone = self._clock(), self._zone()

        def work(connection: sqlite3.Connection) -> None:
            _Taking(connection, now, zone, self._listed).take(rows)
            self._found = [row_of(place, schema.read_page(connection, place)) for place in places]

        return work

    def written(self, *, done: bool) -> None:
        """Forget what is taken over, and share what was read."""
        if done:
            rows, places = self._taken
            del self._incoming[:rows], self._to_read[:places]
            self._outgoing += [row for row in self._found if row.stamp > 0]
        self._taken, self._found = (0, 0), []


def row_of(place: Place, page: Page) -> Row:
    """Return a page as a row."""
    key = f"{PREFIXES[len(place.period)]}{place.period}"
    return Row(f"{key}:{place.writer}" if place.writer else key, page.stamp, page_text.written(page))


def place_of(key: str) -> Place | None:
    """Return the place of a row's page; None for a row of another kind."""
    parts = key.split(":")
    for length, prefix in PREFIXES.items():
        if f"{parts[0]}:" == prefix and len(parts) > 1 and len(parts[1]) == length:
            if length == periods.HOUR_LENGTH and len(parts) == 3 and 0 < len(parts[2]) <= MAX_WRITER:
                return Place(parts[1], clean(parts[2]))
            if length != periods.HOUR_LENGTH and len(parts) == 2:
                return Place(parts[1])
    return None


def _urgency(row: Row) -> int:
    """Months of version 0.1.0 contain days of it, and closed periods contain hours."""
    return 0 if row.key.startswith((*PREFIXES.values(), "month:")) and row.key.count(":") == 1 else 1


class _Taking:
    """Takes over rows in the database's thread."""

    def __init__(self, connection: sqlite3.Connection, now: float, zone: tzinfo, listed: Listed) -> None:
        self._connection = connection
        self._now = now
        self._zone = zone
        self._listed = listed
        self._places = set(schema.places(connection))

    def take(self, rows: Sequence[Row]) -> None:
        for row in rows:
            try:
                self._take_row(row)
            except (InvalidPage, ValueError):
                logger.debug("skipped a store row that this version cannot read: %.200r", row.key)

    def _take_row(self, row: Row) -> None:
        found = place_of(row.key)
        place = found or earlier.place_of(row.key)
        if place is None or not math.isfinite(row.stamp):
            return
        periods.check(place.period, self._now)
        if row.stamp > self._now + periods.MAX_AHEAD.total_seconds() or self._is_superseded(place, row.stamp):
            return
        if place not in self._places and len(self._places) >= MAX_PAGES:
            raise ValueError("no room for the page")
        if found:
            page = page_text.read(row.value, row.stamp, self._listed, is_closed=place.writer == CLOSED)
        else:
            page = earlier.read(row, self._listed)
        for other in [other for other in self._places if place.writer == CLOSED and self._is_within(other, place.period)]:
            self._remove(other)
        schema.replace_page(self._connection, place, page)
        self._places.add(place)

    def _is_superseded(self, place: Place, stamp: float) -> bool:
        """Whether a page is there that is later, or that contains this one."""
        day = periods.day_of(place.period, self._zone)
        month = day[: periods.MONTH_LENGTH]
        wider = {Place(day), Place(month)} - {place}
        if (
            place.writer != CLOSED and len(place.period) == periods.MONTH_LENGTH
        ):  # version 0.1.0 made it of days that may be here
            wider |= {one for one in self._places if one.period.startswith(month) and one != place}
        elif place.writer.startswith(earlier.PREFIX):
            wider.add(Place(month, earlier.PREFIX))
        there = schema.stamp_of(self._connection, place)
        return not self._places.isdisjoint(wider) or (there is not None and stamp <= there)

    def _is_within(self, other: Place, period: str) -> bool:
        """Whether a page is a part of a closed period."""
        return other != Place(period) and periods.day_of(other.period, self._zone).startswith(period)

    def _remove(self, place: Place) -> None:
        schema.remove_page(self._connection, place)
        self._places.discard(place)
