"""The proxy's own web pages, ``/`` and ``/pool``: one file of HTML each. They hold no data; ``assets.py`` has their files."""

import functools
import html
from pathlib import Path

from starlette.responses import RedirectResponse, Response

from claude_proxy import __version__
from claude_proxy.access.routes import OPEN_NOTICE, is_asset, is_open, wants_page
from claude_proxy.asgi import Headers
from claude_proxy.config.settings import Settings
from claude_proxy.server import assets
from claude_proxy.upstream import headers as header_policy

WEB = Path(__file__).parent / "web"
DATA_HEADERS = {"cache-control": "no-store", "x-content-type-options": "nosniff", "vary": "accept"}
# A page may run and show this host's files, request data from this host, and nothing else. No script or style is in the HTML.
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
PAGE_HEADERS = {"content-security-policy": POLICY, "referrer-policy": "no-referrer", "x-frame-options": "DENY"}
# In the block that the start page shows.
PLACEHOLDER = "YOUR-TOKEN"
NOT_NEEDED = "none-is-needed"


def page(name: str, settings: Settings) -> Response:
    """Return a page."""
    text = _text_of(name)
    opened = is_open(settings)
    banner = f'<p id="open" class="note bad" role="alert">{html.escape(OPEN_NOTICE)}</p>' if opened else ""
    values = {"needs_token": "no" if opened else "yes", "open": banner, "version": __version__}
    values["token"] = NOT_NEEDED if opened else PLACEHOLDER
    # Relative, because a proxy before this one may serve the page below a path.
    values["assets"] = f"pool/assets/{assets.hash_of_all()}"
    for key, value in values.items():
        text = text.replace(f"{{{{{key}}}}}", value)
    return Response(text, media_type="text/html", headers=DATA_HEADERS | PAGE_HEADERS)


def part_of_page(method: str, path: str, route: str, headers: Headers) -> Response | None:
    """Return a file of the pages, or the redirect of a page's path that ends with a slash; None for another request."""
    if is_asset(method, route):
        return assets.respond(route, headers)
    if path.endswith("/") and wants_page(method, route, header_policy.accepted(headers)):
        # The addresses in a page are relative to its path without a slash.
        return RedirectResponse(f"../{route.rpartition('/')[2]}", 308)
    return None


@functools.cache
def _text_of(name: str) -> str:
    return (WEB / f"{name}.html").read_text(encoding="utf-8")
