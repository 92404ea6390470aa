"""Keep what one process knows and a store the same, away from every request. No policy: the store merges, the pool learns."""

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

# Between two exchanges with the store, in seconds, unless something urgent happens.
INTERVAL_SECONDS = 0.25
# The longest pause between two tries while the store is away.
LONGEST_PAUSE_SECONDS = 5.0
# So long the store may keep a start or an end waiting, and so long an exchange in between, which nobody waits for.
PATIENCE_SECONDS = 2.0
EXCHANGE_SECONDS = 10.0
PRUNE_EVERY_SECONDS = 600.0
SALT = "salt"
# What is dropped from the store: by prefix, after so many seconds without a change, and the oldest beyond a number.
LIMITS = (
    ("session:", 6 * 3600.0, 10_000),
    ("credential:", 30 * 86400.0, 10_000),
    ("usage:", 100 * 86400.0, 20_000),  # by then a day is part of its month's page (``usage/ledger.py``)
    ("events:", 7 * 86400.0, 100),
)


class Shared(Protocol):
    """What is kept the same in several processes. All calls come from the event loop, and none of them raises."""

    def changed(self) -> list[Row]:
        """Return what has changed here since the last call; what came by ``merge`` is no change."""

    def everything(self) -> list[Row]:
        """Return all that is known here."""

    def merge(self, rows: Sequence[Row], /) -> None:
        """Take in what the store holds: its own rows too, some of them again, and others that are not for it.

        The row ``salt`` is the first when it is among them. When its value is another one than before, the keys that
        were made with the old one are to be made anew; after this call everything is pushed again.
        """


class Together:
    """Several parts of a process's state that are shared through one store."""

    def __init__(self, *parts: Shared) -> None:
        self._parts = parts

    def changed(self) -> list[Row]:
        return [row for part in self._parts for row in part.changed()]

    def everything(self) -> list[Row]:
        return [row for part in self._parts for row in part.everything()]

    def merge(self, rows: Sequence[Row], /) -> None:
        for part in self._parts:
            part.merge(rows)


