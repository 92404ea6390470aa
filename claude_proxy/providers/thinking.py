"""Take the thinking blocks out of an Anthropic SSE stream, or mark those that are kept. Bytes in, bytes out, no I/O."""

from collections.abc import Callable, Iterable
from typing import Any, TypeGuard

from claude_proxy.anthropic.errors import error_body, error_event
from claude_proxy.anthropic.messages import mark, response_without_thinking, to_json
from claude_proxy.anthropic.sse import EVENT_END, LINE_END, LONGEST_END, MAX_EVENT_SIZE, event_object
from claude_proxy.providers.compatibility import STRICT, Dialect, Thinking
from claude_proxy.providers.returned import returned_block, stop_reason

# Five rules, each with a property test:
#   1. an event that is not rewritten leaves in the exact bytes it came in;
#   2. the output depends on the bytes, never on how they were cut into chunks;
#   3. blocks that stay are renumbered without gaps once a block has been taken out, and not before;
#   4. at most MAX_EVENT_SIZE bytes and one chunk are held back; an event that is larger passes as it is;
#   5. nothing that an upstream can send raises.

MAX_INDEX = 2**31
THINKING_DELTAS = ("thinking_delta", "signature_delta")


class ThinkingFilter:
    """One per response: ``feed`` every chunk, then ``finish`` once.

    ``model`` is the name that the client asked for: it replaces another one in ``message_start``, because Claude Code drops the
    signed thinking of a message that names another model than the next request. ``ids`` are those of the calls that the
    conversation has, ``problem`` says what is wrong with an end, once it is told. ``row`` says whether the provider's thinking
    is taken out, passes, or is kept under the proxy's mark: then a block's whole signature is one delta in front of its end,
    because in Claude Code each replaces the one before.
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
        """Return what is safe to forward now: no event, one, or several, always whole."""
        self._held += chunk
        out = bytearray()
        start = 0
        while True:
            end = EVENT_END.search(self._held, max(self._searched, start))
            # An end at the very end of the data may still grow: "\n\r" into "\n\r\n", and so on.
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
        """Return what is still held back when the upstream ends: half an event leaves as it is, unless it is thinking."""
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
        mended = response_without_thinking(message)
        if self._model is not None and mended.get("model") != self._model:
            mended = mended | {"model": self._model}
        return raw if mended is message else _rewritten(raw, data | {"message": mended})

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
            # What a block's start says of its signature is ignored: the mark goes with the delta at the end.
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
    """Whether this may be a block's number; one of thousands of digits could be read and not be counted on."""
    return isinstance(index, int) and 0 <= index <= MAX_INDEX


def _rewritten(raw: bytes, data: dict[str, Any]) -> bytes:
    """Return the event with other data: every other line and every line's end stay as they came."""
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
