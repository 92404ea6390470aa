"""The proxy's own request flow in virtual time: events at their moments, and ``Rotation`` with its waiting."""

import asyncio
import heapq
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

from benchmarks.virtual_time import VirtualLoop
from claude_proxy.credentials.pool import Pool, PoolRequest
from claude_proxy.providers.endpoints import ANTHROPIC_API, Hosts
from claude_proxy.proxy.journal import Journal
from claude_proxy.proxy.request import Request, read_view
from claude_proxy.proxy.rotation import NoCredentialAvailable, Rotation
from claude_proxy.proxy.sources import PoolSource
from claude_proxy.proxy.waiting import WaitQueues
from claude_proxy.upstream.headers import read

MONDAY = 1_799_625_600.0  # 2027-01-11, 00:00 UTC
URL = f"{ANTHROPIC_API}/v1/messages"
HOSTS = Hosts()
HEADERS = (("user-agent", "claude-cli/2.1.197 (external, cli)"), ("anthropic-version", "2023-06-01"))
BODY = b'{"model":"claude-opus-5","messages":[{"role":"user","content":"hi"}]}'
REQUEST = Request(read(HEADERS), HEADERS, BODY, read_view(BODY))
COOLDOWN = 60.0
# Long after the last request has ended, in seconds from the start.
END = 40 * 86400.0


class Clock:
    """A clock in Unix seconds, set by the last event."""

    now = MONDAY

    def __call__(self) -> float:
        """Return the Unix seconds."""
        return self.now


class Response:
    """Anthropic's response as ``Rotation`` uses it; it is complete from the start."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.status = status
        self.headers, self.first_headers = [*headers.items()], headers
        self._body = body

    async def read(self, *, cut_at: int | None = None) -> bytes:
        """Return the body."""
        return self._body[:cut_at]

    def close(self) -> None:
        """Do nothing, because there is no connection."""


class LoopClock(Clock):
    """A clock in Unix seconds that follows a loop's time."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    @property
    def now(self) -> float:  # type: ignore[override]
        """Seconds since the epoch."""
        return MONDAY + self._loop.time()


class Events:
    """Runs events one after the other; each may add later ones.

    They have a heap of their own: a loop's timers, which are compared in Python, take as long as the rest of the work.
    """

    def __init__(self) -> None:
        self.loop = VirtualLoop()
        self.clock = LoopClock(self.loop)
        self.queues = WaitQueues(self.loop.time)
        self._numbers = itertools.count()
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        # When the loop calls ``_run_due``.
        self._called_at = float("inf")

    def at(self, moment: float, what: Callable[..., None], *arguments: Any) -> None:
        """Schedule a call at a moment."""
        heapq.heappush(self._events, (moment - MONDAY, next(self._numbers), what, arguments))
        self._wait()

    def _wait(self) -> None:
        if self._events and self._events[0][0] < self._called_at:
            self._called_at = self._events[0][0]
            self.loop.call_at(self._called_at, self._run_due, self._called_at)

    def _run_due(self, called_at: float) -> None:
        """Run the first event, and those after it for as long as nobody else has anything to do."""
        if called_at != self._called_at:
            return  # an earlier event came later
        self._called_at = float("-inf")  # ``at`` schedules nothing meanwhile
        due = bool(self._events)
        while due:
            _, _, what, arguments = heapq.heappop(self._events)
            what(*arguments)
            due = bool(self._events) and self.loop.passes_to(self._events[0][0])
        self._called_at = float("inf")
        self._wait()

    def run_all(self) -> None:
        """Run all events."""
        with asyncio.Runner(loop_factory=lambda: self.loop) as runner:
            runner.run(asyncio.sleep(END))


class Handlers(NamedTuple):
    """A flow's callbacks: its request is sent with a credential, it ends with a status, or no credential is usable."""

    sent: Callable[["Flow", str], None]
    ended: Callable[["Flow", int], None]
    no_credential: Callable[["Flow"], None]


class Flow:
    """One request through ``Rotation`` and a pool. ``what`` is the request, for the callbacks; ``user`` is its user."""

    def __init__(
        self,
        events: Events,
        pool: Pool,
        wanted: PoolRequest,
        handlers: Handlers,
        what: Any,
        *,
        user: str = "",
        max_wait: float = 0.0,
    ) -> None:
        self.what = what
        self.journal = Journal()
        self._events = events
        self._handlers = handlers
        source = PoolSource(pool, wanted, caller=user, max_wait=max_wait, queues=events.queues)
        self._rotation = Rotation(
            source, REQUEST, self.journal, scope=wanted.scope, cooldown=COOLDOWN, clock=events.clock, redact=str
        )
        self._response: asyncio.Future[Response] = events.loop.create_future()
        self._task = events.loop.create_task(self._run())

    def go_on(self, response: Response) -> None:
        """Deliver the response to the sent request."""
        self._response.set_result(response)

    def release(self) -> None:
        """End the request in progress."""
        self._rotation.release()

    async def _run(self) -> None:
        try:
            judged = await self._rotation.send(HOSTS, URL, BODY, self._send)
        except NoCredentialAvailable:
            self._rotation.release()
            self._handlers.no_credential(self)
        else:
            self._handlers.ended(self, judged.response.status)

    async def _send(self, *_: object) -> Any:
        self._response = self._events.loop.create_future()
        self._handlers.sent(self, self.journal.labels[-1])
        return await self._response
