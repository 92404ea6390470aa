"""Who may do what: the tokens, and the routes that the proxy has at all. Plain values, no LiteLLM types.

Which routes of administration there are stands in ``access/administration.py``.
"""

from collections.abc import Awaitable, Callable
from enum import Enum
from typing import NamedTuple

from claude_proxy.access import administration
from claude_proxy.anthropic.errors import Refused
from claude_proxy.config.settings import Settings
from claude_proxy.secret import Secret
from claude_proxy.upstream.headers import PROXY_TOKEN, Client

# The only routes that call a model. A Claude credential of the client's never gets further than the gateway on any other.
MODEL_ROUTES = frozenset(
    {("POST", "/v1/messages"), ("POST", "/v1/messages/count_tokens"), ("GET", "/v1/models"), ("GET", "/models")}
)
# What shows quota and usage: to everybody who may use the models.
STATUS_ROUTES = frozenset({("GET", "/pool"), ("GET", "/metrics")})
# What changes the pool: for the master key alone, from the proxy's own page or from no page.
POOL_ACTIONS = ("add", "pause", "resume", "remove")
POOL_ROUTES = frozenset(("POST", f"/pool/{action}") for action in POOL_ACTIONS)
# Claude Code asks HEAD / at every start, without any token; the others are for load balancers and Docker.
PUBLIC_ROUTES = frozenset({"/", "/health/liveliness", "/health/liveness", "/health/readiness"})
# What a browser gets a page of; another client gets text or data.
WEB_PAGES = frozenset({"/", "/pool"})
# Every virtual key of LiteLLM's begins so, unless somebody chose another one by hand.
VIRTUAL_KEY_PREFIX = "sk-"
# With a database only. The pages and what they need before somebody has signed in: without a token.
PAGES = frozenset({"ui", "litellm-asset-prefix"})
SIGN_IN_ROUTES = frozenset(
    {
        ("POST", "/login"), ("POST", "/v2/login"), ("POST", "/v3/login"), ("POST", "/v3/login/exchange"),
        ("GET", "/.well-known/litellm-ui-config"), ("GET", "/litellm/.well-known/litellm-ui-config"), ("GET", "/get_image"),
        ("GET", "/get_favicon"), ("GET", "/public/litellm_model_cost_map"),
    }
)  # fmt: skip
# Where a virtual key's holder sees its models, budget and spend.
OWN_KEY_REQUESTS = frozenset({("GET", "/key/info", "")})
# What callers without a name of their own are called: who holds the master key, the static token, a virtual key, or nothing.
ADMIN_NAME, STATIC_NAME, KEY_NAME, ANYONE = "admin", "static", "key", "anyone"
SHARED_NAMES = frozenset({ADMIN_NAME, STATIC_NAME, KEY_NAME, ANYONE})


# For the log, the page and the commands.
OPEN_NOTICE = (
    "This proxy is open: everyone who can reach its port can use its models and credentials without a token. "
    "Set PROXY_STATIC_TOKEN to a token to close it."
)


class Role(Enum):
    """Who somebody is: ADMIN holds the master key, USER the static token or one of their own.

    With a database everybody else has a KEY of LiteLLM's, or none. Without one, and with no token set, everybody else is
    OPEN.
    """

    ADMIN = "admin"
    USER = "user"
    KEY = "key"
    OPEN = "open"


class Caller(NamedTuple):
    """Who asks, and the token of the request's that said so. ``name`` may be shown: a person's, or what stands for none."""

    role: Role
    token: Secret | None
    name: str


# Whether a virtual key is that of an administrator who has signed in to LiteLLM's pages. Such a key opens administration, as
# no other does: LiteLLM 1.106.2 itself shows the holder of any key the spend of all, and the configuration.
IsSession = Callable[[Secret], Awaitable[bool]]


def identify(client: Client, settings: Settings) -> Caller:
    """Tell who asks. Every token is compared with every secret in constant time. Raises ``Refused`` with 401.

    With a database, whoever holds neither secret needs a virtual key, which LiteLLM checks.
    """
    admin = _matching(client, settings.master_key)
    static = _matching(client, settings.static_token)
    person = settings.users.find(client.tokens)
    if admin:
        return Caller(Role.ADMIN, admin, ADMIN_NAME)
    if person:
        user, token = person
        return Caller(Role.USER, token, user.name)
    if static:
        return Caller(Role.USER, static, STATIC_NAME)
    if settings.database_url:
        keys = [token for token in client.tokens if token.reveal().startswith(VIRTUAL_KEY_PREFIX)]
        if keys:
            return Caller(Role.KEY, keys[0], KEY_NAME)
    if is_open(settings):
        return Caller(Role.OPEN, None, ANYONE)
    problem = "The token is not this proxy's" if client.tokens else "The proxy's token is missing"
    raise Refused(401, f"{problem}: send it in the header {PROXY_TOKEN}, or set it as ANTHROPIC_AUTH_TOKEN in Claude Code.")


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


def is_page(route: str) -> bool:
    """Whether a route is that of LiteLLM's pages."""
    return _first_part(route) in PAGES


def check_route(caller: Caller, method: str, route: str, query: str = "", *, database: bool = False) -> None:
    """Raise ``Refused`` unless the caller may use the route: with 403 for administration, with 404 for all that is closed.

    With a database more is there to administrate, and a virtual key may ask about itself, which takes no query.
    """
    if (method, route) in MODEL_ROUTES:
        return
    if (method, route) in STATUS_ROUTES:
        if caller.role is Role.KEY:  # LiteLLM checks a virtual key on its own routes; this one is not
            raise Refused(403, f"{method} {route} is not for virtual keys; /key/info shows what yours may do and has used.")
        return
    if (method, route) in POOL_ROUTES and caller.role is Role.ADMIN:
        return
    if (method, route) not in POOL_ROUTES and not administration.is_served(method, route, database=database):
        reason = administration.why_closed(route) if caller.role is Role.ADMIN else ""
        raise Refused(404, f"{method} {route} is not served by this proxy.{f' Closed: {reason}.' if reason else ''}")
    if caller.role is Role.KEY and (method, route, query) in OWN_KEY_REQUESTS:
        return
    if caller.role is not Role.ADMIN:
        raise Refused(403, f"{method} {route} is administration: it needs LITELLM_MASTER_KEY in the header {PROXY_TOKEN}.")


def wants_page(method: str, route: str, accept: str) -> bool:
    """Whether a browser requests the page ``/`` or ``/pool``: these hold no data, so they need no token."""
    return method == "GET" and route in WEB_PAGES and "text/html" in accept


async def nobody(_: Secret) -> bool:
    """Without a database nobody has signed in to anything."""
    return False


def _first_part(route: str) -> str | None:
    # A path need not begin with a slash: that of `OPTIONS *` does not.
    return route.split("/")[1] if route.startswith("/") else None


def _matching(client: Client, secret: Secret | None) -> Secret | None:
    if secret is None:
        return None
    matches = [token for token in client.tokens if secret.matches(token)]
    return matches[0] if matches else None
