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

from claude_proxy.credentials.queue import Line, Place

# Waits until the event is set, or for that many seconds.
Pause = Callable[[asyncio.Event, float], Awaitable[None]]


async def pause(event: asyncio.Event, seconds: float) -> None:
    """Wait until the event is set, at most for ``seconds``."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


@dataclass
class _Kept:
    """A queue, the event that wakes each place, the place that polls, and when it polls next."""

    line: Line = field(default_factory=Line)
    calls: dict[Place, asyncio.Event] = field(default_factory=dict)
    looks: Place | None = None
    next_look: float = -math.inf

    def call(self, places: Iterable[Place]) -> None:
        for place in places:
            if place in self.calls:
                self.calls[place].set()


class WaitingLines:
    """The queues of a process, by what is waited for. ``clock`` returns seconds from any start."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, pause: Pause = pause) -> None:
        self.clock = clock
        self._pause = pause
        self._lines: dict[Hashable, _Kept] = {}
        self._arrivals = itertools.count(1)

    def arrival(self) -> int:
        """Return the next number in the order of arrival."""
        return next(self._arrivals)

    def hold_up(self, what: Hashable) -> bool:
        """Return whether a new request must wait for its turn, because others wait for the same credentials."""
        kept = self._lines.get(what)
        return kept is not None and kept.line.holds_up

    def heard(self, what: Hashable, *, good: bool) -> None:
        """Record the result of an admitted request."""
        if kept := self._lines.get(what):
            kept.line.heard(good=good)
            kept.call([kept.looks] if kept.looks else [])

    async def turn(self, what: Hashable, place: Place, *, again: bool = False) -> bool:
        """Wait for a place's turn; return whether it was admitted. ``again``: it was admitted before, in vain."""
        kept = self._lines.setdefault(what, _Kept())
        called = kept.calls[place] = asyncio.Event()
        kept.call(kept.line.join(place, again=again))
        if kept.looks and place.until < kept.next_look:
            kept.call([kept.looks])
        try:
            while place.may_ask is None:
                if kept.looks is None or kept.looks is place:
                    await self._look(kept, place, called)
                else:
                    await called.wait()
                called.clear()
        except asyncio.CancelledError:
            if place.may_ask:  # the credential was not tested
                self.heard(what, good=False)
            raise
        finally:
            self._leave(what, kept, place)
        return place.may_ask

    async def _look(self, kept: _Kept, place: Place, called: asyncio.Event) -> None:
        kept.looks = place
        settled, seconds = kept.line.look(self.clock())
        kept.call(settled)
        if place.may_ask is None:
            kept.next_look = self.clock() + seconds
            await self._pause(called, seconds)

    def _leave(self, what: Hashable, kept: _Kept, place: Place) -> None:
        kept.line.leave(place)
        del kept.calls[place]
        if kept.looks is place:
            kept.looks = next(iter(kept.line), None)
            kept.call([kept.looks] if kept.looks else [])
        if not kept.calls and self._lines.get(what) is kept:
            del self._lines[what]
