"""Whether anything reads what LiteLLM writes down about answers. With the configuration as it is shipped nothing does."""

from collections.abc import Mapping
from typing import Any

# The keys of config.yaml that ask LiteLLM to count, limit, log or look at nothing. A key that is not here may do so.
SILENT_KEYS: Mapping[str, frozenset[str]] = {
    "": frozenset({"claude_proxy", "general_settings", "litellm_settings", "model_list", "router_settings"}),
    "litellm_settings": frozenset(
        {
            "callbacks", "default_fallbacks", "drop_params", "modify_params", "num_retries", "request_timeout", "ssl_verify",
            "use_chat_completions_url_for_anthropic_messages",
        }
    ),
    "router_settings": frozenset(
        {
            "default_fallbacks", "disable_cooldowns", "fallbacks", "model_group_alias", "num_retries", "redis_host",
            "redis_password", "redis_port", "redis_url", "retry_after", "retry_policy", "stream_timeout", "timeout",
        }
    ),
    "general_settings": frozenset({"custom_auth", "master_key"}),
}  # fmt: skip
# Parameters of a deployment by which LiteLLM's router counts its answers, or has them looked at.
COUNTED_PARAMETERS = frozenset(
    {"budget_duration", "guardrails", "max_budget", "max_parallel_requests", "rpm", "tags", "tpm"}
)  # fmt: skip


def are_kept(config: Mapping[str, Any]) -> bool:
    """Return True unless it is certain that nothing reads LiteLLM's records; ``config`` is what config.yaml holds.

    Without cooldowns and limits LiteLLM's router needs no counts (1.106.2); with them, with callbacks beside this project's,
    guardrails, a cache, or any key that is not known to be silent, it gets every answer to the end.
    """
    sections = {name: config if name == "" else config.get(name) or {} for name in SILENT_KEYS}
    if any(not isinstance(section, dict) or not SILENT_KEYS[name].issuperset(section) for name, section in sections.items()):
        return True
    callbacks = sections["litellm_settings"].get("callbacks")
    if isinstance(callbacks, list) and len(callbacks) > 1:
        return True
    if sections["router_settings"].get("disable_cooldowns") is not True:
        return True
    return any(COUNTED_PARAMETERS.intersection(model.get("litellm_params") or ()) for model in config.get("model_list") or ())
