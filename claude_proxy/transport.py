"""The way to the upstreams: the process's two HTTP clients, and what is taken for an answer.

It knows LiteLLM's shapes (1.106.2), as ``clients.py`` does; ``tests/test_contract.py`` guards them.
"""

import functools
import json
import sys
import urllib.request
from collections.abc import AsyncIterator
from typing import Any

import httpx
from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler, get_ssl_configuration

from claude_proxy.connections import IDLE_CONNECTIONS, IDLE_SECONDS, Connections
from claude_proxy.exchange import current
from claude_proxy.relay import MAX_FIRST_EVENT
from claude_proxy.stream import first_event_end

# How long one silence of an upstream may last, in seconds, when LiteLLM does not say.
DEFAULT_TIMEOUT = httpx.Timeout(600.0, connect=10.0)

# Headers that describe a connection or an encoding that the client does not see, and what is about Anthropic's host alone.
NOT_REPLAYED = frozenset(
    {
        "alt-svc", "connection", "content-encoding", "content-length", "date", "keep-alive", "server", "set-cookie",
        "strict-transport-security", "trailer", "transfer-encoding", "upgrade",
    }
)  # fmt: skip
# Of an error's body LiteLLM gets so much. 1.106.2 looks for secrets in it over and over, in the event loop: a body of 10 MB
# stops the whole process for minutes.
MAX_ERROR_BYTES = 8 * 1024
# Instead of a stream these are no answer.
NO_STREAMS = ("application/json", "text/html")


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
        misfit = misfit_of(response)
        wants_stream = response.is_success and media_type(response) in NO_STREAMS and _wants_stream(request)
        if misfit is None and not response.is_error and not wants_stream:
            exchange = current.get()
            if exchange is not None:
                exchange.opened.append(functools.partial(let_go, response))
            if media_type(response) == "text/event-stream" and "content-encoding" not in response.headers:
                response.stream = _WithEvents(response.stream)
            return response
        body = await beginning(response)
        status = 502 if misfit or wants_stream else 400 if response.status_code == 422 else response.status_code
        headers = [pair for pair in response.headers.multi_items() if pair[0].lower() not in NOT_REPLAYED | {"location"}]
        if misfit:
            body = json.dumps({"error": {"message": f"{request.url.host} {misfit}"}}).encode()
            headers = [("content-type", "application/json")]
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
                found = bool(first_event_end(beginning)) or len(beginning) > MAX_FIRST_EVENT
            yield chunk
        if not found:
            raise httpx.RemoteProtocolError("the stream ended without any event")

    async def aclose(self) -> None:
        await self._stream.aclose()


def misfit_of(response: httpx.Response, codings: str | None = None) -> str | None:
    """Return why a response is no answer, in words that follow a name; None for an error and for an answer.

    ``codings`` are those that can be undone here, as ``accept-encoding`` has them; None says that all can.
    """
    if response.is_error:
        return None
    if not response.is_success:
        return f"answered with HTTP {response.status_code}, which the proxy does not follow"
    known = {"identity", *(coding.strip() for coding in (codings or "").split(","))}
    coded = {coding.strip().lower() for coding in response.headers.get("content-encoding", "").split(",") if coding.strip()}
    return "answered in a coding that nobody asked for" if codings is not None and coded - known else None


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
        await let_go(response)
    return bytes(found[:MAX_ERROR_BYTES])


async def let_go(response: httpx.Response) -> None:
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
