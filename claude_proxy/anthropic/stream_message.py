"""Assembles the message of a stream, for a client that did not request a stream. No I/O."""

from typing import Any

from claude_proxy.anthropic.messages import readable_json
from claude_proxy.anthropic.sse import events, json_object

# The field of a block that each kind of delta continues.
_TEXTS = {"text_delta": "text", "thinking_delta": "thinking", "signature_delta": "signature"}


def message_of(stream: bytes) -> dict[str, Any] | None:
    """Return a stream's message, or its first error event; None for an incomplete stream and for anything else.

    Events and their meaning: https://docs.claude.com/en/docs/build-with-claude/streaming.
    """
    message: dict[str, Any] | None = None
    blocks: dict[int, _Block] = {}
    for data in filter(None, map(json_object, events(stream))):
        match data.get("type"):
            case "error":
                return data
            case "message_start":
                message = _fields(data.get("message"))
            case "message_delta" if message is not None:
                usage = _fields(message.get("usage")) | _fields(data.get("usage"))
                message = message | _fields(data.get("delta")) | {"usage": usage}
            case "message_stop" if message is not None:
                return message | {"content": [block.whole() for _, block in sorted(blocks.items())]}
            case "content_block_start" | "content_block_delta":
                _continue(blocks, data)
    return None


def body_of(stream: bytes) -> bytes:
    """Return the stream's message as the body of a response, or the stream itself if it has no message."""
    message = message_of(stream)
    return stream if message is None else readable_json(message)


def _continue(blocks: dict[int, "_Block"], data: dict[str, Any]) -> None:
    index = data.get("index")
    if not isinstance(index, int):
        return
    if data["type"] == "content_block_start":
        blocks[index] = _Block(_fields(data.get("content_block")))
    elif index in blocks:
        blocks[index].add(_fields(data.get("delta")))


class _Block:
    """A content block whose parts are joined once, at its end."""

    def __init__(self, start: dict[str, Any]) -> None:
        self._start = start
        self._parts: dict[str, list[str]] = {}
        self._citations: list[Any] = []

    def add(self, delta: dict[str, Any]) -> None:
        kind = str(delta.get("type"))
        field = _TEXTS.get(kind) or ("partial_json" if kind == "input_json_delta" else "")
        if field:
            self._parts.setdefault(field, []).append(str(delta.get(field) or ""))
        elif kind == "citations_delta":
            self._citations.append(delta.get("citation"))

    def whole(self) -> dict[str, Any]:
        block = dict(self._start)
        for field, parts in self._parts.items():
            text = "".join(parts)
            if field == "partial_json":
                block["input"] = (json_object(text.encode("utf-8", "replace")) or {}) if text else _fields(block.get("input"))
            elif field == "signature":
                block[field] = parts[-1]  # each signature replaces the one before
            else:
                block[field] = str(block.get(field) or "") + text
        if self._citations:
            start = block.get("citations")
            block["citations"] = [*(start if isinstance(start, list) else []), *self._citations]
        return block


def _fields(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
