"""server/signin_pages.py: the sign-in pages, without a proxy around them, and what a browser must not be able to do."""

import asyncio
import dataclasses
import html
import logging
import re
from urllib.parse import urlencode

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_proxy.access.failed_logins import MAX_WAITING
from claude_proxy.config.oidc import Oidc
from claude_proxy.config.settings import Settings
from claude_proxy.config.sign_in import SignIn
from claude_proxy.secret import Secret
from claude_proxy.server import signin_pages
from claude_proxy.server.signin_forms import COOKIE, MAX_BYTES
from claude_proxy.server.signin_pages import WRONG_OF_ADDRESS, WRONG_OF_CODE, SigninPages
from claude_proxy.signin.browser_sessions import BrowserSessions, form_token
from claude_proxy.signin.confirmations import Confirmations
from claude_proxy.signin.device_codes import LIFETIME_SECONDS, DeviceCodes, State
from claude_proxy.signin.id_token import NotAllowed
from claude_proxy.signin.identity import Identity
from claude_proxy.signin.key_source import SealedKeys
from claude_proxy.signin.oidc_client import Identified, ProviderFailed, Rejected
from claude_proxy.signin.sealed_token import unseal
from claude_proxy.signin.shared import SharedSignIns
from claude_proxy.state.memory import MemoryStore
from claude_proxy.state.store import StoreUnavailable

pytestmark = pytest.mark.anyio

ANNA, BEN = "sk-made-up-token-of-anna", "sk-made-up-token-of-ben"
HOME = "http://proxy.example"
SCRIPT = "<script>alert('x')</script>\"'{{style}}"


class Provider:
    """An ``OidcClient`` that a test tells what to do."""

    def __init__(self):
        self.provider = None
        self.outcome = Identity("carla@example.com", ("team-a",), "carla@example.com")
        self.refresh_token = Secret("made-up-refresh-token-of-the-provider")
        self.left, self.returned = [], []

    async def address(self, provider, attempt, back):
        if isinstance(self.outcome, ProviderFailed):
            raise self.outcome
        self.left.append((attempt, back))
        return f"{provider.issuer}/authorize?state={attempt.state}&x=1"

    async def identify(self, provider, attempt, back, returned):
        self.returned.append((attempt, back, returned))
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return Identified(self.outcome, "1", self.refresh_token)


class World:
    """The pages, and a browser at them. It has what they need of ``signin/sign_in.py``: codes and configuration."""

    def __init__(self):
        self.now, self.config = [1_800_000_000.0], SignIn()
        own = Settings.parse({"PROXY_STATIC_TOKEN": "sk-made-up-static-token", "PROXY_USER_TOKENS": f"anna={ANNA},ben={BEN}"})
        self.store, self.provider, self.learned = MemoryStore(), Provider(), []
        self.codes = DeviceCodes(self.store, lambda: self.now[0])
        self.keys = SealedKeys(self.store, SharedSignIns(), Secret("sk-made-up-master-key"), lambda: self.now[0])
        self.confirmations = Confirmations(None, self.keys, lambda: self.now[0])
        sessions = BrowserSessions(self.store, lambda: self.now[0])
        self.pages = SigninPages(own, self, sessions, self.provider, learn=self.learned.append, clock=lambda: self.now[0])
        self.browser = self.new_browser()

    def new_browser(self, address="192.0.2.1"):
        transport = httpx.ASGITransport(self.pages, client=(address, 1))
        return httpx.AsyncClient(transport=transport, base_url=HOME, headers={"origin": HOME})

    async def start(self):
        return await self.codes.start("192.0.2.7", "claude-cli/2.1.332")

    async def opened(self, browser=None):
        """Open the first page; return the forms' value."""
        return value_of(await (browser or self.browser).get("/signin"))

    async def post(self, path="", browser=None, headers=None, **fields):
        browser = browser or self.browser
        fields = {"form": await self.opened(browser)} | fields
        return checked(await browser.post(f"/signin{path}", data=fields, headers=headers))

    async def proven(self, code, token=ANNA):
        """Go through the pages to the decision; return that page."""
        found = await self.post("/token", user_code=code, token=token)
        assert (found.status_code, found.headers["location"]) == (303, "/signin/confirm")
        return checked(await self.browser.get("/signin/confirm"))

    async def decide(self, page, decision):
        return checked(await self.browser.post("/signin/confirm", data={"form": value_of(page), "decision": decision}))


