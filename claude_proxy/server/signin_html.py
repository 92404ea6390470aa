"""The HTML of the sign-in pages: files of ``web/`` in which ``{{name}}`` is replaced. The pages work without a script.

Every value is escaped, except an ``Html``, which only this file makes.
"""

import base64
import functools
import hashlib
import html
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from starlette.responses import Response

from claude_proxy.signin.device_codes import LIFETIME_SECONDS, Pending

WEB = Path(__file__).parent / "web"
_PLACE = re.compile(r"\{\{([a-z_]+)\}\}")


class Html(str):
    """HTML that is not escaped again."""

    __slots__ = ()


NOTHING = Html("")
AGAIN = Html('<p><a href="/signin">Enter a code</a></p>')
# For a screen reader: the field has an error, which this element describes.
INVALID = Html(' aria-invalid="true" aria-describedby="error"')


def code_page(form: str, code: str, problem: str = "") -> Html:
    """The page that requests the code."""
    return _page("Sign in Claude Code", _filled("code", form=form, code=code, invalid=_invalid(problem)), problem)


@dataclass(frozen=True)
class Proofs:
    """How a user can prove who they are."""

    # The host of the provider; empty without one.
    host: str = ""
    # What the operator says about it.
    notice: str = ""
    # Whether there are users with a personal token.
    has_users: bool = True


def proof_page(form: str, login: Pending, now: float, proofs: Proofs, problem: str = "") -> Html:
    """The page that shows what will be signed in and requests a proof."""
    code, host = login.user_code, proofs.host
    notice = _fill('<p class="notice">{{words}}</p>\n', {"words": proofs.notice}) if proofs.notice else NOTHING
    provider = _filled("provider", form=form, code=code, host=host) if host else NOTHING
    invalid = Html(INVALID + " autofocus") if problem else NOTHING
    token = _filled("token", form=form, code=code, invalid=invalid) if proofs.has_users or not host else NOTHING
    main = _filled("proof", details=_details(login, now), notice=notice, provider=provider, token=token)
    return _page("Prove who you are", main, problem)


def confirm_page(form: str, login: Pending, now: float, name: str) -> Html:
    """The page on which the user approves or denies the code."""
    return _page("Confirm the sign-in", _filled("confirm", form=form, name=name, details=_details(login, now)))


def leave_page(address: str, host: str) -> Html:
    """The page that sends the browser to the provider.

    A redirect would not do: the policy for forms, which browsers apply to redirects too, allows this host only.
    """
    refresh = Html(f'<meta http-equiv="refresh" content="0; url={html.escape(address)}">\n')
    return _page(f"Continue at {host}", _filled("leave", address=address, host=host), refresh=refresh)


def end_page(heading: str, words: str, *, problem: bool = False) -> Html:
    """The last page; with a problem, the words are an alert, and a link leads to the first page."""
    main = _filled("end", words=words, next=NOTHING) if not problem else AGAIN
    return _page(heading, main, words if problem else "")


def response(page: Html, status: int = 200, headers: Sequence[tuple[str, str]] = ()) -> Response:
    """Return a page as a response: not stored, not framed, without scripts, and with forms for this host only."""
    found = Response(page, status, media_type="text/html")
    for name, value in (*_headers().items(), *headers):
        found.headers.append(name, value)
    return found


def _page(heading: str, main: Html, problem: str = "", refresh: Html = NOTHING) -> Html:
    title = f"{'Error: ' if problem else ''}{heading} - claude-proxy"
    alert = _fill('<p role="alert" id="error">{{words}}</p>\n', {"words": problem}) if problem else NOTHING
    style = Html(_text("signin.css"))
    return _filled_file(
        "signin.html", {"title": title, "heading": heading, "alert": alert, "main": main, "refresh": refresh, "style": style}
    )


def _details(login: Pending, now: float) -> Html:
    started = now + login.expires_in - LIFETIME_SECONDS
    moment = time.gmtime(started)
    minutes = max(0, round((now - started) / 60))
    ago = "less than a minute ago" if minutes == 0 else f"{minutes} minute{'s' if minutes > 1 else ''} ago"
    return _filled(
        "details",
        code=login.user_code,
        client=login.client or "not known",
        origin=login.origin or "not known",
        started=time.strftime("%Y-%m-%dT%H:%M:%SZ", moment),
        started_words=f"{time.strftime('%H:%M', moment)} UTC, {ago}",
    )


def _invalid(problem: str) -> Html:
    return INVALID if problem else NOTHING


def _filled(part: str, /, **values: str) -> Html:
    return _filled_file(f"signin_{part}.html", values)


def _filled_file(name: str, values: Mapping[str, str]) -> Html:
    return _fill(_text(name), values)


def _fill(text: str, values: Mapping[str, str]) -> Html:
    """Replace each name once: a value that contains ``{{name}}`` stays as it is."""

    def value(found: re.Match[str]) -> str:
        given = values[found[1]]
        return given if isinstance(given, Html) else html.escape(given)

    return Html(_PLACE.sub(value, text))


@functools.cache
def _text(name: str) -> str:
    return (WEB / name).read_text(encoding="utf-8")


@functools.cache
def _headers() -> dict[str, str]:
    style = base64.b64encode(hashlib.sha256(_text("signin.css").encode()).digest()).decode()
    return {
        "content-security-policy": (
            f"default-src 'none'; style-src 'sha256-{style}'; img-src data:; base-uri 'none'; form-action 'self'; "
            "frame-ancestors 'none'"
        ),
        "cache-control": "no-store",
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
        # With `no-referrer`, browsers would send `Origin: null` with the forms.
        "referrer-policy": "same-origin",
    }
