"""Pass an upstream's stream on as it arrives: Claude's to the byte, the others' without their thinking."""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing
from typing import Any, Protocol

from claude_proxy.anthropic.errors import error_event
from claude_proxy.anthropic.sse import KEEPALIVE, error_of, first_event_end
from claude_proxy.anthropic.usage import StreamSummary, Usage
from claude_proxy.providers.thinking import ThinkingFilter
from claude_proxy.proxy.response import ClientResponse

# How long a stream's status waits for its first event, which may be an error that LiteLLM can still do something about.
FIRST_EVENT_SECONDS = 5.0
# Of a text in UTF-8 that says so.
_BYTE_ORDER_MARK = "\ufeff"
_DECODER = json.JSONDecoder()
_MODEL = re.compile(rb'"model"\s*:\s*("(?:[^"\\]++|\\.)*+")')
_SPACE = re.compile(r"[ \t\n\r]*")
NO_EVENT = b'{"type": "error", "error": {"type": "api_error", "message": "The provider answered without any event."}}'
# A first event that is larger is not looked into.
MAX_FIRST_EVENT = 1024 * 1024

# LiteLLM gets a copy of a stream up to this size, where somebody reads its books.
MAX_COPY = 32 * 1024 * 1024

# Under these names LiteLLM's streams hold the one that they read from, at most so many inside each other.
_INNER_STREAMS = ("_source_iterator", "_anthropic_wrapper", "completion_stream", "_stream")
_DEEPEST_STREAM = 6


class Mender(Protocol):
    """Changes a stream's events on their way: ``feed`` every chunk, then ``finish`` once."""

    def feed(self, chunk: bytes) -> bytes: ...

    def finish(self) -> bytes: ...


class FailedStream(Exception):
    """A stream whose first event is an error, before the client has seen anything. ``body`` is that event."""

    def __init__(self, kind: str, body: bytes) -> None:
        super().__init__(kind)
        self.kind = kind
        self.body = body


class Heard:
    """What is kept of a stream that is relayed: the summary, and a bounded copy where LiteLLM keeps books."""

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
        """The stream as LiteLLM's books need it: a copy, or of a larger one its first event, its counts and its end."""
        return bytes(self._copy) if self._copy is not None else self._first + _ending(self.summary.usage)


