"""A provider in a container beside the proxy's, in Anthropic's format: the model's name says how it answers. A program.

``held`` begins an answer and waits for the word, which is a GET; ``endless`` begins one and never goes on; others answer whole.
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MESSAGE = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [],
    "stop_reason": None, "stop_sequence": None, "usage": {"input_tokens": 1, "output_tokens": 1},
}  # fmt: skip
BEGINNING = [
    {"type": "message_start", "message": MESSAGE},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "And then"}},
]
END = [
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": {"output_tokens": 1}},
    {"type": "message_stop"},
]


class Upstream(BaseHTTPRequestHandler):
    go_on = threading.Event()

    def do_GET(self) -> None:
        waiting, Upstream.go_on = Upstream.go_on, threading.Event()
        waiting.set()
        self.send_response(204)
        self.end_headers()

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        go_on = self.go_on
        self.send_response(200)
        if not body.get("stream"):
            whole = json.dumps(MESSAGE | {"content": [{"type": "text", "text": "whole"}], "stop_reason": "end_turn"}).encode()
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(whole)))
            self.end_headers()
            self.wfile.write(whole)
            return
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        self.write(BEGINNING)
        if body["model"] == "endless":
            self.rfile.read()  # until the client leaves
            return
        if body["model"] == "held":
            go_on.wait(300)
        self.write(END)

    def write(self, events: list[dict[str, object]]) -> None:
        for event in events:
            self.wfile.write(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())


if __name__ == "__main__":
    ThreadingHTTPServer(("", 8000), Upstream).serve_forever()
