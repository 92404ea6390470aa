"""Which tokens are valid, and which routes each caller may use. Plain values, no LiteLLM types.

``access/administration.py`` has the routes of administration.
"""

from collections.abc import Awaitable, Callable
from enum import Enum
from typing import NamedTuple

from claude_proxy.access import administration
from claude_proxy.anthropic.errors import SEND_TOKEN, Refused
from claude_proxy.config.settings import Settings, TokenMode
from claude_proxy.config.users import SignedIn
from claude_proxy.providers.cloud_routes import profile_of
from claude_proxy.secret import Secret
from claude_proxy.upstream.headers import PROXY_TOKEN, TOKEN_MODE, Client

# OpenAI's, for other clients; a word in config.yaml opens them.
OPENAI_ROUTES = frozenset(("POST", f"/v1/{name}") for name in ("chat/completions", "responses", "embeddings"))
# The only other routes that call a model. On all others the gateway removes a client's Claude credential.
MODEL_ROUTES = frozenset(
    {("POST", "/v1/messages"), ("POST", "/v1/messages/count_tokens"), ("GET", "/v1/models"), ("GET", "/models")}
)
# Rate limits, usage, requests and budgets: for every caller who may use the models.
STATUS_ROUTES = frozenset(
    {
        ("GET", "/pool"), ("GET", "/pool/history"), ("GET", "/pool/history.csv"), ("GET", "/pool/highlights"),
        ("GET", "/pool/requests"), ("GET", "/metrics"), ("GET", "/api/oauth/usage"),
    }
)  # fmt: skip
# Claude Code's telemetry, by route: every caller's is taken, and that of an identified user may be passed on.
TELEMETRY_ROUTES = {("POST", f"/v1/{signal}"): signal for signal in ("metrics", "logs", "traces")}
# What Claude Code reads for its user after a sign-in: for every caller who may use the models.
CLIENT_ROUTES = frozenset({("GET", "/managed/settings")})
# Changes of the pool: for the master key only, from the proxy's own page or from no page.
POOL_ACTIONS = ("add", "pause", "resume", "priority", "remove")
POOL_ROUTES = frozenset(("POST", f"/pool/{action}") for action in POOL_ACTIONS)
# Those, and changes of budgets.
OWN_CHANGES = POOL_ROUTES | {("POST", "/budget")}
# Claude Code sends HEAD / at every start, without a token; the others are for load balancers and Docker.
PUBLIC_ROUTES = frozenset({"/", "/health/liveliness", "/health/liveness", "/health/readiness"})
# Claude Code tests its connection with this one before a login, without a token (2.1.332: HEAD at every start).
HELLO = "/api/hello"
# Claude Code also sends these without a token, to look for a way to log in; this proxy has none.
LOGIN_PROBES = frozenset({"/v1/oauth/hello", "/.well-known/oauth-authorization-server", "/oauth/device_authorization"})
# A browser gets a page of these; another client gets text or data.
WEB_PAGES = frozenset({"/", "/pool"})
# The files of these pages are below this path; they hold no data.
ASSETS = "/pool/assets/"
# Every virtual key of LiteLLM starts with this, unless it was chosen by hand.
VIRTUAL_KEY_PREFIX = "sk-"
# The beginning of every JWT, as access tokens are: `{"` in base64.
ACCESS_TOKEN_PREFIX = "eyJ"  # noqa: S105 - not a token
# Only with a database. LiteLLM's pages, and what they need before sign-in, need no token.
PAGES = frozenset({"ui", "litellm-asset-prefix"})
SIGN_IN_ROUTES = frozenset(
    {
        ("POST", "/login"), ("POST", "/v2/login"), ("POST", "/v3/login"), ("POST", "/v3/login/exchange"),
        ("GET", "/.well-known/litellm-ui-config"), ("GET", "/litellm/.well-known/litellm-ui-config"), ("GET", "/get_image"),
        ("GET", "/get_favicon"), ("GET", "/public/litellm_model_cost_map"),
    }
)  # fmt: skip
# Shows a virtual key's own models, budget and spend.
OWN_KEY_REQUESTS = frozenset({("GET", "/key/info", "")})
# LiteLLM's documentation recommends this prefix for Claude Code; here it has no effect.
ALIAS_PREFIX = "/anthropic"
# The names of callers without a name of their own: with the master key, the static token, a virtual key, or nothing.
ADMIN_NAME, STATIC_NAME, KEY_NAME, ANYONE = "admin", "static", "key", "anyone"
SHARED_NAMES = frozenset({ADMIN_NAME, STATIC_NAME, KEY_NAME, ANYONE})


