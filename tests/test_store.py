"""state/store.py: one suite for the three stores, and then what is true of a file and of a Redis only. Redis is a real one."""

import asyncio
import contextlib
import json
import logging
import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import traceback
from pathlib import Path

import pytest

from claude_proxy.state import store as store_module
from claude_proxy.state.rows import Row
from claude_proxy.state.store import MAX_VALUE_BYTES, MemoryStore, RedisStore, SqliteStore, StoreUnavailable, generation

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[1]
NOW = 1_800_000_000.0
PASSWORD = "made-up:pass/word@secret"
QUOTED_PASSWORD = "made-up%3Apass%2Fword%40secret"


class RedisServer:
    """A real Redis on loopback that keeps nothing on disk."""

    def __init__(self, *more):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._more = more
        self.process = None

    def start(self):
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", *self._more]
        self.process = subprocess.Popen(["redis-server", *options], stdout=subprocess.PIPE, cwd="/")
        for line in self.process.stdout:
            if b"Ready to accept connections" in line:
                return
        raise AssertionError("Redis did not start")

    def kill(self):
        if self.process is not None:
            self.process.kill()
            self.process.stdout.close()
            self.process.wait()
            self.process = None

    def say(self, command):
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            connection.sendall(command + b"\r\n")
            assert connection.recv(100).startswith(b"+OK")


@pytest.fixture
def new_redis():
    """Make servers that a test may start and kill as it likes."""
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed (apt: redis-server)")
    made = []

    def new_redis(*more):
        made.append(RedisServer(*more))
        return made[-1]

    yield new_redis
    for server in made:
        server.kill()


@pytest.fixture(scope="session")
def running_redis():
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed (apt: redis-server)")
    server = RedisServer()
    server.start()
    yield server
    server.kill()


@pytest.fixture
def empty_redis(running_redis):
    running_redis.say(b"FLUSHALL")
    return running_redis


@pytest.fixture
async def keep():
    """Close, after the test, what it opened."""
    kept = []

    def keep(store):
        kept.append(store)
        return store

    yield keep
    for store in kept:
        await store.close()


@pytest.fixture(params=["memory", "sqlite", "redis"])
def handle(request, tmp_path, keep):
    """Make handles on one store of each kind."""
    if request.param == "memory":
        one = MemoryStore()
        return lambda: one
    if request.param == "sqlite":
        return lambda: keep(SqliteStore(tmp_path / "state.db"))
    url = request.getfixturevalue("empty_redis").url
    return lambda: keep(RedisStore(url))


def row(key, stamp=NOW, value="1"):
    return Row(key, stamp, value)


async def contents(store):
    rows, _ = await store.pull(0)
    return {one.key: (one.stamp, one.value) for one in rows}


# --- What is true of every store ----------------------------------------------------------------------------------------------


async def test_an_empty_store(handle):
    """A new store has no rows, and pushing none changes nothing."""
    store = handle()
    assert await store.pull(0) == ([], (await store.pull(0))[1])
    await store.push([])
    assert await contents(store) == {}


async def test_what_was_pushed_comes_back(handle):
    """A row comes back as it was, its stamp to the last bit."""
    store = handle()
    rows = [row("a", 1_800_000_000.1234567, '{"x": [1, null]}'), row("b", 0.0, '""'), row("c", -1.5), row("d", 0.1 + 0.2)]
    await store.push(rows)
    assert (await store.pull(0))[0] == rows


@pytest.mark.parametrize(
    ("stamps", "winner"),
    [
        ((1.0, 2.0), 1),
        ((2.0, 1.0), 0),
        ((NOW, NOW + 1e-6), 1),
        ((9.0, 10.0), 1),  # as numbers, not as texts
        ((-1.0, 0.0), 1),
        # With equal stamps the one that is there stays.
        ((NOW, NOW), 0),
        ((0.0, 0.0), 0),
    ],
)
@pytest.mark.parametrize("in_one_batch", [True, False])
async def test_the_larger_stamp_wins(handle, stamps, winner, in_one_batch):
    """Of two rows with one key the one with the larger stamp stays, else the one that was there, batch or not."""
    store = handle()
    rows = [row("key", stamp, str(number)) for number, stamp in enumerate(stamps)]
    for batch in [rows] if in_one_batch else [[one] for one in rows]:
        await store.push(batch)
    assert await contents(store) == {"key": (stamps[winner], str(winner))}


