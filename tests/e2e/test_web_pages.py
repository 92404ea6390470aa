"""A web page against an open proxy and one with a token, through the real proxy: no model answers it, no data reaches it."""

import json
from collections.abc import Iterator

import httpx
import pytest
import upstream as up
from conftest import module_proxy
from processes import Proxy, answer_text, question

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