def _ending(usage: Usage) -> bytes:
    counts = {"input_tokens": usage.input, "output_tokens": usage.output}
    counts |= {"cache_read_input_tokens": usage.cache_read, "cache_creation_input_tokens": usage.cache_write}
    delta = {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": counts}
    ended = json.dumps(delta).encode()
    return b"event: message_delta\ndata: " + ended + b'\n\nevent: message_stop\ndata: {"type":"message_stop"}\n\n'


class Renaming:
    """Puts the name that the client asked for in the place of the one that the proxy sent upstream: a ``Mender``.

    Claude Code drops the signed thinking of a message that names another model than its next request. A dated form of the
    name is the same model (``claude-sonnet-4-5`` answers as ``claude-sonnet-4-5-20250929``); any other name is news, such
    as a server-side fallback's, and stays. Every other byte of the answer stays, too; only a stream's first event is held
    back until it is whole.
    """

    def __init__(self, replacement: bytes, names: re.Pattern[bytes]) -> None:
        """``names`` matches what is replaced; both are JSON strings with their quotes."""
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
        """Return a message with the name; what is no message stays as it is.

        A tool's input may hold the same pair, so the members of the outermost object are read one by one.
        """
        if self._names.search(body) is None:
            return body
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
    """Yield name, value and the value's place of each member of a JSON object, in one pass over the text.

    Raises ``ValueError`` when the text is not one JSON object; a name may come more than once.
    """
    position = _after_space(text, 1 if text.startswith(_BYTE_ORDER_MARK) else 0)
    mark, position = text[position : position + 1], _after_space(text, position + 1)
    if mark == "{" and text[position : position + 1] == "}":
        mark, position = "}", position + 1
    elif mark != "{":
        raise ValueError("no object")
    while mark != "}":
        name, position = _DECODER.raw_decode(text, position)
        position = _after_space(text, position)
        if not isinstance(name, str) or text[position : position + 1] != ":":
            raise ValueError("no member")
        start = _after_space(text, position + 1)
        value, end = _DECODER.raw_decode(text, start)
        yield name, value, (start, end)
        position = _after_space(text, end)
        mark, position = text[position : position + 1], _after_space(text, position + 1)
        if mark not in (",", "}"):
            raise ValueError("no end of a member")
    if _after_space(text, position) != len(text):
        raise ValueError("more than an object")


def _after_space(text: str, position: int) -> int:
    found = _SPACE.match(text, position)
    return found.end() if found else position


# Returns what has arrived next of a stream, and nothing at its end. To cancel it loses nothing.
Read = Callable[[], Awaitable[bytes]]


async def relayed(
    read: Read,
    outlet: ClientResponse,
    mender: Mender,
    heard: Heard,
    *,
    begin: Callable[[], Awaitable[None]],
    keepalive: float | None = None,
    needs_event: bool = False,
) -> None:
    """Send a stream to the client as it arrives, and feed ``heard`` with what the upstream said.

    The status, which ``begin`` sends, waits for the first event, ``FIRST_EVENT_SECONDS`` at most. Raises ``FailedStream``
    when that event is an error; what breaks the stream later is raised as it is, and the client's answer is then not ended.
    With ``keepalive`` there is one whenever nothing was sent for so many seconds. With ``needs_event`` a stream that ends
    without a whole event is a failed one, too.
    """
    silence = _Silence(FIRST_EVENT_SECONDS)
    begun, beginning = False, bytearray()
    try:
        while (chunk := await silence.ends(read)) != b"":
            ready = b""
            if chunk is not None:
                heard.feed(chunk)
                ready = mender.feed(chunk)
            if not begun:
                beginning += chunk or b""
                if chunk is not None and not _begins_well(beginning, len(beginning) - len(chunk)):
                    continue
                begun = True
                await begin()
                silence.restart(keepalive)
            if ready or silence.is_due():
                await outlet.write(ready or KEEPALIVE)
                silence.beat()
    finally:
        silence.close()
    heard.summary.finish()
    if not begun:
        if needs_event and not first_event_end(beginning):
            raise FailedStream("api_error", error_event(NO_EVENT))
        await begin()
    await outlet.write(mender.finish())
    await outlet.end()


async def filtered(
    first: bytes, chunks: AsyncIterator[bytes], thinking: ThinkingFilter, keepalive: float
) -> AsyncGenerator[bytes, None]:
    """Yield a stream without its thinking, and a keep-alive whenever nothing was yielded for ``keepalive`` seconds."""
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
    """How long a silence may last yet, in seconds; None for as long as it likes."""

    def __init__(self, limit: float | None) -> None:
        self._loop = asyncio.get_running_loop()
        self.restart(limit)

    def restart(self, limit: float | None) -> None:
        self._limit = limit
        self.beat()

    def beat(self) -> None:
        self._last = self._loop.time()

    def left(self) -> float | None:
        return None if self._limit is None else max(0.0, self._last + self._limit - self._loop.time())

    def is_due(self) -> bool:
        return self.left() == 0.0


class _Silence(_Pulse):
    """Waits for a stream's chunks, and no longer than a silence may last. One timer a stream, not one a chunk.

    1. The timer runs while ``ends`` waits for the first time after it has run out; a beat does not move it.
    2. When it runs out too early it is set again for the rest. When it runs out in time it cancels the wait, and only that.
    3. A task that somebody else has cancelled, too, ends.
    """

    def __init__(self, limit: float | None) -> None:
        self._task = asyncio.current_task()
        self._timer: asyncio.TimerHandle | None = None
        self._waits = False
        self._interrupted = False
        super().__init__(limit)

    async def ends(self, read: Read) -> bytes | None:
        """Return what arrives next; None when nothing has within the limit."""
        if self._limit is None:
            return await read()
        if self._timer is None:
            self._timer = self._loop.call_at(self._last + self._limit, self._run_out)
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
        """Let nothing be interrupted any more."""
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


def _begins_well(stream: bytearray, searched: int) -> bool:
    """Whether a stream's first event is there, and is none of an error's; raise ``FailedStream`` for an error.

    Of the first ``searched`` bytes it is known that they hold no event's end.
    """
    end = first_event_end(stream, searched)
    if not end:
        return len(stream) > MAX_FIRST_EVENT
    kind = error_of(bytes(stream[:end]))
    if kind:
        raise FailedStream(kind, bytes(stream[:end]))
    return True


async def timed(chunks: AsyncIterator[bytes], patience: Callable[[], float | None]) -> AsyncGenerator[bytes | None, None]:
    """Yield the chunks, and None each time that none came within ``patience`` seconds; None of patience waits for ever."""
    pending: asyncio.Future[bytes] | None = None
    done: asyncio.Future[bytes] | None = None
    try:
        while True:
            limit = patience()
            try:
                if pending is None and limit is None:
                    yield await anext(chunks)  # no task for each chunk where no timer runs
                    continue
                pending = pending or asyncio.ensure_future(anext(chunks))
                await asyncio.wait({pending}, timeout=limit)
                if not pending.done():
                    yield None
                    continue
                done, pending = pending, None
                yield done.result()
            except StopAsyncIteration:
                done = None  # its exception refers to this frame
                return
    finally:
        if pending is not None:
            pending.cancel()
            await asyncio.wait({pending})


async def close_stream(stream: Any) -> None:
    """Close a stream and those inside it: LiteLLM 1.106.2 leaves the upstream of a translated one running without a client."""
    for _ in range(_DEEPEST_STREAM):
        if stream is None:
            return
        inner = next((found for name in _INNER_STREAMS if (found := getattr(stream, name, None)) is not None), None)
        if hasattr(stream, "aclose"):
            await stream.aclose()
        stream = inner
