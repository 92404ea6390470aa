"""A store in an SQLite file, for the processes of one machine."""

import asyncio
import fcntl
import logging
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from claude_proxy.state.rows import Row, read_row, to_bytes
from claude_proxy.state.store import StoreUnavailable, generation, make_cursor, new_generation, sequence

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

# How long SQLite waits for the transaction of another process.
BUSY_SECONDS = 2.0
# Identifies files of this module and their version: "CLP" and a number. Other files are not read.
VERSION = 0x434C5001
_BROKEN_CODES = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
# Keys and values are bytes, because SQLite's texts cannot contain unpaired surrogates.
_TABLES = (
    "CREATE TABLE rows (key BLOB PRIMARY KEY, stamp REAL NOT NULL, value BLOB NOT NULL, seq INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE INDEX rows_by_seq ON rows (seq)",
    "CREATE TABLE counter (generation INTEGER NOT NULL, seq INTEGER NOT NULL)",
)
_PUSH = """
    INSERT INTO rows (key, stamp, value, seq) VALUES (?, ?, ?, ?)
    ON CONFLICT (key) DO UPDATE SET stamp = excluded.stamp, value = excluded.value, seq = excluded.seq
    WHERE excluded.stamp > rows.stamp
"""
_PULL = "SELECT key, stamp, value FROM rows WHERE seq > ? ORDER BY seq"
_READ = "SELECT key, stamp, value FROM rows WHERE key = ?"
_PRUNE = """
    DELETE FROM rows WHERE key >= :first AND key < :end AND (stamp < :older_than OR key NOT IN (
        SELECT key FROM rows WHERE key >= :first AND key < :end ORDER BY stamp DESC, key DESC LIMIT :keep
    ))
"""


class _Broken(sqlite3.DatabaseError):
    """The file cannot be used by this module."""


class SqliteStore:
    """Rows in a file, for the processes of one machine.

    The file is opened by the first call. A corrupt or foreign file is moved to ``….broken``, with a warning. A file that was
    moved or deleted while the process runs is created again. Files are opened and moved while holding a lock file, so that only
    one of several processes moves a corrupt file.

    All work runs in a separate thread of this store, so a slow disk blocks neither the event loop nor the shared executor.
    """

    kind = "SQLite"

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._thread = ThreadPoolExecutor(1, "claude-proxy-store")
        self._closed = False
        # Used by the thread only.
        self._connection: sqlite3.Connection | None = None
        self._opened: tuple[int, int] | None = None

    async def push(self, rows: Sequence[Row]) -> None:
        def work(connection: sqlite3.Connection) -> None:
            connection.execute("BEGIN IMMEDIATE")
            (last,) = connection.execute("SELECT seq FROM counter").fetchone()
            connection.executemany(
                _PUSH,
                [(to_bytes(row.key), row.stamp, to_bytes(row.value), seq) for seq, row in enumerate(rows, last + 1)],
            )
            connection.execute("UPDATE counter SET seq = ?", (last + len(rows),))

        if rows:
            await self._call(work)

    async def pull(self, cursor: int) -> tuple[list[Row], int]:
        def work(connection: sqlite3.Connection) -> tuple[list[Row], int]:
            connection.execute("BEGIN")
            current, last = connection.execute("SELECT generation, seq FROM counter").fetchone()
            since = sequence(cursor) if generation(cursor) == current else 0
            found = connection.execute(_PULL, (since,))
            return [row for parts in found if (row := read_row(*parts))], make_cursor(current, last)

        return await self._call(work)

    async def read(self, keys: Sequence[str]) -> list[Row]:
        def work(connection: sqlite3.Connection) -> list[Row]:
            connection.execute("BEGIN")
            found = [connection.execute(_READ, (to_bytes(key),)).fetchone() for key in keys]
            return [row for parts in found if parts and (row := read_row(*parts))]

        return await self._call(work)

    async def prune(self, prefix: str, older_than: float, keep: int) -> None:
        # No encoded text contains 0xFF, so this is larger than every key with the prefix.
        first, end = to_bytes(prefix), to_bytes(prefix) + b"\xff"

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(_PRUNE, {"first": first, "end": end, "older_than": older_than, "keep": keep})

        await self._call(work)

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            await asyncio.get_running_loop().run_in_executor(self._thread, self._disconnect)
            self._thread.shutdown(wait=False)

    async def _call(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        """Do some work in a transaction in the thread, and translate the errors of SQLite and the file system."""
        if self._closed:
            raise StoreUnavailable(self.kind, "closed")
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._mend, work)
        except (sqlite3.Error, OSError, UnicodeError) as error:
            raise StoreUnavailable(self.kind, f"{self._path}: {error}") from None

    def _mend(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        """Do some work; if the file is broken, do it again with a new file."""
        try:
            return self._transact(work)
        except _Broken as broken:
            self._move_aside(broken)
        return self._transact(work)

    def _transact(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        try:
            with self._connected() as connection:
                return work(connection)
        except sqlite3.Error as error:
            # The next call starts with a new connection, whatever the error was.
            self._disconnect()
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in _BROKEN_CODES:
                raise _Broken(str(error)) from None
            raise

    def _connected(self) -> sqlite3.Connection:
        if self._connection is not None and _identity(self._path) == self._opened:
            return self._connection
        self._disconnect()
        with self._locked():
            # Never open an existing file here: closing it would drop the locks of another connection of this process.
            with suppress(FileExistsError):
                os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            self._opened = _identity(self._path)
            self._connection = sqlite3.connect(self._path, timeout=BUSY_SECONDS, isolation_level=None)
            self._connection.text_factory = bytes  # texts in a foreign row may not be UTF-8
            _prepare(self._connection)
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    def _move_aside(self, broken: _Broken) -> None:
        with self._locked():
            if _identity(self._path) != self._opened:
                return  # another process was first
            for suffix in ("", "-wal", "-shm"):
                with suppress(FileNotFoundError):
                    Path(f"{self._path}{suffix}").replace(f"{self._path}.broken{suffix}")
        logger.warning("state file %s: %s; moved to %s.broken, starting with an empty one", self._path, broken, self._path)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock file; the lock ends with the process at the latest."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(f"{self._path}.lock", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


def _prepare(connection: sqlite3.Connection) -> None:
    """Create the tables in an empty file; raise ``_Broken`` for a foreign file."""
    connection.execute("PRAGMA synchronous = NORMAL")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if (version, tables) == (0, 0):
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            for statement in _TABLES:
                connection.execute(statement)
            connection.execute("INSERT INTO counter VALUES (?, 0)", (new_generation(),))
            connection.execute(f"PRAGMA user_version = {VERSION}")
    elif version != VERSION:
        raise _Broken(f"its schema version is {version}, not {VERSION}")
    # After the check, because this changes the file.
    connection.execute("PRAGMA journal_mode = WAL")


def _identity(path: Path) -> tuple[int, int] | None:
    """Return the device and inode of a file, which distinguish it from a later file with the same name; None without a file."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
