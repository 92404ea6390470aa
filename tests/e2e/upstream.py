"""A loopback upstream: answers by a function of what it saw, and keeps what it saw. Small and dumb.

It listens on two ports, so that there are two origins: ``url`` stands for Anthropic, ``other_url`` for everybody else.
"""

import json
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Seen:
    method: str
    path: str
    query: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    is_claude: bool = True

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name), None)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def credential(self) -> str | None:
        """The token or key that the request carried."""
        bearer = self.header("authorization")
        return bearer.removeprefix("Bearer ") if bearer else self.header("x-api-key")

    @property
    def everything(self) -> str:
        return f"{self.path}?{self.query}\n{self.headers}\n{self.body.decode('utf-8', 'replace')}"


@dataclass(frozen=True)
class Reply:
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    chunks: Iterable[bytes] | None = None
    # Close the connection after the last chunk as a crashed server would.
    drop: bool = False


class Upstream:
    def __init__(self, answer: Callable[[Seen], Reply]) -> None:
        self.answer = answer
        self.seen: list[Seen] = []
        self._servers = [_Server(self, is_claude=True), _Server(self, is_claude=False)]
        self.url, self.other_url = (f"http://127.0.0.1:{server.server_address[1]}" for server in self._servers)
        for server in self._servers:
            threading.Thread(target=server.serve_forever, daemon=True).start()

    def close(self) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, upstream: Upstream, *, is_claude: bool) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = upstream
        self.is_claude = is_claude


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        parts = urlsplit(self.path)
        seen = Seen(self.command, parts.path, parts.query, tuple(self.headers.items()), body, self.server.is_claude)
        self.server.upstream.seen.append(seen)
        reply = self.server.upstream.answer(seen)
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if reply.chunks is None:
            self.send_header("content-length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(reply.body)
        else:
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            self.stream(reply)

    do_GET = do_POST  # noqa: N815 - the base class's name

    def stream(self, reply: Reply) -> None:
        chunks = iter(reply.chunks or ())
        try:
            for chunk in chunks:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
                self.wfile.flush()
            if not reply.drop:
                self.wfile.write(b"0\r\n\r\n")
        except OSError:  # the client is gone: a generator learns of it by being closed
            if hasattr(chunks, "close"):
                chunks.close()
        self.close_connection = self.close_connection or reply.drop

    def log_message(self, *_: object) -> None:
        pass


# --- Anthropic's format ------------------------------------------------------------------------------------------------------

ids = iter(range(1, 1_000_000))


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def tool(name: str, tool_input: dict[str, Any]) -> dict[str, Any]:
    return {"type": "tool_use", "id": f"toolu_{next(ids):04}", "name": name, "input": tool_input}


def thinking(words: str, signature: str = "") -> dict[str, Any]:
    return {"type": "thinking", "thinking": words, "signature": signature}


def message(*blocks: dict[str, Any], model: str = "m") -> dict[str, Any]:
    stop = "tool_use" if any(block["type"] == "tool_use" for block in blocks) else "end_turn"
    return {
        "id": f"msg_{next(ids):06}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": list(blocks),
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": {"input_tokens": 10, "output_tokens": 5},
    }


def sse(*events: dict[str, Any]) -> list[bytes]:
    return [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events]


def events_of(whole: dict[str, Any]) -> list[dict[str, Any]]:
    """The stream of a message, with all content in deltas: Claude Code ignores what a block's start holds."""
    events: list[dict[str, Any]] = [{"type": "message_start", "message": whole | {"content": [], "stop_reason": None}}]
    for index, block in enumerate(whole["content"]):
        match block["type"]:
            case "text":
                start, deltas = text(""), [{"type": "text_delta", "text": block["text"]}]
            case "thinking":
                start = thinking("")
                deltas = [{"type": "thinking_delta", "thinking": block["thinking"]}]
                deltas += [{"type": "signature_delta", "signature": block["signature"]}] if block["signature"] else []
            case "tool_use":
                start = block | {"input": {}}
                whole_input = json.dumps(block["input"])
                deltas = [{"type": "input_json_delta", "partial_json": part} for part in (whole_input[:5], whole_input[5:])]
            case _:
                start, deltas = block, []
        events.append({"type": "content_block_start", "index": index, "content_block": start})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    delta = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    return [*events, {"type": "message_delta", "delta": delta, "usage": whole["usage"]}, {"type": "message_stop"}]


def anthropic_reply(seen: Seen, *blocks: dict[str, Any], headers: dict[str, str] | None = None) -> Reply:
    """Answer a Messages request, streaming when it asks for that, under the name of its model."""
    whole = message(*blocks, model=seen.json["model"])
    extra = {"request-id": f"req_{next(ids)}"} | (headers or {})
    if seen.json.get("stream"):
        return Reply(headers={"content-type": "text/event-stream"} | extra, chunks=sse(*events_of(whole)))
    return Reply(headers={"content-type": "application/json"} | extra, body=json.dumps(whole).encode())


def anthropic_error(status: int, kind: str, words: str, **headers: str) -> Reply:
    body = json.dumps({"type": "error", "error": {"type": kind, "message": words}, "request_id": "req_error"}).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status, {"content-type": "application/json"} | named, body)


# --- OpenAI's format ---------------------------------------------------------------------------------------------------------


def openai_reply(seen: Seen, *blocks: dict[str, Any], reasoning: str | None = None) -> Reply:
    """Answer a chat-completions request with the same blocks as an Anthropic one."""
    words = "".join(block["text"] for block in blocks if block["type"] == "text")
    calls = [
        {"id": f"call_{next(ids)}", "type": "function", "function": {"name": b["name"], "arguments": json.dumps(b["input"])}}
        for b in blocks
        if b["type"] == "tool_use"
    ]
    body: dict[str, Any] = {"id": f"chatcmpl-{next(ids)}", "created": 1, "model": seen.json["model"]}
    finish = "tool_calls" if calls else "stop"
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    if not seen.json.get("stream"):
        answer = {"role": "assistant", "content": words or None}
        answer |= {"tool_calls": calls} if calls else {}
        answer |= {"reasoning_content": reasoning} if reasoning else {}
        choice = {"index": 0, "message": answer, "finish_reason": finish}
        whole = body | {"object": "chat.completion", "choices": [choice], "usage": usage}
        return Reply(headers={"content-type": "application/json"}, body=json.dumps(whole).encode())
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    deltas += [{"reasoning_content": reasoning}] if reasoning else []
    deltas += [{"content": part} for part in (words[:3], words[3:]) if part]
    for index, call in enumerate(calls):
        function = call["function"]
        deltas.append({"tool_calls": [{"index": index, **call, "function": {"name": function["name"], "arguments": ""}}]})
        arguments = function["arguments"]
        deltas += [
            {"tool_calls": [{"index": index, "function": {"arguments": part}}]} for part in (arguments[:4], arguments[4:])
        ]
    chunk = body | {"object": "chat.completion.chunk"}
    lines = [chunk | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    lines.append(chunk | {"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    lines.append(chunk | {"choices": [], "usage": usage})
    chunks = [f"data: {json.dumps(line)}\n\n".encode() for line in lines] + [b"data: [DONE]\n\n"]
    return Reply(headers={"content-type": "text/event-stream"}, chunks=chunks)
