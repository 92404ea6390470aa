"""The HTTP client of the lanes, built on aiohttp: sends one request to an upstream and returns its response as it arrives.

1. Request headers keep their order, and response headers are not changed; a body is decoded here, within ``Bounds``.
2. Redirects are not followed, cookies are not kept, and only the headers ``host`` and ``content-length`` are added.
3. If a kept connection turns out to be closed, the request is sent once more on a new one, unless a response has started. A
   reset inside a response's head looks the same as a reset before it.
4. The environment's proxies and CA files are used, as they were at the start.
"""

import asyncio
import functools
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from ssl import SSLContext
from typing import Any

import aiohttp
import httpx
from yarl import URL

from claude_proxy.asgi import Headers
from claude_proxy.config.outbound_proxies import OutboundProxies
from claude_proxy.upstream.connector import Connector, OwnRequest, Sent, current_sent, nothing
from claude_proxy.upstream.header_bytes import keep_bytes_of_headers, raw_bytes
from claude_proxy.upstream.response_bounds import Bounds, ResponseTooLarge, check_size, named_codings, unreadable

CONNECT_SECONDS = 10.0
# How long an upstream may be silent, in seconds, if the configuration does not say.
READ_SECONDS = 600.0
# How long an idle connection is kept. Anthropic keeps its side open for minutes.
IDLE_SECONDS = 30.0
# The time limit for a body that arrives in parts, in seconds: 500 MB at 2 Mbit/s.
UPLOAD_SECONDS = 2000.0
# A larger body is sent in parts of this size, so that other requests are served in between.
PART_BYTES = 256 * 1024
# A body of this size is sent immediately; above 64 KiB aiohttp waits until the upstream reads.
UNREAD_BYTES = 32 * 1024


class UpstreamError(Exception):
    """There is no response, or it ended early. The text names the kind of error and never contains the request."""


class UnreachableError(UpstreamError):
    """The connection failed, or it closed before a response started. The text is the reason, in words."""


class TimedOutError(UpstreamError):
    """The upstream was silent for too long."""


class BrokenOffError(UpstreamError):
    """A response ended early."""


class UnreadableError(UpstreamError):
    """A response cannot be decoded, or is too large. The text continues a sentence that starts with the upstream's name."""


