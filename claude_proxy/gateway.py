"""The ASGI layer around LiteLLM's app: nothing reaches LiteLLM that it must not see, and errors leave in Anthropic's shape.

What a request meets, in this order: route, token, mode, body; then LiteLLM with a reduced copy of headers and body. What
an answer meets: LiteLLM's own headers go, Anthropic's come back, and an error of Anthropic's is replayed as it came.
"""

import json
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from claude_proxy import headers as header_policy
from claude_proxy import messages
from claude_proxy.access import (
    MODEL_ROUTES,
    Caller,
    IsSession,
    Refused,
    Role,
    check_route,
    identify,
    is_page,
    is_public,
    nobody,
)
from claude_proxy.credentials import Secret
from claude_proxy.exchange import Exchange, Refusal, current
from claude_proxy.redaction import Redactor
from claude_proxy.settings import Settings, TokenMode
from claude_proxy.targets import Provider
from claude_proxy.verdicts import error_body

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

logger = logging.getLogger(__name__)

# Anthropic itself takes 32 MB; a little more lets it be the one that says so, in words Claude Code knows.
MAX_BODY_BYTES = 40 * 1024 * 1024
# LiteLLM's documentation lets Claude Code point at this prefix; here it is the same as without it.
ALIAS_PREFIX = "/anthropic"
ERROR_TYPES = {
    400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error",
    413: "request_too_large", 429: "rate_limit_error", 503: "overloaded_error", 529: "overloaded_error",
}  # fmt: skip
# LiteLLM's own headers, which name api_base and the like, and its copies of the upstream's.
HIDDEN_RESPONSE_PREFIXES = ("x-litellm-", "llm_provider-")
# Of Claude's answers these come back to the client.
CLAUDE_RESPONSE_HEADERS = ("request-id", "retry-after", "x-should-retry")
CLAUDE_RESPONSE_PREFIX = "anthropic-"
# LiteLLM's 401 goes on with the end of the key that came, its hash and the name of a table.
KEY_DETAILS = " Received API Key"
# Client errors that a repetition may cure; every other one says `x-should-retry: false`, or Claude Code repeats a bare 401
# ten times over three minutes.
RETRYABLE = frozenset({408, 409, 429})


class Gateway:
    """Wraps an ASGI app. One for the process; everything about a request is in its ``Exchange``."""

    def __init__(self, app: App, settings: Settings, redactor: Redactor, is_session: IsSession = nobody) -> None:
        self._app = app
        self._is_session = is_session
        self._settings = settings
        self._redactor = redactor

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        else:  # no route of this proxy is a WebSocket
            await send({"type": "websocket.close", "code": 1008})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        method, route = scope["method"], canonical_route(scope["path"])
        if route == "/":
            await send_refusal(send, Refusal(200, [("content-type", "text/plain")], b"claude-proxy\n"), head=method == "HEAD")
            return
        sent = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
        client = header_policy.read(sent)
        inner = dict(scope) | {"path": route, "raw_path": route.encode()}
        if is_public(method, route, self._settings):
            inner["headers"] = _encoded(header_policy.for_litellm(sent, None))
            if is_page(route):
                inner["path"] = scope["path"]  # a page's folder ends with a slash
            await self._app(inner, receive, send)
            return
        try:
            caller = identify(client, self._settings)
            if caller.role is Role.KEY and caller.token and (method, route) not in MODEL_ROUTES:
                caller = Caller(Role.ADMIN, caller.token) if await self._is_session(caller.token) else caller
            query = scope["query_string"].decode("latin-1")
            check_route(caller, method, route, query, database=self._settings.database_url is not None)
            check_mode(client.mode)
            exchange = Exchange(client, sent, b"", {}, query)
            if (method, route) in MODEL_ROUTES and method == "POST":
                exchange.raw_body = await _read_body(receive)
                exchange.body = parse_body(exchange.raw_body)
        except Refused as refused:
            await send_refusal(send, own_refusal(refused.status, str(refused)))
            return
        except ConnectionAbortedError:
            return
        inner["headers"] = _encoded(header_policy.for_litellm(sent, caller.token))
        if exchange.raw_body:
            reduced = json.dumps(messages.for_litellm(exchange.body)).encode()
            receive = _replayed(reduced, receive)
            inner["headers"] += [(b"content-length", str(len(reduced)).encode()), (b"content-type", b"application/json")]
            inner["headers"] = [*dict(inner["headers"]).items()]
            inner["query_string"] = b""
        elif (method, route) not in MODEL_ROUTES:
            length = [(name, value) for name, value in scope["headers"] if name in (b"content-length", b"transfer-encoding")]
            inner["headers"] += length
        token = current.set(exchange)
        try:
            await self._app(inner, receive, _Answer(send, exchange, self._redactor))
        finally:
            current.reset(token)


