"""Graceful stop: an ASGI app that lets requests finish, and the signals that start and end the stop."""

# Rules:
#   1. After the first signal, a new request gets HTTP 503 with `retry-after: 1`, except for the liveness check. Behind the
#      balancer of deploy/haproxy.cfg the status is 425, which makes it try another replica.
#   2. Requests in progress have a limited time to finish; the stop continues as soon as the last one has finished.
#   3. After that time, or at a second signal, the remaining requests are cut off, with an error event or a 503.
#   4. Only then does the server stop: until then it accepts connections, so that every client gets a response.

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
# The name in the balancer's `via` header. It repeats a request with this status, and converts it to 503 if it cannot.
BALANCER = b"1.1 claude-proxy-balancer"
TOO_EARLY = 425
# A SIGTERM within this many seconds after the first signal is a duplicate: `make` forwards the signal of its process group.
ECHO_SECONDS = 1.0
# How long a stream may stay inside an event before it is cut there, and how long a cut request may take to end.
EVENT_SECONDS = 1.0
END_SECONDS = 3.0
LOOK_SECONDS = 0.02

_HEADERS = [("retry-after", "1"), ("connection", "close")]
UNDER_WAY = "stopping: %d requests in progress have %g s to finish, or until a second signal; new ones get HTTP 503"
STOPPING = own_refusal(503, "The proxy is restarting and does not accept new requests. Try again.", _HEADERS)
STOPPING_BEHIND_BALANCER = replace(STOPPING, status=TOO_EARLY)
CUT_OFF = own_refusal(503, "The proxy was stopped before this response was complete. Try again.", _HEADERS)


class Step(Enum):
    """The effect of a signal."""

    DRAIN = auto()
    END = auto()


class StopSignals:
    """Distinguishes the signal that starts a stop from the one that ends it immediately. ``clock`` returns seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._first: float | None = None

    def step(self, number: int) -> Step | None:
        """Return the effect of a SIGINT or a SIGTERM; None for a duplicate."""
        now = self._clock()
        if self._first is None:
            self._first = now
            return Step.DRAIN
        return None if number == signal.SIGTERM and now - self._first < ECHO_SECONDS else Step.END


def step_of_worker(number: int) -> Step | None:
    """Return the effect of a signal in a worker: its parent sends each step; a terminal's Ctrl-C reaches both."""
    return {int(signal.SIGTERM): Step.DRAIN, int(signal.SIGQUIT): Step.END}.get(number)


class _Request:
    """A request in progress. It is cut off by a registered function, or else by cancelling its task."""

    def __init__(self) -> None:
        self._task = asyncio.current_task()
        self._cut: Cut | None = None
        self.is_cut = False

    def when_cut(self, call: Cut) -> None:
        """Register the function that cuts the request off."""
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
        """Accept the cancellation, and send an error if no response has started."""
        if self._task is not None:
            self._task.uncancel()
        with contextlib.suppress(RuntimeError):  # raised by the server if a response has started
            await send_refusal(send, CUT_OFF)


class Draining:
    """The served app. One per process, used from one event loop."""

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
        """Drain, then call ``stop``. A second call has no effect."""
        if self._draining is None:
            self._draining = asyncio.ensure_future(self._drain(stop))

    def end(self) -> None:
        """Give the requests in progress no more time."""
        self._at_once = True
        self._changed.set()

    async def _drain(self, stop: Callable[[], object]) -> None:
        try:
            total = len(self._requests)
            if not total:
                logger.info("stopping: no requests in progress")
                return
            logger.info(UNDER_WAY, total, self.seconds)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.seconds):
                    while self._requests and not self._at_once:
                        self._changed.clear()
                        await self._changed.wait()
            cut = await self._cut_off()
            logger.info("stopping: %d requests were cut off, %d finished", cut, total - cut)
        finally:
            stop()

    async def _cut_off(self) -> int:
        """Cut off the remaining requests: first those between two events, then all. Return their number."""
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
    """Refuse a new request during a stop, and close its connection.

    The body is read first: closing a connection with unread data may reset it, and the response would be lost.
    """
    while (message := await receive())["type"] == "http.request" and message.get("more_body"):
        pass
    if message["type"] != "http.request":
        return
    is_balanced = any(name == b"via" and value.endswith(BALANCER) for name, value in scope["headers"])
    await send_refusal(send, STOPPING_BEHIND_BALANCER if is_balanced else STOPPING, head=scope["method"] == "HEAD")


def take_signals(draining: Draining, seconds: float) -> None:
    """Handle SIGINT and SIGTERM: drain, then call the server's own handlers. For the main thread, inside its event loop."""
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
        with contextlib.suppress(RuntimeError):  # the loop has ended, and the process is about to end
            loop.call_soon_threadsafe(react, number)

    for number in (signal.SIGINT, signal.SIGTERM):
        of_server[number] = signal.signal(number, handle)
    if is_worker:
        signal.signal(signal.SIGQUIT, handle)
