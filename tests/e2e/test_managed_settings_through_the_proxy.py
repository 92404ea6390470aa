"""Managed settings through the real proxy: what each user gets, edits of config.yaml, and the real Claude Code, signed in."""

import json
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import upstream as up
from claude_code import ClaudeCode
from conftest import CONFIG, TOKENS, proxy_environment
from processes import STATIC_TOKEN, Proxy
from test_reload_through_the_proxy import replace, until

from claude_proxy.config.settings_json import checksum

PATH = "/managed/settings"
ANNA, BEN, CARL = (f"sk-made-up-token-of-{name}-0123456789" for name in ("anna", "ben", "carl"))
USERS = f"anna={ANNA},ben={BEN},carl={CARL}"
CHECKSUM = "x-claude-code-managed-settings-checksum"
# On each of these, JSON of Python and of JavaScript differ: characters, keys that are numbers, numbers.
AWKWARD = {
    "env": {"Z_\u00c9": '\u00fc \u2028 \U0001f600 \x7f <&/> \\ " \t', "10": "a", "9": "b", "B": "c", "_a": "d"},
    "companyAnnouncements": ["\uff5e \u2713"],
    "skillListingBudgetFraction": 1e-7,
    "feedbackSurveyRate": 0.0,
    "cleanupPeriodDays": 30.0,
    "modelOverrides": {"\U0001f600": "x", "\uff5e": "y"},
}
SECTION = f"""
claude_proxy:
  users:
    ben: {{models: [glm, small]}}
    carl: {{groups: [Team-A]}}
  managed_settings:
    all: {json.dumps(AWKWARD).replace("1e-07", "0.0000001")}
    groups: {{team-a: {{language: German}}}}
    users: {{carl: {{env: null, companyAnnouncements: null}}}}
"""
SMALL = """
  - model_name: small
    litellm_params: {model: anthropic/small, api_base: "URL/glm", api_key: os.environ/ZAI_API_KEY}
    model_info: {max_input_tokens: 32000}
router_settings:"""


def config_of(upstream: up.Upstream, section: str) -> str:
    text = CONFIG.format(url=upstream.other_url) + section
    return text.replace("\nrouter_settings:", SMALL.replace("URL", upstream.other_url))


