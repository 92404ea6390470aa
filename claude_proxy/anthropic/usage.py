"""Token counts of a response in the Messages format."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec

from claude_proxy.anthropic.sse import (
    LONGEST_END,
    error_kind,
    event_object,
    first_event_end,
    last_event_end,
    whole_events,
)


@dataclass(frozen=True, slots=True)
class Usage:
    """The tokens of an answer, as its provider counted them."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0


# Larger responses are not parsed for their usage, and their usage itself is smaller than this.
MAX_READ_ANSWER = 4 * 1024 * 1024
MAX_USAGE = 64 * 1024


class _Counts(msgspec.Struct):
    input_tokens: Annotated[int, msgspec.Meta(ge=0)]
    output_tokens: Annotated[int, msgspec.Meta(ge=0)]
    cache_read_input_tokens: Annotated[int, msgspec.Meta(ge=0)] = 0
    cache_creation_input_tokens: Annotated[int, msgspec.Meta(ge=0)] = 0


class _Message(msgspec.Struct):
    usage: _Counts


_COUNTS = msgspec.json.Decoder(_Message)
# A larger event is not read for counts and errors.
MAX_READ_EVENT = 1024 * 1024


class StreamSummary:
    """What outlasts a stream that passes: its size, its token counts and its first error. Holds one event at most.

    ``feed`` every chunk, then ``finish`` once. What a stream says last of a count applies. An event that is larger than
    ``MAX_READ_EVENT`` is not read; those with counts and errors are small.
    """

    def __init__(self) -> None:
        self.size = 0
        self.error = ""
        self._counts: dict[str, int] = {}
        self._held = b""
        self._skips = False

    @property
    def usage(self) -> Usage:
        return usage_from(self._counts)

    def feed(self, chunk: bytes) -> None:
        self.size += len(chunk)
        if not (self._held or self._skips or _tells(chunk)) and chunk.endswith(b"\n\n"):
            return  # whole events without a count
        held = self._held + chunk
        end = last_event_end(held)
        if end:
            begin = first_event_end(held) if self._skips else 0
            for raw in _telling(held, begin, end):
                self._read(raw)
            self._skips = False
            held = held[end:]
        if len(held) > MAX_READ_EVENT:
            held = held[-LONGEST_END:]
            self._skips = True
        self._held = held

    def finish(self) -> None:
        """Read the last event, even when it was cut off."""
        if not self._skips:
            self._read(self._held)
        self._held = b""

    def _read(self, raw: bytes) -> None:
        if _tells(raw):
            said = event_object(raw)
            self._counts |= token_counts(said)
            self.error = self.error or error_kind(said)


def _tells(stream: bytes) -> bool:
    """Whether there may be a count or an error."""
    return b'"usage"' in stream or b'"error"' in stream


def _telling(stream: bytes, begin: int, end: int) -> Iterator[bytes]:
    """Yield the events between two places, where events begin, that may hold a count or an error."""
    if b"\r" in stream:
        yield from filter(_tells, whole_events(stream[begin:end]))
        return
    ends = {}
    for word in (b'"usage"', b'"error"'):
        after = begin
        while (place := stream.find(word, after, end)) >= 0:
            before = stream.rfind(b"\n\n", after, place)
            start = after if before < 0 else before + 2
            after = ends[start] = stream.find(b"\n\n", place, end) + 2
    for start in sorted(ends):
        yield stream[start : ends[start]]


def token_counts(said: object) -> dict[str, int]:
    """Return the counts in ``usage``, of a message or of an event that holds one; what is no count is left out."""
    counts: dict[str, int] = {}
    for holder in (said, said.get("message")) if isinstance(said, dict) else ():
        usage = holder.get("usage") if isinstance(holder, dict) else None
        counts |= {name: value for name, value in usage.items() if _is_count(value)} if isinstance(usage, dict) else {}
    return counts


def usage_from(counts: Mapping[str, int]) -> Usage:
    """Return a response's tokens by the names that Anthropic's format has for them."""
    return Usage(
        counts.get("input_tokens", 0),
        counts.get("output_tokens", 0),
        counts.get("cache_read_input_tokens", 0),
        counts.get("cache_creation_input_tokens", 0),
    )


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def usage_of(answer: bytes) -> Usage:
    """Return the token counts of an answer in Anthropic's format, whole or as events; what a stream says last counts."""
    if answer.lstrip()[:1] != b"{":
        summary = StreamSummary()
        summary.feed(answer)
        summary.finish()
        return summary.usage
    try:
        counts = _COUNTS.decode(answer).usage
        return Usage(
            counts.input_tokens, counts.output_tokens, counts.cache_read_input_tokens, counts.cache_creation_input_tokens
        )
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        pass  # a count that is none, or no message: what can be read of it counts
    try:
        # Reading all of a large message would keep everybody else waiting; its usage stands at the end, after the content.
        said = json.loads(answer) if len(answer) <= MAX_READ_ANSWER else {"usage": _last_usage(answer)}
    except (ValueError, RecursionError):
        return Usage()
    return usage_from(token_counts(said))


def _last_usage(answer: bytes) -> Any:
    """Return the last object of the name ``usage``. In a string, such as a model's text, the quotes would be escaped."""
    found = answer.rpartition(b'"usage"')[2][:MAX_USAGE].decode("utf-8", "replace").lstrip().removeprefix(":").lstrip()
    return json.JSONDecoder().raw_decode(found)[0]
