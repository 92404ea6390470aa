"""LiteLLM's callback: the hooks, in the order in which LiteLLM calls them for a request."""

import asyncio
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any

from litellm.caching.caching import DualCache
from litellm.integrations.custom_logger import CustomLogger
from litellm.proxy import proxy_server
from litellm.proxy._types import UserAPIKeyAuth
from litellm.types.utils import CallTypes

from claude_proxy.anthropic.errors import Refused, own_refusal
from claude_proxy.anthropic.messages import FOR_PROVIDERS, THINKING_PARAMETERS
from claude_proxy.config.deployments import Lane, deployment, parameters, served_as
from claude_proxy.litellm.lane_client import AttemptRefused, BetasInBody, LaneClient
from claude_proxy.litellm.openai_attempts import PLACEHOLDER_KEY, prepared
from claude_proxy.litellm.prices import priced_as
from claude_proxy.litellm.transport import shared_http
from claude_proxy.providers import compatibility, request_fields, returned
from claude_proxy.providers.bounds import TooLarge
from claude_proxy.providers.call_ids import calls_in
from claude_proxy.providers.endpoints import Provider
from claude_proxy.providers.model_names import served_name
from claude_proxy.providers.thinking import ThinkingFilter
from claude_proxy.proxy.entrance import Entrance, current
from claude_proxy.proxy.offload import offloaded
from claude_proxy.proxy.relay import close_stream, filtered
from claude_proxy.proxy.response import KEEPALIVE_SECONDS
from claude_proxy.server.application import App

# LiteLLM's calls for clients with OpenAI's API.
OPENAI_CALLS = (CallTypes.acompletion, CallTypes.aresponses, CallTypes.aembedding)


