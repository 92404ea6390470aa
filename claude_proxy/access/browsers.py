"""What a web page may do with an open proxy: nothing. A page sends no token, and where none is asked for, that proves nothing.

Elsewhere a page would have to know a token, and to ask the browser's leave to send it. What changes the pool is for the proxy's
own page all the same.
"""

import ipaddress
from collections.abc import Collection, Mapping
from urllib.parse import urlsplit

from claude_proxy.access.routes import MODEL_ROUTES
from claude_proxy.anthropic.errors import Refused
from claude_proxy.asgi import Headers

# Names that nobody on the internet can point at an address: RFC 6761, RFC 6762, RFC 8375, and ICANN's name for private use.
PRIVATE_SUFFIXES = (".localhost", ".local", ".home.arpa", ".internal")
OTHER_SITES = ("cross-site", "same-site")
JSON = "application/json"
CURE = "Set PROXY_STATIC_TOKEN on the proxy, and send it."


def check_browser(method: str, route: str, headers: Headers, own_names: Collection[str]) -> None:
    """Raise ``Refused`` for a request that a web page may have made; ``own_names`` are names of this proxy, in lower case.

    1. ``Host`` is an address, a name without a dot, a private name, or one of ``own_names``: any other name may be a page's
       own, pointed at this machine after the page was loaded (DNS rebinding).
    2. ``Origin``, which every page's POST has, names the same host and port; no other site is behind ``Sec-Fetch-Site``.
    3. A request to a model is sent as JSON, which a form and a simple request of a page's cannot be.
    """
    sent = _sent(headers)
    host = sent.get("host", "").lower()
    if host and not _is_ours(host, own_names):
        raise Refused(403, f"{host[:100]!r} is not a name of this proxy, which is open to everybody. {CURE}")
    origin = sent.get("origin", "").lower()
    if (origin and urlsplit(origin).netloc != host) or sent.get("sec-fetch-site", "").lower() in OTHER_SITES:
        raise Refused(403, f"This proxy is open to everybody, and answers no web page of another site. {CURE}")
    if method == "POST" and (method, route) in MODEL_ROUTES:
        _check_json(sent)


def check_own_page(headers: Headers) -> None:
    """Raise ``Refused`` for a request that changes something and was made by a page of another site, or is not sent as JSON."""
    sent = _sent(headers)
    site, origin = sent.get("sec-fetch-site", "").lower(), sent.get("origin", "").lower()
    # A browser that sends the first knows better than a proxy in between that may have replaced the host.
    foreign = site in OTHER_SITES if site else bool(origin) and urlsplit(origin).netloc != sent.get("host", "").lower()
    if foreign:
        raise Refused(403, "Only the proxy's own page may change the pool.")
    _check_json(sent)


def _sent(headers: Headers) -> dict[str, str]:
    """Return the first header of each name, which is in lower case."""
    return {name.lower(): value.strip() for name, value in reversed(headers)}


def _check_json(sent: Mapping[str, str]) -> None:
    """Raise ``Refused`` for what a form, and a simple request of a page's, could send."""
    if sent.get("content-type", "").split(";")[0].strip().lower() != JSON:
        raise Refused(415, f"content-type: should be {JSON}")


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
