"""history/database.py and history/writing.py: what is written outlives a process, and what cannot be disturbs nothing."""

import asyncio
import contextlib
import logging
import signal
import sqlite3
import threading

import pytest
from msgspec.structs import replace
from stores import process
from test_history_queries import RECORD, Clock, show

from claude_proxy.history.database import VERSION, HistoryDatabase, HistoryUnavailable
from claude_proxy.history.service import History
from claude_proxy.history.writing import Writer
from claude_proxy.state import sqlite_file
from claude_proxy.usage.used import Range

pytestmark = pytest.mark.anyio

ENDLESS_RECORDER = """
import asyncio, itertools, sys
sys.path[:0] = [{root!r}, {root!r} + "/tests"]
from pathlib import Path
from test_history_queries import RECORD, Clock
from claude_proxy.history.service import History

async def main(path):
    history = History(Path(path), clock=Clock())
    for number in itertools.count(1):
        history.record(RECORD)
        assert await history.flush()
        print(number, flush=True)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "history.sqlite"


def history(path, clock=None):
    one = History(path, clock=clock or Clock())
    one.clock = clock or Clock()
    return one


async def counted(one):
    return (await show(one))["total"]["requests"]


async def test_a_killed_recorder(path):
    """What a flush has acknowledged outlives a kill -9 of its process, and the file can be written on."""
    with process(ENDLESS_RECORDER, str(path)) as recorder:
        acknowledged = 0
        while acknowledged < 100:
            acknowledged = int(recorder.stdout.readline())
        recorder.send_signal(signal.SIGKILL)
        acknowledged = max([acknowledged, *map(int, recorder.stdout.read().split())])
        recorder.wait()
    one = history(path)
    assert await counted(one) in (acknowledged, acknowledged + 1)
    one.record(RECORD)
    assert await counted(one) in (acknowledged + 1, acknowledged + 2)
    await one.close()


async def test_only_the_owner_reads_the_file(path):
    """The file, what SQLite puts beside it and the lock are for their owner only, and so is the folder when it is made here."""
    one = history(path)
    one.record(RECORD)
    await one.flush()
    modes = {found.name: found.stat().st_mode & 0o777 for found in path.parent.iterdir()}
    names = ["history.sqlite", "history.sqlite-wal", "history.sqlite-shm", "history.sqlite.lock"]
    assert modes == dict.fromkeys(names, 0o600)
    assert path.parent.stat().st_mode & 0o777 == 0o700
    await one.close()


async def test_nothing_is_touched_before_something_is_recorded(path):
    """Making and closing a history that was not used opens no file."""
    await HistoryDatabase(path, []).close()
    assert not path.parent.exists()


async def test_a_close_writes_what_is_left(path):
    """What was recorded last is written by the close, and the next process counts on."""
    for number in (1, 2, 3):
        one = history(path)
        one.start()
        one.record(RECORD)
        await one.close()
        again = history(path)
        assert await counted(again) == number
        await again.close()


def garbage(path):
    path.write_bytes(b"no database " * 1000)


def of_another_version(path):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE usage (x)")
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")


def of_somebody_else(path):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE precious (x)")


@pytest.mark.parametrize("harm", [garbage, of_another_version, of_somebody_else])
async def test_a_file_that_cannot_be_used(path, caplog, harm):
    """A corrupt file or one of another kind is moved aside whole, with one warning, and an empty one takes its place."""
    path.parent.mkdir()
    harm(path)
    before = path.read_bytes()
    one = history(path)
    one.record(RECORD)
    assert await counted(one) == 1
    assert path.with_name("history.sqlite.broken").read_bytes() == before
    assert [found.levelname for found in caplog.records] == ["WARNING"]
    assert caplog.records[0].getMessage().startswith(f"history file {path}: ")
    await one.close()


async def test_a_file_that_cannot_be_written(tmp_path, caplog):
    """While the file cannot be written, recording goes on; one line says so, and one when it is back. Nothing is lost."""
    caplog.set_level(logging.INFO, "claude_proxy.history")
    (tmp_path / "file").write_text("")
    one = history(tmp_path / "file" / "history.sqlite")
    for number in range(3):
        one.record(replace(RECORD, user=f"user-{number}"))
        assert not await one.flush()
    with pytest.raises(HistoryUnavailable):
        await counted(one)
    assert (await one.used()).since is None
    (tmp_path / "file").unlink()
    assert await counted(one) == 3
    assert [found.levelname for found in caplog.records] == ["WARNING", "INFO"]
    assert "usage is kept in memory" in caplog.records[0].getMessage()
    await one.close()


async def test_a_file_that_another_process_holds(path, monkeypatch):
    """A flush that has to wait too long for another process is repeated, and nothing is counted twice."""
    monkeypatch.setattr(sqlite_file, "BUSY_SECONDS", 0.05)
    one = history(path)
    one.record(RECORD)
    assert await one.flush()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        one.record(RECORD)
        assert not await one.flush()
        one.record(RECORD)
        other.execute("ROLLBACK")
    assert await counted(one) == 3
    await one.close()


class BrokenPart:
    """A part with a bug."""

    def take(self):
        return lambda _: 1 / 0

    def written(self, *, done):
        assert not done


async def test_a_part_with_an_error_ends_nothing(caplog):
    """An error of one part is logged, the parts are asked again, and no call raises."""
    database = HistoryDatabase(None, [])
    writer = Writer(database, [BrokenPart()])
    for _ in range(2):
        assert not await writer.flush()
    assert [found.getMessage() for found in caplog.records] == ["a part of the history cannot be written; trying again"]
    await writer.close()


async def test_flushes_at_the_same_time(path):
    """Flushes that are asked for at the same time run one after the other, and each leaves everything written."""
    one = history(path)
    for _ in range(20):
        one.record(RECORD)
    assert all(await asyncio.gather(*(one.flush() for _ in range(5))))
    assert await counted(one) == 20
    await one.close()


async def test_a_long_view_delays_nothing(path):
    """While a view takes long, what is recorded is written, and the sums of the status are made."""
    one, begun, go = history(path), threading.Event(), threading.Event()
    one.record(RECORD)
    await one.flush()

    def look(connection):
        connection.execute("BEGIN")
        found = connection.execute("SELECT sum(requests) FROM usage").fetchone()
        begun.set()
        go.wait(60)
        return found

    looking = asyncio.ensure_future(one.read(look))
    await asyncio.to_thread(begun.wait, 60)
    one.record(RECORD)
    assert await one.flush()
    assert (await one.used()).of(Range.TODAY).total().requests == 2
    assert not looking.done()
    go.set()
    assert await looking == (1,)
    await one.close()


async def test_a_history_in_memory():
    """Without a file everything is kept until the end of the process, errors of a query included."""
    one = history(None)
    one.record(RECORD)
    with pytest.raises(HistoryUnavailable):
        await one.read(lambda connection: connection.execute("SELECT * FROM nothing"))
    assert await counted(one) == 1
    await one.close()
    with pytest.raises(HistoryUnavailable, match="closed"):
        await one.read(lambda _: None)
