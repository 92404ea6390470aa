"""The book of usage: who asked for which model, who answered on which credential, and what it took. Plain and synchronous.

Five rules:
  1. a page belongs to one UTC day and to one process, which alone writes on it; sums are made when the book is read, so
     that a page which comes twice, late or in another order changes nothing;
  2. of two versions of a page the later one wins, and every number on it only grows;
  3. a month that ended more than ``DETAIL_DAYS`` ago is one page for all processes, in place of its days;
  4. a model is counted under its own name when the proxy lists that name; a name that a client made up, which a pattern of
     config.yaml lets through, is counted under its own once a request for it was answered, and a user has ``OWN_NAMES`` of
     these in all days of detail. Everything else is counted as ``OTHER``;
  5. pages, and every sum of them, are bounded (``usage/ledger_page.py``), and so is the number of pages.

All calls come from one event loop. The book is shared like the pool's state (``state/replication.py``).
"""

import csv
import io
import json
import logging
import math
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache

from claude_proxy.config.users import folded
from claude_proxy.state.rows import Row
from claude_proxy.text import clean
from claude_proxy.usage.ledger_page import (
    FIRST_BYTE,
    MAX_AHEAD,
    MAX_FAILOVERS,
    MAX_NUMBER,
    MOVED,
    OTHER,
    OWN_NAMES,
    TAKEN,
    TOTAL,
    Entry,
    Events,
    Failover,
    LastError,
    Listed,
    Names,
    Page,
    Taken,
    bounded,
    events_row,
    newest,
    own_names,
    page_row,
    read_entries,
    read_events,
    total_of,
)
from claude_proxy.usage.record import ASKED_AGAIN, LEFT_FOR, Record
from claude_proxy.usage.request_log import MAX_TEXT

logger = logging.getLogger(__name__)

DETAIL_DAYS = 62
# How often a page that changes is told to the other processes, in seconds.
TOLD_SECONDS = 1.0
# Processes whose last failovers are remembered.
MAX_WRITERS = 100
# Pages of days, as many as a store keeps; how far back a page may lie, in days; and how long the name of a process may be.
MAX_PAGES = 20_000
MAX_AGE_DAYS = 3660
MAX_WRITER = 64
# The client left by itself.
LEFT = 499
# With these a spreadsheet begins a formula.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