def value_of(page):
    return re.search(r'name="form" value="([0-9a-f]{64})"', page.text)[1]


def checked(page):
    """What holds for each response."""
    assert page.headers["cache-control"] == "no-store"
    assert page.headers["x-frame-options"] == "DENY"
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
    assert "script-src" not in page.headers["content-security-policy"]
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    assert "<script" not in page.text
    assert "made-up" not in page.text
    assert not [name for name in page.headers if name.startswith("access-control-")]
    if page.status_code >= 400:
        assert 'role="alert"' in page.text
        assert "<title>Error: " in page.text
    return page


def words(page):
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page.text.partition("</head>")[2])).split())


@pytest.fixture
def world():
    return World()


async def test_a_user_approves(world, caplog):
    """A user enters the code and a personal token, sees who and what, and approves; only then the code is redeemed."""
    own = logging.getLogger("claude_proxy")
    own.propagate = True
    caplog.set_level(logging.INFO, "claude_proxy")
    started = await world.start()
    page = await world.post(user_code=started.user_code.lower().replace("-", " "))
    for part in ("192.0.2.7", "claude-cli/2.1.332", started.user_code, "08:00 UTC, less than a minute ago"):
        assert part in words(page)
    assert "Sign in at" not in words(page)
    page = await world.proven(started.user_code)
    assert f"You are anna . Do you want to sign in this Claude Code? Code {started.user_code}" in words(page)
    assert (await world.codes.poll(started.device_code)).state is State.PENDING
    page = await world.decide(page, "approve")
    assert "Claude Code is signed in as anna. Return to Claude Code. You can close this window." in words(page)
    found = await world.codes.poll(started.device_code)
    assert (found.state, found.identity.name, found.identity.groups) == (State.APPROVED, "anna", ())
    assert found.identity.token_digest
    assert [token.reveal() for token in world.learned] == [ANNA]
    assert "user anna approved a sign-in that was started from 192.0.2.7" in caplog.text
    assert "made-up" not in caplog.text
    rows, _ = await world.store.pull(0)
    assert "made-up" not in str(rows)
    assert not world.browser.cookies  # removed


async def test_a_user_denies(world):
    """A user who denies the code ends the sign-in, and nobody can approve it afterwards."""
    started = await world.start()
    page = await world.decide(await world.proven(started.user_code), "deny")
    assert "Claude Code is not signed in. You can close this window." in words(page)
    assert (await world.codes.poll(started.device_code)).state is State.DENIED
    assert (await world.post("/token", user_code=started.user_code, token=ANNA)).status_code == 404


async def test_a_filled_in_code(world):
    """A code in the address is in the field, and nothing is looked up; a text that cannot be a code is not shown."""
    started = await world.start()
    page = checked(await world.browser.get("/signin", params={"user_code": started.user_code}))
    assert f'value="{started.user_code}"' in page.text
    assert "192.0.2.7" not in page.text
    assert "http-equiv" not in page.text
    for text in (SCRIPT, "x" * 10_000, "{{form}}", "BCDF"):
        page = checked(await world.browser.get("/signin", params={"user_code": text}))
        assert 'name="user_code" value=""' in page.text


