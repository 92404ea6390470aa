"""uvicorn's HTTP protocol, with limits that apply before a client is authenticated."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from claude_proxy.anthropic.errors import own_refusal, send_refusal
from claude_proxy.asgi import WHEN_GONE, Receive, Scope, Send
from claude_proxy.server.client_connections import ClientConnections, Limits

logger = logging.getLogger(__name__)

# The limit for request line and headers together, in addition to the first chunk of data (at most 256 KB).
MAX_HEAD_BYTES = 64 * 1024
# The time limit for a request's head, and for silence within a body, in seconds. It ends connections of clients that have
# vanished, and frees the data that they sent.
PATIENCE_SECONDS = 60.0
CLOSING = "closing idle client connections to make room: the limit of open files (ulimit -n) allows %d"
REFUSING = "refusing requests with HTTP 503: the limit of open files (ulimit -n) allows %d at the same time"
BUSY = own_refusal(
    503, "The proxy is serving as many requests as its limit of open files allows. Try again.", [("retry-after", "5")]
)

# The connections of each server. One process has one server; tests have several.
_connections: WeakKeyDictionary[ServerState, ClientConnections["BoundedProtocol"]] = WeakKeyDictionary()


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's httptools protocol (0.54) with three limits that it lacks.

    It accepts headers of any size, in quadratic time. It waits for the rest of a request forever. And it accepts connections
    until no file can be opened; from then on uvloop (0.23) closes each new connection immediately.
    """

    _is_lost = False
    _when_gone: Callable[[], None] | None = None
    _in_head = True
    _same_head = False
    _head = 0

    def __init__(self, config: Any, server_state: ServerState, *arguments: Any, **named: Any) -> None:
        super().__init__(config, server_state, *arguments, **named)
        if server_state not in _connections:
            _connections[server_state] = ClientConnections(Limits.of_process(), server_state.connections)
        self._clients = _connections[server_state]
        self._served_by = self.app

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected. Wait for its request; if there are too many connections, close an idle one."""
        super().connection_made(transport)
        self._waiting_since = self.loop.time()
        self._timer = self.loop.call_later(PATIENCE_SECONDS, self._close_if_silent)
        self._clients.is_idle(self)
        too_many = self._clients.to_close(self, BoundedProtocol._has_sent_all)
        if too_many is not None:
            self._log_limit(CLOSING, self._clients.limits.connections)
            too_many._close_at_once()  # noqa: SLF001 - same class

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has disconnected."""
        self._timer.cancel()
        self._clients.is_gone(self)
        super().connection_lost(exc)
        self._is_lost = True
        if self._when_gone is not None:
            self._when_gone()

    def when_gone(self, call: Callable[[], None] | None) -> None:
        """Register a function for the client's disconnect; call it immediately if that has already happened."""
        self._when_gone = call
        if call is not None and self._is_lost:
            call()

    def data_received(self, data: bytes) -> None:
        """Process received data; send 400 and close if a head is too long."""
        head, self._same_head = self._head, self._in_head
        super().data_received(data)
        if self._same_head:
            self._head = head + len(data)
            if self._head > MAX_HEAD_BYTES and not self.transport.is_closing():
                self.send_400_response("The request's headers are too large.")

    def on_message_begin(self) -> None:
        """A head starts; its size is counted from zero."""
        super().on_message_begin()
        self.scope[WHEN_GONE] = self.when_gone  # type: ignore[literal-required]
        self._begin_head()
        self._waiting_since = self.loop.time()

    def on_headers_complete(self) -> None:
        """A head is complete; if there are too many requests, respond with 503."""
        self._in_head = self._same_head = False
        self._waiting_since = self.loop.time()
        is_admitted = self._clients.admits_request(self)
        if not is_admitted:
            self._log_limit(REFUSING, self._clients.limits.requests)
        self.app = self._served_by if is_admitted else refuse
        super().on_headers_complete()
        if not self.parser.should_upgrade():
            # The request has its headers. Trailers after its body, which the parser reports as headers, are ignored.
            self.headers = []

    def on_response_complete(self) -> None:
        """A response is complete; the connection is idle unless the next request has already arrived."""
        super().on_response_complete()
        if self.cycle.response_complete and self in self.connections:
            self._clients.is_idle(self)

    def handle_websocket_upgrade(self) -> None:
        """Leave the connection to uvicorn's WebSocket protocol, which tracks it itself."""
        self._clients.is_gone(self)
        super().handle_websocket_upgrade()

    def on_body(self, body: bytes) -> None:
        """Keep a part of a body."""
        self._waiting_since = self.loop.time()
        super().on_body(body)

    def on_message_complete(self) -> None:
        """A request is complete; the next data is a new head."""
        super().on_message_complete()
        self._begin_head()

    def _begin_head(self) -> None:
        # It is unknown which part of the current data belongs to the new head, so none of it is counted.
        self._in_head, self._same_head, self._head = True, False, 0

    def _has_sent_all(self) -> bool:
        return self.transport.get_write_buffer_size() == 0

    def _close_at_once(self) -> None:
        """Close, and free the file even if the client never reads the response."""
        self.connections.discard(self)  # otherwise it counts as active until the event loop's next iteration
        if self._has_sent_all():
            self.transport.close()
        else:
            self.transport.abort()

    def _log_limit(self, words: str, limit: int) -> None:
        if self._clients.should_log(words, self.loop.time()):
            logger.warning(words, limit)

    def _close_if_silent(self) -> None:
        """Close a connection whose client was silent for too long; otherwise check again later."""
        now = self.loop.time()
        responding = self.cycle is not None and not self.cycle.response_complete and not self.cycle.more_body
        # Between two requests uvicorn has its own timer; while reading is paused, the proxy does not wait for the client.
        if responding or self.flow.read_paused or self.timeout_keep_alive_task is not None:
            self._waiting_since = now
        left = self._waiting_since + PATIENCE_SECONDS - now
        if left > 0:
            self._timer = self.loop.call_later(left, self._close_if_silent)
        elif self.transport.get_protocol() is self:  # not a WebSocket
            self.transport.close()


async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
    """Respond with 503, as an ASGI app.

    The connection stays open: closing it could reset it before the client has read the response.
    """
    del receive
    await send_refusal(send, BUSY, head=scope["method"] == "HEAD")
