"""alerts/lease.py: one process of all sends the alerts."""

import json

import hypothesis.strategies as st
import pytest
from hypothesis import given

from claude_proxy.alerts.lease import ALONE_SECONDS, KEY, LEASE_SECONDS, MAX_AHEAD, SETTLE_SECONDS, Lease
from claude_proxy.state.rows import Row

NOW = 1_800_000_000.0


class Proxy:
    """Processes with one store: rows reach the others when ``exchange`` is called."""

    def __init__(self, count):
        self.now, self.rows = NOW, {}
        self.leases = [Lease(lambda: self.now, is_shared=True, writer=f"w{number}") for number in range(count)]

    def exchange(self):
        for lease in self.leases:
            for row in lease.changed():
                if row.key not in self.rows or row.stamp > self.rows[row.key].stamp:
                    self.rows[row.key] = row
        for lease in self.leases:
            lease.merge([*self.rows.values()])

    def holders(self, *, dead=()):
        """Who holds the lease, after each has looked once and they have exchanged rows."""
        found = [number for number, lease in enumerate(self.leases) if number not in dead and lease.is_held()]
        self.exchange()
        return found

    def run(self, seconds, *, dead=()):
        for _ in range(int(seconds // 5)):
            assert len(self.holders(dead=dead)) <= 1
            self.now += 5
        return self.holders(dead=dead)


def test_without_a_store_a_process_holds_it():
    """One process needs nobody's consent."""
    assert Lease(lambda: NOW, is_shared=False).is_held()


def test_one_of_several_holds_it():
    """Of processes that start together one holds the lease, and it stays the one."""
    proxy = Proxy(5)
    assert proxy.holders() == []
    found = proxy.run(600)
    assert len(found) == 1
    assert proxy.run(600) == found


def test_another_takes_over():
    """When the holder is gone, another process takes over after the time of the lease, and none in between."""
    proxy = Proxy(3)
    (holder,) = proxy.run(60)
    proxy.now += 1
    assert proxy.run(LEASE_SECONDS - 20, dead=(holder,)) == []
    (after,) = proxy.run(40, dead=(holder,))
    assert after != holder


def test_a_stop_hands_over_at_once():
    """A holder that stops does not make the others wait."""
    proxy = Proxy(2)
    (holder,) = proxy.run(60)
    proxy.leases[holder].release()
    proxy.exchange()
    assert proxy.run(2 * SETTLE_SECONDS, dead=(holder,)) == [1 - holder]


def test_a_holder_that_was_asleep_sees_that_it_is_none():
    """A process that did not run for a while does not act on its old lease."""
    now = [NOW]
    lease = Lease(lambda: now[0], is_shared=True)
    for _ in range(4):
        is_held = lease.is_held()
        lease.merge(lease.everything())
        now[0] += 5
    assert is_held
    now[0] += LEASE_SECONDS
    assert not lease.is_held()


def test_while_the_store_is_away():
    """The holder stays the holder, and the others do not become it."""
    proxy = Proxy(2)
    (holder,) = proxy.run(60)
    proxy.now += 10 * LEASE_SECONDS
    assert [lease.is_held(unavailable=True) for lease in proxy.leases] == [number == holder for number in range(2)]


def test_without_a_known_holder_a_process_acts_alone():
    """A process that starts while the store is away sends alerts after some minutes."""
    now = [NOW]
    lease = Lease(lambda: now[0], is_shared=True)
    assert not lease.is_held(unavailable=True)
    now[0] += ALONE_SECONDS
    assert lease.is_held(unavailable=True)
    assert not lease.is_held()
    assert lease.changed()


def test_a_claim_that_the_store_never_had():
    """A process whose claim did not arrive, because the store is away, does not act as the holder."""
    now = [NOW]
    lease = Lease(lambda: now[0], is_shared=True)
    assert not lease.is_held()
    for _ in range(int(ALONE_SECONDS // 10)):
        now[0] += 10
        assert not lease.is_held(unavailable=True) or now[0] - NOW >= ALONE_SECONDS


def test_clocks_that_differ():
    """A process whose clock is ahead takes the lease once, and keeps it."""
    proxy = Proxy(1)
    ahead = Lease(lambda: proxy.now + 5 * LEASE_SECONDS, is_shared=True, writer="ahead")
    proxy.leases.append(ahead)
    assert proxy.run(120) == [1]
    assert proxy.run(600) == [1]


def test_a_clock_that_was_ahead():
    """A claim by a clock that was ten years ahead for a moment does not keep the lease from one process and its followers."""
    proxy = Proxy(3)
    proxy.now += 10 * 365 * 86400
    proxy.run(30)
    proxy.now = NOW
    (holder,) = proxy.run(60)
    assert len(proxy.run(300, dead=(holder,))) == 1


VALUE = st.text(max_size=100) | st.tuples(st.text(max_size=5), st.floats() | st.text(max_size=3)).map(json.dumps)


@given(VALUE, st.floats(allow_nan=True))
def test_whatever_a_row_contains(value, stamp):
    """No row keeps the lease from being claimed."""
    now = [NOW]
    lease = Lease(lambda: now[0], is_shared=True)
    lease.merge([Row(KEY, stamp, value)])
    now[0] += MAX_AHEAD + LEASE_SECONDS
    assert not lease.is_held()
    lease.merge(lease.changed())
    now[0] += SETTLE_SECONDS
    assert lease.is_held()


def test_only_its_own_row():
    """Rows of other parts change nothing."""
    lease = Lease(lambda: NOW, is_shared=True)
    lease.merge([Row("credential:x", NOW, "{}")])
    assert lease.everything() == []
    assert pytest.approx(NOW) == (lease.is_held() or lease.everything()[0].stamp)
