"""A loopback proxy between a client and the real one, which keeps what the client sent and the responses that it got."""

import http.client
import json
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

# Fields of one connection, and the length, which this server sets anew.
OF_CONNECTION = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length"})


@dataclass(frozen=True)
class Exchange:
    """One request of the client, and the response to it. Names of headers are in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    status: int
    reply_headers: dict[str, str]
    reply: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def form(self) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(self.body.decode()).items()}

    @property
    def reply_json(self) -> Any:
        return json.loads(self.reply)

    @property
    def bearer(self) -> str:
        return self.headers.get("authorization", "").removeprefix("Bearer ")


class Recorder:
    """Forward each request to ``target``, a loopback address with a port, under the ``Host`` that the client wrote."""

    def __init__(self, target: str) -> None:
        self.exchanges: list[Exchange] = []
        self._changed = threading.Condition()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler(target))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def of(self, path: str, after: int = 0) -> list[Exchange]:
        """The exchanges of a path, without the first ``after`` of all."""
        return [one for one in [*self.exchanges][after:] if one.path == path]

    def wait_for(self, path: str, count: int = 1, after: int = 0, seconds: float = 90) -> list[Exchange]:
        """Wait for so many exchanges of a path and return them."""
        with self._changed:
            found = self._changed.wait_for(lambda: len(self.of(path, after)) >= count, seconds)
        if not found:
            seen = [(one.method, one.path, one.status) for one in self.exchanges]
            raise AssertionError(f"there are not {count} requests of {path}: {seen}")
        return self.of(path, after)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _keep(self, exchange: Exchange) -> None:
        with self._changed:
            self.exchanges.append(exchange)
            self._changed.notify_all()

    def _handler(self, target: str) -> type[BaseHTTPRequestHandler]:
        keep, to = self._keep, urlsplit(target)

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                sent = {name.lower(): value for name, value in self.headers.items()}
                connection = http.client.HTTPConnection(to.hostname or "", to.port, timeout=120)
                named = {name: value for name, value in sent.items() if name not in OF_CONNECTION}
                connection.request(self.command, self.path, body or None, named | {"content-length": str(len(body))})
                reply = connection.getresponse()
                self.send_response_only(reply.status)
                got = {name.lower(): value for name, value in reply.getheaders()}
                for name, value in got.items():
                    if name not in OF_CONNECTION:
                        self.send_header(name, value)
                self.send_header("connection", "close")
                self.end_headers()
                whole = b""
                while part := reply.read1(65536):
                    whole += part
                    self.wfile.write(part)
                connection.close()
                keep(Exchange(self.command, urlsplit(self.path).path, sent, body, reply.status, got, whole))

            do_GET = do_HEAD = do_POST  # noqa: N815 - the base class's name

            def log_message(self, *_: object) -> None:
                pass

        return Handler
