"""Reads a choice of a chat completion, whole or a delta, as parts in their order. No I/O."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

TEXT, THINKING, CALL = "text", "thinking", "tool_use"


class Part(NamedTuple):
    """A piece of a text, of thinking or of a call's arguments; ``place`` is the provider's index of the call, if any."""

    kind: str
    text: str = ""
    place: int | None = None
    id: str = ""
    name: str = ""
    signature: str = ""


def parts(message: Mapping[str, Any]) -> Iterator[Part]:
    """Yield the parts of a delta or of a whole message: thinking, then text, then a refusal, then calls."""
    if thought := _thought(message):
        yield Part(THINKING, thought)
    if text := _text(message.get("content")):
        yield Part(TEXT, text)
    if refusal := _text(message.get("refusal")):
        yield Part(TEXT, refusal)
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else ():
        if isinstance(call, dict):
            yield _call(call)
    # The older form of a call; a message has at most one.
    if isinstance(function := message.get("function_call"), dict):
        yield _call({"index": 0, "function": function})


def _thought(message: Mapping[str, Any]) -> str:
    """Return the thinking of a message or delta.

    DeepSeek, Moonshot, Z.AI and older vLLM use ``reasoning_content``; OpenRouter, Groq, Together and vLLM ``reasoning``;
    Mistral a content part.
    """
    if text := _text(message.get("reasoning_content")) or _text(message.get("reasoning")):
        return text
    content = message.get("content")
    if not isinstance(content, list):
        return ""
    return "".join(_text(part.get("thinking")) for part in content if isinstance(part, dict))


def _text(content: object) -> str:
    """Return a text; the texts of a list of content parts (Mistral) are joined."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    return "".join(part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str))


def _call(call: Mapping[str, Any]) -> Part:
    function = call.get("function")
    function = function if isinstance(function, dict) else {}
    arguments, index = function.get("arguments"), call.get("index")
    if isinstance(arguments, dict):  # Ollama and some gateways send an object instead of a string
        arguments = json.dumps(arguments, ensure_ascii=False)
    extra = call.get("extra_content") or function.get("extra_content")
    google = extra.get("google") if isinstance(extra, dict) else None
    signature = google.get("thought_signature") if isinstance(google, dict) else None
    fields = call.get("provider_specific_fields") or function.get("provider_specific_fields")
    if signature is None and isinstance(fields, dict):
        signature = fields.get("thought_signature")
    return Part(
        CALL,
        arguments if isinstance(arguments, str) else "",
        index if isinstance(index, int) and not isinstance(index, bool) else None,
        call["id"] if isinstance(call.get("id"), str) else "",
        function["name"] if isinstance(function.get("name"), str) else "",
        signature if isinstance(signature, str) else "",
    )
