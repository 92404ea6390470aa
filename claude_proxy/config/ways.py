"""Which requests go through LiteLLM, in words: for the report of a start, and for ``check``."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from claude_proxy.config.deployments import LITELLMS_FORMAT, EndpointLookup, Lane, deployment, no_endpoint
from claude_proxy.config.features import reasons
from claude_proxy.config.openai_routes import KEY, openai_routes
from claude_proxy.providers.endpoints import BLOCK, Hosts

# For requests that one of the proxy's own lanes sends.
DIRECTLY = "directly to the provider, without LiteLLM"
# Returns `line 7` for a path of keys in config.yaml; empty where it is not known.
LineOf = Callable[..., str]


def no_lines(*_: str | int) -> str:
    """Without the file's text no line is known."""
    return ""


def ways(
    config: Mapping[str, Any],
    hosts: Hosts,
    *,
    endpoint_lookup: EndpointLookup = no_endpoint,
    database: bool = False,
    lines: LineOf = no_lines,
    file: str = "config.yaml",
) -> Iterator[str]:
    """Yield a sentence about the settings that send requests through LiteLLM, and one about models that LiteLLM translates."""
    found = [*(placed(reason, lines, file) for reason in reasons(config)), *(["DATABASE_URL"] if database else [])]
    if found:
        yield f"All requests go through LiteLLM because of {', '.join(found)}"
        return
    because: dict[str, list[str]] = {}
    others: list[str] = []
    for place, model in enumerate(config.get("model_list") or ()):
        if not _is_readable(model):
            continue
        one = deployment(model["litellm_params"], hosts, endpoint_lookup=endpoint_lookup)
        if one.lane is Lane.COMPLETION or one.reason == LITELLMS_FORMAT:
            others.append(model["model_name"])
        elif one.reason:
            line = lines("model_list", place, "litellm_params")
            reason = f"{one.reason.replace(': ', '.', 1)}{f' ({file} {line})' if line else ''}"
            because.setdefault(reason, []).append(model["model_name"])
    for reason, names in because.items():
        yield f"Requests for {', '.join(dict.fromkeys(names))} go through LiteLLM because of {reason}"
    if others:
        yield f"LiteLLM translates the requests for {', '.join(dict.fromkeys(others))}"
    if is_open := openai_routes(config):
        yield f"Requests of other clients go through LiteLLM because of {BLOCK}.{KEY}"
    if because or others or is_open:
        yield f"All other requests go {DIRECTLY}"


def placed(reason: str, lines: LineOf, file: str) -> str:
    """Return a reason of ``features.reasons`` as `section.key`, with its line in the file where that is known."""
    section, _, rest = reason.partition(": ")
    key = rest.partition(" ")[0]
    line = lines(*filter(None, (section, key)))
    return (f"{section}.{rest}" if rest else section) + (f" ({file} {line})" if line else "")


def _is_readable(model: object) -> bool:
    """Whether an entry names its model; one that does not is an error, which is reported elsewhere."""
    params = model.get("litellm_params") if isinstance(model, dict) else None
    if not isinstance(params, dict) or not isinstance(model, dict) or not isinstance(model.get("model_name"), str):
        return False
    optional = (params.get(name) for name in ("api_base", "custom_llm_provider"))
    return isinstance(params.get("model"), str) and all(value is None or isinstance(value, str) for value in optional)
