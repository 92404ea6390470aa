"""Where the pool's state lives outside of the process: rows under keys, in memory, in an SQLite file or in Redis.

Four rules, the same for all three, each with a test that runs against all three:
  1. of two rows with one key the one with the larger stamp wins; with equal stamps the one that is there stays, so
     pushing again is harmless, and the first writer of a row with stamp 0 wins for ever;
  2. a cursor stands for a moment in the life of one store: pulling with it gives what changed since, pulling with 0,
     or after the store has lost its rows, gives everything;
  3. a key or a value is any text, half a surrogate pair included: clients choose what a session is called;
  4. what goes wrong is a ``StoreUnavailable``, and its text holds no secret: the URL of a Redis may hold a password.
"""

import asyncio
import fcntl
import json
import logging
import math
import os
import secrets
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import takewhile
from pathlib import Path
from typing import Any, Protocol, TypeVar

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.maint_notifications import MaintNotificationsConfig

from claude_proxy.secret import Secret
from claude_proxy.state.rows import Row

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

# A cursor holds in its lower bits how many changes the store has seen, and above them the store's generation: a random
# number that is drawn anew when the store may have lost rows.
_SEQUENCE_BITS = 48


# A salt has 32 characters, and the largest page of usage some hundred kilobytes.
MAX_SALT = 200
MAX_VALUE_BYTES = 4 * 1024 * 1024


def read_salt(row: Row) -> str:
    """Return the salt that a row holds; raise ValueError for one that holds none."""
    salt = json.loads(row.value)
    if not isinstance(salt, str) or not 0 < len(salt) <= MAX_SALT or not salt.isprintable():
        raise ValueError("no salt")
    return salt


def read_row(key: object, stamp: object, value: object) -> Row | None:
    """Return a row as it was found in a store; None for what no process can have written, which is passed over."""
    if not isinstance(key, bytes) or not isinstance(stamp, int | float) or not isinstance(value, bytes):
        return None
    if len(value) > MAX_VALUE_BYTES or not math.isfinite(stamp):
        return None
    try:
        return Row(_to_text(key), float(stamp), _to_text(value))
    except (UnicodeError, OverflowError):
        return None


