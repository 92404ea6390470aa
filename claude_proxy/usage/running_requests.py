"""The requests in progress of the whole proxy, by user. Plain and synchronous; two clocks are arguments.

Three rules:
  1. A process counts its own requests, and shares the counts at most once in ``SHARE_SECONDS``.
  2. The counts of another process apply while its row is renewed; those of one that was killed apply ``ALIVE_SECONDS``.
  3. Counts of tokens are left out.
"""

import json
import math
import secrets
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import NamedTuple

from claude_proxy.config.users import folded
from claude_proxy.state.rows import Row, skipping_unreadable
from claude_proxy.text import clean

PREFIX = "running:"
# How often changes are shared, how often a row is renewed, and how long it applies without that, in seconds.
SHARE_SECONDS = 1.0
RENEW_SECONDS = 10.0
ALIVE_SECONDS = 30.0
# The maximum number of processes and of their users whose counts are kept, and the largest count of one user.
MAX_WRITERS = 200
MAX_USERS = 10_000
MOST = 1_000_000


class _Other(NamedTuple):
    """The counts of another process, and when they were last seen, by this process's own clock."""

    stamp: float
    seen: float
    users: dict[str, int]


class _Counted(AbstractContextManager[None]):
    """A request in progress. A class, because a generator costs several times as much for each request."""

    __slots__ = ("_running", "_user")

    def __init__(self, running: "RunningRequests", user: str) -> None:
        self._running = running
        self._user = user

    def __enter__(self) -> None:
        self._running.count(self._user, 1)

    def __exit__(self, *_: object) -> None:
        self._running.count(self._user, -1)


class RunningRequests:
    """One per process: a part of its shared state. ``clock`` returns Unix seconds, like the stamps."""

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        writer: str = "",
    ) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._writer = writer or secrets.token_hex(8)
        self._own: dict[str, int] = {}
        self._others: dict[str, _Other] = {}
        self._stamp = 0.0
        self._is_changed = False
        self._shared_at = -math.inf

    def counted(self, user: str) -> AbstractContextManager[None]:
        """Return a context that counts a request of a user until it ends."""
        return _Counted(self, user)

    def count(self, user: str, change: int) -> None:
        """Change the number of a user's requests in progress."""
        count = self._own.get(user, 0) + change
        if count:
            self._own[user] = count
        else:
            del self._own[user]
        self._is_changed = True

    def users(self) -> dict[str, int]:
        """Return the number of requests in progress of each user who has some, in all processes."""
        found = self._shown()
        now = self._monotonic()
        for other in self._others.values():
            if now - other.seen < ALIVE_SECONDS:
                for user, count in other.users.items():
                    found[user] = found.get(user, 0) + count
        return found

    def _shown(self) -> dict[str, int]:
        """Return the counts of this process by the name under which a user's requests are counted."""
        found: dict[str, int] = {}
        for user, count in self._own.items():
            name = clean(folded(user))
            found[name] = found.get(name, 0) + count
        return found

    # --- Sharing -------------------------------------------------------------------------------------------------------------

    def changed(self) -> list[Row]:
        """Return this process's counts, if they have changed or have to be renewed."""
        since = self._monotonic() - self._shared_at
        if since < SHARE_SECONDS or not (self._is_changed or (self._own and since >= RENEW_SECONDS)):
            return []
        self._is_changed = False
        self._shared_at = self._monotonic()
        return self.everything()

    def flush_next(self) -> None:
        """Let the next ``changed`` return the counts, because it may be the last one."""
        self._shared_at = -math.inf

    def everything(self) -> list[Row]:
        """Return this process's counts."""
        if not self._own and not self._stamp:
            return []
        self._stamp = max(self._clock(), math.nextafter(self._stamp, math.inf))
        return [Row(f"{PREFIX}{self._writer}", self._stamp, json.dumps(self._shown()))]

    def merge(self, rows: Iterable[Row], /) -> None:
        """Apply the counts of other processes. Rows of other parts, and invalid ones, are skipped."""
        for row in rows:
            writer = row.key.removeprefix(PREFIX)
            if writer in (row.key, self._writer):
                continue
            with skipping_unreadable(row):
                self._merge_row(writer, row)

    def _merge_row(self, writer: str, row: Row) -> None:
        there = self._others.get(writer)
        if there is not None and row.stamp <= there.stamp:
            return
        # The first row of a process may be old: it was read from the store at the start.
        elapsed = 0.0 if there is not None else max(0.0, self._clock() - row.stamp)
        users = {clean(folded(user)): _count(count) for user, count in [*json.loads(row.value).items()][:MAX_USERS]}
        self._others[writer] = _Other(row.stamp, self._monotonic() - elapsed, users)
        if len(self._others) > MAX_WRITERS:
            del self._others[min(self._others, key=lambda one: self._others[one].seen)]


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST:
        raise ValueError("not a count")
    return value
