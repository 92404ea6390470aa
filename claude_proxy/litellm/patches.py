"""What is changed in LiteLLM (1.106.2) and in what it sends with, each where there is no hook. The contract tests guard it."""

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

# How much LiteLLM keeps of the chunks of a stream that it translates, with and without a setting that reads its records, and
# what one takes beside its text.
MAX_CHUNKS = 256 * 1024 * 1024
MAX_UNREAD_CHUNKS = 64 * 1024 * 1024
CHUNK_BYTES = 4096
# In characters.
MAX_TEXT = 1024 * 1024


@functools.cache
def guard_every_request() -> None:
    """Bound the response, and refuse the redirection, of every request that this process sends with httpx.

    LiteLLM's handlers, the package ``openai`` and the tools of both make clients of their own, most of which follow a
    redirection with body and key, and all of which decode and read without a bound (httpx 0.28). They meet here.
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
    """Ask a host of NO_PROXY directly, in whatever form it stands there.

    httpx (0.28) raises an error over a network or a bracket in it, so the environment that LiteLLM sees has neither. And it
    knows no network, as LiteLLM's transport over aiohttp does not.
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
    """Let aiohttp (3.14.5) and requests (2.x) follow no redirection either, and aiohttp read no body without a bound.

    LiteLLM sends with aiohttp itself for ``aiohttp_openai``, and with requests for some providers' logins.
    """
    send = aiohttp.ClientSession._request  # noqa: SLF001 - the one way of every method
    read = aiohttp.StreamReader.read

    async def sent(session: aiohttp.ClientSession, *args: Any, **more: Any) -> aiohttp.ClientResponse:
        if more.get("allow_redirects") is False:  # the caller judges the response
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
    """The latest chunks of a translated stream, as many as take less than a bound."""

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
                logger.warning("LiteLLM's record of a stream is too large: its first %d chunks are left out", len(self) // 2)
            del self[: len(self) // 2]
            self._weight = sum(map(weight, self))


def weight(chunk: Any) -> int:
    """Return about how many bytes a chunk takes."""
    delta = getattr(chunk.choices[0], "delta", None) if getattr(chunk, "choices", None) else None
    texts = (getattr(delta, name, None) for name in ("content", "reasoning_content"))
    calls = (getattr(call.function, "arguments", None) for call in getattr(delta, "tool_calls", None) or ())
    return CHUNK_BYTES + sum(len(text) for text in (*texts, *calls) if isinstance(text, str))


@functools.cache
def keep_the_latest_chunks() -> None:
    """Let LiteLLM keep the latest chunks of a stream that it translates, and not each of them until the stream's end.

    1.106.2 keeps its text, too, and copies that at each chunk; beyond a bound only LiteLLM's own rules need it.
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
    """Let aiohttp, LiteLLM's HTTP client, tell the reader of an answer that what follows is no HTTP.

    Its parser (3.14.5) tells the connection alone and drops the answer: who reads that waits for ever, without a time-out.
    A reader that was woken by the same packet looks only at what there is to read, and waits again: so it is told afterwards.
    """
    fail = ResponseHandler.set_exception

    def set_exception(connection: ResponseHandler, error: BaseException, *cause: BaseException) -> None:
        answer = connection._payload  # noqa: SLF001 - no other way from the connection to its answer
        fail(connection, error, *cause)
        if isinstance(error, HttpProcessingError) and answer is not None and not answer.is_eof():
            told = ClientPayloadError(f"the answer cannot be understood: {error.message}")
            asyncio.get_running_loop().call_soon(answer.set_exception, told)

    ResponseHandler.set_exception = set_exception  # type: ignore[method-assign,assignment]