async def test_a_wrong_code(world):
    """A code that does not exist, has expired or is decided is an error in words, and the next one can be entered."""
    started = await world.start()
    for code in ("", "BCDF-GHJK", SCRIPT, "x" * 5000):
        page = await world.post(user_code=code)
        assert page.status_code == 404
        assert "This code is not valid." in words(page)
        assert 'aria-invalid="true" aria-describedby="error"' in page.text
    page = await world.proven(started.user_code)
    world.now[0] += LIFETIME_SECONDS
    found = await world.decide(page, "approve")
    assert found.status_code in (400, 404)
    assert (await world.post(user_code=started.user_code)).status_code == 404
    assert (await world.codes.poll(started.device_code)).state is State.EXPIRED


async def test_a_wrong_token(world):
    """A token that is no user's proves nothing: neither the static token nor an empty or a very long one."""
    started = await world.start()
    for token in ("", " ", "sk-made-up-static-token", ANNA[:-1], ANNA.upper(), "x" * 5000, SCRIPT, "\u00e4"):
        page = await world.post("/token", user_code=started.user_code, token=token)
        assert page.status_code == 401
        assert "This token is not valid here." in words(page)
        assert token.strip() not in page.text or not token.strip()
    assert world.learned == []
    assert (await world.codes.poll(started.device_code)).state is State.PENDING


async def test_too_many_wrong_tokens_for_a_code(world):
    """After some wrong tokens a code is denied, whichever address they come from."""
    started, other = await world.start(), await world.start()
    for number in range(WRONG_OF_CODE):
        browser = world.new_browser(f"192.0.2.{number + 10}")
        page = await world.post("/token", browser, user_code=started.user_code, token="wrong")
    assert page.status_code == 403
    assert "Too many wrong tokens were entered for this code." in words(page)
    assert (await world.codes.poll(started.device_code)).state is State.DENIED
    assert (await world.codes.poll(other.device_code)).state is State.PENDING


async def test_too_many_wrong_codes_from_an_address(world, monkeypatch):
    """An address that sends many wrong codes is refused for some minutes, also with a right one; others are not."""
    monkeypatch.setattr("claude_proxy.access.failed_logins.MAX_DELAY", 0.0)
    clock = [0.0]
    monkeypatch.setattr(world.pages._of_address, "_clock", lambda: clock[0])
    started = await world.start()
    for _ in range(WRONG_OF_ADDRESS):
        assert (await world.post(user_code="BCDF-GHJK")).status_code == 404
    page = await world.post(user_code=started.user_code)
    assert (page.status_code, page.headers["retry-after"]) == (429, "300")
    assert "Try again in 5 min." in words(page)
    assert (await world.post("", world.new_browser("192.0.2.2"), user_code=started.user_code)).status_code == 200
    clock[0] += signin_pages.WRONG_SECONDS
    assert (await world.post(user_code=started.user_code)).status_code == 200


async def test_wrong_attempts_that_wait(world):
    """When many wrong attempts wait for their response, a further one is refused with the time to wait."""
    world.pages._failed._delays._waiting = MAX_WAITING
    for _ in range(10):
        await world.post(user_code="BCDF-GHJK")
    page = await world.post(user_code="BCDF-GHJK")
    assert (page.status_code, page.headers["retry-after"]) == (429, "1")


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"}, {"origin": "null"}, {"origin": ""}, {"origin": "http://proxy.example.evil.example"},
        {"origin": "http://proxy.example:81"}, {"origin": "http://user@proxy.example"}, {"origin": "http://[::1"},
        {"origin": "http://proxy.example/"}, {"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "none"}, {"origin": "javascript:1", "sec-fetch-site": "same-origin"},
    ],
)  # fmt: skip
async def test_forms_of_other_sites(world, headers):
    """A form that another site's page sent, or that does not say where it comes from, changes nothing."""
    started = await world.start()
    page = await world.proven(started.user_code)
    for path in ("", "/token", "/provider", "/confirm"):
        fields = {"user_code": started.user_code, "token": BEN, "decision": "approve", "form": value_of(page)}
        found = checked(await world.browser.post(f"/signin{path}", data=fields, headers=headers))
        assert (found.status_code, "location" in found.headers) == (403, False)
    assert (await world.codes.poll(started.device_code)).state is State.PENDING


