"""LiteLLM's callback: the hooks in the order in which a request meets them, each a few lines over the core.

This file and ``auth.py`` are the only ones that know LiteLLM's shapes (1.106.2; ``tests/test_contract.py`` guards them).
"""

import asyncio
import functools
import logging
import os
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import httpx
import litellm
from fastapi import Depends, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from litellm.caching.caching import DualCache
from litellm.integrations.custom_logger import CustomLogger
from litellm.llms.base_llm.chat.transformation import BaseLLMException
from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler
from litellm.proxy import proxy_server
from litellm.proxy._types import UserAPIKeyAuth
from litellm.proxy.auth.user_api_key_auth import user_api_key_auth
from litellm.types.utils import CallTypes

from claude_proxy import config, demo, estimate, logs
from claude_proxy.credentials import Credential, is_claude_credential
from claude_proxy.exchange import Exchange, Refusal, current
from claude_proxy.gateway import Gateway, own_refusal
from claude_proxy.headers import session_of
from claude_proxy.messages import THINKING_PARAMETERS, response_without_thinking, without_thinking
from claude_proxy.pool import Pool
from claude_proxy.redaction import Redactor, secrets_of
from claude_proxy.rotation import PoolSource, Rotation, SingleSource, Source, outgoing
from claude_proxy.settings import Settings, TokenMode
from claude_proxy.stream import KEEPALIVE, ThinkingFilter
from claude_proxy.targets import Hosts, Provider, bare_model, fallback_models, is_openai_itself, wildcard_model
from claude_proxy.verdicts import Then

logger = logging.getLogger(__name__)

# LiteLLM refuses to call Anthropic without a key; the real credential is put on the request by Rotation.
PLACEHOLDER_KEY = "set-by-claude-proxy"
# While thinking is swallowed, something reaches the client this often, in seconds; Claude Code gives up after 300.
KEEPALIVE_SECONDS = 15.0
# How long one silence of an upstream may last, in seconds, when LiteLLM does not say.
DEFAULT_TIMEOUT = httpx.Timeout(600.0, connect=10.0)


# Under these names LiteLLM's streams hold the one that they read from, at most so many inside each other.
_INNER_STREAMS = ("_source_iterator", "_anthropic_wrapper", "completion_stream", "_stream")
_DEEPEST_STREAM = 6


class AttemptRefused(litellm.BadRequestError):  # type: ignore[misc]  # LiteLLM's class is untyped
    """The attempt is not made: a refusal for the client stands already, or a key is missing. LiteLLM does not repeat it."""

    def __init__(self, message: str) -> None:
        super().__init__(message=message, model="", llm_provider="")


