"""access/request_limits.py: how many requests a user may send."""

import json
from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy.access.request_limits import ALIVE_SECONDS, MINUTE, RENEW_SECONDS, RequestLimits
from claude_proxy.anthropic.errors import Refused
from claude_proxy.config.user_limits import UserLimits
from claude_proxy.state.rows import Row

LIMITS = {"anna": {"requests_per_minute": 3}, "Ben": {"streams": 2}, "carl": {"requests_per_minute": 2, "streams": 1}}


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class Process:
    """The limits of one process, on a monotonic clock of its own."""

    def __init__(self, writer="a", unix=None):
        self.clock, self.unix = Clock(), unix or Clock()
        users = UserLimits.of({"claude_proxy": {"users": LIMITS}})
        self.limits = RequestLimits(lambda: users, clock=self.unix, monotonic=self.clock, writer=writer)
        self.running = ExitStack()

    def send(self, user, *, ends=True):
        """Return the refusal of a request, or None; a request that does not end keeps running."""
        context = self.limits.admitted(user)
        try:
            if ends:
                with context:
                    pass
            else:
                self.running.enter_context(context)
        except Refused as refused:
            return refused
        return None


def test_a_minute_slides():
    """The limit applies to every sixty seconds; a refusal says when the next request is admitted, and does not count."""
    one = Process()
    for _ in range(3):
        assert one.send("anna") is None
        one.clock.now += 10
    refused = [one.send("ANNA") for _ in range(5)][-1]
    assert (refused.status, dict(refused.headers)) == (429, {"retry-after": "30", "x-should-retry": "true"})
    assert str(refused).startswith("ANNA may send 3 requests per minute on this proxy. Try again in 30 s.")
    assert "requests_per_minute in the proxy's config.yaml; its operator can change it" in str(refused)
    one.clock.now += 30
    assert [one.send("anna") is None for _ in range(2)] == [True, False]


def test_requests_at_the_same_time():
    """The limit of streams applies to requests in progress; one that has ended, however it ended, makes room."""
    one = Process()
    assert [one.send("ben", ends=False) for _ in range(2)] == [None, None]
    refused = one.send("ben")
    assert (refused.status, dict(refused.headers)) == (429, {"retry-after": "1", "x-should-retry": "true"})
    assert "ben may have 2 requests in progress at the same time" in str(refused)
    one.running.close()
    with pytest.raises(ConnectionError), one.limits.admitted("ben"):
        raise ConnectionError
    assert [one.send("ben", ends=False) for _ in range(2)] == [None, None]


def test_a_request_beyond_one_limit_does_not_count_for_the_other():
    """A request that is refused for the streams is not one of the minute's requests."""
    one = Process()
    assert one.send("carl", ends=False) is None
    assert "in progress" in str(one.send("carl"))
    one.running.close()
    assert [one.send("carl") is None, one.send("carl") is None] == [True, False]


def test_users_without_a_limit():
    """A user without limits is never refused, and nothing is kept or shared."""
    one = Process()
    assert [one.send("dora", ends=False) for _ in range(100)] == [None] * 100
    assert (one.limits.changed(), one.limits.everything()) == ([], [])


def test_processes_share_their_numbers():
    """What one process admits counts in the others once the rows have been exchanged, whatever their clocks show."""
    one, two = Process("a"), Process("b")
    two.clock.now = two.unix.now = 77.0
    for process, other in ((one, two), (two, one)):  # a first row may be old; the clocks decide
        process.send("carl")
        other.limits.merge(process.limits.changed())
    for process in (one, two):
        assert process.send("anna") is None
        assert process.send("ben", ends=False) is None
    one.clock.now += 20
    rows = [*one.limits.changed(), *two.limits.changed()]
    for process in (one, two):
        process.limits.merge(rows)
        assert process.send("anna") is None
        assert process.send("ben") is not None
    refused = one.send("anna")
    assert dict(refused.headers)["retry-after"] == "40"
    two.running.close()
    one.limits.merge(two.limits.changed())
    assert one.send("ben") is None


def test_a_killed_process_frees_its_requests():
    """Requests of a process that no longer renews its row count for half a minute; those of a living one keep counting."""
    one, two = Process("a"), Process("b")
    assert [two.send("ben", ends=False) for _ in range(2)] == [None, None]
    one.limits.merge(two.limits.changed())
    for _ in range(4):
        one.clock.now += RENEW_SECONDS
        two.clock.now += RENEW_SECONDS
        two.unix.now += RENEW_SECONDS
        one.limits.merge(two.limits.changed())
        assert one.send("ben") is not None
    one.clock.now += ALIVE_SECONDS
    assert one.send("ben") is None


def test_what_a_start_finds_in_the_store():
    """The row of a process that ended long ago does not count after a start."""
    unix = Clock()
    old, new = Process("a", unix), Process("b", unix)
    assert [old.send("carl", ends=False), old.send("anna")] == [None, None]
    rows = old.limits.changed()
    unix.now += MINUTE + 1
    new.limits.merge(rows)
    assert [new.send("carl", ends=False) is None, *(new.send("anna") is None for _ in range(3))] == [True] * 4


def test_nothing_is_shared_twice():
    """A row is returned when numbers change, and once more to renew it; without requests there is none."""
    one = Process()
    assert one.send("anna") is None
    assert [len(one.limits.changed()), len(one.limits.changed())] == [1, 0]
    one.clock.now += MINUTE
    assert [one.limits.changed(), json.loads(one.limits.everything()[0].value)] == [[], {}]


@pytest.mark.parametrize(
    "value",
    [
        "",
        "[]",
        "1",
        '{"anna": 1}',
        '{"anna": [-1, []]}',
        '{"anna": [true, []]}',
        '{"anna": [0, [[61, 1]]]}',
        '{"anna": [0, [1]]}',
    ],
)
def test_a_row_that_is_none(value):
    """An invalid row, a row of another part, and an own row are skipped."""
    one = Process()
    one.limits.merge([Row("requests:b", 1.0, value), Row("usage:b", 1.0, "x"), Row("requests:a", 9e9, '{"anna": [9, []]}')])
    assert one.send("anna") is None


@given(st.lists(st.tuples(st.integers(0, 40 * 64), st.booleans()), max_size=40))
def test_no_minute_has_more(steps):
    """Whenever requests arrive, no sixty seconds contain more admitted ones than the limit, and a wait that ends is enough."""
    one, admitted = Process(), []
    for parts, waits in steps:
        one.clock.now += parts / 64
        refused = one.send("anna")
        if refused is not None and waits:
            one.clock.now += int(dict(refused.headers)["retry-after"])
            refused = one.send("anna")
            assert refused is None
        if refused is None:
            admitted.append(one.clock.now)
    assert all(sum(at - MINUTE < other <= at for other in admitted) <= 3 for at in admitted)
