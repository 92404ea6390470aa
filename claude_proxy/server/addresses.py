"""The address of the proxy as the user of a request reaches it. No I/O."""

import re
from urllib.parse import urlsplit

from claude_proxy.asgi import Scope
from claude_proxy.config.settings import VARIABLES, Settings

# A name or an address, and a port: no user, no path, nothing that a page or a header would read in another way.
_HOST = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")


def base_of(scope: Scope, settings: Settings, url: str = "") -> str:
    """Return ``scheme://host`` without a slash: ``url`` if it is set, else the address of the request.

    TLS ends in front of the proxy. The scheme is that of the connection, or of ``X-Forwarded-Proto`` where the server trusts
    the sender (``FORWARDED_ALLOW_IPS``), and https for the name ``PROXY_DOMAIN``. Without a usable ``Host`` it is the address
    that the proxy listens on.
    """
    if url:
        return url
    host = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "")
    if not _is_host(host):
        host = f"[{settings.host}]:{settings.port}" if ":" in settings.host else f"{settings.host}:{settings.port}"
    scheme = "https" if scope.get("scheme") == "https" or _is_domain(host, settings) else "http"
    return f"{scheme}://{host.lower()}"


def _is_host(host: str) -> bool:
    """Whether a text is a host, with or without a port, and nothing else."""
    try:
        parts = urlsplit(f"//{host}")
        return bool(_HOST.fullmatch(host) and parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _is_domain(host: str, settings: Settings) -> bool:
    domain = settings.domain.lower()
    return domain != VARIABLES["PROXY_DOMAIN"].default and (urlsplit(f"//{host}").hostname or "") == domain
