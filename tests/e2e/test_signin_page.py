"""A user confirms the code of a sign-in in a real browser: with a personal token, and at a certified OIDC provider."""

import asyncio
import contextlib
import random
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar
from urllib.parse import urlencode

import httpx
import pytest
import upstream as up
import yaml
from conftest import module_proxy
from oidc_provider import SECRET, OidcProvider
from playwright.sync_api import Browser, Page, expect
from processes import MASTER_KEY, STATIC_TOKEN, Proxy, question
from test_status_through_the_proxy import browser, contrasts

from claude_proxy.secret import Secret
from claude_proxy.signin.device_codes import Decided, DeviceCodes, State
from claude_proxy.state.sqlite import SqliteStore

__all__ = ["browser"]  # a fixture

ANNA = "sk-made-up-token-of-anna"
T = TypeVar("T")
# Each step may be served by another one.
WORKERS = 2
SCRIPT = "<script>alert(1)</script>"
FIELDS = ["form", "user_code", "token", "decision", "state", "code"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("signin")


@pytest.fixture(scope="module")
def proxy(shared_upstream: up.Upstream, home) -> Iterator[Proxy]:
    variables = {
        "PROXY_USER_TOKENS": f"anna={ANNA}",
        "MADE_UP_OIDC_SECRET": SECRET,
        "CLAUDE_POOL_STATE_FILE": str(home / "state.sqlite3"),
        "NUM_WORKERS": str(WORKERS),
    }
    for running in module_proxy(shared_upstream, home, **variables):
        with contextlib.closing(OidcProvider(home, f"{running.url}/signin/callback")) as running.provider:
            configure(running)
            yield running
        assert not [secret for secret in (ANNA, SECRET, STATIC_TOKEN, MASTER_KEY) if secret in running.output]
        assert "Traceback" not in running.output


def configure(proxy: Proxy, access_token_minutes: int = 60, **options: object) -> None:
    """Name the provider in config.yaml, as an operator does while the proxy serves."""
    path = proxy.home / "config.yaml"
    config = yaml.safe_load(path.read_text())
    own = {"issuer": proxy.provider.url, "client_id": "proxy", "client_secret": "os.environ/MADE_UP_OIDC_SECRET"}
    section = {"sign_in": {"access_token_minutes": access_token_minutes, "oidc": own | options}}
    if config.get("claude_proxy") != section:
        seen = proxy.output.count("is reloaded")
        path.write_text(yaml.safe_dump(config | {"claude_proxy": section}))
        proxy.logged("is reloaded", seen + WORKERS)


class Login:
    """A login that a client has started. What became of it is read from the store: a client may ask every five seconds."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.started = self.post("device_authorization", surface="claude_code").json()
        self.code, self.device_code = self.started["user_code"], self.started["device_code"]

    def post(self, path: str, **fields: str) -> httpx.Response:
        headers = {"user-agent": "claude-cli/2.1.332"}
        return httpx.post(f"{self.proxy.url}/oauth/{path}", data=fields, headers=headers, trust_env=False)

    def redeem(self) -> httpx.Response:
        """Ask for the tokens, as the client does."""
        grant = "urn:ietf:params:oauth:grant-type:device_code"
        return self.post("token", grant_type=grant, device_code=self.device_code)

    @property
    def decided(self) -> Decided:
        return in_store(self.proxy, lambda store: DeviceCodes(store).poll(Secret(self.device_code)))


def in_store(proxy: Proxy, use: Callable[[SqliteStore], Awaitable[T]]) -> T:
    """Use the store that the proxy's workers share."""

    async def call() -> T:
        store = SqliteStore(str(proxy.home / "state.sqlite3"))
        try:
            return await use(store)
        finally:
            await store.close()

    with ThreadPoolExecutor() as threads:  # the browser's event loop runs in this one
        return threads.submit(asyncio.run, call()).result()


@pytest.fixture
def login(proxy: Proxy) -> Login:
    return Login(proxy)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def page(browser: Browser, proxy: Proxy, said) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1000, "height": 900})
    yield watched(context.new_page(), proxy, said)
    context.close()


