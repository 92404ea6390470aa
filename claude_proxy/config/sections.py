"""The shape of the settings that LiteLLM reads when it starts: with another one it does not start."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple


class Shape(NamedTuple):
    """What a setting should be, in words and as a type; with ``entries`` a list or mapping of mappings."""

    words: str
    kind: type
    entries: bool = False


SHAPES: Mapping[tuple[str, ...], Shape] = {
    ("environment_variables",): Shape("a mapping, such as NAME: value", dict),
    ("include",): Shape("a list of files", list),
    ("credential_list",): Shape("a list, each entry with credential_name and credential_values", list, entries=True),
    ("guardrails",): Shape("a list, each entry with guardrail_name and litellm_params", list, entries=True),
    ("mcp_servers",): Shape("a mapping of a name to a server", dict),
    ("prompts",): Shape("a list of prompts", list, entries=True),
    ("search_tools",): Shape("a list of tools", list, entries=True),
    ("vector_store_registry",): Shape("a list of vector stores", list, entries=True),
    ("general_settings", "master_key"): Shape("a text; write os.environ/LITELLM_MASTER_KEY", str),
    ("litellm_settings", "cache_params"): Shape("a mapping, such as type: redis", dict),
    ("litellm_settings", "default_team_settings"): Shape("a list of teams", list, entries=True),
    ("litellm_settings", "upperbound_key_generate_params"): Shape("a mapping of limits", dict),
    ("router_settings", "provider_budget_config"): Shape("a mapping of a provider to its budget", dict, entries=True),
    ("router_settings", "routing_strategy_args"): Shape("a mapping, such as ttl: 10", dict),
}


# Sections of settings, in which a list is an error, with a setting of each.
EXAMPLES = {
    "litellm_settings": "drop_params: true",
    "general_settings": "master_key: os.environ/LITELLM_MASTER_KEY",
}


def is_model(value: object) -> bool:
    """Whether a value has the form of an entry of model_list."""
    return isinstance(value, dict) and "model_name" in value and len(value) > 1


def mistakes(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence for each setting of another shape; ``config`` is a mapping, and nothing else is known of it."""
    for path, shape in SHAPES.items():
        value: Any = config
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        if value is None:
            continue
        inner = value.values() if isinstance(value, dict) else value
        if not isinstance(value, shape.kind) or (shape.entries and not all(isinstance(one, dict) for one in inner)):
            yield f"{': '.join(path)}: should be {shape.words}"
    for place, guardrail in enumerate(_mappings(config.get("guardrails")), start=1):
        if missing := [name for name in ("guardrail_name", "litellm_params") if name not in guardrail]:
            yield f"guardrails: entry {place} should have {' and '.join(missing)}"


def _mappings(value: object) -> list[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def misplaced(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence for each entry of model_list below another section, and for a section of settings that is a list."""
    for section in ("router_settings", *EXAMPLES):
        yield from _misplaced(section, config.get(section))


def _misplaced(section: str, value: object) -> Iterator[str]:
    """Yield a sentence for each entry of model_list that is in a list below a section, and for a section that is a list."""
    lists = {section: value} | ({f"{section}: {key}": inner for key, inner in value.items()} if isinstance(value, dict) else {})
    found = [
        f"{path}: entry {place} is an entry of model_list; move it to the end of model_list"
        for path, inner in lists.items()
        for place, one in enumerate(inner if isinstance(inner, list) else (), start=1)
        if is_model(one)
    ]
    yield from found
    if value and not isinstance(value, dict) and not found and section in EXAMPLES:
        kind = "; remove the dashes in front of its keys" if isinstance(value, list) else ""
        yield f"{section}: should be a mapping of settings, such as {EXAMPLES[section]}{kind}"
