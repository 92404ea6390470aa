"""Keeps the state of a process and a store in sync, independently of requests. No policy: the store and the pool merge."""

import asyncio
import json
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Protocol

from claude_proxy.state.rows import Row, read_salt
from claude_proxy.state.store import Store, StoreUnavailable, generation

logger = logging.getLogger(__name__)

# The interval between two exchanges with the store, in seconds.
INTERVAL_SECONDS = 0.25
# The longest pause between two attempts while the store is unavailable.
LONGEST_PAUSE_SECONDS = 5.0
# The time limits for the store at start and stop, and for an exchange in between, in seconds.
PATIENCE_SECONDS = 2.0
EXCHANGE_SECONDS = 10.0
PRUNE_EVERY_SECONDS = 600.0
SALT = "salt"
# What is removed from the store: prefix, seconds without a change, and the number of rows to keep.
LIMITS = (
    ("session:", 6 * 3600.0, 10_000),
    ("credential:", 30 * 86400.0, 10_000),
    ("usage:", 100 * 86400.0, 20_000),  # of version 0.1.0 (``history/earlier.py``)
    # By then an hour is part of its day's page, and a day of its month's (``history/closing.py``).
    ("history-hour:", 10 * 86400.0, 20_000),
    ("history-day:", 440 * 86400.0, 1_000),
    ("history-month:", 3660 * 86400.0, 200),
    ("events:", 7 * 86400.0, 100),
    ("requests:", 3600.0, 200),
    ("errors:", 3600.0, 200),
    ("running:", 3600.0, 200),
    ("recent:", 30 * 86400.0, 400),  # pages of the latest requests (``usage/recent_requests.py``)
    ("spend:", 62 * 86400.0, 20_000),  # a month and some days to spare
    # A row of a sign-in has the time of the last refresh but one, of which there may be 90 days between two.
    ("signin:", 190 * 86400.0, 20_000),
    ("signout:", 91 * 86400.0, 20_000),
    ("suspect:", 7200.0, 20_000),
    ("browser:", 1200.0, 50_000),  # sessions of browsers at the sign-in page, which last ten minutes
    ("device:", 1200.0, 50_000),  # codes of `/login`, which are valid for ten minutes
    # Objects at Anthropic (``credentials/made_objects.py``), and which process has counted the results of a batch.
    ("batch:", 40 * 86400.0, 20_000),
    ("batch-counted:", 40 * 86400.0, 20_000),
    ("file:", 400 * 86400.0, 20_000),
)


class Shared(Protocol):
    """State that is kept the same in several processes. All calls come from the event loop, and none of them raises."""

    def changed(self) -> list[Row]:
        """Return what has changed here since the last call, without what ``merge`` has changed."""

    def everything(self) -> list[Row]:
        """Return the whole state."""

    def merge(self, rows: Sequence[Row], /) -> None:
        """Apply rows of the store, which may include own rows, repeated rows, and rows of other parts.

        The row ``salt`` comes first if it is included. If its value has changed, all keys must be derived from it again;
        everything is pushed again after this call.
        """


class CombinedState:
    """Combines several parts of a process's state for one store."""

    def __init__(self, *parts: Shared) -> None:
        self._parts = parts

    def changed(self) -> list[Row]:
        return [row for part in self._parts for row in part.changed()]

    def everything(self) -> list[Row]:
        return [row for part in self._parts for row in part.everything()]

    def merge(self, rows: Sequence[Row], /) -> None:
        for part in self._parts:
            part.merge(rows)


