"""The way to the upstreams: the process's two HTTP clients, what is taken for an answer, and how much of it.

It knows LiteLLM's shapes (1.106.2), as ``litellm/clients.py`` does; ``tests/test_contract.py`` guards them.
"""

import asyncio
import functools
import json
import sys
import urllib.request
import zlib
from collections.abc import AsyncIterator, Iterator
from typing import Any, cast

import httpx
from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler, get_ssl_configuration

from claude_proxy.anthropic.sse import MAX_EVENT_SIZE, first_event_end
from claude_proxy.proxy.exchange import current
from claude_proxy.proxy.relay import MAX_FIRST_EVENT
from claude_proxy.upstream.connections import IDLE_CONNECTIONS, IDLE_SECONDS, Connections

# How long one silence of an upstream may last, in seconds, when LiteLLM does not say.
DEFAULT_TIMEOUT = httpx.Timeout(600.0, connect=10.0)

# Headers that describe a connection or an encoding that the client does not see, and what is about Anthropic's host alone.
NOT_REPLAYED = frozenset(
    {
        "alt-svc", "connection", "content-encoding", "content-length", "date", "keep-alive", "location", "refresh", "server",
        "set-cookie", "strict-transport-security", "trailer", "transfer-encoding", "upgrade",
    }
)  # fmt: skip
# Of an error's body LiteLLM gets so much. 1.106.2 looks for secrets in it over and over, in the event loop: a body of 10 MB
# stops the whole process for minutes.
MAX_ERROR_BYTES = 8 * 1024
# Claude's errors reach the client unmodified up to this size.
MAX_CLAUDE_ERROR_BYTES = 16 * 1024 * 1024
# Of a response that is read as a whole, or that LiteLLM translates, which keeps copies of it: decoded bytes, and lists,
# objects and what is in them. A relayed stream has no end; each of its events is bounded by ``MAX_EVENT_SIZE``.
MAX_RESPONSE_BYTES = 64 * 1024 * 1024
MAX_RESPONSE_PARTS = 3_000_000
# A response that is smaller is not searched for its number of parts.
SMALL_RESPONSE_BYTES = 1024 * 1024
# What one step of decoding yields at most: a small chunk of gzip may hold a thousand times its size.
STEP_BYTES = 256 * 1024
# LiteLLM takes up to 0.1 ms for each line that it translates: so many in a response, and in one step, after which other
# requests have their turn.
MAX_RESPONSE_LINES = 1_000_000
STEP_LINES = 256
# The package ``openai`` copies what it has of an event at each of its lines.
MAX_EVENT_LINES = 200
# What ends a line for httpx, that is for ``str.splitlines``.
LINE_ENDS = (b"\n", b"\r", b"\x0b", b"\x0c", b"\x1c", b"\x1d", b"\x1e", b"\xc2\x85", b"\xe2\x80\xa8", b"\xe2\x80\xa9")
# What can be decoded here; httpx asks for both of its own accord.
CODINGS = "gzip, deflate"
# Instead of a stream these are no answer.
NO_STREAMS = ("application/json", "text/html")
# A key of a request's extensions: the project's own client sends it and judges the response itself.
OWN_REQUEST = "claude_proxy.own_request"
# A key of a response's extensions: its ``Bounds``.
BOUNDS = "claude_proxy.bounds"


class ResponseTooLarge(httpx.DecodingError):
    """A response, or one event of a stream, is larger than the proxy accepts. The words follow the name of a host.

    Not a ``RemoteProtocolError`` or a ``ReadError``: after those LiteLLM 1.106.2 sends the request again, or takes the
    stream for complete.
    """


