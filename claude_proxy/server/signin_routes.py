"""The routes of sign-in with ``/login``: discovery (RFC 8414), device codes (RFC 8628), tokens, revocation (RFC 7009).

Everybody may call them, without a token. Their errors are in the words of OAuth; they repeat nothing of a request. Parameters
that are not known are ignored.
"""

import json
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, Router

from claude_proxy.access.address_limits import AddressLimits
from claude_proxy.access.failed_logins import FailedLogins, source_of
from claude_proxy.anthropic.errors import Refusal, own_refusal
from claude_proxy.asgi import Receive, Scope, Send
from claude_proxy.config.settings import Settings
from claude_proxy.secret import Secret
from claude_proxy.server.addresses import base_of
from claude_proxy.signin.device_codes import INTERVAL_SECONDS, State
from claude_proxy.signin.sessions import InvalidGrant, KeysUnavailable, Tokens, Unconfirmed
from claude_proxy.signin.sign_in import SignIn
from claude_proxy.state.store import StoreUnavailable

DISCOVERY = "/.well-known/oauth-authorization-server"
DEVICE, TOKEN, REVOKE = "/oauth/device_authorization", "/oauth/token", "/oauth/revoke"
# The page on which a user approves a code.
PAGE = "/signin"
DEVICE_GRANT, REFRESH_GRANT = "urn:ietf:params:oauth:grant-type:device_code", "refresh_token"
NOT_STORED = {"cache-control": "no-store", "pragma": "no-cache"}
MAX_FIELDS = 100
# A client that polls earlier than this share of the interval is told to slow down.
EARLY = 0.8
MAX_POLLED = 4096
RETRY_SECONDS = 5
# Behind a load balancer all users have one address, so these are meant for a team that signs in at the same time.
LOGIN_BURST, LOGINS_PER_SECOND = 60, 1.0
TOKEN_BURST, TOKENS_PER_SECOND = 600, 30.0

DESCRIPTIONS: Mapping[str, str] = {
    "access_denied": "The sign-in was denied.",
    "authorization_pending": "The sign-in is not approved yet.",
    "expired_token": "The code has expired, was used, or does not exist. Please start again.",
    "invalid_grant": "The sign-in has ended. Please sign in again.",
    "invalid_request": "The form cannot be read: it has too many parameters.",
    "slow_down": "There are too many requests. Please wait longer between two of them.",
    "temporarily_unavailable": "Sign-in is not possible at the moment. The operator finds the reason in the proxy's log.",
    "unsupported_grant_type": "The grant types are the device code and the refresh token.",
}
# Of a request without a parameter that it needs: the descriptions of ``invalid_request``, with the name of the parameter.
PARAMETERS = ("grant_type", "device_code", "refresh_token", "token")
MISSING = "The parameter {0} is missing. The body is a form: {0}=VALUE."
REPEATED = "The parameter {0} is there more than once."
NO_SIGN_IN = own_refusal(
    404,
    "This proxy has no sign-in: it is turned off, or there are no users with their own token and no provider.",
)

Endpoint = Callable[[Request], Awaitable[Response]]


class OAuthError(Exception):
    """An error of the protocol; ``wrong`` is whether the request had a code or token that is not valid.

    ``description`` replaces that of ``DESCRIPTIONS``.
    """

    def __init__(
        self, error: str, status: int = 400, *, wrong: bool = False, seconds: float = 0.0, description: str = ""
    ) -> None:
        super().__init__(error)
        self.error = error
        self.description = description or DESCRIPTIONS[error]
        self.status = status
        self.wrong = wrong
        self.seconds = seconds

    def refusal(self) -> Refusal:
        """Return the response."""
        body = json.dumps({"error": self.error, "error_description": self.description}).encode()
        wait = {"retry-after": str(math.ceil(self.seconds))} if self.seconds else {}
        return Refusal(self.status, [*({"content-type": "application/json"} | NOT_STORED | wait).items()], body)


