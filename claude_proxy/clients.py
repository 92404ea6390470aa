"""The HTTP handlers that LiteLLM is handed as ``client``: one for Claude with the rotation in it, one for everybody else.

They know LiteLLM's shapes (1.106.2), as ``callback.py`` does; ``tests/test_contract.py`` guards them.
"""

import asyncio
import functools
import json
import logging
import math
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import litellm
from litellm.llms.base_llm.chat.transformation import BaseLLMException
from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler, get_ssl_configuration

from claude_proxy.credentials import is_claude_credential
from claude_proxy.exchange import Exchange, Outlet, Refusal, current
from claude_proxy.headers import Headers
from claude_proxy.messages import to_json
from claude_proxy.refusals import own_refusal
from claude_proxy.relay import KEEPALIVE_SECONDS, MAX_FIRST_EVENT, FailedStream, Mender, Renaming, relayed
from claude_proxy.rotation import NobodyUsable, Rotation, outgoing
from claude_proxy.stream import ThinkingFilter, error_of, events, first_event_end
from claude_proxy.verdicts import UNIFIED, Then

# How long one silence of an upstream may last, in seconds, when LiteLLM does not say.
DEFAULT_TIMEOUT = httpx.Timeout(600.0, connect=10.0)

logger = logging.getLogger(__name__)

# Headers that describe a connection or an encoding that the client does not see, and what is about Anthropic's host alone.
NOT_REPLAYED = frozenset(
    {
        "alt-svc", "connection", "content-encoding", "content-length", "date", "keep-alive", "server", "set-cookie",
        "strict-transport-security", "trailer", "transfer-encoding", "upgrade",
    }
)  # fmt: skip
STATUS_OF_ERRORS = {
    "invalid_request_error": 400, "authentication_error": 401, "billing_error": 402, "permission_error": 403,
    "not_found_error": 404, "request_too_large": 413, "rate_limit_error": 429, "timeout_error": 504, "overloaded_error": 529,
}  # fmt: skip
# Of an error's body LiteLLM gets so much. 1.106.2 looks for secrets in it over and over, in the event loop: a body of 10 MB
# stops the whole process for minutes.
MAX_ERROR_BYTES = 8 * 1024
# Instead of a stream these are no answer.
NO_STREAMS = ("application/json", "text/html")


class AttemptRefused(litellm.BadRequestError):  # type: ignore[misc]  # LiteLLM's class is untyped
    """The attempt is not made: a refusal for the client stands already, or a key is missing. LiteLLM does not repeat it."""

    def __init__(self, message: str) -> None:
        super().__init__(message=message, model="", llm_provider="")


class Served(asyncio.CancelledError):
    """The client has its answer whole, and nobody reads LiteLLM's books: its work on the request ends where it stands.

    In LiteLLM's eyes the client has left; that is the one end of a request which it neither repeats nor records.
    """


class BothKeyHeaders(httpx.Auth):
    """The key of an Anthropic-format provider in both headers: Kimi reads ``x-api-key``, OpenRouter ``Authorization``."""

    def auth_flow(self, request: httpx.Request) -> Any:
        key = request.headers.get("x-api-key") or request.headers.get("authorization", "").removeprefix("Bearer ")
        if is_claude_credential(key):
            raise AttemptRefused(f"a Claude credential does not go to {request.url.host}")
        request.headers["x-api-key"] = key
        request.headers["authorization"] = f"Bearer {key}"
        yield request