# For the log, the page and the commands.
OPEN_NOTICE = (
    "This proxy is open: everyone who can reach its port can use its models and credentials without a token. "
    "Set PROXY_STATIC_TOKEN to a token to close it."
)


class Role(Enum):
    """The role of a caller: ADMIN has the master key, USER the static token or a token of their own.

    With a database other callers have a virtual KEY of LiteLLM. OPEN is every other caller of an open proxy.
    """

    ADMIN = "admin"
    USER = "user"
    KEY = "key"
    OPEN = "open"


class Caller(NamedTuple):
    """The caller of a request, and the token that identified them. ``name`` is not secret: a user's name, or a general one.

    ``groups`` are those that their sign-in named; the groups in config.yaml come on top.
    """

    role: Role
    token: Secret | None
    name: str
    # The groups of a sign-in with an identity provider.
    groups: tuple[str, ...] = ()
    # Set if the token is the access token of a sign-in.
    signed_in: SignedIn | None = None


REMOVED = "A token that worked before was removed or replaced: ask the proxy's operator for a new one."

# Whether a virtual key is the session of an administrator who has signed in to LiteLLM's pages. Only such a key may use
# administration: LiteLLM 1.106.2 itself shows the spend of all keys, and the configuration, to every key.
IsSession = Callable[[Secret], Awaitable[bool]]


def identify(client: Client, settings: Settings) -> Caller:
    """Identify the caller. Compares every token with every secret in constant time. Raises ``Refused`` with 401.

    With a database every other caller needs a virtual key, which LiteLLM checks.
    """
    admin = _matching(client, settings.master_key)
    static = _matching(client, settings.static_token)
    found = settings.users.find(client.tokens)
    if admin:
        return Caller(Role.ADMIN, admin, ADMIN_NAME)
    if found:
        user, token = found
        return Caller(Role.USER, token, user.name)
    if signed := settings.users.signed_in(client.tokens):
        who, token = signed
        return Caller(Role.USER, token, who.name, who.groups, who)
    if static:
        return Caller(Role.USER, static, STATIC_NAME)
    if settings.database_url:
        keys = [token for token in client.tokens if token.reveal().startswith(VIRTUAL_KEY_PREFIX)]
        if keys:
            return Caller(Role.KEY, keys[0], KEY_NAME)
    if is_open(settings):
        return Caller(Role.OPEN, None, ANYONE)
    if settings.users.sign_ins is not None and sends_access_token(client):
        if not settings.users.sign_ins.ready:  # a 401 would make the client ask its user to sign in
            raise Refused(503, "The proxy cannot check sign-ins at the moment. Please try again later.", [("retry-after", "5")])
        raise Refused(401, "The sign-in has expired or has ended; sign in again with /login.")
    problem, more = ("The token is not this proxy's", f" {REMOVED}") if client.tokens else ("The proxy's token is missing", "")
    raise Refused(401, f"{problem}: {SEND_TOKEN}.{more}")


def sends_access_token(client: Client) -> bool:
    """Whether a request has a token in the form of an access token."""
    return any(token.reveal().startswith(ACCESS_TOKEN_PREFIX) for token in client.tokens)


def is_open(settings: Settings) -> bool:
    """Whether everyone may use the models without a token: where PROXY_STATIC_TOKEN is `open`.

    In a plain LiteLLM with ``custom_auth.py``, also where there is no token, no user and no database.
    """
    if settings.static_token is not None or settings.database_url is not None:
        return False
    return settings.opened or not (settings.served or settings.users.closed)


