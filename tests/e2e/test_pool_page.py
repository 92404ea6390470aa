"""The pool is changed by its page in a real browser, and by the client that renews its login; other pages change nothing."""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator

import httpx
import pytest
import upstream as up
import yaml
from conftest import TOKENS, by_credential, module_proxy
from playwright.sync_api import Browser, Page, expect
from processes import MASTER_KEY, STATIC_TOKEN, Proxy, new_question, question
from test_status_through_the_proxy import browser, contrasts

__all__ = ["browser"]  # a fixture

PAUSED = re.compile(r"^paused by the operator since (yesterday )?\d\d:\d\d")
NEW = "sk-ant-oat01-made-up-new-by-the-page"
FIRST, SECOND = "sk-ant-oat01-made-up-first-login", "sk-ant-oat01-made-up-second-login"
EVIL = {"origin": "https://evil.example", "sec-fetch-site": "cross-site"}


@pytest.fixture(scope="module")
def proxy(shared_upstream: up.Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    home = tmp_path_factory.mktemp("page")
    login(home, FIRST)
    (home / "credentials.yaml").write_text("credentials:\n  - {label: home, claude_home: login}\n")
    for running in module_proxy(shared_upstream, home):
        yield running
        assert not [secret for secret in (*TOKENS.values(), NEW, FIRST, SECOND) if secret in running.output]


def login(home, token: str, left: float = 3600) -> None:
    (home / "login").mkdir(exist_ok=True)
    words = {"claudeAiOauth": {"accessToken": token, "expiresAt": int((time.time() + left) * 1000)}}
    part = home / "login" / "new"
    part.write_text(json.dumps(words))
    part.replace(home / "login" / ".credentials.json")


def until(holds: Callable[[], bool], proxy: Proxy) -> None:
    poll = threading.Event()
    for _ in range(300):
        if holds():
            return
        poll.wait(0.1)
    raise AssertionError(proxy.output)


def states(proxy: Proxy) -> dict[str, str]:
    headers = {"x-litellm-api-key": MASTER_KEY, "accept": "application/json"}
    data = httpx.get(f"{proxy.url}/pool", headers=headers, trust_env=False).json()
    return {one["label"]: one["state"]["name"] for one in data["credentials"]}


def entries(proxy: Proxy) -> list[dict[str, object]]:
    return yaml.safe_load((proxy.home / "credentials.yaml").read_text())["credentials"]


def change(proxy: Proxy, action: str, body: dict[str, str]) -> int:
    headers = {"x-litellm-api-key": MASTER_KEY}
    return httpx.post(f"{proxy.url}/pool/{action}", json=body, headers=headers, trust_env=False, timeout=30).status_code


def opened(browser: Browser, proxy: Proxy, said: list[str], token: str = MASTER_KEY, width: int = 1280) -> Page:
    page = browser.new_context(viewport={"width": width, "height": 900}).new_page()
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(f"{proxy.url}/pool#/credentials")
    page.get_by_label("The proxy's token").fill(token)
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("article").first).to_be_visible()
    return page


def card(page: Page, label: str):
    return page.locator(f"article[data-label={label}]")


