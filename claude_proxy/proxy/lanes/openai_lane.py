"""LiteLLM's response to a client with OpenAI's API: passed on as it arrives, or converted to an outcome if it is an error."""

from claude_proxy.anthropic.errors import refusal_of
from claude_proxy.anthropic.messages import to_json
from claude_proxy.anthropic.sse import json_object
from claude_proxy.asgi import Message
from claude_proxy.config.deployments import Lane
from claude_proxy.openai.api_requests import Api
from claude_proxy.openai.api_stream import ClientStream, Counted, whole
from claude_proxy.proxy.entrance import Entrance
from claude_proxy.proxy.offload import offloaded
from claude_proxy.proxy.outcome import DONE, Outcome, failed

STREAM_HEADERS = [("content-type", "text/event-stream; charset=utf-8"), ("cache-control", "no-cache")]


class OpenaiResponse:
    """ASGI ``send`` for one call of LiteLLM's app.

    The usage is that of the lane which made the attempt, or else what the response itself reports.
    """

    def __init__(self, entrance: Entrance, api: Api, *, shows_usage: bool) -> None:
        self._entrance = entrance
        self._outlet = entrance.outlet
        self._journal = entrance.journal
        self._api = api
        self._model = entrance.request.model
        self._stream = ClientStream(api, self._model, shows_usage=shows_usage, problem=entrance.end_problem)
        self._status = 0
        self._headers: list[tuple[str, str]] = []
        # The start of a stream without content, or the whole of any other response.
        self._held = bytearray()
        self._error: tuple[int, bytes] | None = None

    async def __call__(self, message: Message) -> None:
        """Process one of LiteLLM's messages."""
        if message["type"] == "http.response.start":
            self._status = int(message["status"])
            self._headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in message["headers"]]
            return
        data, last = message.get("body", b""), not message.get("more_body", False)
        if self._status == 200 and self._entrance.request.streams and self._error is None:
            await self._part(data, last=last)
            return
        self._held += data
        if last and self._error is None:
            await self._whole()

    def outcome(self) -> Outcome:
        """Return the outcome of the request, after LiteLLM has finished."""
        if self._error is None or self._outlet.begun:
            return DONE
        status, body = self._error
        return failed(status, refusal_of(status, body, self._headers))

    async def _part(self, data: bytes, *, last: bool) -> None:
        stream, outlet = self._stream, self._outlet
        ready = stream.feed(data) + (stream.finish() if last else b"")
        if not outlet.begun:
            self._held += ready
            if stream.error and not stream.has_content:
                self._error = stream.status or 502, _error_body(stream.words)
                return
            if not stream.has_content and not last:
                return
            ready = bytes(self._held)
            self._held.clear()
            await outlet.begin(200, STREAM_HEADERS)
        self._count()
        await outlet.write(ready)
        if last or stream.error:
            await outlet.end()

    def _count(self) -> None:
        """Record what the response says of itself, unless the lane that made the attempt knows it."""
        stream, journal = self._stream, self._journal
        if stream.error:
            journal.error = journal.error or stream.error
        if not self._is_of_lane():
            journal.summary, journal.usage = stream, stream.usage

    async def _whole(self) -> None:
        body = bytes(self._held)
        found = await offloaded(len(body), json_object, body)
        if self._status >= 400 or found is None:
            self._error = (self._status if self._status >= 400 else 502), body
            return
        if words := self._entrance.end_problem():
            self._error = 502, _error_body(words)
            return
        ready, usage = await offloaded(len(body), whole, found, self._api, self._model)
        if not self._is_of_lane():
            self._journal.summary, self._journal.usage = Counted(usage), usage
        await self._outlet.begin(200, [("content-type", "application/json"), ("content-length", str(len(ready)))])
        await self._outlet.end(ready)

    def _is_of_lane(self) -> bool:
        return self._journal.lane not in (None, Lane.LITELLM)


def _error_body(words: str) -> bytes:
    return to_json({"error": {"message": words}})