def watched(page: Page, proxy: Proxy, said: list[str]) -> Page:
    """Collect what the console says about the proxy's own pages."""
    page.on("console", lambda message: said.append(message.text) if message.location["url"].startswith(proxy.url) else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    return page


def enter(page: Page, login: Login) -> None:
    page.goto(f"{login.proxy.url}/signin")
    page.get_by_label("Code from Claude Code").fill(login.code.lower())
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Prove who you are")


def type_token(page: Page, token: str) -> None:
    page.get_by_label("Your personal token for this proxy").fill(token)
    page.get_by_role("button", name="Continue with the token").click()


def at_provider(page: Page, proxy: Proxy, account: str) -> None:
    """Leave for the provider, sign in there and consent."""
    page.get_by_role("button", name="Sign in at 127.0.0.1").click()
    page.wait_for_url(f"{proxy.provider.url}/interaction/**")
    page.locator("input[name=login]").fill(account)
    page.locator("input[name=password]").fill("made-up")
    page.locator("button[type=submit]").click()
    page.locator("button[type=submit]").click()


def test_with_a_personal_token(page, proxy, login, said):
    """A user enters the code and a token, sees who and what, and approves; the token stays nowhere."""
    enter(page, login)
    for words in (login.code, "127.0.0.1", "claude-cli/2.1.332"):
        expect(page.get_by_role("main")).to_contain_text(words)
    type_token(page, ANNA)
    expect(page.get_by_role("heading", level=1)).to_have_text("Confirm the sign-in")
    expect(page.get_by_role("main")).to_contain_text("You are anna.")
    expect(page.get_by_role("main")).to_contain_text(login.code)
    assert page.url == f"{proxy.url}/signin/confirm"
    (cookie,) = page.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Lax", "/signin")
    assert ANNA not in page.content() + cookie["value"]
    assert login.decided.state is State.PENDING
    page.get_by_role("button", name="Approve").click()
    expect(page.get_by_role("main")).to_contain_text(
        "Claude Code is signed in as anna. Return to Claude Code. You can close this window."
    )
    assert (login.decided.state, login.decided.identity.name) == (State.APPROVED, "anna")
    tokens = login.redeem().json()
    assert proxy.ask(question("demo"), token=tokens["access_token"]).status_code == 200
    assert page.context.cookies() == []
    assert ANNA not in "".join(sqlite3.connect(proxy.home / "state.sqlite3").iterdump())
    assert said == []
    page.go_back()
    expect(page.get_by_role("alert")).to_contain_text("This page is too old")
    assert ANNA not in page.content()


def test_a_filled_in_code(page, proxy, login):
    """A link fills the code in; nothing is submitted until the user does so."""
    requests = []
    page.on("request", lambda request: requests.append(request.method))
    assert login.started["verification_uri"] == f"{proxy.url}/signin"
    page.goto(login.started["verification_uri_complete"])
    expect(page.get_by_label("Code from Claude Code")).to_have_value(login.code)
    expect(page.get_by_label("Code from Claude Code")).to_be_focused()
    page.wait_for_load_state("networkidle")
    assert {*requests} == {"GET"}
    assert "claude-cli" not in page.content()
    assert login.decided.state is State.PENDING
    page.goto(f"{proxy.url}/signin?user_code={SCRIPT}")
    expect(page.get_by_label("Code from Claude Code")).to_have_value("")


def test_a_wrong_code_and_a_wrong_token(page, proxy, login, said):
    """A wrong code and a wrong token are announced in words, the field is marked, and the user goes on."""
    page.goto(f"{proxy.url}/signin")
    page.get_by_label("Code from Claude Code").fill("BCDF-GHJK")
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_role("alert")).to_contain_text("This code is not valid.")
    expect(page.get_by_label("Code from Claude Code")).to_have_attribute("aria-invalid", "true")
    page.get_by_label("Code from Claude Code").fill(login.code)
    page.get_by_role("button", name="Continue").click()
    for token in ("wrong", STATIC_TOKEN, MASTER_KEY):
        type_token(page, token)
        expect(page.get_by_role("alert")).to_contain_text("This token is not valid here.")
        expect(page.get_by_label("Your personal token for this proxy")).to_have_value("")
        expect(page.get_by_label("Your personal token for this proxy")).to_be_focused()
        assert token not in page.content()
    assert page.title() == "Error: Prove who you are - claude-proxy"
    type_token(page, ANNA)
    expect(page.get_by_role("heading", level=1)).to_have_text("Confirm the sign-in")


