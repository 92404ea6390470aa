"""The ASGI app for clients: checks route, token, mode and body in this order, then calls the lanes or LiteLLM's app.

LiteLLM receives only a reduced copy of headers and body.
"""

import functools
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence

from starlette.responses import Response

from claude_proxy.access import administration
from claude_proxy.access.browsers import check_browser, check_own_page
from claude_proxy.access.failed_logins import FailedLogins, source_of
from claude_proxy.access.request_limits import RequestLimits
from claude_proxy.access.revocation import Revocation
from claude_proxy.access.routes import (
    ADMIN_NAME,
    CLIENT_ROUTES,
    MODEL_ROUTES,
    OWN_CHANGES,
    STATUS_ROUTES,
    TELEMETRY_ROUTES,
    Caller,
    IsSession,
    Role,
    canonical_route,
    check_mode,
    check_route,
    identify,
    is_greeting,
    is_login_attempt,
    is_page,
    is_public,
    nobody,
    sends_access_token,
    wants_page,
)
from claude_proxy.anthropic.errors import Refusal, Refused, own_refusal, send_refusal
from claude_proxy.anthropic.request_view import RequestView
from claude_proxy.asgi import App, Headers, Receive, Scope, Send, encoded
from claude_proxy.config.models import ActiveConfig
from claude_proxy.config.project_tag import project_in
from claude_proxy.config.settings import Settings
from claude_proxy.credentials.redaction import Redactor
from claude_proxy.providers.meter import Meter
from claude_proxy.proxy.admission import Admission
from claude_proxy.proxy.entrance import Entrance, current
from claude_proxy.proxy.journal import Journal
from claude_proxy.proxy.lanes.litellm_lane import LitellmResponse, body_for_litellm
from claude_proxy.proxy.offload import offloaded
from claude_proxy.proxy.outcome import Outcome
from claude_proxy.proxy.request import Request, read_view
from claude_proxy.proxy.response import ClientResponse
from claude_proxy.proxy.serving import Serving
from claude_proxy.secret import Secret
from claude_proxy.server.bodies import BodyBudget, HeldBody, body_alone, body_first, memory_for_bodies, read_body, weigh
from claude_proxy.server.doors import Door, Head
from claude_proxy.server.model_requests import ModelRequests
from claude_proxy.server.pages import page, part_of_page
from claude_proxy.server.signin_routes import SignInRoutes
from claude_proxy.server.telemetry_relay import MAX_BODY_BYTES as MAX_TELEMETRY_BYTES
from claude_proxy.server.telemetry_relay import TelemetryRelay
from claude_proxy.server.under_way import UnderWay
from claude_proxy.upstream import headers as header_policy
from claude_proxy.usage.otlp import Sender
from claude_proxy.usage.prices import Prices
from claude_proxy.usage.record import Record
from claude_proxy.usage.running_requests import RunningRequests

logger = logging.getLogger(__name__)

# The name under which bodies of requests without a token are counted.
NOBODY_NAME = "nobody"
# A form of sign-in holds a code or a token.
MAX_FORM_BYTES = 16 * 1024
# Statuses that are logged for the operator: wrong tokens, and tokens that are no longer valid.
LOGGED = frozenset({401, 403})
# The connection is closed, because the data after such a request may be a part of it.
TWO_LENGTHS = own_refusal(
    400,
    "The request has both a content-length and a chunked body; it should have only one of them.",
    [("connection", "close"), ("x-should-retry", "false")],
)

# Responds to a caller, by the request's headers. It never waits.
ClientRoute = Callable[[Caller, Headers], Response]


