"""A response of several rounds as one stream of pieces: asks the model, searches, asks again.

``providers/search_stream.py`` decides; here is what waits.
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
    """A round after the first was refused; ``outcome`` is that error's."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__("refused")
        self.outcome = outcome


class Asking(NamedTuple):
    """What a response of several rounds needs of others.

    ``again`` asks the provider with more turns; it raises ``RoundRefused`` and ``UpstreamError``. ``search`` never fails.
    """

    again: Callable[[Sequence[dict[str, Any]]], Awaitable[tuple[StreamedResponse, Round]]]
    search: Callable[[str], Awaitable[Sequence[Page] | str]]


class Passing:
    """A ``Mender`` that changes nothing: what comes is written for the client already."""

    def feed(self, chunk: bytes) -> bytes:
        return chunk

    def finish(self) -> bytes:
        return b""


class SearchRounds:
    """Read it by ``piece`` until there is nothing, then ``close`` it."""

    def __init__(
        self, stream: SearchStream, response: StreamedResponse, asking: Asking, outlet: ClientResponse, *, streams: bool
    ) -> None:
        """What breaks is told in a response of which the client has a part, and else raised."""
        self.stream = stream
        self._response: StreamedResponse | None = response
        self._asking = asking
        self._streams = streams
        self._outlet = outlet
        # The work on the next piece; it outlasts whoever waits for it.
        self._work: asyncio.Future[bytes] | None = None

    async def piece(self) -> bytes:
        """Return what is next for the client, and nothing at the end. Nothing is lost when the wait for it is cancelled."""
        if self._work is None:
            self._work = asyncio.ensure_future(self._next())
        made = await asyncio.shield(self._work)
        self._work = None
        return made

    async def collected(self) -> dict[str, Any]:
        """Return the message as a whole, or its error; nothing of one without its end."""
        parts: list[bytes] = []
        while part := await self.piece():
            parts.append(part)
        stream = b"".join(parts)
        said = await offloaded(len(stream), message_of, stream)
        return said or {}

    async def close(self) -> None:
        """End what is under way."""
        if self._work is not None:
            self._work.cancel()
            await asyncio.wait({self._work})
            if not self._work.cancelled():
                self._work.exception()  # nobody waits for it any more
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
                logger.warning("a provider broke its answer off (%s)", words_of(error))
                out = self.stream.fail(BROKEN_OFF)
        return out

    async def _step(self) -> bytes:
        stream = self.stream
        if stream.state is State.RESPONDING and self._response is not None:
            out = await self._told(self._response)
            if stream.state is not State.RESPONDING:
                self._close_response()
            return out
        if stream.state is State.SEARCHING:
            if not stream.is_searching:
                return stream.begin_search()
            query = stream.query
            return stream.found(stream.problem if query is None else await self._asking.search(query))
        self._response, following = await self._asking.again(stream.turns)
        stream.begin_round(following)
        return b""

    async def _told(self, response: StreamedResponse) -> bytes:
        """Return what the next part of a round is for the client. A provider may send a whole answer, or stream it, unasked."""
        if response.media_type in NO_STREAMS or not (self._streams or response.media_type == STREAM):
            content = await response.read()
            said = await offloaded(len(content), json_object, content)
            return self.stream.feed_whole(said or {})
        chunk = await response.piece()
        return self.stream.feed(chunk) if chunk else self.stream.finish()
