"""The database of the history: one SQLite file beside the state file, used in one thread. Its errors never reach a request."""

import logging
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from claude_proxy.state.sqlite_file import Closed, SqliteFile, create_or_check

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

# Identifies files of this module and their version: "CLH" and a number. Other files are not read.
VERSION = 0x434C4801
NAME = "history.sqlite"
# What is shown in place of the history.
UNAVAILABLE = "The history is not available now; the log of the proxy says why."


class HistoryUnavailable(Exception):
    """The database cannot be used now."""


class HistoryDatabase:
    """``path`` is the file; without one, everything is kept in memory and ends with the process.

    ``tables`` are the statements that create tables and indexes, each with ``IF NOT EXISTS``: the parts of the history have
    their own. A corrupt or foreign file is moved to ``….broken`` with one warning (``state/sqlite_file.py``).
    """

    def __init__(self, path: Path | None, tables: Sequence[str]) -> None:
        self._tables = tuple(tables)
        self._file = SqliteFile(path, "history file", self._prepare)
        # A second connection in a thread of its own: a view of a year must not delay what is written. Memory has only one.
        self._reader = SqliteFile(path, "history file", self._prepare) if path else self._file
        self._unavailable = False

    @property
    def path(self) -> Path | None:
        """The file; None if everything is kept in memory."""
        return self._file.path

    @property
    def unavailable(self) -> bool:
        """Whether the last work failed."""
        return self._unavailable

    async def run(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        """Do some work in the thread and return its result; raise ``HistoryUnavailable`` if that is not possible.

        A transaction that the work begins is committed, or rolled back if it raises. When the database becomes unavailable, one
        warning is logged, and one info line when it is back.
        """
        return await self._run(self._file, work)

    async def read(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        """Do work that only reads and may take long, as ``run`` does, beside what is written."""
        return await self._run(self._reader, work)

    async def _run(self, file: SqliteFile, work: Callable[[sqlite3.Connection], Result]) -> Result:
        try:
            found = await file.run(work)
        except Closed:
            raise HistoryUnavailable("closed") from None
        except (sqlite3.Error, OSError, OverflowError, UnicodeError) as error:
            if not self._unavailable:
                self._unavailable = True
                logger.warning(
                    "history file %s is not available: %s; usage is kept in memory until it is back", self.path, error
                )
            raise HistoryUnavailable(str(error)) from None
        if self._unavailable:
            self._unavailable = False
            logger.info("history file %s is back", self.path)
        return found

    async def close(self) -> None:
        """Close the file after the work that was handed in."""
        await self._reader.close()
        await self._file.close()

    def _prepare(self, connection: sqlite3.Connection) -> None:
        create_or_check(connection, VERSION, self._create)
        self._create(connection)

    def _create(self, connection: sqlite3.Connection) -> None:
        for statement in self._tables:
            connection.execute(statement)
