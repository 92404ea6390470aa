"""The answer of ``GET /v1/models``: what the proxy serves, under names that Claude Code's model picker keeps."""

import re
from collections.abc import Callable, Iterable
from typing import Any

from claude_proxy.providers.endpoints import matches

# Claude Code's discovery keeps ids of this form and drops all others (2.1.197).
_KEPT = re.compile(r"(claude|anthropic)", re.IGNORECASE)
# So any other model is listed under this prefix, and may be asked for with it.
PREFIX = "claude-proxy/"
LONGEST_NAME = 256
# What Claude Code's own aliases stand for (2.1.332): of a pattern in config.yaml, these are listed.
CLAUDE_CODE_MODELS = ("claude-opus-5-5", "claude-sonnet-5-5", "claude-haiku-5-5", "claude-fable-5-2")
# Anthropic documents the epoch for a date that is not known.
_UNKNOWN_DATE = "1970-01-01T00:00:00Z"


def listing(names: Iterable[str], allows: Callable[[str], bool] = lambda _: True) -> dict[str, Any]:
    """Return the list in Anthropic's shape, with the few fields more that make it one of OpenAI's.

    ``allows`` tells of a name whether it is to be in the list.
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
    """Return the models that the list holds, by their names in config.yaml."""
    wanted = [*names]
    plain = {name for name in wanted if "*" not in name}
    return frozenset(plain | {model for model in CLAUDE_CODE_MODELS for name in wanted if matches(name, model)})


def is_name(model: str) -> bool:
    """Whether a model may be called so: in printable characters, ``LONGEST_NAME`` of them at most.

    LiteLLM 1.106.2 reads such a name up to its first line's end, and takes minutes for one of 100,000 characters, in which
    nobody else is answered.
    """
    return model.isprintable() and len(model) <= LONGEST_NAME


def served_name(model: str) -> str:
    """Return the name in config.yaml of a model that a client asks for.

    What comes back has no prefix left: a limit that was checked for a name holds for whatever it is read as later.
    """
    while model.startswith(PREFIX):
        model = model.removeprefix(PREFIX)
    return model
