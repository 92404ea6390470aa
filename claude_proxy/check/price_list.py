"""Which provider LiteLLM assumes for a model without a prefix, read from its price list: importing LiteLLM takes seconds."""

import functools
import importlib.util
import json
from pathlib import Path

FILE = "model_prices_and_context_window_backup.json"
# LiteLLM 1.106.2 assumes these providers, by what its price list calls them; for all other models it needs the prefix.
ASSUMED = {
    "openai": "openai", "anthropic": "anthropic", "bedrock": "bedrock", "bedrock_converse": "bedrock",
    "vertex_ai-language-models": "vertex_ai", "ai21": "ai21_chat", "cohere_chat": "cohere_chat", "nlp_cloud": "nlp_cloud",
}  # fmt: skip


def assumed_provider(model: str) -> str | None:
    """Return the prefix that LiteLLM assumes; None for a model that it leaves out at its start."""
    return ASSUMED.get(_providers().get(model, ""))


@functools.cache
def _providers() -> dict[str, str]:
    found = importlib.util.find_spec("litellm")
    try:
        text = (Path(found.origin).parent / FILE).read_text(encoding="utf-8") if found and found.origin else "{}"
        return {name: str(entry.get("litellm_provider")) for name, entry in json.loads(text).items() if isinstance(entry, dict)}
    except (OSError, ValueError):
        return {}
