"""The book: what this process's requests used, until it is written to the database. Plain and synchronous.

Five rules:
  1. A page belongs to one UTC hour and one process, which alone writes to it, and every number on it only grows. So writing it
     again changes nothing, and sums are calculated when the history is read.
  2. A request is counted in the hour of its end. Token counts do not come here: a client sends thirty of them together.
  3. A listed model is counted under its own name. A made-up name (a client chose it, and a pattern of config.yaml accepts it)
     is counted under its own name once a request for it has succeeded, for up to ``OWN_NAMES`` names of a user in the last
     ``OWN_DAYS``. A refused name is counted as ``UNKNOWN`` or ``NOT_ALLOWED``, everything else as ``OTHER``.
  4. Pages are bounded (``history/page.py``), and while nothing can be written so is their number.
  5. Names are on one line and short, and upper and lower case of a user's name are the same.

All calls come from one event loop; only the work that ``take`` returns runs elsewhere.
"""

import math
import secrets
import sqlite3
from collections.abc import Callable, Collection, Iterable
from functools import lru_cache
from typing import NamedTuple

from claude_proxy.anthropic.errors import MODEL_NOT_ALLOWED, UNKNOWN_MODEL
from claude_proxy.config.users import folded
from claude_proxy.history import periods, schema
from claude_proxy.history.page import MAX_GROUPS, OWN_NAMES, Page
from claude_proxy.history.schema import Place
from claude_proxy.history.writing import Work
from claude_proxy.text import clean
from claude_proxy.usage.numbers import (
    FIRST_BYTE,
    FIRST_BYTE_MS,
    GENERAL_NAMES,
    MAX_NUMBER,
    NOT_ALLOWED,
    OTHER,
    TOTAL,
    TOTAL_MS,
    UNKNOWN,
    Listed,
    Names,
    bucket_of,
)
from claude_proxy.usage.record import Record, is_answered, is_error, is_of_model
from claude_proxy.usage.request_log import MAX_TEXT

# For how many days a user's made-up names are counted, and the number of hours that are kept while they cannot be written.
OWN_DAYS = 62
MAX_HOURS = 24 * periods.HOUR_DAYS
# The name under which a model is counted that the proxy refused, by the reason.
REFUSED_MODELS = {UNKNOWN_MODEL: UNKNOWN, MODEL_NOT_ALLOWED: NOT_ALLOWED}


class _Changes:
    """The names of entries, and of what was left, that have changed since a page was written."""

    def __init__(self) -> None:
        self.entries: set[Names] = set()
        self.left: set[str] = set()


class _Counted(NamedTuple):
    """The entry in which a request is counted, and its model. ``is_unnamed``: what models are left has no name, either."""

    names: Names
    numbers: list[int]
    model: str
    is_unnamed: bool