class Bounds:
    """Decodes a response's body in steps of at most ``STEP_BYTES``, and raises ``ResponseTooLarge`` beyond its bounds.

    1. A response has at most ``MAX_RESPONSE_BYTES`` decoded, and as many encoded, and ``MAX_RESPONSE_LINES``.
    2. A stream that is relayed (``endless``) has no such bound.
    3. One event has at most ``MAX_EVENT_SIZE`` where events are told apart: in a relayed stream and in ``text/event-stream``;
       and ``MAX_EVENT_LINES`` where it is not relayed.
    4. With ``cut_at`` the body ends there instead; with ``lenient`` also where it cannot be decoded.
    """

    def __init__(self, coding: str = "", *, events: bool = False, cut_at: int | None = None, lenient: bool = False) -> None:
        self.endless = False
        self.full = False
        self._events = events
        self._cut_at = cut_at
        self._lenient = lenient
        self._coding = coding
        self._inflater = zlib.decompressobj(zlib.MAX_WBITS | 16 if coding == "gzip" else zlib.MAX_WBITS) if coding else None
        # The first byte of a body that came alone; None once the coding is certain.
        self._head: bytes | None = b""
        self._received = 0
        self._decoded = 0
        self._lines = 0
        self._event = 0
        self._event_lines = 0
        self._tail = b""

    def feed(self, raw: bytes) -> Iterator[bytes]:
        """Yield what a chunk decodes to, step by step."""
        self._received += len(raw)
        self._check(self._received)
        for piece in (raw,) if self._inflater is None else self._inflated(raw):
            yield from self._counted(piece)
            if self.full:
                return

    def finish(self) -> Iterator[bytes]:
        """Yield what is left at the end; a body that was cut off while encoded ends where it does."""
        if self._inflater is not None and not self.full:
            yield from self._counted(self._inflater.flush())

    def _inflated(self, raw: bytes) -> Iterator[bytes]:
        while True:
            try:
                piece = cast("Any", self._inflater).decompress(raw, STEP_BYTES)
            except zlib.error as error:
                if self._coding == "deflate" and self._head is not None:  # some send it without its header of two bytes
                    raw, self._head, self._inflater = self._head + raw, None, zlib.decompressobj(-zlib.MAX_WBITS)
                    continue
                if not self._lenient:
                    raise httpx.DecodingError(str(error)) from error
                self.full = True
                return
            self._head = raw if self._received < 2 else None
            yield piece
            raw = cast("Any", self._inflater).unconsumed_tail
            if not raw and len(piece) < STEP_BYTES:
                return

    def _counted(self, piece: bytes) -> Iterator[bytes]:
        if not piece:
            return
        if self._cut_at is not None:
            piece = piece[: self._cut_at - self._decoded]
        self._decoded += len(piece)
        self.full = self._cut_at is not None and self._decoded >= self._cut_at
        self._check(self._decoded)
        if self.endless:
            self._count_event(piece)
            yield piece
            return
        size = self._step(piece)
        for start in range(0, len(piece), size):
            step = piece[start : start + size] if size < len(piece) else piece
            if self._events:
                self._count_event(step)
            yield step

    def _step(self, piece: bytes) -> int:
        """Return the size of the steps in which a piece goes to who reads it line by line."""
        lines = sum(map(piece.count, LINE_ENDS))
        self._lines += lines
        if self._lines > MAX_RESPONSE_LINES:
            raise ResponseTooLarge(f"answered with more than {MAX_RESPONSE_LINES} lines")
        return max(1, len(piece) * STEP_LINES // max(lines, STEP_LINES))

    def _check(self, size: int) -> None:
        if size > MAX_RESPONSE_BYTES and not self.endless:
            raise ResponseTooLarge(f"answered with more than {MAX_RESPONSE_BYTES >> 20} MB")

    def _count_event(self, piece: bytes) -> None:
        """Count the bytes since the last empty line, which ends an event."""
        seen = self._tail + piece
        self._tail = seen[-2:]
        end = max(seen.rfind(b"\n\n"), seen.rfind(b"\n\r"), seen.rfind(b"\r\r"))
        self._event = self._event + len(piece) if end < 0 else len(seen) - end
        if not self.endless:
            lines = seen.count(b"\n", max(0, end)) + seen.count(b"\r", max(0, end))
            self._event_lines = lines if end >= 0 else self._event_lines + lines
            if self._event_lines > MAX_EVENT_LINES + STEP_LINES:
                raise ResponseTooLarge(f"sent an event of more than {MAX_EVENT_LINES} lines")
        if self._event > MAX_EVENT_SIZE:
            raise ResponseTooLarge(f"sent an event of more than {MAX_EVENT_SIZE >> 20} MB")


class BoundedResponse(httpx.Response):
    """A response that becomes an error, in words, where its whole body would be too large; see ``bounded``."""

    def read(self) -> bytes:
        try:
            return super().read() if hasattr(self, "_content") else self._accepted(super().read())
        except ResponseTooLarge as error:
            self.close()
            return self._refused(error)

    async def aread(self) -> bytes:
        try:
            return await super().aread() if hasattr(self, "_content") else self._accepted(await super().aread())
        except ResponseTooLarge as error:
            await self.aclose()
            return self._refused(error)

    def _accepted(self, body: bytes) -> bytes:
        if len(body) > SMALL_RESPONSE_BYTES and sum(body.count(mark) for mark in (b"[", b"{", b",")) > MAX_RESPONSE_PARTS:
            raise ResponseTooLarge("answered with more than the proxy can read")
        return body

    def _refused(self, error: ResponseTooLarge) -> bytes:
        if OWN_REQUEST in self.request.extensions:
            raise error
        self.status_code = 502
        self.headers = httpx.Headers({"content-type": "application/json"})
        self._content = in_words(self.request, str(error))
        return self._content


class _AsyncBody(httpx.AsyncByteStream):
    """A body within its bounds; what is beyond them closes the connection."""

    def __init__(self, stream: Any, bounds: Bounds) -> None:
        self._stream = stream
        self._bounds = bounds

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for raw in self._stream:
                for step, piece in enumerate(self._bounds.feed(raw)):
                    if step:
                        await asyncio.sleep(0)  # many steps in one chunk: other requests have their turn between them
                    yield piece
                if self._bounds.full:
                    break
            for piece in self._bounds.finish():
                yield piece
        except ResponseTooLarge:
            await self._stream.aclose()
            raise

    async def aclose(self) -> None:
        await self._stream.aclose()


class _Body(httpx.SyncByteStream):
    """The same for a request that blocks its thread."""

    def __init__(self, stream: Any, bounds: Bounds) -> None:
        self._stream = stream
        self._bounds = bounds

    def __iter__(self) -> Iterator[bytes]:
        try:
            for raw in self._stream:
                yield from self._bounds.feed(raw)
                if self._bounds.full:
                    break
            yield from self._bounds.finish()
        except ResponseTooLarge:
            self._stream.close()
            raise

    def close(self) -> None:
        self._stream.close()


def bounded(
    request: httpx.Request,
    response: httpx.Response,
    body: type[_AsyncBody] | type[_Body] = _AsyncBody,
    *,
    events: bool = False,
) -> httpx.Response:
    """Return a response that a transport has just given, with its body decoded and bounded.

    An error's body ends at ``MAX_ERROR_BYTES``, Claude's at ``MAX_CLAUDE_ERROR_BYTES``.
    """
    codings, cut_at = _codings(response), None
    decodes, own = bool(codings) and not unreadable(codings), OWN_REQUEST in request.extensions
    if response.is_error:
        cut_at = 0 if codings and not decodes else MAX_CLAUDE_ERROR_BYTES if own else MAX_ERROR_BYTES
    bounds = Bounds(
        codings[0] if decodes else "",
        events=events or (response.is_success and media_type(response) == "text/event-stream"),
        cut_at=cut_at,
        lenient=response.is_error and not own,
    )
    gone = (b"content-encoding", b"content-length") if decodes or (codings and response.is_error) else ()
    headers = [(name, value) for name, value in response.headers.raw if name.lower() not in gone]
    return BoundedResponse(
        response.status_code,
        headers=headers,
        stream=body(response.stream, bounds),
        extensions=response.extensions | {BOUNDS: bounds},
        request=request,
    )


def without_end(response: httpx.Response) -> None:
    """Let a stream that is relayed, and of which nothing is kept, go on for as long as it likes."""
    if BOUNDS in response.extensions:
        response.extensions[BOUNDS].endless = True


def in_words(request: httpx.Request, words: str) -> bytes:
    """Return the body of an error about a provider, as LiteLLM and its packages read it."""
    return json.dumps({"error": {"message": f"{request.url.host} {words}"}}).encode()


class AsyncGuard(httpx.AsyncBaseTransport):
    """A transport whose responses are bounded and are no redirections: one is a 502 in words. For one request."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self._inner.handle_async_request(request)
        if OWN_REQUEST not in request.extensions and (misfit := rejection_reason(response, CODINGS)):
            await response.aclose()
            return refused(request, misfit)
        return bounded(request, response)


class Guard(httpx.BaseTransport):
    """The same for a request that blocks its thread."""

    def __init__(self, inner: httpx.BaseTransport) -> None:
        self._inner = inner

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = self._inner.handle_request(request)
        if misfit := rejection_reason(response, CODINGS):
            response.close()
            return refused(request, misfit)
        return bounded(request, response, _Body)


def refused(request: httpx.Request, misfit: str) -> httpx.Response:
    """Return the error that stands for what is no answer."""
    return httpx.Response(502, headers={"content-type": "application/json"}, content=in_words(request, misfit), request=request)


class ChatTransport(httpx.AsyncBaseTransport):
    """LiteLLM's own way to chat completions, without the answers that it does not take for what they are (1.106.2).

    1. Of an error's body LiteLLM gets ``MAX_ERROR_BYTES``.
    2. A redirection is not followed: the request, and some providers' keys, would go to another host.
    3. A page or an error in the place of a stream, and a stream without any event, is an error; LiteLLM makes a good and
       empty answer of it.
    4. What LiteLLM drops when it is cancelled is closed at the request's end.
    5. A 422 is a 400: LiteLLM would send such a request six times, and lose what the provider says of it.
    """

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self._inner.handle_async_request(request)
        misfit = rejection_reason(response, CODINGS)
        if misfit:
            await discard(response)
            return refused(request, misfit)
        kind = media_type(response)
        streams = response.is_success and (kind == "text/event-stream" or _wants_stream(request))
        # The package ``openai`` looks for an event's end in all that it has of one, again and again.
        response = bounded(request, response, events=streams and kind not in NO_STREAMS)
        wants_stream = streams and kind in NO_STREAMS
        if not response.is_error and not wants_stream:
            exchange = current.get()
            if exchange is not None:
                exchange.opened.append(functools.partial(discard, response))
            if media_type(response) == "text/event-stream":
                response.stream = _WithEvents(response.stream)
            return response
        body = await beginning(response)
        status = 502 if wants_stream else 400 if response.status_code == 422 else response.status_code
        headers = [pair for pair in response.headers.multi_items() if pair[0].lower() not in NOT_REPLAYED]
        return httpx.Response(status, headers=headers, content=body, request=request)

    async def aclose(self) -> None:
        await self._inner.aclose()


class _WithEvents(httpx.AsyncByteStream):
    """A stream that breaks off where it would end without a whole event."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        beginning = bytearray()
        found = False
        async for chunk in self._stream:
            if not found:
                beginning += chunk
                found = bool(first_event_end(beginning, len(beginning) - len(chunk))) or len(beginning) > MAX_FIRST_EVENT
            yield chunk
        if not found:
            raise httpx.RemoteProtocolError("the stream ended without any event")

    async def aclose(self) -> None:
        await self._stream.aclose()


def rejection_reason(response: httpx.Response, codings: str | None = None) -> str | None:
    """Return why a response is no answer, in words that follow a name; None for an error and for an answer.

    ``codings`` are those that can be undone here, as ``accept-encoding`` has them; None says that all can.
    """
    if response.is_error:
        return None
    if not response.is_success:
        return f"answered with HTTP {response.status_code}, which the proxy does not follow"
    is_readable = codings is None or not unreadable(_codings(response), codings)
    return None if is_readable else "answered in a coding that nobody asked for"


def _codings(response: httpx.Response) -> list[str]:
    """Return the codings of a response's body, in the order in which they were applied."""
    named = (coding.strip().lower() for coding in response.headers.get("content-encoding", "").split(","))
    return [coding for coding in named if coding not in ("", "identity")]


def unreadable(coded: list[str], codings: str = CODINGS) -> bool:
    """Whether a body cannot be decoded: in an unknown coding, or in several, which hide how much they hold."""
    return len(coded) > 1 or not {*coded} <= {coding.strip() for coding in codings.split(",")}


async def beginning(response: httpx.Response) -> bytes:
    """Return the first ``MAX_ERROR_BYTES`` of an error's body, and nothing of one that cannot be decoded."""
    found = bytearray()
    try:
        async for part in response.aiter_bytes():
            found += part
            if len(found) >= MAX_ERROR_BYTES:
                break
    except httpx.DecodingError:
        return b""
    finally:
        await discard(response)
    return bytes(found[:MAX_ERROR_BYTES])


async def discard(response: httpx.Response) -> None:
    """Close a response of which no more is to be read.

    Its stream refers to it, and it to its stream (httpx 0.28): a request would stay there until the next search for garbage.
    """
    await response.aclose()
    response.stream = httpx.ByteStream(b"")


def _wants_stream(request: httpx.Request) -> bool:
    try:
        return b'"stream"' in request.content and json.loads(request.content).get("stream") is True
    except (ValueError, AttributeError, RecursionError, httpx.RequestNotRead):
        return False


def media_type(response: httpx.Response) -> str:
    """Return what a response is said to be, in small letters and without parameters."""
    return str(response.headers.get("content-type", "")).split(";")[0].strip().lower()


@functools.cache
def shared_http() -> httpx.AsyncClient:
    """The process's one HTTP client for Anthropic-format upstreams; its first use costs a second, so it is made at start."""
    ssl = httpx.create_ssl_context()
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=IDLE_CONNECTIONS, keepalive_expiry=IDLE_SECONDS)
    connections = Connections(lambda: httpx.AsyncHTTPTransport(verify=ssl, limits=limits))
    # With a transport of its own httpx does not look for the environment's proxies.
    transport = None if urllib.request.getproxies() else connections
    # To httpx each step of a rotation is a redirection, and it takes twenty of them for a circle.
    return httpx.AsyncClient(
        verify=ssl,
        transport=transport,
        limits=limits,
        timeout=DEFAULT_TIMEOUT,
        follow_redirects=False,
        max_redirects=sys.maxsize,
    )


@functools.cache
def chat_http() -> httpx.AsyncClient:
    """The process's one HTTP client for chat completions in OpenAI's format: LiteLLM's, with ``ChatTransport`` around it."""
    ssl = get_ssl_configuration()
    inner = AsyncHTTPHandler.create_async_transport(
        ssl_context=None if isinstance(ssl, bool) else ssl, ssl_verify=ssl if isinstance(ssl, bool) else None
    )
    proxies = AsyncHTTPHandler.create_httpx_proxy_mounts(inner, verify=ssl, cert=None) or {}
    return httpx.AsyncClient(
        verify=ssl,
        transport=ChatTransport(inner or httpx.AsyncHTTPTransport(verify=ssl)),
        mounts={pattern: transport and ChatTransport(transport) for pattern, transport in proxies.items()},
        timeout=DEFAULT_TIMEOUT,
        follow_redirects=False,
    )
