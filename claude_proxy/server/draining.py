"""A stop that lets requests end: an ASGI app around another one, and the signals that begin and hasten the stop."""

# Rules:
#   1. from the first signal on, a new request gets HTTP 503 with `retry-after: 1`, but for the check that the process lives;
#      behind the balancer of deploy/haproxy.cfg the status is 425, on which that one asks another replica;
#   2. requests under way have so many seconds to end, and the stop goes on as soon as the last one has ended;
#   3. when the time is over, or at a second signal, what is left is cut off: with an error event, or a 503;
#   4. only then the server stops: until then it accepts connections, so that nobody's is refused without a word.

import asyncio
import contextlib
import functools
import logging
import multiprocessing
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from enum import Enum, auto
from typing import Any

from claude_proxy.anthropic.errors import own_refusal, send_refusal
from claude_proxy.asgi import WHEN_CUT, App, Cut, Receive, Scope, Send

logger = logging.getLogger(__name__)

LIVELINESS = frozenset({"/health/liveliness", "/health/liveness"})
# How the balancer names itself: it repeats a request on this status, and gives its clients a 503 where it cannot.
BALANCER = b"1.1 claude-proxy-balancer"
TOO_EARLY = 425
# A SIGTERM that follows the first one within so many seconds is the same: `make` passes on what its whole group has got.
ECHO_SECONDS = 1.0
# How long a stream may stand within an event before it is cut off there, and how long what is cut off may take to end.
EVENT_SECONDS = 1.0
END_SECONDS = 3.0
LOOK_SECONDS = 0.02

_HEADERS = [("retry-after", "1"), ("connection", "close")]
UNDER_WAY = "stopping: %d requests under way have %g s to end, or until a second signal; new ones get HTTP 503"
STOPPING = own_refusal(503, "The proxy is restarting and takes no new requests. Try again.", _HEADERS)
STOPPING_BEHIND_BALANCER = replace(STOPPING, status=TOO_EARLY)
CUT_OFF = own_refusal(503, "The proxy was stopped before this response ended. Try again.", _HEADERS)


class Step(Enum):
    """What a signal asks for."""

    DRAIN = auto()
    END = auto()


class StopSignals:
    """Tells the signal that begins a stop from the one that ends it at once. ``clock`` returns seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._first: float | None = None

    def step(self, number: int) -> Step | None:
        """Return what a SIGINT or a SIGTERM asks for; None for an echo."""
        now = self._clock()
        if self._first is None:
            self._first = now
            return Step.DRAIN
        return None if number == signal.SIGTERM and now - self._first < ECHO_SECONDS else Step.END


def step_of_worker(number: int) -> Step | None:
    """Return what a signal asks for in a worker: its parent sends each step; a terminal's Ctrl-C reaches both."""
    return {int(signal.SIGTERM): Step.DRAIN, int(signal.SIGQUIT): Step.END}.get(number)


class _Request:
    """A request under way, and how it is cut off: in the way that its own code has named, or by cancelling its task."""

    def __init__(self) -> None:
        self._task = asyncio.current_task()
        self._cut: Cut | None = None
        self.is_cut = False

    def when_cut(self, call: Cut) -> None:
        """Keep what cuts the request off in its own way."""
        self._cut = call

    def cut(self, *, force: bool) -> None:
        if self.is_cut:
            return
        if self._cut is not None:
            self.is_cut = self._cut(force=force)
        elif self._task is not None:
            self.is_cut = True
            self._task.cancel()

    async def accept_end(self, send: Send) -> None:
        """Take the cancellation for the end that was asked for, and answer where nothing has been answered."""
        if self._task is not None:
            self._task.uncancel()
        with contextlib.suppress(RuntimeError):  # the server's, where a response has begun
            await send_refusal(send, CUT_OFF)


class Draining:
    """The app that is served. One for the process, used from one event loop."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._requests: set[_Request] = set()
        self._changed = asyncio.Event()
        self._at_once = False
        self._draining: asyncio.Task[None] | None = None
        self.seconds = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self._draining is not None and scope["path"] not in LIVELINESS:
            await refuse(scope, receive, send)
            return
        request = _Request()
        scope[WHEN_CUT] = request.when_cut
        self._requests.add(request)
        try:
            await self._app(scope, receive, send)
        except asyncio.CancelledError:
            if not request.is_cut:
                raise
            await request.accept_end(send)
        finally:
            self._requests.discard(request)
            if not self._requests:
                self._changed.set()

    def begin(self, stop: Callable[[], object]) -> None:
        """Drain, then call ``stop``. A second call changes nothing."""
        if self._draining is None:
            self._draining = asyncio.ensure_future(self._drain(stop))

    def end(self) -> None:
        """Give what is under way no more time."""
        self._at_once = True
        self._changed.set()

    async def _drain(self, stop: Callable[[], object]) -> None:
        try:
            many = len(self._requests)
            if not many:
                logger.info("stopping: no request is under way")
                return
            logger.info(UNDER_WAY, many, self.seconds)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.seconds):
                    while self._requests and not self._at_once:
                        self._changed.clear()
                        await self._changed.wait()
            cut = await self._cut_off()
            logger.info("stopping: %d requests were cut off, %d ended by themselves", cut, many - cut)
        finally:
            stop()

    async def _cut_off(self) -> int:
        """End what is left: first what stands between two events, then all. Return how many that were."""
        left = tuple(self._requests)
        for force, seconds in ((False, EVENT_SECONDS), (True, END_SECONDS)):
            for _ in range(int(seconds / LOOK_SECONDS)):
                if not self._requests:
                    break
                for request in self._requests.intersection(left):
                    request.cut(force=force)
                await asyncio.sleep(LOOK_SECONDS)
        return sum(request.is_cut for request in left)


async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a new request of a process that stops, and close its connection.

    The body is read first: a connection that is closed with a part of it unread may be reset, and the response is lost.
    """
    while (message := await receive())["type"] == "http.request" and message.get("more_body"):
        pass
    if message["type"] != "http.request":
        return
    is_balanced = any(name == b"via" and value.endswith(BALANCER) for name, value in scope["headers"])
    await send_refusal(send, STOPPING_BEHIND_BALANCER if is_balanced else STOPPING, head=scope["method"] == "HEAD")


def take_signals(draining: Draining, seconds: float) -> None:
    """From now on drain at SIGINT or SIGTERM before the server's own handlers hear of it. For the main thread, in its loop."""
    draining.seconds = seconds
    loop = asyncio.get_running_loop()
    is_worker = multiprocessing.parent_process() is not None
    step_of = step_of_worker if is_worker else StopSignals().step
    of_server: dict[int, Any] = {}

    def stop(number: int) -> None:
        for each, handler in of_server.items():
            signal.signal(each, handler)
        of_server[number](number, None)

    def react(number: int) -> None:
        step = step_of(number)
        if step is Step.END:
            draining.end()
        if step is not None:
            draining.begin(functools.partial(stop, signal.SIGTERM if is_worker else number))

    def handle(number: int, _: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended, and so does the process
            loop.call_soon_threadsafe(react, number)

    for number in (signal.SIGINT, signal.SIGTERM):
        of_server[number] = signal.signal(number, handle)
    if is_worker:
        signal.signal(signal.SIGQUIT, handle)
