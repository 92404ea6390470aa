"""What users may spend and send, by config.yaml, as clients meet it: costs, limits of requests, and groups of users.

Two workers share their numbers. Every test runs on the lanes, and with every request entering LiteLLM.
"""

import contextlib
import csv
import io
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import httpx
import pytest
import upstream as up
from claude_code import ClaudeCode
from conftest import module_proxy
from processes import MASTER_KEY, Proxy, answer_text, question
from test_status_through_the_proxy import until

NAMES = ("anna", "ben", "carl", "dora", "emma", "finn", "gina", "hugo")
USERS = {name: f"sk-made-up-token-of-{name}-0123456789" for name in NAMES}
SECRETS = {label: f"sk-ant-oat01-made-up-{label}" for label in ("plain", "pool-a")}
LABELS = {secret: label for label, secret in SECRETS.items()}
CREDENTIALS = f"""credentials:
  - {{label: plain, secret: {SECRETS["plain"]}}}
  - {{label: pool-a, secret: {SECRETS["pool-a"]}, groups: [reserved]}}
"""
# Per million tokens; a million tokens of input are far more than any budget here.
PRICES = {"glm": {"input": "3", "output": "7", "cache_read": "0.5", "cache_write": "4", "cache_write_1h": "6"}}
BLOCK = f"""
claude_proxy:
  users:
    anna: {{requests_per_minute: 3}}
    ben: {{streams: 1}}
    carl: {{groups: [team-a], streams: 1}}
    dora: {{groups: [spenders]}}
  groups:
    team-a: {{credentials: [pool-a]}}
    spenders: {{budget: {{month: 500}}}}
  budget: {{month: 2000, timezone: Europe/Berlin}}
  prices: {json.dumps(PRICES)}
"""
USAGE = {
    "input_tokens": 1000,
    "output_tokens": 200,
    "cache_read_input_tokens": 30_000,
    "cache_creation_input_tokens": 4000,
    "cache_creation": {"ephemeral_5m_input_tokens": 1000, "ephemeral_1h_input_tokens": 3000},
}
OPUS = "claude-opus-4-8"


@pytest.fixture(scope="module", params=[False, True], ids=["lanes", "litellm"])
def proxy(
    request: pytest.FixtureRequest, shared_upstream: up.Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxy]:
    home = tmp_path_factory.mktemp("limits")
    (home / "credentials.yaml").write_text(CREDENTIALS)
    (home / "credentials.yaml").chmod(0o600)
    tokens = ",".join(f"{name}={token}" for name, token in USERS.items())
    variables = {"CLAUDE_OAUTH_TOKENS": "", "CLAUDE_API_KEYS": "", "PROXY_USER_TOKENS": tokens, "NUM_WORKERS": "2"}
    Proxy.through_litellm = request.param
    try:
        for running in module_proxy(shared_upstream, home, models=BLOCK.replace("{", "{{").replace("}", "}}"), **variables):
            Proxy.through_litellm = False
            yield running
            assert not [secret for secret in SECRETS.values() if secret in running.output]
    finally:
        Proxy.through_litellm = False


def ask(proxy: Proxy, name: str, model: str = "glm", *, path: str = "/v1/messages", stream: bool = False) -> httpx.Response:
    return proxy.ask(question(model, stream=stream), path=path, token=USERS[name])


def usage(proxy: Proxy, name: str, model: str, requests: int) -> dict[str, str]:
    """Return the line of the ledger of a user and a model, once it has so many requests: the other worker shares them soon."""
    found: list[dict[str, str]] = []
    for _ in range(200):
        text = httpx.get(f"{proxy.url}/usage.csv", headers={"x-litellm-api-key": MASTER_KEY}, trust_env=False).text
        found = [line for line in csv.DictReader(io.StringIO(text)) if (line["user"], line["model"]) == (name, model)]
        if [line["requests"] for line in found] == [str(requests)]:
            return found[0]
    raise AssertionError(f"the ledger has {found}")


