"""The HTTP handlers that LiteLLM gets as ``client``: one makes its attempt on a lane, one sends to Vertex AI.

They depend on LiteLLM's shapes, like ``litellm/callback.py``; ``tests/test_contract.py`` guards them.
"""

import json
from collections.abc import Mapping
from typing import Any

import httpx
import litellm
from litellm.llms.base_llm.chat.transformation import BaseLLMException
from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler

from claude_proxy.anthropic.errors import STATUS_OF_ERRORS
from claude_proxy.anthropic.messages import to_json
from claude_proxy.config.deployments import Deployment
from claude_proxy.litellm.transport import DEFAULT_TIMEOUT, discard, error_start, rejection_reason
from claude_proxy.proxy.entrance import Entrance
from claude_proxy.proxy.lanes.attempt import MAX_ERROR_BYTES, STREAM
from claude_proxy.proxy.relay import StreamCapture
from claude_proxy.proxy.serving import Serving
from claude_proxy.upstream.response_bounds import CODINGS, ResponseTooLarge


class AttemptRefused(litellm.BadRequestError):  # type: ignore[misc]  # LiteLLM's class is untyped
    """The attempt is not made: there is already an error for the client, or a key is missing. LiteLLM does not retry it."""

    def __init__(self, message: str) -> None:
        super().__init__(message=message, model="", llm_provider="")


class HandlerWithoutHttp(AsyncHTTPHandler):  # type: ignore[misc]  # LiteLLM's class is untyped
    """LiteLLM's HTTP handler without a client, which its constructor would build for every request."""

    def __init__(self) -> None:
        self._client = None  # read by the base class's destructor
        self._owns_client = False
        self.timeout = None
        self.event_hooks = None


class LaneClient(HandlerWithoutHttp):
    """Makes LiteLLM's attempt on the lane that all other requests use, and gives LiteLLM a copy for its records.

    ``fields`` is the request as LiteLLM has it, for a provider other than Claude.
    """

    def __init__(
        self,
        serving: Serving,
        entrance: Entrance,
        deployment: Deployment,
        fields: Mapping[str, Any] | None = None,
        *,
        model: str = "",
    ) -> None:
        super().__init__()
        self._serving = serving
        self._model = model
        self._entrance = entrance
        self._deployment = deployment
        self._fields = fields

    async def post(self, url: str, **_: Any) -> httpx.Response:
        """Return a copy of the client's response, or of what LiteLLM sends to the client; raise LiteLLM's errors."""
        entrance, deployment = self._entrance, self._deployment
        capture = StreamCapture(copies=True)
        work = self._serving.attempt(
            entrance.request,
            deployment,
            entrance.outlet,
            entrance.journal,
            model=self._model,
            capture=capture,
            fields=self._fields,
        )
        outcome = await entrance.run(work)
        error = entrance.journal.error
        if outcome is not None and outcome.refusal is not None:
            if outcome.status == 504:
                raise litellm.Timeout(message=f"{deployment.served} did not respond in time", model="", llm_provider="")
            text = outcome.refusal.body[:MAX_ERROR_BYTES].decode("utf-8", "replace")
            # Without the pool's headers: LiteLLM's retries would wait for ``retry-after`` and then use the same pool again.
            raise BaseLLMException(outcome.status, text, {} if outcome.of_pool else dict(outcome.refusal.headers))
        if outcome is not None and error:
            raise BaseLLMException(STATUS_OF_ERRORS.get(error, 502), f"the response ended with {error}")
        kind = STREAM if entrance.request.streams else "application/json"
        return httpx.Response(200, headers={"content-type": kind}, content=capture.copy, request=httpx.Request("POST", url))


class PlainClient(AsyncHTTPHandler):  # type: ignore[misc]  # LiteLLM's class is untyped
    """Sends LiteLLM's own request; on ``/v1/messages`` LiteLLM uses only ``post``."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._client = http
        self._owns_client = False
        self.timeout = None
        self.event_hooks = None

    async def post(
        self,
        url: str,
        data: str | bytes | None = None,
        headers: dict[str, str] | None = None,
        timeout: float | httpx.Timeout | None = None,
        stream: bool = False,
        **_: Any,
    ) -> httpx.Response:
        """Send the request and return its response, read to the end unless it streams; raise LiteLLM's errors."""
        request = self._client.build_request(
            "POST",
            url,
            content=data,
            headers=headers,
            timeout=DEFAULT_TIMEOUT if timeout is None else timeout,
        )
        host = request.url.host
        try:
            response = await self._send(request)
            reason = rejection_reason(response, CODINGS)
            if reason:
                await discard(response)
                raise BaseLLMException(502, f"{host} {reason}")
            if response.is_error:
                # Not httpx.HTTPStatusError: on that error LiteLLM strips thinking and sends the request again.
                text = (await error_start(response)).decode("utf-8", "replace")
                raise BaseLLMException(response.status_code, text, dict(response.headers))
            if not stream:
                await self._read(response)
        except httpx.TimeoutException as error:
            raise litellm.Timeout(message=f"no response from {host} in time", model="", llm_provider="") from error
        except httpx.HTTPError as error:
            raise BaseLLMException(502, f"{host} {_failure_reason(error)}") from error
        return response

    async def _read(self, response: httpx.Response) -> None:
        await response.aread()
        await discard(response)

    async def _send(self, request: httpx.Request) -> httpx.Response:
        return await self._client.send(request, stream=True, follow_redirects=False)


class BetasInBody(PlainClient):
    """Sends to Vertex AI, which rejects many values of the header ``anthropic-beta`` and reads them from the body."""

    async def _send(self, request: httpx.Request) -> httpx.Response:
        betas = request.headers.pop("anthropic-beta", "")
        if betas:
            body = json.loads(request.content) | {"anthropic_beta": sorted(betas.split(","))}
            headers = [pair for pair in request.headers.multi_items() if pair[0] != "content-length"]
            extensions = request.extensions
            request = self._client.build_request("POST", request.url, content=to_json(body), headers=headers)
            request.extensions = extensions
        return await super()._send(request)


def _failure_reason(error: httpx.HTTPError) -> str:
    """Return how a response failed, as the rest of a sentence that starts with the host."""
    return str(error) if isinstance(error, ResponseTooLarge) else f"broke off ({type(error).__name__})"
