"""Relays an upstream's stream as it arrives: Claude's bytes unchanged, other providers' without thinking."""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing
from itertools import islice
from typing import Any, Literal, Protocol

import msgspec

from claude_proxy.anthropic.errors import error_event
from claude_proxy.anthropic.sse import KEEPALIVE, error_of, first_event_end
from claude_proxy.anthropic.usage import StreamSummary, Usage
from claude_proxy.providers.thinking import ThinkingFilter
from claude_proxy.proxy.response import ClientResponse

# How long the status waits for the first event, which may be an error that allows a retry or a fallback.
FIRST_EVENT_SECONDS = 5.0
# The optional start of a text in UTF-8.
_BYTE_ORDER_MARK = "\ufeff"
_DECODER = json.JSONDecoder()
_MODEL = re.compile(rb'"model"\s*:\s*("(?:[^"\\]++|\\.)*+")')
_SPACE = re.compile(r"[ \t\n\r]*")
NO_EVENT = b'{"type": "error", "error": {"type": "api_error", "message": "The provider sent a response without any event."}}'
# A larger first event is not inspected.
MAX_FIRST_EVENT = 1024 * 1024

# The maximum size of the copy for LiteLLM's logging.
MAX_COPY = 32 * 1024 * 1024

# Attributes in which LiteLLM's streams keep the stream that they wrap, and the maximum depth.
_INNER_STREAMS = ("_source_iterator", "_anthropic_wrapper", "completion_stream", "_stream")
_DEEPEST_STREAM = 6


class StreamEditor(Protocol):
    """Edits the events of a stream: ``feed`` every chunk, then ``finish`` once."""

    def feed(self, chunk: bytes) -> bytes: ...

    def finish(self) -> bytes: ...


class FailedStream(Exception):
    """The first event of a stream is an error, and the client has received nothing. ``body`` is that event."""

    def __init__(self, kind: str, body: bytes) -> None:
        super().__init__(kind)
        self.kind = kind
        self.body = body


class StreamCapture:
    """Collects data about a relayed stream: a summary, and a bounded copy if LiteLLM's logging needs one."""

    def __init__(self, *, copies: bool = False) -> None:
        self.summary = StreamSummary()
        self._copy: bytearray | None = bytearray() if copies else None
        self._first = b""

    def feed(self, chunk: bytes) -> None:
        self.summary.feed(chunk)
        if self._copy is not None:
            self._copy += chunk
            if len(self._copy) > MAX_COPY:
                self._first = bytes(self._copy[: first_event_end(self._copy[:MAX_FIRST_EVENT])])
                self._copy = None

    @property
    def copy(self) -> bytes:
        """The copy for LiteLLM's logging; of a stream beyond ``MAX_COPY`` only its first event, its usage and its end."""
        return bytes(self._copy) if self._copy is not None else self._first + _ending(self.summary.usage)


