"""The HTTP handlers that LiteLLM is handed as ``client``: one for Claude with the rotation in it, one for everybody else.

They know LiteLLM's shapes (1.106.2), as ``litellm/callback.py`` does; ``tests/test_contract.py`` guards them.
"""

import asyncio
import functools
import json
import logging
import math
from collections.abc import Callable
from typing import Any

import httpx
import litellm
from litellm.llms.base_llm.chat.transformation import BaseLLMException
from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler

from claude_proxy.anthropic.errors import STATUS_OF_ERRORS, Refusal, own_refusal
from claude_proxy.anthropic.messages import to_json
from claude_proxy.anthropic.sse import error_kind, events
from claude_proxy.asgi import Headers
from claude_proxy.credentials.credential import is_claude_credential
from claude_proxy.credentials.response_rules import UNIFIED, Action
from claude_proxy.litellm.transport import (
    CODINGS,
    DEFAULT_TIMEOUT,
    MAX_ERROR_BYTES,
    NO_STREAMS,
    NOT_REPLAYED,
    OWN_REQUEST,
    ResponseTooLarge,
    beginning,
    discard,
    media_type,
    rejection_reason,
    shared_http,
    without_end,
)
from claude_proxy.providers.thinking import ThinkingFilter
from claude_proxy.proxy.exchange import Exchange, Outlet
from claude_proxy.proxy.offload import offloaded
from claude_proxy.proxy.relay import KEEPALIVE_SECONDS, FailedStream, Heard, Mender, Renaming, relayed
from claude_proxy.proxy.response import usage_of
from claude_proxy.proxy.rotation import NobodyUsable, Rotation, outgoing

logger = logging.getLogger(__name__)


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
            "POST",
            url,
            content=data,
            headers=headers,
            timeout=DEFAULT_TIMEOUT if timeout is None else timeout,
            extensions={OWN_REQUEST: True},
        )
        host = request.url.host
        try:
            response = await self._send(request)
            misfit = rejection_reason(response, CODINGS)
            if misfit:
                await discard(response)
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
            raise BaseLLMException(502, f"{host} {_what_broke(error)}") from error
        return await self._passed_on(response)

    def _misfitting(self, misfit: str) -> None:
        """Take note of an answer that is none."""

    async def _passed_on(self, response: httpx.Response) -> httpx.Response:
        """Return what LiteLLM gets of an answer that is a success."""
        return response

    async def _read(self, response: httpx.Response) -> None:
        await response.aread()
        await discard(response)

    async def _send(self, request: httpx.Request) -> httpx.Response:
        return await self._client.send(request, stream=True, auth=self._auth, follow_redirects=False)


class BetasInBody(PlainClient):
    """Sends to Vertex AI, which refuses many values of the header ``anthropic-beta`` and reads them from the body."""

    async def _send(self, request: httpx.Request) -> httpx.Response:
        betas = request.headers.pop("anthropic-beta", "")
        if betas:
            body = json.loads(request.content) | {"anthropic_beta": sorted(betas.split(","))}
            headers = [pair for pair in request.headers.multi_items() if pair[0] != "content-length"]
            extensions = request.extensions
            request = self._client.build_request("POST", request.url, content=to_json(body), headers=headers)
            request.extensions = extensions
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
        heard = Heard(copies=exchange.booked)
        without_end(response)
        try:
            begin = functools.partial(self._begin, outlet, response)
            relay = relayed(
                response.aiter_bytes(),
                outlet,
                self._mender,
                heard,
                begin=begin,
                keepalive=self._keepalive,
                needs_event=self._needs_event,
            )
            if not await outlet.while_client_stays(relay):
                logger.info("the client left during an answer of %s, after %d bytes", exchange.served, heard.summary.size)
        except FailedStream as failed:
            self._failed(failed, response)
            text = b"\n".join(events(failed.body))[:MAX_ERROR_BYTES].decode("utf-8", "replace")
            raise BaseLLMException(STATUS_OF_ERRORS.get(failed.kind, 500), text) from None
        except httpx.HTTPError as error:
            exchange.error = "interrupted"
            self._broken_off(response)
            size, why = heard.summary.size, str(error) if isinstance(error, ResponseTooLarge) else type(error).__name__
            logger.warning("%s broke its answer off after %d bytes (%s)", exchange.served, size, why)
            raise BaseLLMException(502, "the upstream broke its answer off") from error
        finally:
            exchange.usage = heard.summary.usage
            await discard(response)
        exchange.error = heard.summary.error
        if exchange.error:
            logger.warning("%s ended its answer with %s", exchange.served, exchange.error)
            raise BaseLLMException(STATUS_OF_ERRORS.get(exchange.error, 500), f"the stream ended with {exchange.error}")
        if not exchange.booked:
            raise Served
        if heard.is_cut:
            logger.warning(
                "%s: LiteLLM gets the usage of a stream of %d bytes and no copy", exchange.served, heard.summary.size
            )
        return _copied(response, heard.copy)

    async def _begin(self, outlet: Outlet, response: httpx.Response, *more: tuple[str, str]) -> None:
        """Send the status and the headers. From here on no retry and no fallback may answer."""
        self._exchange.final = True
        await outlet.begin(response.status_code, [*self._headers(response), *more])

    def _is_stream(self, response: httpx.Response) -> bool:
        return media_type(response) == "text/event-stream"

    def _headers(self, response: httpx.Response) -> Headers:
        told = media_type(response) == "text/event-stream"
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
            await self._read(response)
        except httpx.TimeoutException as error:
            raise litellm.Timeout(message=f"no answer from {response.url.host} in time", model="", llm_provider="") from error
        except httpx.HTTPError as error:
            raise BaseLLMException(502, f"{response.url.host} {_what_broke(error)}") from error
        body = response.content
        said = _object(body)
        kind = error_kind(said)
        if kind:
            text = body[:MAX_ERROR_BYTES].decode("utf-8", "replace")
            raise BaseLLMException(STATUS_OF_ERRORS.get(kind, 500), text)
        if self._exchange.streams or "content" not in said:
            raise BaseLLMException(502, f"{response.url.host} answered with what is no message")

    def _is_stream(self, response: httpx.Response) -> bool:
        # Some say nothing of what they send.
        return super()._is_stream(response) or (self._exchange.streams and media_type(response) not in NO_STREAMS)


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
        exchange.usage = usage_of(response.content)
        await self._begin(outlet, response, ("content-length", str(len(body))))
        await outlet.write(body)
        await outlet.end()
        if not exchange.booked and not exchange.counts_tokens:
            raise Served
        return response

    async def _read(self, response: httpx.Response) -> None:
        try:
            await super()._read(response)
        except ResponseTooLarge as error:
            self._misfitting(str(error))
            raise
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
            made = await offloaded(len(self._exchange.raw_body), outgoing, request, self._exchange, self._model)
            response = await super()._send(made)
            if response.is_error:
                await super()._read(response)
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
        exchange.final = verdict.action in (Action.CLIENT, Action.REPAIR) or (
            verdict.action is Action.NEXT and response.status_code != 429
        )
        exchange.refusal = Refusal(response.status_code, self._headers(response), response.content)


def _what_broke(error: httpx.HTTPError) -> str:
    """Return what became of an answer, in words that follow a name."""
    return str(error) if isinstance(error, ResponseTooLarge) else f"broke off ({type(error).__name__})"


def _object(body: bytes) -> dict[str, Any]:
    """Return a JSON object, empty for everything else."""
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


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
