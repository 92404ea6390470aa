"""LiteLLM's price list, and which provider LiteLLM assumes by it for a model without a prefix.

The file is read here, because importing LiteLLM takes seconds.
"""

import functools
import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FILE = "model_prices_and_context_window_backup.json"
# LiteLLM 1.108.7 assumes these providers, by what its price list calls them; for all other models it needs the prefix.
ASSUMED = {
    "openai": "openai", "anthropic": "anthropic", "bedrock": "bedrock", "bedrock_converse": "bedrock",
    "vertex_ai-language-models": "vertex_ai", "ai21": "ai21_chat", "cohere_chat": "cohere_chat", "nlp_cloud": "nlp_cloud",
}  # fmt: skip


def assumed_provider(model: str) -> str | None:
    """Return the prefix that LiteLLM assumes; None for a model that it leaves out at its start."""
    return ASSUMED.get(str((entry(model) or {}).get("litellm_provider")))


def entry(model: str) -> Mapping[str, Any] | None:
    """Return the entry of a name; None without one."""
    return _entries().get(model)


@functools.cache
def _entries() -> dict[str, Mapping[str, Any]]:
    found = importlib.util.find_spec("litellm")
    try:
        text = (Path(found.origin).parent / FILE).read_text(encoding="utf-8") if found and found.origin else "{}"
        return {name: entry for name, entry in json.loads(text).items() if isinstance(entry, dict)}
    except (OSError, ValueError):
        return {}