class Gateway:
    """Wraps LiteLLM's app. One per process."""

    def __init__(
        self,
        app: App,
        settings: Settings,
        redactor: Redactor,
        record: Callable[[Record], None] | None = None,
        *,
        is_session: IsSession = nobody,
        serving: Serving | None = None,
        needs_litellm: Callable[[], bool] = lambda: True,
        config: ActiveConfig | None = None,
        telemetry: TelemetryRelay | None = None,
        prices: Prices | None = None,
        request_limits: RequestLimits | None = None,
        admission: Admission | None = None,
        running: RunningRequests | None = None,
        sign_in: SignInRoutes | None = None,
        loaded: Callable[[], Awaitable[None]] | None = None,
        client_routes: Mapping[tuple[str, str], ClientRoute] | None = None,
        doors: Sequence[Callable[[ModelRequests], Door]] = (),
    ) -> None:
        """``needs_litellm`` returns whether a setting sends every model request through LiteLLM.

        ``loaded`` returns once the process knows which sign-ins have ended. ``client_routes``
        respond by themselves, by method and route (``CLIENT_ROUTES``). ``doors`` make the groups of
        routes that are served beside these.
        """
        self._app = app
        self._config = config or ActiveConfig({}, {})
        self._serving = serving or Serving({}, self._config, meter=Meter(len))
        self._needs_litellm = needs_litellm
        self._client_routes = client_routes or {}
        self._is_session = is_session
        self._settings = settings
        self._redactor = redactor
        self._telemetry = telemetry
        self._bodies = BodyBudget(memory_for_bodies(settings.workers))
        self._sign_in = sign_in
        self._loaded = loaded
        self._model_requests = ModelRequests(
            request_limits or RequestLimits(lambda: self._config.user_limits),
            Revocation(settings.users.all_users, settings.users.stands),
            admission=admission,
            running=running,
            record=record,
            prices=prices,
        )
        self._doors = [make(self._model_requests) for make in doors]
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
            await self._http(scope, receive, send)
        else:  # the proxy has no WebSocket routes
            await send({"type": "websocket.close", "code": 1008})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        method, route = scope["method"], canonical_route(scope["path"])
        door = self._door(method, route)
        if door is not None:
            send = door.in_format(route, send)
        sent = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
        inner = {**scope, "path": route, "raw_path": route.encode()}
        if await self._without_token(inner, scope["path"], sent, receive, send):
            return
        client = header_policy.read(sent)
        try:
            query = scope["query_string"].decode("latin-1")
            caller = await self._caller(client, method, route, query, of_door=door is not None)
            self._check_browser(caller, method, route, sent, of_door=door is not None)
            check_mode(client.mode)
        except Refused as refused:
            if not is_login_attempt(method, route, client):
                await send_refusal(send, refused.refusal(), head=method == "HEAD")
                return
            wrong_token = refused.status == 401 and bool(client.tokens)
            await self._refuse(refused, scope, receive, send, wrong_token=wrong_token)
            return
        if (method, route) in CLIENT_ROUTES:
            await self._client_route(caller, inner, sent, receive, send)
            return
        head = Head(client, sent, caller)
        with self._bodies.open(caller.name) as memory:
            if door is not None:
                await door.serve(inner, head, memory, receive, send)
            elif (signal := TELEMETRY_ROUTES.get((method, route))) and self._telemetry is not None:
                read = functools.partial(read_body, receive, memory, MAX_TELEMETRY_BYTES)
                await self._take_telemetry(self._telemetry, signal, head, read, send)
            else:
                await self._authenticated(inner, head, memory, receive, send)

    async def _without_token(self, scope: Scope, path: str, sent: Headers, receive: Receive, send: Send) -> bool:
        """Serve a request that needs no token, whose whole path is ``path``; return whether it was one."""
        method, route = scope["method"], scope["path"]
        if (method, route) in MODEL_ROUTES:
            return False
        if is_greeting(method, route):
            if wants_page(method, route, header_policy.accepted(sent)):
                await page("start", self._settings)(scope, receive, send)
            else:
                greeting = Refusal(200, [("content-type", "text/plain")], b"claude-proxy\n")
                await send_refusal(send, greeting, head=method == "HEAD")
        elif (response := part_of_page(method, path, route, sent)) is not None:
            await response(scope, receive, send)
        elif self._sign_in is not None and self._sign_in.serves(route):
            await self._public(scope, receive, send, self._sign_in, MAX_FORM_BYTES)
        elif is_public(method, route, self._settings) or (
            method == "GET" and wants_page(method, route, header_policy.accepted(sent))
        ):
            scope["headers"] = encoded(header_policy.for_litellm(sent, None))
            if is_page(route):
                scope["path"] = path  # the path of a page's folder ends with a slash
            await self._public(scope, receive, send)
        else:
            return False
        return True

    async def _take_telemetry(
        self, relay: TelemetryRelay, signal: str, head: Head, read: Callable[[], Awaitable[bytes]], send: Send
    ) -> None:
        """Pass a client's telemetry to the collector, with the user that its token belongs to."""
        caller = head.caller
        # Only LiteLLM could say whose a virtual key is.
        known = caller.role is not Role.KEY
        sender = Sender(caller.name, self._config.groups.of_user(caller.name, caller.groups)) if known else None
        if (response := await relay.take(signal, head.headers, read, sender)) is not None:
            await send_refusal(send, response)

    async def _client_route(self, caller: Caller, scope: Scope, sent: Headers, receive: Receive, send: Send) -> None:
        """Respond without LiteLLM's app and without a limit; no body is read."""
        respond = self._client_routes.get((scope["method"], scope["path"]))
        if respond is None:
            await send_refusal(send, own_refusal(404, f"{scope['path']} is not served by this proxy."))
            return
        await respond(caller, sent)(scope, receive, send)

    async def _authenticated(self, scope: Scope, head: Head, memory: HeldBody, receive: Receive, send: Send) -> None:
        """Read the body of an authorized request, and serve it."""
        client, sent, caller = head
        method, route, query = scope["method"], scope["path"], scope["query_string"].decode("latin-1")
        is_model = (method, route) in MODEL_ROUTES and method == "POST"
        try:
            body = await (read_body(receive, memory) if is_model else self._read(method, route, query, receive, memory))
            weigh_body = functools.partial(weigh, memory, body)
            view = await offloaded(len(body), read_view, body, weigh_body) if is_model else RequestView("", streams=False)
        except Refused as refused:
            await self._refuse(refused, scope, receive, send)
            return
        except ConnectionAbortedError:
            return
        counts_tokens = route.endswith("/count_tokens")
        groups = self._config.groups.of_user(caller.name, caller.groups) if is_model else ()
        request = Request(
            client,
            sent,
            body,
            view,
            query,
            caller.name,
            counts_tokens=counts_tokens,
            weigh=weigh_body,
            groups=groups,
            project=project_in(view.tags, self._config.project_tag),
        )
        outlet = ClientResponse(send, request, self._redactor, Journal())
        if is_model:
            await self._model_request(scope, caller, receive, outlet)
        else:
            await self._other_request(scope, caller.token, receive, outlet)

    async def _refuse(self, refused: Refused, scope: Scope, receive: Receive, send: Send, *, wrong_token: bool = False) -> None:
        """Respond with an error, log it if the operator needs it, and delay a client that keeps sending wrong tokens."""
        response = refused.refusal()
        if refused.status in LOGGED:
            # Quoted, because the sender chose the path, and it may contain line ends.
            request = f"{scope['method']} {canonical_route(scope['path'])[:100]!r}"
            source = source_of(scope.get("client"))
            later = await self._failed_logins.response_to(response, source, request, receive, wrong_token=wrong_token)
            if later is None:
                return
            response = later
        await send_refusal(send, response)

    async def _read(self, method: str, route: str, query: str, receive: Receive, memory: HeldBody) -> bytes:
        """Return the checked body of an administration request; empty if none is read."""
        if (method, route) in STATUS_ROUTES or (method, route) in MODEL_ROUTES:
            return b""
        administration.check_address(route, query)
        body = await read_body(receive, memory, administration.MAX_BODY_BYTES)
        weigh(memory, body)
        return administration.checked_body(body)

    async def _public(
        self, scope: Scope, receive: Receive, send: Send, app: App | None = None, limit: int = administration.MAX_BODY_BYTES
    ) -> None:
        """Forward a request that needs no token, with a bounded body; without ``app``, to LiteLLM's."""
        with self._bodies.open(NOBODY_NAME) as memory:
            try:
                body = await read_body(receive, memory, limit)
                weigh(memory, body)
            except Refused as refused:
                await send_refusal(send, refused.refusal())
                return
            except ConnectionAbortedError:
                return
            if app is None:
                scope["headers"] += [(b"content-length", str(len(body)).encode())] if body else []
            await (app or self._app)(scope, body_first(body, receive), send)

    async def _other_request(self, scope: Scope, token: Secret | None, receive: Receive, outlet: ClientResponse) -> None:
        """Forward a request that is not for a model to LiteLLM's app, which also has the proxy's own routes."""
        request = outlet.request
        scope["headers"] = encoded(header_policy.for_litellm(request.headers, token))
        litellm_response = LitellmResponse(outlet, outlet.journal, streams=False, only_success=False)
        send: Send = litellm_response
        administrates = (scope["method"], scope["path"]) not in {*STATUS_ROUTES, *MODEL_ROUTES}
        if administrates:
            # The body has been checked; the whole response is redacted before it is sent.
            scope["headers"] = [pair for pair in scope["headers"] if pair[0] != b"content-type"]
            if request.raw:
                length = (b"content-length", str(len(request.raw)).encode())
                scope["headers"] += [(b"content-type", b"application/json"), length]
            receive = body_first(request.raw, receive)
            send = administration.redacted(litellm_response, self._redactor.text)
        previous = current.set(Entrance(request, outlet, outlet.journal))
        try:
            await self._app(scope, receive, send)
        finally:
            current.reset(previous)
        if (refusal := litellm_response.outcome().refusal) is not None:
            await outlet.refuse(refusal)

    async def _model_request(self, scope: Scope, caller: Caller, receive: Receive, outlet: ClientResponse) -> None:
        """Serve a request of the Messages API to a model."""
        enters_litellm = caller.role is Role.KEY or self._needs_litellm()

        async def respond(under_way: UnderWay) -> None:
            call_litellm = functools.partial(self._call_litellm, under_way, scope, caller)
            await self._serving.serve(outlet.request, outlet, outlet.journal, call_litellm, enters_litellm=enters_litellm)

        await self._model_requests.serve(scope, caller, receive, outlet, respond)

    async def _call_litellm(self, under_way: UnderWay, scope: Scope, caller: Caller, model: str, *, planned: bool) -> Outcome:
        """Call LiteLLM's app with a reduced body, in a context in which its hooks find the request."""
        outlet, request = under_way.outlet, under_way.outlet.request
        entrance = under_way.entrance = Entrance(request, outlet, outlet.journal, planned=planned, model=model)
        # LiteLLM checks a virtual key's models by the name in config.yaml.
        name = model if caller.role is Role.KEY else request.model
        reduced = await offloaded(len(request.raw), body_for_litellm, request, name)
        length = (b"content-length", str(len(reduced)).encode())
        headers = encoded(header_policy.for_litellm(request.headers, caller.token))
        headers = [*dict([*headers, length, (b"content-type", b"application/json")]).items()]
        inner = dict(scope) | {"headers": headers, "query_string": b""}
        litellm_response = LitellmResponse(outlet, outlet.journal, streams=request.streams, only_success=True)
        token = current.set(entrance)
        try:
            await self._app(inner, body_alone(reduced), litellm_response)
        finally:
            current.reset(token)
        return entrance.outcome(litellm_response.outcome())

    async def _caller(self, client: header_policy.Client, method: str, route: str, query: str, *, of_door: bool) -> Caller:
        """Identify the caller; raise ``Refused`` if the request is not allowed. A door's routes are for all callers."""
        # Managed settings wait for nothing: a late answer can keep Claude Code from starting.
        if self._loaded is not None and (method, route) not in CLIENT_ROUTES and sends_access_token(client):
            await self._loaded()  # else the first requests after a start could be those of a sign-in that has ended
        caller = identify(client, self._settings)
        is_virtual = caller.role is Role.KEY
        if is_virtual and caller.token and (method, route) not in MODEL_ROUTES:
            caller = Caller(Role.ADMIN, caller.token, ADMIN_NAME) if await self._is_session(caller.token) else caller
        if not of_door:
            check_route(caller, method, route, query, database=self._settings.database_url is not None)
        # An unverified key could be any text; access tokens, which change every hour, are recognized by their form.
        if not is_virtual and caller.signed_in is None:
            self._redactor.learn(caller.token)
        return caller

    def _door(self, method: str, route: str) -> Door | None:
        if (method, route) in MODEL_ROUTES:
            return None
        return next((door for door in self._doors if door.serves(method, route)), None)

    def _check_browser(self, caller: Caller, method: str, route: str, sent: Headers, *, of_door: bool) -> None:
        """Raise ``Refused`` for a request of another site's page: to an open proxy, or to change the pool."""
        if (method, route) in OWN_CHANGES:
            check_own_page(sent)
        if caller.role is Role.OPEN:
            names = {self._settings.host.lower(), self._settings.domain.lower()}
            check_browser(method, route, sent, names, reaches_model=of_door)