class ClaudeProxy(CustomLogger):  # type: ignore[misc]  # LiteLLM's class is untyped
    """One flat class, because LiteLLM finds several hooks only in the callback class's own body."""

    def __init__(self, app: App) -> None:
        super().__init__()
        self.app = app

    async def async_pre_call_hook(
        self, user_api_key_dict: UserAPIKeyAuth, cache: DualCache, data: dict[str, Any], call_type: str
    ) -> dict[str, Any]:
        """Refuse an unknown model, and give LiteLLM the fallbacks by pattern, because LiteLLM knows exact names only.

        Without a fallback, LiteLLM does not retry a request to Claude, because Claude Code retries it itself, ten times. A call
        that is a step of the proxy's own plan gets no fallbacks.
        """
        # Set here, because LiteLLM uses the name that it got first in its responses.
        data["model"] = served_name(str(data.get("model", "")))
        entrance = current.get()
        if entrance is None:
            return data
        # Any other model is one that LiteLLM may have replaced by an alias of the client's virtual key.
        by_rule = entrance.model not in ("", entrance.request.name)
        if entrance.planned or by_rule:
            data["model"] = entrance.model
        if entrance.planned:
            # Without this, LiteLLM would use fallbacks of its own.
            data["fallbacks"] = []
            return data
        try:
            await self.app.serving.check_model(entrance.request)
            planned = self.app.serving.plan(entrance.request, data["model"], by_rule=by_rule)
        except Refused as refused:
            entrance.refusal = refused.refusal()
            raise AttemptRefused(str(refused)) from None
        if "fallbacks" not in data and (planned.fallbacks.general or self.app.config.routing.fallbacks):
            data["fallbacks"] = [*planned.fallbacks.general]
        if planned.first.is_claude and not planned.fallbacks.general:
            data["num_retries"] = 0
        return data

    async def async_filter_deployments(
        self,
        model: str,
        healthy_deployments: list[dict[str, Any]],
        messages: list[Any] | None,
        request_kwargs: dict[str, Any] | None = None,
        parent_otel_span: Any = None,
    ) -> list[dict[str, Any]]:
        """Remove deployments without their key, if others of the same name are ready."""
        lacks_key = self.app.config.lacks_key
        ready = [one for one in healthy_deployments if not lacks_key(one.get("litellm_params", {}), str(one.get("model_name")))]
        return ready or healthy_deployments

    async def async_pre_call_deployment_hook(self, kwargs: dict[str, Any], call_type: CallTypes | None) -> dict[str, Any]:
        """Prepare one attempt, after the deployment is chosen. LiteLLM calls this hook again if it translates the request."""
        hosts = self.app.hosts
        provider = hosts.provider(str(kwargs.get("model", "")), kwargs.get("custom_llm_provider"), kwargs.get("api_base"))
        entrance = current.get()
        is_openai = entrance is not None and entrance.is_openai and call_type in OPENAI_CALLS
        if entrance is None or not (is_openai or call_type is CallTypes.anthropic_messages):
            if provider is Provider.CLAUDE:
                raise AttemptRefused("Claude gets only requests of clients, through /v1/messages")
            return kwargs
        if entrance.outlet.begun or entrance.refusal is not None or (entrance.last is not None and entrance.last.final):
            raise AttemptRefused("the client already has a response")
        model = _model_name(kwargs, entrance)
        try:
            # LiteLLM's router has fallbacks of its own, such as those for a context that is too long.
            self.app.serving.check_price(entrance.request, model)
        except Refused as refused:
            raise AttemptRefused(str(refused)) from None
        own = _deployment_parameters(kwargs)
        chosen = {**own, **{name: kwargs.get(name) for name in ("model", "custom_llm_provider", "api_base", "api_key")}}
        one = deployment(chosen, hosts, endpoint_lookup=self.app.config.endpoint_lookup, chosen_by_litellm=True)
        if is_openai:
            return prepared(kwargs, call_type, one, entrance, self.app, model=model)
        if one.lane is not Lane.LITELLM:
            fields = None if provider is Provider.CLAUDE else {name: kwargs[name] for name in FOR_PROVIDERS if name in kwargs}
            entrance.row = one.row
            entrance.is_clean = one.lane in (Lane.CHAT, Lane.COMPLETION)
            # The lane returns Anthropic's format, so LiteLLM's adapter has nothing to translate.
            speaks: dict[str, Any] = {}
            if entrance.is_clean:
                base_model = str((kwargs.get("model_info") or {}).get("base_model") or "")
                speaks = {"model": priced_as(f"anthropic/{one.model}", base_model, one.served)}
                speaks["custom_llm_provider"] = "anthropic"
            client = LaneClient(self.app.serving, entrance, one, fields, model=model)
            return kwargs | speaks | {"api_key": PLACEHOLDER_KEY, "client": client}
        served = served_as(str(kwargs["model"]), kwargs.get("custom_llm_provider"))
        entrance.journal.begin(provider, served, model, Lane.LITELLM)
        entrance.leave_lanes()
        return await self._for_cloud(kwargs, own, entrance)

    async def async_post_call_success_hook(self, data: dict[str, Any], user_api_key_dict: UserAPIKeyAuth, response: Any) -> Any:
        """Remove the thinking from another provider's whole response, and set the requested model's name."""
        entrance = current.get()
        if entrance is None or entrance.is_openai or not isinstance(response, dict) or not _is_translated(entrance):
            return response
        if problem := entrance.end_problem():
            entrance.refusal = own_refusal(502, problem, [])
            raise AttemptRefused(problem)
        clean = returned.returned_response(response, entrance.row, calls_in(entrance.request.body.get("messages")))
        return clean | {"model": entrance.request.model, "id": clean.get("id") or f"msg_{uuid.uuid4().hex}"}

    async def async_post_call_streaming_iterator_hook(
        self, user_api_key_dict: UserAPIKeyAuth, response: AsyncIterator[Any], request_data: dict[str, Any]
    ) -> AsyncGenerator[Any, None]:
        """Remove the thinking from another provider's stream. The provider is known only at the first chunk."""
        entrance = current.get()
        chunks = aiter(response)
        try:
            first = await anext(chunks, None)
        except asyncio.CancelledError:
            # The client left before the first event; without this, LiteLLM would let the provider continue.
            await close_stream(chunks)
            raise
        if first is None:
            return
        if entrance is None or entrance.is_openai or not _is_translated(entrance):
            try:
                yield first
                async for chunk in chunks:
                    yield chunk
            finally:
                if entrance is not None and entrance.is_openai:
                    await close_stream(chunks)
            return
        ids = calls_in(entrance.request.body.get("messages"))
        thinking = ThinkingFilter(entrance.request.model, entrance.row, ids, entrance.end_problem)
        async for ready in filtered(first, chunks, thinking, KEEPALIVE_SECONDS):
            yield ready

    async def _for_cloud(self, kwargs: dict[str, Any], own: Mapping[str, Any], entrance: Entrance) -> dict[str, Any]:
        """Prepare an attempt at Claude on a cloud, whose format LiteLLM forwards."""
        row = entrance.row = compatibility.dialect(
            str(kwargs["model"]), kwargs.get("custom_llm_provider"), kwargs.get("api_base")
        )
        prepared = {name: value for name, value in kwargs.items() if name not in request_fields.FIELDS}
        request = entrance.request
        try:
            prepared |= await offloaded(
                len(request.raw), request_fields.translated, kwargs, row, hosts=self.app.config.fetch_hosts
            )
        except TooLarge as error:
            if entrance.journal.attempts == 1:
                entrance.refusal = own_refusal(400, str(error))
            raise AttemptRefused(str(error)) from None
        prepared |= {name: own[name] for name in THINKING_PARAMETERS if own.get(name) is not None}
        prepared["provider_specific_header"] = _beta_header(entrance, row)
        if row.name == "vertex":
            prepared["client"] = BetasInBody(shared_http())
        return prepared


def _beta_header(entrance: Entrance, row: compatibility.Dialect) -> dict[str, Any] | None:
    """Return the allowed betas, in the shape in which LiteLLM adds headers for one provider."""
    sent = ",".join(value for name, value in entrance.request.headers if name.lower() == "anthropic-beta")
    betas = compatibility.allowed_betas(sent, row)
    return {"custom_llm_provider": row.prefix, "extra_headers": {"anthropic-beta": ",".join(betas)}} if betas else None


def _is_translated(entrance: Entrance) -> bool:
    return entrance.journal.provider not in (None, Provider.CLAUDE, Provider.DEMO) and not entrance.is_clean


def _model_name(kwargs: Mapping[str, Any], entrance: Entrance) -> str:
    """Return the name in config.yaml of the model that LiteLLM's router has chosen, which may be a fallback."""
    metadata = kwargs.get("litellm_metadata") or kwargs.get("metadata")
    name = metadata.get("model_group") if isinstance(metadata, dict) else None
    return name if isinstance(name, str) and name else entrance.model or entrance.request.name


def _deployment_parameters(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the deployment's own ``litellm_params``, without the client's parameters."""
    info, router = kwargs.get("model_info"), proxy_server.llm_router
    deployment = router.get_deployment(model_id=info["id"]) if router and isinstance(info, dict) and "id" in info else None
    return {**parameters(deployment.litellm_params.model_dump(exclude_none=True), info)} if deployment else {}