async def test_forms_of_other_browsers(world):
    """A form needs the cookie of the browser that its page was made for."""
    started = await world.start()
    other = world.new_browser()
    value = await world.opened(other)
    for form in ("", value, "x", "ä", None):
        found = await world.post("/token", user_code=started.user_code, token=ANNA, form=form or "")
        assert found.status_code == 403
        assert "does not accept cookies" in words(found)
    world.browser.cookies.clear()
    page = await other.get("/signin")
    found = await world.browser.post("/signin", data={"form": value_of(page), "user_code": started.user_code})
    assert found.status_code == 403


async def test_a_planted_cookie(world):
    """Who planted a cookie before the user proved who they are cannot decide afterwards, or see who it is (fixation)."""
    started = await world.start()
    planted = "x" * 43
    attacker = world.new_browser()
    for browser in (attacker, world.browser):
        browser.cookies.set(COOKIE, planted, domain="proxy.example", path="/signin")
    value = await world.opened(attacker)
    page = await world.proven(started.user_code)
    assert world.browser.cookies[COOKIE] != planted
    assert value_of(page) != value
    found = await attacker.get("/signin/confirm")
    assert found.status_code == 400
    assert "anna" not in found.text
    found = await attacker.post("/signin/confirm", data={"form": value, "decision": "approve"})
    assert found.status_code == 400
    assert (await world.codes.poll(started.device_code)).state is State.PENDING


async def test_cookies(world):
    """The cookie is for these pages only, and for HTTPS only where the browser uses it; two cookies are none."""
    page = await world.browser.get("/signin")
    assert re.fullmatch(rf"{COOKIE}=[\w-]{{43}}; Path=/signin; HttpOnly; SameSite=Lax", page.headers["set-cookie"])
    assert "set-cookie" not in (await world.browser.get("/signin")).headers
    for headers in (
        {"cookie": f"{COOKIE}={'x' * 43}; {COOKIE}={'y' * 43}"},
        {"cookie": f"{COOKIE}=x"},
        {"cookie": b"\xe4;;=;"},
    ):
        assert "set-cookie" in (await world.new_browser().get("/signin", headers=headers)).headers
    page = await world.new_browser().get("/signin", headers={"x-forwarded-proto": "https"})
    assert page.headers["set-cookie"].endswith("; Secure")
    started, https = await world.start(), "https://proxy.example"
    browser = world.new_browser()
    page = await world.post("/token", browser, {"origin": https}, user_code=started.user_code, token=ANNA)
    assert page.headers["set-cookie"].endswith("; Secure")


async def test_the_decision_belongs_to_the_proof(world):
    """The code and the user of a decision are those of the proof, whatever the form says; and a decision is made once."""
    started, other = await world.start(), await world.start()
    page = await world.proven(started.user_code)
    fields = {"form": value_of(page), "user_code": other.user_code, "name": "ben", "token": BEN}
    assert checked(await world.browser.post("/signin/confirm", data=fields)).status_code == 400
    cookies = dict(world.browser.cookies)
    found = await world.browser.post("/signin/confirm", data=fields | {"decision": "approve"})
    assert "signed in as anna" in words(checked(found))
    world.browser.cookies.update(cookies)
    assert (await world.browser.post("/signin/confirm", data=fields | {"decision": "deny"})).status_code == 400
    assert (await world.codes.poll(started.device_code)).identity.name == "anna"
    assert (await world.codes.poll(other.device_code)).state is State.PENDING
    assert (await world.new_browser().get("/signin/confirm")).status_code == 400


