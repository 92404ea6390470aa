"""AWS's event stream, the format of Bedrock's streams (application/vnd.amazon.eventstream). Bytes in, frames out, no I/O.

A frame is: its length and that of its headers, each four bytes, a CRC of these; the headers; the payload; a CRC of all. Each
frame of a message has an event of the Messages API in base64. An exception is a frame, too.
"""

import base64
import binascii
import json
import struct
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from claude_proxy.anthropic.errors import error_body, error_event
from claude_proxy.anthropic.sse import json_object

MEDIA_TYPE = "application/vnd.amazon.eventstream"
# AWS documents 16 MB for a payload and 128 KB for headers.
MAX_FRAME = 17 * 1024 * 1024
_PRELUDE = struct.Struct(">III")
_CRC_BYTES = 4
# The shortest frame has no headers and no payload.
_SHORTEST = _PRELUDE.size + _CRC_BYTES
_TEXT = 7
# How many bytes a header's value has, by its type; those of a text and of bytes have their length before them.
_SIZES = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
_WITH_LENGTH = frozenset({6, _TEXT})
# Anthropic's types of errors for AWS's exceptions, in small letters.
EXCEPTION_KINDS = {
    "throttlingexception": "rate_limit_error",
    "validationexception": "invalid_request_error",
    "modeltimeoutexception": "timeout_error",
    "serviceunavailableexception": "overloaded_error",
    "modelstreamerrorexception": "api_error",
    "internalserverexception": "api_error",
}


class NotAnEventStream(ValueError):
    """The bytes are not frames."""


class Frame(NamedTuple):
    """One frame: its bytes as they came, its headers of the type text, and its payload."""

    raw: bytes
    headers: dict[str, str]
    payload: bytes

    @property
    def exception(self) -> str:
        """The name of the exception that the frame is; empty for an event."""
        kind = self.headers.get(":message-type", "event")
        if kind == "event":
            return ""
        return self.headers.get(":exception-type") or self.headers.get(":error-code") or kind

    @property
    def message(self) -> str:
        """The message of an exception."""
        found = (json_object(self.payload) or {}).get("message")
        return found if isinstance(found, str) else self.headers.get(":error-message", "")

    @property
    def event(self) -> bytes:
        """The frame as a server-sent event of the Messages API; a comment for a frame that has none."""
        if name := self.exception:
            kind = EXCEPTION_KINDS.get(name.lower(), "api_error")
            return error_event(json.dumps(error_body(kind, self.message or name)).encode())
        coded = (json_object(self.payload) or {}).get("bytes")
        try:
            data = base64.b64decode(coded, validate=True) if isinstance(coded, str) else b""
        except (binascii.Error, ValueError):
            data = b""
        event = json_object(data)
        if event is None:
            return b": \n\n"
        # Line ends in JSON are between its values only.
        data = data.replace(b"\r", b" ").replace(b"\n", b" ")
        kind = str(event.get("type"))
        named = kind if kind.isidentifier() else "message"
        return b"event: %s\ndata: %s\n\n" % (named.encode(), data)


class FrameReader:
    """Splits a stream into frames: ``feed`` each part, then ``finish`` once. Holds one frame at most."""

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Yield each whole frame. Raises ``NotAnEventStream``; the frames before have been yielded."""
        self._held += data
        start = 0
        try:
            while (end := self._end(start)) is not None:
                yield _frame(bytes(self._held[start:end]))
                start = end
        finally:
            del self._held[:start]

    def finish(self) -> bytes:
        """Return the beginning of a frame that was cut off; empty after a whole stream."""
        rest, self._held = bytes(self._held), bytearray()
        return rest

    def _end(self, start: int) -> int | None:
        if len(self._held) - start < _PRELUDE.size:
            return None
        length, headers, crc = _PRELUDE.unpack_from(self._held, start)
        if crc != zlib.crc32(self._held[start : start + _PRELUDE.size - _CRC_BYTES]):
            raise NotAnEventStream("a frame's prelude is damaged")
        if not _SHORTEST + headers <= length <= MAX_FRAME:
            raise NotAnEventStream("a frame's length is not plausible")
        return start + length if len(self._held) - start >= length else None


def frame(headers: dict[str, str], payload: bytes) -> bytes:
    """Return the bytes of a frame."""
    written = b"".join(
        bytes([len(name)]) + name.encode() + bytes([_TEXT]) + struct.pack(">H", len(value.encode())) + value.encode()
        for name, value in headers.items()
    )
    prelude = struct.pack(">II", _SHORTEST + len(written) + len(payload), len(written))
    whole = prelude + struct.pack(">I", zlib.crc32(prelude)) + written + payload
    return whole + struct.pack(">I", zlib.crc32(whole))


def _frame(raw: bytes) -> Frame:
    length = _PRELUDE.unpack_from(raw)[1]
    begin = _PRELUDE.size
    return Frame(raw, _headers(raw[begin : begin + length]), raw[begin + length : -_CRC_BYTES])


def _headers(raw: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    place = 0
    try:
        while place < len(raw):
            name, place = _text(raw, place + 1, raw[place])
            kind, place = raw[place], place + 1
            if kind in _WITH_LENGTH:
                size, place = struct.unpack_from(">H", raw, place)[0], place + 2
            else:
                size = _SIZES[kind]
            value: Any
            value, place = _text(raw, place, size)
            if kind == _TEXT:
                found[name] = value
    except (IndexError, KeyError, struct.error):
        raise NotAnEventStream("a frame's headers are damaged") from None
    return found


def _text(raw: bytes, place: int, size: int) -> tuple[str, int]:
    if place + size > len(raw):
        raise IndexError
    return raw[place : place + size].decode("utf-8", "replace"), place + size
