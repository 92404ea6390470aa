"""One response in Anthropic's format of a response that has several, with searches of the web between them. No I/O.

Thinking, ids and reasons are made to fit as in every other response (``thinking.py``, ``returned.py``). What is left is written
anew, for it becomes a part of one message.
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
# The field of a delta that continues a block, and the field of the block.
FIELDS = {
    "text_delta": ("text", "text"), "thinking_delta": ("thinking", "thinking"), "input_json_delta": ("partial_json", "input"),
}  # fmt: skip


@dataclass
class _Block:
    """A block as it began, and what its deltas told."""

    begun: dict[str, Any]
    signature: str = ""
    told: list[str] = field(default_factory=list)

    @property
    def kind(self) -> str:
        return str(self.begun.get("type"))

    @property
    def is_search(self) -> bool:
        return self.kind == CALL and self.begun.get("name") == NAME

    @property
    def input(self) -> dict[str, Any] | None:
        """The input of a call; None for one that is no object."""
        said = "".join(self.told)
        return json_object(said.encode("utf-8", "replace")) if said.strip() else {}

    def whole(self) -> dict[str, Any]:
        match self.kind:
            case "tool_use":
                return self.begun | {"input": self.input or {}}
            case "text":
                return self.begun | {"text": "".join(self.told)}
            case "thinking":
                return self.begun | {"thinking": "".join(self.told), "signature": self.signature}
        return self.begun


class MessagesRound:
    """See ``Round``. ``ids`` are those of the calls that the conversation has, ``tokens`` estimates the request's."""

    def __init__(self, writer: StreamWriter, row: Dialect, ids: Iterable[str], tokens: Callable[[], int]) -> None:
        self._writer = writer
        self._row = row
        self._ids = frozenset(ids)
        self._tokens = tokens
        self._filter = ThinkingFilter(None, row, self._ids)
        self._counts: dict[str, int] = {}
        # The blocks so far, each with what its deltas told; the last one may be open.
        self._content: list[_Block] = []
        self._is_open = False
        self._told: End | None = None
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
        return out + (self._finished() if self._told else self._writer.fail("api_error", BROKEN_OFF))

    def whole(self, said: Mapping[str, Any]) -> bytes:
        if error_kind(dict(said)):
            return self._error(said)
        if not isinstance(said.get("content"), list):
            return self._writer.fail("api_error", NO_MESSAGE)
        made = returned_response(dict(said), self._row, self._ids)
        self._counts |= token_counts(made)
        out = b"".join([self._begin(block) + self._close() for block in made["content"] if isinstance(block, dict)])
        self._told = _end(made)
        return out + self._finished()

    def begun(self) -> bytes:
        if self._writer.started:
            return b""
        return self._writer.start(self._counts.get("input_tokens") or self._tokens())

    def _read(self, events: bytes) -> bytes:
        return b"".join([self._event(said) for raw in whole_events(events) if (said := event_object(raw)) is not None])

    def _event(self, said: dict[str, Any]) -> bytes:
        if self.ended:
            return b""
        out = b""
        match said.get("type"):
            case "error":
                out = self._error(said)
            case "message_start" | "message_delta":
                self._counts |= token_counts(said)
                delta = said.get("delta")
                if isinstance(delta, dict) and delta.get("stop_reason") is not None:
                    self._told = _end(delta)
            case "content_block_start" if isinstance(said.get("content_block"), dict):
                out = self._begin(said["content_block"])
            case "content_block_delta" if isinstance(said.get("delta"), dict):
                out = self._delta(said["delta"])
            case "content_block_stop":
                out = self._close()
            case "message_stop" if self._told is not None:
                out = self._finished()
        return out

    def _begin(self, begun: dict[str, Any]) -> bytes:
        out = self._close()
        block = _Block(begun, str(begun.get("signature") or ""))
        self._content.append(block)
        self._is_open = True
        if block.is_search:
            return out
        out += self.begun()
        if block.kind == CALL:
            return out + self._writer.open(begun | {"input": {}})
        if block.kind not in ("text", "thinking"):
            return out + self._writer.open(begun)
        said = begun.get(block.kind)
        out += self._writer.open({"type": block.kind, block.kind: ""} | ({"signature": ""} if block.kind == "thinking" else {}))
        return out + (self._more(said) if isinstance(said, str) and said else b"")

    def _delta(self, delta: dict[str, Any]) -> bytes:
        if not self._is_open:
            return b""
        kind, block = str(delta.get("type")), self._content[-1]
        if kind == "signature_delta":
            block.signature = str(delta.get("signature") or "")
            return b""
        found = FIELDS.get(kind)
        said = delta.get(found[0]) if found and found[1] in block.begun else None
        return self._more(said) if isinstance(said, str) and said else b""

    def _more(self, said: str) -> bytes:
        block = self._content[-1]
        block.told.append(said)
        return b"" if block.is_search else self._writer.delta(said)

    def _close(self) -> bytes:
        """End the open block; a call whose input stood at its beginning tells it now."""
        if not self._is_open:
            return b""
        block, out = self._content[-1], b""
        if block.kind == CALL and not block.told and block.begun.get("input"):
            out = self._more(json.dumps(block.begun["input"], ensure_ascii=False))
        self._is_open = False
        if block.is_search:
            return out
        return out + self._writer.close(block.signature if block.kind == "thinking" else "")

    def _finished(self) -> bytes:
        out = self._close()
        self.end = self._told
        return out

    def _error(self, said: Mapping[str, Any]) -> bytes:
        error = said.get("error")
        message = error.get("message") if isinstance(error, dict) else None
        return self._writer.fail(error_kind(dict(said)), message if isinstance(message, str) else "no reason given")

    @property
    def searches(self) -> list[Call]:
        return [Call(str(block.begun.get("id")), block.input) for block in self._content if block.is_search]

    @property
    def has_others(self) -> bool:
        return any(block.kind == CALL and not block.is_search for block in self._content)

    def turn(self) -> list[dict[str, Any]]:
        return [block.whole() for block in self._content]

    @property
    def usage(self) -> Usage:
        length = sum(len(text) for block in self._content for text in block.told)
        return self.counted or Usage(self._tokens(), max(1, length // CHARACTERS_PER_TOKEN))

    @property
    def counted(self) -> Usage | None:
        return usage_from(self._counts) if self._counts else None


def _end(said: Mapping[str, Any]) -> End:
    reason, sequence = said.get("stop_reason"), said.get("stop_sequence")
    known = reason if isinstance(reason, str) and reason in STOP_REASONS else "end_turn"
    return End(known, sequence if isinstance(sequence, str) else None)