class Book:
    """``clock`` returns Unix seconds; ``listed`` tells whether the proxy lists a model; ``writer`` names this process."""

    def __init__(self, *, clock: Callable[[], float], listed: Listed = lambda _: True, writer: str | None = None) -> None:
        self._clock = clock
        self._listed = listed
        self._writer = writer or secrets.token_hex(8)
        self._days: dict[tuple[str, str], Page] = {}
        self._months: dict[str, Page] = {}
        self._events: dict[str, Events] = {}
        # The made-up names of models that each user has a place for, in all days of detail.
        self._own: dict[str, set[str]] = {}
        self._changed: set[str] = set()
        self._told = 0.0

    def record(self, record: Record) -> None:
        """Count a request, on the day on which it ended. One for a count of tokens is none: there are thirty at once."""
        if record.counts_tokens:
            return
        now = self._clock()
        place = _day(now), self._writer
        if place not in self._days:
            self._close_months(now)
        page = self._days.setdefault(place, Page())
        user = clean(folded(record.user))
        model = self._model_of(record, user)
        made_up = model != OTHER and not self._listed(record.asked)
        names = Names(user, model, clean(record.served) if model != OTHER else "", clean(record.credential))
        usage = record.usage
        counted = (usage.input, usage.output, usage.cache_read, usage.cache_write)
        tokens = [min(max(0, tokens), MAX_NUMBER) for tokens in counted]
        page.add((TAKEN, *names), (1, int(is_error(record)), *tokens, len(record.failovers)), made_up=made_up)
        page.add_time((FIRST_BYTE, model), record.first_byte_seconds, made_up=made_up)
        page.add_time((TOTAL, model), record.seconds, made_up=made_up)
        for text in record.failovers:
            left = clean(text.partition(": ")[0])
            page.add((MOVED, OTHER if (made_up or model == OTHER) and is_of_model(text) else left), (1,))
        page.stamp = _later(page.stamp, now)
        self._changed.add(_day_key(*place))
        self._note_events(record, names, now)

    def _model_of(self, record: Record, user: str) -> str:
        """Return the name that a request's model is counted under."""
        name = clean(record.asked)
        if self._listed(record.asked):
            return name
        own = self._own.get(user, set())
        if name not in own:
            if not is_answered(record) or len(own) >= OWN_NAMES:
                return OTHER
            self._own.setdefault(user, set()).add(name)
        return name

    def _note_events(self, record: Record, names: Names, now: float) -> None:
        moved = [Failover(now, names.user, names.model, clean(text, MAX_TEXT)) for text in record.failovers]
        parts = [text.partition(": ") for text in record.failovers if not is_of_model(text)]
        wrong = {label: reason for label, colon, reason in parts if colon}
        if record.credential and is_error(record):
            wrong[record.credential] = f"{record.error or 'error'} (HTTP {record.status})"
        if not moved and not wrong:
            return
        events = self._events.setdefault(self._writer, Events())
        events.failovers = [*events.failovers, *moved][-MAX_FAILOVERS:]
        errors = {clean(label): LastError(now, clean(text, MAX_TEXT)) for label, text in wrong.items()}
        events.errors = newest(events.errors | errors)
        events.stamp = _later(events.stamp, now)
        self._changed.add(f"events:{self._writer}")

    # --- Reading -------------------------------------------------------------------------------------------------------------

    def today(self) -> str:
        """Return the UTC day that it is, such as 2026-03-01."""
        return _day(self._clock())

    def last_days(self, count: int) -> frozenset[str]:
        """Return so many UTC days, today the last of them."""
        return frozenset(_day(self._clock() - 86400 * back) for back in range(count))

    def since(self) -> str | None:
        """Return the first day, or month, of which something is known."""
        return min((*(day for day, _ in self._days), *self._months), default=None)

    def taken(self, days: Collection[str] | None = None) -> dict[Names, Taken]:
        """Return what was used on some days, or in all of the time that the book knows."""
        return {Names(*names): Taken(*numbers) for names, numbers in self.sums(TAKEN, days).items()}

    def sums(self, kind: str, days: Collection[str] | None = None) -> dict[Entry, list[float]]:
        """Return the numbers of one sort of entries, added over all processes, under a bounded number of names."""
        pages = [page for period, page in self._pages() if days is None or period in days]
        return self._sums(kind, pages)

    def _sums(self, kind: str, pages: Iterable[Page]) -> dict[Entry, list[float]]:
        kinds = {kind} if kind == MOVED else {kind, TAKEN}  # which made-up names stay depends on what was taken
        entries = total_of([entry for entry in page.entries.items() if entry[0][0] in kinds] for page in pages)
        return {entry[1:]: numbers for entry, numbers in bounded(entries, self._listed).items() if entry[0] == kind}

    def by_period(self) -> Iterator[tuple[str, Names, Taken]]:
        """Return what was used in each month and each day of detail, in their order."""
        periods: dict[str, list[Page]] = {}
        for period, page in self._pages():
            periods.setdefault(period, []).append(page)
        for period in sorted(periods):
            for names, numbers in sorted(self._sums(TAKEN, periods[period]).items()):
                yield period, Names(*names), Taken(*numbers)

    def csv(self) -> str:
        """Return the book as CSV, a line for each period and ``Names``. What a spreadsheet takes for a formula is quoted."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(("period", *Names._fields, *Taken._fields))
        for period, names, numbers in self.by_period():
            writer.writerow((period, *(_no_formula(name) for name in names), *(int(number) for number in numbers)))
        return out.getvalue()

    def failovers(self) -> list[Failover]:
        """Return the last failovers of all processes, the newest first."""
        found = [one for events in self._events.values() for one in events.failovers]
        return sorted(found, reverse=True)[:MAX_FAILOVERS]

    def errors(self) -> dict[str, LastError]:
        """Return the last error of each credential, by its label."""
        found: dict[str, LastError] = {}
        for events in self._events.values():
            for label, error in events.errors.items():
                found[label] = max(found.get(label, error), error)
        return found

    def _pages(self) -> Iterator[tuple[str, Page]]:
        yield from self._months.items()
        for (day, _), page in self._days.items():
            yield day, page

    # --- Sharing -------------------------------------------------------------------------------------------------------------

    def changed(self) -> list[Row]:
        """Return the pages that have changed here, but no more often than once in ``TOLD_SECONDS``."""
        now = self._clock()
        if not self._changed or self._told <= now < self._told + TOLD_SECONDS:
            return []
        self._told = now
        self._close_months(now)
        keys, self._changed = self._changed, set()
        return [*self._rows(keys)]

    def flush_next(self) -> None:
        """Let the next ``changed`` tell what there is: it may be the last one."""
        self._told = 0.0

    def everything(self) -> list[Row]:
        """Return all pages, those of other processes too: the store may have lost them."""
        return [*self._rows(None)]

    def _rows(self, keys: Collection[str] | None) -> Iterator[Row]:
        pages = {f"month:{month}": page for month, page in self._months.items()}
        pages |= {_day_key(*place): page for place, page in self._days.items()}
        events = {f"events:{writer}": events for writer, events in self._events.items()}
        yield from (page_row(key, page) for key, page in pages.items() if keys is None or key in keys)
        yield from (events_row(key, noted) for key, noted in events.items() if keys is None or key in keys)

    def merge(self, rows: Iterable[Row]) -> None:
        """Take in pages of others. Rows that are not the book's are passed over."""
        for row in rows:
            try:
                self._merge_row(row)
            except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
                logger.debug("a row that this version does not know was passed over: %.200r", row.key)

    def _merge_row(self, row: Row) -> None:
        now = self._clock()
        if not math.isfinite(row.stamp):
            return
        match row.key.split(":"):
            case ["month", month] if row.stamp > self._months.get(month, Page(-math.inf)).stamp:
                _check_day(f"{month}-01", now)
                self._months[month] = Page(row.stamp, read_entries(json.loads(row.value), self._listed))
                self._days = {place: page for place, page in self._days.items() if place[0][:7] != month}
                self._learn_own_names()
            case ["usage", day, writer] if day[:7] not in self._months:
                _check_day(day, now)
                there = self._days.get((day, writer))
                if len(writer) > MAX_WRITER or (there is None and len(self._days) >= MAX_PAGES):
                    raise ValueError("no place for the page")
                if there is None or row.stamp > there.stamp:
                    page = Page(row.stamp, read_entries(json.loads(row.value), self._listed))
                    self._days[day, writer] = page
                    self._learn_own_names([page])
            case ["events", writer] if row.stamp > self._events.get(writer, Events(-math.inf)).stamp:
                if len(writer) > MAX_WRITER or row.stamp > now + MAX_AHEAD:
                    raise ValueError("no place for the events")
                self._events[writer] = read_events(row.stamp, json.loads(row.value), now + MAX_AHEAD)
                latest = sorted(self._events.items(), key=lambda pair: (pair[1].stamp, pair[0]))
                self._events = dict(latest[-MAX_WRITERS:])

    def _learn_own_names(self, pages: Iterable[Page] | None = None) -> None:
        """Note the made-up names that stand on some pages, or on those pages alone that there are."""
        if pages is None:
            self._own, pages = {}, self._days.values()
        for page in pages:
            for user, name in own_names(page.entries, self._listed):
                self._own.setdefault(user, set()).add(name)

    def _close_months(self, now: float) -> None:
        """Put one page in the place of a month's days when the month is long over.

        All processes come to the same page. Where one knows less than another, its page has the smaller stamp.
        """
        first_kept = _day(now - DETAIL_DAYS * 86400)[:7]
        for month in sorted({day[:7] for day, _ in self._days if day[:7] < first_kept}):
            places = sorted(place for place in self._days if place[0][:7] == month)
            entries = total_of([self._days.pop(place).entries.items() for place in places])
            total = Page(0.0, bounded(entries, self._listed))
            total.stamp = _end_of_month(month) + total.requests() / 1000
            self._months[month] = total
            self._changed.add(f"month:{month}")
            self._learn_own_names()


