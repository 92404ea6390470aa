"""The ASGI layer around LiteLLM's app: nothing reaches LiteLLM that it must not see.

What a request meets, in this order: route, token, mode, body; then LiteLLM with a reduced copy of headers and body.
"""

import asyncio
import contextlib
import json
import logging
import math
import time
import traceback
from collections.abc import Callable
from typing import Any

from claude_proxy.access import administration
from claude_proxy.access.browsers import check_browser
from claude_proxy.access.failed_logins import FailedLogins, source_of
from claude_proxy.access.revocation import Revocation
from claude_proxy.access.routes import (
    ADMIN_NAME,
    MODEL_ROUTES,
    STATUS_ROUTES,
    Caller,
    IsSession,
    Role,
    check_route,
    identify,
    is_page,
    is_public,
    nobody,
    wants_page,
)
from claude_proxy.anthropic import messages
from claude_proxy.anthropic.errors import Refusal, Refused, own_refusal, send_refusal
from claude_proxy.asgi import App, Headers, Message, Receive, Scope, Send, encoded
from claude_proxy.config.settings import Settings, TokenMode
from claude_proxy.credentials.redaction import Redactor
from claude_proxy.providers.model_names import is_name
from claude_proxy.proxy.exchange import Exchange, current
from claude_proxy.proxy.offload import offloaded
from claude_proxy.proxy.response import ClientResponse
from claude_proxy.server.bodies import BodyBudget, memory_for_bodies, read_body
from claude_proxy.upstream import headers as header_policy
from claude_proxy.usage.record import Record

logger = logging.getLogger(__name__)

# Half of what Python can read: what writes the body again, here and in LiteLLM, is less far from its own end.
MAX_DEPTH = 400
# LiteLLM's documentation lets Claude Code point at this prefix; here it is the same as without it.
ALIAS_PREFIX = "/anthropic"


# Refusals that the operator wants to see: somebody tries tokens, or wonders why theirs does not count any more.
# Whose memory the bodies of requests without a token count as.
NOBODY_NAME = "nobody"
LOGGED = frozenset({401, 403})
# With the end of the connection: what stands behind such a request may be a part of it.
TWO_LENGTHS = own_refusal(
    400,
    "The request has a length and chunks; it should have one of them.",
    [("connection", "close"), ("x-should-retry", "false")],
)


