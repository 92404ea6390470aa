"""The latest requests of the real proxy: what each has tried, who sees it, and what is left after a crash."""

import contextlib
import json
import os
import signal
import sqlite3
import threading
import time
from typing import Any

import httpx
import pytest
import upstream as up
from conftest import CONFIG, PROVIDER_KEYS, TOKENS, by_credential, by_provider, proxy_environment
from processes import MASTER_KEY, STATIC_TOKEN, Proxy, question
from test_status_through_the_proxy import until

ANNA = "sk-made-up-token-of-anna-0123456789"
PROMPT = "made-up words that nobody else may read"
RULES = """
claude_proxy:
  rules:
    - {name: elsewhere, when: {model: claude-fallback-y}, model: glm}
"""


def limited(_: up.Seen) -> up.Reply:
    return up.anthropic_error(429, "rate_limit_error", "limit", retry_after="120")


def refused(_: up.Seen) -> up.Reply:
    return up.anthropic_error(401, "authentication_error", "Invalid authentication credentials")


def listed(proxy: Proxy, token: str = MASTER_KEY, **query: str) -> dict[str, Any]:
    headers = {"x-litellm-api-key": token}
    answer = httpx.get(f"{proxy.url}/pool/requests", params=query, headers=headers, trust_env=False)
    assert answer.status_code == 200, answer.text
    secrets = (*TOKENS.values(), *PROVIDER_KEYS.values(), MASTER_KEY, STATIC_TOKEN, ANNA, PROMPT)
    assert not [secret for secret in secrets if secret in answer.text]
    return answer.json()


def first(proxy: Proxy) -> dict[str, Any]:
    """The only request of a proxy, once its record has been written."""
    until(lambda: bool(listed(proxy)["requests"]))
    (one,) = listed(proxy)["requests"]
    return one


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_request_has_its_attempts(start_proxy, upstream, stream):
    """A request names each credential that was tried and why it was left, and what the client and Anthropic know it by."""
    upstream.answer = by_credential(a=limited, b=refused)
    proxy = start_proxy()
    before = time.time()
    answer = proxy.ask(question("claude-sonnet-5", PROMPT, stream=stream))
    one = first(proxy)
    assert [(tried["target"], tried["why"].rpartition(" (")[2]) for tried in one["attempts"]] == [
        ("a", "HTTP 429)"), ("b", "HTTP 401)"), ("c", ""),
    ]  # fmt: skip
    named = {
        name: one[name] for name in ("user", "requested", "model", "served", "lane", "credential", "status", "error", "rule")
    }
    assert named == {
        "user": "static", "requested": "claude-sonnet-5", "model": "claude-sonnet-5", "served": "anthropic/claude-sonnet-5",
        "lane": "claude", "credential": "c", "status": 200, "error": "", "rule": "",
    }  # fmt: skip
    assert (one["request_id"], one["bytes"]) == (answer.headers["request-id"], len(answer.content))
    assert 0 <= one["first_byte"] <= one["seconds"]
    assert sum(tried["seconds"] for tried in one["attempts"]) <= one["seconds"] + 0.01  # they are rounded
    assert before - 1 <= one["at"] <= time.time()
    assert one["input"] > 0


def test_a_fallback_and_a_rule(start_proxy, upstream):
    """A request that another provider served after the pool names both lanes' attempts; a rule that decided is named."""
    upstream.answer = by_credential(a=limited, b=limited, c=limited)
    proxy = start_proxy(config=CONFIG.format(url=upstream.other_url) + RULES)
    assert proxy.ask(question("claude-fallback-x", PROMPT)).status_code == 200
    one = first(proxy)
    assert [tried["target"] for tried in one["attempts"]][-2:] == ["anthropic/claude-fallback-x", "anthropic/glm-5"]
    assert (one["lane"], one["model"], one["credential"], one["attempts"][-1]["why"]) == ("messages", "glm", "", "")
    assert proxy.ask(question("claude-fallback-y", PROMPT)).status_code == 200
    until(lambda: len(listed(proxy)["requests"]) == 2)
    assert [one["rule"] for one in listed(proxy)["requests"]] == ["elsewhere", ""]
    assert [one["requested"] for one in listed(proxy, rule="elsewhere", q="GLM-5")["requests"]] == ["claude-fallback-y"]