async def test_a_cursor_gives_what_changed_since(handle):
    """Pulling with a cursor gives each row that changed after it, once, in the order of the changes."""
    store = handle()
    await store.push([row("a"), row("b"), row("c")])
    rows, cursor = await store.pull(0)
    assert [one.key for one in rows] == ["a", "b", "c"]
    assert await store.pull(cursor) == ([], cursor)
    await store.push([row("b", NOW + 1), row("d")])
    rows, later = await store.pull(cursor)
    assert [one.key for one in rows] == ["b", "d"]
    assert await store.pull(later) == ([], later)
    assert (await store.pull(cursor))[0] == rows


async def test_what_lost_is_no_change(handle):
    """A row that did not win comes to nobody."""
    store = handle()
    await store.push([row("a")])
    _, cursor = await store.pull(0)
    await store.push([row("a", NOW - 1, "older"), row("a", NOW, "equal")])
    assert (await store.pull(cursor))[0] == []


async def test_a_cursor_of_another_life_gives_everything(handle):
    """A cursor from a store that is gone gives everything, and the new one is of another generation."""
    store = handle()
    await store.push([row("a")])
    _, cursor = await store.pull(0)
    foreign = (generation(cursor) + 1 << 48) + 1000
    rows, again = await store.pull(foreign)
    assert (rows, again) == ([row("a")], cursor)
    assert generation(cursor) != 0


async def test_a_cursor_survives_a_prune(handle):
    """When the newest rows are pruned, what is pushed afterwards is still after the cursor."""
    store = handle()
    await store.push([row("x:a"), row("x:b")])
    _, cursor = await store.pull(0)
    await store.prune("x:", NOW + 1, 10)
    await store.push([row("x:c")])
    assert (await store.pull(cursor))[0] == [row("x:c")]


async def test_prune_by_age(handle):
    """Rows under the prefix with a stamp below the limit go; one at the limit, and those under other prefixes, stay."""
    store = handle()
    await store.push([row("x:old", 99.0), row("x:limit", 100.0), row("x:new", 101.0), row("y:old", 1.0), row("x", 1.0)])
    await store.prune("x:", 100.0, 10)
    assert set(await contents(store)) == {"x:limit", "x:new", "y:old", "x"}


async def test_prune_by_number(handle):
    """Of more rows than may be kept the oldest go, and of equally old ones those whose key comes first."""
    store = handle()
    await store.push([row("x:3", 3.0), row("x:1", 1.0), row("x:2b", 2.0), row("x:2a", 2.0), row("y:0", 0.0)])
    await store.prune("x:", 0.0, 2)
    assert set(await contents(store)) == {"x:3", "x:2b", "y:0"}
    await store.prune("x:", 0.0, 0)
    assert set(await contents(store)) == {"y:0"}


async def test_a_pruned_row_may_come_again(handle):
    """What was pruned is forgotten: an older row under its key is a new one."""
    store = handle()
    await store.push([row("x:a", 5.0)])
    await store.prune("x:", 6.0, 10)
    await store.push([row("x:a", 4.0, "again")])
    assert await contents(store) == {"x:a": (4.0, "again")}


@pytest.mark.parametrize("prefix", ["50%_", "ключ:", "k\U0001f511:", "q'\"\\:"])
async def test_a_prefix_is_no_pattern(handle, prefix):
    """A prefix is compared as it is, whatever its characters mean to SQL, Lua or a glob."""
    store = handle()
    await store.push([row(f"{prefix}a"), row(f"{prefix}\U0010ffff"), row("50xxa"), row("*"), row("k")])
    await store.prune(prefix, NOW + 1, 10)
    assert set(await contents(store)) == {"50xxa", "*", "k"}


@pytest.mark.parametrize(
    "text",
    ["", " ", "grüße", "\U0001f511", "nul\0nul", "line\r\nline", "half \ud83d pair", "' OR 1=1 --", "x" * 100_000],
    ids=["empty", "space", "latin", "astral", "nul", "lines", "surrogate", "sql", "long"],
)
async def test_any_text_is_a_key_and_a_value(handle, text):
    """Keys and values come back as they were, half a surrogate pair included: a client may call its session that."""
    store = handle()
    await store.push([row(f"session:{text}", NOW, text)])
    assert await contents(store) == {f"session:{text}": (NOW, text)}
    await store.prune(f"session:{text}", NOW + 1, 1)
    assert await contents(store) == {}