def cost(prices: dict[str, str]) -> Decimal:
    """Return the cost of ``USAGE`` in USD."""
    of_hour = USAGE["cache_creation"]["ephemeral_1h_input_tokens"]  # type: ignore[index]  # a mapping
    counts = {
        "input": USAGE["input_tokens"],
        "output": USAGE["output_tokens"],
        "cache_read": USAGE["cache_read_input_tokens"],
        "cache_write": USAGE["cache_creation_input_tokens"] - of_hour,  # type: ignore[operator]  # a number
        "cache_write_1h": of_hour,
    }
    return sum((Decimal(prices[name]) * int(count) for name, count in counts.items()), Decimal(0)) / 1_000_000  # type: ignore[call-overload]


def billed(seen: up.Seen) -> up.Reply:
    """Answer with ``USAGE``; a stream of the model glm-5-fast breaks off before its end."""
    if seen.method == "GET":
        return up.Reply(404)
    whole = up.message(up.text("hello"), model=seen.json["model"]) | {"usage": USAGE}
    if not seen.json.get("stream"):
        return up.Reply(headers={"content-type": "application/json"}, body=json.dumps(whole).encode())
    chunks = up.sse(*up.events_of(whole))
    cut = seen.json["model"] == "glm-5-fast"
    return up.Reply(headers={"content-type": "text/event-stream"}, chunks=chunks[:3] if cut else chunks, drop=cut)


@pytest.mark.parametrize(("name", "stream"), [("gina", False), ("hugo", True)])
def test_what_a_response_costs(proxy: Proxy, upstream: up.Upstream, name: str, *, stream: bool) -> None:
    """A response costs its tokens at the model's prices, cache writes by their time, whichever way it took."""
    upstream.answer = billed
    for _ in range(3):
        assert ask(proxy, name, stream=stream).status_code == 200
    line = usage(proxy, name, "glm", 3)
    assert (Decimal(line["usd"]), line["unpriced"]) == (3 * cost(PRICES["glm"]), "0")


def test_a_fallback_has_its_own_price(proxy: Proxy, upstream: up.Upstream) -> None:
    """A response of a fallback costs what the fallback costs, and counts under the requested model."""

    def busy(seen: up.Seen) -> up.Reply:
        return up.anthropic_error(529, "overloaded_error", "busy") if seen.is_claude else billed(seen)

    upstream.answer = busy
    assert answer_text(ask(proxy, "gina", "claude-fallback-x", stream=True)) == "hello"
    line = usage(proxy, "gina", "claude-fallback-x", 1)
    assert (line["served"], Decimal(line["usd"]), line["unpriced"]) == ("anthropic/glm-5", cost(PRICES["glm"]), "0")


def test_a_model_without_a_price(proxy: Proxy, upstream: up.Upstream) -> None:
    """The cost of a model at an endpoint that nobody knows is not 0 but unknown, and each process logs it once."""
    upstream.answer = billed
    for _ in range(4):
        assert ask(proxy, "finn", "claude-looks-like-it").status_code == 200
    line = usage(proxy, "finn", "claude-looks-like-it", 4)
    assert (line["usd"], line["unpriced"]) == ("", "4")
    assert 1 <= len(proxy.logged("no price is known for the model claude-looks-like-it")) <= 2


def test_an_interrupted_stream_costs_what_was_reported(proxy: Proxy, upstream: up.Upstream) -> None:
    """The tokens that a provider reported before its stream broke off are counted."""
    upstream.answer = billed
    with httpx.stream(
        "POST",
        f"{proxy.url}/v1/messages",
        json=question("glm-fast", stream=True),
        headers={"x-api-key": USERS["emma"]},
        trust_env=False,
        timeout=60,
    ) as response:
        assert response.status_code == 200
        with contextlib.suppress(httpx.TransportError):
            response.read()
    line = usage(proxy, "emma", "glm-fast", 1)
    assert (line["input"], line["cache_read"], line["unpriced"]) == ("1000", "30000", "1")


