"""state/redis.py: what is true of a Redis only, which is a real one."""

import asyncio
import contextlib
import logging
import signal
import traceback

import pytest
from stores import NOW, contents, row, write_from_processes

from claude_proxy.state import redis
from claude_proxy.state.redis import RedisStore
from claude_proxy.state.store import StoreUnavailable, generation

pytestmark = pytest.mark.anyio

PASSWORD = "made-up:pass/word@secret"
QUOTED_PASSWORD = "made-up%3Apass%2Fword%40secret"


async def test_four_processes_on_one_redis(empty_redis, keep):
    """Of four processes that push the same keys at once, the largest stamp of each key wins."""
    expected = write_from_processes("redis", empty_redis.url)
    assert await contents(keep(RedisStore(empty_redis.url))) == expected


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
    monkeypatch.setattr(redis, "TIMEOUT_SECONDS", 0.2)
    server = new_redis()
    server.start()
    store = keep(RedisStore(server.url))
    await store.push([row("a")])
    server.process.send_signal(signal.SIGSTOP)
    with pytest.raises(StoreUnavailable, match="TimeoutError"):
        await store.pull(0)
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