class HistoryBook:
    """``clock`` returns Unix seconds; ``listed`` returns whether the proxy lists a model; ``writer`` names this process.

    ``shares``: whether pages are also kept until they are taken out of ``unshared``, by what shares them.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        listed: Listed = lambda _: True,
        writer: str | None = None,
        shares: bool = False,
    ) -> None:
        self._clock = clock
        self._listed = listed
        self._shares = shares
        self.writer = writer or secrets.token_hex(8)
        # The last hour whose page is no longer in memory, and the number of pages that were begun after theirs was let go.
        self._gone = ""
        self._begun_again = 0
        self._writers: dict[str, str] = {}
        # By hour: the current one, and earlier ones until they are written and shared.
        self.pages: dict[str, Page] = {}
        self._changed: dict[str, _Changes] = {}
        self._writing: dict[str, _Changes] = {}
        # The hours that the other processes do not have yet.
        self.unshared: set[str] = set()
        # The made-up model names that are counted for each user.
        self._own: dict[str, set[str]] = {}

    def record(self, record: Record) -> str:
        """Count a finished request, and return the name under which its model is counted."""
        return self.record_all([record])[0]

    def record_all(self, records: Iterable[Record]) -> list[str]:
        """Count finished requests, at least one, and return the names under which their models are counted."""
        now = self._clock()
        hour = periods.hour_at(now)
        page = self.pages.get(hour)
        if page is None:
            page = self._new_page(hour)
        changes = self._changed.setdefault(hour, _Changes())
        # Most requests of a moment are alike; looking for their entry takes as long as counting them.
        known: dict[tuple[object, ...], _Counted] = {}
        models = []
        for record in records:
            key = None
            if not record.error and record.served:
                key = record.user, record.groups, record.requested, record.served, record.credential, record.project
            found = known.get(key) if key is not None else None
            if found is None:
                found = self._entry(record, page)
                changes.entries.add(found.names)
                if key is not None:
                    known[key] = found
            _count(found.numbers, record)
            for text in record.failovers:
                left = clean(text.partition(": ")[0])
                changes.left.add(page.add_left(OTHER if found.is_unnamed and is_of_model(text) else left))
            models.append(found.model)
        page.stamp = max(now, math.nextafter(page.stamp, math.inf))
        if self._shares:
            self.unshared.add(hour)
        return models

    def _entry(self, record: Record, page: Page) -> _Counted:
        """Return the entry of a page in which a request is counted."""
        user = _user_of(record.user[:MAX_TEXT])
        model = self._model_of(record, user)
        is_general = model in GENERAL_NAMES
        made_up = not is_general and not self._listed(record.requested)
        served = "" if is_general else record.served[:MAX_TEXT]
        names = _names_of(user, record.groups, model, served, record.credential, record.project[:MAX_TEXT])
        names, numbers = page.entry(names, made_up=made_up)
        return _Counted(names, numbers, model, made_up or is_general)

    def learn_own_names(self, found: Iterable[tuple[str, str]]) -> None:
        """Replace the made-up names of each user by those of the database and of this process's pages."""
        mine = [(names.user, names.model) for page in self.pages.values() for names in page.entries]
        self._own = {}
        for user, model in (*found, *mine):
            if model not in GENERAL_NAMES and not self._listed(model):
                self._own.setdefault(user, set()).add(model)

    def _new_page(self, hour: str) -> Page:
        while len(self.pages) >= MAX_HOURS:
            oldest = min(self.pages)
            self._forget(oldest)
            self._changed.pop(oldest, None)
            self._writing.pop(oldest, None)
            self.unshared.discard(oldest)
        if hour <= self._gone:  # the clock was set back: what is written of this hour must not be replaced
            self._begun_again += 1
            self._writers[hour] = f"{self.writer}-{self._begun_again}"
        page = self.pages[hour] = Page()
        return page

    def _forget(self, hour: str) -> None:
        del self.pages[hour]
        self._writers.pop(hour, None)
        self._gone = max(self._gone, hour)

    def place_of(self, hour: str) -> Place:
        """Return the place of this process's page of an hour."""
        return Place(hour, self._writers.get(hour, self.writer))

    def is_own(self, place: Place) -> bool:
        """Return whether a page is this process's."""
        return place.writer.partition("-")[0] == self.writer

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

    # --- Writing -------------------------------------------------------------------------------------------------------------

    def take(self) -> Work | None:
        """Return the work that writes the changed entries."""
        for hour, changes in self._changed.items():
            there = self._writing.setdefault(hour, _Changes())
            there.entries |= changes.entries
            there.left |= changes.left
        self._changed = {}
        if not self._writing:
            return None
        copies = []
        for hour, changes in self._writing.items():
            page = self.pages[hour]
            entries = [(names, (*page.entries[names],)) for names in changes.entries]
            copies.append((self.place_of(hour), page.stamp, entries, {name: page.left[name] for name in changes.left}))

        def work(connection: sqlite3.Connection) -> None:
            for place, stamp, entries, left in copies:
                schema.add_entries(connection, place, stamp, entries, left)

        return work

    def written(self, *, done: bool) -> None:
        """Forget what is written; pages of earlier hours go once the other processes have them, too."""
        if done:
            self._writing = {}
            current = periods.hour_at(self._clock())
            for hour in [hour for hour in self.pages if hour != current and hour not in self._changed]:
                if hour not in self.unshared:
                    self._forget(hour)


# One by one the texts of a record would take most of the time that counting it does.
@lru_cache(maxsize=4096)
def _user_of(user: str) -> str:
    return clean(folded(user))


@lru_cache(maxsize=4096)
def _names_of(user: str, groups: tuple[str, ...], model: str, served: str, credential: str, project: str) -> Names:  # noqa: PLR0917
    return Names(user, joined(groups), model, clean(served), clean(credential), clean(project))


def _count(numbers: list[int], record: Record) -> None:
    """Add a request to the numbers of its entry. This runs for every request."""
    usage, cost = record.usage, record.cost
    numbers[0] += 1
    if is_error(record):
        numbers[1] += 1
    if record.failovers:
        numbers[2] += len(record.failovers)
    # What a provider reports may be any number.
    for place, count in enumerate((usage.input, usage.output, usage.cache_read, usage.cache_write, cost or 0), 3):
        if count > 0:
            numbers[place] = min(numbers[place] + count, MAX_NUMBER)
    if cost is None and record.served:
        numbers[8] += 1
    first_byte, seconds = record.first_byte_seconds, record.seconds
    numbers[FIRST_BYTE_MS] = min(numbers[FIRST_BYTE_MS] + max(0, round(1000 * first_byte)), MAX_NUMBER)
    numbers[TOTAL_MS] = min(numbers[TOTAL_MS] + max(0, round(1000 * seconds)), MAX_NUMBER)
    numbers[bucket_of(FIRST_BYTE, first_byte)] += 1
    numbers[bucket_of(TOTAL, seconds)] += 1


def joined(groups: Collection[str]) -> str:
    """Return a user's groups as one name."""
    found = ""
    for group in groups:
        longer = f"{found},{clean(group.replace(',', ' '))}" if found else clean(group.replace(",", " "))
        if len(longer) > MAX_GROUPS:
            break
        found = longer
    return found
