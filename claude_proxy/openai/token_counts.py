"""Translates the token counts of a chat completion to Anthropic's, where ``input`` excludes tokens read from a cache."""

from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from claude_proxy.anthropic.usage import MAX_NAME, MAX_USD, MICRO_USD, Usage


def usage_in(completion: Mapping[str, Any]) -> Usage | None:
    """Return the counts of a response or of one chunk; None if all are missing or 0.

    OpenAI has ``usage`` at the top, Moonshot in ``choices[0]``, Groq in ``x_groq``.
    """
    choices, groq = completion.get("choices"), completion.get("x_groq")
    first = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    for holder in (completion, first, groq if isinstance(groq, dict) else {}):
        usage = holder.get("usage")
        if isinstance(usage, dict) and (found := _usage(usage)) != Usage():
            return replace(found, **terms) if (terms := _terms(completion, usage)) else found
    return None


def _terms(completion: Mapping[str, Any], usage: Mapping[str, Any]) -> dict[str, Any]:
    """Return what else decides the price: the service tier, and the price that OpenRouter reports."""
    tier, cost = completion.get("service_tier"), usage.get("cost")
    found: dict[str, Any] = {"service_tier": tier} if isinstance(tier, str) and len(tier) <= MAX_NAME else {}
    if isinstance(cost, int | float) and not isinstance(cost, bool) and 0 <= cost < MAX_USD:
        found["cost"] = round(cost * MICRO_USD)
    return found


def _usage(counts: Mapping[str, Any]) -> Usage:
    details = counts.get("prompt_tokens_details")
    details = details if isinstance(details, dict) else {}
    # OpenAI's, DeepSeek's and Moonshot's names for tokens read from a cache.
    read = (
        _count(details.get("cached_tokens"))
        or _count(counts.get("prompt_cache_hit_tokens"))
        or _count(counts.get("cached_tokens"))
    )
    written = _count(details.get("cache_write_tokens")) or _count(counts.get("cache_creation_input_tokens"))
    prompt = _count(counts.get("prompt_tokens"))
    read = min(read, prompt)
    written = min(written, prompt - read)
    return Usage(prompt - read - written, _count(counts.get("completion_tokens")), read, written)


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