async def test_two_browsers_decide(world):
    """Of two users who proved who they are for one code, the first decides."""
    started = await world.start()
    mine = await world.proven(started.user_code)
    other = world.new_browser()
    await world.post("/token", other, user_code=started.user_code, token=BEN)
    theirs = await other.get("/signin/confirm")
    await other.post("/signin/confirm", data={"form": value_of(theirs), "decision": "deny"})
    assert (await world.decide(mine, "approve")).status_code == 404
    assert (await world.codes.poll(started.device_code)).state is State.DENIED


async def at_provider(world):
    """Leave for the provider; return the login and the attempt."""
    world.provider.provider = Oidc("https://login.example.com", "proxy")
    started = await world.start()
    page = await world.post("/provider", user_code=started.user_code)
    assert page.status_code == 200
    attempt, back = world.provider.left[-1]
    assert back == f"{HOME}/signin/callback"
    address = f"https://login.example.com/authorize?state={attempt.state}&amp;x=1"
    assert f'<meta http-equiv="refresh" content="0; url={address}">' in page.text
    assert f'<a href="{address}" rel="noreferrer">Continue to login.example.com</a>' in page.text
    return started, attempt


async def test_a_user_signs_in_at_the_provider(world):
    """The provider sends the browser back, the user sees who they are and approves; groups and email come along.

    So does the provider's refresh token, which is sealed in every row of the store.
    """
    started, attempt = await at_provider(world)
    assert "Sign in at login.example.com" in words(await world.post(user_code=started.user_code))
    found = checked(await world.browser.get("/signin/callback", params={"state": attempt.state, "code": "c", "iss": "i"}))
    assert (found.status_code, found.headers["location"]) == (303, "/signin/confirm")
    assert world.provider.returned == [(attempt, f"{HOME}/signin/callback", {"state": attempt.state, "code": "c", "iss": "i"})]
    page = await world.browser.get("/signin/confirm")
    assert "You are carla@example.com ." in words(page)
    await world.decide(page, "approve")
    identity = (await world.codes.poll(started.device_code)).identity
    assert dataclasses.replace(identity, confirmation=None) == world.provider.outcome
    last = identity.confirmation
    assert (last.issuer, last.client_id, last.subject, last.at) == ("https://login.example.com", "proxy", "1", world.now[0])
    token = unseal(last.sealed, world.keys.current(), last.issuer, last.client_id, last.subject)
    assert token.reveal() == world.provider.refresh_token.reveal()
    rows, _ = await world.store.pull(0)
    assert not [row for row in rows if token.reveal() in row.value]


async def test_a_return_that_was_not_started_here(world):
    """A return with another state, in another browser, repeated or without a start is refused, and no code is redeemed."""
    _, attempt = await at_provider(world)
    sent = {"state": attempt.state, "code": "c"}
    for query in ({}, {"code": "c"}, {"state": "", "code": "c"}, {"state": SCRIPT, "code": "c"}, {"state": "ä"}):
        assert checked(await world.browser.get("/signin/callback", params=query)).status_code == 400
    assert checked(await world.new_browser().get("/signin/callback", params=sent)).status_code == 400
    cookies = dict(world.browser.cookies)
    assert (await world.browser.get("/signin/callback", params=sent)).status_code == 303
    world.browser.cookies.clear()
    world.browser.cookies.update(cookies)
    assert checked(await world.browser.get("/signin/callback", params=sent)).status_code == 400
    assert len(world.provider.returned) == 1


@pytest.mark.parametrize(
    ("outcome", "status", "said"),
    [
        (ProviderFailed("HTTP 500"), 503, "login.example.com cannot be used now."),
        (Rejected("its nonce is not that of this sign-in"), 401, "login.example.com did not confirm who you are."),
        (NotAllowed(f"Your account is not allowed {SCRIPT}."), 403, "Your account is not allowed"),
    ],
)
async def test_a_provider_that_does_not_confirm(world, outcome, status, said):
    """A failure at the provider is a page in words; nobody is signed in, and the code can still be used."""
    started, attempt = await at_provider(world)
    world.provider.outcome = outcome
    found = checked(await world.browser.get("/signin/callback", params={"state": attempt.state, "code": "c"}))
    assert (found.status_code, said in words(found)) == (status, True)
    assert (await world.browser.get("/signin/confirm")).status_code == 400
    assert (await world.codes.poll(started.device_code)).state is State.PENDING


