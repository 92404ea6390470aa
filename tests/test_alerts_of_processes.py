"""alerts/watch.py in several processes that share a store: each alert is sent once, by one of them."""

import pytest

from claude_proxy.alerts.firing import HOLD_SECONDS, OVER_SECONDS
from claude_proxy.alerts.lease import ALONE_SECONDS, LEASE_SECONDS
from claude_proxy.alerts.situation import Situation
from claude_proxy.alerts.watch import AlertWatch
from claude_proxy.config.alerts import Alerts, Target
from claude_proxy.secret import Secret
from claude_proxy.state.memory import MemoryStore
from claude_proxy.state.replication import CombinedState, Synchronizer
from claude_proxy.state.store import StoreUnavailable

pytestmark = pytest.mark.anyio

NOW = 1_800_000_000.0
CONFIG = Alerts((Target("ops", Secret("json://made-up")), Target("chat", Secret("json://made-up"))))


class FlakyStore(MemoryStore):
    """A store that can be away."""

    away = False

    async def push(self, rows):
        if self.away:
            raise StoreUnavailable(self.kind, "made-up")
        await super().push(rows)

    async def pull(self, cursor):
        if self.away:
            raise StoreUnavailable(self.kind, "made-up")
        return await super().pull(cursor)


class Process:
    """One of several: its watch, and what shares its state."""

    def __init__(self, proxy):
        self.watch = AlertWatch(
            lambda: Situation(proxy.now, is_open=proxy.is_open),
            lambda: CONFIG,
            clock=lambda: proxy.now,
            is_shared=True,
            is_unavailable=lambda: self.sync.unavailable,
            deliver=proxy.deliver,
        )
        self.sync = Synchronizer(proxy.store, CombinedState(*self.watch.parts), clock=lambda: proxy.now)

    async def step(self):
        self.watch.step()
        if self.watch._sending is not None:
            await self.watch._sending
        await self.sync.exchange()

    async def stop(self):
        await self.watch.close()
        await self.sync.exchange()


class Proxy:
    """Several processes with one store and one clock. ``sent`` has the titles of all messages."""

    def __init__(self, processes):
        self.now, self.is_open, self.store, self.sent = NOW, True, FlakyStore(), []
        self.processes = [Process(self) for _ in range(processes)]

    async def deliver(self, found, report):
        for place, (_, message) in enumerate(found):
            self.sent.append(message.title.split(": ")[1][:4])
            report(place, "")

    async def run(self, seconds):
        for _ in range(int(seconds // 5)):
            self.now += 5
            for process in self.processes:
                await process.step()

    async def start(self):
        process = Process(self)
        await process.sync.exchange()
        self.processes.append(process)


async def test_one_of_several_sends():
    """Of four processes one sends the alert to each target, and one its end."""
    proxy = Proxy(4)
    await proxy.run(300)
    assert proxy.sent == ["This", "This"]
    proxy.is_open = False
    await proxy.run(2 * OVER_SECONDS)
    assert proxy.sent == ["This", "This", "over", "over"]


async def test_another_takes_over_and_repeats_nothing():
    """After the sender was killed, or has stopped, the next one knows what was sent."""
    proxy = Proxy(3)
    await proxy.run(120)
    assert proxy.sent == ["This", "This"]
    holder = next(process for process in proxy.processes if process.watch._lease._holder == process.watch._lease._writer)
    proxy.processes.remove(holder)  # as after kill -9
    await proxy.run(3 * LEASE_SECONDS)
    assert proxy.sent == ["This", "This"]
    proxy.is_open = False
    await proxy.run(2 * OVER_SECONDS)
    assert proxy.sent[2:] == ["over", "over"]


async def test_a_restart_of_all_repeats_nothing():
    """A new process, after all others have stopped, goes on where they were."""
    proxy = Proxy(2)
    await proxy.run(120)
    stopped, proxy.processes = proxy.processes, []
    for process in stopped:
        await process.stop()
    await proxy.start()
    await proxy.run(300)
    assert proxy.sent == ["This", "This"]
    proxy.is_open = False
    await proxy.run(2 * OVER_SECONDS)
    assert proxy.sent[2:] == ["over", "over"]


async def test_while_the_store_is_away():
    """The sender goes on, and when the store is back the others know what it has sent."""
    proxy = Proxy(3)
    proxy.is_open = False
    await proxy.run(60)
    proxy.store.away = True
    proxy.is_open = True
    await proxy.run(2 * ALONE_SECONDS)
    assert proxy.sent == ["This", "This"]
    proxy.store.away = False
    await proxy.run(120)
    assert proxy.sent == ["This", "This"]


async def test_a_start_while_the_store_is_away():
    """Without a known sender each process sends after some minutes: better twice than never."""
    proxy = Proxy(2)
    proxy.store.away = True
    await proxy.run(ALONE_SECONDS - 10)
    assert proxy.sent == []
    await proxy.run(HOLD_SECONDS + 60)
    assert proxy.sent == ["This"] * 4
