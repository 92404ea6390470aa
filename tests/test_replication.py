"""state/replication.py: what one process learns reaches the others, and a store that is away stops nobody."""

import asyncio
import contextlib
import json
import logging

import pytest

from claude_proxy.state import replication as sync_module
from claude_proxy.state.memory import MemoryStore
from claude_proxy.state.redis import RedisStore
from claude_proxy.state.replication import LONGEST_PAUSE_SECONDS, PRUNE_EVERY_SECONDS, SALT, CombinedState, Synchronizer
from claude_proxy.state.rows import Row
from claude_proxy.state.sqlite import SqliteStore
from claude_proxy.state.store import StoreUnavailable

pytestmark = pytest.mark.anyio

NOW = 1_800_000_000.0
# An interval that no test waits for, and a time in which a test that is right has long ended.
NEVER = 3600.0
SOON = 10.0


class Clock:
    now = NOW

    def __call__(self):
        return self.now


class State:
    """What a process knows: rows by key, and those that changed here."""

    def __init__(self):
        self.rows = {}
        self.merges = []
        self.merged = asyncio.Event()
        self.poison = None
        self._changed = []

    def set(self, key, stamp=NOW, value="1"):
        self.rows[key] = Row(key, stamp, value)
        self._changed.append(self.rows[key])

    def changed(self):
        rows, self._changed = self._changed, []
        return rows

    def everything(self):
        return [*self.rows.values()]

    def merge(self, rows):
        self.merges.append([row.key for row in rows])
        if self.poison in self.merges[-1]:
            raise KeyError(self.poison)
        for row in rows:
            if row.key != SALT and (row.key not in self.rows or row.stamp > self.rows[row.key].stamp):
                self.rows[row.key] = row
        self.merged.set()


class Flaky(MemoryStore):
    """A store that can be away, hang, or lose everything, and that remembers what was pushed."""

    kind = "Flaky"

    def __init__(self):
        super().__init__()
        self.unavailable = self.hangs = self.closed = False
        self.pushes = []
        self.pushed, self.asked = asyncio.Event(), asyncio.Event()
        self.inside = self.most_inside = self.calls = 0

    async def _call(self):
        self.calls += 1
        self.asked.set()
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        try:
            await (asyncio.Event().wait() if self.hangs else asyncio.sleep(0))
        finally:
            self.inside -= 1
        if self.unavailable:
            raise StoreUnavailable(self.kind, "gone fishing")

    async def push(self, rows):
        await self._call()
        await super().push(rows)
        self.pushes.append([row.key for row in rows])
        self.pushed.set()

    async def pull(self, cursor):
        await self._call()
        return await super().pull(cursor)

    async def prune(self, prefix, older_than, keep):
        await self._call()
        await super().prune(prefix, older_than, keep)

    async def close(self):
        await self._call()
        self.closed = True

    def lose_everything(self):
        MemoryStore.__init__(self)

    def keys(self):
        return set(self._rows)


@pytest.fixture
async def store():
    return Flaky()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
async def process(store, clock):
    """Make the state of a process and what shares it through the store."""

    def process(**more):
        state = State()
        return state, Synchronizer(more.pop("store", store), state, **({"interval": NEVER, "clock": clock} | more))

    return process


