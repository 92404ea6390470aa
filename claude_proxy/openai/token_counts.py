"""The tokens of a chat completion in Anthropic's accounting: what was read from a cache stands beside the input, not inside."""

from collections.abc import Mapping
from typing import Any

from claude_proxy.anthropic.usage import Usage


def usage_in(said: Mapping[str, Any]) -> Usage | None:
    """Return the counts of a response or of one of its chunks, from wherever they stand; None without any above nothing.

    OpenAI has ``usage`` at the top, Moonshot in ``choices[0]``, Groq in ``x_groq``.
    """
    choices, groq = said.get("choices"), said.get("x_groq")
    first = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    for holder in (said, first, groq if isinstance(groq, dict) else {}):
        usage = holder.get("usage")
        if isinstance(usage, dict) and (found := _usage(usage)) != Usage():
            return found
    return None


def _usage(said: Mapping[str, Any]) -> Usage:
    details = said.get("prompt_tokens_details")
    details = details if isinstance(details, dict) else {}
    # OpenAI's, DeepSeek's and Moonshot's names for what came from a cache.
    read = (
        _count(details.get("cached_tokens")) or _count(said.get("prompt_cache_hit_tokens")) or _count(said.get("cached_tokens"))
    )
    written = _count(details.get("cache_write_tokens")) or _count(said.get("cache_creation_input_tokens"))
    prompt = _count(said.get("prompt_tokens"))
    read = min(read, prompt)
    written = min(written, prompt - read)
    return Usage(prompt - read - written, _count(said.get("completion_tokens")), read, written)


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
