"""credentials/queue.py: whose turn it is, by a clock that the tests turn."""

import math
from itertools import count, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy.credentials import queue as queue_module
from claude_proxy.credentials.queue import POLL_SECONDS, PROOF_SECONDS, STEP_SECONDS, Waiter, WaitQueue


class World:
    """A line, its clock, and one credential that rests until ``back``; ``went`` has who was let go, and when."""

    def __init__(self, back=0.0):
        self.queue, self.now, self.back = WaitQueue(), 0.0, back
        self.arrivals = count()
        self.went, self.in_vain = [], []

    def delay(self):
        return max(0.0, self.back - self.now)

    def join(self, user, seconds=60.0, delay=None, *, again=False, arrival=None, is_restricted=False):
        number = next(self.arrivals) if arrival is None else arrival
        waiter = Waiter(user, self.now + seconds, delay or self.delay, number, is_restricted)
        self.take(self.queue.join(waiter, again=again))
        return waiter

    def take(self, settled):
        for waiter in settled:
            assert waiter not in self.queue
            (self.went if waiter.is_admitted else self.in_vain).append((self.now, waiter))

    def advance(self):
        settled, seconds = self.queue.advance(self.now)
        self.take(settled)
        assert seconds > 0
        return seconds

    def run(self, until):
        """Look whenever it is time to, until then."""
        while self.now < until and len(self.queue):
            self.now = min(self.now + self.advance(), until)

    @property
    def users(self):
        return "".join(waiter.user for _, waiter in self.went)


def test_users_take_turns():
    """One user with many requests does not put back another with few; of one user who came first goes first."""
    world = World(back=10)
    waiters = [world.join(user) for user in "aaaabbc"]
    world.run(10)
    assert world.went == []
    world.run(11)
    assert world.users == "a"
    world.queue.report(good=True)
    world.run(12)
    assert world.users == "abcabaa"
    for user in "abc":
        assert [waiter for _, waiter in world.went if waiter.user == user] == [
            waiter for waiter in waiters if waiter.user == user
        ]


def test_the_first_one_finds_out():
    """Until the credential has proved good one request asks it, and when it did not, nobody else."""
    world = World(back=10)
    for user in "abcdef" * 10:
        world.join(user)
    world.run(10 + PROOF_SECONDS - 0.01)
    assert world.users == "a"
    world.back = 40
    world.queue.report(good=False)
    world.run(40.01)
    assert world.users == "ab"
    world.queue.report(good=True)
    world.run(42)
    assert len(world.users) == 60
    assert world.went[-1][0] < 41, "then they follow quickly"


def test_silence_is_no_refusal():
    """A response may take minutes to begin, and a limit is told at once: after a while without one the others follow."""
    world = World()
    for user in "abcdef":
        world.join(user)
    world.run(PROOF_SECONDS - 0.01)
    assert world.users == "a"
    world.run(PROOF_SECONDS + 1)
    assert world.users == "abcdef"


def test_a_request_that_failed_of_its_own_accord():
    """When a response shows nothing of the credential, and it is usable still, the next one finds out at once."""
    world = World()
    for user in "abc":
        world.join(user)
    for seen in ("a", "ab", "abc"):
        world.advance()
        assert world.users == seen
        world.queue.report(good=False)


def test_the_steps():
    """Each step lets one more go than the one before, so that no line lasts, and few meet a limit that comes back."""
    world = World()
    for _ in range(500):
        world.join("a", seconds=600)
    world.advance()
    world.queue.report(good=True)
    world.run(600)
    moments = [moment for moment, _ in world.went]
    assert [sum(moment <= STEP_SECONDS * step + 1e-6 for moment in moments) for step in range(4)] == [2, 4, 7, 11]
    assert max(moments) < 2
    assert world.in_vain == []


def test_a_limit_ends_the_steps():
    """When the credential is limited again nobody is let go, and the next one that is back is tried by one request again."""
    world = World()
    for _ in range(50):
        world.join("a")
    world.advance()
    world.queue.report(good=True)
    world.run(0.2)
    went = len(world.went)
    assert 1 < went < 50
    world.back = 30
    world.run(30)
    assert len(world.went) == went
    world.run(30 + PROOF_SECONDS - 0.01)
    assert len(world.went) == went + 1


def test_who_was_let_go_for_nothing_is_first_again():
    """The one that found the credential limited still has its place in the order of arrival, and the first turn."""
    world = World()
    first, *_ = [world.join(user) for user in "abca"]
    world.advance()
    assert world.went == [(0, first)]
    world.back = 10
    world.queue.report(good=False)
    again = world.join("a", again=True, arrival=first.arrival)
    world.run(10.01)
    world.queue.report(good=True)
    world.run(11)
    assert world.users == "aabca"
    assert world.went[1][1] is again


def test_who_can_use_nothing_is_passed_over():
    """A request that no usable credential serves keeps its place, and neither holds up the others nor new ones."""
    world = World(back=10)
    picky = world.join("a", delay=lambda: max(0.0, 30 - world.now), is_restricted=True)
    assert not world.queue.must_wait
    world.join("a")
    world.join("b")
    assert world.queue.must_wait
    world.run(10.01)
    world.queue.report(good=True)
    world.run(11)
    assert world.users == "ab"
    assert [*world.queue] == [picky]
    assert not world.queue.must_wait
    world.run(31)
    assert (world.users, world.went[-1][0]) == ("aba", pytest.approx(30, abs=0.1))