class Synchroniser:
    """Shares one process's state through a store. It never raises, and nothing waits for it but a start and an end.

    Four rules:
      1. what changes here is in the store after ``interval`` seconds at the latest, at once after ``wake``, and what
         changes there is here as soon;
      2. when the store is away, a warning says so, once, and a line at info says when it is back; in between the pauses
         grow to five seconds and nothing can shorten them;
      3. after it was away, or has lost rows, everything is pushed, not only what changed;
      4. of several exchanges only one is under way at a time.

    ``clock`` returns Unix seconds, as the stamps do.
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
        self._away = False
        self._pause = interval
        self._prune_at = 0.0
        self._one_at_a_time = asyncio.Lock()
        self._woken = asyncio.Event()
        self._closing = asyncio.Event()

    @property
    def kind(self) -> str:
        """What the store is: ``SQLite``, ``Redis`` or ``memory``."""
        return self._store.kind

    @property
    def away(self) -> bool:
        """Whether the store could not be had when it was last tried."""
        return self._away

    async def salt(self) -> str:
        """Return the salt that all processes of this store key their hashes with; the first process makes it.

        With the store away it is a random one, for now. Then the rows of this process have keys that no other process
        finds, and the other way round: it shares nothing. When the store is back, the row ``salt`` reaches ``merge``
        first of all rows, either with the salt that the others have or with this one, and everything is pushed again
        under the new keys. Rows under the old ones are pruned in time.
        """
        self._salt = secrets.token_hex(16)
        await self._attempt(self._agree_on_salt, self._patience)
        return self._salt

    async def load(self) -> None:
        """Take in what the store knows, once, before the first request. When it cannot be had in time, go on without."""
        if not self._away:  # else ``salt`` has just waited for it, and ``run`` comes back to it soon
            await self._attempt(self._pull, self._patience)

    def wake(self) -> None:
        """Push what has changed now and not only at the next interval."""
        self._woken.set()

    def look_again(self, *prefixes: str) -> None:
        """Take in once more what the store holds under these prefixes of the key: something is here now that was not."""
        self._again = prefixes
        self.wake()

    async def run(self) -> None:
        """Exchange rows with the store until ``close``."""
        while not self._closing.is_set():
            self._woken.clear()
            await self.exchange()
            if self._away:
                await _happens(self._closing, self._pause)
            else:
                await _happens(self._woken, self._interval)

    async def exchange(self) -> None:
        """Push what changed here and take in what changed there, once."""
        await self._attempt(self._exchange, EXCHANGE_SECONDS)

    async def close(self) -> None:
        """Push what has changed last, end ``run``, and close the store."""
        self._closing.set()
        self._woken.set()
        await self._attempt(self._push, self._patience)
        with suppress(StoreUnavailable, TimeoutError):
            async with asyncio.timeout(self._patience):
                await self._store.close()

    async def _attempt(self, work: Callable[[], Awaitable[None]], seconds: float) -> None:
        """Do something with the store, and remember whether it took part."""
        try:
            async with asyncio.timeout(seconds), self._one_at_a_time:
                await work()
        except StoreUnavailable as error:
            self._note_away(str(error))
        except TimeoutError:
            self._note_away(f"{self._store.kind} is not available: no answer within {seconds:g} s")
        except Exception as error:  # one row of another version must not end the sharing of all others
            self._note_away(f"{self._store.kind} is not usable: {type(error).__name__}")
            logger.debug("what went wrong with the store", exc_info=True)
        else:
            self._note_back()

    async def _agree_on_salt(self) -> None:
        rows, _ = await self._store.pull(0)
        if not any(row.key == SALT for row in rows):
            await self._store.push([self._salt_row()])
            rows, _ = await self._store.pull(0)
        self._learn_salt(rows)

    async def _exchange(self) -> None:
        if self._all_unpushed:
            await self._pull()  # first, so that everything is pushed under the keys of the store's salt
        await self._push()
        await self._pull()
        await self._pull_again()
        await self._prune()

    async def _push(self) -> None:
        rows = self._shared.changed()
        if self._all_unpushed:
            rows = [self._salt_row(), *self._shared.everything()] if self._salt else self._shared.everything()
        if rows:
            # Until it has succeeded: these rows are not told again as changed.
            self._all_unpushed = True
            await self._store.push(rows)
        self._all_unpushed = False

    async def _pull(self) -> None:
        before = self._cursor
        # Noted before the rows are merged: what cannot be merged once is not tried for ever.
        rows, self._cursor = await self._store.pull(before)
        if not rows and self._cursor == before:
            return
        lost = before != 0 and generation(before) != generation(self._cursor)
        if self._learn_salt(rows) or lost:
            self._all_unpushed = True
            self.wake()
        if rows:
            self._shared.merge(sorted(rows, key=lambda row: row.key != SALT))

    async def _pull_again(self) -> None:
        prefixes, self._again = self._again, ()
        if not prefixes:
            return
        try:
            rows, _ = await self._store.pull(0)
        except BaseException:  # a cut by the time limit, too: it is still to be done
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
        """Take over the store's salt; return whether the one that was used until now is another."""
        before = self._salt
        for row in rows:
            if row.key == SALT:
                with suppress(ValueError, TypeError, RecursionError):  # a broken one is none: everything else is still shared
                    self._salt = read_salt(row)
        return before is not None and before != self._salt

    def _note_away(self, reason: str) -> None:
        self._all_unpushed = True
        if self._away:
            self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
            return
        self._away = True
        self._pause = self._interval
        logger.warning("%s; going on with what this process knows until it is back", reason)

    def _note_back(self) -> None:
        if self._away:
            self._away = False
            logger.info("%s is back; the pool's state is shared again", self._store.kind)


async def _happens(event: asyncio.Event, seconds: float) -> None:
    """Wait for an event, but no longer than this."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
