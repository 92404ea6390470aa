"""The server's HTTP protocol, with limits to what it takes of a request before anybody knows who sends it."""

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

# Of a request's line and headers together, beside the piece in which they begin (256 KB at most).
MAX_HEAD_BYTES = 64 * 1024
# How long a client may take for a whole head, and be silent in a body, in seconds: one that is gone without a word holds no
# connection, and what has arrived of its request, for longer.
PATIENCE_SECONDS = 60.0
CLOSING = "closing idle client connections to make room: the limit of open files (ulimit -n) allows %d"
REFUSING = "refusing requests with HTTP 503: the limit of open files (ulimit -n) allows %d at the same time"
BUSY = own_refusal(
    503, "The proxy is serving as many requests as its limit of open files allows. Try again.", [("retry-after", "5")]
)

# The connections of each server. One process has one server; tests have several.
_connections: WeakKeyDictionary[ServerState, ClientConnections["BoundedProtocol"]] = WeakKeyDictionary()


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol over httptools, which by itself collects headers of any size; for long ones the time is squared.

    And it waits for the rest of a request without an end (0.54), and accepts connections until no file can be opened any
    more; then uvloop (0.23) accepts every further one and closes it at once.
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
        """A client is there, and a request is awaited of it; where there are too many, an idle one is closed."""
        super().connection_made(transport)
        self._awaited_since = self.loop.time()
        self._timer = self.loop.call_later(PATIENCE_SECONDS, self._close_if_silent)
        self._clients.is_idle(self)
        too_many = self._clients.to_close(self, BoundedProtocol._has_sent_all)
        if too_many is not None:
            self._log_limit(CLOSING, self._clients.limits.connections)
            too_many._close_at_once()  # noqa: SLF001 - of the same class

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self._timer.cancel()
        self._clients.is_gone(self)
        super().connection_lost(exc)
        self._is_lost = True
        if self._when_gone is not None:
            self._when_gone()

    def when_gone(self, call: Callable[[], None] | None) -> None:
        """Keep what is to be called when the client is gone; call it at once where it is."""
        self._when_gone = call
        if call is not None and self._is_lost:
            call()

    def data_received(self, data: bytes) -> None:
        """Take what has arrived; answer 400 and close when a head has become too long."""
        head, self._same_head = self._head, self._in_head
        super().data_received(data)
        if self._same_head:
            self._head = head + len(data)
            if self._head > MAX_HEAD_BYTES and not self.transport.is_closing():
                self.send_400_response("The request's headers are too large.")

    def on_message_begin(self) -> None:
        """A head begins; the next one of a connection is counted anew."""
        super().on_message_begin()
        self.scope[WHEN_GONE] = self.when_gone  # type: ignore[literal-required]
        self._begin_head()
        self._awaited_since = self.loop.time()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; what comes after a body, as a trailer, is none."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """A head is whole; where there are too many requests already, this one is answered with 503."""
        self._in_head = self._same_head = False
        self._awaited_since = self.loop.time()
        is_admitted = self._clients.admits_request(self)
        if not is_admitted:
            self._log_limit(REFUSING, self._clients.limits.requests)
        self.app = self._served_by if is_admitted else refuse
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """A response is whole; unless another request has arrived already, the connection is idle."""
        super().on_response_complete()
        if self.cycle.response_complete and self in self.connections:
            self._clients.is_idle(self)

    def handle_websocket_upgrade(self) -> None:
        """Leave the connection to uvicorn's protocol for WebSockets, which counts it itself."""
        self._clients.is_gone(self)
        super().handle_websocket_upgrade()

    def on_body(self, body: bytes) -> None:
        """Keep a piece of a body."""
        self._awaited_since = self.loop.time()
        super().on_body(body)

    def on_message_complete(self) -> None:
        """A request is whole: what comes now is a head, or nothing."""
        super().on_message_complete()
        self._begin_head()

    def _begin_head(self) -> None:
        # Of the piece that has just arrived nobody knows which part belongs to the new head, so none is counted.
        self._in_head, self._same_head, self._head = True, False, 0

    def _has_sent_all(self) -> bool:
        return self.transport.get_write_buffer_size() == 0

    def _close_at_once(self) -> None:
        """Close, and give the file back even if the client never reads what was sent to it."""
        self.connections.discard(self)  # or it counts as one with a request until the event loop's next turn
        if self._has_sent_all():
            self.transport.close()
        else:
            self.transport.abort()

    def _log_limit(self, words: str, limit: int) -> None:
        if self._clients.should_log(words, self.loop.time()):
            logger.warning(words, limit)

    def _close_if_silent(self) -> None:
        """Close a connection whose client was awaited for too long; else look again when that could be."""
        now = self.loop.time()
        answering = self.cycle is not None and not self.cycle.response_complete and not self.cycle.more_body
        # Between two requests uvicorn looks itself, and while reading is paused it is not the client who is awaited.
        if answering or self.flow.read_paused or self.timeout_keep_alive_task is not None:
            self._awaited_since = now
        left = self._awaited_since + PATIENCE_SECONDS - now
        if left > 0:
            self._timer = self.loop.call_later(left, self._close_if_silent)
        elif self.transport.get_protocol() is self:  # and no WebSocket's
            self.transport.close()


async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer 503, as an ASGI app.

    The connection stays open: were it closed, the client could be reset before it has read the response.
    """
    del receive
    await send_refusal(send, BUSY, head=scope["method"] == "HEAD")
