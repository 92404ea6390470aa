"""A deployment of ``model_list`` as a frozen value: its provider, its endpoint, and why it may need LiteLLM."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple

from claude_proxy.anthropic.messages import THINKING_PARAMETERS
from claude_proxy.config.routing import number
from claude_proxy.providers.compatibility import STRICT, Dialect, Thinking, dialect
from claude_proxy.providers.endpoints import Hosts, Provider
from claude_proxy.secret import Secret


class Lane(Enum):
    """How an attempt is sent."""

    CLAUDE = "Claude's own API, with the pool's credentials"
    MESSAGES = "a provider with Anthropic's format"
    DEMO = "made inside the proxy"
    CHAT = "a provider with chat completions"
    COMPLETION = "a provider whose format only LiteLLM knows; LiteLLM translates chat completions"
    LITELLM = "LiteLLM, which chooses the deployment"
    CLOUD = "Claude on Bedrock or Vertex AI, for a client of that cloud"


LANES = {Provider.CLAUDE: Lane.CLAUDE, Provider.ANTHROPIC_FORMAT: Lane.MESSAGES, Provider.DEMO: Lane.DEMO}
# The lanes of deployments that are called by all their parameters: through LiteLLM, or by a client of their cloud.
WITH_PARAMETERS = (Lane.COMPLETION, Lane.LITELLM)
# Why LiteLLM handles Claude on a cloud.
LITELLMS_FORMAT = "LiteLLM knows this provider's format"
# Parameters of a deployment that are copied into a chat-completions request.
CHAT_EXTRAS = (
    "reasoning_effort", "max_completion_tokens", "frequency_penalty", "presence_penalty", "seed", "parallel_tool_calls",
    "service_tier", "verbosity", "response_format", "prompt_cache_key",
)  # fmt: skip
# Request fields for which a deployment may set a default. The client's own value has priority, except for thinking.
DEFAULTS = ("max_tokens", "temperature", "top_p", "top_k", "stop_sequences")
# A key of a deployment's `model_info`: the chat-completions server at its URL.
CHAT_SERVER = "chat_server"
# Parameters that a lane handles like LiteLLM, or that have no effect on it. Any other parameter with a value needs LiteLLM.
CHAT_UNDERSTOOD = frozenset({*CHAT_EXTRAS, CHAT_SERVER, "api_version", "extra_body"})
UNDERSTOOD = frozenset(
    {
        "model", "api_key", "api_base", "custom_llm_provider", "timeout", "stream_timeout", "num_retries", "max_retries",
        "weight", "extra_headers", "drop_params", "input_cost_per_token", "output_cost_per_token",
        "cache_creation_input_token_cost", "cache_read_input_token_cost", *DEFAULTS, *THINKING_PARAMETERS,
    }
)  # fmt: skip
# Parameters by which LiteLLM's router chooses deployments or delays requests.
OF_ROUTER = frozenset(
    {
        "allowed_fails_policy", "budget_duration", "cooldown_time", "max_budget", "max_parallel_requests", "order", "rpm",
        "silent_model", "tags", "tpm",
    }
)  # fmt: skip


# LiteLLM's providers of chat completions, with a base URL and a bearer key; Azure has its own form of both.
CHAT_PROVIDERS = frozenset(
    {
        "azure", "cerebras", "custom_openai", "dashscope", "deepinfra", "deepseek", "fireworks_ai", "groq", "hosted_vllm",
        "huggingface", "hyperbolic", "llamafile", "lm_studio", "minimax", "mistral", "moonshot", "nebius", "novita",
        "nvidia_nim", "openai", "openrouter", "sambanova", "together_ai", "vercel_ai_gateway", "volcengine", "xai", "zai",
    }
)  # fmt: skip


class ChatEndpoint(NamedTuple):
    """The endpoint of a provider's chat completions, by LiteLLM's tables: base URL, key, and the key's header."""

    base: str
    key: str | None = None
    key_header: str = "authorization"
    version: str | None = None
    # The model name that is sent.
    model: str = ""


# Returns the endpoint of a deployment, by its ``litellm_params``; None for a deployment that only LiteLLM can call.
EndpointLookup = Callable[[Mapping[str, Any]], ChatEndpoint | None]


def no_endpoint(_: Mapping[str, Any]) -> ChatEndpoint | None:
    """Return None: without LiteLLM's tables no endpoint is known."""
    return None


def likely_endpoint(params: Mapping[str, Any]) -> ChatEndpoint | None:
    """Return an endpoint without a key for a provider that has one, by its name alone: for messages, not for requests."""
    provider = params.get("custom_llm_provider") or str(params.get("model")).split("/", 1)[0]
    return ChatEndpoint(str(params.get("api_base") or "https://unknown.invalid")) if provider in CHAT_PROVIDERS else None


