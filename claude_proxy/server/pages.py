"""The proxy's own web pages, ``/`` and ``/pool``: one file of HTML each, with its style and script in it. They hold no data."""

import base64
import functools
import hashlib
import html
from pathlib import Path

from starlette.responses import Response

from claude_proxy import __version__
from claude_proxy.access.routes import OPEN_NOTICE, is_open
from claude_proxy.config.settings import Settings

WEB = Path(__file__).parent / "web"
DATA_HEADERS = {"cache-control": "no-store", "x-content-type-options": "nosniff", "vary": "accept"}
# In the block that the start page shows.
PLACEHOLDER = "YOUR-TOKEN"
NOT_NEEDED = "none-is-needed"


def page(name: str, settings: Settings) -> Response:
    """Return a page. It may run and show what is in it, request data from this host, and nothing else."""
    text, policy = _page_text(name)
    opened = is_open(settings)
    banner = f'<p id="open" class="note bad" role="alert">{html.escape(OPEN_NOTICE)}</p>' if opened else ""
    values = {"needs_token": "no" if opened else "yes", "open": banner, "version": __version__}
    values["token"] = NOT_NEEDED if opened else PLACEHOLDER
    for key, value in values.items():
        text = text.replace(f"{{{{{key}}}}}", value)
    headers = {"content-security-policy": policy, "referrer-policy": "no-referrer", "x-frame-options": "DENY"}
    return Response(text, media_type="text/html", headers=DATA_HEADERS | headers)


@functools.cache
def _page_text(name: str) -> tuple[str, str]:
    """Return a page with its style and script in it, and the policy that allows these two by their hashes."""
    files = (WEB / f"{name}.html", WEB / "pool.css", WEB / f"{name}.js")
    text, style, script = (path.read_text(encoding="utf-8") for path in files)
    policy = (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return text.replace("{{style}}", style).replace("{{script}}", script), policy


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
