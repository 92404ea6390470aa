"""proxy/sources.py: whose turn it is to ask the pool. What a rotation does with that stands in test_rotation.py."""

import asyncio

import pytest
from pools import DONE, NOTHING, A, B, cooldown, new_pool

from benchmarks.virtual_time import now, run_virtually
from claude_proxy.credentials.pool import PoolRequest
from claude_proxy.credentials.queue import PROOF_SECONDS
from claude_proxy.credentials.response_rules import Action, Verdict
from claude_proxy.credentials.scope import EVERYTHING, Scope
from claude_proxy.proxy.sources import BUSY_SECONDS, PoolSource
from claude_proxy.proxy.waiting import WaitQueues

NOBODY = frozenset()
OF_ITS_OWN = Verdict(Action.ROUTER, "the service failed")


class World:
    """A pool and the lines in front of it."""

    def __init__(self, *credentials):
        self.pool, self.queues = new_pool(*credentials, clock=now), WaitQueues(now)

    def source(self, caller="anna", max_wait=60.0, scope=EVERYTHING):
        return PoolSource(self.pool, PoolRequest(None, scope), caller=caller, max_wait=max_wait, queues=self.queues)


def test_who_comes_while_others_wait():
    """A new request is given nobody and probes nobody while others wait who could use the same; one that failed goes on."""

    async def comes():
        world = World(A, B)
        cooldown(world.pool, A, 10)
        cooldown(world.pool, B, 10)
        waits = asyncio.ensure_future(world.source().wait(NOBODY))
        await asyncio.sleep(9)
        cooldown(world.pool, B, 50)
        world.pool._clock = lambda: now() + 1.5  # A is back, and nobody has looked yet
        new = world.source("ben")
        assert (new.choose(NOBODY), new.probe(NOBODY)) == (None, None)
        assert new.choose(frozenset("b")) == A, "one that has asked another credential is under way"
        assert world.source("ben", scope=Scope("opus")).choose(NOBODY) == A, "others wait for something else"
        assert world.source("ben", max_wait=0.0).choose(NOBODY) == A, "one that may not wait is not made to"
        assert await waits == NOBODY
        assert new.choose(NOBODY) == A

    run_virtually(comes())


def test_who_finds_everybody_busy_does_not_ask_in_a_circle():
    """A request that was let go and was given nobody waits a moment before it is let go again, within its time."""

    async def circle():
        world = World(A)
        source, rounds = world.source(max_wait=5), 0
        while await source.wait(NOBODY) is not None:
            rounds += 1
        return rounds, now()

    rounds, moment = run_virtually(circle())
    assert moment == pytest.approx(5, abs=0.3)
    assert 2 < rounds <= 2 + 5 / BUSY_SECONDS


async def let_go(world, names):
    """Let these wait while A rests; return their sources, and the list of those that had their turn, as it grows."""
    cooldown(world.pool, A, 10)
    sources, went = {name: world.source(name) for name in names}, []

    async def wait(name):
        if await sources[name].wait(NOBODY) is not None:
            went.append(name)

    tasks = [asyncio.ensure_future(wait(name)) for name in names]
    await asyncio.sleep(10.01)
    assert went == [names[0]]
    return sources, went, wait, tasks


def test_what_shows_that_a_credential_is_good():
    """Behind a good response all follow; behind one that says nothing of the credential the next one alone."""

    async def first_one_is_told(verdict):
        world = World(A)
        sources, went, _, tasks = await let_go(world, "abcdef")
        sources["a"].record_response(A, verdict, NOTHING)
        await asyncio.sleep(PROOF_SECONDS - 0.1)
        for task in tasks:
            task.cancel()
        return "".join(went)

    assert run_virtually(first_one_is_told(OF_ITS_OWN)) == "ab"
    assert run_virtually(first_one_is_told(DONE)) == "abcdef"


def test_who_finds_the_limit_keeps_its_turn():
    """The request that asked for all and met the limit again is the first to ask when the credential is back."""

    async def limited_again():
        world = World(A)
        sources, went, wait, tasks = await let_go(world, "abc")
        cooldown(world.pool, A, 10)
        sources["a"].record_response(A, OF_ITS_OWN, NOTHING)
        tasks.append(asyncio.ensure_future(wait("a")))
        await asyncio.gather(*tasks)
        return "".join(went)

    assert run_virtually(limited_again())[:2] == "aa"