async def test_a_provider_that_cannot_be_reached(world):
    """A provider that does not respond is reported before the browser leaves."""
    world.provider.provider = Oidc("https://login.example.com", "proxy")
    world.provider.outcome = ProviderFailed("no response")
    started = await world.start()
    assert (await world.post("/provider", user_code=started.user_code)).status_code == 503


async def test_an_address_and_a_notice(world):
    """The configured address is where the provider sends the browser back; the notice is on the page with the proofs."""
    world.config = SignIn(url="https://sign-in.example", notice="Use your <work> account.")
    world.provider.provider = Oidc("https://login.example.com", "proxy")
    started = await world.start()
    assert "Use your <work> account." in words(await world.post(user_code=started.user_code))
    await world.post("/provider", user_code=started.user_code)
    attempt, back = world.provider.left[-1]
    assert back == "https://sign-in.example/signin/callback"
    await world.browser.get("/signin/callback", params={"state": attempt.state, "code": "c"})
    assert world.provider.returned[-1][1] == back


async def test_without_a_provider(world):
    """Without a provider in config.yaml nobody can leave for one, and a return is refused."""
    started = await world.start()
    assert (await world.post("/provider", user_code=started.user_code)).status_code == 404
    assert (await world.browser.get("/signin/callback", params={"state": "x", "code": "c"})).status_code == 400


async def test_a_code_that_expires_at_the_provider(world):
    """A code that expires while the user is at the provider is reported; the user is not signed in."""
    started, attempt = await at_provider(world)
    await world.codes.deny(started.user_code)
    found = checked(await world.browser.get("/signin/callback", params={"state": attempt.state, "code": "c"}))
    assert found.status_code == 404
    assert COOKIE not in found.headers.get("set-cookie", "")


async def test_where_the_browser_is_sent(world):
    """No parameter decides where the browser is sent: neither a return address nor a host (open redirect)."""
    started, attempt = await at_provider(world)
    evil = {"redirect_uri": "https://evil.example", "return_to": "//evil.example", "next": "//evil.example"}
    query = {"state": attempt.state, "code": "c"} | evil
    found = await world.browser.get("/signin/callback", params=query, headers={"host": "evil.example"})
    assert (found.status_code, found.headers["location"]) == (303, "/signin/confirm")
    page = await world.post("/provider", user_code=started.user_code, **evil)
    assert "evil" not in page.text
    assert world.provider.left[-1][1] == f"{HOME}/signin/callback"


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"{}", "application/json", 400), (b"x", "text/plain", 400), (b"x", "", 400), (b"\xff\xfe", None, 400),
        (b"&".join(b"a=b" for _ in range(100)), None, 400), (b"x" * (MAX_BYTES + 1), None, 413), (b"", None, 403),
        (b"form=%00%ff&user_code=%ed%a0%80", None, 403),
    ],
)  # fmt: skip
async def test_bodies_that_are_no_forms(world, content, kind, status):
    """A body of another type, size or shape is refused on every page with forms."""
    await world.opened()
    headers = {"content-type": "application/x-www-form-urlencoded" if kind is None else kind}
    for path in ("", "/token", "/provider", "/confirm"):
        found = checked(await world.browser.post(f"/signin{path}", content=content, headers=headers))
        assert found.status_code == status