def test_an_expired_code(page, proxy):
    """A code that was started more than ten minutes ago is refused in words, with what to do."""
    started = in_store(proxy, lambda store: DeviceCodes(store, lambda: time.time() - 601).start())
    page.goto(f"{proxy.url}/signin?user_code={started.user_code}")
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_role("alert")).to_contain_text("Codes are valid for ten minutes and for one sign-in. Run /login again")


def test_a_denied_code(page, login):
    """A user who denies ends the sign-in; going back and approving changes nothing."""
    enter(page, login)
    type_token(page, ANNA)
    page.get_by_role("button", name="Deny").click()
    expect(page.get_by_role("main")).to_contain_text("Claude Code is not signed in. You can close this window.")
    assert login.decided.state is State.DENIED
    page.go_back()
    if page.get_by_role("button", name="Approve").count():
        page.get_by_role("button", name="Approve").click()
    expect(page.get_by_role("alert")).to_be_visible()
    assert login.decided.state is State.DENIED


def test_with_the_keyboard_alone(page, proxy, login):
    """Every step can be made with Tab, Enter and letters; the field is in focus, and the focus is visible."""
    page.goto(f"{proxy.url}/signin")
    page.keyboard.type(login.code)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Prove who you are")
    field = page.get_by_label("Your personal token for this proxy")
    for _ in range(6):
        if field.evaluate("node => node === document.activeElement"):
            break
        page.keyboard.press("Tab")
    expect(field).to_be_focused()
    assert field.evaluate("node => getComputedStyle(node).outlineStyle") == "solid"
    page.keyboard.type(ANNA)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Confirm the sign-in")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Approve")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Deny")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("The sign-in was denied")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("script", [True, False])
def test_on_a_phone(browser, proxy, login, said, scheme, script):
    """Each page fits 360 px, in light and dark, with and without JavaScript; texts are readable and buttons large enough."""
    context = browser.new_context(viewport={"width": 360, "height": 740}, color_scheme=scheme, java_script_enabled=script)
    page = watched(context.new_page(), proxy, said)

    def look() -> None:
        if script:
            assert page.evaluate("document.documentElement.scrollWidth") == 360
            assert contrasts(page) == []
            fields = "[...document.querySelectorAll('button, input:not([type=hidden])')]"
            assert all(height >= 44 for height in page.evaluate(f"{fields}.map((node) => node.getBoundingClientRect().height)"))

    page.goto(f"{proxy.url}/signin")
    look()
    enter(page, login)
    look()
    type_token(page, "wrong")
    expect(page.get_by_role("alert")).to_be_visible()
    look()
    type_token(page, ANNA)
    expect(page.get_by_role("heading", level=1)).to_have_text("Confirm the sign-in")
    look()
    page.get_by_role("button", name="Approve").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("You are signed in")
    look()
    assert login.decided.state is State.APPROVED
    assert [words for words in said if "401" not in words] == []
    context.close()


