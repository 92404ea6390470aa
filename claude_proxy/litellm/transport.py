"""The process's two HTTP clients for LiteLLM: which responses they accept, and how much of a response they read.

Depends on LiteLLM's shapes, like ``litellm/callback.py``; ``tests/test_contract.py`` guards it.
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

# How long an upstream may be silent, in seconds, if LiteLLM does not say.
DEFAULT_TIMEOUT = httpx.Timeout(600.0, connect=10.0)


class BoundedResponse(httpx.Response):
    """A response that becomes a 502 with a message if its whole body is too large; see ``bounded``."""

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
            raise ResponseTooLarge("responded with more JSON than the proxy can read")
        return body

    def _refused(self, error: ResponseTooLarge) -> bytes:
        self.status_code = 502
        self.headers = httpx.Headers({"content-type": "application/json"})
        self._content = error_json(self.request, str(error))
        return self._content


class _AsyncBody(httpx.AsyncByteStream):
    """A body within its limits; a larger one raises an error and closes the connection."""

    def __init__(self, stream: Any, bounds: Bounds) -> None:
        self._stream = stream
        self._bounds = bounds

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for raw in self._stream:
                for step, piece in enumerate(self._bounds.feed(raw)):
                    if step:
                        await asyncio.sleep(0)  # one chunk may have many steps: serve other requests between them
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
    """Return a response with its body decoded and limited; the transport has just returned it.

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
    removed_headers = (b"content-encoding", b"content-length") if decodes or (codings and response.is_error) else ()
    headers = [(name, value) for name, value in response.headers.raw if name.lower() not in removed_headers]
    return BoundedResponse(
        response.status_code,
        headers=headers,
        stream=body(response.stream, bounds),
        extensions=response.extensions,
        request=request,
    )


def error_json(request: httpx.Request, words: str) -> bytes:
    """Return the body of an error about a provider, in the shape that LiteLLM and its packages read."""
    return json.dumps({"error": {"message": f"{request.url.host} {words}"}}).encode()


