"""Checks of the address that the proxy listens at: the start's own, and which program is there already."""

import errno
from collections.abc import Iterator

import httpx

from claude_proxy.check.client_requests import OWNER
from claude_proxy.check.facts import Facts
from claude_proxy.check.findings import Finding, error, info, warning
from claude_proxy.check.live import proxy_url
from claude_proxy.check.placing import placed
from claude_proxy.config.listening import address_error
from claude_proxy.upstream.headers import PROXY_TOKEN


def address(facts: Facts) -> Iterator[Finding]:
    """An address at which nothing can listen keeps the proxy from starting; a port in use may be the proxy's own."""
    if facts.settings is None:
        return
    number, problem = address_error(facts.settings.host, facts.settings.port)
    if number and number != errno.EADDRINUSE:
        yield placed(problem, facts)


def port(facts: Facts) -> Iterator[Finding]:
    """A port in use is right where the proxy of this folder runs, and an error where another program does."""
    if facts.settings is None or address_error(facts.settings.host, facts.settings.port)[0] != errno.EADDRINUSE:
        return
    url, place = proxy_url(facts.settings), facts.dotenv.place("PORT")
    try:
        # The page needs no token, so that the proxy's log shows no failed login.
        page = {"accept": "text/html"}
        response = httpx.get(f"{url}/pool", headers=page, timeout=5.0, trust_env=False, follow_redirects=False)
        runs = OWNER in response.text
    except httpx.HTTPError:
        runs = False
    if runs:
        yield info(place, f"a proxy runs at {url}")
        yield from _unapplied(facts, url)
    else:
        problem = f"port {facts.settings.port} is in use by a program that is not claude-proxy, so the proxy does not start"
        yield error(place, problem, "stop the other program, or set PORT in .env")


def _unapplied(facts: Facts, url: str) -> Iterator[Finding]:
    """Yield a warning for a ``.env`` that was changed after the running proxy started."""
    settings, path = facts.settings, facts.dotenv.path
    token = (settings.master_key or settings.static_token) if settings else None
    if token is None or not path.exists():
        return
    headers = {"accept": "application/json", PROXY_TOKEN: token.reveal()}
    try:
        response = httpx.get(f"{url}/pool", headers=headers, timeout=5.0, trust_env=False, follow_redirects=False)
        started = response.json()["store"]["process_started"]
        late = path.stat().st_mtime > float(started)
    except (httpx.HTTPError, OSError, ValueError, KeyError, TypeError):
        return
    if late:
        problem = "was changed after the running proxy started, so the changes do not apply yet"
        yield warning(path.name, problem, "restart the proxy")
