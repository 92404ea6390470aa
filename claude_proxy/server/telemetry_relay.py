"""Takes Claude Code's telemetry on ``/v1/metrics``, ``/v1/logs`` and ``/v1/traces``, and passes it on to the collector.

The client gets a 200 whether it is passed on or dropped: after an error, Claude Code (2.1.332) logs one at each flush.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import NamedTuple

from claude_proxy.anthropic.errors import Refusal, Refused, own_refusal
from claude_proxy.asgi import Headers
from claude_proxy.config.telemetry import Telemetry
from claude_proxy.proxy.offload import LARGE, offloaded
from claude_proxy.upstream.client import UpstreamClient, UpstreamError
from claude_proxy.usage import otlp
from claude_proxy.usage.otlp import Sender, UnreadableTelemetry

logger = logging.getLogger(__name__)

# The maximum size of a body as it arrives, in bytes. Claude Code sends a few kilobytes.
MAX_BODY_BYTES = 4 * 1024 * 1024
# How much may wait for the collector: messages, and bytes.
MAX_WAITING, MAX_WAITING_BYTES = 1000, 32 * 1024 * 1024
SEND_SECONDS = 10.0
# How long a stop waits for what has not been sent yet.
CLOSE_SECONDS = 2.0


# Reads the whole body of a request.
Read = Callable[[], Awaitable[bytes]]


class _Waiting(NamedTuple):
    """A message for the collector."""

    collector: Telemetry
    signal: str
    media_type: str
    body: bytes


class TelemetryRelay:
    """One per process. ``collector`` returns the current collector; None without one. Nothing waits for the collector."""

    def __init__(self, client: UpstreamClient, collector: Callable[[], Telemetry | None]) -> None:
        self._client = client
        self._collector = collector
        self._waiting: asyncio.Queue[_Waiting] = asyncio.Queue(MAX_WAITING)
        self._bytes = 0
        self._sending: asyncio.Task[None] | None = None
        self._failed = False

    async def take(self, signal: str, headers: Headers, read: Read, sender: Sender | None) -> Refusal | None:
        """Return the response to a client's telemetry, which is passed on only with a sender; None if the client has left."""
        try:
            return await self._response(signal, headers, await read(), sender)
        except Refused as refused:
            return refused.refusal()
        except ConnectionAbortedError:
            return None

    async def _response(self, signal: str, headers: Headers, body: bytes, sender: Sender | None) -> Refusal:
        named = {name.lower(): value.strip().lower() for name, value in headers}
        media_type = named.get("content-type", "").partition(";")[0].strip()
        response = Refusal(200, [("content-type", media_type)], b"")
        if media_type != otlp.PROTOBUF:
            response = Refusal(200, [("content-type", otlp.JSON)], b"{}")
        collector = self._collector()
        if collector is None or not collector.clients or sender is None or not body:
            return response
        coding = named.get("content-encoding", "")
        try:
            # A compressed body may be a thousand times as large as it looks.
            size = LARGE if coding else len(body)
            made = await offloaded(size, _made, signal, (body, coding), media_type, sender)
        except UnreadableTelemetry as error:
            return own_refusal(400, f"The telemetry cannot be read: {error}.")
        self._add(_Waiting(collector, signal, media_type, made))
        return response

    def _add(self, message: _Waiting) -> None:
        if self._waiting.full() or self._bytes + len(message.body) > MAX_WAITING_BYTES:
            self._report(message.collector, "it is too slow")
            return
        self._bytes += len(message.body)
        self._waiting.put_nowait(message)
        if self._sending is None:
            self._sending = asyncio.ensure_future(self._send_all())

    async def _send_all(self) -> None:
        while True:
            message = await self._waiting.get()
            try:
                problem = await self._send(message)
            except Exception:  # the next message has another chance
                problem = "the proxy could not send it"
                logger.debug("the error of the collector's client", exc_info=True)
            finally:
                self._bytes -= len(message.body)
                self._waiting.task_done()
            if problem:
                self._report(message.collector, problem)
            elif self._failed:
                self._failed = False
                logger.info("the telemetry collector %s responds again", message.collector.host)

    async def _send(self, message: _Waiting) -> str:
        """Send a message; return the problem in words, empty if there is none."""
        collector = message.collector
        headers = [
            ("content-type", message.media_type),
            ("content-encoding", "gzip"),
            *((name, value.reveal()) for name, value in collector.headers),
        ]
        try:
            async with asyncio.timeout(SEND_SECONDS):
                url = f"{collector.url}/v1/{message.signal}"
                response = await self._client.send(url, headers, message.body, read_seconds=SEND_SECONDS)
                response.close()
        except TimeoutError:
            return f"no response within {SEND_SECONDS:.0f} s"
        except UpstreamError as error:
            return str(error)
        return f"HTTP {response.status}" if response.status >= 400 else ""

    def _report(self, collector: Telemetry, problem: str) -> None:
        """Log that telemetry is dropped, once until the collector responds again."""
        if not self._failed:
            self._failed = True
            logger.warning("telemetry for the collector %s is dropped: %s", collector.host, problem)

    async def close(self) -> None:
        """Send what is waiting, for a short time."""
        if self._sending is None:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._waiting.join()
        self._sending.cancel()


def _made(signal: str, coded: tuple[bytes, str], media_type: str, sender: Sender) -> bytes:
    return otlp.compressed(otlp.identified(signal, otlp.decompressed(*coded), media_type, sender))
