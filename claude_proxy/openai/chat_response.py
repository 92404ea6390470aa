"""A whole chat completion as a whole message. Values in, values out, no I/O."""

from collections.abc import Mapping
from typing import Any

from claude_proxy.anthropic.messages import mark
from claude_proxy.anthropic.sse import json_object
from claude_proxy.anthropic.stream_writer import empty_message
from claude_proxy.anthropic.token_estimate import CHARACTERS_PER_TOKEN
from claude_proxy.anthropic.usage import Usage
from claude_proxy.openai.chat_stream import BY_ITSELF, CallIds, Told
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
    """What the provider answered is no message. ``kind`` is Anthropic's type of the error, the text is for the client."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def message_of(said: Mapping[str, Any], told: Told) -> tuple[dict[str, Any], Usage | None]:
    """Return the message of a chat completion, and the provider's own counts if it gave some. Raises ``NoMessage``."""
    choices = said.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    if error := inner_error(said, choice):
        raise NoMessage(*error)
    answer = choice.get("message")
    if not isinstance(answer, dict):
        raise NoMessage("api_error", "the provider answered with what is no message")
    content = _content(answer, told)
    calls = any(block["type"] == CALL for block in content)
    # A whole answer is one, also where nobody says why it ended.
    ended = ending(choice.get("finish_reason") or "stop", choice.get("stop_reason") or choice.get("matched_stop"), calls=calls)
    if ended.problem:
        raise NoMessage("api_error", ended.problem)
    if ended.stop_reason not in CUT_SHORT and (
        broken := [one for one in content if one.get("input") is None and "input" in one]
    ):
        raise NoMessage("api_error", f"the arguments of a call of {broken[0]['name'][:100]} are not a JSON object")
    content = [one for one in content if one.get("input", {}) is not None]
    if told.lists_sources and not calls and ended.stop_reason in BY_ITSELF and content and content[-1]["type"] == TEXT:
        sources = Sources()
        sources.take(said, answer)
        content[-1]["text"] += sources.text
    counted = usage_in(said)
    length = sum(len(str(block)) for block in content)
    usage = counted or Usage(told.input_tokens(), max(1, length // CHARACTERS_PER_TOKEN))
    made = {"content": content, "stop_reason": ended.stop_reason, "stop_sequence": ended.stop_sequence}
    return empty_message(told.model, usage) | made, counted


def _content(answer: Mapping[str, Any], told: Told) -> list[dict[str, Any]]:
    """Return the blocks; ``input`` is None for a call whose arguments are no object."""
    ids, content = CallIds(told), []
    for part in _told_apart(answer):
        if part.kind == TEXT and part.text.strip():
            content.append({"type": "text", "text": part.text})
        elif part.kind == THINKING and told.row.thinking is not Thinking.NONE:
            content.append({"type": "thinking", "thinking": part.text, "signature": mark(told.row.name, "")})
        elif part.kind == CALL and part.name:
            made: Any = json_object(part.text.encode("utf-8", "surrogatepass")) if part.text.strip() else {}
            call = ids.of(Block(CALL, id=part.id, signature=part.signature))
            content.append({"type": CALL, "id": call, "name": told.names.get(part.name, part.name), "input": made})
    return content


def _told_apart(answer: Mapping[str, Any]) -> list[Part]:
    found: list[Part] = []
    for part in parts(answer):
        if part.kind == TEXT:
            tags = ThinkTags()
            found += [Part(kind, text) for kind, text in (*tags.feed(part.text), *tags.finish())]
        else:
            found.append(part)
    return found
