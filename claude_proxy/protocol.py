"""The server's HTTP protocol, with an end to what it takes of a request before anybody knows who sends it."""

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# Of a request's line and headers together, beside the piece in which they begin (256 KB at most).
MAX_HEAD_BYTES = 64 * 1024
# How long a client may take for a whole head, and be silent in a body, in seconds: one that is gone without a word holds no
# connection, and what has arrived of its request, for longer.
PATIENCE_SECONDS = 60.0


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol over httptools, which by itself collects headers of any size; for long ones the time is squared.

    And it waits for the rest of a request without an end (0.54).
    """

    _in_head = True
    _same_head = False
    _head = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client is there, and a request is awaited of it."""
        super().connection_made(transport)
        self._awaited_since = self.loop.time()
        self._timer = self.loop.call_later(PATIENCE_SECONDS, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self._timer.cancel()
        super().connection_lost(exc)

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
        self._begin_head()
        self._awaited_since = self.loop.time()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; what comes after a body, as a trailer, is none."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """A head is whole."""
        self._in_head = self._same_head = False
        self._awaited_since = self.loop.time()
        super().on_headers_complete()

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

    def _look(self) -> None:
        """Close a connection whose client was awaited for too long; else look again when that could be."""
        now = self.loop.time()
        answering = self.cycle is not None and not self.cycle.response_complete and not self.cycle.more_body
        # Between two requests uvicorn looks itself, and while reading is paused it is not the client who is awaited.
        if answering or self.flow.read_paused or self.timeout_keep_alive_task is not None:
            self._awaited_since = now
        left = self._awaited_since + PATIENCE_SECONDS - now
        if left > 0:
            self._timer = self.loop.call_later(left, self._look)
        elif self.transport.get_protocol() is self:  # and no WebSocket's
            self.transport.close()
