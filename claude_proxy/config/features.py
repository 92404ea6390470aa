"""Which settings of config.yaml ask LiteLLM to do something with requests: those requests enter LiteLLM."""

from collections.abc import Iterator, Mapping
from typing import Any

# What the lanes do as LiteLLM does, and what asks for nothing. A key that is not here may count, limit, log or change
# requests, so it sends them through LiteLLM.
UNDERSTOOD: Mapping[str, frozenset[str]] = {
    "": frozenset({"claude_proxy", "general_settings", "litellm_settings", "model_list", "router_settings"}),
    "litellm_settings": frozenset(
        {
            "callbacks", "content_policy_fallbacks", "context_window_fallbacks", "default_fallbacks", "drop_params",
            "fallbacks", "json_logs", "modify_params", "num_retries", "request_timeout", "set_verbose", "ssl_verify",
            "telemetry", "turn_off_message_logging", "use_chat_completions_url_for_anthropic_messages",
        }
    ),
    # Cooldowns belong to deployments that LiteLLM chooses; a lane asks each of them anew.
    "router_settings": frozenset(
        {
            "allowed_fails", "allowed_fails_policy", "content_policy_fallbacks", "context_window_fallbacks", "cooldown_time",
            "default_fallbacks", "disable_cooldowns", "fallbacks", "model_group_alias", "model_group_retry_policy",
            "num_retries", "redis_host", "redis_password", "redis_port", "redis_url", "retry_after", "retry_policy",
            "routing_strategy", "stream_timeout", "timeout",
        }
    ),
    "general_settings": frozenset({"custom_auth", "master_key"}),
}  # fmt: skip
SIMPLE_SHUFFLE = "simple-shuffle"


def reasons(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the settings that send every request through LiteLLM, in words; none with the configuration as it is shipped."""
    return tuple(_reasons(config))


def _reasons(config: Mapping[str, Any]) -> Iterator[str]:
    for name, known in UNDERSTOOD.items():
        section = config if name == "" else config.get(name) or {}
        if not isinstance(section, dict):
            yield name
            continue
        yield from (f"{name}: {key}" if name else str(key) for key in section if key not in known)
    callbacks = (config.get("litellm_settings") or {}).get("callbacks")
    if isinstance(callbacks, list) and len(callbacks) > 1:
        yield "litellm_settings: callbacks beside the proxy's own"
    strategy = (config.get("router_settings") or {}).get("routing_strategy")
    if strategy not in (None, SIMPLE_SHUFFLE):
        yield f"router_settings: routing_strategy {strategy}"
