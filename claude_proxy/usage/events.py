"""The last failovers of all processes, and the last error of each credential. Plain and synchronous.

A row belongs to one process, which alone writes it; of two versions of it the later one wins. The rows are shared like the
pool's state (``state/replication.py``). All calls come from one event loop.
"""

import json
import math
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from claude_proxy.config.users import folded
from claude_proxy.state.rows import Row, skipping_unreadable
from claude_proxy.text import MAX_NAME, clean
from claude_proxy.usage.record import Record, is_error, is_of_model
from claude_proxy.usage.request_log import MAX_TEXT

PREFIX = "events"
# How often changes are shared with the other processes, in seconds.
SHARE_SECONDS = 1.0
MAX_FAILOVERS = 50
# The number of credentials whose last error is kept, and of processes whose events are.
MAX_NAMES = 200
MAX_WRITERS = 100
MAX_WRITER = 64
# The maximum difference between the clocks of two machines, in seconds; a later time is invalid.
MAX_AHEAD = 2 * 86400.0


class Failover(NamedTuple):
    """A failover from a credential or model to another one, and its reason."""

    at: float
    user: str
    model: str
    text: str


class LastError(NamedTuple):
    """The last error of a credential."""

    at: float
    text: str


@dataclass
class _Events:
    """The events of one process."""

    stamp: float = 0.0
    failovers: list[Failover] = field(default_factory=list)
    errors: dict[str, LastError] = field(default_factory=dict)


class RecentEvents:
    """``clock`` returns Unix seconds; ``writer`` names this process."""

    def __init__(self, *, clock: Callable[[], float], writer: str | None = None) -> None:
        self._clock = clock
        self._writer = writer or secrets.token_hex(8)
        self._events: dict[str, _Events] = {}
        self._is_changed = False
        self._shared_at = 0.0

    def record(self, record: Record, model: str) -> None:
        """Keep what a request met; ``model`` is the name under which its model is counted."""
        failed = bool(record.credential) and is_error(record)
        if not failed and not record.failovers:
            return
        now = self._clock()
        user = clean(folded(record.user))
        moved = [Failover(now, user, model, clean(text, MAX_TEXT)) for text in record.failovers]
        parts = [text.partition(": ") for text in record.failovers if not is_of_model(text)]
        wrong = {label: reason for label, colon, reason in parts if colon}
        if failed:
            wrong[record.credential] = f"{record.error or 'error'} (HTTP {record.status})"
        events = self._events.setdefault(self._writer, _Events())
        events.failovers = [*events.failovers, *moved][-MAX_FAILOVERS:]
        errors = {clean(label): LastError(now, clean(text, MAX_TEXT)) for label, text in wrong.items()}
        events.errors = _newest(events.errors | errors)
        events.stamp = max(now, math.nextafter(events.stamp, math.inf))
        self._is_changed = True

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

    def changed(self) -> list[Row]:
        """Return the events of this process if they have changed, at most once in ``SHARE_SECONDS``."""
        now = self._clock()
        if not self._is_changed or self._shared_at <= now < self._shared_at + SHARE_SECONDS:
            return []
        self._shared_at, self._is_changed = now, False
        return [*self._rows([self._writer])]

    def flush_next(self) -> None:
        """Let the next ``changed`` return what has changed, because it may be the last one."""
        self._shared_at = 0.0

    def everything(self) -> list[Row]:
        """Return the events of all processes: the store may have lost them."""
        return [*self._rows(self._events)]

    def _rows(self, writers: Collection[str]) -> Iterator[Row]:
        for writer in writers:
            events = self._events[writer]
            value = json.dumps({"failovers": events.failovers, "errors": events.errors})
            yield Row(f"{PREFIX}:{writer}", events.stamp, value)

    def merge(self, rows: Iterable[Row]) -> None:
        """Apply rows of other processes. Rows of other parts are skipped."""
        for row in rows:
            prefix, _, writer = row.key.partition(":")
            if prefix == PREFIX:
                with skipping_unreadable(row):
                    self._merge_row(row, writer)

    def _merge_row(self, row: Row, writer: str) -> None:
        latest = self._clock() + MAX_AHEAD
        there = self._events.get(writer, _Events(-math.inf))
        if ":" in writer or len(writer) > MAX_WRITER or not math.isfinite(row.stamp) or row.stamp > latest:
            raise ValueError("no room for the events")
        if row.stamp > there.stamp:
            self._events[writer] = _read(row.stamp, json.loads(row.value), latest)
            newest = sorted(self._events.items(), key=lambda pair: (pair[1].stamp, pair[0]))
            self._events = dict(newest[-MAX_WRITERS:])


def _newest(errors: Mapping[str, LastError]) -> dict[str, LastError]:
    """Return the latest errors, for at most ``MAX_NAMES`` credentials."""
    return dict(sorted(errors.items(), key=lambda pair: pair[1])[-MAX_NAMES:])


def _read(stamp: float, value: Mapping[str, Any], latest: float) -> _Events:
    """Parse a process's events; raise ValueError or another error for invalid data, or a time after ``latest``."""
    failovers = [
        Failover(_time(at, latest), _text(folded(user)), _text(model), _text(text, MAX_TEXT))
        for at, user, model, text in value["failovers"][-MAX_FAILOVERS:]
    ]
    errors = {
        _text(label): LastError(_time(at, latest), _text(text, MAX_TEXT)) for label, (at, text) in value["errors"].items()
    }
    return _Events(stamp, failovers, _newest(errors))


def _time(value: Any, latest: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= latest:
        raise ValueError("not a time in the range")
    return value


def _text(value: Any, longest: int = MAX_NAME) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return clean(value, longest)
