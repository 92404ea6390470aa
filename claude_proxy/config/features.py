"""Which settings of config.yaml need LiteLLM to handle requests."""

from collections.abc import Iterator, Mapping
from typing import Any

from claude_proxy.config.routing import is_entry, number

# Settings that the lanes handle like LiteLLM, or that have no effect on requests. Any other key may count, limit, log or change
# requests, so it sends them through LiteLLM.
UNDERSTOOD: Mapping[str, frozenset[str]] = {
    "": frozenset({"claude_proxy", "general_settings", "litellm_settings", "model_list", "router_settings"}),
    "litellm_settings": frozenset(
        {
            "callbacks", "content_policy_fallbacks", "context_window_fallbacks", "default_fallbacks", "drop_params",
            "fallbacks", "json_logs", "modify_params", "num_retries", "request_timeout", "set_verbose", "ssl_verify",
            "telemetry", "turn_off_message_logging", "use_chat_completions_url_for_anthropic_messages",
            # Guides for Claude Code have these two here, where nothing reads them; `claude-proxy check` says where they belong.
            "database_url", "master_key",
        }
    ),
    # Cooldowns belong to deployments that LiteLLM chooses; a lane always tries each deployment.
    "router_settings": frozenset(
        {
            "allowed_fails", "allowed_fails_policy", "content_policy_fallbacks", "context_window_fallbacks", "cooldown_time",
            "default_fallbacks", "disable_cooldowns", "fallbacks", "model_group_alias", "model_group_retry_policy",
            "num_retries", "redis_host", "redis_password", "redis_port", "redis_url", "retry_after", "retry_policy",
            "routing_strategy", "stream_timeout", "timeout",
        }
    ),
    # Without a database nothing is stored in it; with one, every request goes through LiteLLM anyway.
    "general_settings": frozenset({"custom_auth", "master_key", "store_model_in_db"}),
}  # fmt: skip
# Known settings whose value may have a form that only LiteLLM reads.
NUMBERS = ("num_retries", "request_timeout", "retry_after", "stream_timeout", "timeout")
FALLBACKS = ("content_policy_fallbacks", "context_window_fallbacks", "fallbacks")
SIMPLE_SHUFFLE = "simple-shuffle"


def reasons(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the settings that send every request through LiteLLM, in words; none with the shipped configuration."""
    return tuple(_reasons(config))


def _reasons(config: Mapping[str, Any]) -> Iterator[str]:
    sections: dict[str, Mapping[str, Any]] = {}
    for name, known in UNDERSTOOD.items():
        section = config if name == "" else config.get(name) or {}
        if not isinstance(section, dict):
            yield name
            continue
        sections[name] = section
        yield from (f"{name}: {key}" if name else str(key) for key in section if key not in known)
        yield from (f"{name}: {key}" for key in NUMBERS if section.get(key) is not None and number(section[key]) is None)
        yield from (f"{name}: {key}" for key in FALLBACKS if not _are_entries(section.get(key)))
    callbacks = sections.get("litellm_settings", {}).get("callbacks")
    if isinstance(callbacks, list) and len(callbacks) > 1:
        yield "litellm_settings: callbacks beside the proxy's own"
    strategy = sections.get("router_settings", {}).get("routing_strategy")
    if strategy not in (None, SIMPLE_SHUFFLE):
        yield f"router_settings: routing_strategy {strategy}"


def _are_entries(value: object) -> bool:
    return value is None or (isinstance(value, list) and all(map(is_entry, value)))
