"""Writes a Messages stream: events in Anthropic's order, one open block at a time. Values in, bytes out, no I/O.

The order: https://docs.claude.com/en/docs/build-with-claude/streaming. The caller must keep this order.
"""

import uuid
from typing import Any

from claude_proxy.anthropic.errors import error_body, error_event
from claude_proxy.anthropic.messages import to_json
from claude_proxy.anthropic.usage import Usage

# The delta type of each kind of block, and the field that the delta continues.
DELTAS = {
    "text": (b"text_delta", b"text"),
    "thinking": (b"thinking_delta", b"thinking"),
    "tool_use": (b"input_json_delta", b"partial_json"),
    "server_tool_use": (b"input_json_delta", b"partial_json"),
}


class StreamWriter:
    """One per response. ``model`` is the model name of the client's request."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._index = -1
        self._kind = ""
        self.started = False
        self.ended = False

    def start(self, input_tokens: int) -> bytes:
        """Start the message; ``input_tokens`` is the count known at this point."""
        self.started = True
        message = empty_message(self._model, Usage(input=input_tokens))
        return _event(b"message_start", b'"message":' + to_json(message))

    def open(self, block: dict[str, Any]) -> bytes:
        """Start a block; its text follows in deltas."""
        self._index += 1
        self._kind = block["type"]
        return _event(b"content_block_start", b'"index":%d,"content_block":%b' % (self._index, to_json(block)))

    def delta(self, text: str) -> bytes:
        """Continue the open block."""
        kind, field = DELTAS[self._kind]
        payload = b'"index":%d,"delta":{"type":"%b","%b":%b}' % (self._index, kind, field, to_json(text))
        return _event(b"content_block_delta", payload)

    def close(self, signature: str = "") -> bytes:
        """End the open block; a thinking block with its signature."""
        out = b""
        if signature:
            payload = b'"index":%d,"delta":{"type":"signature_delta","signature":%b}' % (self._index, to_json(signature))
            out = _event(b"content_block_delta", payload)
        self._kind = ""
        return out + _event(b"content_block_stop", b'"index":%d' % self._index)

    def end(self, stop_reason: str, stop_sequence: str | None, usage: Usage, searches: int | None = None) -> bytes:
        """End the message with its token counts; ``searches`` is the number of web searches."""
        self.ended = True
        delta = to_json({"stop_reason": stop_reason, "stop_sequence": stop_sequence})
        counted = counts(usage) if searches is None else {**counts(usage), "server_tool_use": {"web_search_requests": searches}}
        payload = b'"delta":%b,"usage":%b' % (delta, to_json(counted))
        return _event(b"message_delta", payload) + _event(b"message_stop", b"")

    def fail(self, kind: str, message: str) -> bytes:
        """End the stream with an error, at any point."""
        self.ended = True
        return error_event(to_json(error_body(kind, message)))


def empty_message(model: str, usage: Usage) -> dict[str, Any]:
    """Return a message without content."""
    return {
        "id": f"msg_{uuid.uuid4().hex}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": counts(usage),
    }


def counts(usage: Usage) -> dict[str, int]:
    """Return token counts under Anthropic's field names."""
    return {
        "input_tokens": usage.input,
        "cache_creation_input_tokens": usage.cache_write,
        "cache_read_input_tokens": usage.cache_read,
        "output_tokens": usage.output,
    }


def _event(kind: bytes, payload: bytes) -> bytes:
    return b'event: %b\ndata: {"type":"%b"%b%b}\n\n' % (kind, kind, b"," if payload else b"", payload)
