"""Writes what is new to the history's database, once a second and independently of requests."""

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

from claude_proxy.history.database import HistoryDatabase, HistoryUnavailable

logger = logging.getLogger(__name__)

# A process that is killed loses what it has recorded in this time, in seconds.
FLUSH_SECONDS = 0.9

Work = Callable[[sqlite3.Connection], None]


class Part(Protocol):
    """What is written together. Both methods are called from the event loop, in turns, and do not raise."""

    def take(self) -> Work | None:
        """Return the work that writes what is new; None if nothing is.

        The work runs in the database's thread, inside a transaction with that of other parts, so it needs its own copy of
        everything that the event loop may change.
        """

    def written(self, *, done: bool) -> None:
        """Whether the work of the last ``take`` is committed. If it is not, the next ``take`` returns the same again."""


class Writer:
    """Writes several parts to one database.

    Three rules:
      1. What a part has when ``flush`` is called is committed when it returns True.
      2. One flush runs at a time, in one transaction for all parts.
      3. While the database is unavailable, every flush tries again; nothing is raised.
    """

    def __init__(self, database: HistoryDatabase, parts: Sequence[Part], *, interval: float = FLUSH_SECONDS) -> None:
        self._database = database
        self._parts = tuple(parts)
        self._interval = interval
        self._one_at_a_time = asyncio.Lock()
        self._closing = asyncio.Event()
        self._is_failing = False

    async def run(self) -> None:
        """Flush in every interval until ``close``."""
        while not self._closing.is_set():
            await self.flush()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._interval):
                    await self._closing.wait()

    async def flush(self) -> bool:
        """Write what is new; return whether all of it is committed."""
        async with self._one_at_a_time:
            taken = [(part, work) for part in self._parts if (work := part.take()) is not None]
            if not taken:
                return True
            done = False
            try:
                await self._database.run(lambda connection: _write(connection, [work for _, work in taken]))
                done = True
                self._is_failing = False
            except HistoryUnavailable:
                pass  # which the database has logged
            except Exception:  # an error in one part must end neither this loop nor what serves requests
                if not self._is_failing:
                    logger.exception("a part of the history cannot be written; trying again")
                self._is_failing = True
            finally:
                for part, _ in taken:
                    part.written(done=done)
            return done

    async def close(self) -> None:
        """End ``run``, write what is new, and close the database."""
        self._closing.set()
        await self.flush()
        await self._database.close()


def _write(connection: sqlite3.Connection, works: Sequence[Work]) -> None:
    connection.execute("BEGIN IMMEDIATE")
    for work in works:
        work(connection)
