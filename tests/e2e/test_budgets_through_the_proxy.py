"""Budgets on real proxies: two replicas of two workers with a Redis, and workers on one machine that share a file."""

import contextlib
import http.client
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import NamedTuple
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import httpx
import pytest
import upstream as up
from claude_code import ClaudeCode
from conftest import CLIENT_TOKEN, CONFIG, by_provider, proxy_environment
from playwright.sync_api import expect
from processes import MASTER_KEY, Proxy, new_question
from test_pool_page import opened
from test_status_through_the_proxy import browser, contrasts
from test_workers import RedisServer, redis

__all__ = ["browser", "redis"]  # fixtures

USERS = ("anna", "ben", "carla", "dora", "eve", "frank", "gina", "hugo", "ida", "kim", "lea", "max")
# A response has ten tokens of input and five of output: at Claude 0.02 USD, at the fallback 0.05.
AT_CLAUDE, AT_GLM = 0.02, 0.05
BUDGETS = """
claude_proxy:
  users:
    anna: {budget: {day: 10}}
    ben: {budget: {week: 1}}
    carla: {groups: [team-a]}
    dora: {groups: [Team-A]}
    eve: {budget: {month: 0.16}}
    frank: {budget: {day: 100}}
    hugo: {budget: {day: 0.02, soft: true}}
    ida: {budget: {month: 0.04}}
    kim: {budget: {month: 0.02}}
    lea: {budget: {month: 100}}
    max: {budget: {month: 100}}
  groups:
    team-a: {budget: {month: 0.12}}
  budget: {timezone: Europe/Berlin}
  prices:
    "claude-*": {input: 1000, output: 2000}
    glm: {input: 3000, output: 4000}
"""
OF_ACCOUNT = {"anthropic-ratelimit-unified-status": "allowed", "anthropic-ratelimit-requests-remaining": "7"}
UNIFIED = "anthropic-ratelimit-unified-"
STREAMS = 100
# Without a price: gpt, glm-fast, and what the patterns of the prices do not match.
ONLY_PRICED = """\
  unpriced_models: refuse
  rules:
    - {name: fast, when: {model: glm}, model: glm-fast}
"""


def token_of(user: str) -> str:
    return f"made-up-token-of-{user}-0123456789"


def environment(upstream: up.Upstream, **more: str) -> dict[str, str]:
    users = ",".join(f"{user}={token_of(user)}" for user in USERS)
    return proxy_environment(upstream) | {"NUM_WORKERS": "2", "PROXY_USER_TOKENS": users} | more


def configuration(upstream: up.Upstream, more: str = "") -> str:
    return CONFIG.format(url=upstream.other_url) + BUDGETS + more


@pytest.fixture(scope="module")
def replicas(
    shared_upstream: up.Upstream, redis: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Proxy]]:
    """Two replicas of two workers each."""
    variables = environment(shared_upstream, REDIS_URL=f"redis://127.0.0.1:{redis.port}/0")
    running = [Proxy(tmp_path_factory.mktemp("replica"), configuration(shared_upstream), **variables) for _ in range(2)]
    yield [proxy.wait_ready() for proxy in running]
    for proxy in running:
        proxy.stop()


def ask(proxy: Proxy, user: str, model: str = "claude-sonnet-5", **more: object) -> httpx.Response:
    return proxy.ask(new_question(model, **more), token=token_of(user))


def unified(response: httpx.Response) -> dict[str, str]:
    return {name.removeprefix(UNIFIED): value for name, value in response.headers.items() if name.startswith(UNIFIED)}


def usage_of(proxy: Proxy, user: str) -> dict:
    headers = {"authorization": f"Bearer {token_of(user)}"}
    return httpx.get(f"{proxy.url}/api/oauth/usage", headers=headers, trust_env=False).raise_for_status().json()


def change(proxy: Proxy, scope: str, **limits: float) -> httpx.Response:
    headers = {"x-litellm-api-key": MASTER_KEY}
    return httpx.post(f"{proxy.url}/budget", json={"scope": scope, "limits": limits}, headers=headers, trust_env=False)


class Answer(NamedTuple):
    """When a request was sent and its response had arrived whole, and its status."""

    asked: float
    ended: float
    status: int