@contextlib.asynccontextmanager
async def running(sync):
    task = asyncio.ensure_future(sync.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait({task})


async def soon(event):
    await asyncio.wait_for(event.wait(), SOON)


def levels(caplog):
    return [record.levelname for record in caplog.records if record.name == "claude_proxy.state.replication"]


# --- Everything works ---------------------------------------------------------------------------------------------------------


async def test_a_change_here_is_merged_there(process):
    """What changed in one process is known in another after one exchange of each."""
    (here, sync_here), (there, sync_there) = process(), process()
    here.set("a", NOW, "2")
    await sync_here.exchange()
    await sync_there.exchange()
    assert there.rows == here.rows


async def test_what_has_not_changed_is_not_pushed(process, store):
    """An exchange with nothing new pushes nothing, and merges nothing twice."""
    state, sync = process()
    state.set("a")
    await sync.exchange()
    await sync.exchange()
    assert (store.pushes, state.merges) == ([["a"]], [["a"]])


async def test_load_takes_in_what_the_store_knows(process, store):
    """Before the first request, a process knows what the store knows, and pushes nothing for it."""
    await MemoryStore.push(store, [Row("a", NOW, "1")])
    state, sync = process()
    await sync.load()
    assert set(state.rows) == {"a"}
    assert store.pushes == []


async def test_wake_pushes_at_once(process, store):
    """After ``wake`` nobody waits for the interval."""
    state, sync = process()
    async with running(sync):
        await asyncio.sleep(0)
        state.set("a")
        sync.wake()
        await soon(store.pushed)


async def test_a_wake_during_an_exchange_is_kept(process, store, monkeypatch):
    """A change that comes while rows are under way is pushed by the next exchange, without waiting for the interval."""
    state, sync = process()
    pushed = asyncio.Event()

    async def push(rows):
        await MemoryStore.push(store, rows)
        if rows[0].key == "a":
            state.set("b")
            sync.wake()
        else:
            pushed.set()

    monkeypatch.setattr(store, "push", push)
    state.set("a")
    async with running(sync):
        await soon(pushed)
    assert store.keys() == {"a", "b"}


async def test_what_was_passed_over_is_looked_at_again(process, store):
    """Rows under these prefixes come once more, however old, and once the store is there; others do not."""
    await MemoryStore.push(store, [Row("session:s", NOW, "1"), Row("usage:d", NOW, "1")])
    state, sync = process()
    await sync.exchange()
    state.merges.clear()
    sync.reload("session:", "seen:")
    store.unavailable = True
    await sync.exchange()
    store.unavailable = False
    await sync.exchange()
    await sync.exchange()
    assert state.merges == [["session:s"]]


async def test_the_interval_brings_what_changed_there(process):
    """Without any change here, what changes there arrives with the interval."""
    (here, sync_here), (there, sync_there) = process(), process(interval=0.001)
    async with running(sync_there):
        here.set("a")
        await sync_here.exchange()
        await soon(there.merged)
    assert set(there.rows) == {"a"}


async def test_two_processes_on_one_file(tmp_path):
    """Through a file, what one process is woken for is known in the other one as soon as that one looks."""
    states = [State(), State()]
    here, there = (Synchronizer(SqliteStore(tmp_path / "state.db"), state, interval=0.01) for state in states)
    await here.load()
    await there.load()
    async with running(here) as one, running(there) as other:
        states[0].set("a")
        here.wake()
        await soon(states[1].merged)
        await here.close()
        await there.close()
        await asyncio.wait_for(asyncio.gather(one, other), SOON)
    assert states[1].rows == states[0].rows


async def test_one_exchange_at_a_time(process, store):
    """Whoever asks for an exchange at the same time, the store is asked by one of them after the other."""
    state, sync = process()
    state.set("a")
    await asyncio.gather(sync.exchange(), sync.load(), sync.exchange(), sync.salt())
    assert store.most_inside == 1


# --- The store is away --------------------------------------------------------------------------------------------------------


async def test_away_is_said_once(process, store, caplog):
    """A store that is away makes one warning, with its kind, however often it is tried, and one line when it is back."""
    caplog.set_level(logging.INFO)
    state, sync = process()
    store.unavailable = True
    await sync.load()
    for _ in range(3):
        state.set("a")
        await sync.exchange()
    assert levels(caplog) == ["WARNING"]
    assert "Flaky is not available: gone fishing" in caplog.text
    store.unavailable = False
    await sync.exchange()
    await sync.exchange()
    assert levels(caplog) == ["WARNING", "INFO"]
    assert "Flaky is back" in caplog.text


async def test_each_outage_is_said(process, store, caplog):
    """The next outage is one of its own."""
    caplog.set_level(logging.INFO)
    _, sync = process()
    for store.unavailable in (True, True, False, True, False):
        await sync.exchange()
    assert levels(caplog) == ["WARNING", "INFO", "WARNING", "INFO"]


async def test_everything_is_pushed_when_it_is_back(process, store):
    """After an outage everything is pushed, what was pushed before it too, since the store may have lost it."""
    state, sync = process()
    state.set("a")
    await sync.exchange()
    store.unavailable = True
    state.set("b")
    await sync.exchange()
    store.lose_everything()
    store.pushes.clear()
    store.unavailable = False
    await sync.exchange()
    assert store.pushes == [["a", "b"]]
    await sync.exchange()
    assert store.pushes == [["a", "b"]]


async def test_what_changed_there_arrives_after_an_outage(process, store):
    """What others pushed while the store was away from this process is here after it."""
    (here, sync_here), (there, sync_there) = process(), process()
    here.set("a")
    store.unavailable = True
    await sync_there.load()
    store.unavailable = False
    await sync_here.exchange()
    await sync_there.exchange()
    assert set(there.rows) == {"a"}


async def test_a_store_that_lost_its_rows_gets_them_again(process, store, caplog):
    """When the store comes back empty between two exchanges, each process pushes everything, and nothing is said."""
    (here, sync_here), (there, sync_there) = process(), process()
    here.set("a")
    there.set("b")
    for _ in range(2):
        await sync_here.exchange()
        await sync_there.exchange()
    store.lose_everything()
    there.rows.pop("a")  # only ``here`` has it
    there.set("c")
    for _ in range(2):
        await sync_there.exchange()
        await sync_here.exchange()
    assert store.keys() == {"a", "b", "c"}
    assert levels(caplog) == []


async def test_rows_are_pushed_again_at_once_after_a_loss(process, store):
    """That the store has lost its rows is urgent: nobody waits for the interval."""
    state, sync = process()
    state.set("a")
    await sync.exchange()
    store.lose_everything()
    store.pushed.clear()
    async with running(sync):
        await soon(store.pushed)


async def test_pauses_grow_and_are_bounded(process, store, monkeypatch):
    """While the store is away the pauses double up to the longest, ``wake`` ends none, and later they are short again."""
    _, sync = process(interval=0.25)
    pauses = []

    async def happens(event, seconds):
        pauses.append((event is sync._woken, seconds))
        sync.wake()
        store.unavailable = len(pauses) not in (8, 9)
        if len(pauses) == 11:
            sync._closing.set()

    monkeypatch.setattr(sync_module, "_happens", happens)
    store.unavailable = True
    await asyncio.wait_for(sync.run(), SOON)
    unavailable = [0.25, 0.5, 1.0, 2.0, 4.0, LONGEST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS]
    assert pauses == [*((False, pause) for pause in unavailable), (True, 0.25), (True, 0.25), (False, 0.25)]


async def test_a_store_that_hangs(process, store, caplog, monkeypatch):
    """An exchange with a store that does not answer ends, and counts as an outage."""
    monkeypatch.setattr(sync_module, "EXCHANGE_SECONDS", 0.01)
    state, sync = process()
    state.set("a")
    store.hangs = True
    await asyncio.wait_for(sync.exchange(), SOON)
    assert "Flaky is not available: no response within 0.01 s" in caplog.text
    store.hangs = False
    await sync.exchange()
    assert store.keys() == {"a"}


async def test_a_start_with_a_store_that_hangs(process, store, caplog):
    """A start waits for the store once, for a bounded time, and goes on with nothing; what there is comes later."""
    await MemoryStore.push(store, [Row("a", NOW, "1")])
    state, sync = process(patience=0.01)
    store.hangs = True
    await asyncio.wait_for(sync.salt(), SOON)
    calls = store.calls
    await asyncio.wait_for(sync.load(), SOON)
    assert (store.calls, state.rows, levels(caplog)) == (calls, {}, ["WARNING"])
    store.hangs = False
    await sync.exchange()
    assert set(state.rows) == {"a"}


async def test_a_load_from_a_store_that_hangs(process, store, caplog):
    """Loading from a store that does not answer ends by itself."""
    state, sync = process(patience=0.01)
    store.hangs = True
    await asyncio.wait_for(sync.load(), SOON)
    assert (state.rows, levels(caplog)) == ({}, ["WARNING"])


async def test_rows_that_cannot_be_merged(process, store, caplog):
    """Rows that the state chokes on end nothing: they are said, not tried again, and the next ones are merged."""
    state, sync = process()
    state.poison = "bad"
    await MemoryStore.push(store, [Row("bad", NOW, "1")])
    await sync.exchange()
    assert levels(caplog) == ["WARNING"]
    assert "Flaky is not usable: KeyError" in caplog.text
    await MemoryStore.push(store, [Row("good", NOW, "1")])
    await sync.exchange()
    assert set(state.rows) == {"good"}


async def test_no_secret_in_the_log(process, caplog):
    """What is said about a Redis that is away names its kind and not its password."""
    caplog.set_level(logging.DEBUG)
    _, sync = process(store=RedisStore("redis://:made-up-password@127.0.0.1:1/0"))
    await sync.salt()
    await sync.load()
    await sync.exchange()
    await sync.close()
    assert "Redis is not available" in caplog.text
    assert "made-up-password" not in caplog.text


# --- The end ------------------------------------------------------------------------------------------------------------------


async def test_close_pushes_the_last_change(process, store):
    """The end pushes what has changed since the last exchange, ends the loop and closes the store."""
    state, sync = process()
    async with running(sync) as task:
        await asyncio.sleep(0)
        state.set("last")
        await sync.close()
        await asyncio.wait_for(task, SOON)
    assert store.keys() == {"last"}
    assert store.closed


async def test_close_pushes_what_a_cancelled_loop_left(process, store):
    """Rows that were under way when the loop was cancelled are pushed at the end."""
    state, sync = process()
    store.hangs = True
    state.set("a")
    async with running(sync):
        await soon(store.asked)
    store.hangs = False
    await sync.close()
    assert store.keys() == {"a"}


@pytest.mark.parametrize("trouble", ["unavailable", "hangs"])
async def test_close_without_the_store(process, store, trouble):
    """The end waits for no store: the loop ends in its pause, and nothing is raised."""
    state, sync = process(patience=0.01)
    setattr(store, trouble, True)
    await sync.load()
    async with running(sync) as task:
        await asyncio.sleep(0)
        state.set("last")
        await asyncio.wait_for(sync.close(), SOON)
        store.hangs = False
        task.cancel()
        await asyncio.wait({task})
    assert store.keys() == set()


async def test_close_ends_the_pause_of_an_outage(process, store):
    """A loop that pauses because the store is away ends with ``close``, and not only after the pause."""
    _, sync = process()
    store.unavailable = True
    async with running(sync) as task:
        await soon(store.asked)
        await sync.exchange()  # which is after the loop's own
        await sync.close()
        await asyncio.wait_for(task, SOON)
    assert not task.cancelled()


# --- The salt -----------------------------------------------------------------------------------------------------------------


async def test_all_processes_have_one_salt(process, store):
    """However many processes ask for the salt at once, they get the same, and so does one that comes later."""
    first = await asyncio.gather(*(process()[1].salt() for _ in range(5)))
    assert len({*first, await process()[1].salt()}) == 1
    assert len(first[0]) == 32
    rows, _ = await store.pull(0)
    assert rows == [Row(SALT, 0.0, json.dumps(first[0]))]


async def test_stores_have_salts_of_their_own(process):
    """Two stores do not agree on a salt."""
    assert await process(store=MemoryStore())[1].salt() != await process(store=MemoryStore())[1].salt()


async def test_a_salt_for_now(process, store, caplog):
    """With the store away there is a salt all the same; afterwards the store's own reaches the state first of all rows."""
    await MemoryStore.push(store, [Row("before", NOW, "1")])
    salt = await process()[1].salt()
    await MemoryStore.push(store, [Row("a", NOW, "1")])
    state, sync = process()
    store.unavailable = True
    own = await sync.salt()
    assert own != salt
    store.unavailable = False
    state.set("mine")
    await sync.exchange()
    assert state.merges[0] == [SALT, "before", "a"]
    # Everything goes out after that, under the keys that the state has made anew, and only once.
    assert store.pushes[-1] == [SALT, "mine", "before", "a"]
    assert [row for row in (await store.pull(0))[0] if row.key == SALT] == [Row(SALT, 0.0, json.dumps(salt))]


async def test_a_salt_for_now_becomes_the_salt(process, store):
    """When the store was away and comes back without a salt, a process that made one puts its own there."""
    _, sync = process()
    store.unavailable = True
    own = await sync.salt()
    store.unavailable = False
    await sync.exchange()
    assert await process()[1].salt() == own


async def test_another_salt_pushes_everything_again(process, store):
    """When the store has another salt than it had, everything is pushed again after the state has learned it."""
    state, sync = process()
    await sync.salt()
    state.set("a")
    await sync.exchange()
    store.lose_everything()
    await MemoryStore.push(store, [Row(SALT, 0.0, '"another"')])
    await sync.exchange()
    store.pushes.clear()
    await sync.exchange()
    assert store.pushes == [[SALT, "a"]]
    assert await sync.salt() == "another"


async def test_another_process_puts_its_salt_there_first(process, store, monkeypatch):
    """A salt for now that another process's comes before gives way to that one, and everything is pushed once more."""
    state, sync = process()
    store.unavailable = True
    await sync.salt()
    store.unavailable = False
    push = store.push

    async def late(rows):
        await MemoryStore.push(store, [Row(SALT, 0.0, '"faster"')])
        await push(rows)

    monkeypatch.setattr(store, "push", late)
    state.set("a")
    await sync.exchange()
    assert state.merges == [[SALT, "a"]]
    await sync.exchange()
    await sync.exchange()
    assert store.pushes == [[SALT, "a"]] * 2


async def test_a_lost_salt_is_put_back(process, store):
    """A store that has lost its rows gets the salt again: the keys of all processes stay as they are."""
    _, sync = process()
    salt = await sync.salt()
    await sync.load()
    store.lose_everything()
    await sync.exchange()
    await sync.exchange()
    assert await process()[1].salt() == salt


# --- Pruning ------------------------------------------------------------------------------------------------------------------


async def test_what_is_pruned(process, store):
    """Sessions go after six idle hours, credentials after thirty days, and nothing else goes by its age."""
    hour, day = 3600.0, 86400.0
    ages = {
        "session:5h": 5 * hour,
        "session:7h": 7 * hour,
        "credential:29d": 29 * day,
        "credential:31d": 31 * day,
        "cursor": 99 * day,
        SALT: NOW,
    }
    await MemoryStore.push(store, [Row(key, NOW - age, "1") for key, age in ages.items()])
    await process()[1].exchange()
    assert store.keys() == {"session:5h", "credential:29d", "cursor", SALT}


async def test_so_many_sessions_are_kept(process, store):
    """Of more than ten thousand sessions the store keeps those that were used last."""
    await MemoryStore.push(store, [Row(f"session:{number}", NOW + number, "1") for number in range(10_003)])
    await process()[1].exchange()
    assert store.keys() == {f"session:{number}" for number in range(3, 10_003)}


async def test_pruning_is_rare(process, store, clock):
    """A process prunes at its first exchange and then now and then only."""
    _, sync = process()
    await sync.exchange()
    await MemoryStore.push(store, [Row("session:old", 0.0, "1")])
    clock.now += PRUNE_EVERY_SECONDS - 1
    await sync.exchange()
    assert store.keys() == {"session:old"}
    clock.now += 1
    await sync.exchange()
    assert store.keys() == set()


async def test_several_parts_are_shared_through_one_store():
    """What each part of a process changes reaches that part of another process; every part hears of all rows."""
    store = MemoryStore()
    here, there = [State(), State()], [State(), State()]
    for number, state in enumerate(here):
        state.set(f"key-{number}")
    first, second = Synchronizer(store, CombinedState(*here)), Synchronizer(store, CombinedState(*there))
    await first.exchange()
    await second.exchange()
    assert [[*state.rows] for state in there] == [["key-0", "key-1"]] * 2
    assert sorted(row.key for row in CombinedState(*there).everything()) == ["key-0", "key-0", "key-1", "key-1"]
    assert (first.kind, first.unavailable) == ("memory", False)


@pytest.mark.parametrize("value", ["", "[", "7", "null", '"\\ud800"', '"' + "x" * 300 + '"', "[" * 100_000])
async def test_a_broken_salt_costs_nothing_else(value):
    """A salt that is none is passed over, and what the store holds beside it still arrives."""
    store, state = MemoryStore(), State()
    await store.push([Row(SALT, 0.0, value), Row("fact", NOW, "1")])
    sync = Synchronizer(store, state, clock=Clock())
    salt = await sync.salt()
    await sync.load()
    assert (len(salt), sync.unavailable, "fact" in state.rows) == (32, False, True)


# --- an exchange that somebody waits for -------------------------------------------------------------------------------------


async def test_who_confirms_gets_what_was_there_and_shares_what_is_here(process, store):
    """After ``confirm`` the process has every row that was in the store when it was called, and the store has its changes."""
    (one, sync), (other, other_sync) = process(), process()
    other.set("b")
    assert await other_sync.confirm()
    one.set("a")
    assert await sync.confirm()
    assert set(one.rows) == {"a", "b"}
    assert {"a", "b"} <= store.keys()


async def test_many_wait_for_one_exchange(process, store):
    """A hundred calls at the same time make one exchange, and each call during one waits for the next one."""
    _, sync = process()
    await sync.confirm()
    calls = store.calls
    assert await asyncio.gather(*(sync.confirm() for _ in range(100))) == [True] * 100
    alone = store.calls - calls
    store.asked.clear()
    first = asyncio.ensure_future(sync.confirm())
    await soon(store.asked)
    await asyncio.gather(first, *(sync.confirm() for _ in range(100)))
    assert store.calls - calls == 3 * alone
    assert store.most_inside == 1


async def test_a_row_that_is_pushed_during_an_exchange_is_in_the_next_one(process, store):
    """A call that arrives while an exchange runs does not rely on it: the exchange may have read before the row was there."""
    (one, sync), (other, other_sync) = process(), process()
    running_exchange = asyncio.ensure_future(sync.confirm())
    await soon(store.asked)
    other.set("late")
    await other_sync.confirm()
    assert await sync.confirm()
    assert "late" in one.rows
    await running_exchange


async def test_nobody_waits_for_a_store_that_is_away(process, store):
    """The exchange that finds the store missing returns False, and later calls do so without asking it."""
    state, sync = process()
    store.unavailable = True
    assert not await sync.confirm()
    calls = store.calls
    assert not await sync.confirm()
    assert store.calls == calls
    store.unavailable = False
    state.set("a")
    await sync.exchange()
    assert await sync.confirm()


async def test_a_caller_that_leaves_takes_nothing_from_the_others(process, store):
    """A cancelled call does not cancel the exchange for which others wait."""
    _, sync = process()
    leaving, staying = (asyncio.ensure_future(sync.confirm()) for _ in range(2))
    await soon(store.asked)
    leaving.cancel()
    assert await staying
    assert leaving.cancelled()