class PlainClient(AsyncHTTPHandler):  # type: ignore[misc]  # LiteLLM's class is untyped
    """The handler that LiteLLM is handed as ``client``; it uses ``post`` and nothing else of it on ``/v1/messages``.

    The base class's constructor is left out on purpose: it would build an HTTP client for every request.
    """

    def __init__(self, http: httpx.AsyncClient, auth: httpx.Auth | None = None) -> None:
        self._client = http
        self._owns_client = False
        self.timeout = None
        self.event_hooks = None
        self._auth = auth

    async def post(
        self,
        url: str,
        data: str | bytes | None = None,
        headers: dict[str, str] | None = None,
        timeout: float | httpx.Timeout | None = None,
        stream: bool = False,
        **_: Any,
    ) -> httpx.Response:
        """Send the request and return its answer, read to the end unless it streams; raise LiteLLM's errors."""
        request = self._client.build_request(
            "POST", url, content=data, headers=headers, timeout=DEFAULT_TIMEOUT if timeout is None else timeout
        )
        host = request.url.host
        try:
            response = await self._send(request)
            misfit = misfit_of(response, self._client.headers["accept-encoding"])
            if misfit:
                await response.aclose()
                self._misfitting(misfit)
                raise BaseLLMException(502, f"{host} {misfit}")
            if response.is_error:
                # Not httpx.HTTPStatusError: on that LiteLLM strips thinking and sends the request again by itself.
                text = (await beginning(response)).decode("utf-8", "replace")
                raise BaseLLMException(response.status_code, text, dict(response.headers))
            if not stream:
                await self._read(response)
        except httpx.TimeoutException as error:
            raise litellm.Timeout(message=f"no answer from {host} in time", model="", llm_provider="") from error
        except httpx.HTTPError as error:
            raise BaseLLMException(502, f"{host} broke off ({type(error).__name__})") from error
        return await self._passed_on(response)

    def _misfitting(self, misfit: str) -> None:
        """Take note of an answer that is none."""

    async def _passed_on(self, response: httpx.Response) -> httpx.Response:
        """Return what LiteLLM gets of an answer that is a success."""
        return response

    async def _read(self, response: httpx.Response) -> None:
        await response.aread()

    async def _send(self, request: httpx.Request) -> httpx.Response:
        return await self._client.send(request, stream=True, auth=self._auth, follow_redirects=False)


class BetasInBody(PlainClient):
    """Sends to Vertex AI, which refuses many values of the header ``anthropic-beta`` and reads them from the body."""

    async def _send(self, request: httpx.Request) -> httpx.Response:
        betas = request.headers.pop("anthropic-beta", "")
        if betas:
            body = json.loads(request.content) | {"anthropic_beta": sorted(betas.split(","))}
            headers = [pair for pair in request.headers.multi_items() if pair[0] != "content-length"]
            timeout = request.extensions["timeout"]
            request = self._client.build_request("POST", request.url, content=to_json(body), headers=headers)
            request.extensions["timeout"] = timeout
        return await super()._send(request)


class RelayingClient(PlainClient):
    """Sends an upstream's stream to the client while it arrives, and gives LiteLLM a copy afterwards, for its books.

    LiteLLM 1.106.2 itself holds a stream's first events back for as long as it could still fall back.
    """

    # Whether a stream without any event is a failure, about which LiteLLM decides, or what the client is to see.
    _needs_event = True

    def __init__(self, exchange: Exchange, mender: Mender, auth: httpx.Auth, keepalive: float | None = None) -> None:
        super().__init__(shared_http(), auth)
        self._exchange = exchange
        self._mender = mender
        self._keepalive = keepalive

    async def _passed_on(self, response: httpx.Response) -> httpx.Response:
        exchange, outlet = self._exchange, self._exchange.outlet
        if outlet is None or not self._is_stream(response):
            return response
        copy = bytearray()
        try:
            begin = functools.partial(self._begin, outlet, response)
            relay = relayed(
                response.aiter_bytes(),
                outlet,
                self._mender,
                copy,
                begin=begin,
                keepalive=self._keepalive,
                needs_event=self._needs_event,
            )
            if not await outlet.while_client_stays(relay):
                logger.info("the client left during an answer of %s, after %d bytes", exchange.served, len(copy))
        except FailedStream as failed:
            self._failed(failed, response)
            text = b"\n".join(events(failed.body))[:MAX_ERROR_BYTES].decode("utf-8", "replace")
            raise BaseLLMException(STATUS_OF_ERRORS.get(failed.kind, 500), text) from None
        except httpx.HTTPError as error:
            exchange.error = "interrupted"
            self._broken_off(response)
            logger.warning("%s broke its answer off after %d bytes (%s)", exchange.served, len(copy), type(error).__name__)
            raise BaseLLMException(502, "the upstream broke its answer off") from error
        finally:
            exchange.copy = bytes(copy)
            await response.aclose()
        exchange.error = error_of(exchange.copy)
        if exchange.error:
            logger.warning("%s ended its answer with %s", exchange.served, exchange.error)
            raise BaseLLMException(STATUS_OF_ERRORS.get(exchange.error, 500), f"the stream ended with {exchange.error}")
        if not exchange.booked:
            raise Served
        return _copied(response, exchange.copy)

    async def _begin(self, outlet: Outlet, response: httpx.Response, *more: tuple[str, str]) -> None:
        """Send the status and the headers. From here on no retry and no fallback may answer."""
        self._exchange.final = True
        await outlet.begin(response.status_code, [*self._headers(response), *more])

    def _is_stream(self, response: httpx.Response) -> bool:
        return _media_type(response) == "text/event-stream"

    def _headers(self, response: httpx.Response) -> Headers:
        told = _media_type(response) == "text/event-stream"
        return [("content-type", response.headers["content-type"] if told else "text/event-stream; charset=utf-8")]

    def _failed(self, failed: FailedStream, response: httpx.Response) -> None:
        """Take note of a stream that began with an error; LiteLLM decides about it as about any other one."""

    def _broken_off(self, response: httpx.Response) -> None:
        """Take note of a stream that ended before its end."""


