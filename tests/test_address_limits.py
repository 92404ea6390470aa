"""access/address_limits.py: how many requests an address may send."""

from claude_proxy.access import address_limits as module
from claude_proxy.access.address_limits import AddressLimits


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


def test_a_burst_and_then_a_rate():
    """An address may send a burst at once, and then as many as come back in time; waiting never gives more than a burst."""
    clock = Clock()
    limits = AddressLimits(3, 0.5, clock)
    assert [limits.wait("a") for _ in range(5)] == [0, 0, 0, 2, 2]
    clock.now += 1
    assert limits.wait("a") == 1
    clock.now += 1
    assert [limits.wait("a"), limits.wait("a")] == [0, 2]
    clock.now += 1e6
    assert [limits.wait("a") for _ in range(4)] == [0, 0, 0, 2]


def test_addresses_do_not_share():
    """What one address sends changes nothing for another."""
    limits = AddressLimits(1, 0.5, Clock())
    assert [limits.wait("a"), limits.wait("a"), limits.wait("b")] == [0, 2, 0]


def test_a_clock_that_is_set_back():
    """A clock that goes back gives nothing, and takes nothing away."""
    clock = Clock()
    limits = AddressLimits(2, 1, clock)
    assert limits.wait("a") == 0
    clock.now -= 500
    assert [limits.wait("a"), limits.wait("a")] == [0, 1]


def test_memory_is_bounded(monkeypatch):
    """Of more addresses than are stored, the one that was quiet for the longest is forgotten."""
    monkeypatch.setattr(module, "MAX_SOURCES", 3)
    limits = AddressLimits(1, 0.5, Clock())
    assert [limits.wait(source) for source in "abcab"] == [0, 0, 0, 2, 2]
    assert limits.wait("d") == 0  # c is forgotten
    assert [limits.wait(source) for source in "abd"] == [2, 2, 2]
    assert limits.wait("c") == 0
