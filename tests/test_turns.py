"""server/turns.py: one call of a user at a time, and nobody waits for another user."""

import asyncio

import pytest

from claude_proxy.server.turns import TooMany, Turns

pytestmark = pytest.mark.anyio


async def test_one_at_a_time_for_each_user():
    """Calls of one user run in their order, one at a time; those of another user run beside them."""
    turns, running, order = Turns(10), {"anna": 0, "ben": 0}, []
    go = asyncio.Event()

    async def call(user, number):
        async with turns.of(user):
            running[user] += 1
            assert running[user] == 1
            order.append((user, number))
            await go.wait()
            running[user] -= 1

    calls = [asyncio.ensure_future(call(user, number)) for number in range(5) for user in ("anna", "ben")]
    for _ in range(3):
        await asyncio.sleep(0)
    assert running == {"anna": 1, "ben": 1}
    go.set()
    await asyncio.gather(*calls)
    assert [number for user, number in order if user == "anna"] == [*range(5)]
    assert turns._users == {}


async def test_those_who_wait_are_bounded():
    """Beyond the number that may wait a call is refused at once; a call that is cancelled or fails gives its turn on."""
    turns, go = Turns(2), asyncio.Event()

    async def call():
        async with turns.of("anna"):
            await go.wait()
            raise ValueError("an error")

    calls = [asyncio.ensure_future(call()) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(TooMany):
        async with turns.of("anna"):
            pass
    async with turns.of("ben"):
        calls[1].cancel()
    go.set()
    found = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(one) for one in found] == [ValueError, asyncio.CancelledError, ValueError]
    async with turns.of("anna"):
        pass