class Gateway:
    """Wraps an ASGI app. One for the process; everything about a request is in its ``Exchange``."""

    def __init__(
        self,
        app: App,
        settings: Settings,
        redactor: Redactor,
        remember: Callable[[Record], None] | None = None,
        *,
        is_session: IsSession = nobody,
        model_app: App | None = None,
        keeps_books: Callable[[], bool] = lambda: True,
    ) -> None:
        self._app = app
        # What serves model requests while LiteLLM keeps no books about them.
        self._model_app = model_app or app
        self._keeps_books = keeps_books
        self._is_session = is_session
        self._settings = settings
        self._redactor = redactor
        self._remember = remember
        self._bodies = BodyBudget(memory_for_bodies(settings.workers))
        self._revocation = Revocation(settings.users.everybody)
        self._failed_logins = FailedLogins()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http" and header_policy.has_two_lengths(scope["headers"]):
            await send_refusal(send, TWO_LENGTHS)
        elif scope["type"] == "http" and (name := header_policy.oversized(scope["headers"])):
            words = f"The header {name} is longer than {header_policy.MAX_TOKEN_HEADER_BYTES} bytes."
            await send_refusal(send, own_refusal(431, words))
        elif scope["type"] == "http":
            with contextlib.ExitStack() as held:
                await self._http(scope, receive, send, held)
        else:  # no route of this proxy is a WebSocket
            await send({"type": "websocket.close", "code": 1008})

    async def _http(self, scope: Scope, receive: Receive, send: Send, held: contextlib.ExitStack) -> None:
        method, route = scope["method"], canonical_route(scope["path"])
        if route == "/":
            await send_refusal(send, Refusal(200, [("content-type", "text/plain")], b"claude-proxy\n"), head=method == "HEAD")
            return
        sent = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
        inner = dict(scope) | {"path": route, "raw_path": route.encode()}
        if is_public(method, route, self._settings) or wants_page(method, route, accepted(sent)):
            inner["headers"] = encoded(header_policy.for_litellm(sent, None))
            if is_page(route):
                inner["path"] = scope["path"]  # a page's folder ends with a slash
            await self._public(inner, receive, send, held)
            return
        try:
            client = header_policy.read(sent)
            query = scope["query_string"].decode("latin-1")
            caller = await self._caller(client, method, route, query)
            self._check_browser(caller, method, route, sent)
            check_mode(client.mode)
            exchange = Exchange(client, sent, b"", {}, query, caller.name, counts_tokens=route.endswith("/count_tokens"))
            sought = await self._read(exchange, method, route, receive, held)
        except Refused as refused:
            wrong_token = refused.status == 401 and bool(client.tokens)
            await self._refuse(refused, scope, receive, send, wrong_token=wrong_token)
            return
        except ConnectionAbortedError:
            return
        inner["headers"] = encoded(header_policy.for_litellm(sent, caller.token))
        answer = ClientResponse(send, exchange, self._redactor)
        token = current.set(exchange)
        try:
            if exchange.raw_body:
                await self._model_request(inner, exchange, caller, receive, answer)
                return
            if sought is not None:
                await self._administrate(inner, sought, receive, answer)
                return
            await self._app(inner, receive, answer)
        finally:
            current.reset(token)

    async def _refuse(self, refused: Refused, scope: Scope, receive: Receive, send: Send, *, wrong_token: bool) -> None:
        """Answer with an error; log it where the operator wants to see it, and let who keeps sending wrong tokens wait."""
        response = own_refusal(refused.status, str(refused), refused.headers)
        if refused.status in LOGGED:
            # Quoted: a path may hold a line's end, and its sender chose it.
            request = f"{scope['method']} {canonical_route(scope['path'])[:100]!r}"
            source = source_of(scope.get("client"))
            later = await self._failed_logins.response_to(response, source, request, receive, wrong_token=wrong_token)
            if later is None:
                return
            response = later
        await send_refusal(send, response)

    async def _read(
        self, exchange: Exchange, method: str, route: str, receive: Receive, held: contextlib.ExitStack
    ) -> bytes | None:
        """Read the body of a request for a model into its exchange; return that of one for administration, checked."""
        if (method, route) in STATUS_ROUTES or ((method, route) in MODEL_ROUTES and method != "POST"):
            return None
        memory = held.enter_context(self._bodies.open(exchange.user))
        if (method, route) in MODEL_ROUTES:
            exchange.raw_body = await read_body(receive, memory)
            exchange.body = await offloaded(len(exchange.raw_body), parse_body, exchange.raw_body)
            exchange.booked = self._keeps_books()
            return None
        administration.check_address(route, exchange.query)
        return administration.checked_body(await read_body(receive, memory, administration.MAX_BODY_BYTES))

    async def _public(self, scope: Scope, receive: Receive, send: Send, held: contextlib.ExitStack) -> None:
        """Pass on a request that needs no token, with a body that is bounded."""
        try:
            memory = held.enter_context(self._bodies.open(NOBODY_NAME))
            body = await read_body(receive, memory, administration.MAX_BODY_BYTES)
        except Refused as refused:
            await send_refusal(send, own_refusal(refused.status, str(refused), refused.headers))
            return
        except ConnectionAbortedError:
            return
        scope["headers"] += [(b"content-length", str(len(body)).encode())] if body else []
        await self._app(scope, _body_first(body, receive), send)

    async def _administrate(self, scope: Scope, body: bytes, receive: Receive, answer: ClientResponse) -> None:
        """Ask LiteLLM with the body that was checked, and take secrets out of the whole answer before it leaves."""
        kept = [pair for pair in scope["headers"] if pair[0] != b"content-type"]
        if body:
            kept += [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        scope["headers"] = kept
        await self._app(scope, _body_first(body, receive), administration.redacted(answer, self._redactor.text))

    async def _model_request(
        self, scope: Scope, exchange: Exchange, caller: Caller, receive: Receive, answer: ClientResponse
    ) -> None:
        """Ask LiteLLM with a reduced body, and remember the request when its answer has left."""
        reduced = await offloaded(len(exchange.raw_body), _reduced, exchange, caller)
        scope["headers"] += [(b"content-length", str(len(reduced)).encode()), (b"content-type", b"application/json")]
        scope["headers"] = [*dict(scope["headers"]).items()]
        scope["query_string"] = b""
        arrived = time.time()
        app = self._app if exchange.booked else self._model_app
        try:
            await self._answered(app, scope, reduced, receive, answer, caller=caller)
        finally:
            if self._remember is not None:
                self._remember(answer.record(arrived))
            exchange.release()

    async def _caller(self, client: header_policy.Client, method: str, route: str, query: str) -> Caller:
        """Tell who asks; raise ``Refused`` for one who may not."""
        caller = identify(client, self._settings)
        is_virtual = caller.role is Role.KEY
        if is_virtual and caller.token and (method, route) not in MODEL_ROUTES:
            caller = Caller(Role.ADMIN, caller.token, ADMIN_NAME) if await self._is_session(caller.token) else caller
        check_route(caller, method, route, query, database=self._settings.database_url is not None)
        if not is_virtual:  # anybody can make one up
            self._redactor.learn(caller.token)
        return caller

    def _check_browser(self, caller: Caller, method: str, route: str, sent: Headers) -> None:
        """Raise ``Refused`` for what a web page may have sent to an open proxy."""
        if caller.role is Role.OPEN:
            check_browser(method, route, sent, {self._settings.host.lower(), self._settings.domain.lower()})

    async def _answered(
        self, asgi: App, scope: Scope, body: bytes, receive: Receive, answer: ClientResponse, *, caller: Caller
    ) -> None:
        """Run LiteLLM's app on a request until it is done; end it when the client leaves, or its user is removed."""
        gone = asyncio.Event()
        app = asyncio.ensure_future(asgi(scope, _replayed(body, gone, answer), answer))

        def end(leave: Callable[[], bool]) -> None:
            gone.set()
            if not leave():
                app.cancel()

        async def watch() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            end(answer.leave)

        watcher = asyncio.ensure_future(watch())
        try:
            with self._revocation.watched(caller, lambda: end(answer.revoke)):
                while not app.done():
                    await asyncio.wait({app}, timeout=answer.patience())
                    if not app.done():
                        await answer.reassure()
            if not app.cancelled():
                app.result()
        finally:
            watcher.cancel()
            app.cancel()
            await asyncio.wait({watcher, app})
            _forget_frames(app)
            await answer.close()
            await answer.conclude()


def _forget_frames(app: asyncio.Future[None]) -> None:
    """Let what a cancelled request held go now, and not at the next search for garbage.

    LiteLLM's frames hold futures (1.106.2), these the exception that ended them, and that refers to the frames.
    """
    if app.cancelled():
        try:
            app.result()
        except asyncio.CancelledError as ended:
            traceback.clear_frames(ended.__traceback__)
            ended.__traceback__ = None


def _replayed(body: bytes, gone: asyncio.Event, answer: ClientResponse) -> Receive:
    """Return a ``receive`` that gives the body once, and then that the client has left.

    It does not say so of an answer that came past LiteLLM: LiteLLM would drop the copy that it keeps its books by.
    """
    pending = [body]

    async def replay() -> Message:
        if pending:
            return {"type": "http.request", "body": pending.pop(), "more_body": False}
        await gone.wait()
        if answer.relayed:
            await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    return replay


def _reduced(exchange: Exchange, caller: Caller) -> bytes:
    return json.dumps(body_for_litellm(exchange, caller)).encode()


def _body_first(body: bytes, receive: Receive) -> Receive:
    """Return a ``receive`` that gives the body once, and then what comes from the client."""
    pending = [body]

    async def replay() -> Message:
        if pending:
            return {"type": "http.request", "body": pending.pop(), "more_body": False}
        return await receive()

    return replay


def body_for_litellm(exchange: Exchange, caller: Caller) -> dict[str, Any]:
    """Return the reduced body. LiteLLM checks a virtual key's models by the name in config.yaml, not by that in the list."""
    body = messages.for_litellm(exchange.body)
    if not exchange.booked:
        return messages.outline(body)
    return {**body, "model": exchange.name} if caller.role is Role.KEY else body


def canonical_route(path: str) -> str:
    """Return a path without the alias prefix and without slashes at its end."""
    route = path.removeprefix(ALIAS_PREFIX) if path == ALIAS_PREFIX or path.startswith(f"{ALIAS_PREFIX}/") else path
    return route.rstrip("/") or "/"


def accepted(headers: Headers) -> str:
    """Return the header ``accept``; empty without one."""
    return next((value for name, value in headers if name.lower() == "accept"), "")


def check_mode(mode: str | None) -> None:
    """Raise ``Refused`` with 400 for an ``x-claude-token-mode`` that is not one of the two."""
    options = [option.value for option in TokenMode]
    if mode is not None and mode not in options:
        raise Refused(400, f"{header_policy.TOKEN_MODE} should hold {' or '.join(options)}.")


def parse_body(raw: bytes) -> dict[str, Any]:
    """Return a Messages request; raise ``Refused`` for one that is not a JSON object with a model."""
    try:
        body = json.loads(raw, parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError):
        raise Refused(400, "The body is not JSON.") from None
    if not isinstance(body, dict):
        raise Refused(400, "The body should be a JSON object.")
    if not isinstance(body.get("model"), str) or not body["model"]:
        raise Refused(400, "model: Field required")
    if not is_name(body["model"]):
        raise Refused(400, "model: Not a name: it is too long, or has a character in it that is not printable")
    history = body.get("messages")
    if not isinstance(history, list) or not history:
        # As Anthropic says it. LiteLLM 1.106.2 answers 500, which Claude Code would repeat.
        wrong = "Field required" if history is None else "Input should be a valid list"
        raise Refused(400, f"messages: {'at least one message is required' if history == [] else wrong}")
    if messages.is_deeper_than(body, MAX_DEPTH):
        raise Refused(400, f"The body has more than {MAX_DEPTH} lists and objects inside each other.")
    return body


def _finite(text: str) -> float:
    """Return a number; raise ``ValueError`` for one that JSON does not have, or that is too large to be written again."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number
