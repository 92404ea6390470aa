"""The latest requests of the whole proxy, for an operator who looks for one. Plain and synchronous.

Five rules:
  1. The ``MOST`` latest requests of all processes are shown, those that ended last first. Counts of tokens are left out: a
     client sends thirty of them together.
  2. A request adds only its record to a list; everything else is done at most once in ``SHARE_SECONDS``, with many requests
     in ``BUSY_SECONDS``, or when the list is read. So of more requests than are shown, most cost nothing more.
  3. A process writes its entries to ``PAGES`` pages of ``PAGE_ENTRIES`` in turn, each a row of the store under one key, and
     reuses the oldest one. So the rows are bounded without any removal, and at a crash only the last second is missing.
  4. Pages of other processes are kept as they came, and parsed only when somebody reads the list.
  5. Of two versions of a page the later one wins.

All calls come from one event loop. The list is shared like the pool's state (``state/replication.py``).
"""

import json
import logging
import math
import secrets
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from claude_proxy.state.rows import Row
from claude_proxy.usage.record import Record
from claude_proxy.usage.request_entry import RequestEntry, ended_of, entry_of, read_entry, texts_of

logger = logging.getLogger(__name__)

PREFIX = "recent:"
# How many requests are shown and kept by each process.
MOST = 1000
PAGE_ENTRIES = 25
PAGES = MOST // PAGE_ENTRIES + 1
# How often changes are shared with the other processes, in seconds; and how often if there are more than ``FEW`` new ones.
SHARE_SECONDS, BUSY_SECONDS = 1.0, 5.0
FEW = 4 * PAGE_ENTRIES
# The maximum number of pages (the store keeps as many), and the maximum length of a process name.
MAX_PAGES = 400
MAX_WRITER = 64
# The maximum difference between the clocks of two machines, in seconds; a page with a later stamp is invalid.
MAX_AHEAD = 2 * 86400.0
# Processes learn of each other's requests with a delay, and their clocks differ. So the requests since another one include
# those that ended up to so many seconds before it; a reader knows them by their ids.
OVERLAP_SECONDS = 10.0


@dataclass
class _Page:
    """Some requests of one process; those of another process are in ``value`` until somebody reads them."""

    stamp: float = 0.0
    value: str = ""
    entries: list[RequestEntry] = field(default_factory=list)
    # The entries as JSON, to be written again when others are added.
    texts: list[str] = field(default_factory=list)


class Filters(NamedTuple):
    """Which requests are read; an empty collection or text allows all. ``status``: "ok", "error", "failover" or a code."""

    user: Collection[str] = ()
    model: Collection[str] = ()
    credential: Collection[str] = ()
    rule: Collection[str] = ()
    lane: Collection[str] = ()
    status: Collection[str] = ()
    text: str = ""
    # The ids of the first request that is too new, and of one after which the wanted ones ended.
    before: str = ""
    since: str = ""

    def fit(self, entry: RequestEntry) -> bool:
        """Return whether all filters but ``before`` and ``since`` allow an entry."""
        return (
            (not self.user or entry.user in self.user)
            and (not self.model or entry.model in self.model or entry.requested in self.model)
            and (not self.credential or entry.credential in self.credential)
            and (not self.rule or entry.rule in self.rule)
            and (not self.lane or entry.lane in self.lane)
            and (not self.status or not entry.statuses.isdisjoint(self.status))
            and (not self.text or entry.contains(self.text))
        )


