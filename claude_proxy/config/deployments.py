"""A deployment of ``model_list`` as a frozen value: whose it is, how it is asked, and what about it needs LiteLLM."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from claude_proxy.anthropic.messages import THINKING_PARAMETERS
from claude_proxy.providers.compatibility import STRICT, Dialect, dialect
from claude_proxy.providers.endpoints import Hosts, Provider
from claude_proxy.secret import Secret


class Lane(Enum):
    """Which way an attempt goes."""

    CLAUDE = "Claude's own API, on the pool's credentials"
    MESSAGES = "a provider of Anthropic's format"
    DEMO = "made inside the proxy"
    LITELLM = "LiteLLM"


LANES = {Provider.CLAUDE: Lane.CLAUDE, Provider.ANTHROPIC_FORMAT: Lane.MESSAGES, Provider.DEMO: Lane.DEMO}
# Fields of a request that a deployment may give a value for; the client's own goes first, but for thinking.
DEFAULTS = ("max_tokens", "temperature", "top_p", "top_k", "stop_sequences")
# What a lane does as LiteLLM does, or what says nothing to it. Any other parameter that has a value needs LiteLLM.
UNDERSTOOD = frozenset(
    {
        "model", "api_key", "api_base", "custom_llm_provider", "timeout", "stream_timeout", "num_retries", "max_retries",
        "weight", "extra_headers", "drop_params", "input_cost_per_token", "output_cost_per_token",
        "cache_creation_input_token_cost", "cache_read_input_token_cost", *DEFAULTS, *THINKING_PARAMETERS,
    }
)  # fmt: skip


@dataclass(frozen=True)
class Deployment:
    """One entry of ``model_list``, with the name's wildcard filled in and variables in place."""

    lane: Lane
    provider: Provider
    # LiteLLM's words for provider and model: "anthropic/claude-opus-4-8".
    served: str
    # The name on the wire.
    model: str
    api_base: str | None = None
    api_key: Secret | None = None
    row: Dialect = STRICT
    extra_headers: tuple[tuple[str, str], ...] = ()
    # Seconds of one silence: while a whole response is awaited, and in a stream; None for the configuration's.
    timeout: float | None = None
    stream_timeout: float | None = None
    num_retries: int | None = None
    weight: float = 1.0
    defaults: Mapping[str, Any] | None = None
    thinking: Mapping[str, Any] | None = None
    # Why LiteLLM serves it, in words; empty where a lane does.
    reason: str = ""


def deployment(params: Mapping[str, Any], hosts: Hosts, *, chosen_by_litellm: bool = False) -> Deployment:
    """Return a deployment from its ``litellm_params``, as LiteLLM's router has them for one name.

    One that LiteLLM has chosen already is asked on its lane whatever else stands there.
    """
    named = {name: value for name, value in params.items() if value is not None and value is not False}
    model, provider_name, base = str(named.get("model", "")), named.get("custom_llm_provider"), named.get("api_base")
    provider = hosts.provider(model, provider_name, base)
    reason = "" if chosen_by_litellm and provider in LANES else _reason(named, provider)
    seconds = {name: _seconds(named.get(name)) for name in ("timeout", "stream_timeout")}
    return Deployment(
        lane=Lane.LITELLM if reason else LANES[provider],
        provider=provider,
        served=model if not provider_name or model.startswith(f"{provider_name}/") else f"{provider_name}/{model}",
        model=model.removeprefix("anthropic/"),
        api_base=base.rstrip("/") if isinstance(base, str) else None,
        api_key=Secret(str(named["api_key"])) if named.get("api_key") else None,
        row=dialect(model, provider_name, base),
        extra_headers=tuple((str(name), str(value)) for name, value in (named.get("extra_headers") or {}).items()),
        timeout=seconds["timeout"],
        stream_timeout=seconds["stream_timeout"],
        num_retries=named.get("num_retries") if isinstance(named.get("num_retries"), int) else None,
        weight=float(named.get("weight", 1)),
        defaults={name: named[name] for name in DEFAULTS if name in named},
        thinking={name: named[name] for name in THINKING_PARAMETERS if name in named},
        reason=reason,
    )


def _reason(named: Mapping[str, Any], provider: Provider) -> str:
    if provider not in LANES:
        return "LiteLLM knows this provider's format"
    unknown = sorted(name for name in named if name not in UNDERSTOOD)
    if unknown:
        return f"litellm_params: {', '.join(unknown)}"
    if not isinstance(named.get("extra_headers", {}), dict):
        return "litellm_params: extra_headers"
    odd = [name for name in ("timeout", "stream_timeout", "weight") if not _is_number(named.get(name, 1))]
    return f"litellm_params: {', '.join(odd)}" if odd else ""


def _is_number(value: object) -> bool:
    try:
        return float(value) >= 0  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False


def _seconds(value: object) -> float | None:
    return float(value) if value is not None and _is_number(value) else None  # type: ignore[arg-type]
