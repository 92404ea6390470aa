"""A web page against an open proxy and one with a token, through the real proxy: no model answers it, no data reaches it."""

import json
from collections.abc import Iterator

import httpx
import pytest
import upstream as up
from conftest import module_proxy
from playwright.sync_api import Browser, expect
from processes import STATIC_TOKEN, Proxy, answer_text, question
from test_status_through_the_proxy import browser, contrasts

__all__ = ["browser"]  # a fixture

EVIL = {"origin": "https://evil.example"}
REBOUND = {"host": "evil.example:4000", "origin": "http://evil.example:4000", "content-type": "application/json"}


@pytest.fixture(scope="module")
def opened(shared_upstream: up.Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    yield from module_proxy(shared_upstream, tmp_path_factory.mktemp("open"), PROXY_STATIC_TOKEN="open")


def send(proxy: Proxy, method: str, path: str, headers: dict[str, str], content: str | None = None) -> httpx.Response:
    return httpx.request(method, f"{proxy.url}{path}", headers=headers, content=content, trust_env=False, timeout=30)


@pytest.mark.parametrize("which", ["opened", "pooled"])
def test_a_page_of_another_site_gets_nothing(which, request, upstream):
    """Neither a simple request, nor one after a preflight, nor a name that was pointed here reaches a model or any data."""
    proxy = request.getfixturevalue(which)
    for model in ("claude-sonnet-5", "glm", "demo"):
        for stream in (False, True):
            body = json.dumps(question(model, stream=stream))
            for headers in (EVIL | {"content-type": "text/plain"}, EVIL | {"content-type": "application/json"}, REBOUND, EVIL):
                answer = send(proxy, "POST", "/v1/messages", headers, body)
                assert answer.status_code in (401, 403, 415)
                assert answer.json()["type"] == "error"
    for path in ("/pool", "/metrics", "/v1/models", "/usage.csv"):
        for headers in (EVIL, REBOUND, {"host": "evil.example"}):
            assert send(proxy, "GET", path, headers | {"accept": "*/*"}).status_code in (401, 403)
    for path in ("/v1/messages", "/pool", "/v1/models"):
        asking = {"access-control-request-method": "POST", "access-control-request-headers": "content-type,x-litellm-api-key"}
        preflight = send(proxy, "OPTIONS", path, EVIL | asking)
        assert preflight.status_code >= 400
        assert not [name for name in preflight.headers if name.startswith("access-control-")]
    assert upstream.asked == []


def test_an_open_proxy_serves_its_clients(opened):
    """Claude Code, curl and the proxy's own page are served as before."""
    assert answer_text(opened.ask(question("glm"), token=None)) == "from glm"
    own = {"origin": opened.url, "sec-fetch-site": "same-origin", "accept": "application/json"}
    assert "credentials" in send(opened, "GET", "/pool", own).json()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("which", "width"), [("opened", 390), ("pooled", 1280)])
def test_the_start_page_in_a_browser(browser: Browser, request, which, width, scheme):
    """A browser at ``/`` gets a page with the address and the block to paste, and a link to ``/pool``; it says what is open."""
    proxy, said = request.getfixturevalue(which), []
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page = context.new_page()
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(proxy.url)
    expect(page.get_by_role("heading", level=1)).to_have_text("claude-proxy")
    expect(page.locator("code.address")).to_have_text(proxy.url)
    block = json.loads(page.locator("pre").text_content())["env"]
    token = "none-is-needed" if which == "opened" else "YOUR-TOKEN"
    quiet = {"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"}
    assert block == {"ANTHROPIC_BASE_URL": proxy.url, "ANTHROPIC_AUTH_TOKEN": token} | quiet
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for path in ("", "/pool"):
        expect(page.get_by_text("This proxy is open: everyone")).to_have_count(1 if which == "opened" else 0)
        assert contrasts(page) == []
        assert STATIC_TOKEN not in page.content()
        if not path:
            page.get_by_role("link", name="Open /pool").click()
            page.wait_for_url(f"{proxy.url}/pool")
    assert said == []
    context.close()


@pytest.mark.parametrize("accept", ["*/*", "application/json", None])
def test_who_is_no_browser_gets_no_page(pooled, accept):
    """Claude Code, curl and a load balancer get at ``/`` what they got before."""
    headers = {"accept": accept} if accept else {}
    for method, body in (("GET", "claude-proxy\n"), ("HEAD", "")):
        answer = send(pooled, method, "/", headers)
        assert (answer.status_code, answer.text, answer.headers["content-type"]) == (200, body, "text/plain")
