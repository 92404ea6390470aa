"""The loopback upstream of the benchmarks: a bare asyncio protocol, so that its own work hardly affects the results.

It responds in Anthropic's and OpenAI's format, without delay, with 30 pieces of text, each written separately. With the text
``[[pace SECONDS]]`` in the request the pieces are sent in that interval, each with its time; with ``[[pieces NUMBER]]`` a
stream has so many; with ``[[once NAME]]`` the response is a 429 the first time that NAME is seen. Run it as
``python -m benchmarks.upstream PORT``, or over TLS as ``python -m benchmarks.upstream PORT CERTIFICATE KEY``.
"""

import asyncio
import json
import re
import ssl
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import uvloop

PIECES = 30
WORDS = "the quick brown fox jumps over the lazy dog"
# Precedes the time in a paced piece: the upstream's monotonic clock, which all processes of a machine share.
STAMP = "sent at "
_ORDER = re.compile(rb"\[\[(pace|pieces|once) ([\w.-]+)\]\]")


def _event(data: dict[str, object], *, named: bool) -> bytes:
    name = f"event: {data['type']}\n" if named else ""
    return f"{name}data: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


def _anthropic_piece(text: str) -> bytes:
    return _event({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}, named=True)


def _openai_piece(text: str) -> bytes:
    return _openai_chunk({"content": text}, None)


def _openai_chunk(delta: dict[str, str], finish: str | None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return _event(
        {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "made-up", "choices": [choice]},
        named=False,
    )


_USAGE = {"input_tokens": 10, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": PIECES}
_MESSAGE: dict[str, Any] = {
    "id": "msg_made_up", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5", "content": [],
    "stop_reason": None, "stop_sequence": None, "usage": _USAGE,
}  # fmt: skip
_ANTHROPIC_HEAD = _event({"type": "message_start", "message": _MESSAGE}, named=True) + _event(
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}, named=True
)
_ANTHROPIC_TAIL = (
    _event({"type": "content_block_stop", "index": 0}, named=True)
    + _event(
        {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": _USAGE}, named=True
    )
    + _event({"type": "message_stop"}, named=True)
)
_OPENAI_USAGE = {"prompt_tokens": 10, "completion_tokens": PIECES, "total_tokens": PIECES + 10}
_OPENAI_TAIL = (
    _openai_chunk({}, "stop")
    + _event(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "made-up",
            "choices": [],
            "usage": _OPENAI_USAGE,
        },
        named=False,
    )
    + b"data: [DONE]\n\n"
)

_STREAMS = {
    b"/v1/messages": (_ANTHROPIC_HEAD, _anthropic_piece, _ANTHROPIC_TAIL),
    b"/v1/chat/completions": (_openai_chunk({"role": "assistant", "content": ""}, None), _openai_piece, _OPENAI_TAIL),
}
_WHOLE: dict[bytes, dict[str, Any]] = {
    b"/v1/messages": {
        **_MESSAGE, "content": [{"type": "text", "text": " ".join([WORDS] * PIECES)}], "stop_reason": "end_turn",
    },
    b"/v1/chat/completions": {
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "made-up", "usage": _OPENAI_USAGE,
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": " ".join([WORDS] * PIECES)}, "finish_reason": "stop"}
        ],
    },
}  # fmt: skip
_REFUSAL = {"type": "error", "error": {"type": "rate_limit_error", "message": "This request would exceed your rate limit."}}


def _response(status: bytes, body: Mapping[str, object], headers: bytes = b"") -> bytes:
    content = json.dumps(body).encode()
    head = b"HTTP/1.1 %s\r\ncontent-type: application/json\r\n%scontent-length: %d\r\n\r\n" % (status, headers, len(content))
    return head + content


_RESPONSES = {path: _response(b"200 OK", body) for path, body in _WHOLE.items()}
_LIMITED = _response(
    b"429 Too Many Requests", _REFUSAL, b"retry-after: 3600\r\nanthropic-ratelimit-unified-status: rejected\r\n"
)
_NOT_FOUND = _response(b"404 Not Found", {"type": "error", "error": {"type": "not_found_error", "message": "no such path"}})
_STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


class Connection(asyncio.Protocol):
    """One keep-alive connection. A request is read completely before the response."""

    seen: set[bytes] = set()  # noqa: RUF012 - shared by all connections of the process

    def __init__(self) -> None:
        self._transport: asyncio.WriteTransport | None = None
        self._buffer = bytearray()
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = transport  # type: ignore[assignment]  # of a stream

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Stop sending."""
        self._transport = None

    def data_received(self, data: bytes) -> None:
        """Respond to every complete request."""
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            lines = bytes(self._buffer[:end]).split(b"\r\n")
            headers = {
                name.lower(): value.strip() for name, value in (line.split(b":", 1) for line in lines[1:] if b":" in line)
            }
            length = int(headers.get(b"content-length", b"0"))
            if len(self._buffer) < end + 4 + length:
                return
            body = bytes(self._buffer[end + 4 : end + 4 + length])
            del self._buffer[: end + 4 + length]
            self._request(lines[0].split(b" ")[1].split(b"?")[0], body)

    def _request(self, path: bytes, body: bytes) -> None:
        orders = dict(_ORDER.findall(body))
        name = orders.get(b"once")
        if name is not None and name not in self.seen:
            self.seen.add(name)
            self._write(_LIMITED)
        elif path not in _RESPONSES:
            self._write(_NOT_FOUND)
        elif b'"stream":true' in body or b'"stream": true' in body:
            head, piece, tail = _STREAMS[path]
            pace, pieces = orders.get(b"pace"), int(orders.get(b"pieces", PIECES))
            texts: Sequence[bytes | Callable[[], bytes]] = (
                [piece(f" {WORDS}")] * pieces if pace is None else [lambda: piece(f"{STAMP}{time.monotonic()} ")] * pieces
            )
            self._write(_STREAM + _chunk(head))
            self._next([*texts, tail], 0, float(pace) if pace else 0.0)
        else:
            self._write(_RESPONSES[path])

    def _next(self, pieces: Sequence[bytes | Callable[[], bytes]], place: int, pace: float) -> None:
        piece = pieces[place]
        last = place == len(pieces) - 1
        self._write(_chunk(piece if isinstance(piece, bytes) else piece()) + (b"0\r\n\r\n" if last else b""))
        if not last and self._transport is not None:
            if pace:
                self._loop.call_later(pace, self._next, pieces, place + 1, pace)
            else:
                self._loop.call_soon(self._next, pieces, place + 1, pace)

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)


async def serve(port: int, *certificate: str) -> None:
    """Listen on loopback until the process ends; over TLS with the files of a ``certificate`` and its key."""
    context = None
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", port, backlog=1024, ssl=context)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), *sys.argv[2:]))
