"""Translates a chat completion's finish reason to Anthropic's stop reason, or to an error.

An unknown finish reason is an error: an incomplete response reported as complete would end Claude Code's work silently.
"""

from typing import NamedTuple

from claude_proxy.providers.returned import CUT_SHORT

# OpenAI's reference: stop, length, tool_calls, function_call, content_filter. The others: Together and Hugging Face (eos,
# eos_token, stop_sequence), Z.AI (sensitive, model_context_window_exceeded), Mistral (model_length), and Gemini's and
# Anthropic's own reasons, which gateways forward.
STOP_REASONS = {
    "stop": "end_turn", "eos": "end_turn", "eos_token": "end_turn", "end_turn": "end_turn", "complete": "end_turn",
    "stop_sequence": "stop_sequence",
    "length": "max_tokens", "max_tokens": "max_tokens", "max_output_tokens": "max_tokens",
    "model_length": "model_context_window_exceeded", "model_context_window_exceeded": "model_context_window_exceeded",
    "tool_calls": "tool_use", "tool_use": "tool_use", "function_call": "tool_use", "tool_call": "tool_use",
    "content_filter": "refusal", "refusal": "refusal", "sensitive": "refusal", "safety": "refusal", "recitation": "refusal",
}  # fmt: skip


class Ending(NamedTuple):
    """How a response ended: a stop reason, or the problem in words."""

    stop_reason: str = ""
    stop_sequence: str | None = None
    problem: str = ""


def ending(finish_reason: object, matched: object, *, calls: bool) -> Ending:
    """Return how a response ended. ``matched`` is the stop sequence reported by vLLM and SGLang; ``calls``: it has calls."""
    word = finish_reason.lower() if isinstance(finish_reason, str) else ""
    known = STOP_REASONS.get(word)
    if known is None:
        return Ending(problem=f"the provider ended its response with finish_reason {str(finish_reason)[:100]!r}")
    if known in CUT_SHORT:
        return Ending(known)
    if calls:
        return Ending("tool_use")
    if word in ("stop", "stop_sequence") and isinstance(matched, str) and matched:
        return Ending("stop_sequence", matched)
    return Ending("end_turn" if known == "tool_use" else known)