class StreamedResponse:
    """A response with its status and headers. Read it once, with ``piece`` or ``read``, then ``close`` it."""

    __slots__ = ("_bounds", "_raw", "_steps", "first_headers", "headers", "status")

    def __init__(self, raw: aiohttp.ClientResponse) -> None:
        self._raw = raw
        self._bounds: Bounds | None = None
        # The pieces that the last chunk still decodes to.
        self._steps: Iterator[bytes] | None = None
        self.status = raw.status
        self.headers: Headers = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in raw.raw_headers]
        # The first value of each header, by lower-case name.
        self.first_headers = dict(reversed(self.headers))

    def header(self, name: str) -> str:
        """Return the first value of a header, by lower-case name; empty if it is missing."""
        return self.first_headers.get(name, "")

    @property
    def media_type(self) -> str:
        """The media type of the response, in lower case and without parameters."""
        return self.header("content-type").split(";")[0].strip().lower()

    @property
    def rejection_reason(self) -> str | None:
        """Why the response cannot be forwarded, as the rest of a sentence after the host; None for an error and a good one."""
        if self.status >= 400:
            return None
        if not 200 <= self.status < 300:
            return f"responded with HTTP {self.status}, which the proxy does not follow"
        try:
            self._coding()
        except UnreadableError as error:
            return str(error)
        return None

    def has_no_events(self) -> None:
        """Let ``piece`` return a body of any size: it is a file, and no stream of events, each of which is bounded."""
        self._relayed().has_events = False

    def _relayed(self) -> Bounds:
        if self._bounds is None:
            self._bounds = Bounds(self._coding(), by_line=False)
            self._bounds.endless = True
        return self._bounds

    async def piece(self) -> bytes:
        """Return the next decoded piece of the body, without a limit on the whole; empty at its end.

        Cancelling the call loses no data. Raises ``UpstreamError``.
        """
        bounds = self._relayed()
        try:
            if self._steps is not None:
                await asyncio.sleep(0)  # one chunk may have many pieces: serve other requests between them
                if piece := next(self._steps, b""):
                    return piece
                self._steps = None
            while raw := await self._raw.content.readany():
                if bounds.passes(raw):
                    return raw
                self._steps = bounds.feed(raw)
                if piece := next(self._steps, b""):
                    return piece
                self._steps = None
            return b"".join(bounds.finish())
        except READ_ERRORS as error:
            raise _read_error(error) from None

    async def read(self, *, cut_at: int | None = None) -> bytes:
        """Return the whole decoded body, or its first ``cut_at`` bytes. Raises ``UpstreamError``."""
        coding = self._coding()
        try:
            if not coding and cut_at is None:
                return await self._read_plain()
            bounds, pieces = Bounds(coding, by_line=False, cut_at=cut_at), []
            while not bounds.full and (raw := await self._raw.content.readany()):
                for step, piece in enumerate(bounds.feed(raw)):
                    if step:
                        await asyncio.sleep(0)
                    pieces.append(piece)
            return b"".join([*pieces, *bounds.finish()])
        except READ_ERRORS as error:
            raise _read_error(error) from None

    async def _read_plain(self) -> bytes:
        """Return the whole body, which has no coding."""
        content, pieces, size = self._raw.content, [], 0
        while raw := await content.readany():
            pieces.append(raw)
            size += len(raw)
            check_size(size)
        return b"".join(pieces)

    def _coding(self) -> str:
        """Return the content coding of the body; empty without one. Raises ``UnreadableError``."""
        coded = self.header("content-encoding")
        if not coded:
            return ""
        codings = named_codings(coded)
        if unreadable(codings):
            raise UnreadableError("responded with a content encoding that the proxy did not request")
        return codings[0] if codings else ""

    def close(self) -> None:
        """Keep the connection if the body was read to its end; else close it, which also stops the upstream's work."""
        self._raw.close() if not self._raw.content.is_eof() else self._raw.release()


