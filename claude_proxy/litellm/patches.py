"""Changes to LiteLLM and to its HTTP clients where they have no hook. The contract tests guard them."""

import asyncio
import functools
import logging
from collections.abc import Iterable
from typing import Any

import aiohttp
import httpx
import litellm
import requests
from aiohttp import ClientPayloadError
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError
from litellm.litellm_core_utils.streaming_handler import CustomStreamWrapper
from litellm.llms.custom_httpx.aiohttp_transport import LiteLLMAiohttpTransport

from claude_proxy.config.outbound_proxies import OutboundProxies
from claude_proxy.litellm.transport import AsyncGuard, ChatTransport, Guard
from claude_proxy.proxy.entrance import current
from claude_proxy.upstream.response_bounds import MAX_RESPONSE_BYTES

logger = logging.getLogger(__name__)

# The limit for the chunks that LiteLLM keeps of a translated stream, with and without a setting that reads them, and the size
# of a chunk without its text.
MAX_CHUNKS = 256 * 1024 * 1024
MAX_UNREAD_CHUNKS = 64 * 1024 * 1024
CHUNK_BYTES = 4096
# In characters.
MAX_TEXT = 1024 * 1024


@functools.cache
def guard_every_request() -> None:
    """Limit the response size, and reject redirects, for every httpx request of this process.

    LiteLLM's handlers, the package ``openai`` and the tools of both create their own clients. Most of them follow a redirect
    with body and key, and all of them decode and read without a limit (httpx 0.28). All use the functions replaced here.
    """
    choose_async, choose = httpx.AsyncClient._transport_for_url, httpx.Client._transport_for_url  # noqa: SLF001

    def guarded_async(client: httpx.AsyncClient, url: httpx.URL) -> httpx.AsyncBaseTransport:
        transport = choose_async(client, url)
        return transport if isinstance(transport, ChatTransport) else AsyncGuard(transport)

    def guarded(client: httpx.Client, url: httpx.URL) -> httpx.BaseTransport:
        return Guard(choose(client, url))

    httpx.AsyncClient._transport_for_url = guarded_async  # type: ignore[method-assign,assignment]  # noqa: SLF001
    httpx.Client._transport_for_url = guarded  # type: ignore[method-assign,assignment]  # noqa: SLF001


@functools.cache
def except_from_proxies(proxies: OutboundProxies) -> None:
    """Connect directly to the hosts of NO_PROXY, in every notation.

    httpx (0.28) raises an error for a network or a bracketed host, so LiteLLM's environment contains neither. LiteLLM's
    transport over aiohttp does not support networks either.
    """
    choose_async, choose = httpx.AsyncClient._transport_for_url, httpx.Client._transport_for_url  # noqa: SLF001
    found = LiteLLMAiohttpTransport._proxy_from_env  # noqa: SLF001

    def direct_async(client: httpx.AsyncClient, url: httpx.URL) -> httpx.AsyncBaseTransport:
        is_direct = proxies.goes_directly(url.scheme, url.host, url.port)
        return client._transport if is_direct else choose_async(client, url)  # noqa: SLF001

    def direct(client: httpx.Client, url: httpx.URL) -> httpx.BaseTransport:
        is_direct = proxies.goes_directly(url.scheme, url.host, url.port)
        return client._transport if is_direct else choose(client, url)  # noqa: SLF001

    def proxy_of(transport: LiteLLMAiohttpTransport, url: httpx.URL) -> str | None:
        return None if proxies.goes_directly(url.scheme, url.host, url.port) else found(transport, url)

    httpx.AsyncClient._transport_for_url = direct_async  # type: ignore[method-assign,assignment]  # noqa: SLF001
    httpx.Client._transport_for_url = direct  # type: ignore[method-assign,assignment]  # noqa: SLF001
    LiteLLMAiohttpTransport._proxy_from_env = proxy_of  # noqa: SLF001


