"""The HTTP client of the lanes: one request to an upstream, and its response as it arrives. aiohttp does the work.

1. Headers go out in their order, and what comes back is not changed; a body is decoded here, within ``Bounds``.
2. No redirection is followed, no cookie kept, no header added but ``host`` and ``content-length``.
3. A kept connection that turns out to be closed costs one more try on a new one, unless a response has begun. A reset in the
   middle of a head cannot be told from one before it.
4. The environment's proxies and CA files are trusted, as they were at the start.
"""

import asyncio
import functools
import os
import re
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from ssl import SSLContext
from typing import Any

import aiohttp
import httpx
from aiohttp import http_writer
from aiohttp.client_proto import ResponseHandler
from yarl import URL

from claude_proxy.asgi import Headers
from claude_proxy.config.outbound_proxies import OutboundProxies
from claude_proxy.upstream.response_bounds import Bounds, ResponseTooLarge, named_codings, unreadable

CONNECT_SECONDS = 10.0
# How long one silence of an upstream may last, in seconds, when the configuration does not say.
READ_SECONDS = 600.0
# How long a connection is kept that nobody uses. Anthropic keeps its end for minutes.
IDLE_SECONDS = 30.0
# A larger body is sent in parts of this size, so that other requests have their turn.
PART_BYTES = 256 * 1024
# A body of this size leaves at once, whether it is read or not: aiohttp waits for the upstream beyond 64 KiB.
UNREAD_BYTES = 32 * 1024
# Longer header lines than any provider sends.
MAX_LINE_BYTES = 64 * 1024
MAX_HEADERS = 1000
# Where aiohttp writes UTF-8, these characters stand for the bytes 0x80 to 0xFF as they are.
_RAW = 0xF700
_RAW_BYTES = re.compile(rb"\xef[\x9e\x9f][\x80-\xbf]")


class UpstreamError(Exception):
    """No response, or one that ended before its end. The text names the error's kind, and never what was sent."""


class UnreachableError(UpstreamError):
    """There is no connection to the upstream, or it ended before a response began. The text says why, in words."""


class TimedOutError(UpstreamError):
    """The upstream was silent for too long."""


class BrokenOffError(UpstreamError):
    """A response ended before its end."""


class UnreadableError(UpstreamError):
    """A response that cannot be decoded, or is too large. The text follows the upstream's name."""


@dataclass(slots=True)
class _Sent:
    reused: bool = True


# The request that this task sends; set for the connector, which aiohttp calls in the same task.
_sending: ContextVar[_Sent] = ContextVar("sending")


class _Connection(ResponseHandler):
    """Waits with one timer for a response. aiohttp (3.14.5) would cancel it, and set another, at each piece that arrives."""

    _heard = 0.0

    def _reschedule_timeout(self) -> None:
        self._heard = self._loop.time()
        if self._read_timeout_handle is None and self._read_timeout:
            self._read_timeout_handle = self._loop.call_later(self._read_timeout, self._look)

    def _look(self) -> None:
        left = self._heard + (self._read_timeout or 0.0) - self._loop.time()
        if left > 0:
            self._read_timeout_handle = self._loop.call_later(left, self._look)
        else:
            self._on_read_timeout()