@pytest.fixture(scope="module")
def proxy(shared_upstream: up.Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    variables = proxy_environment(shared_upstream) | {"PROXY_USER_TOKENS": USERS}
    running = Proxy(tmp_path_factory.mktemp("managed"), config_of(shared_upstream, SECTION), **variables).wait_ready()
    yield running
    running.stop()


@pytest.fixture
def fresh(proxy: Proxy, upstream: up.Upstream) -> Iterator[Proxy]:
    """The proxy with its own config.yaml, which it has again after the test."""
    before = get(proxy, ANNA).headers["etag"]
    yield proxy
    replace(proxy, config_of(upstream, SECTION))
    until(lambda: get(proxy, ANNA).headers.get("etag") == before, proxy)


def get(proxy: Proxy, token: str, **headers: str) -> httpx.Response:
    named = {"authorization": f"Bearer {token}"} | {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.get(f"{proxy.url}{PATH}", headers=named, trust_env=False, timeout=60)


def settings(proxy: Proxy, token: str) -> dict[str, Any]:
    found = get(proxy, token).json()
    assert found["checksum"] == checksum(found["settings"])
    return dict(found["settings"])


def test_what_a_user_gets(proxy):
    """Each user gets their own settings with a checksum, a tag that is not modified, and nothing without a token."""
    first = get(proxy, ANNA)
    assert (first.status_code, first.headers["etag"]) == (200, f'"{first.json()["checksum"]}"')
    assert get(proxy, ANNA, if_none_match=first.headers["etag"]).status_code == 304
    assert get(proxy, BEN, if_none_match=first.headers["etag"]).status_code == 200
    assert get(proxy, ANNA, if_none_match="*").status_code == 200
    assert get(proxy, "sk-not-a-token").status_code == 401
    assert httpx.post(f"{proxy.url}{PATH}", headers={"x-api-key": ANNA}, trust_env=False).status_code == 404

    anna, ben, carl = (settings(proxy, token) for token in (ANNA, BEN, CARL))
    assert anna["env"]["Z_\u00c9"] == AWKWARD["env"]["Z_\u00c9"]
    assert anna["env"]["ANTHROPIC_DEFAULT_OPUS_MODEL"].startswith("claude-opus-")
    assert {"opus", "glm", "gpt", "small"} <= {*anna["availableModels"]}
    assert (ben["availableModels"], ben["env"]["ANTHROPIC_DEFAULT_MODEL"]) == (["glm", "small"], "glm")
    assert (carl["language"], "env" in carl, "companyAnnouncements" in carl) == ("German", False, False)
    assert "language" not in anna
    assert len({get(proxy, token).json()["uuid"] for token in (ANNA, BEN, CARL, STATIC_TOKEN)}) == 2


def test_what_the_discovery_reads(proxy):
    """Each model that is listed has an id that Claude Code keeps, the name in config.yaml, and its window in words."""
    headers = {"authorization": f"Bearer {BEN}"}
    found = httpx.get(f"{proxy.url}/v1/models?limit=1000", headers=headers, trust_env=False).json()["data"]
    assert {(one["id"], one["display_name"], one["description"]) for one in found} == {
        ("claude-proxy/glm", "glm", "Through claude-proxy, 200,000 tokens"),
        ("claude-proxy/small", "small", "Through claude-proxy, 32,000 tokens"),
    }


def test_an_edit_applies_without_a_restart(fresh, upstream):
    """A changed entry is sent once config.yaml is read again, a wrong one is refused, and without the section it is 404."""
    etag = get(fresh, ANNA).headers["etag"]
    replace(fresh, config_of(upstream, SECTION.replace('"cleanupPeriodDays": 30.0', '"cleanupPeriodDays": 7')))
    until(lambda: settings(fresh, ANNA)["cleanupPeriodDays"] == 7, fresh)
    assert get(fresh, ANNA, if_none_match=etag).status_code == 200

    replace(fresh, config_of(upstream, SECTION.replace('"cleanupPeriodDays": 30.0', '"cleanupPeriodDays": "x"')))
    until(lambda: "cleanupPeriodDays: should be a whole number" in fresh.output, fresh)
    assert settings(fresh, ANNA)["cleanupPeriodDays"] == 7

    replace(fresh, config_of(upstream, SECTION.split("  managed_settings:", maxsplit=1)[0]))
    until(lambda: get(fresh, ANNA).status_code == 404, fresh)
    assert get(fresh, ANNA, if_none_match=etag).json()["error"]["type"] == "not_found_error"


def test_it_waits_for_no_store(shared_upstream, tmp_path):
    """With a Redis that does not respond, the settings come while the status still waits for the shared state."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        variables = proxy_environment(shared_upstream) | {
            "PROXY_USER_TOKENS": USERS, "REDIS_URL": f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        }  # fmt: skip
        proxy = Proxy(tmp_path / "silent", config_of(shared_upstream, SECTION), **variables).wait_ready()
        order: list[str] = []

        def status() -> None:
            httpx.get(f"{proxy.url}/pool", headers={"x-api-key": ANNA}, trust_env=False, timeout=120)
            order.append("pool")

        waiting = threading.Thread(target=status)
        try:
            waiting.start()
            for _ in range(50):
                assert get(proxy, ANNA).status_code == 200
            order.append("settings")
            waiting.join(120)
        finally:
            proxy.stop()
    assert order == ["settings", "pool"]


class Way:
    """Stands between a client and the proxy, and keeps what passes."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.statuses: list[tuple[str, int]] = []
        self.server = up.Upstream(self.forward)
        self.client = httpx.Client(trust_env=False, timeout=60)

    @property
    def seen(self) -> list[up.Seen]:
        return self.server.seen

    def of(self, path: str) -> list[up.Seen]:
        return [seen for seen in self.seen if seen.path == path]

    def forward(self, seen: up.Seen) -> up.Reply:
        own = ("host", "content-length", "connection", "accept-encoding")
        headers = [(name, value) for name, value in seen.headers if name.lower() not in own]
        found = self.client.request(
            seen.method, f"{self.proxy.url}{seen.path}?{seen.query}", headers=headers, content=seen.body
        )
        self.statuses.append((seen.path, found.status_code))
        kept = {name: value for name, value in found.headers.items() if name in ("content-type", "etag", "x-should-retry")}
        return up.Reply(found.status_code, kept, found.content)

    def close(self) -> None:
        self.client.close()
        self.server.close()


@pytest.fixture
def way(proxy: Proxy) -> Iterator[Way]:
    found = Way(proxy)
    yield found
    found.close()


def signed_in(folder: Path, way: Way, token: str) -> ClaudeCode:
    """A user who has signed in at the proxy, as Claude Code 2.1.332 keeps it after /login at an address of this machine."""
    user = ClaudeCode(folder, "")
    user.environment = {"DISABLE_AUTOUPDATER": "1"}
    kept = {
        "enterpriseGateway": {"url": way.server.url, "jwt": token, "expiresAt": 4102444800000},
        "gatewayTrust": {"127.0.0.1": "http-loopback"},
    }
    (user.home / ".claude").mkdir()
    (user.home / ".claude/.credentials.json").write_text(json.dumps(kept))
    return user


def test_the_client_computes_the_same_checksum(proxy, upstream, way, tmp_path):
    """The checksum that Claude Code computes from the settings is the one that is served, and no upstream gets it."""
    run = signed_in(tmp_path, way, ANNA).run("Hello")
    assert (run.code, run.retries, run.result) == (0, 0, "from claude"), run.events
    assert way.statuses[0] == (PATH, 200)
    (message, *_) = way.of("/v1/messages")
    assert message.header(CHECKSUM) == get(proxy, ANNA).json()["checksum"]
    assert message.header("x-claude-code-request-class") == "main"
    assert message.json["model"].startswith("claude-opus-5"), "the filled-in model, not the client's older one"
    assert upstream.asked
    assert all(seen.header(CHECKSUM) is None for seen in upstream.asked)
    assert {seen.credential for seen in upstream.asked} <= {*TOKENS.values()}


def test_the_client_of_a_user_without_claude(upstream, way, tmp_path):
    """A user who may use other models only starts on one of them, with its window, and cannot choose Claude."""
    user = signed_in(tmp_path, way, BEN)
    run = user.run("Hello")
    assert (run.code, run.retries, run.result) == (0, 0, "from glm"), run.events
    assert {seen.path for seen in upstream.asked} == {"/glm/v1/messages"}
    assert re.findall(r"\*\*Tokens:\*\* \S+ / (\w+)", user.run("/context").result) == ["200k"]
    assert user.run("Hello", model="claude-opus-5-5").result == "from glm"


def test_the_client_asks_again_with_its_checksum(fresh, upstream, way, tmp_path):
    """A client that has kept the settings sends their checksum, and is told that they are not modified, until they are."""
    kept = {"language": "X", "availableModels": ["opus", "\u00e9"]}
    section = SECTION.split("    all:", maxsplit=1)[0] + f"    fill: false\n    all: {json.dumps(kept)}\n"
    replace(fresh, config_of(upstream, section))
    until(lambda: settings(fresh, ANNA).get("language") == "X", fresh)
    user = signed_in(tmp_path, way, ANNA)
    for _ in range(2):
        assert user.run("Hello").code == 0
    replace(fresh, config_of(upstream, section.replace('"X"', '"Y"')))
    until(lambda: settings(fresh, ANNA)["language"] == "Y", fresh)
    assert user.run("Hello").code == 0
    assert [status for path, status in way.statuses if path == PATH] == [200, 304, 200]
    assert way.of(PATH)[1].header("if-none-match") == f'"{checksum(kept)}"'