@functools.cache
def guard_other_clients() -> None:
    """Stop aiohttp (3.14.5) and requests (2.x) from following redirects, and limit how much aiohttp reads.

    LiteLLM uses aiohttp directly for ``aiohttp_openai``, and requests for some providers' logins.
    """
    send = aiohttp.ClientSession._request  # noqa: SLF001 - every method calls it
    read = aiohttp.StreamReader.read

    async def sent(session: aiohttp.ClientSession, *args: Any, **more: Any) -> aiohttp.ClientResponse:
        if more.get("allow_redirects") is False:  # the caller checks the response itself
            return await send(session, *args, **more)
        response = await send(session, *args, **more | {"allow_redirects": False})
        if 300 <= response.status < 400:
            response.close()
            raise aiohttp.ClientResponseError(
                response.request_info, (), status=502, message=f"HTTP {response.status}, which the proxy does not follow"
            )
        return response

    async def bounded_read(stream: aiohttp.StreamReader, n: int = -1) -> bytes:
        if n >= 0:
            return await read(stream, n)
        found = bytearray()
        while part := await stream.readany():
            found += part
            if len(found) > MAX_RESPONSE_BYTES:
                raise ClientPayloadError(f"the response is larger than {MAX_RESPONSE_BYTES >> 20} MB")
        return bytes(found)

    aiohttp.ClientSession._request = sent  # type: ignore[method-assign,assignment]  # noqa: SLF001
    aiohttp.StreamReader.read = bounded_read  # type: ignore[method-assign,assignment]
    requests.Session.get_redirect_target = lambda *_: None  # type: ignore[method-assign]


class LatestChunks(list[Any]):
    """The latest chunks of a translated stream, as many as fit within a limit."""

    def __init__(self, chunks: Iterable[Any] = ()) -> None:
        super().__init__()
        entrance = current.get()
        self._bound = MAX_UNREAD_CHUNKS if entrance is not None and entrance.planned else MAX_CHUNKS
        self._weight = 0
        for chunk in chunks:
            self.append(chunk)

    def append(self, chunk: Any) -> None:
        super().append(chunk)
        self._weight += weight(chunk)
        if self._weight > self._bound and len(self) > 1:
            if self._bound == MAX_CHUNKS:
                logger.warning("LiteLLM's record of a stream is too large: its first %d chunks are removed", len(self) // 2)
            del self[: len(self) // 2]
            self._weight = sum(map(weight, self))


def weight(chunk: Any) -> int:
    """Return the approximate size of a chunk, in bytes."""
    delta = getattr(chunk.choices[0], "delta", None) if getattr(chunk, "choices", None) else None
    texts = (getattr(delta, name, None) for name in ("content", "reasoning_content"))
    calls = (getattr(call.function, "arguments", None) for call in getattr(delta, "tool_calls", None) or ())
    return CHUNK_BYTES + sum(len(text) for text in (*texts, *calls) if isinstance(text, str))


@functools.cache
def keep_the_latest_chunks() -> None:
    """Make LiteLLM keep only the latest chunks of a translated stream, instead of all until its end.

    It also keeps the text and copies it at each chunk; above a limit only LiteLLM's own rules need it.
    """

    def chunks(stream: CustomStreamWrapper) -> Any:
        return vars(stream)["chunks"]

    def keep_chunks(stream: CustomStreamWrapper, made: Iterable[Any]) -> None:
        vars(stream)["chunks"] = LatestChunks(made)

    def text(stream: CustomStreamWrapper) -> str:
        return str(vars(stream).get("response_uptil_now", ""))

    def keep_text(stream: CustomStreamWrapper, so_far: str) -> None:
        if len(so_far) <= MAX_TEXT or litellm.post_call_rules:
            vars(stream)["response_uptil_now"] = so_far

    CustomStreamWrapper.chunks = property(chunks, keep_chunks)
    CustomStreamWrapper.response_uptil_now = property(text, keep_text)


@functools.cache
def end_what_cannot_be_understood() -> None:
    """Make aiohttp, LiteLLM's HTTP client, report invalid HTTP to the reader of a response.

    Its parser (3.14.5) reports it only to the connection and drops the response; the reader would wait forever.
    A reader that the same packet has woken looks only at the data and waits again, so it gets the error in the next step.
    """
    fail = ResponseHandler.set_exception

    def set_exception(connection: ResponseHandler, error: BaseException, *cause: BaseException) -> None:
        response = connection._payload  # noqa: SLF001 - the connection has no public access to its response
        fail(connection, error, *cause)
        if isinstance(error, HttpProcessingError) and response is not None and not response.is_eof():
            reported = ClientPayloadError(f"the response is not valid HTTP: {error.message}")
            asyncio.get_running_loop().call_soon(response.set_exception, reported)

    ResponseHandler.set_exception = set_exception  # type: ignore[method-assign,assignment]
