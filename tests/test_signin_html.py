"""server/signin_html.py: the pages' HTML, in which everything from outside is escaped."""

import html.parser
import re
from collections import Counter

import pytest

from claude_proxy.server import signin_html
from claude_proxy.server.signin_html import Proofs, code_page, confirm_page, end_page, leave_page, proof_page, response
from claude_proxy.signin.device_codes import Pending

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{style}}{{form}}{{x}}"
LOGIN = Pending(EVIL, 480.0, EVIL, EVIL)
PAGES = [
    code_page(EVIL, EVIL, EVIL), proof_page(EVIL, LOGIN, 1_800_000_000, Proofs(EVIL, EVIL), EVIL),
    confirm_page(EVIL, LOGIN, 0, EVIL),
    leave_page(f"https://login.example.com/{EVIL}", EVIL), end_page(EVIL, EVIL), end_page(EVIL, EVIL, problem=True),
    code_page("f", ""), proof_page("f", LOGIN, 1_800_000_000, Proofs(has_users=False)),
]  # fmt: skip
VOID = {"meta", "link", "input"}


class Outline(html.parser.HTMLParser):
    """The elements of a page, each with its attributes; raises for one that is not closed."""

    def __init__(self, page):
        super().__init__()
        self.found, self.open = [], []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.mark.parametrize("page", PAGES)
def test_a_page(page):
    """A page is well-formed: one heading, labelled fields, no script, no address of another host but the provider's."""
    outline = Outline(page).found
    counts = Counter(tag for tag, _ in outline)
    assert (counts["h1"], counts["title"], counts["main"], counts["style"]) == (1, 1, 1, 1)
    assert counts.keys().isdisjoint({"script", "img", "iframe", "object", "base"})
    assert ("html", {"lang": "en"}) in outline
    ids = [attributes["id"] for _, attributes in outline if "id" in attributes]
    assert len(ids) == len({*ids})
    fields = [attributes for tag, attributes in outline if tag == "input" and attributes.get("type") != "hidden"]
    labels = {attributes["for"] for tag, attributes in outline if tag == "label"}
    assert {field["id"] for field in fields} == labels
    assert all(field["aria-describedby"] in ids for field in fields if "aria-invalid" in field)
    assert all(attributes["action"].startswith("/signin") for tag, attributes in outline if tag == "form")
    assert all(attributes["method"] == "post" for tag, attributes in outline if tag == "form")
    assert not [name for _, attributes in outline for name in attributes if name.startswith("on") or name == "style"]
    for _, attributes in outline:
        address = attributes.get("href") or attributes.get("src") or ""
        assert address.startswith(("/signin", "data:,", "https://login.example.com/")) or not address


@pytest.mark.parametrize("page", PAGES[:6])
def test_values_are_escaped(page):
    """A value is text, whatever it contains: neither an element, an attribute, nor a place for another value."""
    body = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    assert "<script" not in body
    assert "<img" not in body
    assert "{{style}}{{form}}{{x}}" in body
    assert "&lt;script&gt;" in body


def test_the_time_of_a_start():
    """The page says when the sign-in was started, in UTC and in minutes."""
    login = Pending("BCDF-GHJK", 480.0, "192.0.2.1", "")
    page = proof_page("f", login, 1_800_000_000, Proofs())
    assert '<time datetime="2027-01-15T07:58:00Z">07:58 UTC, 2 minutes ago</time>' in page
    assert "not known" in page  # the program
    assert "1 minute ago" in proof_page("f", login._replace(expires_in=540), 1_800_000_000, Proofs())
    assert "less than a minute ago" in proof_page("f", login._replace(expires_in=700), 1_800_000_000, Proofs())


def test_proofs():
    """A page offers the proofs that exist: a token, the provider, or both."""
    login = Pending("BCDF-GHJK", 480.0, "", "")
    for host, has_users, forms in (("x.example", True, 2), ("x.example", False, 1), ("", True, 1), ("", False, 1)):
        page = proof_page("f", login, 0, Proofs(host, has_users=has_users))
        assert page.count("<form") == forms
        assert ("Sign in at x.example" in page) is bool(host)


def test_an_error():
    """An error is announced, named in the title, and belongs to its field."""
    page = code_page("f", "", "A made-up problem.")
    assert '<p role="alert" id="error">A made-up problem.</p>' in page
    assert "<title>Error: Sign in Claude Code - claude-proxy</title>" in page
    assert 'aria-invalid="true" aria-describedby="error"' in page
    assert "aria-invalid=" not in code_page("f", "")


def test_the_headers():
    """The style is allowed by its hash and no other, and nothing keeps, frames or reads the page."""
    found = response(end_page("a", "b"), 404, [("set-cookie", "x=1")])
    assert (found.status_code, found.headers["content-type"]) == (404, "text/html; charset=utf-8")
    policy = found.headers["content-security-policy"]
    assert "form-action 'self'" in policy
    assert "unsafe" not in policy
    assert found.headers["referrer-policy"] == "same-origin"
    assert found.headers["cross-origin-resource-policy"] == "same-origin"
    assert found.headers["cache-control"] == "no-store"
    assert signin_html._text("signin.css") in found.body.decode()
