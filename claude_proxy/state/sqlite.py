"""A store in an SQLite file, for the processes of one machine."""

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from claude_proxy.state.rows import Row, read_row, to_bytes
from claude_proxy.state.sqlite_file import Closed, SqliteFile, create_or_check
from claude_proxy.state.store import StoreUnavailable, generation, make_cursor, new_generation, sequence

Result = TypeVar("Result")

# Identifies files of this module and their version: "CLP" and a number. Other files are not read.
VERSION = 0x434C5001
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


class SqliteStore:
    """Rows in a file, for the processes of one machine. ``SqliteFile`` has what happens to a file that cannot be used."""

    kind = "SQLite"

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._file = SqliteFile(self._path, "state file", _prepare)

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
        await self._file.close()

    async def _call(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        """Do some work in a transaction in the thread, and translate the errors of SQLite and the file system."""
        try:
            return await self._file.run(work)
        except Closed:
            raise StoreUnavailable(self.kind, "closed") from None
        except (sqlite3.Error, OSError, UnicodeError) as error:
            raise StoreUnavailable(self.kind, f"{self._path}: {error}") from None


def _prepare(connection: sqlite3.Connection) -> None:
    connection.text_factory = bytes  # texts in a foreign row may not be UTF-8
    create_or_check(connection, VERSION, _create)


def _create(connection: sqlite3.Connection) -> None:
    for statement in _TABLES:
        connection.execute(statement)
    connection.execute("INSERT INTO counter VALUES (?, 0)", (new_generation(),))
