"""Checks that use the network: whether each host accepts a connection, and whether this machine's clock is right.

A provider gets nothing but a connection. Claude's host gets one request for its time, without a credential.
"""

import email.utils
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import httpx

from claude_proxy.check.endpoints import base_of
from claude_proxy.check.facts import Facts
from claude_proxy.check.findings import Finding, error, warning
from claude_proxy.check.models import claude_hosts, provider_of, unready
from claude_proxy.config import oidc, web_search
from claude_proxy.config.outbound_proxies import outbound_proxies
from claude_proxy.config.settings import TokenMode
from claude_proxy.providers.endpoints import ANTHROPIC_API, BLOCK, DEMO_HOST, Origin, Provider

TIMEOUT = 3.0
# With a larger difference between two clocks the resets that Anthropic names are wrong. In seconds.
LARGEST_SKEW = 60.0
PROXY_VARIABLES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "https_proxy", "http_proxy", "all_proxy")


@dataclass(frozen=True)
class Target:
    """A host that requests are sent to: the models that need it, whether one of them is ready, and the place in the file."""

    origin: Origin
    users: tuple[str, ...]
    ready: bool
    place: str


def hosts(facts: Facts) -> Iterator[Finding]:
    """Every host of a model, and Claude's, is found and accepts a connection."""
    found = targets(facts)
    with ThreadPoolExecutor(max_workers=max(1, len(found))) as pool:
        problems = pool.map(lambda target: reach(target.origin), found)
    for target, problem in zip(found, problems, strict=True):
        if problem:
            users = ", ".join(target.users)
            behind = next((name for name in PROXY_VARIABLES if facts.environ.get(name)), None)
            say = error if target.ready and not behind else warning
            remedy = (
                f"{behind} is set, so perhaps only that proxy reaches it" if behind else "check the address and the network"
            )
            yield say(target.place, f"{target.origin.host} port {target.origin.port} {problem} (needed by {users})", remedy)


def targets(facts: Facts) -> list[Target]:
    """Return each host once."""
    settings, anthropic = facts.settings, claude_hosts(facts)
    lacking = unready(facts)
    found: dict[Origin, Target] = {}

    def add(url: str, user: str, place: str, *, ready: bool) -> None:
        origin = Origin.of(url)
        if origin is None or origin.host == DEMO_HOST:
            return
        known = found.get(origin)
        users = (*known.users, user) if known else (user,)
        found[origin] = Target(origin, users, ready or bool(known and known.ready), known.place if known else place)

    claude = [one for one in facts.models if provider_of(one[1]["litellm_params"], anthropic, facts.environ) is Provider.CLAUDE]
    if claude:
        used = settings is None or bool(settings.credentials) or settings.mode is TokenMode.PASSTHROUGH
        # The default is not the user's doing: then the model that needs the host is the place.
        is_default = Origin.of(anthropic.claude_base) == Origin.of(ANTHROPIC_API)
        model = facts.at("model_list", claude[0][0], "litellm_params", "model")
        add(anthropic.claude_base, "Claude", model if is_default else facts.dotenv.place("ANTHROPIC_API_BASE"), ready=used)
    for place, entry in facts.models:
        params = entry["litellm_params"]
        if provider_of(params, anthropic, facts.environ) is not Provider.CLAUDE and (base := base_of(params, facts)):
            at = facts.at("model_list", place, "litellm_params", "api_base" if "api_base" in params else "model")
            add(base, str(entry["model_name"]), at, ready=entry["model_name"] not in lacking)
    search = web_search.web_search(facts.config, facts.environ) if not facts.mistakes else None
    if search:
        add(search.url, web_search.KEY, facts.at(BLOCK, web_search.KEY), ready=True)
    provider = oidc.Oidc.of(facts.config, facts.environ) if not facts.mistakes else None
    if provider:
        add(provider.issuer, oidc.SECTION, facts.at(BLOCK, oidc.SECTION, oidc.KEY), ready=True)
    return list(found.values())


def reach(origin: Origin, timeout: float = TIMEOUT) -> str:
    """Open a connection and close it; return what went wrong, or nothing."""
    try:
        socket.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
    except OSError:
        return "is not found (DNS)"
    try:
        socket.create_connection((origin.host, origin.port), timeout).close()
    except TimeoutError:
        return f"does not respond within {timeout:.0f} s"
    except OSError as problem:
        return f"accepts no connection ({problem.strerror or type(problem).__name__})"
    return ""


def clock(facts: Facts, now: Callable[[], float] = time.time) -> Iterator[Finding]:
    """The clock of this machine against that of Claude's host: the ends of cooldowns are absolute times."""
    theirs = server_time(claude_hosts(facts).claude_base)
    if theirs is not None and abs(theirs - now()) > LARGEST_SKEW:
        skew = now() - theirs
        side = "ahead" if skew > 0 else "behind"
        yield warning(
            "clock", f"this machine is {abs(skew):.0f} s {side} of Claude's host", "turn on time synchronisation (NTP)"
        )


def server_time(base: str) -> float | None:
    """Return a server's time in Unix seconds, from the header of any response; None without one."""
    try:
        url = httpx.URL(base)
        proxy = outbound_proxies().proxy_for(url.scheme, url.host, url.port)
        verify = httpx.create_ssl_context()
        with httpx.Client(timeout=TIMEOUT, follow_redirects=False, trust_env=False, proxy=proxy, verify=verify) as client:
            date = client.head(base).headers.get("date", "")
        return email.utils.parsedate_to_datetime(date).timestamp()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError):
        return None