def test_at_the_provider(page, proxy, login, said):
    """A user signs in at the provider, with groups and email; the code of the provider stays in no address and no log."""
    configure(proxy, groups_claim="groups", allowed_domains=["example.com"])
    enter(page, login)
    at_provider(page, proxy, "anna")
    expect(page.get_by_role("heading", level=1)).to_have_text("Confirm the sign-in")
    expect(page.get_by_role("main")).to_contain_text("You are anna@example.com.")
    assert page.url == f"{proxy.url}/signin/confirm"
    page.get_by_role("button", name="Approve").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("You are signed in")
    identity = login.decided.identity
    assert login.redeem().json()["email"] == "Anna@example.com"
    assert (identity.name, identity.groups, identity.email) == ("anna@example.com", ("team-a", "team-b"), "Anna@example.com")
    assert said == []
    assert "user anna@example.com approved a sign-in that was started from 127.0.0.1" in proxy.output


@pytest.mark.parametrize(
    ("account", "words"),
    [
        ("ben", "Your account is not in a domain that may sign in here."),
        ("carla", "has not verified your email address"),
        ("dora", "is not in a domain"),
        ("nobody", "did not send your email address"),
    ],
)
def test_who_may_not_sign_in(page, proxy, login, account, words):
    """A user of another domain, with an email that is not verified or without a name is told so, and is not signed in."""
    configure(proxy, groups_claim="groups", allowed_domains=["example.com"])
    enter(page, login)
    at_provider(page, proxy, account)
    expect(page.get_by_role("alert")).to_contain_text(words)
    assert page.goto(f"{proxy.url}/signin/confirm").status == 400
    assert login.decided.state is State.PENDING


def test_a_user_cancels_at_the_provider(page, proxy, login):
    """A user who cancels at the provider comes back to a page that says so."""
    enter(page, login)
    page.get_by_role("button", name="Sign in at 127.0.0.1").click()
    page.wait_for_url(f"{proxy.provider.url}/interaction/**")
    page.get_by_text("Cancel").click()
    expect(page.get_by_role("alert")).to_contain_text("127.0.0.1 did not confirm who you are.")


def test_new_keys_of_the_provider(browser, proxy):
    """Another client with another algorithm, and the provider's new keys, need no restart."""
    configure(proxy, client_id="proxy-es256")
    for _ in range(2):
        login, page = Login(proxy), browser.new_context().new_page()
        enter(page, login)
        at_provider(page, proxy, "anna")
        expect(page.get_by_role("heading", level=1)).to_have_text("Confirm the sign-in")
        page.context.close()
        proxy.provider.renew_keys()


def test_requests_of_other_sites_and_programs(proxy, login):
    """Another site's page can neither send a form nor read a page, and no request is an error of the proxy's own."""
    evil = {"origin": "https://evil.example", "sec-fetch-site": "cross-site"}
    numbers = random.Random(16)
    with httpx.Client(trust_env=False, base_url=proxy.url) as client:
        for path in ("", "/token", "/provider", "/callback", "/confirm"):
            found = [client.request(method, f"/signin{path}", headers=evil) for method in ("GET", "POST", "OPTIONS")]
            assert {one.status_code for one in found} <= {200, 400, 403, 405}
            assert not [name for one in found for name in one.headers if name.startswith("access-control-")]
            assert client.post(f"/signin{path}", content=b"x" * 20_000).status_code == 413
        for _ in range(300):
            method, path = numbers.choice(["GET", "POST"]), numbers.choice(["", "/token", "/provider", "/confirm"])
            body = urlencode({numbers.choice(FIELDS): numbers.randbytes(numbers.randrange(40)) for _ in range(3)})
            headers = {"origin": proxy.url, "content-type": "application/x-www-form-urlencoded", "cookie": f"x={body}"}
            found = client.request(method, f"/signin{path}?{body}", content=body, headers=headers)
            assert found.status_code in {200, 400, 403, 405}
    assert login.decided.state is State.PENDING