async def test_a_big_batch(handle):
    """Ten thousand rows go in by one push, come out by one pull, and can be pruned."""
    store = handle()
    rows = [row(f"session:{number:05}", NOW + number, json.dumps("x" * 300)) for number in range(10_000)]
    await store.push(rows)
    assert (await store.pull(0))[0] == rows
    await store.prune("session:", NOW + 100, 5_000)
    assert (await store.pull(0))[0] == rows[5_000:]


async def test_two_handles_see_each_other(handle):
    """What one handle pushes the other one pulls, each with its own cursor."""
    here, there = handle(), handle()
    await here.push([row("a")])
    rows, cursor = await there.pull(0)
    assert rows == [row("a")]
    await there.push([row("b")])
    assert (await here.pull(cursor))[0] == (await there.pull(cursor))[0] == [row("b")]


async def test_the_first_salt_wins(handle):
    """Of several that push a row with stamp 0 at once, one wins, and all of them read that one."""
    handles = [handle() for _ in range(5)]
    await asyncio.gather(*(one.push([row("salt", 0.0, str(number))]) for number, one in enumerate(handles)))
    assert len({(await contents(one))["salt"] for one in handles}) == 1


async def test_at_once(handle):
    """When several handles push the same keys at once, each key ends with its largest stamp, and no change escapes a cursor."""
    writers, reader = [handle() for _ in range(4)], handle()
    batches = made_up_batches(1)
    seen, cursor = {}, 0

    async def write(store, share):
        for batch in share:
            await store.push(batch)

    writing = asyncio.gather(*(write(store, batches[number::4]) for number, store in enumerate(writers)))
    while not writing.done():
        rows, cursor = await reader.pull(cursor)
        seen |= {one.key: (one.stamp, one.value) for one in rows}
        await asyncio.sleep(0)
    rows, _ = await reader.pull(cursor)
    seen |= {one.key: (one.stamp, one.value) for one in rows}
    assert seen == await contents(reader) == winners(batches)


async def test_closing_again_does_nothing(handle):
    """A store may be closed before it was used, and twice."""
    store = handle()
    await store.close()
    await store.close()


def made_up_batches(seed, count=60):
    made_up = random.Random(seed)
    stamps = [[made_up.randrange(1000) for _ in range(5)] for _ in range(count)]
    return [[row(f"key {made_up.randrange(7)}", float(stamp), str(stamp)) for stamp in batch] for batch in stamps]


def winners(batches):
    best = {}
    for one in (one for batch in batches for one in batch):
        best[one.key] = max(best.get(one.key, (-1.0, "")), (one.stamp, one.value))
    return best


# --- Several processes --------------------------------------------------------------------------------------------------------

WRITER = """
import asyncio, sys
sys.path[:0] = [{root!r}, {tests!r}]
from claude_proxy.state.store import RedisStore, SqliteStore
from test_store import made_up_batches

async def main(kind, where, seed):
    store = {{"sqlite": SqliteStore, "redis": RedisStore}}[kind](where)
    print("ready", flush=True)
    sys.stdin.readline()
    for batch in made_up_batches(int(seed)):
        await store.push(batch)
    await store.close()

asyncio.run(main(*sys.argv[1:]))
"""
ENDLESS_WRITER = """
import asyncio, itertools, sys
sys.path[:0] = [{root!r}]
from claude_proxy.state.rows import Row
from claude_proxy.state.store import SqliteStore

async def main(where):
    store = SqliteStore(where)
    for number in itertools.count():
        await store.push([Row(f"key {{number}}", number, "1"), Row("last", number, "1")])
        print(number, flush=True)

asyncio.run(main(*sys.argv[1:]))
"""