def is_public(method: str, route: str, settings: Settings) -> bool:
    """Whether a route needs no token."""
    if route in PUBLIC_ROUTES:
        return True
    return settings.database_url is not None and (is_page(route) or (method, route) in SIGN_IN_ROUTES)


def is_greeting(method: str, route: str) -> bool:
    """Whether a request only tests whether the proxy responds."""
    return route == "/" or (route == HELLO and method in ("GET", "HEAD"))


def is_login_attempt(method: str, route: str, client: Client) -> bool:
    """Whether a refused request is a failed login, which the operator should know of: not for a probe without a token.

    With CLAUDE_CODE_SKIP_BEDROCK_AUTH, Claude Code reads inference profiles without a token at every start.
    """
    is_probe = method == "HEAD" or route in LOGIN_PROBES or profile_of(method, route) is not None
    return bool(client.tokens) or not is_probe


def is_page(route: str) -> bool:
    """Whether a route belongs to LiteLLM's pages."""
    return _first_part(route) in PAGES


def check_route(caller: Caller, method: str, route: str, query: str = "", *, database: bool = False) -> None:
    """Raise ``Refused`` unless the caller may use the route: with 403 for administration, with 404 for closed routes.

    With a database there are more routes, and a virtual key may read its own data, without a query.
    """
    if (method, route) in MODEL_ROUTES or (method, route) in TELEMETRY_ROUTES:
        return
    if (method, route) in STATUS_ROUTES | CLIENT_ROUTES:
        if caller.role is Role.KEY:  # LiteLLM checks virtual keys on its own routes only
            raise Refused(
                403, f"{method} {route} is not for virtual keys; /key/info shows the models, budget and usage of yours."
            )
        return
    if (method, route) in OWN_CHANGES and caller.role is Role.ADMIN:
        return
    if (method, route) not in OWN_CHANGES and not administration.is_served(method, route, database=database):
        reason = administration.why_closed(route) if caller.role is Role.ADMIN else ""
        raise Refused(404, f"{method} {route} is not served by this proxy.{f' Closed: {reason}.' if reason else ''}")
    if caller.role is Role.KEY and (method, route, query) in OWN_KEY_REQUESTS:
        return
    if caller.role is not Role.ADMIN:
        raise Refused(403, f"{method} {route} is administration: it needs LITELLM_MASTER_KEY in the header {PROXY_TOKEN}.")


def wants_page(method: str, route: str, accept: str) -> bool:
    """Whether a browser requests the page ``/`` or ``/pool``: these hold no data, so they need no token."""
    return method == "GET" and route in WEB_PAGES and "text/html" in accept


def is_asset(method: str, route: str) -> bool:
    """Whether a browser requests a file of the proxy's own pages."""
    return method == "GET" and route.startswith(ASSETS)


async def nobody(_: Secret) -> bool:
    """Without a database there are no sessions."""
    return False


def canonical_route(path: str) -> str:
    """Return a path without the alias prefix and without slashes at its end."""
    route = path.removeprefix(ALIAS_PREFIX) if path == ALIAS_PREFIX or path.startswith(f"{ALIAS_PREFIX}/") else path
    return route.rstrip("/") or "/"


def check_mode(mode: str | None) -> None:
    """Raise ``Refused`` with 400 for an invalid ``x-claude-token-mode``."""
    if mode is None:
        return
    options = [option.value for option in TokenMode]
    if mode not in options:
        raise Refused(400, f"{TOKEN_MODE} should hold {' or '.join(options)}.")


def _first_part(route: str) -> str | None:
    # A path may start without a slash, as in `OPTIONS *`.
    return route.split("/")[1] if route.startswith("/") else None


def _matching(client: Client, secret: Secret | None) -> Secret | None:
    if secret is None:
        return None
    matches = [token for token in client.tokens if secret.matches(token)]
    return matches[0] if matches else None
