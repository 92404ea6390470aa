"""The parts of aiohttp that the HTTP client replaces: how a request is made up, and what is known of its connection."""

import asyncio
import functools
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.hdrs import AUTHORIZATION, CONTENT_LENGTH, METH_HEAD
from aiohttp.helpers import DEFAULT_CHUNK_SIZE, TimerNoop
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


HTTP = ("http", "https")
# The limit for header lines, above what any provider sends.
MAX_LINE_BYTES = 64 * 1024
MAX_HEADERS = 1000
_NO_TIMER = TimerNoop()
# Headers that aiohttp would add.
_NOT_ADDED = CIMultiDict((name, None) for name in ("accept", "accept-encoding", "content-type", "user-agent"))


class OwnRequest(aiohttp.ClientRequest):
    """Adds only the headers ``host`` and ``content-length``; aiohttp (3.14.5) would sort and copy all headers for that.

    Raises ``ValueError`` for a URL that is not HTTP, or whose user would replace the header ``authorization``.
    """

    def update_auth(self, auth: Any, trust_env: bool = False) -> None:  # noqa: FBT001, FBT002 - aiohttp's
        if self.url.scheme not in HTTP or (self.auth is not None and AUTHORIZATION in self.headers):
            raise ValueError(self.url.scheme)
        super().update_auth(auth, trust_env)

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
    """Sends requests on its connections, records whether one used a kept connection, and reports that it has one.

    aiohttp's traces report both, too, but cost more than all the rest; and its ``ClientSession`` adds a sixth to the cost of a
    request for redirects, cookies, and default values, which are not used here.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._factory = functools.partial(Connection, loop=self._loop)  # type: ignore[assignment]

    async def connect(self, req: Any, traces: Any, timeout: aiohttp.ClientTimeout) -> Any:  # noqa: ASYNC109 - aiohttp's
        connection = await super().connect(req, traces, timeout)
        current_sent.get().on_sent()
        return connection

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop of the connections."""
        return self._loop

    async def respond(self, request: OwnRequest, limits: aiohttp.ClientTimeout) -> aiohttp.ClientResponse:
        """Send a request and return the response with its headers. Raises aiohttp's errors, as its session does."""
        try:
            return await self._respond(request, limits)
        except aiohttp.ClientError:
            raise
        except OSError as error:
            if error.errno is None and isinstance(error, TimeoutError):
                raise
            raise aiohttp.ClientOSError(*error.args) from error

    async def _respond(self, request: OwnRequest, limits: aiohttp.ClientTimeout) -> aiohttp.ClientResponse:
        try:
            connection = await self.connect(request, [], limits)
        except TimeoutError as error:
            raise aiohttp.ConnectionTimeoutError(f"Connection timeout to host {request.host}") from error
        try:
            connection.protocol.set_response_params(
                timer=_NO_TIMER,
                skip_payload=request.method == METH_HEAD,
                read_until_eof=True,
                auto_decompress=False,
                read_timeout=limits.sock_read,
                read_bufsize=DEFAULT_CHUNK_SIZE,
                max_line_size=MAX_LINE_BYTES,
                max_field_size=MAX_LINE_BYTES,
                max_headers=MAX_HEADERS,
            )
            response = await request.send(connection)
            try:
                await response.start(connection)
            except BaseException:
                response.close()
                raise
        except BaseException:
            connection.close()
            raise
        return response

    async def _create_connection(self, req: Any, traces: Any, timeout: aiohttp.ClientTimeout) -> Any:  # noqa: ASYNC109 - aiohttp's
        current_sent.get().reused = False
        return await super()._create_connection(req, traces, timeout)