@contextlib.contextmanager
def process(script, *arguments):
    script = script.format(root=str(ROOT), tests=str(ROOT / "tests"))
    command = [sys.executable, "-c", script, *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        try:
            yield running
        finally:
            running.kill()


def write_from_processes(kind, where):
    with contextlib.ExitStack() as stack:
        running = [stack.enter_context(process(WRITER, kind, where, str(seed))) for seed in range(4)]
        for one in running:
            assert one.stdout.readline() == "ready\n"
        for one in running:
            one.stdin.write("go\n")
            one.stdin.flush()
        assert [one.wait(60) for one in running] == [0] * 4
    return winners([batch for seed in range(4) for batch in made_up_batches(seed)])


@pytest.mark.parametrize("found", ["nothing", "a file", "a corrupt file"])
async def test_four_processes_on_one_file(tmp_path, keep, found):
    """Four processes that open one file at the same time all write to the same one, even when it has to be made anew."""
    path = tmp_path / "state.db"
    if found == "a file":
        await keep(SqliteStore(path)).push([row("before")])
    elif found == "a corrupt file":
        path.write_bytes(b"no database " * 1000)
    expected = write_from_processes("sqlite", str(path))
    found_rows = await contents(keep(SqliteStore(path)))
    found_rows.pop("before", None)
    assert found_rows == expected


async def test_four_processes_on_one_redis(empty_redis, keep):
    """Of four processes that push the same keys at once, the largest stamp of each key wins."""
    expected = write_from_processes("redis", empty_redis.url)
    assert await contents(keep(RedisStore(empty_redis.url))) == expected


async def test_a_killed_writer(tmp_path, keep):
    """What a push has acknowledged outlives a kill -9 of its process, in whole batches, and the file can be written on."""
    path = tmp_path / "state.db"
    with process(ENDLESS_WRITER, str(path)) as writer:
        acknowledged = -1
        while acknowledged < 100:
            acknowledged = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
        acknowledged = max([acknowledged, *map(int, writer.stdout.read().split())])
        writer.wait()
    store = keep(SqliteStore(path))
    rows = await contents(store)
    last = int(rows.pop("last")[0])
    assert last in (acknowledged, acknowledged + 1)
    assert set(rows) == {f"key {number}" for number in range(last + 1)}
    await store.push([row("after")])
    assert "after" in await contents(store)


# --- A file -------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state.db"


async def test_nothing_is_touched_before_the_first_call(path):
    """Making a store opens no file."""
    await SqliteStore(path).close()
    assert list(path.parent.iterdir()) == []


async def test_only_the_owner_reads_the_file(tmp_path, keep):
    """The file, what SQLite puts beside it and the lock are for their owner only, and so is the folder when it is made here."""
    path = tmp_path / "new" / "folder" / "state.db"
    store = keep(SqliteStore(path))
    before = os.umask(0)
    try:
        await store.push([row("a")])
    finally:
        os.umask(before)
    modes = {one.name: one.stat().st_mode & 0o777 for one in path.parent.iterdir()}
    assert modes == dict.fromkeys(["state.db", "state.db-wal", "state.db-shm", "state.db.lock"], 0o600)
    assert path.parent.stat().st_mode & 0o777 == 0o700


async def test_rows_outlive_the_process(path, keep):
    """What was pushed is there for the next process, whose cursor goes on from the same count."""
    first = SqliteStore(path)
    await first.push([row("a")])
    _, cursor = await first.pull(0)
    await first.close()
    second = keep(SqliteStore(path))
    assert await second.pull(0) == ([row("a")], cursor)
    assert await second.pull(cursor) == ([], cursor)


async def test_a_closed_file_store(path):
    """A closed store is unavailable and says so."""
    store = SqliteStore(path)
    await store.close()
    with pytest.raises(StoreUnavailable, match="SQLite is not available: closed"):
        await store.pull(0)


def garbage(path):
    path.write_bytes(b"no database " * 1000)


def cut_off(path):
    made_with_rows(path)
    path.write_bytes(path.read_bytes()[:5000])


def overwritten(path):
    made_with_rows(path)
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xaa" * (len(data) - 4096)
    path.write_bytes(data)


def of_another_version(path):
    made_with_rows(path)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 7")


def of_somebody_else(path):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE precious (x)")


def made_with_rows(path):
    async def make():
        store = SqliteStore(path)
        await store.push([row(f"key {number}", NOW, "x" * 100) for number in range(500)])
        await store.close()

    asyncio.run(make())


@pytest.mark.parametrize("harm", [garbage, cut_off, overwritten, of_another_version, of_somebody_else])
async def test_a_file_that_cannot_be_used(path, keep, caplog, harm):
    """A corrupt file or one of another kind is moved aside whole, with one warning, and an empty one takes its place."""
    await asyncio.to_thread(harm, path)
    before = path.read_bytes()
    store = keep(SqliteStore(path))
    await store.push([row("a")])
    assert await contents(store) == {"a": (NOW, "1")}
    assert path.with_name("state.db.broken").read_bytes() == before
    assert [one.levelname for one in caplog.records] == ["WARNING"]
    assert f"moved to {path}.broken" in caplog.text


async def test_a_file_is_moved_under_a_process(path, keep):
    """What SQLite has beside a file goes aside with it, and a process that still had it open changes to the new one."""
    here, there = keep(SqliteStore(path)), keep(SqliteStore(path))
    await here.push([row("a")])
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 7")
    await there.push([row("b")])
    assert {one.name for one in path.parent.glob("*.broken*")} == {
        "state.db.broken",
        "state.db.broken-wal",
        "state.db.broken-shm",
    }
    await here.push([row("c")])
    assert await contents(here) == await contents(there) == {"b": (NOW, "1"), "c": (NOW, "1")}


async def test_a_file_that_breaks_while_it_is_used(path, keep, caplog):
    """A file that turns out to be corrupt in the middle is replaced too, and the cursor's generation tells it."""
    await asyncio.to_thread(made_with_rows, path)
    store = keep(SqliteStore(path))
    _, cursor = await store.pull(0)
    await store.close()
    await asyncio.to_thread(overwritten, path)
    store = keep(SqliteStore(path))
    rows, later = await store.pull(cursor)
    assert rows == []
    assert generation(later) != generation(cursor)


async def test_only_one_moves_a_corrupt_file(path, keep, caplog):
    """Of several that find a file corrupt one moves it, and the others do not move the new one."""
    garbage(path)
    handles = [keep(SqliteStore(path)) for _ in range(4)]
    await asyncio.gather(*(one.push([row(str(number))]) for number, one in enumerate(handles)))
    assert set(await contents(handles[0])) == {"0", "1", "2", "3"}
    assert len(caplog.records) == 1


@pytest.mark.parametrize("how", ["deleted", "moved"])
async def test_a_file_that_goes_away(path, keep, how):
    """A file that is deleted or moved under a running process is made again, and the cursor's generation tells it."""
    here, there = keep(SqliteStore(path)), keep(SqliteStore(path))
    await here.push([row("a")])
    _, cursor = await there.pull(0)
    if how == "deleted":
        path.unlink()
    else:
        path.rename(f"{path}.moved")
    await here.push([row("b")])
    rows, later = await there.pull(cursor)
    assert rows == [row("b")]
    assert generation(later) != generation(cursor)
    await there.push([row("c")])
    assert set(await contents(here)) == {"b", "c"}


@pytest.mark.parametrize("place", ["below a file", "a folder", "in a read-only place"])
async def test_a_place_where_nothing_can_be_written(tmp_path, keep, place):
    """Where no file can be made, each call says so, no call moves anything, and once it can be made everything works."""
    if place == "below a file":
        (tmp_path / "file").write_text("")
        path = tmp_path / "file" / "state.db"
    elif place == "a folder":
        path = tmp_path / "folder"
        path.mkdir()
    else:
        path = Path("/proc/state.db")
    store = keep(SqliteStore(path))
    for call in (store.push([row("a")]), store.pull(0), store.prune("", 0.0, 1)):
        with pytest.raises(StoreUnavailable, match=r"^SQLite is not available: .*") as error:
            await call
        assert error.value.kind == "SQLite"
    if place == "below a file":
        (tmp_path / "file").unlink()
        await store.push([row("a")])
        assert await contents(store) == {"a": (NOW, "1")}


async def test_a_file_that_another_process_holds(path, keep, monkeypatch):
    """Another's long transaction is waited for outside of the event loop; when it takes too long the store is unavailable."""
    monkeypatch.setattr(store_module, "SQLITE_BUSY_SECONDS", 0.1)
    impatient = keep(SqliteStore(path))
    await impatient.push([row("a")])
    monkeypatch.setattr(store_module, "SQLITE_BUSY_SECONDS", 60.0)
    patient = keep(SqliteStore(path))
    await patient.pull(0)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="locked"):
            await impatient.push([row("b")])
        assert await contents(impatient) == {"a": (NOW, "1")}  # who only reads does not wait
        pushing = asyncio.ensure_future(patient.push([row("c")]))
        await asyncio.sleep(0)
        other.execute("ROLLBACK")
    await pushing
    assert set(await contents(impatient)) == {"a", "c"}


