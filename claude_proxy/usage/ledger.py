"""The usage ledger: requests, errors and tokens by user, model and credential. Plain and synchronous.

Five rules:
  1. A page belongs to one UTC day and one process, which alone writes to it. Sums are calculated when the ledger is read, so a
     page that arrives twice, late or out of order changes nothing.
  2. Of two versions of a page the later one wins, and every number on it only grows.
  3. A month that ended more than ``DETAIL_DAYS`` ago has one page for all processes, which replaces its days.
  4. A listed model is counted under its own name. A made-up name (a client chose it, and a pattern of config.yaml accepts it)
     is counted under its own name once a request for it has succeeded, for up to ``OWN_NAMES`` names of a user in all days of
     detail. A refused name is counted as ``UNKNOWN`` or ``NOT_ALLOWED``, everything else as ``OTHER``.
  5. Pages, and every sum of them, are bounded (``usage/ledger_page.py``), and so is the number of pages.

All calls come from one event loop. The ledger is shared like the pool's state (``state/replication.py``).
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

from claude_proxy.anthropic.errors import MODEL_NOT_ALLOWED, UNKNOWN_MODEL
from claude_proxy.config.users import folded
from claude_proxy.state.rows import Row
from claude_proxy.text import clean, unformulated
from claude_proxy.usage.ledger_page import (
    FAILOVERS,
    FIRST_BYTE,
    GENERAL_NAMES,
    MAX_AHEAD,
    MAX_FAILOVERS,
    MAX_NUMBER,
    NOT_ALLOWED,
    OTHER,
    OWN_NAMES,
    TOTAL,
    UNKNOWN,
    USAGE,
    Entry,
    Events,
    Failover,
    LastError,
    Listed,
    Names,
    Page,
    Totals,
    bounded,
    events_row,
    newest,
    own_names,
    page_row,
    read_entries,
    read_events,
    total_of,
)
from claude_proxy.usage.record import FAILED_OVER_TO, RETRIED, Record
from claude_proxy.usage.request_log import MAX_TEXT

logger = logging.getLogger(__name__)

DETAIL_DAYS = 62
# How often changes are shared with the other processes, in seconds.
SHARE_SECONDS = 1.0
# The number of processes whose last failovers are kept.
MAX_WRITERS = 100
# The maximum number of day pages (the store keeps as many), the maximum age of a page in days, and the maximum length of a
# process name.
MAX_PAGES = 20_000
MAX_AGE_DAYS = 3660
MAX_WRITER = 64
# The name under which a model is counted that the proxy refused, by the reason.
REFUSED_MODELS = {UNKNOWN_MODEL: UNKNOWN, MODEL_NOT_ALLOWED: NOT_ALLOWED}
# The status for a client that has disconnected.
LEFT = 499
# The columns of numbers in the CSV; the cost is in USD, and empty if it is not known.
USD = "usd"
COLUMNS = tuple(USD if name == "micro_usd" else name for name in Totals._fields)


class Ledger:
    """``clock`` returns Unix seconds; ``listed`` returns whether the proxy lists a model; ``writer`` names this process."""

    def __init__(self, *, clock: Callable[[], float], listed: Listed = lambda _: True, writer: str | None = None) -> None:
        self._clock = clock
        self._listed = listed
        self._writer = writer or secrets.token_hex(8)
        self._days: dict[tuple[str, str], Page] = {}
        self._months: dict[str, Page] = {}
        self._events: dict[str, Events] = {}
        # The made-up model names that are counted for each user, in all days of detail.
        self._own: dict[str, set[str]] = {}
        self._changed: set[str] = set()
        self._shared_at = 0.0

    def record(self, record: Record) -> None:
        """Count a request on the day of its end. Token counts are left out: a client sends thirty of them together."""
        if record.counts_tokens:
            return
        now = self._clock()
        place = _day(now), self._writer
        if place not in self._days:
            self._close_months(now)
        page = self._days.setdefault(place, Page())
        user = clean(folded(record.user))
        model = self._model_of(record, user)
        made_up = model not in GENERAL_NAMES and not self._listed(record.requested)
        served = "" if model in GENERAL_NAMES else clean(record.served)
        names = Names(user, model, served, clean(record.credential))
        usage = record.usage
        counted = (usage.input, usage.output, usage.cache_read, usage.cache_write)
        tokens = [min(max(0, tokens), MAX_NUMBER) for tokens in counted]
        cost = (min(record.cost or 0, MAX_NUMBER), int(record.cost is None and bool(record.served)))
        page.add((USAGE, *names), (1, int(is_error(record)), *tokens, len(record.failovers), *cost), made_up=made_up)
        page.add_time((FIRST_BYTE, model), record.first_byte_seconds, made_up=made_up)
        page.add_time((TOTAL, model), record.seconds, made_up=made_up)
        for text in record.failovers:
            left = clean(text.partition(": ")[0])
            page.add((FAILOVERS, OTHER if (made_up or model in GENERAL_NAMES) and is_of_model(text) else left), (1,))
        page.stamp = _later(page.stamp, now)
        self._changed.add(_day_key(*place))
        self._note_events(record, names, now)

    def _model_of(self, record: Record, user: str) -> str:
        """Return the name under which a request's model is counted."""
        name = clean(record.requested)
        if self._listed(record.requested):
            return name
        if record.error in REFUSED_MODELS:
            return REFUSED_MODELS[record.error]
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
        """Return the current UTC day, such as 2026-03-01."""
        return _day(self._clock())

    def last_days(self, count: int) -> frozenset[str]:
        """Return the last ``count`` UTC days, including today."""
        return frozenset(_day(self._clock() - 86400 * back) for back in range(count))

    def since(self) -> str | None:
        """Return the first day, or month, with data."""
        return min((*(day for day, _ in self._days), *self._months), default=None)

    def totals(self, days: Collection[str] | None = None) -> dict[Names, Totals]:
        """Return the usage on some days, or of the whole ledger."""
        return {Names(*names): Totals(*numbers) for names, numbers in self.sums(USAGE, days).items()}

    def sums(self, kind: str, days: Collection[str] | None = None) -> dict[Entry, list[float]]:
        """Return the numbers of one kind of entries, summed over all processes, under a bounded number of names."""
        pages = [page for period, page in self._pages() if days is None or period in days]
        return self._sums(kind, pages)

    def _sums(self, kind: str, pages: Iterable[Page]) -> dict[Entry, list[float]]:
        kinds = {kind} if kind == FAILOVERS else {kind, USAGE}  # usage decides which made-up names are kept
        entries = total_of([entry for entry in page.entries.items() if entry[0][0] in kinds] for page in pages)
        return {entry[1:]: numbers for entry, numbers in bounded(entries, self._listed).items() if entry[0] == kind}

    def by_period(self) -> Iterator[tuple[str, Names, Totals]]:
        """Yield the usage of each month and each day of detail, in order."""
        periods: dict[str, list[Page]] = {}
        for period, page in self._pages():
            periods.setdefault(period, []).append(page)
        for period in sorted(periods):
            for names, numbers in sorted(self._sums(USAGE, periods[period]).items()):
                yield period, Names(*names), Totals(*numbers)

    def csv(self) -> str:
        """Return the ledger as CSV, a line for each period and ``Names``. Text that looks like a formula is quoted."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(("period", *Names._fields, *COLUMNS))
        for period, names, totals in self.by_period():
            numbers = (totals.usd if name == USD else int(getattr(totals, name)) for name in COLUMNS)
            writer.writerow((period, *(unformulated(name) for name in names), *numbers))
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
        """Return the pages that have changed here, at most once in ``SHARE_SECONDS``."""
        now = self._clock()
        if not self._changed or self._shared_at <= now < self._shared_at + SHARE_SECONDS:
            return []
        self._shared_at = now
        self._close_months(now)
        keys, self._changed = self._changed, set()
        return [*self._rows(keys)]

    def flush_next(self) -> None:
        """Let the next ``changed`` return everything, because it may be the last one."""
        self._shared_at = 0.0

    def everything(self) -> list[Row]:
        """Return all pages, including those of other processes: the store may have lost them."""
        return [*self._rows(None)]

    def _rows(self, keys: Collection[str] | None) -> Iterator[Row]:
        pages = {f"month:{month}": page for month, page in self._months.items()}
        pages |= {_day_key(*place): page for place, page in self._days.items()}
        events = {f"events:{writer}": events for writer, events in self._events.items()}
        yield from (page_row(key, page) for key, page in pages.items() if keys is None or key in keys)
        yield from (events_row(key, recorded) for key, recorded in events.items() if keys is None or key in keys)

    def merge(self, rows: Iterable[Row]) -> None:
        """Apply pages of other processes. Rows that do not belong to the ledger are skipped."""
        for row in rows:
            try:
                self._merge_row(row)
            except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
                logger.debug("skipped a store row that this version cannot read: %.200r", row.key)

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
                    raise ValueError("no room for the page")
                if there is None or row.stamp > there.stamp:
                    page = Page(row.stamp, read_entries(json.loads(row.value), self._listed))
                    self._days[day, writer] = page
                    self._learn_own_names([page])
            case ["events", writer] if row.stamp > self._events.get(writer, Events(-math.inf)).stamp:
                if len(writer) > MAX_WRITER or row.stamp > now + MAX_AHEAD:
                    raise ValueError("no room for the events")
                self._events[writer] = read_events(row.stamp, json.loads(row.value), now + MAX_AHEAD)
                latest = sorted(self._events.items(), key=lambda pair: (pair[1].stamp, pair[0]))
                self._events = dict(latest[-MAX_WRITERS:])

    def _learn_own_names(self, pages: Iterable[Page] | None = None) -> None:
        """Record the made-up names on some pages; without ``pages``, rebuild the record from all pages."""
        if pages is None:
            self._own, pages = {}, self._days.values()
        for page in pages:
            for user, name in own_names(page.entries, self._listed):
                self._own.setdefault(user, set()).add(name)

    def _close_months(self, now: float) -> None:
        """Replace the days of a month that ended long ago by one page.

        All processes produce the same page. If one has less data than another, its page has the smaller stamp.
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
    """Return whether a request failed; a client that disconnects is not a failure."""
    return bool(record.error or record.status >= 400) and record.status != LEFT


def is_answered(record: Record) -> bool:
    """Return whether an upstream responded to the request with a success."""
    return bool(record.served) and 200 <= record.status < 300 and not record.error


def is_of_model(failover: str) -> bool:
    """Return whether a failover left a model, whose name a client may have made up, rather than a credential."""
    reason = failover.partition(": ")[2]
    return reason.startswith((FAILED_OVER_TO, RETRIED))


def _later(stamp: float, now: float) -> float:
    """Return a stamp after the last one, even if the clock was set back."""
    return max(now, math.nextafter(stamp, math.inf))


# A day in Unix time, which has no leap seconds.
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
    """Raise ValueError for an invalid day, one long ago or one in the future."""
    found = date.fromisoformat(day)
    today = datetime.fromtimestamp(now, UTC).date()
    if found.isoformat() != day or not timedelta(seconds=-MAX_AHEAD) <= today - found <= timedelta(MAX_AGE_DAYS):
        raise ValueError("not a day of the ledger")
