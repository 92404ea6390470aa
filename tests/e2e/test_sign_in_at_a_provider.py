"""A sign-in at a certified OIDC provider goes on as the provider says: at each refresh, by each worker, and when it is away."""

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import jwt
import pytest
import upstream as up
from conftest import module_proxy
from interactive_client import UP, InteractiveClient
from oidc_provider import ACCOUNTS, SECRET, OidcProvider
from playwright.sync_api import Browser, Page, expect
from processes import Proxy, question
from test_sign_in_of_claude_code import Model
from test_signin_page import WORKERS, Login, at_provider, configure, enter
from test_status_through_the_proxy import browser

__all__ = ["browser"]  # a fixture

KEEPS = {"groups_claim": "groups", "allowed_domains": ["example.com"], "authorization_parameters": {"prompt": "consent"}}
ENDED = {"error": "invalid_grant", "error_description": "The sign-in has ended. Please sign in again."}


@pytest.fixture(scope="module")
def proxy(shared_upstream: up.Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    home = tmp_path_factory.mktemp("provider")
    variables = {
        "MADE_UP_OIDC_SECRET": SECRET,
        "CLAUDE_POOL_STATE_FILE": str(home / "state.sqlite3"),
        "NUM_WORKERS": str(WORKERS),
    }
    for running in module_proxy(shared_upstream, home, **variables):
        with contextlib.closing(OidcProvider(home, f"{running.url}/signin/callback")) as running.provider:
            configure(running, **KEEPS)
            yield running
            # None of the refresh tokens that the provider has issued is stored in the clear, or logged.
            kept = "".join(sqlite3.connect(home / "state.sqlite3").iterdump()) + running.output
            assert not [token for token in running.provider.refresh_tokens if token in kept]
        assert "Traceback" not in running.output


@pytest.fixture(autouse=True)
def usual(proxy: Proxy) -> None:
    proxy.provider.recover()
    proxy.provider.change(anna=ACCOUNTS["anna"])
    configure(proxy, **KEEPS)


def signed_in(proxy: Proxy, browser: Browser) -> dict[str, Any]:
    """Sign Anna in; return her tokens."""
    login = Login(proxy)
    approve(proxy, browser, lambda page: enter(page, login))
    found: dict[str, Any] = login.redeem().json()
    return found


def approve(proxy: Proxy, browser: Browser, enter_code: Callable[[Page], None]) -> None:
    """Prove at the provider to be Anna, in a new browser, and approve the code."""
    context = browser.new_context()
    page = context.new_page()
    enter_code(page)
    at_provider(page, proxy, "anna")
    page.get_by_role("button", name="Approve").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("You are signed in")
    context.close()


def refresh(proxy: Proxy, tokens: dict[str, Any]) -> httpx.Response:
    """Refresh as the client does; each request may reach another worker."""
    fields = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
    return httpx.post(f"{proxy.url}/oauth/token", data=fields, trust_env=False, timeout=60)


def groups_in(tokens: dict[str, Any]) -> list[str]:
    found: list[str] = jwt.decode(tokens["access_token"], options={"verify_signature": False})["groups"]
    return found


def test_groups_that_change(proxy, browser):
    """A refresh has the groups that the provider names then; the provider's token is replaced each time, and is used once."""
    tokens = signed_in(proxy, browser)
    assert groups_in(tokens) == ["team-a", "team-b"]
    for number in range(4):
        before = len(proxy.provider.refresh_tokens)
        proxy.provider.change(anna=ACCOUNTS["anna"] | {"groups": [f"Team-{number}"]})
        tokens = refresh(proxy, tokens).json()
        assert groups_in(tokens) == [f"team-{number}"]
        assert len(proxy.provider.refresh_tokens) == before + 1
        assert proxy.ask(question("demo"), token=tokens["access_token"]).status_code == 200


def test_workers_that_refresh_together(proxy, browser):
    """However many requests use a token at once, the provider is asked once, and the sign-in goes on."""
    tokens = signed_in(proxy, browser)
    for _ in range(3):
        before = len(proxy.provider.refresh_tokens)
        with ThreadPoolExecutor(8) as threads:
            found = [*threads.map(lambda _: refresh(proxy, tokens), range(8))]  # noqa: B023 - used at once
        assert {one.status_code for one in found} == {200}
        assert len({one.json()["refresh_token"] for one in found}) == 1
        assert len(proxy.provider.refresh_tokens) == before + 1
        tokens = found[0].json()


def test_a_user_who_is_removed_at_the_provider(proxy, browser):
    """The next refresh ends the sign-in: its access token is refused, too, and stays so when the user is there again."""
    tokens, other = signed_in(proxy, browser), signed_in(proxy, browser)
    proxy.provider.change(anna=None)
    response = refresh(proxy, tokens)
    assert (response.status_code, response.json()) == (401, ENDED)
    proxy.logged("the sign-in of user anna@example.com ended: 127.0.0.1: it refused the refresh: HTTP 400 invalid_grant")
    proxy.provider.change(anna=ACCOUNTS["anna"])
    assert refresh(proxy, tokens).status_code == 401
    assert refresh(proxy, other).status_code == 200
    # The other worker learns of the end within a second; then none of them accepts the access token.
    poll = threading.Event()
    for _ in range(100):
        codes = {proxy.ask(question("demo"), token=tokens["access_token"]).status_code for _ in range(6)}
        if codes == {401}:
            break
        poll.wait(0.05)
    assert codes == {401}


def test_a_user_of_another_domain(proxy, browser):
    """A user whose email is no longer in an allowed domain is signed out."""
    tokens = signed_in(proxy, browser)
    proxy.provider.change(anna=ACCOUNTS["anna"] | {"email": "anna@other.example"})
    assert refresh(proxy, tokens).status_code == 401
    proxy.logged("the sign-in of user anna@example.com ended: 127.0.0.1: Your account is not in a domain")


def test_a_provider_that_is_away(proxy, browser):
    """Refreshes go on, the log says so once for each worker, and the provider is asked again when it is back."""
    tokens = signed_in(proxy, browser)
    proxy.provider.fail()
    for _ in range(8):
        tokens = refresh(proxy, tokens).json()
        assert proxy.ask(question("demo"), token=tokens["access_token"]).status_code == 200
    words = "127.0.0.1 cannot confirm who is signed in: its token endpoint responded with HTTP 503"
    assert 1 <= proxy.output.count(words) <= WORKERS
    proxy.provider.recover()
    proxy.provider.change(anna=None)
    assert refresh(proxy, tokens).status_code == 401


def test_a_provider_that_gives_no_refresh_token(proxy, browser):
    """Without the consent that this provider wants there is no refresh token: refreshes ask it nothing, for some time."""
    configure(proxy, **KEEPS | {"authorization_parameters": {}})
    tokens = signed_in(proxy, browser)
    proxy.logged("127.0.0.1 gives no refresh token, so a sign-in there lasts 24 h (max_age_hours)")
    before = len(proxy.provider.refresh_tokens)
    proxy.provider.change(anna=None)
    assert refresh(proxy, tokens).status_code == 200
    assert len(proxy.provider.refresh_tokens) == before


def test_the_real_client(proxy, browser, upstream, tmp_path):
    """Claude Code, which refreshes before each request here, works while the provider is away; a removed user is signed out."""

    def enter_code(page: Page) -> None:
        page.goto(client.page)
        page.get_by_role("button", name="Continue").click()

    configure(proxy, 1, **KEEPS)
    model = Model(upstream)
    with contextlib.closing(InteractiveClient(tmp_path, proxy.url)) as client:
        client.start_login()
        approve(proxy, browser, enter_code)
        client.terminal.wait_for("Signed in to Cloud gateway as Anna@example.com", quiet=0.5)
        client.choose("Yes, continue", UP)
        client.finish_login()
        issued = len(proxy.provider.refresh_tokens)
        for number, change in enumerate((proxy.provider.recover, proxy.provider.fail, proxy.provider.recover)):
            change()
            model.words = f"The {number}. answer."
            client.ask(f"The {number}. question", f"● {model.words}")
        assert len(proxy.provider.refresh_tokens) > issued + 1
        proxy.provider.change(anna=None)
        client.type("And now?")
        proxy.logged("the sign-in of user anna@example.com ended: 127.0.0.1")
        # The other worker learns of the end within a second, so it may still answer the first of these.
        for words in ("And then?", "And later?"):
            with contextlib.suppress(RuntimeError):
                client.type(words)
                client.terminal.wait_for("Please run /login", 5)
                break
        client.ask("And at last?", "Please run /login")