@dataclass(frozen=True)
class Deployment:
    """One entry of ``model_list``, with the name's wildcard and the variables replaced."""

    lane: Lane
    provider: Provider
    # LiteLLM's name of provider and model: "anthropic/claude-opus-4-8".
    served: str
    # The model name that is sent.
    model: str
    api_base: str | None = None
    api_key: Secret | None = None
    row: Dialect = STRICT
    extra_headers: tuple[tuple[str, str], ...] = ()
    # The maximum silence in seconds, before a response and in a stream; None for the configuration's.
    timeout: float | None = None
    stream_timeout: float | None = None
    num_retries: int | None = None
    # A deployment without a weight is not used first if another has one.
    weight: float = 0.0
    defaults: Mapping[str, Any] | None = None
    thinking: Mapping[str, Any] | None = None
    # Fields for a chat-completions request in addition to the client's, and the endpoint's version and key header.
    extra: Mapping[str, Any] | None = None
    api_version: str | None = None
    key_header: str = "authorization"
    # The whole entry, for a deployment of ``WITH_PARAMETERS``. It contains secrets.
    params: Mapping[str, Any] | None = field(default=None, repr=False)
    # Why LiteLLM serves the deployment, in words; empty if a lane does.
    reason: str = ""


def parameters(params: Mapping[str, Any], info: object) -> Mapping[str, Any]:
    """Return a deployment's ``litellm_params``, with the server kind from its ``model_info``."""
    server = info.get(CHAT_SERVER) if isinstance(info, Mapping) else None
    return {**params, CHAT_SERVER: server} if server else params


def served_as(model: str, provider: str | None) -> str:
    """Return a deployment's provider and model in LiteLLM's form, with the provider once."""
    return model if not provider or model.startswith(f"{provider}/") else f"{provider}/{model}"


def deployment(
    params: Mapping[str, Any], hosts: Hosts, *, endpoint_lookup: EndpointLookup = no_endpoint, chosen_by_litellm: bool = False
) -> Deployment:
    """Return a deployment from its ``litellm_params``, as LiteLLM's router has them for one name.

    A deployment that LiteLLM has already chosen uses its lane regardless of its other parameters.
    """
    named = {name: value for name, value in params.items() if value is not None and value is not False}
    model, provider_name, base = str(named.get("model", "")), named.get("custom_llm_provider"), named.get("api_base")
    provider = hosts.provider(model, provider_name, base)
    endpoint = None if provider in LANES else endpoint_lookup(named)
    row = dialect(model, provider_name, endpoint.base if endpoint else base, named.get(CHAT_SERVER) if endpoint else None)
    # Claude on a cloud keeps its own format, which LiteLLM forwards.
    lane = LANES.get(provider) or (
        Lane.CHAT if endpoint else Lane.LITELLM if row.thinking is Thinking.CLAUDE else Lane.COMPLETION
    )
    reason = "" if chosen_by_litellm and lane is not Lane.LITELLM else _reason(named, lane)
    extra, retries = named.get("extra_headers"), str(named.get("num_retries"))
    return Deployment(
        lane=Lane.LITELLM if reason else lane,
        provider=provider,
        served=served_as(model, provider_name),
        model=endpoint.model if endpoint else model.removeprefix("anthropic/"),
        api_base=endpoint.base if endpoint else base.rstrip("/") if isinstance(base, str) else None,
        api_key=Secret(str(key)) if (key := endpoint.key if endpoint else named.get("api_key")) else None,
        row=row,
        extra_headers=tuple((str(name), str(value)) for name, value in extra.items()) if isinstance(extra, dict) else (),
        timeout=number(named.get("timeout")),
        stream_timeout=number(named.get("stream_timeout")),
        num_retries=int(retries) if retries.isdecimal() else None,
        weight=number(named.get("weight")) or 0.0,
        defaults={name: named[name] for name in DEFAULTS if name in named},
        thinking={name: named[name] for name in THINKING_PARAMETERS if name in named},
        extra=_chat_extra(named) if endpoint else None,
        api_version=endpoint.version if endpoint else None,
        key_header=endpoint.key_header if endpoint else "authorization",
        params={name: value for name, value in params.items() if value is not None} if lane in WITH_PARAMETERS else None,
        reason=reason,
    )


def _chat_extra(named: Mapping[str, Any]) -> dict[str, Any]:
    body = named.get("extra_body")
    return {name: named[name] for name in (*CHAT_EXTRAS, "thinking") if name in named} | (
        body if isinstance(body, dict) else {}
    )


def _reason(named: Mapping[str, Any], lane: Lane) -> str:
    if lane is Lane.LITELLM:
        return LITELLMS_FORMAT
    if lane is Lane.COMPLETION:  # the other parameters are for the provider
        unknown = sorted(name for name in named if name in OF_ROUTER)
    else:
        understood = UNDERSTOOD | CHAT_UNDERSTOOD if lane is Lane.CHAT else UNDERSTOOD
        unknown = sorted(name for name in named if name not in understood)
    if unknown:
        return f"litellm_params: {', '.join(unknown)}"
    if not isinstance(named.get("extra_headers", {}), dict):
        return "litellm_params: extra_headers"
    odd = [name for name in ("timeout", "stream_timeout", "weight") if number(named.get(name, 0)) is None]
    return f"litellm_params: {', '.join(odd)}" if odd else ""
