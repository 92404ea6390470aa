"""The routes of files: upload, list, describe, download and delete."""

import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

from claude_proxy.anthropic.errors import Refused
from claude_proxy.asgi import Headers, Receive
from claude_proxy.config.users import folded
from claude_proxy.credentials.made_objects import MadeObject, ObjectKind, fingerprint, is_id
from claude_proxy.credentials.order import Requester
from claude_proxy.proxy.account_requests import Call, Failed
from claude_proxy.proxy.lanes.claude_lane import replayed
from claude_proxy.proxy.request import Request
from claude_proxy.proxy.response import ClientResponse
from claude_proxy.server.batch_routes import NO_ID, TOO_MANY
from claude_proxy.server.bodies import TOO_LARGE
from claude_proxy.server.object_calls import Asked, ObjectCalls, Operation, send_json
from claude_proxy.upstream.client import UpstreamError

logger = logging.getLogger(__name__)

BASE = "/v1/files"
# Anthropic's limit, and some bytes for the form around the file.
MAX_FILE_BYTES = 500 * 1024 * 1024 + 64 * 1024
CLOSE = [("connection", "close"), ("x-should-retry", "false")]
# A browser must not show a file as a page of the proxy's own.
AS_A_FILE = [("x-content-type-options", "nosniff"), ("content-security-policy", "sandbox; default-src 'none'")]
_OWN_HEADERS = frozenset(name for name, _ in AS_A_FILE)


class Upload:
    """A body on its way to Anthropic, part by part. ``failure`` says why it ended early, if the client is the reason."""

    def __init__(self, receive: Receive, limit: int = MAX_FILE_BYTES) -> None:
        self._receive = receive
        self._limit = limit
        self.failure: Refused | ConnectionAbortedError | None = None

    async def parts(self) -> AsyncIterator[bytes]:
        """Yield the parts as they arrive. Ends with ``failure`` if the client disconnects or the body is too large."""
        size, more = 0, True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self.failure = ConnectionAbortedError()
                raise self.failure
            part, more = message.get("body", b""), message.get("more_body", False)
            size += len(part)
            if size > self._limit:
                self.failure = Refused(413, TOO_LARGE, CLOSE)
                raise self.failure
            if part:
                yield part


class FileRoutes:
    """One per process. ``requester`` returns who a request is for, without a model. ``clock`` returns Unix seconds."""

    def __init__(self, calls: ObjectCalls, requester: Callable[[Request], Requester], clock: Callable[[], float]) -> None:
        self._calls = calls
        self._requester = requester
        self._clock = clock

    async def serve(self, asked: Asked, outlet: ClientResponse) -> None:
        """Respond to a request. Raises ``Refused`` and ``Failed``."""
        match asked.operation:
            case Operation.MAKE:
                await self._upload(asked, outlet)
            case Operation.LIST:
                await self._calls.send_list(asked, outlet, _same)
            case Operation.CONTENT:
                await self._send_content(asked, outlet)
            case _:
                await self._calls.relay(asked, outlet, _same)

    async def _upload(self, asked: Asked, outlet: ClientResponse) -> None:
        request, objects = asked.request, self._calls.objects
        length = _length(request.headers)
        own = objects.keys.own(request.client)
        if own is None and not objects.made.has_room(ObjectKind.FILE, folded(request.user)):
            raise Refused(429, TOO_MANY.format(what="files"), CLOSE)
        try:
            key = own or objects.keys.choose(request.client, self._requester(request))
        except Refused as refused:
            raise Refused(refused.status, str(refused), [*(refused.headers or []), *CLOSE], kind=refused.kind) from None
        upload = Upload(asked.receive)
        more = [("content-length", str(length))] if length is not None else []
        call = Call("POST", BASE, request.query, upload.parts(), more)
        try:
            found, headers = await self._calls.requests.read(request, key, call, outlet.redact)
        except Failed:
            if isinstance(upload.failure, Refused):
                raise upload.failure from None
            raise
        identifier = found.get("id")
        if own is None:
            made = MadeObject(ObjectKind.FILE, str(identifier), folded(request.user), fingerprint(key), self._clock())
            if not is_id(identifier) or not await objects.record(made):
                raise Failed(NO_ID, may_be_done=True)
            logger.info("user %s uploaded file %s with credential %s", request.user, made.id, key.label)
        await send_json(outlet, found, headers)

    async def _send_content(self, asked: Asked, outlet: ClientResponse) -> None:
        """Send a file while it arrives, in its own bytes."""
        _, key = await self._calls.target(asked)
        call = Call("GET", f"{BASE}/{asked.id}/content", asked.request.query)
        response = await self._calls.requests.send(asked.request, key, call, outlet.redact)
        response.has_no_events()
        try:
            kept = [pair for pair in replayed(response) if pair[0] not in _OWN_HEADERS]
            await outlet.begin(200, [*kept, *AS_A_FILE], unchanged=True)
            while piece := await response.piece():
                await outlet.write(piece)
            await outlet.end()
        except UpstreamError as error:  # the client's response stays without an end, as Anthropic's did
            logger.warning("Anthropic broke off the file %s (%s)", asked.id, error)
        finally:
            response.close()


def _length(headers: Headers) -> int | None:
    """Return the announced length of a body; None without one. Raises ``Refused`` for one that is too large."""
    text = next((value for name, value in headers if name.lower() == "content-length"), "")
    if not (text.isascii() and text.isdecimal()):
        return None
    if len(text) > 12 or int(text) > MAX_FILE_BYTES:
        raise Refused(413, TOO_LARGE, CLOSE)
    return int(text)


def _same(found: dict[str, Any]) -> dict[str, Any]:
    return found
