"""The book of usage: who asked for which model, who answered on which credential, and what it took. Plain and synchronous.

Five rules:
  1. a page belongs to one UTC day and to one process, which alone writes on it; sums are made when the book is read, so
     that a page which comes twice, late or in another order changes nothing;
  2. of two versions of a page the later one wins, and every number on it only grows;
  3. a month that ended more than ``DETAIL_DAYS`` ago is one page for all processes, in place of its days;
  4. a model that the proxy does not serve is counted as ``OTHER``, and so is what comes when a page is full: clients
     choose the names of models;
  5. texts are labels and names without control characters, cut to ``MAX_NAME``; there is no other text.

All calls come from one event loop. The book is shared like the pool's state (``sync.py``).
"""

import csv
import io
import json
import logging
import math
import secrets
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple

from claude_proxy.logs import printable
from claude_proxy.record import Record
from claude_proxy.store import Row

logger = logging.getLogger(__name__)

DETAIL_DAYS = 62
OTHER = "other"
# Different names of one sort on a page, and entries in all.
MAX_NAMES = 100
MAX_ENTRIES = 2000
MAX_NAME = 100
# How often a page that changes is told to the other processes, in seconds.
TOLD_SECONDS = 1.0
MAX_FAILOVERS = 50
MAX_TEXT = 200
# Processes whose last failovers are remembered.
MAX_WRITERS = 100
# The upper ends of the classes of times, in seconds; the last class has none.
BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, math.inf)
# The client left by itself.
LEFT = 499

# The sorts of entries: what a request took, by ``Names``; times, by model; moves away from a credential or model, by its name.
TAKEN, FIRST_BYTE, TOTAL, MOVED = "taken", "first_byte", "total", "moved"


class Names(NamedTuple):
    """What the numbers of usage are counted by; ``credential`` is empty for providers that are not Claude."""

    user: str
    model: str
    served: str
    credential: str


class Taken(NamedTuple):
    """The numbers of usage."""

    requests: float = 0
    errors: float = 0
    input: float = 0
    output: float = 0
    cache_read: float = 0
    cache_write: float = 0
    failovers: float = 0

    def __add__(self, other: tuple[Any, ...]) -> "Taken":
        return Taken(*(one + more for one, more in zip(self, other, strict=True)))


class Failover(NamedTuple):
    """A credential or model that was left for another one, and why."""

    at: float
    user: str
    model: str
    text: str


class LastError(NamedTuple):
    """The last thing that went wrong with a credential."""

    at: float
    text: str


Entry = tuple[str, ...]
_WIDTHS = {TAKEN: (len(Names._fields), len(Taken._fields)), FIRST_BYTE: (1, len(BUCKETS) + 1), TOTAL: (1, len(BUCKETS) + 1)}
_WIDTHS |= {MOVED: (1, 1)}


@dataclass
class _Page:
    stamp: float = 0.0
    entries: dict[Entry, list[float]] = field(default_factory=dict)

    def add(self, entry: Entry, numbers: Sequence[float]) -> None:
        entry = self._fitting(entry)
        there = self.entries.setdefault(entry, [0] * len(numbers))
        for place, number in enumerate(numbers):
            there[place] += number

    def _fitting(self, entry: Entry) -> Entry:
        """Return the entry under names for which the page has room."""
        if entry in self.entries:
            return entry
        kind, *names = entry
        if len(self.entries) >= MAX_ENTRIES:
            return kind, *[OTHER] * len(names)
        alike = [other for other in self.entries if other[0] == kind]
        for place, name in enumerate(names, start=1):
            seen = {other[place] for other in alike}
            if name and name not in seen and len(seen) >= MAX_NAMES:
                names[place - 1] = OTHER
        return kind, *names

    def requests(self) -> float:
        return sum(numbers[0] for entry, numbers in self.entries.items() if entry[0] == TAKEN)


@dataclass
class _Events:
    stamp: float = 0.0
    failovers: list[Failover] = field(default_factory=list)
    errors: dict[str, LastError] = field(default_factory=dict)


