"""The server's HTTP protocol, with an end to what it takes of a request before anybody knows who sends it."""

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# Of a request's line and headers together, beside the piece in which they begin (256 KB at most).
MAX_HEAD_BYTES = 64 * 1024


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol over httptools, which by itself collects headers of any size; for long ones the time is squared."""

    _in_head = True
    _same_head = False
    _head = 0

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

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; what comes after a body, as a trailer, is none."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """A head is whole."""
        self._in_head = self._same_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """A request is whole: what comes now is a head, or nothing."""
        super().on_message_complete()
        self._begin_head()

    def _begin_head(self) -> None:
        # Of the piece that has just arrived nobody knows which part belongs to the new head, so none is counted.
        self._in_head, self._same_head, self._head = True, False, 0