class RecentRequests:
    """One per process. ``clock`` returns Unix seconds; ``redact`` removes secrets; ``writer`` names this process."""

    def __init__(
        self, *, clock: Callable[[], float], redact: Callable[[str], str] = lambda text: text, writer: str | None = None
    ) -> None:
        self._clock = clock
        self._redact = redact
        self._writer = writer or secrets.token_hex(8)
        # What has not been put on a page. Of more than are shown, the oldest are dropped.
        self._new: deque[Record] = deque(maxlen=MOST)
        self._pages: dict[tuple[str, int], _Page] = {}
        self._place = 0
        self._count = 0
        self._changed: set[int] = set()
        self._shared_at = -math.inf
        # The latest requests, the newest first; None after a change.
        self._latest: list[RequestEntry] | None = []

    def record(self, record: Record) -> None:
        """Add a finished request."""
        if not record.counts_tokens:
            self._new.append(record)

    # --- Reading -------------------------------------------------------------------------------------------------------------

    def latest(self) -> list[RequestEntry]:
        """Return the latest requests of all processes, those that ended last first. The list must not be changed."""
        self._write_new()
        if self._latest is None:
            self._latest = self._sorted()
        return self._latest

    def kept_since(self) -> float | None:
        """Return the end of the oldest request in the list, in Unix seconds; None if there is none."""
        entries = self.latest()
        return entries[-1].ended if entries else None

    def read(
        self, filters: Filters, limit: int, *, only_user: str | None = None, hidden: Collection[str] = ()
    ) -> tuple[list[RequestEntry], str | None]:
        """Return the newest requests that the filters allow, and the id for ``before`` with which to read on, or None.

        With ``only_user``, only requests of that user exist; ``hidden`` credentials have the name "other". Raises ValueError
        for an invalid id.
        """
        since = ended_of(filters.since) - OVERLAP_SECONDS if filters.since else -math.inf
        if filters.before:
            ended_of(filters.before)
        found: list[RequestEntry] = []
        for entry in self.latest():
            if (filters.before and entry.id >= filters.before) or (only_user is not None and entry.user != only_user):
                continue
            if entry.ended < since:
                break
            shown = entry.hiding(hidden) if hidden else entry
            if not filters.fit(shown):
                continue
            if len(found) == limit:
                return found, found[-1].id
            found.append(shown)
        return found, None

    def _sorted(self) -> list[RequestEntry]:
        """Parse pages, the latest first, until no further page can contain one of the latest requests."""
        entries: list[RequestEntry] = []
        oldest = -math.inf
        for page in sorted(self._pages.values(), key=lambda one: -one.stamp):
            if page.stamp < oldest:
                break
            if page.value:
                page.entries, page.value = _parsed(page), ""
            entries += page.entries
            if len(entries) >= MOST:
                entries.sort(key=_id, reverse=True)
                del entries[MOST:]
                oldest = entries[-1].ended
        return sorted({entry.id: entry for entry in entries}.values(), key=_id, reverse=True)

    # --- Writing -------------------------------------------------------------------------------------------------------------

    def _write_new(self) -> None:
        """Put new requests on the pages of this process."""
        if not self._new:
            return
        now = self._clock()
        records, self._new = self._new, deque(maxlen=MOST)
        all_texts = [texts_of(record) for record in records]
        # Secrets are searched once, in all texts together: with many tokens, a search costs more than everything else.
        together = "\n".join([text for texts in all_texts for text in texts])
        if self._redact(together) != together:
            all_texts = [[self._redact(text) for text in texts] for texts in all_texts]
        prefix = self._writer[:6]
        entries = [
            entry_of(record, texts, f"{prefix}{count:x}")
            for count, (record, texts) in enumerate(zip(records, all_texts, strict=True), self._count + 1)
        ]
        self._count += len(entries)
        while entries:
            page = self._page_with_room()
            added = entries[: PAGE_ENTRIES - len(page.texts)]
            del entries[: len(added)]
            page.entries += added
            page.texts += map(_json, added)
            # Not before the end of an entry, so that the stamp says how new they can be. Ids sort by the time of the end.
            page.stamp = max(now, ended_of(max(map(_id, added))), math.nextafter(page.stamp, math.inf))
            self._changed.add(self._place)
        self._latest = None

    def _page_with_room(self) -> _Page:
        """Return the page of this process to which requests are added; after a full one, the oldest one, emptied."""
        page = self._pages.setdefault((self._writer, self._place), _Page())
        if len(page.texts) < PAGE_ENTRIES:
            return page
        self._place = (self._place + 1) % PAGES
        stamp = self._pages.get((self._writer, self._place), _Page()).stamp
        page = self._pages[self._writer, self._place] = _Page(stamp)
        return page

    def changed(self) -> list[Row]:
        """Return the pages that have changed here, at most once in ``SHARE_SECONDS`` or ``BUSY_SECONDS``."""
        now = self._clock()
        pause = SHARE_SECONDS if len(self._new) <= FEW else BUSY_SECONDS
        if not (self._new or self._changed) or self._shared_at <= now < self._shared_at + pause:
            return []
        self._shared_at = now
        self._write_new()
        places, self._changed = sorted(self._changed), set()
        return [self._row(self._writer, place, self._pages[self._writer, place]) for place in places]

    def flush_next(self) -> None:
        """Let the next ``changed`` return everything, because it may be the last one."""
        self._shared_at = -math.inf

    def everything(self) -> list[Row]:
        """Return all pages, including those of other processes: the store may have lost them."""
        self._write_new()
        return [self._row(*place, page) for place, page in self._pages.items()]

    def _row(self, writer: str, place: int, page: _Page) -> Row:
        return Row(f"{PREFIX}{writer}:{place}", page.stamp, page.value or f"[{','.join(page.texts or _written(page.entries))}]")

    def merge(self, rows: Iterable[Row], /) -> None:
        """Apply pages of other processes. Rows of other parts, and those with an invalid key or stamp, are skipped."""
        latest = self._clock() + MAX_AHEAD
        for row in rows:
            match row.key.split(":"):
                case ["recent", writer, place] if writer != self._writer and place.isdecimal() and len(place) < 4:
                    there = self._pages.get((writer, int(place)))
                    stamp = -math.inf if there is None else there.stamp
                    if len(writer) <= MAX_WRITER and int(place) < PAGES and stamp < row.stamp <= latest:
                        self._pages[writer, int(place)] = _Page(row.stamp, row.value)
                        self._latest = None
        for surplus in self._surplus():
            del self._pages[surplus]

    def _surplus(self) -> Iterator[tuple[str, int]]:
        """Yield the oldest pages of other processes beyond ``MAX_PAGES``."""
        if len(self._pages) <= MAX_PAGES:
            return
        others = sorted((page.stamp, place) for place, page in self._pages.items() if place[0] != self._writer)
        yield from (place for _, place in others[: len(self._pages) - MAX_PAGES])


def _id(entry: RequestEntry) -> str:
    return entry.id


def _json(entry: RequestEntry) -> str:
    return msgspec.json.encode(entry).decode()


def _written(entries: Sequence[RequestEntry]) -> list[str]:
    return [_json(entry) for entry in entries]


def _parsed(page: _Page) -> list[RequestEntry]:
    """Return the valid entries of a page; none of them ended after its stamp."""
    found = []
    try:
        for one in json.loads(page.value)[:PAGE_ENTRIES]:
            with suppress(ValueError, TypeError, OverflowError):  # of a later version, or not a proxy's
                entry = read_entry(one)
                if entry.ended <= page.stamp:
                    found.append(entry)
    except (ValueError, TypeError, LookupError, RecursionError):
        logger.debug("skipped a page of requests in the store that this version cannot read")
    return found