class FilteringClient(RelayingClient):
    """For a provider that speaks Anthropic's format and is not Anthropic: its streams lose their thinking on the way."""

    def __init__(self, exchange: Exchange, thinking: ThinkingFilter) -> None:
        super().__init__(exchange, thinking, BothKeyHeaders(), KEEPALIVE_SECONDS)

    async def _passed_on(self, response: httpx.Response) -> httpx.Response:
        if not self._is_stream(response):
            await self._checked(response)
        return await super()._passed_on(response)

    async def _checked(self, response: httpx.Response) -> None:
        """Read a whole answer; raise what LiteLLM is told of an error with a good status, or of what is no message."""
        try:
            body = await response.aread()
        except httpx.TimeoutException as error:
            raise litellm.Timeout(message=f"no answer from {response.url.host} in time", model="", llm_provider="") from error
        except httpx.HTTPError as error:
            raise BaseLLMException(502, f"{response.url.host} broke off ({type(error).__name__})") from error
        kind = error_of(b"data: " + body) if body.lstrip()[:1] == b"{" else ""
        if kind:
            text = body[:MAX_ERROR_BYTES].decode("utf-8", "replace")
            raise BaseLLMException(STATUS_OF_ERRORS.get(kind, 500), text)
        if self._exchange.streams or not _is_message(body):
            raise BaseLLMException(502, f"{response.url.host} answered with what is no message")

    def _is_stream(self, response: httpx.Response) -> bool:
        # Some say nothing of what they send.
        return super()._is_stream(response) or (self._exchange.streams and _media_type(response) not in NO_STREAMS)


