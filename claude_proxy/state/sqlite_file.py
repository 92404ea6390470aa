"""One SQLite database for the processes of a machine: opened late, replaced when broken, used in one thread."""

import asyncio
import fcntl
import logging
import os
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

# How long SQLite waits for the transaction of another process.
BUSY_SECONDS = 2.0
_BROKEN_CODES = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


class Broken(sqlite3.DatabaseError):
    """The file cannot be used: it is corrupt, or another program's."""


class Closed(sqlite3.ProgrammingError):
    """The database was closed before the call."""


class SqliteFile:
    """A database in a file, or without a path in memory.

    The file is opened by the first call. A corrupt or foreign file is moved to ``….broken``, with a warning. A file that was
    moved or deleted while the process runs is created again. Files are opened and moved while holding a lock file, so that only
    one of several processes moves a corrupt file.

    All work runs in a separate thread of this object, so a slow disk blocks neither the event loop nor the shared executor.

    ``name`` is what the file is called in the log. ``prepare`` gets each new connection; it creates the tables of an empty
    database and raises ``Broken`` for a foreign one.
    """

    def __init__(self, path: Path | None, name: str, prepare: Callable[[sqlite3.Connection], None]) -> None:
        self.path = path
        self._name = name
        self._prepare = prepare
        self._thread = ThreadPoolExecutor(1, f"claude-proxy-{name.replace(' ', '-')}")
        self._closed = False
        # Used by the thread only.
        self._connection: sqlite3.Connection | None = None
        self._opened: tuple[int, int] | None = None

    async def run(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        """Do some work in the thread; a transaction that it begins is committed, or rolled back after an error.

        Raises ``sqlite3.Error`` (``Closed`` after ``close``) or OSError. If the file turns out to be broken, the work is done
        again with an empty one.
        """
        if self._closed:
            raise Closed("closed")
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._mend, work)

    async def close(self) -> None:
        """Close the connection after the work that was handed in. Closing again does nothing."""
        if not self._closed:
            self._closed = True
            await asyncio.get_running_loop().run_in_executor(self._thread, self._disconnect)
            self._thread.shutdown(wait=False)

    def _mend(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        """Do some work; if the file is broken, do it again with a new file."""
        try:
            return self._transact(work)
        except Broken as broken:
            self._move_aside(broken)
        return self._transact(work)

    def _transact(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        try:
            with self._connected() as connection:
                return work(connection)
        except sqlite3.Error as error:
            # The next call starts with a new connection, whatever the error was; a database in memory would be lost with it.
            if self.path is not None:
                self._disconnect()
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in _BROKEN_CODES:
                raise Broken(str(error)) from None
            raise

    def _connected(self) -> sqlite3.Connection:
        if self._connection is not None and (self.path is None or _identity(self.path) == self._opened):
            return self._connection
        self._disconnect()
        if self.path is None:
            self._connection = sqlite3.connect(":memory:", isolation_level=None)
            self._prepare(self._connection)
            return self._connection
        with self._locked(self.path):
            # Never open an existing file here: closing it would drop the locks of another connection of this process.
            with suppress(FileExistsError):
                os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            self._opened = _identity(self.path)
            self._connection = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None)
            self._prepare(self._connection)
            # After the check, because this changes the file.
            self._connection.execute("PRAGMA journal_mode = WAL")
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    def _move_aside(self, broken: Broken) -> None:
        if self.path is None:
            return
        with self._locked(self.path):
            if _identity(self.path) != self._opened:
                return  # another process was first
            for suffix in ("", "-wal", "-shm"):
                with suppress(FileNotFoundError):
                    Path(f"{self.path}{suffix}").replace(f"{self.path}.broken{suffix}")
        logger.warning("%s %s: %s; moved to %s.broken, starting with an empty one", self._name, self.path, broken, self.path)

    @contextmanager
    def _locked(self, path: Path) -> Iterator[None]:
        """Hold the lock file; the lock ends with the process at the latest."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(f"{path}.lock", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


def create_or_check(connection: sqlite3.Connection, version: int, create: Callable[[sqlite3.Connection], None]) -> None:
    """Create the tables in an empty database, in one transaction; raise ``Broken`` for one of another version or program."""
    connection.execute("PRAGMA synchronous = NORMAL")
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if (found, tables) == (0, 0):
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            create(connection)
            connection.execute(f"PRAGMA user_version = {version}")
    elif found != version:
        raise Broken(f"its schema version is {found}, not {version}")


def _identity(path: Path) -> tuple[int, int] | None:
    """Return the device and inode of a file, which distinguish it from a later file with the same name; None without a file."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