def test_a_credential_from_the_first_to_the_last(browser, proxy, upstream):
    """The page adds a credential, which is asked at once, changes it, and removes it, each after it was confirmed."""
    said: list[str] = []
    page = opened(browser, proxy, said)
    add(page, "new", "priority=2 groups=team-a,team-b")
    expect(card(page, "new")).to_contain_text("priority 2; groups team-a, team-b")
    expect(page.locator("#outcome")).to_have_text("new was added.")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.get_by_role("button", name="Add a credential")).to_be_focused()
    expect(card(page, "new")).to_contain_text("not used yet; Anthropic reports its limits with the first response")
    assert entries(proxy)[-1] == {"label": "new", "secret": NEW, "priority": 2, "groups": ["team-a", "team-b"]}
    asked_for(page, "new", "Pause")
    expect(card(page, "new").locator(".state")).to_have_text(PAUSED)
    assert states(proxy)["new"] == "paused"
    assert contrasts(page) == []
    asked_for(page, "new", "Resume")
    expect(card(page, "new").locator(".state")).to_have_text("usable")
    card(page, "new").get_by_role("button", name="Priority").click()
    expect(page.get_by_label("Priority", exact=True)).to_have_value("2")
    page.get_by_label("Priority", exact=True).fill("-3")
    page.keyboard.press("Enter")
    expect(card(page, "new")).to_contain_text("priority -3")
    assert entries(proxy)[-1]["priority"] == -3
    card(page, "new").get_by_role("button", name="Remove").click()
    expect(page.get_by_role("button", name="Cancel")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert "new" in states(proxy)
    asked_for(page, "new", "Remove")
    expect(card(page, "new")).to_have_count(0)
    assert [entry["label"] for entry in entries(proxy)] == ["home"]
    expect(card(page, "a").get_by_role("button")).to_have_count(0)  # it stands in .env
    assert said == []
    add(page, "a b")
    expect(page.get_by_role("dialog").get_by_role("alert")).to_contain_text("should be 1 to 64 letters")
    assert contrasts(page) == []
    assert NEW not in page.content()
    page.context.close()


def test_no_row_moves_under_the_pointer(browser, proxy):
    """A paused credential comes before those in use, but not while the user points at the list: no click hits a wrong row."""
    assert change(proxy, "add", {"label": "aa", "secret": NEW}) == 200
    page = opened(browser, proxy, [])
    order = "nodes => nodes.map(node => node.dataset.label)"
    rows = page.locator("article")
    expect(card(page, "aa")).to_be_visible()
    before = rows.evaluate_all(order)
    assert before[0] != "aa"
    card(page, "aa").hover()
    assert change(proxy, "pause", {"label": "aa"}) == 200
    expect(card(page, "aa").locator(".state")).to_have_text(PAUSED, timeout=20_000)
    assert rows.evaluate_all(order) == before
    page.mouse.move(5, 5)
    expect(rows.first).to_have_attribute("data-label", "aa", timeout=20_000)
    assert change(proxy, "remove", {"label": "aa"}) == 200
    page.context.close()


def add(page: Page, label: str, terms: str = "") -> None:
    page.get_by_role("button", name="Add a credential").click()
    page.get_by_label("Label").fill(label)
    page.get_by_label("Secret").fill(NEW)
    page.get_by_label("Terms").fill(terms)
    page.get_by_role("button", name="Add", exact=True).click()


def asked_for(page: Page, label: str, action: str) -> None:
    card(page, label).get_by_role("button", name=action).click()
    expect(page.get_by_role("dialog")).to_contain_text(f"{action} {label}?")
    page.get_by_role("dialog").get_by_role("button", name=action, exact=True).click()


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_of_somebody_else_has_no_buttons(browser, proxy, width):
    """Who does not hold the master key sees the pool and can change nothing; the operator's page fits a phone, too."""
    page = opened(browser, proxy, [], STATIC_TOKEN, width)
    expect(page.locator("main button:visible")).to_have_count(0)
    page.goto(f"{proxy.url}/pool#/budgets")
    expect(page.locator("#users")).to_be_visible()
    expect(page.locator("main button:visible")).to_have_count(0)
    page.context.close()
    page = opened(browser, proxy, [], width=width)
    expect(page.get_by_role("button", name="Add a credential")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == width
    page.context.close()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401), ({"x-litellm-api-key": STATIC_TOKEN}, 403), ({"x-litellm-api-key": MASTER_KEY} | EVIL, 403),
        ({"x-litellm-api-key": MASTER_KEY, "content-type": "text/plain"}, 415),
        ({"x-litellm-api-key": MASTER_KEY, "origin": "http://evil.example"}, 403),
    ],
)  # fmt: skip
def test_nobody_else_changes_the_pool(proxy, headers, status):
    """Another token, another site's page and what a form can send are refused, and nothing changes."""
    before = entries(proxy)
    for action in ("add", "pause", "resume", "priority", "remove"):
        body = json.dumps({"label": "home", "secret": NEW})
        sent = {"content-type": "application/json"} | headers
        answer = httpx.post(f"{proxy.url}/pool/{action}", content=body, headers=sent, trust_env=False, timeout=30)
        assert (answer.status_code, "made-up" in answer.text) == (status, False)
    preflight = httpx.options(
        f"{proxy.url}/pool/add", headers=EVIL | {"access-control-request-method": "POST"}, trust_env=False, timeout=30
    )
    assert preflight.status_code >= 400
    assert not [name for name in preflight.headers if name.startswith("access-control-")]
    assert entries(proxy) == before


def test_a_stream_of_a_removed_credential_goes_on(proxy, upstream):
    """A stream that is under way on a credential that is removed meanwhile arrives whole."""
    removed = threading.Event()

    def held(seen: up.Seen) -> up.Reply:
        reply = up.anthropic_reply(seen, up.text("to the end"))

        def chunks() -> Iterator[bytes]:
            first, *rest = [*(reply.chunks or ())]
            yield first
            assert removed.wait(60)
            yield from rest

        return up.Reply(reply.status, reply.headers, chunks=chunks())

    add_and_ask = {"label": "new", "secret": NEW, "terms": "priority=5"}
    assert change(proxy, "add", add_and_ask) == 200
    upstream.answer = lambda seen: held(seen) if seen.credential == NEW else by_credential()(seen)
    body = question("claude-sonnet-5", stream=True)
    headers = {"x-litellm-api-key": STATIC_TOKEN}
    for _ in range(12):
        with httpx.stream(
            "POST", f"{proxy.url}/v1/messages", json=body, headers=headers, timeout=60, trust_env=False
        ) as answer:
            if upstream.asked[-1].credential == NEW:
                assert change(proxy, "remove", {"label": "new"}) == 200
                assert "new" not in states(proxy)
                removed.set()
            text = answer.read().decode()
        assert "message_stop" in text
        if removed.is_set():
            break
    assert removed.is_set()
    assert "to the end" in text


def test_a_login_is_asked_until_it_expires_and_again_when_it_is_renewed(browser, proxy, upstream):
    """The login of a home is asked as Claude Code renews it; an expired one says so, is not asked, and is never written."""
    upstream.answer = by_credential()

    def asked() -> set[str | None]:
        upstream.seen.clear()
        for _ in range(8):
            assert proxy.ask(new_question("claude-sonnet-5")).status_code == 200
        return {seen.credential for seen in upstream.asked} - {*TOKENS.values()}

    assert asked() == {FIRST}
    login(proxy.home, SECOND)
    until(lambda: "login renewed: home" in proxy.output, proxy)
    assert asked() == {SECOND}
    login(proxy.home, SECOND, left=-1)
    until(lambda: states(proxy)["home"] == "expired", proxy)
    assert asked() == set()
    page = opened(browser, proxy, [])
    expect(card(page, "home")).to_contain_text("its login has expired: start Claude Code in that home")
    assert contrasts(page) == []
    login(proxy.home, FIRST)
    expect(card(page, "home")).to_contain_text("its login expires at", timeout=30_000)
    page.context.close()
    assert asked() == {FIRST}
    assert [path.name for path in (proxy.home / "login").iterdir()] == [".credentials.json"]