class UpstreamClient:
    """The connections of one process to all upstreams. Used from one event loop."""

    def __init__(self, ssl: SSLContext | None = None, proxies: OutboundProxies | None = None) -> None:
        keep_bytes_of_headers()
        self._ssl = ssl or _ssl_context()
        self._proxies = proxies or OutboundProxies.of(os.environ)
        # The environment's proxies, by origin.
        self._by_origin: dict[tuple[str, str | None, int | None], URL | None] = {}
        # The connections that are kept for later requests, and those for one request.
        self._kept: Connector | None = None
        self._new: Connector | None = None

    async def send(
        self,
        url: str,
        headers: Headers,
        body: bytes | AsyncIterator[bytes],
        *,
        read_seconds: float = READ_SECONDS,
        method: str = "POST",
        on_sent: Callable[[], None] = nothing,
    ) -> StreamedResponse:
        """Send a request and return the response with its headers. Raises ``UnreachableError`` and ``TimedOutError``.

        ``on_sent`` is called when there is a connection, on which the request is sent next. A body in parts is sent once, on a
        new connection, within ``UPLOAD_SECONDS``; an exception of its iterator ends the request.
        """
        if self._kept is None or self._new is None:
            self._kept, self._new = self._connector(force_close=False), self._connector(force_close=True)
        named = [pair if pair[1].isascii() else (pair[0], raw_bytes(pair[1])) for pair in headers]
        size = len(body) if isinstance(body, bytes) else None
        if size is not None and size > PART_BYTES:
            named.append(("content-length", str(size)))
        connectors = (self._new,) if size is None else (self._kept, self._new)
        try:
            target = method, URL(url, encoded=True)
            sending = self._send(connectors, target, named, body, _limits(read_seconds), sent=Sent(on_sent))
            if size is not None and size <= UNREAD_BYTES:
                return await sending
            # aiohttp's own timer starts after the body is sent; this one ends a request whose body the upstream does not read.
            async with asyncio.timeout(CONNECT_SECONDS + 2 * read_seconds if size is not None else UPLOAD_SECONDS):
                return await sending
        except TimeoutError as error:
            raise TimedOutError(_kind(error)) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise UnreachableError(_why_unreachable(error)) from None

    async def _send(
        self,
        connectors: Sequence[Connector],
        target: tuple[str, URL],
        headers: list[tuple[str, str]],
        body: bytes | AsyncIterator[bytes],
        limits: aiohttp.ClientTimeout,
        *,
        sent: Sent,
    ) -> StreamedResponse:
        """Send on a kept connection, and on a new one if the kept one was closed."""
        current_sent.set(sent)
        method, url = target
        proxy = self._proxy(url)
        for connector in connectors:
            content = _parts(body) if isinstance(body, bytes) and len(body) > PART_BYTES else body
            try:
                request = OwnRequest(method, url, headers=headers, data=content, loop=connector.loop, ssl=True, proxy=proxy)
                return StreamedResponse(await connector.respond(request, limits))
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
                if connector is connectors[-1] or not sent.reused or not _has_no_response(error):
                    raise
        raise AssertionError("unreachable")

    async def close(self) -> None:
        """Close every connection."""
        for connector in (self._kept, self._new):
            if connector is not None:
                await connector.close()
        self._kept = self._new = None

    def _connector(self, *, force_close: bool) -> Connector:
        more: dict[str, Any] = {"force_close": True} if force_close else {"keepalive_timeout": IDLE_SECONDS}
        return Connector(limit=0, ssl=self._ssl, **more)

    def _proxy(self, url: URL) -> URL | None:
        """Return the environment's proxy for an origin. It may contain a user, which aiohttp sends to the proxy."""
        origin = url.scheme, url.host, url.port
        if origin not in self._by_origin:
            named = self._proxies.proxy_for(url.scheme, url.host or "", url.port)
            self._by_origin[origin] = URL(named) if named else None
        return self._by_origin[origin]


@functools.lru_cache(maxsize=100)
def _limits(read_seconds: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=read_seconds)


async def _parts(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), PART_BYTES):
        yield body[start : start + PART_BYTES]


# The exceptions of reading a body.
READ_ERRORS = (httpx.DecodingError, aiohttp.ClientError, OSError)


def _read_error(error: Exception) -> UpstreamError:
    if isinstance(error, ResponseTooLarge):
        return UnreadableError(str(error))
    if isinstance(error, httpx.DecodingError):
        return UnreadableError(f"sent a body that cannot be decoded ({error})")
    return TimedOutError(_kind(error)) if isinstance(error, TimeoutError) else BrokenOffError(_kind(error))


# Why there is no response, from aiohttp's most specific error to its most general.
_UNREACHABLE = (
    (aiohttp.ClientConnectorCertificateError, "its certificate is not trusted"),
    (aiohttp.ClientConnectorSSLError, "TLS failed"),
    (aiohttp.ClientConnectorDNSError, "host not found"),
    ((aiohttp.ClientProxyConnectionError, aiohttp.ClientHttpProxyError), "the HTTP proxy of the environment failed"),
    (aiohttp.ClientConnectorError, "connection failed"),
    ((aiohttp.ServerDisconnectedError, aiohttp.ClientOSError), "the connection was closed before a response"),
    (ValueError, "the URL is not valid"),
)


def _why_unreachable(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, ConnectionRefusedError):
        return "connection refused"
    return next((words for kind, words in _UNREACHABLE if isinstance(error, kind)), _kind(error))


def _has_no_response(error: Exception) -> bool:
    """Whether a connection ended before the first byte of the response."""
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return not isinstance(error.message, aiohttp.http.RawResponseMessage)
    return not isinstance(error, aiohttp.ClientConnectorError) and not isinstance(error.__cause__, socket.gaierror)


def _ssl_context() -> SSLContext:
    context = httpx.create_ssl_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


def _kind(error: BaseException) -> str:
    return type(error).__name__