def test_who_waits_in_vain_is_told_at_once():
    """When the first one finds a limit that lasts longer than the others may wait, they wait no longer."""
    world = World(back=10)
    world.join("a")
    short, longer = world.join("b", seconds=60), world.join("c", seconds=600)
    world.run(10.01)
    world.back = 300
    world.queue.report(good=False)
    world.advance()
    assert [waiter for _, waiter in world.in_vain] == [short]
    world.run(301)
    assert [waiter for _, waiter in world.went][1:] == [longer]


def test_an_early_end():
    """A rest that ends before its time is seen within a second."""
    world = World(back=50)
    world.join("a")
    assert world.advance() <= POLL_SECONDS
    world.run(5.2)
    world.back = 0
    world.run(50)
    assert world.went[0][0] <= 5.2 + POLL_SECONDS


def test_a_place_that_is_left():
    """Who leaves is passed over, in any state of things, and counts no more."""
    world = World(back=10)
    waiters = [world.join(user) for user in "aab"]
    world.queue.leave(waiters[0])
    world.queue.leave(waiters[0])
    assert len(world.queue) == 2
    world.run(10.01)
    assert [waiter for _, waiter in world.went] == [waiters[1]]
    world.queue.leave(waiters[1])
    world.queue.leave(waiters[2])
    assert (len(world.queue), [*world.queue], world.queue.must_wait) == (0, [], False)
    assert world.queue.advance(11) == ([], POLL_SECONDS)


def test_a_full_line(monkeypatch):
    """A user with many places gives the last one up to a user with fewer; else there is no room."""
    monkeypatch.setattr(queue_module, "MAX_WAITERS", 4)
    world = World(back=10)
    waiters = [world.join("a") for _ in range(4)]
    assert world.join("a").is_admitted is False
    others = [world.join(user) for user in "bb"]
    assert [waiter.is_admitted for waiter in waiters] == [None, None, False, False]
    assert world.join("b").is_admitted is False
    one = world.join("c")
    assert (one.is_admitted, len(world.queue)) == (None, 4)
    assert [waiter.is_admitted for waiter in waiters[:2] + others].count(False) == 1


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("join"), st.sampled_from("abcd"), st.floats(0.1, 100)),
        st.tuples(st.just("leave"), st.integers(0, 50), st.none()),
        st.tuples(st.just("pass"), st.floats(0.01, 5), st.none()),
        st.tuples(st.just("rest"), st.floats(0.1, 60), st.none()),
        st.tuples(st.just("heard"), st.booleans(), st.none()),
    ),
    max_size=60,
)


@given(EVENTS)
def test_whatever_happens(events):
    """Nobody asks while nobody is usable, waits beyond its time or is lost; no turn comes out of order."""
    world, joined, left = World(), [], set()
    for what, value, more in events:
        match what:
            case "join":
                joined.append(world.join(value, seconds=more))
            case "leave" if value < len(joined):
                left.add(joined[value])
                world.queue.leave(joined[value])
            case "rest":
                world.back = world.now + value
            case "heard":
                world.queue.report(good=value)
            case "pass":
                _pass(world, world.now + value)
    world.run(math.inf)
    settled = [waiter for _, waiter in world.went + world.in_vain]
    assert len(settled) == len({*settled})
    assert {*settled} | left == {*joined}
    for moment, waiter in world.went + world.in_vain:
        assert moment <= waiter.until + 0.01


def _pass(world, end):
    """Look whenever it is time to, until then, and check each time who is let go."""
    waiting, went, vain = [*world.queue], len(world.went), len(world.in_vain)
    while world.now < end and len(world.queue):
        let_go = len(world.went)
        seconds = world.advance()
        assert world.delay() == 0 or len(world.went) == let_go
        world.now = min(world.now + seconds, end)
    world.now = end
    for moment, waiter in world.in_vain[vain:]:
        assert moment + max(0.0, world.back - moment) >= waiter.until
    for moment, waiter in world.went[went:]:
        assert moment < waiter.until
    for user in "abcd":
        order = [waiter.arrival for _, waiter in world.went[went:] if waiter.user == user]
        assert order == sorted(order)
    _assert_turns(waiting, [waiter for _, waiter in world.went[went:]])


def _assert_turns(waiting, went):
    """Between two turns of a user each other one that waited all the time had one."""
    for user in "abcd":
        waiters = [index for index, waiter in enumerate(went) if waiter.user == user]
        for one, two in pairwise(waiters):
            between = {waiter.user for waiter in went[one + 1 : two]}
            still = {
                waiter.user for waiter in waiting if waiter not in went and waiter.is_admitted is None and waiter.user != user
            }
            assert still <= between, "somebody was passed over"


@given(st.lists(st.integers(1, 30), min_size=2, max_size=6), st.integers(1, 20))
def test_no_user_starves(counts, served_at_once):
    """However many requests one user has, each user's n-th is let go before any user's next but one."""
    world = World()
    for number, waiters in enumerate(counts):
        for _ in range(waiters):
            world.join(str(number))
    begun = 0
    while len(world.queue):
        world.advance()
        world.queue.report(good=True)
        if len(world.went) - begun >= served_at_once:  # the credential is limited again
            begun, world.back = len(world.went), world.now + 1
        world.now += 0.3
    taken = dict.fromkeys(map(str, range(len(counts))), 0)
    for _, waiter in world.went:
        left = {user for user in taken if taken[user] < counts[int(user)]}
        assert taken[waiter.user] == min(taken[user] for user in left), "each has its turn"
        taken[waiter.user] += 1
    assert [*taken.values()] == counts or world.in_vain