class ClaudeProxy(CustomLogger):  # type: ignore[misc]  # LiteLLM's class is untyped
    """One flat class: LiteLLM finds several hooks only in the callback class's own body."""

    def __init__(self, settings: Settings, *, clock: Callable[[], float] = time.time) -> None:
        super().__init__()
        self.settings = settings
        self.hosts = Hosts(settings.claude_base)
        self.pool = Pool(settings.credentials, affinity=settings.affinity, quarantine=settings.quarantine_seconds, clock=clock)
        self._clock = clock

    async def async_pre_call_hook(
        self, user_api_key_dict: UserAPIKeyAuth, cache: DualCache, data: dict[str, Any], call_type: str
    ) -> dict[str, Any]:
        """Refuse a model that nobody serves, and give LiteLLM the fallbacks by pattern; it knows exact names only."""
        router, model = _router(), str(data.get("model", ""))
        exchange = current.get()
        if exchange is not None and router is not None and not router.get_model_list(model_name=model):
            # LiteLLM itself would look for it for nine seconds, and answer 400.
            exchange.refusal = not_served(model)
            raise AttemptRefused(f"no model {model}")
        found = fallback_models(model, getattr(router, "fallbacks", None) or ())
        if found and "fallbacks" not in data:
            data["fallbacks"] = found
        return data

    async def async_filter_deployments(
        self,
        model: str,
        healthy_deployments: list[dict[str, Any]],
        messages: list[Any] | None,
        request_kwargs: dict[str, Any] | None = None,
        parent_otel_span: Any = None,
    ) -> list[dict[str, Any]]:
        """Of several deployments with one name, leave out those whose key is not set, while others are ready."""
        ready = [
            one for one in healthy_deployments if not _lacks_a_key(one.get("litellm_params", {}), str(one.get("model_name")))
        ]
        return ready or healthy_deployments

    async def async_pre_call_deployment_hook(self, kwargs: dict[str, Any], call_type: CallTypes | None) -> dict[str, Any]:
        """Prepare one attempt, after the deployment is chosen. LiteLLM calls it a second time where it translates."""
        provider = self.hosts.provider(str(kwargs.get("model", "")), kwargs.get("custom_llm_provider"), kwargs.get("api_base"))
        exchange = current.get()
        if call_type is not CallTypes.anthropic_messages or exchange is None:
            if provider is Provider.CLAUDE:
                raise AttemptRefused("Claude is asked only on behalf of a client, through /v1/messages")
            return kwargs
        if exchange.final:
            raise AttemptRefused("the answer that there is belongs to the client")
        exchange.begin(provider)
        if provider is Provider.CLAUDE:
            return self._for_claude(kwargs, exchange)
        if provider is Provider.DEMO:
            return kwargs | {"api_key": PLACEHOLDER_KEY, "client": PlainClient(demo_transport(self.pool))}
        return self._for_others(kwargs, exchange, provider)

    async def async_post_call_success_hook(self, data: dict[str, Any], user_api_key_dict: UserAPIKeyAuth, response: Any) -> Any:
        """Take thinking out of a whole response of another provider's, and name the model that was asked for."""
        exchange = current.get()
        if exchange is None or not isinstance(response, dict) or not _is_translated(exchange):
            return response
        clean = response_without_thinking(response)
        return clean | {"model": exchange.model, "id": clean.get("id") or f"msg_{uuid.uuid4().hex}"}

    async def async_post_call_streaming_iterator_hook(
        self, user_api_key_dict: UserAPIKeyAuth, response: AsyncIterator[Any], request_data: dict[str, Any]
    ) -> AsyncGenerator[Any, None]:
        """Take thinking out of a stream of another provider's. Who serves it is known at the first chunk, not before."""
        exchange = current.get()
        chunks = aiter(response)
        first = await anext(chunks, None)
        if first is None:
            return
        if exchange is None or not _is_translated(exchange):
            yield first
            async for chunk in chunks:
                yield chunk
            return
        async for ready in filtered(first, chunks, ThinkingFilter(exchange.model), KEEPALIVE_SECONDS):
            yield ready

    async def count_tokens(self, exchange: Exchange) -> Response:
        """Answer ``/v1/messages/count_tokens``: Claude's own number, on a credential as any request; else an estimate.

        LiteLLM's own route calls no hook that could choose a credential. Claude Code repeats a refused count as a billed
        request, thirteen of them at ``/context``; so where Claude is busy there is an estimate, too.
        """
        found = _router().get_model_list(model_name=exchange.model) if _router() else None
        if not found:
            exchange.refusal = not_served(exchange.model)
            raise AttemptRefused(f"no model {exchange.model}")
        params = found[0]["litellm_params"]
        model = str(params["model"])
        provider = self.hosts.provider(model, params.get("custom_llm_provider"), params.get("api_base"))
        exchange.begin(provider)
        if provider is Provider.CLAUDE:
            prepared = self._for_claude({"model": wildcard_model(model, exchange.model), **params}, exchange)
            base = params.get("api_base") or self.settings.claude_base
            try:
                answer = await prepared["client"].post(f"{base}/v1/messages/count_tokens", data=exchange.raw_body)
                return Response(answer.content, media_type="application/json")
            except (BaseLLMException, httpx.TransportError, litellm.Timeout):
                if exchange.final:
                    raise
        tokens = estimate.input_tokens(exchange.body, lambda text: int(litellm.token_counter(model="", text=text)))
        return JSONResponse({"input_tokens": tokens})

    def _for_claude(self, kwargs: dict[str, Any], exchange: Exchange) -> dict[str, Any]:
        source = self._source(exchange, kwargs.get("api_key"))
        if source is None:
            exchange.final = True
            exchange.refusal = own_refusal(
                401,
                "No Claude credential: the proxy's pool is empty and the request has none of its own. Set CLAUDE_OAUTH_TOKENS "
                "or CLAUDE_API_KEYS on the proxy, or log in with Claude Code and send the proxy's token in x-litellm-api-key.",
            )
            raise AttemptRefused("no Claude credential")
        rotation = Rotation(source, self.hosts, exchange, cooldown=self.settings.cooldown_seconds, clock=self._clock)
        client = ClaudeClient(rotation, exchange, bare_model(str(kwargs["model"])), self._seconds_until_back)
        return kwargs | {"api_key": PLACEHOLDER_KEY, "client": client}

    def _source(self, exchange: Exchange, deployment_key: str | None) -> Source | None:
        mode = TokenMode(exchange.client.mode) if exchange.client.mode else self.settings.mode
        if mode is TokenMode.ROTATE and len(self.pool):
            return PoolSource(self.pool, session_of(exchange.client, exchange.body))
        if exchange.client.credential:
            return SingleSource(exchange.client.credential)
        return SingleSource(Credential.of("deployment", deployment_key)) if deployment_key else None

    def _seconds_until_back(self) -> int:
        return max(1, round(self.pool.back_at() - self._clock()))

    def _for_others(self, kwargs: dict[str, Any], exchange: Exchange, provider: Provider) -> dict[str, Any]:
        group = _model_group(kwargs) or exchange.model
        unset = unset_variables().get(group) if _lacks_a_key(kwargs, group) else None
        if unset:
            message = f"{group} is not ready: set {' and '.join(unset)} on the proxy (.env) and restart it."
            if exchange.attempts == 1:
                exchange.final = True
                exchange.refusal = own_refusal(400, message)
                exchange.first_provider = None
            raise AttemptRefused(message)
        own = _deployment_parameters(kwargs)
        prepared = {name: value for name, value in kwargs.items() if name not in THINKING_PARAMETERS}
        prepared |= {name: own[name] for name in THINKING_PARAMETERS if own.get(name) is not None}
        prepared["messages"] = without_thinking(kwargs["messages"])
        if provider is Provider.OPENAI:
            return prepared | as_chat_completions(prepared)
        if provider is Provider.ANTHROPIC_FORMAT:
            prepared["client"] = PlainClient(shared_http(), auth=BothKeyHeaders())
        return prepared