def test_who_sees_which_requests(start_proxy, upstream):
    """Two workers list the requests of both; a user finds only their own, whatever they ask for."""
    proxy = start_proxy(NUM_WORKERS="2", PROXY_USER_TOKENS=f"anna={ANNA}")
    for number in range(12):
        token = ANNA if number % 3 == 0 else STATIC_TOKEN
        assert proxy.ask(question("claude-sonnet-5", PROMPT), token=token).status_code == 200
    assert proxy.ask(question("unheard-of", PROMPT), token=ANNA).status_code == 404
    # Each worker learns of the other's requests within about a second.
    until(lambda: all(len(listed(proxy)["requests"]) == 13 for _ in range(20)))
    assert listed(proxy, ANNA, user="static")["requests"] == []
    assert [one["user"] for one in listed(proxy, ANNA)["requests"]] == ["anna"] * 5
    (failed,) = listed(proxy, ANNA, status="error")["requests"]
    assert (failed["status"], failed["error"], failed["attempts"]) == (404, "unknown_model", [])
    whole = listed(proxy)
    assert [one["id"] for one in whole["requests"]] == sorted((one["id"] for one in whole["requests"]), reverse=True)
    page = listed(proxy, limit="5")
    rest = listed(proxy, before=page["next"])
    assert page["requests"] + rest["requests"] == whole["requests"]


def test_requests_in_progress(start_proxy, upstream):
    """While a request is in progress it is counted, in every worker, for its user; afterwards it is in the list."""
    goes_on = threading.Event()

    def waits(seen: up.Seen) -> up.Reply:
        goes_on.wait(60)
        return up.anthropic_reply(seen, up.text("late"))

    upstream.answer = by_credential(a=waits, b=waits, c=waits)
    proxy = start_proxy(NUM_WORKERS="2")

    def pool(token: str = MASTER_KEY) -> dict[str, Any]:
        return httpx.get(f"{proxy.url}/pool", headers={"x-litellm-api-key": token}, trust_env=False).json()["running"]

    asking = threading.Thread(target=proxy.ask, args=(question("claude-sonnet-5", PROMPT),))
    asking.start()
    try:
        until(lambda: all(pool() == {"requests": 1, "users": {"static": 1}} for _ in range(4)))
        assert (pool(STATIC_TOKEN), listed(proxy)["running"], listed(proxy)["requests"]) == ({"requests": 1}, 1, [])
    finally:
        goes_on.set()
        asking.join()
    until(lambda: all(pool() == {"requests": 0, "users": {}} for _ in range(4)))
    until(lambda: len(listed(proxy)["requests"]) == 1)


def stored(path: os.PathLike[str]) -> int:
    """The number of requests in a state file."""
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as file:
        rows = file.execute("SELECT value FROM rows WHERE key >= ? AND key < ?", (b"recent:", b"recent;")).fetchall()
    return sum(len(json.loads(value)) for (value,) in rows)


def test_the_list_outlives_a_crash(shared_upstream, upstream, tmp_path):
    """After kill -9 a new process has the requests of the one before, its last second aside, and the course of its windows."""
    used = iter(range(10, 100))
    reset = int(time.time()) + 7200

    def filling(seen: up.Seen) -> up.Reply:
        unified = {"status": "allowed", "5h-utilization": f"0.{next(used)}", "5h-reset": str(reset)}
        headers = {f"anthropic-ratelimit-unified-{name}": value for name, value in unified.items()}
        return up.anthropic_reply(seen, up.text("hello"), headers=headers)

    def course(proxy: Proxy) -> list[list[float]]:
        data = httpx.get(f"{proxy.url}/pool", headers={"x-litellm-api-key": MASTER_KEY}, trust_env=False).json()
        (window,) = data["credentials"][0]["windows"]
        assert window["opened"] == window["reset"] - 5 * 3600
        return window["course"]

    upstream.answer = by_provider(claude=filling)
    state = tmp_path / "state.sqlite"
    environment = proxy_environment(shared_upstream) | {
        "CLAUDE_POOL_STATE_FILE": str(state), "CLAUDE_OAUTH_TOKENS": f"a={TOKENS['a']}",
    }  # fmt: skip
    proxy = Proxy(tmp_path / "proxy", CONFIG.format(url=shared_upstream.other_url), **environment)
    try:
        proxy.wait_ready()
        for _ in range(7):
            assert proxy.ask(question("claude-sonnet-5", PROMPT)).status_code == 200
        until(lambda: stored(state) == 7)
        before, (first_sample, last_report) = listed(proxy)["requests"], course(proxy)
        assert (first_sample[1], last_report[1]) == (0.1, 0.16)
    finally:
        os.killpg(proxy.process.pid, signal.SIGKILL)
        proxy.process.wait(30)
    again = Proxy(tmp_path / "proxy", None, **environment)
    try:
        again.wait_ready()
        assert listed(again)["requests"] == before
        assert course(again) == [first_sample, last_report]
        assert len(before) == 7
        assert again.ask(question("claude-sonnet-5", PROMPT)).status_code == 200
        until(lambda: len(listed(again)["requests"]) == 8)
    finally:
        again.stop()