def _ending(usage: Usage) -> bytes:
    counts = {"input_tokens": usage.input, "output_tokens": usage.output}
    counts |= {"cache_read_input_tokens": usage.cache_read, "cache_creation_input_tokens": usage.cache_write}
    delta = {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": counts}
    ended = json.dumps(delta).encode()
    return b"event: message_delta\ndata: " + ended + b'\n\nevent: message_stop\ndata: {"type":"message_stop"}\n\n'


class _Message(msgspec.Struct):
    type: Literal["message"]
    model: msgspec.Raw


_MESSAGE = msgspec.json.Decoder(_Message)


class Renaming:
    """Replaces the model name in a response of Claude with the name that the client requested: a ``StreamEditor``.

    Claude Code drops the signed thinking of a message whose model differs from its next request. A dated form of the name is
    the same model (``claude-sonnet-4-5`` responds as ``claude-sonnet-4-5-20250929``); any other name, such as a server-side
    fallback's, is kept. Every other byte is unchanged; only the first event of a stream is held back until it is complete.
    """

    def __init__(self, replacement: bytes, names: re.Pattern[bytes]) -> None:
        """``names`` matches the names to replace. Both arguments are JSON strings with their quotes."""
        self._replacement = replacement
        self._names = names
        self._held: bytearray | None = bytearray()
        self._searched = 0

    def feed(self, chunk: bytes) -> bytes:
        if self._held is None:
            return chunk
        self._held += chunk
        end = first_event_end(self._held, self._searched)
        self._searched = len(self._held)
        if not end and len(self._held) <= MAX_FIRST_EVENT:
            return b""
        held, self._held = bytes(self._held), None
        if b"message_start" not in held[:end]:
            return held
        found = next((one for one in _MODEL.finditer(held, 0, end) if self._names.fullmatch(held, *one.span(1))), None)
        return self._renamed(held, *found.span(1)) if found else held

    def finish(self) -> bytes:
        held, self._held = bytes(self._held or b""), None
        return held

    def whole(self, body: bytes) -> bytes:
        """Return a message with the name replaced; any other body is returned unchanged.

        A tool's input may contain the same pair, so only the members of the outermost object are examined.
        """
        found = [*islice(self._names.finditer(body), 2)]
        if not found:
            return body
        try:
            if len(found) == 1 and bytes(_MESSAGE.decode(body).model) == found[0][0]:
                return self._renamed(body, *found[0].span())
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            pass  # no message, or one that only Python's decoder reads
        try:
            text = body.decode("utf-8", "surrogatepass")
            members = [*top_level_members(text)]
        except (ValueError, RecursionError):
            return body
        last = {name: (value, span) for name, value, span in members}
        if "model" not in last or last.get("type", ("",))[0] != "message":
            return body
        start, end = last["model"][1]
        before = len(text[:start].encode("utf-8", "surrogatepass"))
        after = before + len(text[start:end].encode("utf-8", "surrogatepass"))
        return self._renamed(body, before, after) if self._names.fullmatch(body, before, after) else body

    def _renamed(self, text: bytes, start: int, end: int) -> bytes:
        return text[:start] + self._replacement + text[end:]


def top_level_members(text: str) -> Iterator[tuple[str, Any, tuple[int, int]]]:
    """Yield name, value and position of the value for each member of a JSON object, in one pass over the text.

    Raises ``ValueError`` if the text is not exactly one JSON object; a name may occur more than once.
    """
    position = _after_space(text, 1 if text.startswith(_BYTE_ORDER_MARK) else 0)
    mark, position = text[position : position + 1], _after_space(text, position + 1)
    if mark == "{" and text[position : position + 1] == "}":
        mark, position = "}", position + 1
    elif mark != "{":
        raise ValueError("not an object")
    while mark != "}":
        name, position = _DECODER.raw_decode(text, position)
        position = _after_space(text, position)
        if not isinstance(name, str) or text[position : position + 1] != ":":
            raise ValueError("not a member")
        start = _after_space(text, position + 1)
        value, end = _DECODER.raw_decode(text, start)
        yield name, value, (start, end)
        position = _after_space(text, end)
        mark, position = text[position : position + 1], _after_space(text, position + 1)
        if mark not in (",", "}"):
            raise ValueError("unterminated member")
    if _after_space(text, position) != len(text):
        raise ValueError("text after the object")


def _after_space(text: str, position: int) -> int:
    found = _SPACE.match(text, position)
    return found.end() if found else position


# Returns the next data of a stream, empty at its end. Cancelling it loses no data.
Read = Callable[[], Awaitable[bytes]]


async def relayed(
    read: Read,
    outlet: ClientResponse,
    editor: StreamEditor,
    capture: StreamCapture,
    *,
    begin: Callable[[], Awaitable[None]],
    keepalive: float | None = None,
    needs_event: bool = False,
    is_encoded: bool = False,
) -> None:
    """Send a stream to the client as it arrives, and feed ``capture`` with the upstream's bytes.

    ``begin`` sends the status after the first event, or after ``FIRST_EVENT_SECONDS``. Raises ``FailedStream`` if that event is
    an error. Later errors of the upstream are raised unchanged, and the client's response is then left without an end. With
    ``keepalive``, a keep-alive is sent after that many seconds of silence. With ``needs_event``, a stream without a complete
    event has failed, too. With ``is_encoded``, ``editor`` returns the events that it is fed in another format.
    """
    silence = _Silence(FIRST_EVENT_SECONDS)
    begun, beginning = False, bytearray()
    try:
        while (chunk := await (silence.ends(read) if silence.is_limited else read())) != b"":
            ready = b""
            if chunk is not None:
                capture.feed(chunk)
                ready = editor.feed(chunk)
            if not begun:
                beginning += chunk or b""
                if chunk is not None and not _starts_without_error(beginning, len(beginning) - len(chunk)):
                    continue
                begun = True
                await begin()
                silence.restart(keepalive)
            if ready or silence.is_due():
                await (outlet.write(ready, content=chunk) if is_encoded else outlet.write(ready or KEEPALIVE))
                silence.beat()
    finally:
        silence.close()
    capture.summary.finish()
    if not begun:
        if needs_event and not first_event_end(beginning):
            raise FailedStream("api_error", error_event(NO_EVENT))
        await begin()
    await outlet.write(editor.finish())
    await outlet.end()


async def filtered(
    first: bytes, chunks: AsyncIterator[bytes], thinking: ThinkingFilter, keepalive: float
) -> AsyncGenerator[bytes, None]:
    """Yield a stream without its thinking, and a keep-alive after ``keepalive`` seconds of silence."""
    pulse = _Pulse(keepalive)
    try:
        if ready := thinking.feed(first):
            yield ready
        async with aclosing(timed(chunks, pulse.left)) as arriving:
            async for chunk in arriving:
                ready = b"" if chunk is None else thinking.feed(chunk)
                if ready or pulse.is_due():
                    yield ready or KEEPALIVE
                    pulse.beat()
        if rest := thinking.finish():
            yield rest
    finally:
        await close_stream(chunks)


class _Pulse:
    """The remaining time of a silence, in seconds; None for no limit."""

    def __init__(self, limit: float | None) -> None:
        self._loop = asyncio.get_running_loop()
        self.restart(limit)

    def restart(self, limit: float | None) -> None:
        self._limit = limit
        self.beat()

    @property
    def is_limited(self) -> bool:
        return self._limit is not None

    def beat(self) -> None:
        if self._limit is not None:
            self._last = self._loop.time()

    def left(self) -> float | None:
        return None if self._limit is None else max(0.0, self._last + self._limit - self._loop.time())

    def is_due(self) -> bool:
        return self.left() == 0.0


class _Silence(_Pulse):
    """Waits for a stream's chunks, at most for the limit of a silence. It uses one timer per stream, not one per chunk.

    1. The timer starts at the first wait after it has expired; a beat does not move it.
    2. When it expires before the limit, it is set again for the rest; at the limit, it cancels the wait and nothing else.
    3. If somebody else has cancelled the task too, the task ends.
    """

    def __init__(self, limit: float | None) -> None:
        self._task = asyncio.current_task()
        self._timer: asyncio.TimerHandle | None = None
        self._waits = False
        self._interrupted = False
        super().__init__(limit)

    async def ends(self, read: Read) -> bytes | None:
        """Return the next data; None if nothing arrived within the limit, which there is."""
        if self._timer is None:
            self._timer = self._loop.call_at(self._last + (self._limit or 0.0), self._run_out)
        self._waits = True
        try:
            return await read()
        except asyncio.CancelledError:
            if not self._interrupted or self._task is None or self._task.uncancel():
                raise
            return None
        finally:
            self._waits = self._interrupted = False

    def restart(self, limit: float | None) -> None:
        super().restart(limit)
        self.close()

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _run_out(self) -> None:
        self._timer = None
        left = self.left()
        if left:
            self._timer = self._loop.call_later(left, self._run_out)
        elif left is not None and self._waits and self._task is not None:
            self._interrupted = self._task.cancel()


def _starts_without_error(stream: bytearray, searched: int) -> bool:
    """Return whether the first event is complete; raise ``FailedStream`` if it is an error.

    The first ``searched`` bytes are known to contain no end of an event.
    """
    end = first_event_end(stream, searched)
    if not end:
        return len(stream) > MAX_FIRST_EVENT
    kind = error_of(bytes(stream[:end]))
    if kind:
        raise FailedStream(kind, bytes(stream[:end]))
    return True


async def timed(chunks: AsyncIterator[bytes], patience: Callable[[], float | None]) -> AsyncGenerator[bytes | None, None]:
    """Yield the chunks, and None after each ``patience()`` seconds without one; a patience of None waits without limit."""
    pending: asyncio.Future[bytes] | None = None
    done: asyncio.Future[bytes] | None = None
    try:
        while True:
            limit = patience()
            try:
                if pending is None and limit is None:
                    yield await anext(chunks)  # without a timer, no task is needed
                    continue
                pending = pending or asyncio.ensure_future(anext(chunks))
                await asyncio.wait({pending}, timeout=limit)
                if not pending.done():
                    yield None
                    continue
                done, pending = pending, None
                yield done.result()
            except StopAsyncIteration:
                done = None  # its exception references this frame
                return
    finally:
        if pending is not None:
            pending.cancel()
            await asyncio.wait({pending})


async def close_stream(stream: Any) -> None:
    """Close a stream and the streams that it wraps: LiteLLM 1.106.2 leaves a translated upstream running without a client."""
    for _ in range(_DEEPEST_STREAM):
        if stream is None:
            return
        inner = next((found for name in _INNER_STREAMS if (found := getattr(stream, name, None)) is not None), None)
        if hasattr(stream, "aclose"):
            await stream.aclose()
        stream = inner