class Synchronizer:
    """Shares one process's state through a store. It never raises, and only the start and the stop wait for it.

    Four rules:
      1. A change here reaches the store within ``interval`` seconds, or immediately after ``wake``; a change in the store
         reaches this process as soon.
      2. When the store becomes unavailable, one warning is logged, and one info line when it is back. In between, the pauses
         grow to five seconds and cannot be shortened.
      3. After the store was unavailable or has lost rows, the whole state is pushed.
      4. Only one exchange runs at a time.

    ``clock`` returns Unix seconds, like the stamps.
    """

    def __init__(
        self,
        store: Store,
        shared: Shared,
        *,
        interval: float = INTERVAL_SECONDS,
        patience: float = PATIENCE_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._shared = shared
        self._interval = interval
        self._patience = patience
        self._clock = clock
        self._cursor = 0
        self._salt: str | None = None
        self._all_unpushed = False
        self._again: tuple[str, ...] = ()
        self._unavailable = False
        self._pause = interval
        self._prune_at = 0.0
        self._one_at_a_time = asyncio.Lock()
        # The exchange that has not begun yet, for which several callers of ``confirm`` wait.
        self._awaited: asyncio.Task[bool] | None = None
        self._woken = asyncio.Event()
        self._closing = asyncio.Event()

    @property
    def kind(self) -> str:
        """The kind of store: ``SQLite``, ``Redis`` or ``memory``."""
        return self._store.kind

    @property
    def unavailable(self) -> bool:
        """Whether the last attempt to use the store failed."""
        return self._unavailable

    async def salt(self) -> str:
        """Return the salt for the hashes of all processes that share the store; the first process creates it.

        While the store is unavailable, a random salt is used. This process and the others then do not recognize each other's
        rows, so nothing is shared. When the store is back, ``merge`` receives the row ``salt`` first, either with the salt of
        the others or with this one, and everything is pushed again with new keys. Rows with old keys are pruned later.
        """
        self._salt = secrets.token_hex(16)
        await self._attempt(self._agree_on_salt, self._patience)
        return self._salt

    async def load(self) -> None:
        """Apply the store's rows once, before the first request. If the store is not available in time, continue without it."""
        if not self._unavailable:  # otherwise ``salt`` has just waited in vain, and ``run`` will try again soon
            await self._attempt(self._pull, self._patience)

    def wake(self) -> None:
        """Push changes now instead of at the next interval."""
        self._woken.set()

    def reload(self, *prefixes: str) -> None:
        """Apply the store's rows with these key prefixes again, because this process now has state that it lacked before."""
        self._again = prefixes
        self.wake()

    async def run(self) -> None:
        """Exchange rows with the store until ``close``."""
        while not self._closing.is_set():
            self._woken.clear()
            await self.exchange()
            if self._unavailable:
                await _happens(self._closing, self._pause)
            else:
                await _happens(self._woken, self._interval)

    async def exchange(self) -> None:
        """Push the changes of this process and apply those of others, once."""
        await self._attempt(self._exchange, EXCHANGE_SECONDS)

    async def confirm(self) -> bool:
        """Wait for an exchange that begins after this call. Return whether all changes so far were pushed and read.

        Calls at the same time wait for one exchange. While the store is unavailable, return False without waiting.
        """
        if self._unavailable:
            return False
        if self._awaited is None:
            self._awaited = asyncio.ensure_future(self._exchange_for_all())
        return await asyncio.shield(self._awaited)

    async def _exchange_for_all(self) -> bool:
        awaited = self._awaited

        def begins() -> Awaitable[None]:
            self._awaited = None  # later callers need a later exchange
            return self._exchange()

        try:
            return await self._attempt(begins, EXCHANGE_SECONDS)
        finally:
            if self._awaited is awaited:
                self._awaited = None

    async def close(self) -> None:
        """Push the last changes, end ``run``, and close the store."""
        self._closing.set()
        self._woken.set()
        await self._attempt(self._push, self._patience)
        with suppress(StoreUnavailable, TimeoutError):
            async with asyncio.timeout(self._patience):
                await self._store.close()

    async def _attempt(self, work: Callable[[], Awaitable[None]], seconds: float) -> bool:
        """Use the store; record and return whether it was available."""
        try:
            async with asyncio.timeout(seconds), self._one_at_a_time:
                await work()
        except StoreUnavailable as error:
            self._record_unavailable(str(error))
        except TimeoutError:
            self._record_unavailable(f"{self._store.kind} is not available: no response within {seconds:g} s")
        except Exception as error:  # a row of another version must not stop the sharing of all other rows
            self._record_unavailable(f"{self._store.kind} is not usable: {type(error).__name__}")
            logger.debug("the error of the store", exc_info=True)
        else:
            self._record_available()
            return True
        return False

    async def _agree_on_salt(self) -> None:
        rows, _ = await self._store.pull(0)
        if not any(row.key == SALT for row in rows):
            await self._store.push([self._salt_row()])
            rows, _ = await self._store.pull(0)
        self._learn_salt(rows)

    async def _exchange(self) -> None:
        if self._all_unpushed:
            await self._pull()  # first, so that everything is pushed with keys from the store's salt
        await self._push()
        await self._pull()
        await self._reload()
        await self._prune()

    async def _push(self) -> None:
        rows = self._shared.changed()
        if self._all_unpushed:
            rows = [self._salt_row(), *self._shared.everything()] if self._salt else self._shared.everything()
        if rows:
            # Set until the push succeeds, because ``changed`` does not return these rows again.
            self._all_unpushed = True
            await self._store.push(rows)
        self._all_unpushed = False

    async def _pull(self) -> None:
        before = self._cursor
        # The cursor is stored before the merge: rows that cannot be merged are not tried forever.
        rows, self._cursor = await self._store.pull(before)
        if not rows and self._cursor == before:
            return
        lost = before != 0 and generation(before) != generation(self._cursor)
        if self._learn_salt(rows) or lost:
            self._all_unpushed = True
            self.wake()
        if rows:
            self._shared.merge(sorted(rows, key=lambda row: row.key != SALT))

    async def _reload(self) -> None:
        prefixes, self._again = self._again, ()
        if not prefixes:
            return
        try:
            rows, _ = await self._store.pull(0)
        except BaseException:  # including the time limit: the work is still pending
            self._again = prefixes
            raise
        self._shared.merge([row for row in rows if row.key.startswith(prefixes)])

    async def _prune(self) -> None:
        now = self._clock()
        if now < self._prune_at:
            return
        for prefix, age, keep in LIMITS:
            await self._store.prune(prefix, now - age, keep)
        self._prune_at = now + PRUNE_EVERY_SECONDS

    def _salt_row(self) -> Row:
        return Row(SALT, 0.0, json.dumps(self._salt))

    def _learn_salt(self, rows: Sequence[Row]) -> bool:
        """Use the store's salt; return whether it differs from the previous one."""
        before = self._salt
        for row in rows:
            if row.key == SALT:
                with suppress(ValueError, TypeError, RecursionError):  # an invalid salt is ignored, everything else is shared
                    self._salt = read_salt(row)
        return before is not None and before != self._salt

    def _record_unavailable(self, reason: str) -> None:
        self._all_unpushed = True
        if self._unavailable:
            self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
            return
        self._unavailable = True
        self._pause = self._interval
        logger.warning("%s; continuing with the state of this process until it is back", reason)

    def _record_available(self) -> None:
        if self._unavailable:
            self._unavailable = False
            logger.info("%s is back; the pool's state is shared again", self._store.kind)


async def _happens(event: asyncio.Event, seconds: float) -> None:
    """Wait for an event, at most for ``seconds``."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
