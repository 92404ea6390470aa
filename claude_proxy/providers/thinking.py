"""Removes or marks the thinking blocks of an Anthropic SSE stream. Bytes in, bytes out, no I/O."""

from collections.abc import Callable, Iterable
from typing import Any, TypeGuard

from claude_proxy.anthropic.errors import error_body, error_event
from claude_proxy.anthropic.messages import mark, response_without_thinking, to_json
from claude_proxy.anthropic.sse import EVENT_END, LINE_END, LONGEST_END, MAX_EVENT_SIZE, event_object
from claude_proxy.providers.compatibility import STRICT, Dialect, Thinking
from claude_proxy.providers.returned import returned_block, stop_reason

# Five rules, each with a property test:
#   1. an event that is not rewritten keeps its exact bytes;
#   2. the output depends on the bytes, not on how they are cut into chunks;
#   3. after a block is removed, later blocks are renumbered without gaps; before that, indices stay;
#   4. at most MAX_EVENT_SIZE bytes and one chunk are held back; a larger event passes unchanged;
#   5. no bytes from an upstream raise an exception.

MAX_INDEX = 2**31
THINKING_DELTAS = ("thinking_delta", "signature_delta")


class ThinkingFilter:
    """One per response: ``feed`` every chunk, then ``finish`` once.

    ``model`` is the client's model name. It replaces the name in ``message_start``, because Claude Code drops the signed
    thinking of a message whose model differs from the next request's. ``ids`` are the call ids of the conversation. ``problem``
    returns what is wrong with the response's end, once the end is known. ``row`` says whether thinking is removed, passed
    or marked. A marked block's whole signature is one delta before its end, because Claude Code keeps only the last one.
    """

    def __init__(
        self, model: str | None = None, row: Dialect = STRICT, ids: Iterable[str] = (), problem: Callable[[], str] = str
    ) -> None:
        self._model = model
        self._row = row
        self._taken = {*ids}
        self._problem = problem
        self._failed = False
        self._signatures: dict[int, list[str]] = {}
        self._calls = False
        self._held = bytearray()
        self._searched = 0
        self._oversized = False
        self._places: dict[int, int | None] = {}
        self._next = 0
        self._removed_any = False

    def feed(self, chunk: bytes) -> bytes:
        """Return the bytes that can be forwarded now: whole events, possibly none."""
        self._held += chunk
        out = bytearray()
        start = 0
        while True:
            end = EVENT_END.search(self._held, max(self._searched, start))
            # A line end at the very end of the data may still grow: "\n\r" into "\n\r\n", and so on.
            if end is None or (end.end() == len(self._held) and self._held[-1:] == b"\r"):
                break
            event = bytes(self._held[start : end.end()])
            out += event if self._oversized or len(event) > MAX_EVENT_SIZE else self._event(event)
            self._oversized = False
            start = self._searched = end.end()
        del self._held[:start]
        self._searched = max(0, len(self._held) - LONGEST_END)
        if len(self._held) > MAX_EVENT_SIZE:
            ready = len(self._held) - LONGEST_END
            out += self._held[:ready]
            del self._held[:ready]
            self._searched = 0
            self._oversized = True
        return bytes(out)

    def finish(self) -> bytes:
        """Return what is held back when the upstream ends: an incomplete event unchanged, unless it is thinking."""
        rest = bytes(self._held)
        self._held.clear()
        if self._oversized or not rest:
            return rest
        return self._event(rest)

    def _event(self, raw: bytes) -> bytes:
        data = event_object(raw)
        if data is None or self._failed:
            return b"" if self._failed else raw
        match data.get("type"):
            case "message_start":
                return self._message_start(raw, data)
            case "content_block_start":
                return self._block_start(raw, data)
            case "content_block_delta" | "content_block_stop":
                return self._block_event(raw, data)
            case "message_delta":
                return self._message_delta(raw, data)
        return raw

    def _message_start(self, raw: bytes, data: dict[str, Any]) -> bytes:
        message = data.get("message")
        if not isinstance(message, dict):
            return raw
        changed = response_without_thinking(message)
        if self._model is not None and changed.get("model") != self._model:
            changed = changed | {"model": self._model}
        return raw if changed is message else _rewritten(raw, data | {"message": changed})

    def _block_start(self, raw: bytes, data: dict[str, Any]) -> bytes:
        index, block = data.get("index"), data.get("content_block")
        if not _is_index(index):
            return raw
        returned = returned_block(block, self._row, self._taken) if isinstance(block, dict) else block
        if returned is None:
            self._places[index] = None
            self._removed_any = True
            return b""
        if isinstance(block, dict) and block.get("type") == "thinking" and returned is not block:
            # The signature at a block's start is ignored by clients: the mark is sent in the delta at the end.
            self._signatures[index] = [str(block.get("signature") or "")]
            returned = block
        self._calls = self._calls or (isinstance(returned, dict) and returned.get("type") == "tool_use")
        place = self._next if self._removed_any else index
        self._places[index] = place
        self._next = place + 1
        changed = returned is not block
        return self._renumbered(raw, data | {"content_block": returned} if changed else data, index, changed=changed)

    def _block_event(self, raw: bytes, data: dict[str, Any]) -> bytes:
        index, delta = data.get("index"), data.get("delta")
        if isinstance(delta, dict) and delta.get("type") in THINKING_DELTAS and self._row.thinking is Thinking.NONE:
            return b""
        if not _is_index(index) or index not in self._places:
            return raw
        if self._places[index] is None:
            return b""
        if index in self._signatures:
            if isinstance(delta, dict) and delta.get("type") == "signature_delta":
                self._signatures[index].append(str(delta.get("signature") or ""))
                return b""
            if data.get("type") == "content_block_stop":
                return self._marked_signature(index) + self._renumbered(raw, data, index)
        return self._renumbered(raw, data, index)

    def _marked_signature(self, index: int) -> bytes:
        delta = {"type": "signature_delta", "signature": mark(self._row.name, "".join(self._signatures.pop(index)))}
        event = {"type": "content_block_delta", "index": self._places[index], "delta": delta}
        return b"event: content_block_delta\ndata: " + to_json(event) + b"\n\n"

    def _message_delta(self, raw: bytes, data: dict[str, Any]) -> bytes:
        delta = data.get("delta")
        if not isinstance(delta, dict) or "stop_reason" not in delta:
            return raw
        if problem := self._problem():
            self._failed = True
            return error_event(to_json(error_body("api_error", problem)))
        reason = stop_reason(delta["stop_reason"], calls=self._calls)
        return raw if reason == delta["stop_reason"] else _rewritten(raw, data | {"delta": delta | {"stop_reason": reason}})

    def _renumbered(self, raw: bytes, data: dict[str, Any], index: int, *, changed: bool = False) -> bytes:
        place = self._places[index]
        return raw if place == index and not changed else _rewritten(raw, data | {"index": place})


def _is_index(index: object) -> TypeGuard[int]:
    """Whether this may be a block's index. The bound excludes numbers that are too long for arithmetic and output."""
    return isinstance(index, int) and 0 <= index <= MAX_INDEX


def _rewritten(raw: bytes, data: dict[str, Any]) -> bytes:
    """Return the event with other data; its other lines and its line endings are unchanged."""
    text = b"data: " + to_json(data)
    out = bytearray()
    written = False
    position = 0
    for end in LINE_END.finditer(raw):
        line = raw[position : end.end()]
        position = end.end()
        if not line.startswith(b"data:"):
            out += line
        elif not written:
            out += text + end.group()
            written = True
    if position < len(raw) and raw.startswith(b"data:", position):
        out += b"" if written else text
    else:
        out += raw[position:]
    return bytes(out)
