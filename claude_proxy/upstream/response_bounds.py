"""Limits for reading a response: decoded bytes, lines and events. Bytes in, bytes out, no I/O."""

import zlib
from collections.abc import Iterator
from typing import Any, cast

import httpx

from claude_proxy.anthropic.sse import MAX_EVENT_SIZE

# For a response that is read as a whole, or that LiteLLM translates and copies: decoded bytes, and the number of JSON lists,
# objects and members. A relayed stream has no such limit; each of its events has at most ``MAX_EVENT_SIZE``.
MAX_RESPONSE_BYTES = 64 * 1024 * 1024
MAX_RESPONSE_PARTS = 3_000_000
# The parts of a smaller response are not counted.
SMALL_RESPONSE_BYTES = 1024 * 1024
# The most that one step of decoding yields: a small chunk of gzip may expand a thousand times.
STEP_BYTES = 256 * 1024
# LiteLLM needs up to 0.1 ms for each line that it translates. The limits for a response and for one step, after which other
# requests are served.
MAX_RESPONSE_LINES = 1_000_000
STEP_LINES = 256
# The package ``openai`` copies the start of an event again at each of its lines.
MAX_EVENT_LINES = 200
# The line ends of httpx, which are those of ``str.splitlines``.
LINE_ENDS = (b"\n", b"\r", b"\x0b", b"\x0c", b"\x1c", b"\x1d", b"\x1e", b"\xc2\x85", b"\xe2\x80\xa8", b"\xe2\x80\xa9")
# The content codings that can be decoded.
CODINGS = "gzip, deflate"


class ResponseTooLarge(httpx.DecodingError):
    """A response, or one event of a stream, is larger than the proxy accepts. The text follows the name of a host.

    Not a ``RemoteProtocolError`` or a ``ReadError``: after those LiteLLM 1.106.2 sends the request again, or takes the
    stream for complete.
    """


