"""Upstream connections: as many as there are requests, and a few that wait for the next one. Without LiteLLM."""

import functools
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx

# How long a connection is kept that nobody uses, in seconds, and how many of them to one host. Anthropic keeps its end for
# minutes; one that a host has closed is noticed before it is used again.
IDLE_SECONDS = 30.0
IDLE_CONNECTIONS = 100


class Connections(httpx.AsyncBaseTransport):
    """As many connections as there are requests, each a transport of its own; the one used last is used first.

    httpcore 1.0.9 looks at every connection of a pool, and asks the system about every idle one, whenever a request begins
    or ends: with 64 of them that doubles what a request costs. Here a request meets one.
    """

    def __init__(self, make: Callable[[], httpx.AsyncBaseTransport], clock: Callable[[], float] = time.monotonic) -> None:
        self._make = make
        self._clock = clock
        # By host: the transports that are not in use, each with the time since when.
        self._idle: dict[tuple[str, str, int | None], deque[tuple[float, httpx.AsyncBaseTransport]]] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        idle = self._idle.setdefault((request.url.scheme, request.url.host, request.url.port), deque())
        transport = idle.pop()[1] if idle else self._make()
        try:
            response = await transport.handle_async_request(request)
        except BaseException:
            await transport.aclose()
            raise
        response.stream = _Returning(response.stream, functools.partial(self._back, idle, transport))
        return response

    async def _back(self, idle: deque[tuple[float, httpx.AsyncBaseTransport]], transport: httpx.AsyncBaseTransport) -> None:
        now = self._clock()
        idle.append((now, transport))
        while idle and (len(idle) > IDLE_CONNECTIONS or idle[0][0] < now - IDLE_SECONDS):
            await idle.popleft()[1].aclose()

    async def aclose(self) -> None:
        for idle in self._idle.values():
            while idle:
                await idle.popleft()[1].aclose()


class _Returning(httpx.AsyncByteStream):
    """A response's stream, at whose end its transport is free again."""

    def __init__(self, stream: Any, back: Callable[[], Any]) -> None:
        self._stream = stream
        self._back: Callable[[], Any] | None = back

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._stream:
            yield chunk

    async def aclose(self) -> None:
        back, self._back = self._back, None
        if back is not None:
            try:
                await self._stream.aclose()
            finally:
                await back()