class StoreUnavailable(Exception):
    """The store cannot be used now. ``kind`` says which one it is; neither it nor the text holds a secret."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(f"{kind} is not available: {reason}")
        self.kind = kind


class Store(Protocol):
    """Rows that outlive the process or are seen by several. Nothing is raised but ``StoreUnavailable``."""

    kind: str

    async def push(self, rows: Sequence[Row]) -> None:
        """Merge rows into the store by rule 1. When this fails, some of them may have been merged."""

    async def pull(self, cursor: int) -> tuple[list[Row], int]:
        """Return the rows that changed after the cursor, in that order, and the new cursor. Own rows come back too.

        Of what was pruned nothing is said. When the new cursor is of another ``generation``, rows may have been lost.
        """

    async def prune(self, prefix: str, older_than: float, keep: int) -> None:
        """Drop the rows under a prefix of the key whose stamp is below ``older_than``, then the oldest beyond ``keep``."""

    async def close(self) -> None:
        """Let go of what is open. Closing again does nothing."""


def generation(cursor: int) -> int:
    """Return which life of the store a cursor belongs to; 0 for the cursor 0, which belongs to none."""
    return cursor >> _SEQUENCE_BITS


def _new_generation() -> int:
    return 1 + secrets.randbelow(2**_SEQUENCE_BITS - 1)


def _cursor(of: int, sequence: int) -> int:
    return of << _SEQUENCE_BITS | sequence


def _sequence(cursor: int) -> int:
    return cursor & (1 << _SEQUENCE_BITS) - 1


def _to_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _to_text(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")


class MemoryStore:
    """Rows in this process, for pools that share one event loop."""

    kind = "memory"

    def __init__(self) -> None:
        self._generation = _new_generation()
        self._sequence = 0
        # In the order of their change: a row that changes moves to the end.
        self._rows: dict[str, tuple[int, Row]] = {}

    async def push(self, rows: Sequence[Row]) -> None:
        for row in rows:
            there = self._rows.get(row.key)
            if there is None or row.stamp > there[1].stamp:
                self._sequence += 1
                self._rows.pop(row.key, None)
                self._rows[row.key] = self._sequence, row

    async def pull(self, cursor: int) -> tuple[list[Row], int]:
        since = _sequence(cursor) if generation(cursor) == self._generation else 0
        newest_first = takewhile(lambda entry: entry[0] > since, reversed(self._rows.values()))
        return [row for _, row in newest_first][::-1], _cursor(self._generation, self._sequence)

    async def prune(self, prefix: str, older_than: float, keep: int) -> None:
        found = sorted(
            (row for _, row in self._rows.values() if row.key.startswith(prefix)),
            key=lambda row: (row.stamp, _to_bytes(row.key)),
        )
        surplus = len(found) - keep
        for place, row in enumerate(found):
            if row.stamp < older_than or place < surplus:
                del self._rows[row.key]

    async def close(self) -> None:
        """Other pools may still use it."""


# How long SQLite waits for another process's transaction.
SQLITE_BUSY_SECONDS = 2.0
# Marks a file as one of this module, in this shape: "CLP" and a number. A file with another mark is not read.
SQLITE_VERSION = 0x434C5001
_BROKEN_CODES = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
# Keys and values are bytes, because SQLite's texts cannot hold half a surrogate pair.
_SQLITE_TABLES = (
    "CREATE TABLE rows (key BLOB PRIMARY KEY, stamp REAL NOT NULL, value BLOB NOT NULL, seq INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE INDEX rows_by_seq ON rows (seq)",
    "CREATE TABLE counter (generation INTEGER NOT NULL, seq INTEGER NOT NULL)",
)
_SQLITE_PUSH = """
    INSERT INTO rows (key, stamp, value, seq) VALUES (?, ?, ?, ?)
    ON CONFLICT (key) DO UPDATE SET stamp = excluded.stamp, value = excluded.value, seq = excluded.seq
    WHERE excluded.stamp > rows.stamp
"""
_SQLITE_PULL = "SELECT key, stamp, value FROM rows WHERE seq > ? ORDER BY seq"
_SQLITE_PRUNE = """
    DELETE FROM rows WHERE key >= :first AND key < :end AND (stamp < :older_than OR key NOT IN (
        SELECT key FROM rows WHERE key >= :first AND key < :end ORDER BY stamp DESC, key DESC LIMIT :keep
    ))
