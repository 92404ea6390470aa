"""The proxy's own flow on a made clock: events in the order of their moments, and ``Rotation`` stepped by hand.

Nothing here waits or asks for the time. A flow is left standing while its request is under way, so that other requests are
chosen for in between, as in a running proxy.
"""

import heapq
import itertools
import types
from collections.abc import Callable, Generator
from typing import Any, NamedTuple

from claude_proxy.credentials.pool import Pool, Wanted
from claude_proxy.providers.endpoints import ANTHROPIC_API, Hosts
from claude_proxy.proxy.journal import Journal
from claude_proxy.proxy.request import Request, read_view
from claude_proxy.proxy.rotation import NobodyUsable, Rotation
from claude_proxy.proxy.sources import PoolSource
from claude_proxy.upstream.headers import read

MONDAY = 1_799_625_600.0  # 2027-01-11, 00:00 UTC
URL = f"{ANTHROPIC_API}/v1/messages"
HOSTS = Hosts()
HEADERS = (("user-agent", "claude-cli/2.1.197 (external, cli)"), ("anthropic-version", "2023-06-01"))
BODY = b'{"model":"claude-opus-5","messages":[{"role":"user","content":"hi"}]}'
REQUEST = Request(read(HEADERS), HEADERS, BODY, read_view(BODY))
COOLDOWN = 60.0
# What the flow yields when its request is under way; when it waits, it yields the seconds.
SENT = object()


class Clock:
    """Unix seconds, as the last event left them."""

    now = MONDAY

    def __call__(self) -> float:
        """Return them."""
        return self.now


class Response:
    """Anthropic's response as ``Rotation`` looks at it: it is there as a whole."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.status = status
        self.headers, self.first_headers = [*headers.items()], headers
        self._body = body

    async def read(self, *, cut_at: int | None = None) -> bytes:
        """Return the body."""
        return self._body[:cut_at]

    def close(self) -> None:
        """There is no connection."""


class Events:
    """What happens, one after the other; each may add what happens later."""

    def __init__(self) -> None:
        self.clock = Clock()
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._number = itertools.count()

    def at(self, moment: float, what: Callable[..., None], *arguments: Any) -> None:
        """Let something happen at a moment."""
        heapq.heappush(self._events, (moment, next(self._number), what, arguments))

    def run_all(self) -> None:
        """Let everything happen."""
        while self._events:
            self.clock.now, _, what, arguments = heapq.heappop(self._events)
            what(*arguments)


class Handlers(NamedTuple):
    """What a flow calls: when its request leaves on a credential, when it ends with a status, when nobody is usable."""

    sent: Callable[["Flow", str], None]
    ended: Callable[["Flow", int], None]
    nobody: Callable[["Flow"], None]


class Flow:
    """One request through ``Rotation`` and a pool. ``what`` is the request, for those who look."""

    def __init__(
        self, events: Events, pool: Pool, wanted: Wanted, handlers: Handlers, what: Any, *, max_wait: float = 0.0
    ) -> None:
        self.what = what
        self.journal = Journal()
        self._events = events
        self._handlers = handlers
        source = PoolSource(pool, wanted, max_wait=max_wait, sleep=_sleep)
        clock = events.clock
        self._rotation = Rotation(source, REQUEST, self.journal, scope=wanted.scope, cooldown=COOLDOWN, clock=clock)
        self._coroutine: Any = self._rotation.ask(HOSTS, URL, BODY, self._send)

    def go_on(self, response: Response | None = None) -> None:
        """Let the flow go on until it sends, waits, ends or gives up."""
        try:
            waits_for = self._coroutine.send(response)
        except StopIteration as end:  # what a coroutine raises when it returns
            self._handlers.ended(self, end.value.response.status)
        except NobodyUsable:
            self._rotation.release()
            self._handlers.nobody(self)
        else:
            if waits_for is SENT:
                self._handlers.sent(self, self.journal.labels[-1])
            else:
                self._events.at(self._events.clock.now + waits_for, self.go_on)

    def release(self) -> None:
        """End the request that is under way."""
        self._rotation.release()

    @types.coroutine
    def _send(self, *_: object) -> Generator[object, Response, Response]:
        """Leave the flow standing until the response is there."""
        return (yield SENT)


@types.coroutine
def _sleep(seconds: float) -> Generator[float, None, None]:
    yield seconds