def spend_all(replicas: list[Proxy], user: str, streams: int) -> list[Answer]:
    """Let many clients ask one replica after the other, each until it is refused."""
    headers = {"x-litellm-api-key": token_of(user), "content-type": "application/json"}
    limits = httpx.Limits(max_connections=1)

    def client(number: int) -> list[Answer]:
        answers: list[Answer] = []
        clients = [httpx.Client(base_url=proxy.url, trust_env=False, timeout=120, limits=limits) for proxy in replicas]
        while not answers or answers[-1].status == 200:
            turn = number + len(answers)
            body = new_question("claude-sonnet-5", stream=turn % 3 > 0)
            asked = time.monotonic()
            response = clients[turn % len(clients)].post("/v1/messages", json=body, headers=headers)
            answers.append(Answer(asked, time.monotonic(), response.status_code))
        for one in clients:
            one.close()
        return answers

    with ThreadPoolExecutor(streams) as pool:
        return [answer for found in pool.map(client, range(streams)) for answer in found]


def test_a_cap_is_passed_by_at_most_one_response_of_each_stream(replicas, upstream):
    """A hundred clients spend 10 USD through two replicas: after the response that reached the cap none is admitted."""
    answers = spend_all(replicas, "anna", STREAMS)
    good = sorted(answer.ended for answer in answers if answer.status == 200)
    assert {answer.status for answer in answers} == {200, 429}
    room = round(10 / AT_CLAUDE)
    assert room <= len(good) < room + STREAMS
    reached = good[room - 1]
    assert [answer for answer in answers if answer.status == 200 and answer.asked > reached] == []
    assert len(upstream.asked) == len(good)
    found = usage_of(replicas[1], "anna")["extra_usage"]
    assert found["used_credits"] == round(100 * AT_CLAUDE * len(good))
    assert (found["monthly_limit"], found["utilization"]) == (1000, len(good) * 100 // room)


def test_the_headers_of_warning_and_refusal(replicas, upstream):
    """From 75 and 95 per cent on a response warns, at the cap the next request is refused; the account's limits are hidden."""
    upstream.answer = by_provider(claude=lambda seen: up.anthropic_reply(seen, up.text("hello"), headers=OF_ACCOUNT))
    shares, thresholds = [], []
    for turn in range(8):
        response = ask(replicas[turn % 2], "eve", stream=turn % 2 == 0)
        assert response.status_code == 200
        found = unified(response)
        shares.append(found["overage-utilization"])
        thresholds.append(found.get("overage-surpassed-threshold"))
        assert found["status"] == found["overage-status"] == ("allowed" if turn < 6 else "allowed_warning")
        assert found["representative-claim"] == "overage"
        assert "anthropic-ratelimit-requests-remaining" not in response.headers
    assert shares == ["0.00", "0.12", "0.25", "0.37", "0.50", "0.62", "0.75", "0.87"]
    assert thresholds == [None] * 6 + ["0.75"] * 2
    refused = ask(replicas[0], "eve", stream=True)
    berlin = datetime.now(ZoneInfo("Europe/Berlin"))
    reset = datetime(berlin.year + berlin.month // 12, berlin.month % 12 + 1, 1, tzinfo=ZoneInfo("Europe/Berlin"))
    assert (refused.status_code, refused.json()["error"]["type"]) == (429, "billing_error")
    assert refused.json()["error"]["message"] == (
        f"Your monthly budget ($0.16) is spent; it resets on 1 {reset:%B %Y} at 00:00 (Europe/Berlin), "
        "and the proxy's operator can raise it."
    )
    assert unified(refused) == {
        "status": "rejected",
        "reset": str(int(reset.timestamp())),
        "overage-reset": str(int(reset.timestamp())),
        "overage-utilization": "1",
        "overage-surpassed-threshold": "1",
        "overage-period": "monthly",
        "overage-disabled-reason": "org_spend_cap_reached",
    }
    assert refused.headers["x-should-retry"] == "false"
    assert 0 < int(refused.headers["retry-after"]) <= 31 * 86400
    counted = replicas[1].ask(new_question("claude-sonnet-5"), "/v1/messages/count_tokens", token=token_of("eve"))
    assert counted.status_code == 200


def test_claude_code_shows_the_refusal_and_repeats_nothing(replicas, upstream, tmp_path):
    """The real client prints the message as it is, and makes no further request."""
    assert ask(replicas[0], "kim").status_code == 200
    run = ClaudeCode(tmp_path, replicas[1].url, token_of("kim")).run("hello", model="claude-sonnet-5")
    assert "Your monthly budget ($0.02) is spent; it resets on 1 " in run.result
    assert run.retries == 0
    assert len(upstream.asked) == 1


def test_users_without_a_cap_and_with_their_own_login_keep_the_headers(replicas, upstream):
    """For a user without a budget nothing changes; a client's own login has its own limits, and costs nothing."""
    upstream.answer = by_provider(claude=lambda seen: up.anthropic_reply(seen, up.text("hello"), headers=OF_ACCOUNT))
    assert unified(ask(replicas[0], "gina")) == {"status": "allowed"}
    own = {"authorization": f"Bearer {CLIENT_TOKEN}", "x-claude-token-mode": "passthrough"}
    response = replicas[0].ask(new_question("claude-sonnet-5"), token=token_of("frank"), **own)
    assert upstream.asked[-1].credential == CLIENT_TOKEN
    assert unified(response) == {"status": "allowed"}
    assert usage_of(replicas[0], "frank")["extra_usage"]["used_credits"] == 0


def test_a_group_spends_its_budget_together(replicas, upstream):
    """What one user of a group has spent is missing for the other one, in the other replica at once."""
    for proxy in replicas:
        assert ask(proxy, "carla", "glm").status_code == 200
    assert ask(replicas[1], "dora", "glm").status_code == 200
    refused = ask(replicas[0], "dora", "glm")
    assert (refused.status_code, unified(refused)["overage-scope"]) == (429, "group_pool")
    assert "The monthly budget of the group team-a ($0.12) is spent" in refused.json()["error"]["message"]
    assert ask(replicas[0], "gina").status_code == 200


def test_a_fallback_is_charged_at_its_own_price(replicas, upstream):
    """The model that responded decides the price, and its response has the budget's headers, too."""
    upstream.answer = by_provider(claude=lambda _: up.anthropic_error(529, "overloaded_error", "busy"))
    response = ask(replicas[0], "ben", "claude-fallback-1", stream=True)
    assert unified(response)["overage-utilization"] == "0.00"
    upstream.answer = by_provider()
    assert unified(ask(replicas[1], "ben"))["overage-utilization"] == f"{AT_GLM:.2f}"
    found = usage_of(replicas[0], "ben")
    assert found["extra_usage"]["used_credits"] == round(100 * (AT_GLM + AT_CLAUDE))
    assert [(one["group"], one["percent"], one["is_active"]) for one in found["limits"]] == [("weekly", 7, True)]


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("model", ["claude-sonnet-5", "glm"])
def test_a_client_that_leaves_before_the_first_byte_pays_for_its_input(replicas, upstream, model, stream):
    """Once the provider has the request, its input counts in every process, although the client disconnects at once."""
    leaves_at_once(*replicas, upstream, model, stream=stream)


def leaves_at_once(proxy: Proxy, other: Proxy, upstream: up.Upstream, model: str, *, stream: bool) -> None:
    """Let a client disconnect while the provider works on its request, and wait until another replica has the amount."""
    arrived, left = threading.Event(), threading.Event()

    def hold(seen: up.Seen) -> up.Reply:
        arrived.set()
        left.wait(60)
        return up.Reply(500, chunks=[])  # a stream, whose end may be written to nobody

    upstream.answer = by_provider(claude=hold, glm=hold, gpt=hold)
    before = usage_of(other, "lea")["extra_usage"]["used_credits"]
    address = urlsplit(proxy.url)
    client = http.client.HTTPConnection(str(address.hostname), address.port, timeout=60)
    try:
        headers = {"x-litellm-api-key": token_of("lea"), "content-type": "application/json"}
        body = new_question(model, stream=stream) | {"system": "hello " * 1000}
        client.request("POST", "/v1/messages", json.dumps(body), headers)
        assert arrived.wait(60)
        client.close()
        # About 1500 tokens, at 1000 USD for a million or more.
        wait_for(lambda: usage_of(other, "lea")["extra_usage"]["used_credits"] >= before + 100)
    finally:
        client.close()
        left.set()


def test_an_error_of_the_provider_costs_nothing(replicas, upstream):
    """A request that its provider refuses, and one that its provider ends before a response, cost nothing."""
    broken = up.Reply(headers={"content-type": "text/event-stream"}, chunks=[], drop=True)
    for reply in (up.anthropic_error(500, "api_error", "no"), broken):
        upstream.answer = by_provider(claude=lambda _, reply=reply: reply, glm=lambda _, reply=reply: reply)
        for model in ("claude-sonnet-5", "glm"):
            body = new_question(model, stream=True) | {"system": "hello " * 1000}
            with contextlib.suppress(httpx.TransportError):
                assert replicas[0].ask(body, token=token_of("max")).status_code in (200, 500, 502)
    assert usage_of(replicas[0], "max")["extra_usage"]["used_credits"] == 0


def test_a_soft_budget_warns_and_refuses_nobody(replicas, upstream):
    """Beyond a soft budget responses go on, with the warning of the highest threshold."""
    responses = []

    def is_told() -> bool:
        responses.append(ask(replicas[len(responses) % 2], "hugo"))
        return "overage-surpassed-threshold" in unified(responses[-1])

    wait_for(is_told)
    found = unified(responses[-1])
    assert (found["status"], found["overage-surpassed-threshold"], found["overage-utilization"]) == (
        "allowed_warning", "0.95", "0.99",
    )  # fmt: skip
    assert {response.status_code for response in responses} == {200}


def test_the_master_key_changes_a_budget_in_all_replicas(replicas, upstream):
    """A raised cap admits the next request in every process, and removing the change brings config.yaml's cap back."""
    for _ in range(2):
        assert ask(replicas[0], "ida").status_code == 200
    assert ask(replicas[1], "ida").status_code == 429
    raised = change(replicas[0], "user:ida", month=0.06)
    assert raised.json()["budgets"][0]["limit"] == 0.06
    shown = httpx.get(f"{replicas[1].url}/pool", headers={"x-litellm-api-key": MASTER_KEY}, trust_env=False).json()
    row = next(row for row in shown["budgets"] if row["scope"] == "user:ida")
    assert (row["limit"], row["configured"], row["override"], row["percent"]) == (0.06, 0.04, True, 66)
    assert ask(replicas[1], "ida").status_code == 200
    assert ask(replicas[1], "ida").status_code == 429
    change(replicas[1], "user:ida", month=0.1)
    assert change(replicas[0], "user:ida").json()["done"] == "unset"
    assert ask(replicas[1], "ida").status_code == 429
    own = httpx.get(f"{replicas[0].url}/pool", headers={"x-litellm-api-key": token_of("ida")}, trust_env=False).json()
    assert [row["scope"] for row in own["budgets"]] == ["user:ida"]
    refused = httpx.post(f"{replicas[0].url}/budget", json={}, headers={"x-litellm-api-key": token_of("ida")}, trust_env=False)
    assert refused.status_code == 403


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_shows_and_changes_budgets(browser, replicas, width):
    """The page has a table of budgets, with a form for the holder of the master key alone; it fits a phone."""
    said: list[str] = []
    page = opened(browser, replicas[0], said, width=width)
    page.get_by_role("link", name="Budgets").click()
    row = page.locator("#budgets tr", has_text="user:gina, week")
    page.get_by_role("button", name="Change a budget").click()
    page.get_by_label("Scope").fill("user:gina")
    page.get_by_label("Amounts in USD").fill("week=12.5 day=none")
    page.get_by_label("Until").fill("tomorrow")
    page.get_by_label("Until").press("Enter")
    expect(page.locator("#budget-outcome")).to_have_text("The budget of user:gina was changed.")
    expect(row).to_contain_text("$12.50")
    expect(row).to_contain_text("until ")
    expect(page.locator("#budgets tr", has_text="user:ben, week")).to_contain_text("7 %")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert contrasts(page) == []
    page.get_by_role("button", name="Change a budget").click()
    page.get_by_label("Scope").fill("gina")
    page.get_by_role("button", name="Change", exact=True).click()
    alert = page.get_by_role("dialog").get_by_role("alert")
    expect(alert).to_have_text("scope: should be user:NAME, group:NAME or all.")
    page.get_by_label("Scope").fill("user:gina")
    page.get_by_role("button", name="Change", exact=True).click()
    expect(page.locator("#budget-outcome")).to_have_text("For user:gina, config.yaml applies again.")
    expect(row).to_have_count(0)
    page.get_by_role("button", name="Change a budget").click()
    page.get_by_label("Scope").fill("user:gima")
    page.get_by_label("Amounts in USD").fill("week=1")
    page.get_by_label("Until").fill("tomorrow")
    page.get_by_role("button", name="Change", exact=True).click()
    warned = "The budget of user:gima was changed. No user is called gima; did you mean gina?"
    expect(page.locator("#budget-outcome.warn")).to_contain_text(warned)
    assert contrasts(page) == []
    assert change(replicas[0], "user:gima").json()["done"] == "unset"
    assert [text for text in said if "400" not in text] == []
    page.context.close()
    own = opened(browser, replicas[1], [], token_of("ben"), width)
    own.get_by_role("link", name="Budgets").click()
    expect(own.locator("#budgets tbody tr")).to_have_count(1)
    expect(own.locator("#change-budget")).to_be_hidden()
    own.context.close()


def wait_for(what) -> None:
    poll = threading.Event()
    for _ in range(600):
        if what():
            return
        poll.wait(0.1)
    raise AssertionError("it does not happen")


def test_without_the_store_it_goes_as_the_operator_chose(replicas, redis, upstream):
    """While Redis is away, requests are served by default, and refused where config.yaml says so; and served again after."""
    redis.kill()
    for proxy in replicas:
        assert ask(proxy, "frank").status_code == 200
        proxy.logged("budgets are checked with the amounts that this process knows")
    for proxy in replicas:
        path = proxy.home / "config.yaml"
        path.write_text(path.read_text() + "  budget_without_store: refuse\n")
    for proxy in replicas:
        wait_for(lambda proxy=proxy: ask(proxy, "frank").status_code == 503)
        proxy.logged("config.yaml is reloaded: claude_proxy: budget_without_store", times=2)  # both workers
        refused = ask(proxy, "frank")
        assert (refused.status_code, refused.json()["error"]["type"]) == (503, "overloaded_error")
        assert "cannot check your budget" in refused.json()["error"]["message"]
        assert int(refused.headers["retry-after"]) > 0
        assert ask(proxy, "gina").status_code == 200
    redis.start()
    for proxy in replicas:
        wait_for(lambda proxy=proxy: ask(proxy, "frank").status_code == 200)
    wait_for(lambda: ask(replicas[0], "anna").status_code == 429)  # the new Redis has what the processes knew


def test_workers_share_a_budget_and_a_restart_finds_it(shared_upstream, upstream, tmp_path):
    """Two workers on one file have one cap, which holds after the workers were killed and started again."""
    variables = environment(shared_upstream)
    proxy = Proxy(tmp_path / "proxy", configuration(shared_upstream), **variables)
    try:
        proxy.wait_ready()
        change(proxy, "user:frank", day=1).raise_for_status()
        answers = spend_all([proxy], "frank", 10)
        good = sum(answer.status == 200 for answer in answers)
        assert round(1 / AT_CLAUDE) <= good < round(1 / AT_CLAUDE) + 10
    finally:
        proxy.stop()
    again = Proxy(tmp_path / "proxy", None, **variables)
    try:
        again.wait_ready()
        assert ask(again, "frank").status_code == 429
        assert usage_of(again, "frank")["extra_usage"]["used_credits"] == round(100 * AT_CLAUDE * good)
    finally:
        again.stop()


def test_models_without_a_price_can_be_refused(shared_upstream, upstream, start_proxy, tmp_path):
    """A user with a hard budget gets no model without a price, by its name, a fallback or a rule, until the price is added."""
    variables = environment(shared_upstream) | {"NUM_WORKERS": "1"}
    proxy = start_proxy("priced", configuration(shared_upstream, ONLY_PRICED), **variables)
    only_priced_models(proxy, upstream)
    # A rule leads users without a hard budget to such a model, and no other user.
    for user, rule in (("frank", None), ("hugo", "fast"), ("gina", "fast")):
        response = ask(proxy, user, "glm")
        assert (response.status_code, response.headers.get("x-claude-proxy-rule")) == (200, rule)
    upstream.seen.clear()
    refused = ClaudeCode(tmp_path, proxy.url, token_of("frank")).run("hello", model="gpt")
    assert "No price is known for the model gpt, so your budget cannot include it." in refused.result
    assert refused.retries == 0
    assert not [seen for seen in upstream.asked if seen.path.startswith("/openai")]
    path = proxy.home / "config.yaml"
    path.write_text(path.read_text().replace("  prices:\n", "  prices:\n    gpt: {input: 1, output: 1}\n"))
    wait_for(lambda: ask(proxy, "frank", "gpt").status_code == 200)


def only_priced_models(proxy: Proxy, upstream: up.Upstream) -> None:
    """Request models with and without a price for users with and without a hard budget."""
    refused = ask(proxy, "frank", "gpt", stream=True)
    assert (refused.status_code, refused.json()["error"]["type"]) == (400, "invalid_request_error")
    assert "claude_proxy: prices: gpt: {input: USD, output: USD}" in refused.json()["error"]["message"]
    assert refused.headers["x-should-retry"] == "false"
    assert upstream.asked == []
    counted = proxy.ask(new_question("gpt"), "/v1/messages/count_tokens", token=token_of("frank"))
    assert counted.status_code == 200
    assert [ask(proxy, user, "gpt").status_code for user in ("gina", "hugo")] == [200, 200]
    busy = up.anthropic_error(529, "overloaded_error", "busy")
    upstream.answer = by_provider(claude=lambda _: busy)
    assert [ask(proxy, user, "claude-fallback-fast-1").status_code for user in ("frank", "gina")] == [529, 200]
    assert ask(proxy, "frank", "claude-fallback-1").status_code == 200
    upstream.answer = by_provider()
