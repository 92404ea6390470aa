"""proxy/waiting.py: requests that wait for their turn, in a loop whose time passes by itself."""

import asyncio
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.virtual_time import now, run_virtually
from claude_proxy.credentials import queue as queue_module
from claude_proxy.credentials.queue import PROOF_SECONDS, Waiter
from claude_proxy.proxy.waiting import WaitQueues


class World:
    """The lines, and a credential that rests until ``back``; ``came`` has whose turn came, whose did not, and when."""

    def __init__(self, back=10.0):
        self.queues, self.back = WaitQueues(now), back
        self.came = []

    def delay(self):
        return max(0.0, self.back - now())

    async def request(self, name, seconds=60.0, what="opus", *, after=0.0, takes=0.0, good=True):
        await asyncio.sleep(after)
        waiter = Waiter(name, now() + seconds, self.delay, self.queues.arrival())
        its_turn = await self.queues.wait_for_turn(what, waiter)
        self.came.append((name, its_turn, now()))
        if its_turn:
            await asyncio.sleep(takes)
            self.queues.report(what, good=good)

    async def all(self, *requests):
        await asyncio.gather(*requests, return_exceptions=True)
        assert self.queues._queues == {}, "nothing is left behind"

    @property
    def names(self):
        return "".join(name for name, its_turn, _ in self.came if its_turn)


def test_each_has_its_turn():
    """The first one asks when the credential is back; behind its good response the others follow, user by user."""
    world = World()
    run_virtually(world.all(*[world.request(name, takes=0.3) for name in "aaabbc"]))
    assert world.names == "abcaba"
    moments = [moment for _, _, moment in world.came]
    assert moments[0] == pytest.approx(10, abs=0.01)
    assert all(10.3 <= moment < 11 for moment in moments[1:])


def test_nobody_waits_longer_than_its_time():
    """Whose time ends while others wait on goes then, whichever request it is that looks."""
    world = World(back=50)
    world_back = [world.request("a", 20), world.request("b", 5), world.request("c", 30, after=1)]
    world.back = 4.9

    async def rests_again():
        await asyncio.sleep(4)
        world.back = math.inf

    run_virtually(world.all(*world_back, rests_again()))
    assert [its_turn for _, its_turn, _ in world.came] == [False] * 3
    assert all(moment <= 5.01 for _, _, moment in world.came), "as soon as it is known"


def test_who_has_less_time_than_the_one_that_looks():
    """Whose time ends before the next look is told that it waits in vain, and nobody looks late."""
    world = World()
    run_virtually(world.all(world.request("a"), world.request("b", 0.5, after=0.1)))
    assert world.came[0] == ("b", False, pytest.approx(0.1, abs=0.01))
    assert world.names == "a"


def test_queues_are_apart():
    """Who waits for one family holds up nobody who waits for another, and each line is tried by its own first request."""
    world = World()
    run_virtually(world.all(*[world.request("a", what=what, takes=30) for what in ("opus", "sonnet")]))
    assert [moment for _, _, moment in world.came] == pytest.approx([10, 10], abs=0.01)
    assert not world.queues.must_wait("opus")


def test_who_comes_later_is_held_up():
    """While others wait for the same a new request has to wait, too."""
    world = World()

    async def asks():
        await asyncio.sleep(5)
        assert world.queues.must_wait("opus")
        assert not world.queues.must_wait("sonnet")

    run_virtually(world.all(world.request("a"), asks()))


@pytest.mark.parametrize("who", range(4))
def test_a_request_that_is_cancelled(who):
    """Whoever leaves, the one that looks or another, the others have their turns."""
    world = World()

    async def one_leaves():
        tasks = [asyncio.ensure_future(world.request(name)) for name in "abcd"]
        await asyncio.sleep(3)
        tasks[who].cancel()
        await world.all(*tasks)

    run_virtually(one_leaves())
    assert world.names == "abcd".replace("abcd"[who], "")
    assert all(10 <= moment < 10.5 for _, _, moment in world.came)


def test_all_leave_but_one():
    """However many leave at once, and the one that was to look next among them, somebody looks."""
    world = World()

    async def most_leave():
        tasks = [asyncio.ensure_future(world.request(name)) for name in "abcde"]
        await asyncio.sleep(3)
        for task in tasks[:4]:
            task.cancel()
        await world.all(*tasks)

    run_virtually(most_leave())
    assert world.names == "e"


def test_a_turn_that_nobody_takes():
    """Who leaves in the moment of its turn gives it to the next one at once."""
    world = World()

    async def leaves_at_its_turn():
        picky = Waiter("a", now() + 100, lambda: 50.0 - now(), world.queues.arrival(), is_restricted=True)
        poller = asyncio.ensure_future(world.queues.wait_for_turn("opus", picky))
        tasks = [asyncio.ensure_future(world.request(name)) for name in "bc"]
        await asyncio.sleep(1)
        (kept,) = world.queues._queues.values()
        _, second, _ = kept.queue
        assert (kept.poller, second.user) == (picky, "b")
        world.back = 0.0
        kept.wake([picky])
        while second.is_admitted is None:  # noqa: ASYNC110 - at once, before it goes on
            await asyncio.sleep(0)
        tasks[0].cancel()
        await world.all(poller, *tasks)

    run_virtually(leaves_at_its_turn())
    assert [(name, its_turn) for name, its_turn, _ in world.came] == [("c", True)]
    assert world.came[0][2] < 1 + PROOF_SECONDS


def test_a_full_line(monkeypatch):
    """Who finds no room, or has to make room, waits no longer, be it the one that looks."""
    monkeypatch.setattr(queue_module, "MAX_WAITERS", 2)
    world = World()
    run_virtually(world.all(*[world.request(name) for name in "aaabc"]))
    assert [name for name, its_turn, _ in world.came if not its_turn].count("a") >= 1
    assert len(world.names) == 2
    assert len(world.came) == 5


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.floats(0, 20), st.floats(0.1, 60), st.floats(0, 5), st.booleans()), max_size=25
    ),
    st.lists(st.tuples(st.floats(0, 60), st.floats(0, 60)), max_size=4),
    st.lists(st.tuples(st.integers(0, 24), st.floats(0, 40)), max_size=5),
)
@settings(max_examples=40)
def test_whatever_happens(requests, cooldowns, leaves):
    """Each request has its turn, waits in vain for its time at most, or was cancelled; and nothing is left behind."""
    world = World(back=5)

    async def cooldown(after, seconds):
        await asyncio.sleep(after)
        world.back = max(world.back, now() + seconds)

    async def leave(task, after):
        await asyncio.sleep(after)
        task.cancel()

    async def all_of_it():
        tasks = [
            asyncio.ensure_future(world.request(f"{name}{waiter}", wait, after=after, takes=takes, good=good))
            for waiter, (name, after, wait, takes, good) in enumerate(requests)
        ]
        gone = [(tasks[waiter], after) for waiter, after in leaves if waiter < len(tasks)]
        await world.all(*tasks, *(cooldown(*one) for one in cooldowns), *(leave(*one) for one in gone))
        return sum(task.cancelled() for task in tasks)

    cancelled = run_virtually(all_of_it())
    assert len({name for name, _, _ in world.came}) == len(world.came) >= len(requests) - cancelled
    begun = {f"{name}{waiter}": (after, wait) for waiter, (name, after, wait, _, _) in enumerate(requests)}
    for name, _, moment in world.came:
        after, wait = begun[name]
        assert moment <= after + wait + 0.01