class Bounds:
    """Decodes a response's body in steps of at most ``STEP_BYTES``, and raises ``ResponseTooLarge`` if it exceeds a limit.

    1. A response has at most ``MAX_RESPONSE_BYTES``, decoded and encoded, and at most ``MAX_RESPONSE_LINES``.
    2. A relayed stream (``endless``) has no such limit. One without events (``has_events``), such as a file, has none at all.
    3. An event of a relayed stream or of ``text/event-stream`` has at most ``MAX_EVENT_SIZE``; if not relayed, also
       at most ``MAX_EVENT_LINES``.
    4. With ``cut_at`` the body ends there instead; with ``lenient`` it also ends at an error of decoding.
    5. Only a reader ``by_line`` has the limit on lines, and few lines per step.
    """

    def __init__(
        self,
        coding: str = "",
        *,
        events: bool = False,
        by_line: bool = True,
        cut_at: int | None = None,
        lenient: bool = False,
    ) -> None:
        self.endless = False
        self.has_events = True
        self._by_line = by_line
        self.full = False
        self._events = events
        self._cut_at = cut_at
        self._lenient = lenient
        self._coding = coding
        self._inflater = zlib.decompressobj(zlib.MAX_WBITS | 16 if coding == "gzip" else zlib.MAX_WBITS) if coding else None
        # The first byte of a body, if it arrived alone; None once the coding is known.
        self._head: bytes | None = b""
        self._received = 0
        self._decoded = 0
        self._lines = 0
        self._event = 0
        self._event_lines = 0
        self._tail = b""

    def passes(self, raw: bytes) -> bool:
        """Whether a chunk of a relayed stream needs no decoding; if so, it is counted."""
        if self._inflater is not None or not self.endless:
            return False
        self._count_event(raw)
        return True

    def feed(self, raw: bytes) -> Iterator[bytes]:
        """Yield the decoded pieces of a chunk."""
        self._received += len(raw)
        self._check(self._received)
        for piece in (raw,) if self._inflater is None else self._inflated(raw):
            yield from self._counted(piece)
            if self.full:
                return

    def finish(self) -> Iterator[bytes]:
        """Yield the rest at the end. An encoded body that was cut off ends where it was cut."""
        if self._inflater is not None and not self.full:
            yield from self._counted(self._inflater.flush())

    def _inflated(self, raw: bytes) -> Iterator[bytes]:
        while True:
            try:
                piece = cast("Any", self._inflater).decompress(raw, STEP_BYTES)
            except zlib.error as error:
                if self._coding == "deflate" and self._head is not None:  # some servers send it without the zlib header
                    raw, self._head, self._inflater = self._head + raw, None, zlib.decompressobj(-zlib.MAX_WBITS)
                    continue
                if not self._lenient:
                    raise httpx.DecodingError(str(error)) from error
                self.full = True
                return
            self._head = raw if self._received < 2 else None
            yield piece
            raw = cast("Any", self._inflater).unconsumed_tail
            if not raw and len(piece) < STEP_BYTES:
                return

    def _counted(self, piece: bytes) -> Iterator[bytes]:
        if not piece:
            return
        if self._cut_at is not None:
            piece = piece[: self._cut_at - self._decoded]
        self._decoded += len(piece)
        self.full = self._cut_at is not None and self._decoded >= self._cut_at
        self._check(self._decoded)
        if self.endless:
            self._count_event(piece)
        if self.endless or not self._by_line:
            yield piece
            return
        size = self._step(piece)
        for start in range(0, len(piece), size):
            step = piece[start : start + size] if size < len(piece) else piece
            if self._events:
                self._count_event(step)
            yield step

    def _step(self, piece: bytes) -> int:
        """Return the step size for a reader that reads line by line."""
        lines = sum(map(piece.count, LINE_ENDS))
        self._lines += lines
        if self._lines > MAX_RESPONSE_LINES:
            raise ResponseTooLarge(f"responded with more than {MAX_RESPONSE_LINES} lines")
        return max(1, len(piece) * STEP_LINES // max(lines, STEP_LINES))

    def _check(self, size: int) -> None:
        if not self.endless:
            check_size(size)

    def _count_event(self, piece: bytes) -> None:
        """Count the bytes since the last empty line, which ends an event."""
        if not self.has_events:
            return
        if self.endless and piece.endswith(b"\n\n") and self._event + len(piece) <= MAX_EVENT_SIZE:
            self._tail, self._event = b"\n\n", 0
            return
        seen = self._tail + piece
        self._tail = seen[-2:]
        end = max(seen.rfind(b"\n\n"), seen.rfind(b"\n\r"), seen.rfind(b"\r\r"))
        self._event = self._event + len(piece) if end < 0 else len(seen) - end
        if not self.endless:
            lines = seen.count(b"\n", max(0, end)) + seen.count(b"\r", max(0, end))
            self._event_lines = lines if end >= 0 else self._event_lines + lines
            if self._event_lines > MAX_EVENT_LINES + STEP_LINES:
                raise ResponseTooLarge(f"sent an event of more than {MAX_EVENT_LINES} lines")
        if self._event > MAX_EVENT_SIZE:
            raise ResponseTooLarge(f"sent an event of more than {MAX_EVENT_SIZE >> 20} MB")


def check_size(size: int) -> None:
    """Raise ``ResponseTooLarge`` for a response of more than ``MAX_RESPONSE_BYTES``."""
    if size > MAX_RESPONSE_BYTES:
        raise ResponseTooLarge(f"responded with more than {MAX_RESPONSE_BYTES >> 20} MB")


def unreadable(coded: list[str], codings: str = CODINGS) -> bool:
    """Whether a body cannot be decoded: its coding is unknown, or it has several, which could hide a huge size."""
    return len(coded) > 1 or not {*coded} <= {coding.strip() for coding in codings.split(",")}


def named_codings(content_encoding: str) -> list[str]:
    """Return the codings in a ``content-encoding`` header, in the order in which they were applied."""
    named = (coding.strip().lower() for coding in content_encoding.split(","))
    return [coding for coding in named if coding not in ("", "identity")]
