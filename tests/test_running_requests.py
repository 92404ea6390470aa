"""usage/running_requests.py: how many requests are in progress, in all processes."""

import json
from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy.state.rows import Row
from claude_proxy.usage.running_requests import ALIVE_SECONDS, RENEW_SECONDS, SHARE_SECONDS, RunningRequests


class Clock:
    def __init__(self, now=1000.0):
        self.now = now

    def __call__(self):
        return self.now


class Process:
    """The requests of one process, on a monotonic clock of its own."""

    def __init__(self, writer="a", now=1000.0):
        self.clock, self.unix = Clock(now), Clock()
        self.running = RunningRequests(clock=self.unix, monotonic=self.clock, writer=writer)
        self.open = ExitStack()

    def begin(self, *users):
        for user in users:
            self.open.enter_context(self.running.counted(user))

    def rows(self):
        self.clock.now += SHARE_SECONDS
        self.unix.now += SHARE_SECONDS
        return self.running.changed()


def test_requests_in_progress():
    """A request counts from its beginning to its end, however it ends, under its user's folded name."""
    one = Process()
    one.begin("Anna", "anna", "ben")
    one.begin("carl")
    with pytest.raises(ConnectionError), one.running.counted("dora"):
        raise ConnectionError
    assert one.running.users() == {"anna": 2, "ben": 1, "carl": 1}
    one.open.close()
    assert one.running.users() == {}


def test_processes_share_their_counts():
    """The counts of all processes are added, whatever their own clocks show."""
    one, two = Process("a"), Process("b", 7.0)
    one.begin("anna", "ben")
    two.begin("anna")
    for process, other in ((one, two), (two, one)):
        other.running.merge(process.rows())
    assert one.running.users() == two.running.users() == {"anna": 2, "ben": 1}
    two.open.close()
    one.running.merge(two.rows())
    assert one.running.users() == {"anna": 1, "ben": 1}


def test_changes_are_shared_once_in_a_second():
    """A request that begins and ends between two exchanges is no reason for more of them; a stop does not wait."""
    one = Process()
    assert one.running.changed() == []
    one.begin("anna")
    assert len(one.running.changed()) == 1
    one.open.close()
    assert one.running.changed() == []
    assert [json.loads(row.value) for row in one.rows()] == [{}]
    assert one.rows() == []
    one.begin("anna")
    one.running.flush_next()
    assert len(one.running.changed()) == 1


def test_a_killed_process_has_no_requests():
    """Requests of a process that no longer renews its row count for half a minute; a long one of a living process keeps."""
    one, two = Process("a"), Process("b")
    two.begin("ben")
    one.running.merge(two.rows())
    for _ in range(4):
        for process in (one, two):
            process.clock.now += RENEW_SECONDS
        one.running.merge(two.rows())
        assert one.running.users() == {"ben": 1}
    one.clock.now += ALIVE_SECONDS
    assert one.running.users() == {}


def test_an_old_row_of_the_store():
    """What a process finds in the store at its start counts only as long as its writer may be alive."""
    one, two = Process("a"), Process("b")
    two.begin("ben")
    rows = two.rows()
    one.unix.now += ALIVE_SECONDS + 1 + SHARE_SECONDS
    one.running.merge(rows)
    assert one.running.users() == {}


VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.dictionaries(st.text(max_size=5), inner, max_size=3) | st.lists(inner, max_size=2),
)


@given(st.text(max_size=5), VALUES.map(json.dumps) | st.text(max_size=9), st.sampled_from([0.0, 1000.0, 1e12]))
def test_rows_of_other_writers(writer, value, stamp):
    """Invalid rows change nothing and raise nothing; names are printable."""
    one = Process()
    one.begin("anna")
    one.running.merge([Row(f"running:{writer}", stamp, value), Row("running", stamp, value), Row("usage:x", stamp, value)])
    users = one.running.users()
    assert users["anna"] >= 1
    assert all(user.isprintable() and isinstance(count, int) and count >= 0 for user, count in users.items())