"""


class _Broken(sqlite3.DatabaseError):
    """The file is none that this module can use, and will not become one."""


class SqliteStore:
    """Rows in a file, for the processes of one machine.

    Nothing is opened before the first call. A file that is corrupt, or that something else has written, is moved aside
    to ``….broken``, with a warning; a file that was moved or deleted under a running process is made again. Files are
    opened and moved under a lock beside them, so that of several processes that find it corrupt only one moves it.

    All work is done in one thread of this store: a slow disk holds up neither the event loop nor anybody's executor.
    """

    kind = "SQLite"

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._thread = ThreadPoolExecutor(1, "claude-proxy-store")
        self._closed = False
        # These two belong to the thread.
        self._connection: sqlite3.Connection | None = None
        self._opened: tuple[int, int] | None = None

    async def push(self, rows: Sequence[Row]) -> None:
        def work(connection: sqlite3.Connection) -> None:
            connection.execute("BEGIN IMMEDIATE")
            (last,) = connection.execute("SELECT seq FROM counter").fetchone()
            connection.executemany(
                _SQLITE_PUSH,
                [(_to_bytes(row.key), row.stamp, _to_bytes(row.value), seq) for seq, row in enumerate(rows, last + 1)],
            )
            connection.execute("UPDATE counter SET seq = ?", (last + len(rows),))

        if rows:
            await self._call(work)

    async def pull(self, cursor: int) -> tuple[list[Row], int]:
        def work(connection: sqlite3.Connection) -> tuple[list[Row], int]:
            connection.execute("BEGIN")
            current, last = connection.execute("SELECT generation, seq FROM counter").fetchone()
            since = _sequence(cursor) if generation(cursor) == current else 0
            found = connection.execute(_SQLITE_PULL, (since,))
            return [row for parts in found if (row := read_row(*parts))], _cursor(current, last)

        return await self._call(work)

    async def prune(self, prefix: str, older_than: float, keep: int) -> None:
        # No text's bytes hold 0xFF, so this is above every key with the prefix.
        first, end = _to_bytes(prefix), _to_bytes(prefix) + b"\xff"

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(_SQLITE_PRUNE, {"first": first, "end": end, "older_than": older_than, "keep": keep})

        await self._call(work)

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            await asyncio.get_running_loop().run_in_executor(self._thread, self._disconnect)
            self._thread.shutdown(wait=False)

    async def _call(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        """Do some work in a transaction, in the thread, and translate what SQLite and the file system raise."""
        if self._closed:
            raise StoreUnavailable(self.kind, "closed")
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._mend, work)
        except (sqlite3.Error, OSError, UnicodeError) as error:
            raise StoreUnavailable(self.kind, f"{self._path}: {error}") from None

    def _mend(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        """Do some work, once more with a new file when this one is broken."""
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
            # Whatever it was, the next call does not build on what is left of it.
            self._disconnect()
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in _BROKEN_CODES:
                raise _Broken(str(error)) from None
            raise

    def _connected(self) -> sqlite3.Connection:
        if self._connection is not None and _identity(self._path) == self._opened:
            return self._connection
        self._disconnect()
        with self._locked():
            # Never opened when it exists: closing it again would drop the locks of another connection of this process.
            with suppress(FileExistsError):
                os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            self._opened = _identity(self._path)
            self._connection = sqlite3.connect(self._path, timeout=SQLITE_BUSY_SECONDS, isolation_level=None)
            self._connection.text_factory = bytes  # a text in a row of somebody else's need not be UTF-8
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
        """Hold the lock beside the file; it ends with the process at the latest."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(f"{self._path}.lock", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


def _prepare(connection: sqlite3.Connection) -> None:
    """Make the tables in an empty file; raise ``_Broken`` for a file that something else has written."""
    connection.execute("PRAGMA synchronous = NORMAL")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if (version, tables) == (0, 0):
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            for statement in _SQLITE_TABLES:
                connection.execute(statement)
            connection.execute("INSERT INTO counter VALUES (?, 0)", (_new_generation(),))
            connection.execute(f"PRAGMA user_version = {SQLITE_VERSION}")
    elif version != SQLITE_VERSION:
        raise _Broken(f"its schema is {version}, not {SQLITE_VERSION}")
    # Only after the check: it changes the file.
    connection.execute("PRAGMA journal_mode = WAL")


def _identity(path: Path) -> tuple[int, int] | None:
    """Return what tells a file from another one that takes its name later; None when there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


# To connect, and to wait for an answer, in seconds.
REDIS_SECONDS = 1.0
# Rows that one script call merges: Redis does nothing else meanwhile.
REDIS_BATCH = 500
_REDIS_KEYS = ("claude-proxy:values", "claude-proxy:stamps", "claude-proxy:changes", "claude-proxy:meta")
_REDIS_PUSH = """
for i = 1, #ARGV, 3 do
  local key, stamp, value = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local there = redis.call('ZSCORE', KEYS[2], key)
  if not there or tonumber(stamp) > tonumber(there) then
    redis.call('HSET', KEYS[1], key, value)
    redis.call('ZADD', KEYS[2], stamp, key)
    redis.call('ZADD', KEYS[3], redis.call('HINCRBY', KEYS[4], 'sequence', 1), key)
  end