class ClaudeClient(RelayingClient):
    """Sends to Claude what the client sent, by the rotation, and to the client what Claude sent, to the byte."""

    _needs_event = False

    def __init__(self, rotation: Rotation, exchange: Exchange, model: str, nobody: Callable[[], Refusal]) -> None:
        self._renaming = Renaming(exchange.model, model)
        super().__init__(exchange, self._renaming, rotation)
        self._rotation = rotation
        self._model = model
        self._nobody = nobody

    async def _passed_on(self, response: httpx.Response) -> httpx.Response:
        exchange, outlet = self._exchange, self._exchange.outlet
        if outlet is None or self._is_stream(response):
            return await super()._passed_on(response)
        await self._read(response)
        body = self._renaming.whole(response.content)
        exchange.copy = response.content
        await self._begin(outlet, response, ("content-length", str(len(body))))
        await outlet.write(body)
        await outlet.end()
        if not exchange.booked and not exchange.counts_tokens:
            raise Served
        return response

    async def _read(self, response: httpx.Response) -> None:
        try:
            await super()._read(response)
        except httpx.HTTPError:
            self._broken_off(response)
            raise

    def _misfitting(self, misfit: str) -> None:
        self._exchange.refusal = own_refusal(502, f"Anthropic {misfit}.", [])

    def _headers(self, response: httpx.Response) -> Headers:
        return [pair for pair in response.headers.multi_items() if pair[0].lower() not in NOT_REPLAYED]

    def _failed(self, failed: FailedStream, response: httpx.Response) -> None:
        # As with a status: what is about the request would be the same on another model.
        self._exchange.final = STATUS_OF_ERRORS.get(failed.kind, 500) in (400, 413)
        self._exchange.refusal = Refusal(response.status_code, self._headers(response), failed.body)

    def _broken_off(self, response: httpx.Response) -> None:
        # For the case that nothing has reached the client yet, and nobody else answers.
        self._exchange.refusal = Refusal(response.status_code, self._headers(response), b"", whole=False)

    async def _send(self, request: httpx.Request) -> httpx.Response:
        try:
            response = await super()._send(outgoing(request, self._exchange, self._model))
            if response.is_error:
                await response.aread()
        except NobodyUsable:
            self._exchange.refusal = self._nobody()
            # To LiteLLM it is a 429 in any case: its retries would wait for ``retry-after`` and then ask the same pool again.
            return httpx.Response(429, request=request)
        except httpx.HTTPError as error:
            late = isinstance(error, httpx.TimeoutException)
            words = "Anthropic did not answer the proxy in time" if late else "The proxy cannot reach Anthropic"
            if isinstance(error, httpx.DecodingError):
                words = "The proxy cannot read what Anthropic answered"
            self._exchange.refusal = own_refusal(504 if late else 502, f"{words} ({type(error).__name__}).", [])
            raise
        if response.is_error:
            self._keep(response)
        return response

    def _keep(self, response: httpx.Response) -> None:
        verdict, exchange = self._rotation.verdict, self._exchange
        if verdict is None:
            return
        if self._rotation.pooled and response.status_code in (401, 403):
            # Claude Code would take it for its own and drop the user's login.
            exchange.refusal = refused_pool(60)
            return
        exchange.final = verdict.then in (Then.CLIENT, Then.REPAIR) or (
            verdict.then is Then.NEXT and response.status_code != 429
        )
        exchange.refusal = Refusal(response.status_code, self._headers(response), response.content)


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
        wants_stream = response.is_success and _media_type(response) in NO_STREAMS and _wants_stream(request)
        if misfit is None and not response.is_error and not wants_stream:
            exchange = current.get()
            if exchange is not None:
                exchange.opened.append(response.aclose)
            if _media_type(response) == "text/event-stream" and "content-encoding" not in response.headers:
                response.stream = _WithEvents(response.stream)
            return response
        try:
            body = await beginning(response)
        finally:
            await response.aclose()
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
        await response.aclose()
    return bytes(found[:MAX_ERROR_BYTES])


def _wants_stream(request: httpx.Request) -> bool:
    try:
        return b'"stream"' in request.content and json.loads(request.content).get("stream") is True
    except (ValueError, AttributeError, RecursionError, httpx.RequestNotRead):
        return False


def _media_type(response: httpx.Response) -> str:
    return str(response.headers.get("content-type", "")).split(";")[0].strip().lower()


def _is_message(body: bytes) -> bool:
    try:
        message = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return isinstance(message, dict) and "content" in message


def _copied(response: httpx.Response, body: bytes) -> httpx.Response:
    """Return the answer with its whole body at hand, decoded."""
    headers = [pair for pair in response.headers.multi_items() if pair[0].lower() not in NOT_REPLAYED]
    return httpx.Response(response.status_code, headers=headers, content=body, request=response.request)


def exhausted_pool(seconds: float, now: float, claim: str) -> Refusal:
    """Return a 429 as Anthropic words it, for a pool of which every credential rests: truthful about the pool, not about one.

    By these headers Claude Code tells its user when to come back instead of asking again and again (2.1.197).
    """
    headers = [
        ("retry-after", str(math.ceil(seconds))),
        (f"{UNIFIED}status", "rejected"),
        (f"{UNIFIED}reset", str(math.ceil(now + seconds))),
        (f"{UNIFIED}representative-claim", claim),
    ]
    # Anthropic's own words, so that the user reads what a direct request would show.
    return own_refusal(429, "This request would exceed your account's rate limit. Please try again later.", headers)


def refused_pool(seconds: float) -> Refusal:
    """Return a 503 for a pool of which every credential was refused: not for the client to heal, but for the operator."""
    return own_refusal(
        503,
        "Anthropic refused the proxy's Claude credentials. The proxy's operator finds in its log which ones, and why.",
        [("retry-after", str(math.ceil(seconds))), ("x-should-retry", "false")],
    )


@functools.cache
def shared_http() -> httpx.AsyncClient:
    """The process's one HTTP client for Anthropic-format upstreams; its first use costs a second, so it is made at start."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=100)
    # To httpx each step of a rotation is a redirection, and it takes twenty of them for a circle.
    return httpx.AsyncClient(limits=limits, timeout=DEFAULT_TIMEOUT, follow_redirects=False, max_redirects=sys.maxsize)


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
