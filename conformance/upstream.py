"""The scripted upstream on loopback: answers by a function of what it saw, byte for byte, and keeps what it saw.

Two ports are two origins: ``url`` stands for Anthropic, ``other_url`` for every other provider.
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
    """A request as it arrived."""

    method: str
    path: str
    query: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    is_claude: bool

    def header(self, name: str) -> str | None:
        """Return a header's value; of a repeated one all values, comma between."""
        values = [value for key, value in self.headers if key.lower() == name]
        return ", ".join(values) if values else None

    @property
    def json(self) -> Any:
        """What the body holds."""
        return json.loads(self.body)

    @property
    def everything(self) -> str:
        """All that arrived, for a search."""
        return f"{self.path}?{self.query}\n{self.headers}\n{self.body.decode('utf-8', 'replace')}"


@dataclass(frozen=True)
class Reply:
    """An answer to give. A body in several parts goes out chunked; ``cut`` ends it as a crashed server would."""

    status: int = 200
    headers: Sequence[tuple[str, str]] = JSON
    body: bytes | Iterable[bytes] = b""
    cut: bool = False


class Upstream:
    """Serves from its making until ``close``. ``claude`` answers Messages requests to Claude and is set by each check."""

    def __init__(self, port: int = 0) -> None:
        self.seen: list[Seen] = []
        self.claude: Callable[[Seen], Reply] = claude_reply
        self.count: Callable[[Seen], Reply] = count_reply
        self._servers = [_Server(self, port, is_claude=True), _Server(self, port and port + 1, is_claude=False)]
        self.url, self.other_url = (f"http://127.0.0.1:{server.server_address[1]}" for server in self._servers)
        for server in self._servers:
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()

    def reset(self) -> None:
        """Forget what was seen and answer everything well."""
        self.seen.clear()
        self.claude, self.count = claude_reply, count_reply

    def asked(self, *, claude: bool) -> list[Seen]:
        """Return the requests for an answer that one of the two origins saw."""
        return [seen for seen in self.seen if seen.is_claude is claude and seen.method == "POST"]

    def reply(self, seen: Seen) -> Reply:
        """Return the answer to a request."""
        if seen.method != "POST":  # a proxy may look for lists of models of its own accord
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

    def answer(self) -> None:
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

    do_POST = do_GET = do_HEAD = answer  # noqa: N815 - the base class's names

    def stream(self, chunks: Iterable[bytes], *, cut: bool) -> None:
        try:
            for chunk in chunks:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
                self.wfile.flush()
            if not cut:
                self.wfile.write(b"0\r\n\r\n")
        except OSError:  # the proxy has hung up
            self.close_connection = True
        self.close_connection = self.close_connection or cut

    def log_message(self, *_: object) -> None:
        """Say nothing: the proxies' requests are read from ``seen``."""


def event(data: dict[str, Any]) -> bytes:
    """Return one server-sent event."""
    return b"event: %s\ndata: %s\n\n" % (data["type"].encode(), json.dumps(data).encode())


def message(model: str, words: str, identity: str = "msg_01ConformanceUpstream") -> dict[str, Any]:
    """Return a whole answer in Anthropic's format."""
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
    """Answer under the name of the model that was asked, streaming when the request says so."""
    whole = message(seen.json["model"], words)
    if seen.json.get("stream"):
        return Reply(headers=EVENTS, body=events(whole))
    return Reply(body=json.dumps(whole).encode())


def claude_reply(seen: Seen) -> Reply:
    """Answer as Claude does when all is well."""
    return anthropic_reply(seen, "from claude")


def third_reply(seen: Seen) -> Reply:
    """Answer as another provider of Anthropic's format does."""
    return anthropic_reply(seen, THIRD_WORDS)


def count_reply(_: Seen) -> Reply:
    """Count."""
    return Reply(body=json.dumps({"input_tokens": COUNT}).encode())


def openai_reply(seen: Seen) -> Reply:
    """Answer a chat-completions request, with reasoning before the words."""
    base = {"id": "chatcmpl-conformance", "created": 1, "model": seen.json["model"]}
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    if not seen.json.get("stream"):
        answer = {"role": "assistant", "content": OPENAI_WORDS, "reasoning_content": "hm"}
        choice = {"index": 0, "message": answer, "finish_reason": "stop"}
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
