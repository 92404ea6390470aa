"""Requests that wait for a credential, each until ``credentials/queue.py`` admits or refuses it.

In each queue one request polls, at the times that the queue sets, and wakes the others. When it leaves, the next one takes
over. So no extra task is needed, and a cancelled request leaves nothing behind.
"""

import asyncio
import contextlib
import itertools
import math
import time
from collections.abc import Awaitable, Callable, Hashable, Iterable
from dataclasses import dataclass, field

from claude_proxy.credentials.queue import Waiter, WaitQueue

# Waits until the event is set, or for that many seconds.
Pause = Callable[[asyncio.Event, float], Awaitable[None]]


async def pause(event: asyncio.Event, seconds: float) -> None:
    """Wait until the event is set, at most for ``seconds``."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


@dataclass
class _Queue:
    """A queue, the event that wakes each waiter, the waiter that polls, and when it polls next."""

    queue: WaitQueue = field(default_factory=WaitQueue)
    events: dict[Waiter, asyncio.Event] = field(default_factory=dict)
    poller: Waiter | None = None
    next_poll: float = -math.inf

    def wake(self, waiters: Iterable[Waiter]) -> None:
        for waiter in waiters:
            if waiter in self.events:
                self.events[waiter].set()


class WaitQueues:
    """The queues of a process, by what is waited for. ``clock`` returns seconds from any start."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, pause: Pause = pause) -> None:
        self.clock = clock
        self._pause = pause
        self._queues: dict[Hashable, _Queue] = {}
        self._arrivals = itertools.count(1)

    def arrival(self) -> int:
        """Return the next number in the order of arrival."""
        return next(self._arrivals)

    def must_wait(self, what: Hashable) -> bool:
        """Return whether a new request must wait for its turn, because others wait for the same credentials."""
        entry = self._queues.get(what)
        return entry is not None and entry.queue.must_wait

    def report(self, what: Hashable, *, good: bool) -> None:
        """Record the result of an admitted request."""
        if entry := self._queues.get(what):
            entry.queue.report(good=good)
            entry.wake([entry.poller] if entry.poller else [])

    async def wait_for_turn(self, what: Hashable, waiter: Waiter, *, again: bool = False) -> bool:
        """Wait for a waiter's turn; return whether it was admitted. ``again``: it was admitted before, in vain."""
        entry = self._queues.setdefault(what, _Queue())
        event = entry.events[waiter] = asyncio.Event()
        entry.wake(entry.queue.join(waiter, again=again))
        if entry.poller and waiter.until < entry.next_poll:
            entry.wake([entry.poller])
        try:
            while waiter.is_admitted is None:
                if entry.poller is None or entry.poller is waiter:
                    await self._poll(entry, waiter, event)
                else:
                    await event.wait()
                event.clear()
        except asyncio.CancelledError:
            if waiter.is_admitted:  # the credential was not tested
                self.report(what, good=False)
            raise
        finally:
            self._leave(what, entry, waiter)
        return waiter.is_admitted

    async def _poll(self, entry: _Queue, waiter: Waiter, event: asyncio.Event) -> None:
        entry.poller = waiter
        settled, seconds = entry.queue.advance(self.clock())
        entry.wake(settled)
        if waiter.is_admitted is None:
            entry.next_poll = self.clock() + seconds
            await self._pause(event, seconds)

    def _leave(self, what: Hashable, entry: _Queue, waiter: Waiter) -> None:
        entry.queue.leave(waiter)
        del entry.events[waiter]
        if entry.poller is waiter:
            entry.poller = next(iter(entry.queue), None)
            entry.wake([entry.poller] if entry.poller else [])
        if not entry.events and self._queues.get(what) is entry:
            del self._queues[what]