async def test_a_new_file_that_another_process_holds(path, keep, monkeypatch):
    """When the tables cannot be made now, the next call makes them."""
    monkeypatch.setattr(store_module, "SQLITE_BUSY_SECONDS", 0.01)
    store = keep(SqliteStore(path))
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="locked"):
            await store.push([row("a")])
        other.execute("ROLLBACK")
    await store.push([row("b")])
    assert set(await contents(store)) == {"b"}


# --- Redis --------------------------------------------------------------------------------------------------------------------


async def test_redis_away_at_first(new_redis, keep):
    """A Redis that is not there makes every call fail at once, and the first one after it is there succeed."""
    server = new_redis()
    store = keep(RedisStore(server.url))
    for call in (store.push([row("a")]), store.pull(0), store.prune("", 0.0, 1)):
        with pytest.raises(StoreUnavailable, match=r"^Redis is not available: ConnectionError$") as error:
            await call
        assert error.value.kind == "Redis"
    server.start()
    await store.push([row("a")])
    assert await contents(store) == {"a": (NOW, "1")}


async def test_redis_comes_back_empty(new_redis, keep):
    """After a restart that lost all rows an old cursor gives all there is, however much was pushed since, and tells it."""
    server = new_redis()
    server.start()
    here, there = keep(RedisStore(server.url)), keep(RedisStore(server.url))
    await here.push([row("a"), row("b")])
    _, cursor = await there.pull(0)
    server.kill()
    with pytest.raises(StoreUnavailable):
        await here.pull(cursor)
    server.start()
    await here.push([row(key) for key in "cdefg"])
    rows, later = await there.pull(cursor)
    assert [one.key for one in rows] == list("cdefg")
    assert generation(later) != generation(cursor)
    assert await there.pull(later) == ([], later)
    assert await here.pull(later) == ([], later)


