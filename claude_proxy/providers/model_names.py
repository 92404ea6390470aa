"""The response to ``GET /v1/models``: the models, under names that Claude Code's model picker accepts."""

import re
from collections.abc import Callable, Iterable
from typing import Any

from claude_proxy.providers.endpoints import matches

# Claude Code's model discovery keeps only ids of this form (2.1.197).
_KEPT = re.compile(r"(claude|anthropic)", re.IGNORECASE)
# Any other model is listed with this prefix, and clients may request it with the prefix.
PREFIX = "claude-proxy/"
LONGEST_NAME = 256
# The models of Claude Code's own aliases (2.1.332). A pattern in config.yaml is listed as the models that match it.
CLAUDE_CODE_MODELS = ("claude-opus-5-5", "claude-sonnet-5-5", "claude-haiku-5-5", "claude-fable-5-2")
# Anthropic documents the epoch for an unknown date.
_UNKNOWN_DATE = "1970-01-01T00:00:00Z"


def listing(
    names: Iterable[str], allows: Callable[[str], bool] = lambda _: True, describe: Callable[[str], str] = lambda _: ""
) -> dict[str, Any]:
    """Return the list in Anthropic's shape, with a few more fields for Claude Code and for OpenAI clients.

    ``allows`` returns whether a name may be listed, ``describe`` what Claude Code shows beside it.
    """
    ids: dict[str, str] = {}
    for name in names:
        if "*" in name:
            ids |= {model: model for model in CLAUDE_CODE_MODELS if matches(name, model)}
        else:
            ids[name if _KEPT.match(name) else f"{PREFIX}{name}"] = name
    data = [
        {
            "type": "model",
            "id": model,
            "display_name": name,
            "description": describe(name),
            "created_at": _UNKNOWN_DATE,
            "object": "model",
            "created": 0,
            "owned_by": "claude-proxy",
        }
        for model, name in ids.items()
        if allows(name)
    ]
    first, last = (data[0]["id"], data[-1]["id"]) if data else (None, None)
    return {"object": "list", "data": data, "has_more": False, "first_id": first, "last_id": last}


def listed_names(names: Iterable[str]) -> frozenset[str]:
    """Return the listed models, by their names in config.yaml."""
    wanted = [*names]
    plain = {name for name in wanted if "*" not in name}
    return frozenset(plain | {model for model in CLAUDE_CODE_MODELS for name in wanted if matches(name, model)})


def is_name(model: str) -> bool:
    """Whether a text may be a model name: printable, at most ``LONGEST_NAME`` characters.

    LiteLLM 1.106.2 needs minutes for a name of 100,000 characters and blocks all other requests meanwhile.
    """
    return model.isprintable() and len(model) <= LONGEST_NAME


def served_name(model: str) -> str:
    """Return the name in config.yaml of a requested model.

    All prefixes are removed, so that a check of the returned name holds for any later use of it.
    """
    while model.startswith(PREFIX):
        model = model.removeprefix(PREFIX)
    return model
