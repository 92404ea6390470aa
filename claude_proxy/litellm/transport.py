"""The way to the upstreams: the process's two HTTP clients, what is taken for an answer, and how much of it.

It knows LiteLLM's shapes (1.106.2), as ``litellm/clients.py`` does; ``tests/test_contract.py`` guards them.
"""

import asyncio
import functools
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler, get_ssl_configuration

from claude_proxy.anthropic.sse import first_event_end
from claude_proxy.litellm.native_ends import watched
from claude_proxy.proxy.entrance import current
from claude_proxy.proxy.lanes.attempt import MAX_ERROR_BYTES, NO_STREAMS, NOT_REPLAYED, STREAM
from claude_proxy.proxy.relay import MAX_FIRST_EVENT
from claude_proxy.upstream.response_bounds import (
    CODINGS,
    MAX_RESPONSE_PARTS,
    SMALL_RESPONSE_BYTES,
    Bounds,
    ResponseTooLarge,
    named_codings,
    unreadable,
)

# How long one silence of an upstream may last, in seconds, when LiteLLM does not say.
DEFAULT_TIMEOUT = httpx.Timeout(600.0, connect=10.0)


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

    An error's body ends at ``MAX_ERROR_BYTES``.
    """
    codings, cut_at = named_codings(response.headers.get("content-encoding", "")), None
    decodes = bool(codings) and not unreadable(codings)
    if response.is_error:
        cut_at = 0 if codings and not decodes else MAX_ERROR_BYTES
    bounds = Bounds(
        codings[0] if decodes else "",
        events=events or (response.is_success and media_type(response) == STREAM),
        cut_at=cut_at,
        lenient=response.is_error,
    )
    gone = (b"content-encoding", b"content-length") if decodes or (codings and response.is_error) else ()
    headers = [(name, value) for name, value in response.headers.raw if name.lower() not in gone]
    return BoundedResponse(
        response.status_code,
        headers=headers,
        stream=body(response.stream, bounds),
        extensions=response.extensions,
        request=request,
    )


def in_words(request: httpx.Request, words: str) -> bytes:
    """Return the body of an error about a provider, as LiteLLM and its packages read it."""
    return json.dumps({"error": {"message": f"{request.url.host} {words}"}}).encode()


class AsyncGuard(httpx.AsyncBaseTransport):
    """A transport whose responses are bounded and are no redirections: one is a 502 in words. For one request."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self._inner.handle_async_request(request)
        note_what_is_lost(response)
        if misfit := rejection_reason(response, CODINGS):
            await response.aclose()
            return refused(request, misfit)
        return watched(bounded(request, response))


def note_what_is_lost(response: httpx.Response) -> None:
    """Keep when to come back: LiteLLM (1.106.2) has no place for it."""
    entrance = current.get()
    if entrance is not None:
        entrance.retry_after = response.headers.get("retry-after") if response.is_error else None


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
        note_what_is_lost(response)
        misfit = rejection_reason(response, CODINGS)
        if misfit:
            await discard(response)
            return refused(request, misfit)
        kind = media_type(response)
        streams = response.is_success and (kind == STREAM or _wants_stream(request))
        # The package ``openai`` looks for an event's end in all that it has of one, again and again.
        response = bounded(request, response, events=streams and kind not in NO_STREAMS)
        wants_stream = streams and kind in NO_STREAMS
        if not response.is_error and not wants_stream:
            entrance = current.get()
            if entrance is not None:
                entrance.opened.append(functools.partial(discard, response))
            if media_type(response) == STREAM:
                response.stream = _WithEvents(response.stream)
            return watched(response)
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
    is_readable = codings is None or not unreadable(named_codings(response.headers.get("content-encoding", "")), codings)
    return None if is_readable else "answered in a coding that nobody asked for"


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
    """The process's one HTTP client for what LiteLLM makes and this project sends; its first use costs a second."""
    return httpx.AsyncClient(verify=httpx.create_ssl_context(), timeout=DEFAULT_TIMEOUT, follow_redirects=False)


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