class AsyncGuard(httpx.AsyncBaseTransport):
    """A transport for one request that limits its response and rejects a redirect with a 502 and a message."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await recorded(self._inner, request)
        keep_retry_after(response)
        if reason := rejection_reason(response, CODINGS):
            await response.aclose()
            return refused(request, reason)
        return watched(bounded(request, response))


async def recorded(inner: httpx.AsyncBaseTransport, request: httpx.Request) -> httpx.Response:
    """Send a request, and record that its provider has it; also while its connection is opened, which no seam here shows.

    Requests that LiteLLM makes before its attempt (a guardrail's) are not the attempt's.
    """
    entrance = current.get()
    journal = entrance.journal if entrance is not None and entrance.journal.attempts else None
    if journal is None:
        return await inner.handle_async_request(request)
    journal.record_sent()
    try:
        response = await inner.handle_async_request(request)
    except Exception:
        journal.record_failed()
        raise
    if response.is_error:
        journal.record_failed()
    return response


def keep_retry_after(response: httpx.Response) -> None:
    """Keep the header ``retry-after``, which LiteLLM (1.106.2) does not keep."""
    entrance = current.get()
    if entrance is not None:
        entrance.retry_after = response.headers.get("retry-after") if response.is_error else None


class Guard(httpx.BaseTransport):
    """The same for a request that blocks its thread."""

    def __init__(self, inner: httpx.BaseTransport) -> None:
        self._inner = inner

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = self._inner.handle_request(request)
        if reason := rejection_reason(response, CODINGS):
            response.close()
            return refused(request, reason)
        return bounded(request, response, _Body)


def refused(request: httpx.Request, reason: str) -> httpx.Response:
    """Return the error that replaces a response that cannot be used."""
    return httpx.Response(
        502, headers={"content-type": "application/json"}, content=error_json(request, reason), request=request
    )


class ChatTransport(httpx.AsyncBaseTransport):
    """LiteLLM's own transport for chat completions, which handles the responses that LiteLLM (1.106.2) misreads.

    1. LiteLLM gets at most ``MAX_ERROR_BYTES`` of an error's body.
    2. A redirect is not followed, because the request, and some providers' keys, would go to another host.
    3. A page or an error instead of a stream, and a stream without any event, is an error; LiteLLM would report it as a
       successful empty response.
    4. What LiteLLM drops when it is cancelled is closed at the request's end.
    5. A 422 becomes a 400: LiteLLM would send such a request six times, and lose the provider's message.
    """

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await recorded(self._inner, request)
        keep_retry_after(response)
        reason = rejection_reason(response, CODINGS)
        if reason:
            await discard(response)
            return refused(request, reason)
        kind = media_type(response)
        streams = response.is_success and (kind == STREAM or _wants_stream(request))
        # Until an event is complete, the package ``openai`` searches all of its data again at each chunk.
        response = bounded(request, response, events=streams and kind not in NO_STREAMS)
        wants_stream = streams and kind in NO_STREAMS
        if not response.is_error and not wants_stream:
            entrance = current.get()
            if entrance is not None:
                entrance.opened.append(functools.partial(discard, response))
            if media_type(response) == STREAM:
                response.stream = _WithEvents(response.stream)
            return watched(response)
        body = await error_start(response)
        status = 502 if wants_stream else 400 if response.status_code == 422 else response.status_code
        headers = [pair for pair in response.headers.multi_items() if pair[0].lower() not in NOT_REPLAYED]
        return httpx.Response(status, headers=headers, content=body, request=request)

    async def aclose(self) -> None:
        await self._inner.aclose()


class _WithEvents(httpx.AsyncByteStream):
    """A stream that raises an error if it ends without a whole event."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        error_start = bytearray()
        found = False
        async for chunk in self._stream:
            if not found:
                error_start += chunk
                found = bool(first_event_end(error_start, len(error_start) - len(chunk))) or len(error_start) > MAX_FIRST_EVENT
            yield chunk
        if not found:
            raise httpx.RemoteProtocolError("the stream ended without any event")

    async def aclose(self) -> None:
        await self._stream.aclose()


def rejection_reason(response: httpx.Response, codings: str | None = None) -> str | None:
    """Return why a response cannot be used, as the rest of a sentence after the host; None for an error and a good response.

    ``codings`` are the supported content codings, in the form of ``accept-encoding``; None accepts all.
    """
    if response.is_error:
        return None
    if not response.is_success:
        return f"responded with HTTP {response.status_code}, which the proxy does not follow"
    is_readable = codings is None or not unreadable(named_codings(response.headers.get("content-encoding", "")), codings)
    return None if is_readable else "responded with a content encoding that the proxy did not request"


async def error_start(response: httpx.Response) -> bytes:
    """Return the first ``MAX_ERROR_BYTES`` of an error's body; empty if it cannot be decoded."""
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
    """Close a response whose rest is not read.

    It and its stream refer to each other (httpx 0.28): the request would stay in memory until the garbage collector runs.
    """
    await response.aclose()
    response.stream = httpx.ByteStream(b"")


def _wants_stream(request: httpx.Request) -> bool:
    try:
        return b'"stream"' in request.content and json.loads(request.content).get("stream") is True
    except (ValueError, AttributeError, RecursionError, httpx.RequestNotRead):
        return False


def media_type(response: httpx.Response) -> str:
    """Return the media type of a response, in lower case and without parameters."""
    return str(response.headers.get("content-type", "")).split(";")[0].strip().lower()


@functools.cache
def shared_http() -> httpx.AsyncClient:
    """Return the process's HTTP client for requests that LiteLLM makes and this project sends; its first use takes a second."""
    return httpx.AsyncClient(verify=httpx.create_ssl_context(), timeout=DEFAULT_TIMEOUT, follow_redirects=False)


@functools.cache
def chat_http() -> httpx.AsyncClient:
    """Return the process's HTTP client for chat completions: LiteLLM's, wrapped in ``ChatTransport``."""
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