class SignInRoutes:
    """Serves the routes of one process. ``pages`` are those for browsers."""

    def __init__(
        self, sign_in: SignIn, settings: Settings, pages: tuple[Route, ...] = (), clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._sign_in = sign_in
        self._settings = settings
        self._clock = clock
        self._failed = FailedLogins(clock)
        self._logins = AddressLimits(LOGIN_BURST, LOGINS_PER_SECOND, clock)
        self._requests = AddressLimits(TOKEN_BURST, TOKENS_PER_SECOND, clock)
        # The hash of each polled device code, and the time of its last poll, the oldest first.
        self._polled: dict[int, float] = {}
        found = [*self.routes(), *pages]
        self._paths = frozenset(route.path for route in found)
        self._router = Router(found, redirect_slashes=False)

    def serves(self, route: str) -> bool:
        """Whether a path belongs to sign-in. Without users only discovery does, which then responds with 404."""
        return route in self._paths and (route == DISCOVERY or self._sign_in.enabled)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Without LiteLLM's application in the scope, to which the router would leave the response to a wrong method: a 405.
        await self._router({name: value for name, value in scope.items() if name != "app"}, receive, send)

    def routes(self) -> list[Route]:
        """Return the routes for clients."""
        return [
            Route(DISCOVERY, self._discover, methods=["GET"]),
            Route(DEVICE, self._answered(self._start, self._logins), methods=["POST"]),
            Route(TOKEN, self._answered(self._token, self._requests), methods=["POST"]),
            Route(REVOKE, self._answered(self._revoke, self._requests), methods=["POST"]),
        ]

    def base(self, request: Request) -> str:
        """Return the proxy's address as the user of a request reaches it."""
        return base_of(request.scope, self._settings, self._sign_in.config.url)

    async def _discover(self, request: Request) -> Response:
        if not self._sign_in.enabled:
            return _response(NO_SIGN_IN)
        base = self.base(request)
        metadata = {
            "issuer": base,
            "device_authorization_endpoint": f"{base}{DEVICE}",
            "token_endpoint": f"{base}{TOKEN}",
            "revocation_endpoint": f"{base}{REVOKE}",
            "grant_types_supported": [DEVICE_GRANT, REFRESH_GRANT],
            "response_types_supported": [],
            "token_endpoint_auth_methods_supported": ["none"],
            "revocation_endpoint_auth_methods_supported": ["none"],
        }
        return JSONResponse(metadata, headers=NOT_STORED)

    async def _start(self, request: Request) -> Response:
        source, client = source_of(request.scope.get("client")), request.headers.get("user-agent", "")
        started = await self._sign_in.start(source, client)
        page = f"{self.base(request)}{PAGE}"
        found = {
            "device_code": started.device_code.reveal(),
            "user_code": started.user_code,
            "verification_uri": page,
            "verification_uri_complete": f"{page}?user_code={started.user_code}",
            "expires_in": started.expires_in,
            "interval": started.interval,
        }
        if notice := self._sign_in.config.notice:
            found["login_notice"] = notice
        return JSONResponse(found, headers=NOT_STORED)

    async def _token(self, request: Request) -> Response:
        form = await _form(request)
        grant = _field(form, "grant_type")
        if grant == DEVICE_GRANT:
            return await self._redeem(_field(form, "device_code"))
        if grant != REFRESH_GRANT:
            raise OAuthError("unsupported_grant_type")
        try:
            return _tokens(await self._sign_in.refresh(Secret(_field(form, "refresh_token"))))
        except InvalidGrant:
            raise OAuthError("invalid_grant", 401, wrong=True) from None

    async def _redeem(self, device_code: str) -> Response:
        try:
            found = await self._sign_in.redeem(Secret(device_code))
        except InvalidGrant:
            raise OAuthError("expired_token", wrong=True) from None
        if isinstance(found, Tokens):
            return _tokens(found)
        if found is State.PENDING:
            raise OAuthError("slow_down" if self._polls_early(device_code) else "authorization_pending")
        raise OAuthError("access_denied" if found is State.DENIED else "expired_token", wrong=found is State.EXPIRED)

    def _polls_early(self, device_code: str) -> bool:
        """Record a poll; return whether this process had one of the same code a moment ago."""
        name, now = hash(device_code), self._clock()
        before = self._polled.pop(name, None)
        if len(self._polled) >= MAX_POLLED:
            del self._polled[next(iter(self._polled))]
        self._polled[name] = now
        return before is not None and now - before < EARLY * INTERVAL_SECONDS

    async def _revoke(self, request: Request) -> Response:
        form = await _form(request)
        await self._sign_in.sessions.revoke(Secret(_field(form, "token")))
        # An unknown token is no error (RFC 7009, section 2.2).
        return Response(headers=NOT_STORED)

    def _answered(self, endpoint: Endpoint, limits: AddressLimits) -> Endpoint:
        """Return an endpoint with its limit for each address, and with errors in the words of OAuth."""

        async def answered(request: Request) -> Response:
            source = source_of(request.scope.get("client"))
            if seconds := limits.wait(source):
                return _response(OAuthError("slow_down", 429, seconds=seconds).refusal())
            try:
                return await endpoint(request)
            except OAuthError as error:
                return await self._refused(error, source, request)
            except (StoreUnavailable, KeysUnavailable, Unconfirmed):
                return _response(OAuthError("temporarily_unavailable", 503, seconds=RETRY_SECONDS).refusal())

        return answered

    async def _refused(self, error: OAuthError, source: str, request: Request) -> Response:
        """Return the response to an error. One to a wrong code or token is logged, and delayed like that to a wrong token."""
        if not error.wrong:
            return _response(error.refusal())
        what = f"{request.method} {request.url.path}"
        too_many = OAuthError("slow_down", 429, seconds=RETRY_SECONDS).refusal()
        later = await self._failed.response_to(error.refusal(), source, what, request.receive, wrong_token=True, busy=too_many)
        return _response(later or error.refusal())


def _tokens(found: Tokens) -> Response:
    content = {
        "access_token": found.access_token.reveal(),
        "token_type": "Bearer",
        "expires_in": found.expires_in,
        "refresh_token": found.refresh_token.reveal(),
    }
    email = {"email": found.identity.email} if found.identity.email else {}
    return JSONResponse(content | email, headers=NOT_STORED)


def _response(refusal: Refusal) -> Response:
    return Response(refusal.body, refusal.status, dict(refusal.headers))


async def _form(request: Request) -> dict[str, list[str]]:
    """Return the fields of a form, whatever the content type; the body is bounded by the gateway."""
    try:
        return parse_qs((await request.body()).decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError:
        raise OAuthError("invalid_request") from None


def _field(form: Mapping[str, list[str]], name: str) -> str:
    """Return a field that must be there once; ``name`` is one of ``PARAMETERS``."""
    found = form.get(name, [])
    if len(found) > 1:
        raise OAuthError("invalid_request", description=REPEATED.format(name))
    if not found or not found[0]:
        raise OAuthError("invalid_request", description=MISSING.format(name))
    return found[0]
