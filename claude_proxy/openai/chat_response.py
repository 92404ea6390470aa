"""Translates a whole chat completion to a message. Values in, values out, no I/O."""

from collections.abc import Mapping
from typing import Any

from claude_proxy.anthropic.messages import mark
from claude_proxy.anthropic.sse import json_object
from claude_proxy.anthropic.stream_writer import empty_message
from claude_proxy.anthropic.token_estimate import CHARACTERS_PER_TOKEN
from claude_proxy.anthropic.usage import Usage
from claude_proxy.openai.chat_stream import COMPLETE_REASONS, CallIds, RequestContext
from claude_proxy.openai.finish_reasons import ending
from claude_proxy.openai.inner_errors import inner_error
from claude_proxy.openai.open_blocks import Block
from claude_proxy.openai.parts import CALL, TEXT, THINKING, Part, parts
from claude_proxy.openai.sources import Sources
from claude_proxy.openai.think_tags import ThinkTags
from claude_proxy.openai.token_counts import usage_in
from claude_proxy.providers.compatibility import Thinking
from claude_proxy.providers.returned import CUT_SHORT


class NoMessage(Exception):
    """The provider's response contains no valid message. ``kind`` is Anthropic's error type; the text is for the client."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def message_of(completion: Mapping[str, Any], context: RequestContext) -> tuple[dict[str, Any], Usage | None]:
    """Return the message of a chat completion, and the provider's own token counts if any. Raises ``NoMessage``."""
    choices = completion.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    if error := inner_error(completion, choice):
        raise NoMessage(*error)
    message = choice.get("message")
    if not isinstance(message, dict):
        raise NoMessage("api_error", "the provider's response contains no message")
    content = _content(message, context)
    calls = any(block["type"] == CALL for block in content)
    # A whole response without a finish reason counts as ended by itself.
    ended = ending(choice.get("finish_reason") or "stop", choice.get("stop_reason") or choice.get("matched_stop"), calls=calls)
    if ended.problem:
        raise NoMessage("api_error", ended.problem)
    if ended.stop_reason not in CUT_SHORT and (
        broken := [one for one in content if one.get("input") is None and "input" in one]
    ):
        raise NoMessage("api_error", f"the arguments of a call of {broken[0]['name'][:100]} are not a JSON object")
    content = [one for one in content if one.get("input", {}) is not None]
    if (
        context.lists_sources
        and not calls
        and ended.stop_reason in COMPLETE_REASONS
        and content
        and content[-1]["type"] == TEXT
    ):
        sources = Sources()
        sources.take(completion, message)
        content[-1]["text"] += sources.text
    counted = usage_in(completion)
    length = sum(len(str(block)) for block in content)
    usage = counted or Usage(context.input_tokens(), max(1, length // CHARACTERS_PER_TOKEN))
    made = {"content": content, "stop_reason": ended.stop_reason, "stop_sequence": ended.stop_sequence}
    return empty_message(context.model, usage) | made, counted


def _content(message: Mapping[str, Any], context: RequestContext) -> list[dict[str, Any]]:
    """Return the content blocks; ``input`` is None for a call whose arguments are not a JSON object."""
    ids, content = CallIds(context), []
    for part in _split_thinking(message):
        if part.kind == TEXT and part.text.strip():
            content.append({"type": "text", "text": part.text})
        elif part.kind == THINKING and context.row.thinking is not Thinking.NONE:
            content.append({"type": "thinking", "thinking": part.text, "signature": mark(context.row.name, "")})
        elif part.kind == CALL and part.name:
            made: Any = json_object(part.text.encode("utf-8", "surrogatepass")) if part.text.strip() else {}
            call = ids.of(Block(CALL, id=part.id, signature=part.signature))
            content.append({"type": CALL, "id": call, "name": context.names.get(part.name, part.name), "input": made})
    return content


def _split_thinking(message: Mapping[str, Any]) -> list[Part]:
    found: list[Part] = []
    for part in parts(message):
        if part.kind == TEXT:
            tags = ThinkTags()
            found += [Part(kind, text) for kind, text in (*tags.feed(part.text), *tags.finish())]
        else:
            found.append(part)
    return found