end
"""
# A server that was started again, or replaced by its replica, has another run_id, and may have lost its last seconds.
_REDIS_PULL = """
local server = redis.pcall('INFO', 'server')
local run = type(server) == 'string' and string.match(server, 'run_id:(%w+)') or 'unknown'
local meta = redis.call('HMGET', KEYS[4], 'generation', 'run', 'sequence')
local generation, since = meta[1], ARGV[2]
if not generation or meta[2] ~= run then
  generation = ARGV[3]
  redis.call('HSET', KEYS[4], 'generation', generation, 'run', run)
end
if generation ~= ARGV[1] then
  since = '0'
end
local answer = {generation, meta[3] or '0'}
for _, key in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '(' .. since, '+inf')) do
  local value, stamp = redis.call('HGET', KEYS[1], key), redis.call('ZSCORE', KEYS[2], key)
  if value and stamp then
    answer[#answer + 1] = key
    answer[#answer + 1] = stamp
    answer[#answer + 1] = value
  end
end
return answer
"""
_REDIS_PRUNE = """
local prefix, older_than, keep = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local all, found = redis.call('ZRANGE', KEYS[2], 0, -1, 'WITHSCORES'), {}
for i = 1, #all, 2 do
  if string.sub(all[i], 1, #prefix) == prefix then
    found[#found + 1] = {all[i], tonumber(all[i + 1])}
  end
end
for place, row in ipairs(found) do
  if row[2] < older_than or place <= #found - keep then
    redis.call('HDEL', KEYS[1], row[1])
    redis.call('ZREM', KEYS[2], row[1])
    redis.call('ZREM', KEYS[3], row[1])
  end
end
"""


class RedisStore:
    """Rows in Redis, for replicas on several machines. Nothing is connected before the first call.

    Each call connects by itself when it has to. Redis evicts none of these keys unless it is told to (``allkeys-*``).
    """

    kind = "Redis"

    def __init__(self, url: str) -> None:
        self._url = Secret(url)
        self._client: Redis | None = None

    async def push(self, rows: Sequence[Row]) -> None:
        for start in range(0, len(rows), REDIS_BATCH):
            batch = rows[start : start + REDIS_BATCH]
            arguments = [part for row in batch for part in (_to_bytes(row.key), repr(row.stamp), _to_bytes(row.value))]
            with self._translated():
                await self._run(_REDIS_PUSH, arguments)

    async def pull(self, cursor: int) -> tuple[list[Row], int]:
        with self._translated():
            current, last, *parts = await self._run(_REDIS_PULL, [generation(cursor), _sequence(cursor), _new_generation()])
            found = zip(parts[::3], map(float, parts[1::3]), parts[2::3], strict=True)
            return [row for one in found if (row := read_row(*one))], _cursor(int(current), int(last))

    async def prune(self, prefix: str, older_than: float, keep: int) -> None:
        with self._translated():
            await self._run(_REDIS_PRUNE, [_to_bytes(prefix), repr(older_than), keep])

    async def close(self) -> None:
        if self._client is not None:
            with self._translated():
                await self._client.aclose()

    async def _run(self, script: str, arguments: Sequence[bytes | str | int]) -> Any:
        if self._client is None:
            self._client = Redis.from_url(
                self._url.reveal(),
                socket_connect_timeout=REDIS_SECONDS,
                socket_timeout=REDIS_SECONDS,
                retry=Retry(NoBackoff(), 0),  # who calls tries again, and says so
                maint_notifications_config=MaintNotificationsConfig(enabled=False),  # else a closed connection is not noticed
            )
        return await self._client.register_script(script)(keys=_REDIS_KEYS, args=arguments)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Say no more than the error's class: texts of redis-py may quote the URL. ValueError and TypeError are about it."""
        try:
            yield
        except (RedisError, OSError, ValueError, TypeError) as error:
            raise StoreUnavailable(self.kind, type(error).__name__) from None
