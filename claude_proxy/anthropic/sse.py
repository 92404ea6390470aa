"""Server-sent events of the Messages API: event boundaries, data and errors. Bytes in, no I/O."""

import json
import re
from collections.abc import Iterator
from typing import Any

import msgspec

MAX_EVENT_SIZE = 16 * 1024 * 1024
# Claude Code 2.1.197 ignores an event of this type but resets its 300 s timer; pings and comments do not reset the timer.
KEEPALIVE = b'event: message\ndata: {"type":"gateway_keepalive"}\n\n'
# The end of an event is an empty line. A line ends with CRLF, LF or CR and nothing else (WHATWG, "event stream").
EVENT_END = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r)")
LINE_END = re.compile(rb"\r\n|\n|\r")
LONGEST_END = 4


def first_event_end(stream: bytes | bytearray, searched: int = 0) -> int:
    """Return the position after the first event of a stream; 0 while the event is incomplete.

    The first ``searched`` bytes are skipped, except for the few that may contain the start of an event's end.
    """
    begin = max(0, searched - LONGEST_END)
    place = stream.find(b"\n\n", begin)
    if stream.find(b"\r", begin, place if place >= 0 else len(stream)) < 0:
        return place + 2 if place >= 0 else 0
    end = EVENT_END.search(stream, begin)
    return end.end() if end else 0


def last_event_end(stream: bytes) -> int:
    """Return the position after the last whole event of a stream; 0 while there is none."""
    if b"\r" not in stream:
        return stream.rfind(b"\n\n") + 2 if b"\n\n" in stream else 0
    end = 0
    for found in EVENT_END.finditer(stream):
        end = found.end()
    return end


def events(stream: bytes) -> Iterator[bytes]:
    """Yield the data of each event of a complete stream, including a last event that was cut off."""
    return map(event_data, whole_events(stream))


def whole_events(stream: bytes) -> Iterator[bytes]:
    """Yield each event of a complete stream, including a last event that was cut off."""
    start = 0
    if b"\r" not in stream:
        *whole, rest = stream.split(b"\n\n")
        yield from (raw + b"\n\n" for raw in whole)
        if rest:
            yield rest
        return
    for end in EVENT_END.finditer(stream):
        yield stream[start : end.end()]
        start = end.end()
    if start < len(stream):
        yield stream[start:]


def error_of(stream: bytes) -> str:
    """Return the type of a stream's first error event; empty for a stream without one."""
    found = (error_kind(json_object(data)) for data in (events(stream) if b"error" in stream else ()))
    return next(filter(None, found), "")


def error_kind(event: dict[str, Any] | None) -> str:
    """Return the type of an error in Anthropic's shape; empty for anything else."""
    if event is None or event.get("type") != "error":
        return ""
    error = event.get("error")
    kind = error.get("type") if isinstance(error, dict) else None
    return kind if isinstance(kind, str) else "api_error"


def only_data(stream: bytes) -> bytes:
    """Return the data of a stream that is exactly one event with one data line (the usual chunk); else nothing."""
    one = (
        stream.startswith(b"data: ")
        and stream.find(b"\n") == len(stream) - 2
        and stream.endswith(b"\n")
        and b"\r" not in stream
    )
    return stream[6:-2] if one else b""


def _named_data(raw: bytes) -> bytes:
    """Return the data of an event with its name in the first line and its data in the second (Anthropic's); else nothing."""
    start = raw.find(b"\n")
    one = (
        raw.startswith(b"event:")
        and raw.startswith(b"data: ", start + 1)
        and raw.find(b"\n", start + 1) == len(raw) - 2
        and raw.endswith(b"\n")
        and b"\r" not in raw
    )
    return raw[start + 7 : -2] if one else b""


def event_data(raw: bytes) -> bytes:
    """Return the data of an event; empty for a comment."""
    if data := only_data(raw) or _named_data(raw):
        return data
    lines = LINE_END.split(raw) if b"\r" in raw else raw.split(b"\n")
    return b"\n".join([line[5:].removeprefix(b" ") for line in lines if line.startswith(b"data:")])


def event_object(raw: bytes) -> dict[str, Any] | None:
    """Return an event's JSON object; None for a comment, a ping without data, ``[DONE]`` and anything else."""
    return json_object(event_data(raw))


def json_object(text: bytes) -> dict[str, Any] | None:
    """Return a JSON object; None for anything else."""
    if not text:
        return None
    try:
        data = msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        try:  # the fast decoder rejects lone surrogates, which JSON allows
            data = json.loads(text)
        except (ValueError, RecursionError):
            return None
    return data if isinstance(data, dict) else None
