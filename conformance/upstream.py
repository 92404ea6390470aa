"""The scripted upstream on loopback: responds by a function of the request, byte for byte, and records all requests.

Its two ports are two origins: ``url`` has the role of Anthropic, ``other_url`` that of every other provider.
"""

import json
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

JSON = (("content-type", "application/json"),)
EVENTS = (("content-type", "text/event-stream; charset=utf-8"),)
COUNT = 4711
OPENAI_WORDS = "from openai"
THIRD_WORDS = "from the third party"


@dataclass(frozen=True)
class Seen:
    """A received request."""

    method: str
    path: str
    query: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    is_claude: bool

    def header(self, name: str) -> str | None:
        """Return a header's value; the values of a repeated header are joined with commas."""
        values = [value for key, value in self.headers if key.lower() == name]
        return ", ".join(values) if values else None

    @property
    def json(self) -> Any:
        """The decoded body."""
        return json.loads(self.body)

    @property
    def everything(self) -> str:
        """The whole request as text, for searches."""
        return f"{self.path}?{self.query}\n{self.headers}\n{self.body.decode('utf-8', 'replace')}"


@dataclass(frozen=True)
class Reply:
    """A response to send. A body in several parts is sent chunked; ``cut`` ends it like a crashed server."""

    status: int = 200
    headers: Sequence[tuple[str, str]] = JSON
    body: bytes | Iterable[bytes] = b""
    cut: bool = False


class Upstream:
    """Serves from its creation until ``close``. Each check may set ``claude``, which responds to Messages requests."""

    def __init__(self, port: int = 0) -> None:
        self.seen: list[Seen] = []
        self.claude: Callable[[Seen], Reply] = claude_reply
        self.count: Callable[[Seen], Reply] = count_reply
        self._servers = [_Server(self, port, is_claude=True), _Server(self, port and port + 1, is_claude=False)]
        self.url, self.other_url = (f"http://127.0.0.1:{server.server_address[1]}" for server in self._servers)
        for server in self._servers:
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()

    def reset(self) -> None:
        """Discard the recorded requests, and respond successfully to all requests."""
        self.seen.clear()
        self.claude, self.count = claude_reply, count_reply

    def received(self, *, claude: bool) -> list[Seen]:
        """Return the POST requests that Claude or the other providers received."""
        return [seen for seen in self.seen if seen.is_claude is claude and seen.method == "POST"]

    def reply(self, seen: Seen) -> Reply:
        """Return the response to a request."""
        if seen.method != "POST":  # a proxy may request lists of models by itself
            return Reply(404, body=b"{}")
        if seen.is_claude:
            return self.count(seen) if seen.path.endswith("/count_tokens") else self.claude(seen)
        if seen.path.endswith("/chat/completions"):
            return openai_reply(seen)
        if seen.path.endswith("/v1/messages"):
            return third_reply(seen)
        return Reply(404, body=b'{"error":{"message":"not served here"}}')

    def close(self) -> None:
        """Stop serving."""
        for server in self._servers:
            server.shutdown()
            server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, upstream: Upstream, port: int, *, is_claude: bool) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.upstream = upstream
        self.is_claude = is_claude


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def respond(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        parts = urlsplit(self.path)
        headers = tuple(self.headers.items())
        seen = Seen(self.command, parts.path, parts.query, headers, body, self.server.is_claude)
        self.server.upstream.seen.append(seen)
        reply = self.server.upstream.reply(seen)
        self.send_response(reply.status)
        for name, value in reply.headers:
            self.send_header(name, value)
        if isinstance(reply.body, bytes):
            self.send_header("content-length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(reply.body)
        else:
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            self.stream(reply.body, cut=reply.cut)

    do_POST = do_GET = do_HEAD = respond  # noqa: N815 - the base class's names

    def stream(self, chunks: Iterable[bytes], *, cut: bool) -> None:
        try:
            for chunk in chunks:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
                self.wfile.flush()
            if not cut:
                self.wfile.write(b"0\r\n\r\n")
        except OSError:  # the proxy closed the connection
            self.close_connection = True
        self.close_connection = self.close_connection or cut

    def log_message(self, *_: object) -> None:
        """Log nothing: the requests are in ``seen``."""


def event(data: dict[str, Any]) -> bytes:
    """Return one server-sent event."""
    return b"event: %s\ndata: %s\n\n" % (data["type"].encode(), json.dumps(data).encode())


def message(model: str, words: str, identity: str = "msg_01ConformanceUpstream") -> dict[str, Any]:
    """Return a whole message in Anthropic's format."""
    return {
        "id": identity, "type": "message", "role": "assistant", "model": model,
        "content": [{"type": "text", "text": words}], "stop_reason": "end_turn", "stop_sequence": None,
        "usage": {"input_tokens": 10, "output_tokens": 5},
    }  # fmt: skip


def events(whole: dict[str, Any]) -> list[bytes]:
    """Return the stream of a message with one text block."""
    delta = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    return [
        event({"type": "message_start", "message": whole | {"content": [], "stop_reason": None}}),
        event({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        event(
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": whole["content"][0]["text"]}}
        ),
        event({"type": "content_block_stop", "index": 0}),
        event({"type": "message_delta", "delta": delta, "usage": {"output_tokens": 5}}),
        event({"type": "message_stop"}),
    ]


def anthropic_reply(seen: Seen, words: str) -> Reply:
    """Respond with the requested model's name, streamed if requested."""
    whole = message(seen.json.get("model", ""), words)  # a batch has none
    if seen.json.get("stream"):
        return Reply(headers=EVENTS, body=events(whole))
    return Reply(body=json.dumps(whole).encode())


def claude_reply(seen: Seen) -> Reply:
    """Respond like Claude."""
    return anthropic_reply(seen, "from claude")


def third_reply(seen: Seen) -> Reply:
    """Respond like another provider with Anthropic's format."""
    return anthropic_reply(seen, THIRD_WORDS)


def count_reply(_: Seen) -> Reply:
    """Respond with a token count."""
    return Reply(body=json.dumps({"input_tokens": COUNT}).encode())


def openai_reply(seen: Seen) -> Reply:
    """Respond to a chat-completions request, with reasoning before the text."""
    base = {"id": "chatcmpl-conformance", "created": 1, "model": seen.json["model"]}
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    if not seen.json.get("stream"):
        made = {"role": "assistant", "content": OPENAI_WORDS, "reasoning_content": "hm"}
        choice = {"index": 0, "message": made, "finish_reason": "stop"}
        return Reply(body=json.dumps(base | {"object": "chat.completion", "choices": [choice], "usage": usage}).encode())
    deltas: list[dict[str, Any]] = [
        {"role": "assistant", "content": ""},
        {"reasoning_content": "hm"},
        {"content": OPENAI_WORDS[:4]},
        {"content": OPENAI_WORDS[4:]},
    ]
    chunk = base | {"object": "chat.completion.chunk"}
    lines = [chunk | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    lines.append(chunk | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    lines.append(chunk | {"choices": [], "usage": usage})
    return Reply(headers=EVENTS, body=[*(b"data: %s\n\n" % json.dumps(line).encode() for line in lines), b"data: [DONE]\n\n"])
