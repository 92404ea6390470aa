"""The requests of the sign-in pages: forms, the browser's cookie, and the proof that a page of this proxy sent a form."""

import asyncio
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import parse_qsl, urlsplit

from starlette.requests import Request

from claude_proxy.secret import Secret
from claude_proxy.server.signin_html import Html, end_page
from claude_proxy.signin.browser_sessions import form_token, read_id

# The path of every page starts with this, and the cookie is sent for these paths only.
ROOT = "/signin"
COOKIE = "claude-proxy-signin"
MEDIA_TYPE = "application/x-www-form-urlencoded"
# A form holds a code, a token of at most 4096 characters and the form's own value.
MAX_BYTES, MAX_FIELDS = 16 * 1024, 20
BODY_SECONDS = 30.0

OLD_FORM = "This page is too old, or the browser does not accept cookies. Open the page again and enter the code."
FOREIGN = "This form was not sent from a page of this proxy. Open the page again and enter the code."


class Problem(Exception):
    """The request cannot be served. ``page`` is the page of the response."""

    def __init__(self, status: int, page: Html, *headers: tuple[str, str]) -> None:
        super().__init__(status)
        self.status = status
        self.page = page
        self.headers = headers


class Form(NamedTuple):
    """A form that a page of this proxy has sent."""

    fields: Mapping[str, str]
    session: Secret
    # Scheme, host and port of the page, as the browser names them.
    origin: str


def failed(heading: str, words: str) -> Html:
    """Return the page of a problem, with a link to the first page."""
    return end_page(heading, words, problem=True)


async def read_form(request: Request) -> Form:
    """Return a form of a page of this proxy; raise ``Problem`` for any other request."""
    origin = _own_origin(request)
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != MEDIA_TYPE:
        raise Problem(400, failed("Not a form", "The request is not a form of this page. Open the page again."))
    body = await _body(request)
    try:
        fields = dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS))
    except ValueError:
        raise Problem(400, failed("Not a form", "The form cannot be read. Open the page again.")) from None
    session = cookie(request)
    if session is None or not Secret(form_token(session)).matches(Secret(fields.get("form", ""))):
        raise Problem(403, failed("The form is not valid", OLD_FORM))
    return Form(fields, session, origin)


def _own_origin(request: Request) -> str:
    """Return the origin that the browser names, which is this proxy; raise ``Problem`` for another site's.

    Browsers send ``Origin`` with each form. ``Sec-Fetch-Site`` is more reliable, because a load balancer may replace the host.
    """
    origin, site = request.headers.get("origin", "").lower(), request.headers.get("sec-fetch-site", "").lower()
    try:
        parts = urlsplit(origin)
    except ValueError:
        parts = urlsplit("")
    is_origin = parts.scheme in ("http", "https") and bool(parts.netloc) and origin == f"{parts.scheme}://{parts.netloc}"
    is_own = site == "same-origin" if site else parts.netloc == request.headers.get("host", "").lower()
    if not is_origin or not is_own or "@" in origin:
        raise Problem(403, failed("The form is not valid", FOREIGN))
    return origin


async def _body(request: Request) -> bytes:
    """Return the body, within limits of size and time."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while True:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise ConnectionAbortedError
                body += message.get("body", b"")
                if len(body) > MAX_BYTES:
                    raise Problem(413, failed("Not a form", "The form is too large."), ("connection", "close"))
                if not message.get("more_body"):
                    return bytes(body)
    except TimeoutError:
        raise Problem(408, failed("Not a form", "The form did not arrive in time."), ("connection", "close")) from None


def query(request: Request) -> dict[str, str]:
    """Return the query of the address, the first value of each name; raise ``Problem`` for one with too many names."""
    try:
        return dict(reversed(parse_qsl(request.scope["query_string"].decode("latin-1"), max_num_fields=MAX_FIELDS)))
    except ValueError:
        raise Problem(
            400, failed("The address is not valid", "The address has too many parts. Enter the code again.")
        ) from None


def cookie(request: Request) -> Secret | None:
    """Return the id in the cookie; None without one, or with several, one of which another site may have set."""
    texts = [value for name, value in request.scope["headers"] if name == b"cookie"]
    pairs = [part.partition("=") for text in texts for part in text.decode("latin-1").split(";")]
    found = [value.strip() for name, _, value in pairs if name.strip() == COOKIE]
    return read_id(found[0]) if len(found) == 1 else None


def set_cookie(session: Secret | None, *, secure: bool) -> tuple[str, str]:
    """Return the header that sets or removes the cookie. ``Lax``: the provider's redirect back must carry it."""
    value, age = (session.reveal(), "") if session else ("", "; Max-Age=0")
    more = "; Secure" if secure else ""
    return "set-cookie", f"{COOKIE}={value}; Path={ROOT}; HttpOnly; SameSite=Lax{age}{more}"


def is_secure(request: Request) -> bool:
    """Whether the browser uses HTTPS, as far as it is known before it names an origin."""
    return "https" in (request.scope["scheme"], request.headers.get("x-forwarded-proto", "").strip().lower())
