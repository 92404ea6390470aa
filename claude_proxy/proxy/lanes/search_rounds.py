"""Performs a response of several rounds: sends a request to the model, searches, and sends the next request.

``providers/search_stream.py`` decides; this module does the I/O.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from claude_proxy.anthropic.search_blocks import Page
from claude_proxy.anthropic.sse import json_object
from claude_proxy.anthropic.stream_message import message_of
from claude_proxy.providers.returned import BROKEN_OFF
from claude_proxy.providers.search_stream import Round, SearchStream, State
from claude_proxy.proxy.lanes.attempt import NO_STREAMS, STREAM, words_of
from claude_proxy.proxy.offload import offloaded
from claude_proxy.proxy.outcome import Outcome
from claude_proxy.proxy.response import ClientResponse
from claude_proxy.upstream.client import StreamedResponse, UpstreamError

logger = logging.getLogger(__name__)


class RoundRefused(Exception):
    """A round after the first one failed; ``outcome`` is that error's."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__("refused")
        self.outcome = outcome


class RoundCalls(NamedTuple):
    """The functions that a response of several rounds calls.

    ``again`` sends a request with more turns; it raises ``RoundRefused`` and ``UpstreamError``. ``search`` never fails.
    """

    again: Callable[[Sequence[dict[str, Any]]], Awaitable[tuple[StreamedResponse, Round]]]
    search: Callable[[str], Awaitable[Sequence[Page] | str]]


class Passing:
    """A ``StreamEditor`` that changes nothing, because the stream is already in the client's format."""

    def feed(self, chunk: bytes) -> bytes:
        return chunk

    def finish(self) -> bytes:
        return b""


class SearchRounds:
    """A response of several rounds: read it with ``piece`` until it is empty, then ``close`` it."""

    def __init__(
        self, stream: SearchStream, response: StreamedResponse, calls: RoundCalls, outlet: ClientResponse, *, streams: bool
    ) -> None:
        """An error after the client has received a part is written into the response; an earlier one is raised."""
        self.stream = stream
        self._response: StreamedResponse | None = response
        self._calls = calls
        self._streams = streams
        self._outlet = outlet
        # The work on the next part; it continues if the wait for it is cancelled.
        self._work: asyncio.Future[bytes] | None = None

    async def piece(self) -> bytes:
        """Return the next part for the client, empty at the end. Cancelling the wait loses no data."""
        if self._work is None:
            self._work = asyncio.ensure_future(self._next())
        made = await asyncio.shield(self._work)
        self._work = None
        return made

    async def collected(self) -> dict[str, Any]:
        """Return the whole message or its error; empty for an incomplete one."""
        parts: list[bytes] = []
        while part := await self.piece():
            parts.append(part)
        stream = b"".join(parts)
        parsed = await offloaded(len(stream), message_of, stream)
        return parsed or {}

    async def close(self) -> None:
        """Cancel the current work."""
        if self._work is not None:
            self._work.cancel()
            await asyncio.wait({self._work})
            if not self._work.cancelled():
                self._work.exception()  # nothing waits for it any more
        self._close_response()

    def _close_response(self) -> None:
        if self._response is not None:
            self._response.close()
        self._response = None

    async def _next(self) -> bytes:
        out = b""
        while not out and self.stream.state is not State.ENDED:
            try:
                out = await self._step()
            except RoundRefused as refused:
                if not self._streams or refused.outcome.refusal is None:
                    raise
                out = self.stream.refuse(refused.outcome.refusal.body)
            except UpstreamError as error:
                if not self._outlet.begun:
                    raise
                logger.warning("a provider broke off its response (%s)", words_of(error))
                out = self.stream.fail(BROKEN_OFF)
        return out

    async def _step(self) -> bytes:
        stream = self.stream
        if stream.state is State.RESPONDING and self._response is not None:
            out = await self._next_part(self._response)
            if stream.state is not State.RESPONDING:
                self._close_response()
            return out
        if stream.state is State.SEARCHING:
            if not stream.is_searching:
                return stream.begin_search()
            query = stream.query
            return stream.found(stream.problem if query is None else await self._calls.search(query))
        self._response, following = await self._calls.again(stream.turns)
        stream.begin_round(following)
        return b""

    async def _next_part(self, response: StreamedResponse) -> bytes:
        """Return the next part of a round. A provider may send a whole response or a stream, whichever was requested."""
        if response.media_type in NO_STREAMS or not (self._streams or response.media_type == STREAM):
            content = await response.read()
            parsed = await offloaded(len(content), json_object, content)
            return self.stream.feed_whole(parsed or {})
        chunk = await response.piece()
        return self.stream.feed(chunk) if chunk else self.stream.finish()