def as_chat_completions(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters that keep an ``openai/`` deployment on ``/v1/chat/completions``.

    LiteLLM 1.106.2 has four ways off it: its flag, ``thinking`` of type enabled, a price list that names some models as
    Responses-only, and ``reasoning_effort`` for others. At OpenAI itself the last two are right, for it refuses those
    models on chat completions. For a compatible endpoint nothing of the kind is known, and LiteLLM's provider for those,
    ``custom_openai``, never leaves the path; what it does not know of parameters goes into ``extra_body``.
    """
    litellm.use_chat_completions_url_for_anthropic_messages = True
    changed: dict[str, Any] = {"thinking": None}
    if is_openai_itself(kwargs.get("api_base")):
        return changed
    changed |= {
        "model": f"custom_openai/{str(kwargs['model']).removeprefix('openai/')}",
        "custom_llm_provider": "custom_openai",
    }
    effort = kwargs.get("reasoning_effort")
    if effort is not None:
        changed |= {"reasoning_effort": None, "extra_body": (kwargs.get("extra_body") or {}) | {"reasoning_effort": effort}}
    return changed


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
            raise BaseLLMException(response.status_code, self._error_text(response), dict(response.headers))
        return response

    async def _send(self, request: httpx.Request) -> httpx.Response:
        return await self._client.send(request, stream=True, auth=self._auth, follow_redirects=False)

    def _error_text(self, response: httpx.Response) -> str:
        return response.text


class ClaudeClient(PlainClient):
    """Sends to Claude what the client sent, by the rotation, and keeps Claude's error for the client as it came."""

    def __init__(self, rotation: Rotation, exchange: Exchange, model: str, seconds_until_back: Callable[[], int]) -> None:
        super().__init__(shared_http(), auth=rotation)
        self._rotation = rotation
        self._exchange = exchange
        self._model = model
        self._seconds_until_back = seconds_until_back

    async def _send(self, request: httpx.Request) -> httpx.Response:
        response = await super()._send(outgoing(request, self._exchange, self._model))
        self._exchange.answer_headers = response.headers.multi_items()
        if response.is_error:
            await response.aread()
            self._keep(response)
        return response

    def _keep(self, response: httpx.Response) -> None:
        verdict, exchange = self._rotation.verdict, self._exchange
        if verdict is None:
            return
        pooled_refusal = self._rotation.pooled and (verdict.out or response.status_code in (401, 403))
        exchange.final = not pooled_refusal and (verdict.then in (Then.CLIENT, Then.REPAIR) or verdict.out)
        if pooled_refusal:
            # Claude Code would take a 401 or 403 for its own and drop the user's login.
            exchange.refusal = own_refusal(
                503,
                "Anthropic refused the proxy's Claude credentials. The proxy's operator finds in its log which ones, and why.",
                [("retry-after", str(self._seconds_until_back())), ("x-should-retry", "false")],
            )
        else:
            kept = [(name, value) for name, value in exchange.answer_headers if name.lower() not in NOT_REPLAYED]
            exchange.refusal = Refusal(response.status_code, kept, response.content)


# Headers that describe a connection or an encoding that the client does not see.
NOT_REPLAYED = frozenset(
    {"connection", "content-encoding", "content-length", "date", "keep-alive", "server", "set-cookie", "transfer-encoding"}
)


def _is_translated(exchange: Exchange) -> bool:
    return exchange.provider not in (None, Provider.CLAUDE, Provider.DEMO)


async def filtered(
    first: bytes, chunks: AsyncIterator[bytes], thinking: ThinkingFilter, keepalive: float
) -> AsyncGenerator[bytes, None]:
    """Yield a stream without its thinking, and a keep-alive whenever nothing was yielded for ``keepalive`` seconds."""
    loop = asyncio.get_running_loop()
    pending: asyncio.Future[bytes] | None = None
    last = loop.time()
    ready = thinking.feed(first)
    try:
        while True:
            if ready:
                yield ready
                last = loop.time()
            pending = pending or asyncio.ensure_future(anext(chunks))
            await asyncio.wait({pending}, timeout=max(0.0, last + keepalive - loop.time()))
            if pending.done():
                try:
                    ready = thinking.feed(pending.result())
                except StopAsyncIteration:
                    break
                finally:
                    pending = None
            else:
                ready = b""
            if not ready and loop.time() - last >= keepalive:
                ready = KEEPALIVE
        if rest := thinking.finish():
            yield rest
    finally:
        if pending is not None:
            pending.cancel()
            await asyncio.wait({pending})
        await close_stream(chunks)


async def close_stream(stream: Any) -> None:
    """Close a stream and those inside it: LiteLLM 1.106.2 leaves the upstream of a translated one running without a client."""
    for _ in range(_DEEPEST_STREAM):
        if stream is None:
            return
        inner = next((found for name in _INNER_STREAMS if (found := getattr(stream, name, None)) is not None), None)
        if hasattr(stream, "aclose"):
            await stream.aclose()
        stream = inner


@functools.cache
def shared_http() -> httpx.AsyncClient:
    """The process's one HTTP client for Anthropic-format upstreams; its first use costs a second, so it is made at start."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=100)
    return httpx.AsyncClient(limits=limits, timeout=DEFAULT_TIMEOUT, follow_redirects=False)


def demo_transport(pool: Pool) -> httpx.AsyncClient:
    """An HTTP client whose answers are made in the process."""
    loaded = load_config()
    answer = demo.text(config.model_names(loaded), unset_variables(), len(pool))
    return httpx.AsyncClient(transport=httpx.MockTransport(lambda request: demo.respond(request, answer)))


def not_served(model: str) -> Refusal:
    """Return the refusal of a model that no entry of config.yaml matches."""
    return own_refusal(404, f"model: {model} is not served by this proxy")


def _router() -> Any:
    return proxy_server.llm_router


def load_config() -> dict[str, Any]:
    """Return what config.yaml holds, from where LiteLLM read it."""
    path = proxy_server.user_config_file_path
    return config.load(Path(path)) if path else {}


@functools.cache
def unset_variables() -> dict[str, tuple[str, ...]]:
    """The variables that each model lacks, by the configuration and environment of the start."""
    return config.unset_variables(load_config(), os.environ)


@functools.cache
def referring_parameters() -> dict[str, frozenset[str]]:
    """The parameters that each model takes from the environment."""
    return config.referring_parameters(load_config())


def _lacks_a_key(params: Mapping[str, Any], group: str) -> bool:
    """Whether a parameter that config.yaml takes from the environment is empty here."""
    return group in unset_variables() and any(not params.get(name) for name in referring_parameters().get(group, ()))


def _model_group(kwargs: Mapping[str, Any]) -> str | None:
    metadata = kwargs.get("litellm_metadata")
    group = metadata.get("model_group") if isinstance(metadata, dict) else None
    return group if isinstance(group, str) else None


def _deployment_parameters(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the deployment's own ``litellm_params``; what the client sent is not among them."""
    info = kwargs.get("model_info")
    deployment = (
        _router().get_deployment(model_id=info["id"]) if _router() and isinstance(info, dict) and "id" in info else None
    )
    return deployment.litellm_params.model_dump(exclude_none=True) if deployment else {}


async def count_tokens(_: Annotated[UserAPIKeyAuth, Depends(user_api_key_auth)]) -> Response:
    """The route that takes the place of LiteLLM's own, behind the same check of the key."""
    exchange = current.get()
    if exchange is None:
        raise AttemptRefused("the gateway is not in place")
    try:
        return await start().count_tokens(exchange)
    except (AttemptRefused, BaseLLMException):
        return Response(status_code=500)  # the gateway puts the exchange's refusal in its place


@functools.cache
def start() -> ClaudeProxy:
    """Return the process's one callback. LiteLLM runs an entry file once for each reference to it."""
    settings = Settings.parse(os.environ)
    callback = ClaudeProxy(settings)
    install(settings)
    return callback


def install(settings: Settings) -> None:
    """Put the gateway around LiteLLM's app and the redaction under its logs."""
    app = proxy_server.app
    secrets = [credential.secret for credential in settings.credentials]
    secrets += [secret for secret in (settings.static_token, settings.master_key) if secret]
    redactor = Redactor([*secrets, *secrets_of(os.environ)])
    litellm.use_chat_completions_url_for_anthropic_messages = True
    litellm.expose_router_debug_in_errors = False
    shared_http()
    app.router.routes.insert(0, APIRoute("/v1/messages/count_tokens", count_tokens, methods=["POST"]))
    # Middleware cannot be added once the app has started, and callbacks are loaded while it starts.
    app.middleware_stack = Gateway(app.middleware_stack or app.build_middleware_stack(), settings, redactor)
    logs.configure(redactor, verbose=os.environ.get("LITELLM_LOG", "").upper() == "DEBUG")
