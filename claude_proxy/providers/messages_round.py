"""One response in Anthropic's format, of several with web searches between them. No I/O.

Thinking, ids and stop reasons are adapted as in every other response (``thinking.py``, ``returned.py``). The events are written
again, because they become a part of one message.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from claude_proxy.anthropic.search_blocks import NAME
from claude_proxy.anthropic.sse import error_kind, event_object, json_object, whole_events
from claude_proxy.anthropic.stream_writer import StreamWriter
from claude_proxy.anthropic.token_estimate import CHARACTERS_PER_TOKEN
from claude_proxy.anthropic.usage import Usage, token_counts, usage_from
from claude_proxy.providers.compatibility import Dialect
from claude_proxy.providers.returned import BROKEN_OFF, NO_MESSAGE, STOP_REASONS, returned_response
from claude_proxy.providers.search_stream import Call, End
from claude_proxy.providers.thinking import ThinkingFilter

CALL = "tool_use"
# For each type of delta: its field, and the field of the block that it continues.
FIELDS = {
    "text_delta": ("text", "text"), "thinking_delta": ("thinking", "thinking"), "input_json_delta": ("partial_json", "input"),
}  # fmt: skip


@dataclass
class _Block:
    """A block as it started, and the pieces from its deltas."""

    start: dict[str, Any]
    signature: str = ""
    pieces: list[str] = field(default_factory=list)

    @property
    def kind(self) -> str:
        return str(self.start.get("type"))

    @property
    def is_search(self) -> bool:
        return self.kind == CALL and self.start.get("name") == NAME

    @property
    def input(self) -> dict[str, Any] | None:
        """The input of a call; None if it is not a JSON object."""
        text = "".join(self.pieces)
        return json_object(text.encode("utf-8", "replace")) if text.strip() else {}

    def whole(self) -> dict[str, Any]:
        match self.kind:
            case "tool_use":
                return self.start | {"input": self.input or {}}
            case "text":
                return self.start | {"text": "".join(self.pieces)}
            case "thinking":
                return self.start | {"thinking": "".join(self.pieces), "signature": self.signature}
        return self.start


class MessagesRound:
    """See ``Round``. ``ids`` are the call ids of the conversation; ``tokens`` estimates the request's tokens."""

    def __init__(self, writer: StreamWriter, row: Dialect, ids: Iterable[str], tokens: Callable[[], int]) -> None:
        self._writer = writer
        self._row = row
        self._ids = frozenset(ids)
        self._tokens = tokens
        self._filter = ThinkingFilter(None, row, self._ids)
        self._counts: dict[str, Any] = {}
        # The blocks so far; the last one may be open.
        self._content: list[_Block] = []
        self._is_open = False
        self._stop: End | None = None
        self.end: End | None = None

    @property
    def ended(self) -> bool:
        return self._writer.ended or self.end is not None

    def feed(self, chunk: bytes) -> bytes:
        return self._read(self._filter.feed(chunk))

    def finish(self) -> bytes:
        out = self._read(self._filter.finish())
        if self.ended:
            return out
        return out + (self._finished() if self._stop else self._writer.fail("api_error", BROKEN_OFF))

    def feed_whole(self, message: Mapping[str, Any]) -> bytes:
        if error_kind(dict(message)):
            return self._error(message)
        if not isinstance(message.get("content"), list):
            return self._writer.fail("api_error", NO_MESSAGE)
        made = returned_response(dict(message), self._row, self._ids)
        self._counts |= token_counts(made)
        out = b"".join([self._begin(block) + self._close() for block in made["content"] if isinstance(block, dict)])
        self._stop = _end(made)
        return out + self._finished()

    def start_message(self) -> bytes:
        if self._writer.started:
            return b""
        return self._writer.start(self._counts.get("input_tokens") or self._tokens())

    def _read(self, events: bytes) -> bytes:
        return b"".join([self._event(event) for raw in whole_events(events) if (event := event_object(raw)) is not None])

    def _event(self, event: dict[str, Any]) -> bytes:
        if self.ended:
            return b""
        out = b""
        match event.get("type"):
            case "error":
                out = self._error(event)
            case "message_start" | "message_delta":
                self._counts |= token_counts(event)
                delta = event.get("delta")
                if isinstance(delta, dict) and delta.get("stop_reason") is not None:
                    self._stop = _end(delta)
            case "content_block_start" if isinstance(event.get("content_block"), dict):
                out = self._begin(event["content_block"])
            case "content_block_delta" if isinstance(event.get("delta"), dict):
                out = self._delta(event["delta"])
            case "content_block_stop":
                out = self._close()
            case "message_stop" if self._stop is not None:
                out = self._finished()
        return out

    def _begin(self, start: dict[str, Any]) -> bytes:
        out = self._close()
        block = _Block(start, str(start.get("signature") or ""))
        self._content.append(block)
        self._is_open = True
        if block.is_search:
            return out
        out += self.start_message()
        if block.kind == CALL:
            return out + self._writer.open(start | {"input": {}})
        if block.kind not in ("text", "thinking"):
            return out + self._writer.open(start)
        text = start.get(block.kind)
        out += self._writer.open({"type": block.kind, block.kind: ""} | ({"signature": ""} if block.kind == "thinking" else {}))
        return out + (self._more(text) if isinstance(text, str) and text else b"")

    def _delta(self, delta: dict[str, Any]) -> bytes:
        if not self._is_open:
            return b""
        kind, block = str(delta.get("type")), self._content[-1]
        if kind == "signature_delta":
            block.signature = str(delta.get("signature") or "")
            return b""
        found = FIELDS.get(kind)
        text = delta.get(found[0]) if found and found[1] in block.start else None
        return self._more(text) if isinstance(text, str) and text else b""

    def _more(self, text: str) -> bytes:
        block = self._content[-1]
        block.pieces.append(text)
        return b"" if block.is_search else self._writer.delta(text)

    def _close(self) -> bytes:
        """End the open block; a call whose input was in its first event writes the input now."""
        if not self._is_open:
            return b""
        block, out = self._content[-1], b""
        if block.kind == CALL and not block.pieces and block.start.get("input"):
            out = self._more(json.dumps(block.start["input"], ensure_ascii=False))
        self._is_open = False
        if block.is_search:
            return out
        return out + self._writer.close(block.signature if block.kind == "thinking" else "")

    def _finished(self) -> bytes:
        out = self._close()
        self.end = self._stop
        return out

    def _error(self, event: Mapping[str, Any]) -> bytes:
        error = event.get("error")
        message = error.get("message") if isinstance(error, dict) else None
        return self._writer.fail(error_kind(dict(event)), message if isinstance(message, str) else "no reason given")

    @property
    def searches(self) -> list[Call]:
        return [Call(str(block.start.get("id")), block.input) for block in self._content if block.is_search]

    @property
    def has_client_calls(self) -> bool:
        return any(block.kind == CALL and not block.is_search for block in self._content)

    def turn(self) -> list[dict[str, Any]]:
        return [block.whole() for block in self._content]

    @property
    def usage(self) -> Usage:
        length = sum(len(text) for block in self._content for text in block.pieces)
        return self.counted or Usage(self._tokens(), max(1, length // CHARACTERS_PER_TOKEN))

    @property
    def counted(self) -> Usage | None:
        return usage_from(self._counts) if self._counts else None


def _end(message: Mapping[str, Any]) -> End:
    reason, sequence = message.get("stop_reason"), message.get("stop_sequence")
    known = reason if isinstance(reason, str) and reason in STOP_REASONS else "end_turn"
    return End(known, sequence if isinstance(sequence, str) else None)