async def test_redis_restarts_unseen(new_redis, keep):
    """A restart between two calls is no error, since the connection is made anew, and the cursor's generation tells it."""
    server = new_redis()
    server.start()
    store = keep(RedisStore(server.url))
    await store.push([row("a")])
    _, cursor = await store.pull(0)
    server.kill()
    server.start()
    for _ in range(100):  # until the loop has seen the end of the connection
        await asyncio.sleep(0)
    rows, later = await store.pull(cursor)
    assert rows == []
    assert generation(later) != generation(cursor)


async def test_redis_restarts_with_an_older_state(new_redis, keep, tmp_path):
    """A restart from a snapshot, which lost the last rows only, gives everything too: nobody can know which were lost."""
    server = new_redis("--dir", str(tmp_path))
    server.start()
    store = keep(RedisStore(server.url))
    await store.push([row("a")])
    await store.pull(0)
    server.say(b"SAVE")
    await store.push([row("b")])
    _, cursor = await store.pull(0)
    server.kill()
    server.start()
    with contextlib.suppress(StoreUnavailable):
        await store.pull(0)
    await store.push([row("c"), row("d")])
    rows, later = await store.pull(cursor)
    assert [one.key for one in rows] == ["a", "c", "d"]
    assert generation(later) != generation(cursor)


async def test_redis_is_emptied(empty_redis, keep):
    """After a FLUSHALL an old cursor gives all there is, and the new one is of another generation."""
    store = keep(RedisStore(empty_redis.url))
    await store.push([row("a"), row("b")])
    _, cursor = await store.pull(0)
    empty_redis.say(b"FLUSHALL")
    await store.push([row(key) for key in "xyz"])
    rows, later = await store.pull(cursor)
    assert [one.key for one in rows] == ["x", "y", "z"]
    assert generation(later) != generation(cursor)


async def test_redis_hangs(new_redis, keep, monkeypatch):
    """A Redis that takes the connection and does not answer is unavailable after the time-out, and usable when it goes on."""
    monkeypatch.setattr(store_module, "REDIS_SECONDS", 0.2)
    server = new_redis()
    server.start()
    store = keep(RedisStore(server.url))
    await store.push([row("a")])
    server.process.send_signal(signal.SIGSTOP)
    started = time.monotonic()
    with pytest.raises(StoreUnavailable, match="TimeoutError"):
        await store.pull(0)
    assert time.monotonic() - started < 2
    server.process.send_signal(signal.SIGCONT)
    assert await contents(store) == {"a": (NOW, "1")}


