"""Refuses requests of web pages of other sites: an open proxy needs no token, so any page could use it.

If the proxy is not open, a page would need a token, and the browser's permission to send it. Requests that change the pool
are accepted only from the proxy's own page in any case.
"""

import ipaddress
from collections.abc import Collection, Mapping
from urllib.parse import urlsplit

from claude_proxy.access.routes import MODEL_ROUTES
from claude_proxy.anthropic.errors import Refused
from claude_proxy.asgi import Headers

# Names that cannot be registered on the internet: RFC 6761, RFC 6762, RFC 8375, and ICANN's name for private use.
PRIVATE_SUFFIXES = (".localhost", ".local", ".home.arpa", ".internal")
OTHER_SITES = ("cross-site", "same-site")
JSON = "application/json"
REMEDY = "Set PROXY_STATIC_TOKEN to a token on the proxy, and send that token."


def check_browser(
    method: str, route: str, headers: Headers, own_names: Collection[str], *, reaches_model: bool = False
) -> None:
    """Raise ``Refused`` for a request that a web page may have sent; ``own_names`` are names of this proxy, in lower case.

    ``reaches_model`` says of a route that is not of the Messages API whether it uses the proxy's credentials.

    1. ``Host`` must be an address, a name without a dot, a private name, or one of ``own_names``: any other name may be that of
       a page which has been pointed at this machine after the page was loaded (DNS rebinding).
    2. ``Origin``, which browsers send with each POST, must name the same host and port; ``Sec-Fetch-Site`` no other site.
    3. A request to a model must be JSON, which a form, or a request without a preflight, cannot be.
    """
    sent = _sent(headers)
    host = sent.get("host", "").lower()
    if host and not _is_ours(host, own_names):
        raise Refused(403, f"{host[:100]!r} is not a name of this proxy, which is open to everyone. {REMEDY}")
    if _is_foreign(sent.get("origin", "").lower(), host) or sent.get("sec-fetch-site", "").lower() in OTHER_SITES:
        raise Refused(403, f"This proxy is open to everyone, and does not accept requests of other sites' web pages. {REMEDY}")
    if method == "POST" and (reaches_model or (method, route) in MODEL_ROUTES):
        _check_json(sent)


def check_own_page(headers: Headers) -> None:
    """Raise ``Refused`` for a request that changes something if another site's page sent it, or if it is not JSON."""
    sent = _sent(headers)
    site, origin = sent.get("sec-fetch-site", "").lower(), sent.get("origin", "").lower()
    # The first is more reliable: a proxy in between may have replaced the host.
    if site in OTHER_SITES if site else _is_foreign(origin, sent.get("host", "").lower()):
        raise Refused(403, "Only the proxy's own page may change the pool and budgets.")
    _check_json(sent)


def _is_foreign(origin: str, host: str) -> bool:
    """Whether an origin is that of another site. A text that is no origin is one of another site."""
    try:
        return bool(origin) and urlsplit(origin).netloc != host
    except ValueError:
        return True


def _sent(headers: Headers) -> dict[str, str]:
    """Return the first header of each name, with names in lower case."""
    return {name.lower(): value.strip() for name, value in reversed(headers)}


def _check_json(sent: Mapping[str, str]) -> None:
    """Raise ``Refused`` for a content type that a form, or a request without a preflight, can have."""
    if sent.get("content-type", "").split(";")[0].strip().lower() != JSON:
        raise Refused(415, f"content-type: must be {JSON}")


def _is_ours(host: str, own_names: Collection[str]) -> bool:
    try:
        name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return False
    return _is_address(name) or (bool(name) and "." not in name) or name.endswith(PRIVATE_SUFFIXES) or name in own_names


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
