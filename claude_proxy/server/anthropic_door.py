"""The rest of Anthropic's API beside the Messages API: one model, batches and files."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

from claude_proxy.access.routes import Caller, Role
from claude_proxy.anthropic.errors import Refused, send_refusal
from claude_proxy.anthropic.messages import to_json
from claude_proxy.anthropic.request_view import RequestView
from claude_proxy.asgi import WHEN_GONE, Message, Receive, Scope, Send
from claude_proxy.config.models import ActiveConfig, model_names
from claude_proxy.credentials.made_objects import ObjectKind, is_id
from claude_proxy.credentials.redaction import Redactor
from claude_proxy.providers.model_names import is_name, listing, served_name
from claude_proxy.proxy.account_requests import Failed
from claude_proxy.proxy.journal import Journal
from claude_proxy.proxy.request import Request
from claude_proxy.proxy.response import ClientResponse
from claude_proxy.server.bodies import HeldBody, read_body, weigh
from claude_proxy.server.doors import Head
from claude_proxy.server.model_requests import ModelRequests
from claude_proxy.server.object_calls import Asked, Operation
from claude_proxy.server.under_way import UnderWay

MODEL = "/v1/models/"
BATCHES, FILES = "/v1/messages/batches", "/v1/files"
_KINDS = {BATCHES: ObjectKind.BATCH, FILES: ObjectKind.FILE}
# By method, whether there is an id, and what follows it.
_OPERATIONS = {
    ("POST", False, ""): Operation.MAKE,
    ("GET", False, ""): Operation.LIST,
    ("GET", True, ""): Operation.RETRIEVE,
    ("DELETE", True, ""): Operation.DELETE,
}
_OF_KIND = {
    ObjectKind.BATCH: _OPERATIONS | {("POST", True, "cancel"): Operation.CANCEL, ("GET", True, "results"): Operation.CONTENT},
    ObjectKind.FILE: _OPERATIONS | {("GET", True, "content"): Operation.CONTENT},
}
# The body of a request without one, such as ``{}``.
MAX_EMPTY_BYTES = 64 * 1024

# Responds to a request about one kind of objects, through its outlet. Raises ``Refused`` and ``Failed``.
Serve = Callable[[Asked, ClientResponse], Awaitable[None]]


class Parts(NamedTuple):
    """What the door needs. ``ready`` returns once the process has the state of the others."""

    config: ActiveConfig
    redactor: Redactor
    describe: Callable[[], Callable[[str], str]]
    ready: Callable[[], Awaitable[None]]
    serve: Mapping[ObjectKind, Serve]


class AnthropicDoor:
    """A ``Door``. One per process."""

    def __init__(self, requests: ModelRequests, parts: Parts) -> None:
        self._requests = requests
        self._parts = parts

    def serves(self, method: str, route: str) -> bool:
        """Whether a route is below these, with any method but for a model."""
        if route.startswith(MODEL):
            return method == "GET"
        return any(route == base or route.startswith(f"{base}/") for base in _KINDS)

    def in_format(self, route: str, send: Send) -> Send:  # noqa: ARG002 - the same for all
        """Return ``send``: errors in Anthropic's shape are what these clients expect."""
        return send

    async def serve(self, scope: Scope, head: Head, memory: HeldBody, receive: Receive, send: Send) -> None:
        """Respond to a request; every error is in Anthropic's format."""
        try:
            _check_role(head.caller, scope["path"])
            if scope["path"].startswith(MODEL):
                await self._send_model(scope["path"].removeprefix(MODEL), head.caller, send)
                return
            kind, operation, identifier = operation_of(scope["method"], scope["path"])
            body = await self._body(kind, operation, receive, memory)
        except Refused as refused:
            await send_refusal(send, refused.refusal())
            return
        except ConnectionAbortedError:
            return
        asked = Asked(operation, identifier, scope, head, self._request(scope, head, body), receive)
        outlet = ClientResponse(send, asked.request, self._parts.redactor, Journal())
        makes = operation is Operation.MAKE
        watched = receive if WHEN_GONE in scope or not makes else _silence

        async def respond(_: UnderWay) -> None:
            await self._parts.ready()
            try:
                await self._parts.serve[kind](asked, outlet)
            except Failed as failed:
                await outlet.refuse(failed.refusal)

        await self._requests.serve(scope, head.caller, watched, outlet, respond, of_model=False, limited=makes)

    async def _send_model(self, wanted: str, caller: Caller, send: Send) -> None:
        """Send the entry of ``GET /v1/models`` for one model; raise ``Refused`` if that does not list it."""
        config = self._parts.config
        found: list[dict[str, Any]] = []
        if is_name(wanted):
            names = model_names(config.loaded)
            listed = listing(names, lambda name: config.limits.allows(caller.name, name), self._parts.describe())
            found = [entry for entry in listed["data"] if served_name(entry["id"]) == served_name(wanted)]
        if not found:
            raise Refused(404, f"model: {wanted[:100]}")
        body = to_json(found[0])
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _body(self, kind: ObjectKind, operation: Operation, receive: Receive, memory: HeldBody) -> bytes:
        """Return the body of a batch. That of a file is not read here; every other request has none."""
        if operation is Operation.MAKE and kind is ObjectKind.BATCH:
            body = await read_body(receive, memory)
            weigh(memory, body)
            return body
        if operation in (Operation.CANCEL, Operation.DELETE):
            await read_body(receive, memory, MAX_EMPTY_BYTES)
        return b""

    def _request(self, scope: Scope, head: Head, body: bytes) -> Request:
        groups = self._parts.config.groups.of_user(head.caller.name, head.caller.groups)
        query = scope["query_string"].decode("latin-1")
        view = RequestView("", streams=False)
        return Request(head.client, head.headers, body, view, query, head.caller.name, groups=groups)


def _check_role(caller: Caller, route: str) -> None:
    """Raise ``Refused`` for a virtual key, which may be any text: only LiteLLM knows those that exist."""
    if caller.role is Role.KEY:
        raise Refused(403, f"{route} is not for virtual keys.")


def operation_of(method: str, route: str) -> tuple[ObjectKind, Operation, str]:
    """Return the kind, the operation and the id of a request; raise ``Refused`` for what Anthropic does not have."""
    base = next(base for base in _KINDS if route == base or route.startswith(f"{base}/"))
    kind, rest = _KINDS[base], route[len(base) :]
    identifier, slash, action = rest[1:].partition("/")
    has_id = bool(rest)
    if has_id and (not is_id(identifier) or (slash and not action)):
        raise Refused(404, f"{kind.value} not found")
    operations = _OF_KIND[kind]
    operation = operations.get((method, has_id, action))
    if operation is None:
        if any((has_id, action) == place[1:] for place in operations):
            raise Refused(405, f"{method} is not a method of {base}.")
        raise Refused(404, f"{kind.value} not found")
    return kind, operation, identifier


async def _silence() -> Message:
    """Return no message: the body of an upload is read elsewhere, and with it that the client disconnects."""
    return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]