class Book:
    """``clock`` returns Unix seconds; ``serves`` says whether a model is one of the proxy's; ``writer`` names this process."""

    def __init__(
        self, *, clock: Callable[[], float], serves: Callable[[str], bool] = lambda _: True, writer: str | None = None
    ) -> None:
        self._clock = clock
        self._serves = serves
        self._writer = writer or secrets.token_hex(8)
        self._days: dict[tuple[str, str], _Page] = {}
        self._months: dict[str, _Page] = {}
        self._events: dict[str, _Events] = {}
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
        page = self._days.setdefault(place, _Page())
        model = clean(record.asked) if self._serves(record.asked) else OTHER
        names = Names(clean(record.user), model, clean(record.served) if model != OTHER else "", clean(record.credential))
        usage = record.usage
        tokens = [max(0, tokens) for tokens in (usage.input, usage.output, usage.cache_read, usage.cache_write)]
        page.add((TAKEN, *names), (1, int(is_error(record)), *tokens, len(record.failovers)))
        page.add((FIRST_BYTE, model), _classed(record.first_byte_seconds))
        page.add((TOTAL, model), _classed(record.seconds))
        for text in record.failovers:
            page.add((MOVED, clean(text.partition(": ")[0])), (1,))
        page.stamp = _later(page.stamp, now)
        self._changed.add(_day_key(*place))
        self._note_events(record, names, now)

    def _note_events(self, record: Record, names: Names, now: float) -> None:
        moved = [Failover(now, names.user, names.model, clean(text, MAX_TEXT)) for text in record.failovers]
        wrong = {text.partition(": ")[0]: text.partition(": ")[2] for text in record.failovers if ": " in text}
        if record.credential and is_error(record):
            wrong[record.credential] = f"{record.error or 'error'} (HTTP {record.status})"
        if not moved and not wrong:
            return
        events = self._events.setdefault(self._writer, _Events())
        events.failovers = [*events.failovers, *moved][-MAX_FAILOVERS:]
        events.errors |= {clean(label): LastError(now, clean(text, MAX_TEXT)) for label, text in wrong.items()}
        events.errors = dict(sorted(events.errors.items(), key=lambda pair: pair[1])[-MAX_NAMES:])
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
        """Return the numbers of one sort of entries, added over all processes."""
        total = _Page()
        for period, page in self._pages():
            if days is None or period in days:
                _add(total, (one for one in page.entries.items() if one[0][0] == kind))
        return {entry[1:]: numbers for entry, numbers in total.entries.items()}

    def by_period(self) -> Iterator[tuple[str, Names, Taken]]:
        """Return what was used in each month and each day of detail, in their order."""
        for period in sorted({period for period, _ in self._pages()}):
            for names, numbers in sorted(self.taken({period}).items()):
                yield period, names, numbers

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

    def _pages(self) -> Iterator[tuple[str, _Page]]:
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

    def hasten(self) -> None:
        """Let the next ``changed`` tell what there is: it may be the last one."""
        self._told = 0.0

    def everything(self) -> list[Row]:
        """Return all pages, those of other processes too: the store may have lost them."""
        return [*self._rows(None)]

    def _rows(self, keys: Collection[str] | None) -> Iterator[Row]:
        pages = {f"month:{month}": page for month, page in self._months.items()}
        pages |= {_day_key(*place): page for place, page in self._days.items()}
        events = {f"events:{writer}": events for writer, events in self._events.items()}
        yield from (_page_row(key, page) for key, page in pages.items() if keys is None or key in keys)
        yield from (_events_row(key, noted) for key, noted in events.items() if keys is None or key in keys)

    def merge(self, rows: Iterable[Row]) -> None:
        """Take in pages of others. Rows that are not the book's are passed over."""
        for row in rows:
            try:
                self._merge_row(row)
            except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
                logger.debug("a row that this version does not know was passed over: %s", row.key)

    def _merge_row(self, row: Row) -> None:
        if not math.isfinite(row.stamp):
            return
        match row.key.split(":"):
            case ["month", month] if row.stamp > self._months.get(month, _Page(-math.inf)).stamp:
                date.fromisoformat(f"{month}-01")
                self._months[month] = _Page(row.stamp, _read_entries(json.loads(row.value)))
                self._days = {place: page for place, page in self._days.items() if place[0][:7] != month}
            case ["usage", day, writer] if day[:7] not in self._months:
                date.fromisoformat(day)
                if row.stamp > self._days.get((day, writer), _Page(-math.inf)).stamp:
                    self._days[day, writer] = _Page(row.stamp, _read_entries(json.loads(row.value)))
            case ["events", writer] if row.stamp > self._events.get(writer, _Events(-math.inf)).stamp:
                self._events[writer] = _read_events(row.stamp, json.loads(row.value))
                newest = sorted(self._events.items(), key=lambda pair: (pair[1].stamp, pair[0]))
                self._events = dict(newest[-MAX_WRITERS:])

    def _close_months(self, now: float) -> None:
        """Put one page in the place of a month's days when the month is long over.

        All processes come to the same page. Where one knows less than another, its page has the smaller stamp.
        """
        first_kept = _day(now - DETAIL_DAYS * 86400)[:7]
        for month in sorted({day[:7] for day, _ in self._days if day[:7] < first_kept}):
            total = _Page()
            for place in sorted(place for place in self._days if place[0][:7] == month):
                _add(total, self._days.pop(place).entries.items())
            total.stamp = _end_of_month(month) + total.requests() / 1000
            self._months[month] = total
            self._changed.add(f"month:{month}")