def is_error(record: Record) -> bool:
    """Whether a request failed; a client that leaves by itself is no failure."""
    return bool(record.error or record.status >= 400) and record.status != LEFT


def is_answered(record: Record) -> bool:
    """Whether an upstream answered a request with a success."""
    return bool(record.served) and 200 <= record.status < 300 and not record.error


def is_of_model(failover: str) -> bool:
    """Whether a failover left a model, whose name a client may have made up, and not a credential."""
    reason = failover.partition(": ")[2]
    return reason == ASKED_AGAIN or reason.startswith(LEFT_FOR)


def _no_formula(text: str) -> str:
    return f"'{text}" if text.startswith(FORMULA) else text


def _later(stamp: float, now: float) -> float:
    """Return a stamp that is above the last one, wherever the clock was set meanwhile."""
    return max(now, math.nextafter(stamp, math.inf))


# Of days as Unix time counts them, which has no leap seconds.
DAY_SECONDS = 86_400


def _day(at: float) -> str:
    return _day_of(int(at // DAY_SECONDS))


@lru_cache(maxsize=16)
def _day_of(number: int) -> str:
    return datetime.fromtimestamp(number * DAY_SECONDS, UTC).strftime("%Y-%m-%d")


def _day_key(day: str, writer: str) -> str:
    return f"usage:{day}:{writer}"


def _end_of_month(month: str) -> float:
    after = (date.fromisoformat(f"{month}-01") + timedelta(days=31)).replace(day=1)
    return datetime(after.year, after.month, 1, tzinfo=UTC).timestamp()


def _check_day(day: str, now: float) -> None:
    """Raise ValueError for what is no day of the calendar, one long ago or one to come."""
    found = date.fromisoformat(day)
    today = datetime.fromtimestamp(now, UTC).date()
    if found.isoformat() != day or not timedelta(seconds=-MAX_AHEAD) <= today - found <= timedelta(MAX_AGE_DAYS):
        raise ValueError("no day of the book's")
