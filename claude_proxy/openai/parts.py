"""What a choice of a chat completion holds, whole or as a delta, as parts in the order in which they are told. No I/O."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

TEXT, THINKING, CALL = "text", "thinking", "tool_use"


class Part(NamedTuple):
    """A piece of a text, of thinking or of a call's arguments; ``place`` says of which call, where the provider says so."""

    kind: str
    text: str = ""
    place: int | None = None
    id: str = ""
    name: str = ""
    signature: str = ""


def parts(said: Mapping[str, Any]) -> Iterator[Part]:
    """Yield the parts of a delta, or of a whole message: thinking, then text, then a refusal, then calls."""
    if thought := _thought(said):
        yield Part(THINKING, thought)
    if text := _text(said.get("content")):
        yield Part(TEXT, text)
    if refusal := _text(said.get("refusal")):
        yield Part(TEXT, refusal)
    calls = said.get("tool_calls")
    for call in calls if isinstance(calls, list) else ():
        if isinstance(call, dict):
            yield _call(call)
    # The older form of a call, of which there is one.
    if isinstance(function := said.get("function_call"), dict):
        yield _call({"index": 0, "function": function})


def _thought(said: Mapping[str, Any]) -> str:
    """DeepSeek, Moonshot, Z.AI and older vLLM say ``reasoning_content``; OpenRouter, Groq, Together and vLLM ``reasoning``.

    Mistral's stands among the parts of the content.
    """
    if text := _text(said.get("reasoning_content")) or _text(said.get("reasoning")):
        return text
    content = said.get("content")
    if not isinstance(content, list):
        return ""
    return "".join(_text(part.get("thinking")) for part in content if isinstance(part, dict))


def _text(content: object) -> str:
    """Return a text; of a list of content parts (Mistral's) the texts, one after the other."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    return "".join(part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str))


def _call(call: Mapping[str, Any]) -> Part:
    function = call.get("function")
    function = function if isinstance(function, dict) else {}
    arguments, index = function.get("arguments"), call.get("index")
    if isinstance(arguments, dict):  # Ollama and some gateways do not write them as text
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
