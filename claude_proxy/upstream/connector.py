"""The parts of aiohttp that the HTTP client replaces: how a request is made up, and what is known of its connection."""

import functools
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.hdrs import CONTENT_LENGTH
from aiohttp.payload import BytesPayload
from multidict import CIMultiDict


def nothing() -> None:
    """Record nothing."""


@dataclass(slots=True)
class Sent:
    """A request that is sent: what to call when it has a connection, and whether that was a kept one."""

    on_sent: Callable[[], None] = nothing
    reused: bool = True


# The request that this task sends; set for the connector, which aiohttp calls in the same task.
current_sent: ContextVar[Sent] = ContextVar("sending")


# Headers that aiohttp would add.
_NOT_ADDED = CIMultiDict((name, None) for name in ("accept", "accept-encoding", "content-type", "user-agent"))


class OwnRequest(aiohttp.ClientRequest):
    """Adds only the headers ``host`` and ``content-length``; aiohttp (3.14.5) would sort and copy all headers for that."""

    def update_auto_headers(self, skip_auto_headers: Iterable[str] | None) -> None:
        del skip_auto_headers
        self._skip_auto_headers = _NOT_ADDED

    def update_body_from_data(self, body: Any, _stacklevel: int = 3) -> None:
        if not isinstance(body, bytes):
            super().update_body_from_data(body, _stacklevel + 1)
            return
        self._body = BytesPayload(body)
        if CONTENT_LENGTH not in self.headers:
            self.headers[CONTENT_LENGTH] = str(len(body))


class Connection(ResponseHandler):
    """Uses one read timer per response; aiohttp (3.14.5) would cancel and create a timer at each piece that arrives."""

    _last_read = 0.0

    def _reschedule_timeout(self) -> None:
        self._last_read = self._loop.time()
        if self._read_timeout_handle is None and self._read_timeout:
            self._read_timeout_handle = self._loop.call_later(self._read_timeout, self._look)

    def _look(self) -> None:
        left = self._last_read + (self._read_timeout or 0.0) - self._loop.time()
        if left > 0:
            self._read_timeout_handle = self._loop.call_later(left, self._look)
        else:
            self._on_read_timeout()


class Connector(aiohttp.TCPConnector):
    """Records whether a request used a kept connection, and reports that it has one.

    aiohttp's traces report both, too, but cost more than all the rest.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._factory = functools.partial(Connection, loop=self._loop)  # type: ignore[assignment]

    async def connect(self, req: Any, traces: Any, timeout: aiohttp.ClientTimeout) -> Any:  # noqa: ASYNC109 - aiohttp's
        connection = await super().connect(req, traces, timeout)
        current_sent.get().on_sent()
        return connection

    async def _create_connection(self, req: Any, traces: Any, timeout: aiohttp.ClientTimeout) -> Any:  # noqa: ASYNC109 - aiohttp's
        current_sent.get().reused = False
        return await super()._create_connection(req, traces, timeout)