def test_requests_per_minute(proxy: Proxy, upstream: up.Upstream) -> None:
    """Beyond the limit a request is a 429 with the time to wait, before a provider is asked; counts of tokens are free."""
    upstream.answer = billed
    for _ in range(30):
        assert ask(proxy, "anna", path="/v1/messages/count_tokens").status_code == 200
    tries = [ask(proxy, "anna") for _ in range(60)]
    admitted, refused = [one.status_code for one in tries].count(200), tries[-1]
    # One worker knows what the other one has admitted after an exchange.
    assert 3 <= admitted <= 6
    assert {one.status_code for one in tries[-20:]} == {429}
    assert len([seen for seen in upstream.asked if not seen.path.endswith("count_tokens")]) == admitted
    assert (refused.json()["type"], refused.json()["error"]["type"]) == ("error", "rate_limit_error")
    assert refused.headers["x-should-retry"] == "true"
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert "anna may send 3 requests per minute on this proxy." in refused.text
    assert ask(proxy, "emma").status_code == 200


class Held:
    """An upstream that holds every stream of one conversation open until ``release``."""

    def __init__(self) -> None:
        self.begun, self.release = threading.Event(), threading.Event()

    def __call__(self, seen: up.Seen) -> up.Reply:
        if b"hold this" not in seen.body:
            return up.anthropic_reply(seen, up.text("hello"))

        def chunks() -> Iterator[bytes]:
            pieces = up.sse(*up.events_of(up.message(up.text("held"), model=seen.json["model"])))
            yield from pieces[:-1]
            self.begun.set()
            self.release.wait(60)
            yield pieces[-1]

        return up.Reply(headers={"content-type": "text/event-stream"}, chunks=chunks())


def hold(proxy: Proxy, name: str) -> httpx.Response:
    return proxy.ask(question("glm", "hold this", stream=True), token=USERS[name])


def test_streams_at_the_same_time(proxy: Proxy, upstream: up.Upstream) -> None:
    """While a user's only stream is in progress, another request is a 429 in each worker; afterwards it is served."""
    held = upstream.answer = Held()
    with ThreadPoolExecutor(1) as pool:
        stream = pool.submit(hold, proxy, "ben")
        assert held.begun.wait(60)
        tries = [ask(proxy, "ben") for _ in range(60)]
        held.release.set()
        assert answer_text(stream.result()) == "held"
    refused = tries[-1]
    # One worker knows of the stream from the start, the other one after an exchange.
    assert {one.status_code for one in tries[-6:]} == {429}
    assert (refused.json()["error"]["type"], refused.headers["x-should-retry"]) == ("rate_limit_error", "true")
    assert int(refused.headers["retry-after"]) == 1
    assert "ben may have 1 request in progress at the same time on this proxy." in refused.text
    until(lambda: ask(proxy, "ben").status_code == 200)


def test_claude_code_waits_by_itself(proxy: Proxy, upstream: up.Upstream, tmp_path: Path) -> None:
    """Claude Code repeats a request that was refused for the number of streams, and shows its user the response."""
    held = upstream.answer = Held()
    user = ClaudeCode(tmp_path, proxy.url, USERS["carl"])
    with ThreadPoolExecutor(2) as pool:
        stream = pool.submit(hold, proxy, "carl")
        assert held.begun.wait(60)
        run = pool.submit(user.run, "Hello", model="glm")
        proxy.logged("user=carl model=glm status=429")
        held.release.set()
        assert answer_text(stream.result()) == "held"
        found = run.result()
    assert (found.code, found.result) == (0, "hello"), found.errors
    assert found.retries >= 1


def test_a_group_uses_its_credentials(proxy: Proxy, upstream: up.Upstream) -> None:
    """The users of a group use the credentials that it names, and no others; a group for budgets alone restricts nothing."""
    upstream.answer = billed
    met = {}
    for name in ("carl", "dora", "emma"):
        assert any(ask(proxy, name, OPUS).status_code == 200 for _ in range(60))
        met[name] = LABELS[upstream.asked[-1].credential or ""]
    assert met == {"carl": "pool-a", "dora": "plain", "emma": "plain"}