async def test_redis_without_info(empty_redis, keep):
    """A user who may not ask for the server's run id can use the store all the same."""
    empty_redis.say(b"ACL SETUSER made-up on >made-up ~claude-proxy:* +@all -@dangerous")
    store = keep(RedisStore(empty_redis.url.replace("redis://", "redis://made-up:made-up@")))
    await store.push([row("a")])
    rows, cursor = await store.pull(0)
    assert rows == [row("a")]
    assert await store.pull(cursor) == ([], cursor)


async def test_redis_keys_have_one_prefix(empty_redis, keep):
    """Everything in Redis is under ``claude-proxy:``, since LiteLLM may keep its own there."""
    store = keep(RedisStore(empty_redis.url))
    await store.push([row("a")])
    await store.pull(0)
    keys = await store._client.keys("*")
    assert keys
    assert all(key.startswith(b"claude-proxy:") for key in keys)


@pytest.mark.parametrize(
    "url",
    [
        "redis://:{password}@127.0.0.1:{free}/0",
        "redis://:wrong-{password}@127.0.0.1:{closed}/0",
        "redis://somebody:{password}@127.0.0.1:{closed}/0",
        "redis://127.0.0.1:{closed}/0?password=wrong-{password}",
        "redis://:{password}@127.0.0.1:{closed}/0?unknown={password}",
        "redis://:{password}@127.0.0.1:{password}/0",
        "redis://:{password}@[::1/0",
        "redis://:{password}@127.0.0.1:99999/0",
        "{password}",
        "http://:{password}@127.0.0.1/",
    ],
)
@pytest.mark.parametrize("password", [PASSWORD, QUOTED_PASSWORD])
async def test_no_text_shows_a_password(new_redis, keep, caplog, url, password):
    """Whatever is wrong with a Redis or its URL, neither the error, its traceback nor the log shows the password."""
    caplog.set_level(logging.DEBUG)
    free, closed = new_redis(), new_redis("--requirepass", "another made up one")
    closed.start()
    store = keep(RedisStore(url.format(password=password, free=free.port, closed=closed.port)))
    with pytest.raises(StoreUnavailable) as error:
        await store.pull(0)
    shown = [str(error.value), repr(error.value), repr(store), caplog.text]
    shown += traceback.format_exception(error.value)
    for text in shown:
        assert not any(part in text for part in ("pass/word", "pass%2F", "made-up%3A", "word@secret", "word%40"))


async def test_a_password_is_used(new_redis, keep):
    """The password in the URL, quoted as URLs are, opens the server."""
    server = new_redis("--requirepass", PASSWORD)
    server.start()
    store = keep(RedisStore(server.url.replace("redis://", f"redis://:{QUOTED_PASSWORD}@")))
    await store.push([row("a")])
    assert await contents(store) == {"a": (NOW, "1")}


async def test_a_row_that_no_process_wrote_is_passed_over(tmp_path):
    """Rows of other types, texts that are not UTF-8 and values without measure cost neither the store nor the other rows."""
    store = SqliteStore(tmp_path / "state")
    await store.push([row("good")])
    with sqlite3.connect(tmp_path / "state") as connection:
        odd = [
            (1, NOW, b"1"), (b"\xff", NOW, b"1"), (b"a", "much", b"1"), (b"b", float("inf"), b"1"),
            (b"c", NOW, None), (b"d", NOW, 7), (b"e", NOW, b"\xff"), (b"f", NOW, b"1" * (MAX_VALUE_BYTES + 1)),
        ]  # fmt: skip
        for key, stamp, value in odd:
            with contextlib.suppress(sqlite3.IntegrityError):
                connection.execute("INSERT INTO rows VALUES (?, ?, ?, 1)", (key, stamp, value))
        connection.execute("INSERT INTO rows VALUES (CAST(x'ff' AS TEXT), 1.0, CAST(x'fe' AS TEXT), 1)")
    found, _ = await store.pull(0)
    assert {one.key for one in found} == {"good"}
    await store.close()
