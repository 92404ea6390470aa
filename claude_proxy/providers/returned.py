"""Adapts another provider's response for the client: thinking blocks, call ids and the stop reason."""

from collections.abc import Iterable
from typing import Any

from claude_proxy.anthropic.messages import THINKING_TYPES, mark
from claude_proxy.providers.blocks import Block
from claude_proxy.providers.call_ids import new_id, safe_id
from claude_proxy.providers.compatibility import Dialect, Thinking

STOP_REASONS = (
    "end_turn", "max_tokens", "stop_sequence", "tool_use", "pause_turn", "refusal", "model_context_window_exceeded",
)  # fmt: skip
BROKEN_OFF = "the provider's response broke off before its end"
NO_MESSAGE = "the provider's response contains no message"
# With these stop reasons the response is incomplete or refused, so its calls must not run.
CUT_SHORT = ("max_tokens", "refusal", "model_context_window_exceeded")


def returned_block(block: Block, row: Dialect, taken: set[str] | None = None) -> Block | None:
    """Return a block of a response for the client; None for thinking that no later request could use.

    The provider's own thinking gets a signature with the provider's name, so that later requests send it to this provider only.
    A call without an id gets one, and an id that not every provider accepts is encoded. An id in ``taken`` is replaced, because
    some servers reuse ids in each response and Claude Code then loses every later result.
    """
    kind = block.get("type")
    if kind in THINKING_TYPES:
        if row.thinking in (Thinking.NONE, Thinking.CLAUDE):
            return block if row.thinking is Thinking.CLAUDE else None
        field = "signature" if kind == "thinking" else "data"
        return block | {field: mark(row.name, str(block.get(field) or ""))}
    if kind == "tool_use":
        return _returned_call(block, set() if taken is None else taken)
    return block


def _returned_call(block: Block, taken: set[str]) -> Block:
    given = block.get("id")
    call = given if isinstance(given, str) and given and safe_id(given) not in taken else new_id()
    taken.add(safe_id(call))
    made = {name: value for name, value in block.items() if name != "provider_specific_fields"} | {"id": safe_id(call)}
    return block if made == block else made


def stop_reason(reason: object, *, calls: bool) -> str:
    """Return Anthropic's name of the reason. LiteLLM reports ``end_turn`` or nothing for some responses with tool calls."""
    known = reason if isinstance(reason, str) and reason in STOP_REASONS else "end_turn"
    if calls:
        return known if known in CUT_SHORT else "tool_use"
    return "end_turn" if known == "tool_use" else known


def returned_response(response: dict[str, Any], row: Dialect, ids: Iterable[str] = ()) -> dict[str, Any]:
    """Return a whole response for the client; the same object if nothing changed.

    ``ids`` are the call ids of the conversation.
    """
    content = response.get("content")
    if not isinstance(content, list):
        return response
    taken = {*ids}
    returned = (returned_block(block, row, taken) if isinstance(block, dict) else block for block in content)
    blocks = [made for made in returned if made is not None]
    calls = any(isinstance(block, dict) and block.get("type") == "tool_use" for block in blocks)
    made = response | {"content": blocks, "stop_reason": stop_reason(response.get("stop_reason"), calls=calls)}
    return response if made == response else made
