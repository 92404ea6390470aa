"""The HTTP handler with which LiteLLM makes an attempt on a lane and translates the lane's message for the client.

Depends on LiteLLM's shapes (1.106.2), like ``litellm/lane_client.py``; ``tests/test_contract.py`` guards it.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx

from claude_proxy.anthropic.errors import Refused, error_message
from claude_proxy.anthropic.messages import to_json
from claude_proxy.asgi import Headers, Message
from claude_proxy.config.deployments import Deployment
from claude_proxy.credentials.redaction import Redactor
from claude_proxy.litellm.lane_client import HandlerWithoutHttp
from claude_proxy.proxy.entrance import Entrance
from claude_proxy.proxy.lanes.attempt import STREAM
from claude_proxy.proxy.outcome import Outcome
from claude_proxy.proxy.request import Request, read_view
from claude_proxy.proxy.response import ClientResponse
from claude_proxy.proxy.serving import Serving
from claude_proxy.upstream.headers import Client

# The headers of LiteLLM's request that a lane may send.
SENT = frozenset({"accept", "anthropic-beta", "anthropic-version", "content-type"})
# The maximum number of parts that wait for LiteLLM.
MAX_WAITING = 64
NOBODY = Client((), None, None, None)


class LaneFailed(httpx.HTTPStatusError):
    """The lane's error, in the form in which LiteLLM reads a provider's status and message."""

    def __init__(self, request: httpx.Request, status: int, message: str) -> None:
        body = to_json({"error": {"message": message}})
        super().__init__(message, request=request, response=httpx.Response(status, content=body, request=request))
        self.status_code = status
        self.text = message


class Pipe(httpx.AsyncByteStream):
    """A lane's message on its way to LiteLLM: one side is ASGI's ``send``, the other one the body of an httpx response.

    A message without its end is an error for the reader.
    """

    def __init__(self) -> None:
        self._parts: asyncio.Queue[bytes | None] = asyncio.Queue(MAX_WAITING)
        self._is_whole = False
        # Set when the response has begun, or will not begin.
        self.decided = asyncio.Event()
        self.work: asyncio.Future[Outcome] | None = None

    async def send(self, message: Message) -> None:
        """Take a message of the lane's outlet."""
        if message["type"] == "http.response.start":
            self.decided.set()
        else:
            if data := message.get("body", b""):
                await self._parts.put(data)
            self._is_whole = not message.get("more_body", False)

    async def finish(self) -> None:
        """Take the end of the lane's work."""
        await self._parts.put(None)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (part := await self._parts.get()) is not None:
            yield part
        if not self._is_whole:
            raise httpx.RemoteProtocolError("the provider broke off its response")

    async def aclose(self) -> None:
        """End the lane's work."""
        if self.work is not None and not self.work.done():
            self.work.cancel()
            await asyncio.wait({self.work})


class PipeClient(HandlerWithoutHttp):
    """Makes LiteLLM's attempt on the lane of a deployment with the Messages format, as a request of the client's user.

    Of LiteLLM's request, the body and a few headers are sent. Claude is asked with an API key alone.
    """

    def __init__(self, serving: Serving, entrance: Entrance, deployment: Deployment, redactor: Redactor, *, model: str) -> None:
        super().__init__()
        self._serving = serving
        self._entrance = entrance
        self._deployment = deployment
        self._redactor = redactor
        self._model = model

    async def post(
        self,
        url: str,
        data: str | bytes | None = None,
        json: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        stream: bool = False,  # noqa: FBT001, FBT002 - the base class's
        **_: Any,
    ) -> httpx.Response:
        """Return the lane's message, read to its end unless it streams. Raises ``LaneFailed``."""
        sent = httpx.Request("POST", url)
        raw = to_json(json) if data is None else data.encode() if isinstance(data, str) else data
        pipe = Pipe()
        try:
            request = self._request(raw, [*(headers or {}).items()])
        except Refused as refused:
            raise LaneFailed(sent, refused.status, str(refused)) from None
        outlet = ClientResponse(pipe.send, request, self._redactor, self._entrance.journal)
        self._entrance.opened.append(pipe.aclose)
        pipe.work = asyncio.ensure_future(self._run(request, outlet, pipe))
        await pipe.decided.wait()
        if not outlet.begun:
            raise self._failure(sent, await pipe.work)
        kind = STREAM if stream else "application/json"
        response = httpx.Response(200, headers={"content-type": kind}, stream=pipe, request=sent)
        if not stream:
            try:
                await response.aread()
            except httpx.HTTPError as error:
                raise LaneFailed(sent, 502, str(error)) from None
        return response

    def _request(self, raw: bytes, headers: Headers) -> Request:
        outer = self._entrance.request
        kept = [(name.lower(), value) for name, value in headers if name.lower() in SENT]
        return Request(NOBODY, kept, raw, read_view(raw), user=outer.user, groups=outer.groups, api_keys_only=True)

    async def _run(self, request: Request, outlet: ClientResponse, pipe: Pipe) -> Outcome:
        entrance = self._entrance
        try:
            outcome = await self._serving.attempt(request, self._deployment, outlet, entrance.journal, model=self._model)
            entrance.record(outcome)
        finally:
            pipe.decided.set()
        await pipe.finish()
        return outcome

    def _failure(self, sent: httpx.Request, outcome: Outcome) -> LaneFailed:
        refusal = outcome.refusal
        if refusal is None:
            return LaneFailed(sent, 502, "the provider's response cannot be used")
        return LaneFailed(sent, outcome.status, error_message(refusal.body, outcome.status))
