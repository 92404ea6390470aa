"""state/store.py: one suite for the three stores. Redis is a real one."""

import asyncio
import json

import pytest
from stores import NOW, contents, made_up_batches, row, winners

from claude_proxy.state.memory import MemoryStore
from claude_proxy.state.redis import RedisStore
from claude_proxy.state.sqlite import SqliteStore
from claude_proxy.state.store import generation

pytestmark = pytest.mark.anyio


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


async def test_rows_by_key(handle):
    """Reading by key gives the rows that exist, in the order of the keys, as the last push of any handle left them."""
    store, other = handle(), handle()
    assert await store.read(["a"]) == await store.read([]) == []
    await store.push([row("a"), row("b", NOW, "\ud83d"), row("\ud83d")])
    await other.push([row("a", NOW + 1, "newer"), row("c", 0.0)])
    assert await store.read(["c", "missing", "\ud83d", "a"]) == [row("c", 0.0), row("\ud83d"), row("a", NOW + 1, "newer")]
    await other.prune("a", NOW + 9, 10)
    assert await store.read(["a", "b"]) == [row("b", NOW, "\ud83d")]


async def test_the_first_row_with_a_stamp_wins(handle):
    """Of several writers with one stamp the first wins, and each reads back the same row: a claim that one process gets."""
    stores = [handle() for _ in range(4)]
    claims = [row("claim", NOW, str(number)) for number in range(len(stores))]
    await asyncio.gather(*(store.push([claim]) for store, claim in zip(stores, claims, strict=True)))
    (winner, *others) = [await store.read(["claim"]) for store in stores]
    assert winner[0] in claims
    assert all(other == winner for other in others)


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