class _Connector(aiohttp.TCPConnector):
    """Notes whether a request got a kept connection. aiohttp's traces say so too, and cost more than the rest of it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._factory = functools.partial(_Connection, loop=self._loop)  # type: ignore[assignment]

    async def _create_connection(self, req: Any, traces: Any, timeout: aiohttp.ClientTimeout) -> Any:  # noqa: ASYNC109 - aiohttp's
        _sending.get().reused = False
        return await super()._create_connection(req, traces, timeout)


class StreamedResponse:
    """A response whose status and headers are there. Read it once, by ``piece`` or ``read``, then ``close`` it."""

    __slots__ = ("_bounds", "_raw", "_steps", "first_headers", "headers", "status")

    def __init__(self, raw: aiohttp.ClientResponse) -> None:
        self._raw = raw
        self._bounds: Bounds | None = None
        # What the last chunk still decodes to.
        self._steps: Iterator[bytes] | None = None
        self.status = raw.status
        self.headers: Headers = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in raw.raw_headers]
        # The first value of each, by its name in small letters.
        self.first_headers = dict(reversed(self.headers))

    def header(self, name: str) -> str:
        """Return the first value of a header, by its name in small letters; empty without one."""
        return self.first_headers.get(name, "")

    @property
    def media_type(self) -> str:
        """What the response is said to be, in small letters and without parameters."""
        return self.header("content-type").split(";")[0].strip().lower()

    @property
    def rejection_reason(self) -> str | None:
        """Why this is no response to pass on, in words that follow a name; None for an error, and for one that is."""
        if self.status >= 400:
            return None
        if not 200 <= self.status < 300:
            return f"answered with HTTP {self.status}, which the proxy does not follow"
        try:
            self._coding()
        except UnreadableError as error:
            return str(error)
        return None

    async def piece(self) -> bytes:
        """Return what has arrived next of the decoded body, however long that is in all; nothing at its end.

        Nothing is lost when the wait for it is cancelled. Raises ``UpstreamError``.
        """
        if self._bounds is None:
            self._bounds = Bounds(self._coding(), by_line=False)
            self._bounds.endless = True
        try:
            if self._steps is not None:
                await asyncio.sleep(0)  # many steps in one chunk: other requests have their turn between them
                if piece := next(self._steps, b""):
                    return piece
                self._steps = None
            while raw := await self._raw.content.readany():
                if self._bounds.passes(raw):
                    return raw
                self._steps = self._bounds.feed(raw)
                if piece := next(self._steps, b""):
                    return piece
                self._steps = None
            return b"".join(self._bounds.finish())
        except READ_ERRORS as error:
            raise _read_error(error) from None

    async def read(self, *, cut_at: int | None = None) -> bytes:
        """Return the whole decoded body, or so many bytes of its beginning. Raises ``UpstreamError``."""
        bounds, pieces = Bounds(self._coding(), by_line=False, cut_at=cut_at), []
        try:
            while not bounds.full and (raw := await self._raw.content.readany()):
                for step, piece in enumerate(bounds.feed(raw)):
                    if step:
                        await asyncio.sleep(0)
                    pieces.append(piece)
            pieces += bounds.finish()
        except READ_ERRORS as error:
            raise _read_error(error) from None
        return b"".join(pieces)

    def _coding(self) -> str:
        """Return the one coding of the body; empty without one. Raises ``UnreadableError``."""
        coded = self.header("content-encoding")
        if not coded:
            return ""
        codings = named_codings(coded)
        if unreadable(codings):
            raise UnreadableError("answered in a coding that nobody asked for")
        return codings[0] if codings else ""

    def close(self) -> None:
        """Give the connection back when the body was read to its end; else end it, and the upstream's work with it."""
        self._raw.close() if not self._raw.content.is_eof() else self._raw.release()


class UpstreamClient:
    """The connections of one process to all upstreams. Used from one event loop."""

    def __init__(self, ssl: SSLContext | None = None, proxies: OutboundProxies | None = None) -> None:
        keep_bytes_of_headers()
        self._ssl = ssl or _ssl_context()
        self._proxies = proxies or OutboundProxies.of(os.environ)
        self._by_origin: dict[tuple[str, str | None, int | None], dict[str, Any]] = {}
        self._kept: aiohttp.ClientSession | None = None
        self._new: aiohttp.ClientSession | None = None

    async def send(self, url: str, headers: Headers, body: bytes, *, read_seconds: float = READ_SECONDS) -> StreamedResponse:
        """Send a POST and return the response once its headers are there. Raises ``UnreachableError``, ``TimedOutError``."""
        if self._kept is None or self._new is None:
            self._kept, self._new = self._session(force_close=False), self._session(force_close=True)
        named = [pair if pair[1].isascii() else (pair[0], _raw(pair[1])) for pair in headers]
        if len(body) > PART_BYTES:
            named.append(("content-length", str(len(body))))
        try:
            sending = self._asked((self._kept, self._new), URL(url, encoded=True), named, body, _limits(read_seconds))
            if len(body) <= UNREAD_BYTES:
                return await sending
            # aiohttp's own timer begins when the body is sent; this one ends a request whose body nobody reads.
            async with asyncio.timeout(CONNECT_SECONDS + 2 * read_seconds):
                return await sending
        except TimeoutError as error:
            raise TimedOutError(_kind(error)) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise UnreachableError(_why_unreachable(error)) from None

    async def _asked(
        self,
        sessions: Sequence[aiohttp.ClientSession],
        url: URL,
        headers: list[tuple[str, str]],
        body: bytes,
        limits: aiohttp.ClientTimeout,
    ) -> StreamedResponse:
        """Ask on a kept connection, and where that turns out to be closed on a new one."""
        sent = _Sent()
        _sending.set(sent)
        options = self._options(url)
        for session in sessions:
            content = _parts(body) if len(body) > PART_BYTES else body
            try:
                return StreamedResponse(await session.post(url, data=content, headers=headers, timeout=limits, **options))
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
                if session is sessions[-1] or not sent.reused or not _is_unanswered(error):
                    raise
        raise AssertionError("unreachable")

    async def close(self) -> None:
        """Close every connection."""
        for session in (self._kept, self._new):
            if session is not None:
                await session.close()
        self._kept = self._new = None

    def _session(self, *, force_close: bool) -> aiohttp.ClientSession:
        more: dict[str, Any] = {"force_close": True} if force_close else {"keepalive_timeout": IDLE_SECONDS}
        connector = _Connector(limit=0, ssl=self._ssl, **more)
        return aiohttp.ClientSession(
            connector=connector,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("user-agent", "accept", "accept-encoding", "content-type"),
            max_line_size=MAX_LINE_BYTES,
            max_field_size=MAX_LINE_BYTES,
            max_headers=MAX_HEADERS,
        )

    def _options(self, url: URL) -> dict[str, Any]:
        """Return what is the same for each request to an origin: no redirection, and the environment's proxy."""
        origin = url.scheme, url.host, url.port
        if origin not in self._by_origin:
            self._by_origin[origin] = {"allow_redirects": False} | self._proxy(url)
        return self._by_origin[origin]

    def _proxy(self, url: URL) -> dict[str, Any]:
        named = self._proxies.proxy_for(url.scheme, url.host or "", url.port)
        return {"proxy": URL(named)} if named else {}  # with its user, whom aiohttp names to the proxy


