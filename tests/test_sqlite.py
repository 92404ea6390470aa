"""state/sqlite.py: what is true of a file only, in one process and in several."""

import asyncio
import contextlib
import os
import signal
import sqlite3
from pathlib import Path

import pytest
from stores import NOW, contents, process, row, write_from_processes

from claude_proxy.state import sqlite_file
from claude_proxy.state.rows import MAX_VALUE_BYTES
from claude_proxy.state.sqlite import SqliteStore
from claude_proxy.state.store import StoreUnavailable, generation

pytestmark = pytest.mark.anyio

ENDLESS_WRITER = """
import asyncio, itertools, sys
sys.path[:0] = [{root!r}]
from claude_proxy.state.rows import Row
from claude_proxy.state.sqlite import SqliteStore

async def main(where):
    store = SqliteStore(where)
    for number in itertools.count():
        await store.push([Row(f"key {{number}}", number, "1"), Row("last", number, "1")])
        print(number, flush=True)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state.db"


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
    monkeypatch.setattr(sqlite_file, "BUSY_SECONDS", 0.1)
    impatient = keep(SqliteStore(path))
    await impatient.push([row("a")])
    monkeypatch.setattr(sqlite_file, "BUSY_SECONDS", 60.0)
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
    monkeypatch.setattr(sqlite_file, "BUSY_SECONDS", 0.01)
    store = keep(SqliteStore(path))
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="locked"):
            await store.push([row("a")])
        other.execute("ROLLBACK")
    await store.push([row("b")])
    assert set(await contents(store)) == {"b"}


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