def is_error(record: Record) -> bool:
    """Whether a request failed; a client that leaves by itself is no failure."""
    return bool(record.error or record.status >= 400) and record.status != LEFT


def clean(text: str, longest: int = MAX_NAME) -> str:
    """Return a text on one line: what cannot be printed is escaped, and what is too long is cut."""
    shown = printable(text)
    return shown if len(shown) <= longest else f"{shown[: longest - 1]}…"


def _no_formula(text: str) -> str:
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


def _add(page: _Page, entries: Iterable[tuple[Entry, Sequence[float]]]) -> None:
    for entry, numbers in entries:
        there = page.entries.setdefault(entry, [0] * len(numbers))
        for place, number in enumerate(numbers):
            there[place] += number


def _classed(seconds: float) -> list[float]:
    """Return one time as its class and its sum, in the form in which times are added."""
    numbers = [0.0] * (len(BUCKETS) + 1)
    numbers[bisect_left(BUCKETS, seconds)] = 1
    numbers[-1] = max(0.0, seconds)
    return numbers


def _later(stamp: float, now: float) -> float:
    """Return a stamp that is above the last one, wherever the clock was set meanwhile."""
    return max(now, math.nextafter(stamp, math.inf))


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")


def _day_key(day: str, writer: str) -> str:
    return f"usage:{day}:{writer}"


def _end_of_month(month: str) -> float:
    after = (date.fromisoformat(f"{month}-01") + timedelta(days=31)).replace(day=1)
    return datetime(after.year, after.month, 1, tzinfo=UTC).timestamp()


def _page_row(key: str, page: _Page) -> Row:
    return Row(key, page.stamp, json.dumps([[list(entry), numbers] for entry, numbers in page.entries.items()]))


def _events_row(key: str, events: _Events) -> Row:
    return Row(key, events.stamp, json.dumps({"failovers": events.failovers, "errors": events.errors}))


def _read_entries(value: Any) -> dict[Entry, list[float]]:
    """Understand a page; raise ValueError for one with an entry that is none. Sorts of another version are left out."""
    entries: dict[Entry, list[float]] = {}
    for (kind, *names), numbers in value:
        if kind in _WIDTHS:
            usable = all(isinstance(name, str) for name in names) and all(0 <= float(number) < math.inf for number in numbers)
            if not usable or (len(names), len(numbers)) != _WIDTHS[kind]:
                raise ValueError("no entry")
            entries[kind, *names] = [*numbers]
    return entries


def _read_events(stamp: float, value: Mapping[str, Any]) -> _Events:
    failovers = [Failover(float(at), str(user), str(model), str(text)) for at, user, model, text in value["failovers"]]
    errors = {str(label): LastError(float(at), str(text)) for label, (at, text) in value["errors"].items()}
    return _Events(stamp, failovers[-MAX_FAILOVERS:], errors)