class _Answer:
    """The ``send`` that LiteLLM gets: passes a success on with other headers, holds an error back and rewrites it."""

    def __init__(self, send: Send, exchange: Exchange, redactor: Redactor) -> None:
        self._send = send
        self._exchange = exchange
        self._redactor = redactor
        self._error: Message | None = None
        self._body = bytearray()

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            if message["status"] >= 400:
                self._error = message
                return
            await self._send({**message, "headers": self._headers(message)})
        elif self._error is None:
            await self._send(message)
        else:
            self._body += message.get("body", b"")
            if not message.get("more_body", False):
                await send_refusal(self._send, self._refusal(self._error, bytes(self._body)))

    def _headers(self, message: Message) -> list[tuple[bytes, bytes]]:
        kept = [(name, value) for name, value in message["headers"] if not _is_hidden(name.decode("latin-1"))]
        if self._exchange.provider is not Provider.CLAUDE:
            return kept
        return [*kept, *_encoded([pair for pair in self._exchange.answer_headers if comes_back(pair[0])])]

    def _refusal(self, start: Message, body: bytes) -> Refusal:
        exchange = self._exchange
        secrets: list[Secret] = [*exchange.client.tokens]
        if exchange.client.credential:
            secrets.append(exchange.client.credential.secret)
        refusal = exchange.refusal
        if refusal is not None and exchange.first_provider in (None, Provider.CLAUDE):
            clean = self._redactor.text(refusal.body.decode("utf-8", "surrogateescape"), secrets)
            return Refusal(refusal.status, refusal.headers, clean.encode("utf-8", "surrogateescape"))
        status = int(start["status"])
        named = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in start["headers"]]
        headers = [pair for pair in named if pair[0] in ("retry-after", "x-should-retry")]
        if status < 500 and status not in RETRYABLE and "x-should-retry" not in dict(headers):
            headers.append(("x-should-retry", "false"))
        message = self._redactor.text(error_message(body, status), secrets)
        return own_refusal(status, message, headers)


def canonical_route(path: str) -> str:
    """Return a path without the alias prefix and without slashes at its end."""
    route = path.removeprefix(ALIAS_PREFIX) if path == ALIAS_PREFIX or path.startswith(f"{ALIAS_PREFIX}/") else path
    return route.rstrip("/") or "/"


def check_mode(mode: str | None) -> None:
    """Raise ``Refused`` with 400 for an ``x-claude-token-mode`` that is not one of the two."""
    options = [option.value for option in TokenMode]
    if mode is not None and mode not in options:
        raise Refused(400, f"{header_policy.TOKEN_MODE} should hold {' or '.join(options)}.")


def parse_body(raw: bytes) -> dict[str, Any]:
    """Return a Messages request; raise ``Refused`` with 400 for one that is not a JSON object with a model."""
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        raise Refused(400, "The body is not JSON.") from None
    if not isinstance(body, dict):
        raise Refused(400, "The body should be a JSON object.")
    if not isinstance(body.get("model"), str) or not body["model"]:
        raise Refused(400, "model: Field required")
    return body


def own_refusal(status: int, message: str, headers: list[tuple[str, str]] | None = None) -> Refusal:
    """Return an error of the proxy's own in Anthropic's shape; without other headers it says that a repetition is no use."""
    kind = ERROR_TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
    extra = [("x-should-retry", "false")] if headers is None else headers
    return Refusal(status, [("content-type", "application/json"), *extra], json.dumps(error_body(kind, message)).encode())


def error_message(body: bytes, status: int) -> str:
    """Return the wording of an error of LiteLLM's, whatever its shape."""
    try:
        error = json.loads(body)
    except (ValueError, RecursionError):
        error = None
    inner = error.get("error", error.get("detail", error)) if isinstance(error, dict) else None
    message = inner.get("message") if isinstance(inner, dict) else inner
    message = message.split(KEY_DETAILS, 1)[0] if isinstance(message, str) else None
    return message or f"The proxy answered with HTTP {status}."


def comes_back(name: str) -> bool:
    """Whether a header of Claude's answer goes to the client."""
    lower = name.lower()
    return lower in CLAUDE_RESPONSE_HEADERS or lower.startswith(CLAUDE_RESPONSE_PREFIX)


def _is_hidden(name: str) -> bool:
    return name.lower().startswith(HIDDEN_RESPONSE_PREFIXES)


def _encoded(headers: header_policy.Headers) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode("latin-1"), _encoded_value(value)) for name, value in headers]


def _encoded_value(value: str) -> bytes:
    """Return a header's bytes: Latin-1, as ASGI has them, or UTF-8 for what httpx has read as UTF-8."""
    try:
        return value.encode("latin-1")
    except UnicodeEncodeError:
        return value.encode()


async def _read_body(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionAbortedError
        body += message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            raise Refused(413, "Request exceeds the maximum size")
        if not message.get("more_body", False):
            return bytes(body)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Return a ``receive`` that gives the body once and then what really comes, such as the client's hanging up."""
    pending = [body]

    async def replay() -> Message:
        if pending:
            return {"type": "http.request", "body": pending.pop(), "more_body": False}
        return await receive()

    return replay


async def send_refusal(send: Send, refusal: Refusal, *, head: bool = False) -> None:
    """Send a whole answer; for HEAD its headers only."""
    length = ("content-length", str(len(refusal.body)))
    await send({"type": "http.response.start", "status": refusal.status, "headers": _encoded([*refusal.headers, length])})
    await send({"type": "http.response.body", "body": b"" if head else refusal.body})
