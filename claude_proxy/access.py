"""Who may do what: the tokens, and the routes that the proxy has at all. Plain values, no LiteLLM types."""

from dataclasses import dataclass
from enum import Enum

from claude_proxy.credentials import Secret
from claude_proxy.headers import PROXY_TOKEN, Client
from claude_proxy.settings import Settings

# The only routes that call a model. A Claude credential of the client's never gets further than the gateway on any other.
MODEL_ROUTES = frozenset(
    {("POST", "/v1/messages"), ("POST", "/v1/messages/count_tokens"), ("GET", "/v1/models"), ("GET", "/models")}
)
# What shows quota and usage: to everybody who may use the models.
STATUS_ROUTES = frozenset({("GET", "/pool"), ("GET", "/metrics")})
# Claude Code asks HEAD / at every start, without any token; the others are for load balancers and Docker.
PUBLIC_ROUTES = frozenset({"/", "/health/liveliness", "/health/liveness", "/health/readiness"})
# First parts of LiteLLM's administration routes: open to the master key alone. What is on no list is closed to everybody.
ADMIN_ROUTES = frozenset(
    {
        "budget", "cache", "callbacks", "config", "customer", "get", "global", "health", "key", "model", "model_group",
        "organization", "router", "settings", "spend", "tag", "team", "usage.csv",
        "user",
    }
)  # fmt: skip


# What callers without a name of their own are called: who holds the master key, the static token, or nothing at all.
ADMIN_NAME, STATIC_NAME, ANYONE = "admin", "static", "anyone"


class Role(Enum):
    """ADMIN holds the master key, USER the static token or one of their own; with neither set everybody else is OPEN."""

    ADMIN = "admin"
    USER = "user"
    OPEN = "open"


@dataclass(frozen=True)
class Caller:
    """Who asks, and the token of the request's that said so. ``name`` may be shown: a person's, or what stands for none."""

    role: Role
    token: Secret | None
    name: str


class Refused(Exception):
    """The request may not do this. ``status`` is for the answer; the message is for the client and holds no secret."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def identify(client: Client, settings: Settings) -> Caller:
    """Tell who asks. Every token is compared with every secret in constant time. Raises ``Refused`` with 401."""
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
    if settings.static_token is None and not settings.users.closed:
        return Caller(Role.OPEN, None, ANYONE)
    problem = "The token is not this proxy's" if client.tokens else "The proxy's token is missing"
    raise Refused(401, f"{problem}: send it in the header {PROXY_TOKEN}, or set it as ANTHROPIC_AUTH_TOKEN in Claude Code.")


def check_route(caller: Caller, method: str, route: str) -> None:
    """Raise ``Refused`` unless the caller may use the route: with 403 for administration, with 404 for all that is closed."""
    if (method, route) in MODEL_ROUTES | STATUS_ROUTES:
        return
    # A path need not begin with a slash: that of `OPTIONS *` does not.
    if not route.startswith("/") or route.split("/")[1] not in ADMIN_ROUTES:
        raise Refused(404, f"{method} {route} is not served by this proxy.")
    if caller.role is not Role.ADMIN:
        raise Refused(403, f"{method} {route} is administration: it needs LITELLM_MASTER_KEY in the header {PROXY_TOKEN}.")


def wants_page(method: str, route: str, accept: str) -> bool:
    """Whether a browser asks for the page of ``/pool``: that holds no data, so it needs no token."""
    return (method, route) == ("GET", "/pool") and "text/html" in accept


def _matching(client: Client, secret: Secret | None) -> Secret | None:
    if secret is None:
        return None
    matches = [token for token in client.tokens if secret.matches(token)]
    return matches[0] if matches else None