async def test_other_methods_and_paths(world):
    """Another method is a 405 with the allowed ones, another path a 404; HEAD is a GET."""
    for method in ("PUT", "DELETE", "OPTIONS", "PATCH", "BREW"):
        found = checked(await world.browser.request(method, "/signin"))
        assert (found.status_code, found.headers["allow"]) == (405, "GET, POST")
    assert checked(await world.browser.post("/signin/callback")).status_code == 405
    assert checked(await world.browser.get("/signin/token")).status_code == 405
    assert checked(await world.browser.get("/signin/else")).status_code == 404
    assert (await world.browser.head("/signin")).status_code == 200
    long = checked(await world.browser.get("/signin?" + "&".join("a=b" for _ in range(100))))
    assert long.status_code == 400


MARK = "zq<\"'>&zq"
ANY_TEXT = st.text(st.characters(codec="utf-8"), max_size=200) | st.just(MARK) | st.just(f"{MARK}\r\nx-made: up")
FIELDS = st.dictionaries(st.sampled_from(["form", "user_code", "token", "decision", "state", "code", "error", "iss"]), ANY_TEXT)
HEADERS = st.dictionaries(
    st.sampled_from([b"host", b"origin", b"cookie", b"content-type", b"sec-fetch-site", b"x-forwarded-proto", b"x"]),
    st.binary(max_size=200) | st.just(MARK.encode()),
)


@settings(max_examples=150, deadline=None)
@given(
    method=st.sampled_from(["GET", "POST", "HEAD", "PUT"]),
    path=st.sampled_from(["", "/token", "/provider", "/callback", "/confirm"]),
    query=st.binary(max_size=300) | FIELDS.map(lambda fields: urlencode(fields).encode()),
    body=st.binary(max_size=300) | FIELDS.map(lambda fields: urlencode(fields).encode()),
    headers=HEADERS,
    passes=st.sets(st.sampled_from(["host", "origin", "cookie", "content-type", "form", "user_code", "state"])),
)
def test_any_request(method, path, query, body, headers, passes):
    """Whatever is sent, however far it gets: the response is a page or a redirect to one, and repeats nothing unescaped."""

    async def ask():
        world = World()
        started, attempt = await at_provider(world)
        value = form_token(Secret(world.browser.cookies[COOKIE]))
        own = {
            "host": b"proxy.example", "origin": HOME.encode(), "content-type": b"application/x-www-form-urlencoded",
            "cookie": f"{COOKIE}={world.browser.cookies[COOKIE]}".encode(),
        }  # fmt: skip
        sent = headers | {name.encode(): own[name] for name in passes & own.keys()}
        known = {"form": value, "user_code": started.user_code, "state": attempt.state}
        given = urlencode({name: known[name] for name in passes & known.keys()}).encode()
        scope = {
            "type": "http", "method": method, "path": f"/signin{path}", "query_string": given + b"&" + query, "scheme": "http",
            "headers": [*sent.items()], "client": None,
        }  # fmt: skip
        messages, pending = [], [{"type": "http.request", "body": given + b"&" + body}, {"type": "http.disconnect"}]

        async def receive():
            return pending.pop(0)

        async def send(message):
            messages.append(message)

        await world.pages(scope, receive, send)
        return messages

    start, *rest = asyncio.run(ask())
    assert start["status"] in {200, 303, 400, 401, 403, 404, 405}
    text = b"".join(message["body"] for message in rest).decode()
    assert MARK not in text
    fields = dict(start["headers"])
    assert b"x-made" not in fields
    assert fields.get(b"location", b"/signin/confirm") == b"/signin/confirm"
    assert not [value for value in fields.values() if MARK.encode() in value]


async def test_a_store_that_fails(world, monkeypatch):
    """Without its store the proxy signs nobody in, and says so."""

    async def fails(*_):
        raise StoreUnavailable("Redis", "connection refused")

    monkeypatch.setattr(world.store, "read", fails)
    page = await world.post(user_code="BCDF-GHJK")
    assert (page.status_code, page.headers["retry-after"]) == (503, "60")
    assert "cannot reach its store" in words(page)
