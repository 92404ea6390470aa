"""Which way requests go, in words: for the log at the start, and for ``check``."""

from collections.abc import Iterator, Mapping
from typing import Any

from claude_proxy.config.deployments import LITELLMS_FORMAT, EndpointLookup, Lane, deployment, no_endpoint
from claude_proxy.config.features import reasons
from claude_proxy.providers.endpoints import Hosts


def ways(
    config: Mapping[str, Any], hosts: Hosts, *, endpoint_lookup: EndpointLookup = no_endpoint, database: bool = False
) -> Iterator[str]:
    """Yield a sentence for each setting that sends requests through LiteLLM, and one for the models that it serves anyway."""
    found = [*reasons(config), *(["DATABASE_URL"] if database else [])]
    if found:
        yield f"every request goes through LiteLLM, because of {'; '.join(found)}"
        return
    because: dict[str, list[str]] = {}
    others: list[str] = []
    for model in filter(_is_readable, config.get("model_list") or ()):
        one = deployment(model["litellm_params"], hosts, endpoint_lookup=endpoint_lookup)
        if one.lane is Lane.COMPLETION or one.reason == LITELLMS_FORMAT:
            others.append(model["model_name"])
        elif one.reason:
            because.setdefault(one.reason, []).append(model["model_name"])
    for reason, names in because.items():
        yield f"{', '.join(dict.fromkeys(names))}: requests go through LiteLLM, because of {reason}"
    if others:
        yield f"{', '.join(dict.fromkeys(others))}: LiteLLM translates the requests for these providers"


def _is_readable(model: object) -> bool:
    """Whether an entry says whose model it is; one that does not is a mistake, which is told elsewhere."""
    params = model.get("litellm_params") if isinstance(model, dict) else None
    if not isinstance(params, dict) or not isinstance(model, dict) or not isinstance(model.get("model_name"), str):
        return False
    optional = (params.get(name) for name in ("api_base", "custom_llm_provider"))
    return isinstance(params.get("model"), str) and all(value is None or isinstance(value, str) for value in optional)
