"""The HTTP handlers that LiteLLM is handed as ``client``: one for Claude with the rotation in it, one for everybody else.

They know LiteLLM's shapes (1.106.2), as ``callback.py`` does; ``tests/test_contract.py`` guards them.
"""

import functools
import json
import math
from collections.abc import Callable
from typing import Any

import httpx
import litellm
from litellm.llms.base_llm.chat.transformation import BaseLLMException
from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler

from claude_proxy.credentials import is_claude_credential
from claude_proxy.exchange import Exchange, Refusal
from claude_proxy.gateway import own_refusal
from claude_proxy.messages import to_json
from claude_proxy.rotation import NobodyUsable, Rotation, outgoing
from claude_proxy.verdicts import UNIFIED, Then

# How long one silence of an upstream may last, in seconds, when LiteLLM does not say.
DEFAULT_TIMEOUT = httpx.Timeout(600.0, connect=10.0)

# Headers that describe a connection or an encoding that the client does not see.
NOT_REPLAYED = frozenset(
    {"connection", "content-encoding", "content-length", "date", "keep-alive", "server", "set-cookie", "transfer-encoding"}
)


class AttemptRefused(litellm.BadRequestError):  # type: ignore[misc]  # LiteLLM's class is untyped
    """The attempt is not made: a refusal for the client stands already, or a key is missing. LiteLLM does not repeat it."""

    def __init__(self, message: str) -> None:
        super().__init__(message=message, model="", llm_provider="")


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
        try:
            response = await self._send(request)
            if response.is_error or not stream:
                await response.aread()
        except httpx.TimeoutException as error:
            raise litellm.Timeout(message=f"no answer from {request.url.host} in time", model="", llm_provider="") from error
        if response.is_error:
            # Not httpx.HTTPStatusError: on that LiteLLM strips thinking and sends the request again by itself.
            raise BaseLLMException(response.status_code, response.text, dict(response.headers))
        return response

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


class ClaudeClient(PlainClient):
    """Sends to Claude what the client sent, by the rotation, and keeps Claude's error for the client as it came."""

    def __init__(self, rotation: Rotation, exchange: Exchange, model: str, nobody: Callable[[], Refusal]) -> None:
        super().__init__(shared_http(), auth=rotation)
        self._rotation = rotation
        self._exchange = exchange
        self._model = model
        self._nobody = nobody

    async def _send(self, request: httpx.Request) -> httpx.Response:
        try:
            response = await super()._send(outgoing(request, self._exchange, self._model))
        except NobodyUsable:
            self._exchange.refusal = self._nobody()
            # To LiteLLM it is a 429 in any case: its retries would wait for ``retry-after`` and then ask the same pool again.
            return httpx.Response(429, request=request)
        self._exchange.answer_headers = response.headers.multi_items()
        if response.is_error:
            await response.aread()
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
        kept = [(name, value) for name, value in exchange.answer_headers if name.lower() not in NOT_REPLAYED]
        exchange.refusal = Refusal(response.status_code, kept, response.content)


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
    return httpx.AsyncClient(limits=limits, timeout=DEFAULT_TIMEOUT, follow_redirects=False)