@functools.lru_cache(maxsize=100)
def _limits(read_seconds: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=read_seconds)


async def _parts(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), PART_BYTES):
        yield body[start : start + PART_BYTES]


# What reading a body raises.
READ_ERRORS = (httpx.DecodingError, aiohttp.ClientError, OSError)


def _read_error(error: Exception) -> UpstreamError:
    if isinstance(error, ResponseTooLarge):
        return UnreadableError(str(error))
    if isinstance(error, httpx.DecodingError):
        return UnreadableError(f"sent what cannot be decoded ({error})")
    return TimedOutError(_kind(error)) if isinstance(error, TimeoutError) else BrokenOffError(_kind(error))


# Why there is no response, from the narrowest of aiohttp's errors to the widest.
_UNREACHABLE = (
    (aiohttp.ClientConnectorCertificateError, "its certificate is not trusted"),
    (aiohttp.ClientConnectorSSLError, "TLS failed"),
    (aiohttp.ClientConnectorDNSError, "its name cannot be resolved"),
    ((aiohttp.ClientProxyConnectionError, aiohttp.ClientHttpProxyError), "the HTTP proxy of the environment failed"),
    (aiohttp.ClientConnectorError, "no connection"),
    ((aiohttp.ServerDisconnectedError, aiohttp.ClientOSError), "it closed the connection without a response"),
    (ValueError, "its address is not valid"),
)


def _why_unreachable(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, ConnectionRefusedError):
        return "connection refused"
    return next((words for kind, words in _UNREACHABLE if isinstance(error, kind)), _kind(error))


def _is_unanswered(error: Exception) -> bool:
    """Whether a connection ended before a byte of the response."""
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return not isinstance(error.message, aiohttp.http.RawResponseMessage)
    return not isinstance(error, aiohttp.ClientConnectorError) and not isinstance(error.__cause__, socket.gaierror)


@functools.cache
def keep_bytes_of_headers() -> None:
    """Let a header's value leave aiohttp (3.14.5) in the bytes that the client sent: it writes every text as UTF-8."""
    serialize = http_writer._serialize_headers  # noqa: SLF001 - no other seam before the bytes

    def serialized(status_line: str, headers: Any) -> bytes:
        written = serialize(status_line, headers)
        if written.isascii():
            return written
        return _RAW_BYTES.sub(lambda found: bytes([ord(found[0].decode()) & 0xFF]), written)

    http_writer._serialize_headers = serialized  # noqa: SLF001


def _raw(value: str) -> str:
    """Return a header's value, read as Latin-1, in the characters that become its bytes again."""
    return "".join(one if one.isascii() else chr(_RAW + (ord(one) & 0xFF)) for one in value)


def _ssl_context() -> SSLContext:
    context = httpx.create_ssl_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


def _kind(error: BaseException) -> str:
    return type(error).__name__
