"""Credential rotation, seen from both ends of the real proxy."""

import time

import pytest
import upstream as up
from conftest import API_KEY, CLIENT_TOKEN, TOKENS, by_credential, by_provider
from processes import answer_text, new_question, question


def limited(_: up.Seen) -> up.Reply:
    return up.anthropic_error(429, "rate_limit_error", "This request would exceed your rate limit.", retry_after="120")


def refused(_: up.Seen) -> up.Reply:
    return up.anthropic_error(401, "authentication_error", "Invalid authentication credentials")


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_one_request_goes_on_until_a_credential_answers(start_proxy, upstream, stream):
    """A 429 and a 401 are over before the client sees a byte, and the next request starts with the one that answered."""
    upstream.answer = by_credential(a=limited, b=refused)
    proxy = start_proxy()
    answer = proxy.ask(question("claude-sonnet-5", stream=stream))
    assert (answer.status_code, answer_text(answer)) == (200, "from c")
    assert [seen.credential for seen in upstream.asked] == [TOKENS["a"], TOKENS["b"], TOKENS["c"]]
    assert answer_text(proxy.ask(question("claude-sonnet-5", stream=stream))) == "from c"
    assert [seen.credential for seen in upstream.asked[3:]] == [TOKENS["c"]]
    assert "credential b: the credential was rejected" in proxy.output
    assert not any(token in proxy.output for token in TOKENS.values())


def test_new_conversations_take_turns_and_a_session_stays(start_proxy, upstream):
    """Round robin for new conversations; a session stays on its credential; OAuth tokens come before API keys."""
    proxy = start_proxy(CLAUDE_API_KEYS=f"key={API_KEY}")
    for _ in range(4):
        proxy.ask(new_question("claude-sonnet-5"))
    assert [seen.credential for seen in upstream.asked] == [TOKENS[label] for label in "abca"]
    upstream.seen.clear()
    for session in ("one", "two", "one", "two", "one"):
        proxy.ask(question("claude-sonnet-5"), x_claude_code_session_id=session)
    assert [seen.credential for seen in upstream.asked] == [TOKENS[label] for label in "bcbcb"]


def test_api_keys_serve_when_no_oauth_token_is_usable(start_proxy, upstream):
    """An API key goes out as x-api-key, and only when every OAuth token rests."""
    upstream.answer = by_credential(a=limited, b=limited, c=limited)
    proxy = start_proxy(CLAUDE_API_KEYS=f"key={API_KEY}")
    assert proxy.ask(question("claude-sonnet-5")).status_code == 200
    last = upstream.seen[-1]
    assert (last.header("x-api-key"), last.header("authorization")) == (API_KEY, None)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_an_exhausted_pool_says_when_to_come_back(exhausted, upstream, stream):
    """When everybody rests the client gets a 429 in Anthropic's words that is true of the pool, and nobody is asked."""
    upstream.answer = by_credential(a=limited, b=limited, c=limited)
    exhausted.ask(question("claude-sonnet-5"))
    upstream.seen.clear()
    before = time.time()
    answer = exhausted.ask(question("claude-sonnet-5", stream=stream))
    assert upstream.seen == []
    assert (answer.status_code, answer.json()["error"]["type"]) == (429, "rate_limit_error")
    unified = "anthropic-ratelimit-unified-"
    assert (answer.headers[f"{unified}status"], answer.headers[f"{unified}representative-claim"]) == ("rejected", "five_hour")
    seconds, reset = int(answer.headers["retry-after"]), int(answer.headers[f"{unified}reset"])
    assert 0 < seconds <= 132
    assert before + seconds - 1 <= reset <= time.time() + seconds + 1
    assert "x-should-retry" not in answer.headers


def test_a_refused_pool_does_not_make_the_client_log_out(start_proxy, upstream):
    """A 401 of pooled credentials reaches the client as a 503 of the proxy's own that says what to do."""
    upstream.answer = by_credential(a=refused, b=refused, c=refused)
    # A minute at most is what LiteLLM would wait for before a retry of its own.
    proxy = start_proxy(CLAUDE_TOKEN_QUARANTINE_SECONDS="30")
    for expected in (["a", "b", "c"], []):
        upstream.seen.clear()
        answer = proxy.ask(question("claude-sonnet-5"))
        assert (answer.status_code, answer.json()["type"]) == (503, "error")
        assert "operator" in answer.json()["error"]["message"]
        assert (0 < int(answer.headers["retry-after"]) <= 41, answer.headers["x-should-retry"]) == (True, "false")
        assert [seen.credential for seen in upstream.asked] == [TOKENS[label] for label in expected]
        assert answer.elapsed.total_seconds() < 30, "nobody waited until a credential is looked at again"


@pytest.mark.parametrize(
    ("model", "served"),
    [("anthropic/claude-sonnet-5", "glm-5"), ("anthropic/claude-haiku-4-5", "glm-5-fast"), ("claude-fallback-x", "glm-5")],
)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_fallbacks_with_a_wildcard_work_as_written(exhausted, upstream, model, served, stream):
    """When the pool is exhausted the fallback of the most specific pattern answers, under the name that was asked for."""
    upstream.answer = by_credential(a=limited, b=limited, c=limited)
    answer = exhausted.ask(question(model, stream=stream))
    assert (answer.status_code, answer_text(answer)) == (200, "from glm")
    assert upstream.seen[-1].json["model"] == served
    assert upstream.seen[-1].credential == "made-up-zai-key-0123"
    assert f'"model":"{model}"' in answer.text.replace('": "', '":"')


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (400, "invalid_request_error", "prompt is too long: 200001 tokens > 200000 maximum"),
        (404, "not_found_error", "model: claude-none"),
        (413, "request_too_large", "Request exceeds the maximum size"),
        (429, "rate_limit_error", "Error"),
    ],
)
def test_an_answer_about_the_request_is_the_clients(pooled, upstream, status, kind, words):
    """What every credential would answer is asked once and arrives unmodified, and no fallback hides it."""
    upstream.answer = by_provider(claude=lambda _: up.anthropic_error(status, kind, words, request_id="req_x"))
    answer = pooled.ask(question("anthropic/claude-sonnet-5"))
    assert (answer.status_code, answer.json()["error"]) == (status, {"type": kind, "message": words})
    assert answer.headers["request-id"] == "req_x"
    assert len(upstream.asked) == 1


def test_passthrough_sends_the_clients_own_credential(poolless, upstream):
    """An empty pool falls back to the client's own credential, as it came; with none the client gets a clear error."""
    assert poolless.ask(question("claude-sonnet-5"), authorization=f"Bearer {CLIENT_TOKEN}").status_code == 200
    assert poolless.ask(question("claude-sonnet-5"), x_api_key=API_KEY).status_code == 200
    first, second = upstream.asked
    assert (first.header("authorization"), first.header("x-api-key")) == (f"Bearer {CLIENT_TOKEN}", None)
    assert "oauth-2025-04-20" in first.header("anthropic-beta")
    assert (second.header("authorization"), second.header("x-api-key")) == (None, API_KEY)
    refusal = poolless.ask(question("claude-sonnet-5"))
    assert (refusal.status_code, refusal.headers["x-should-retry"]) == (400, "false")
    assert "No Claude credential" in refusal.json()["error"]["message"]
    assert len(upstream.asked) == 2


def test_a_fallback_responds_for_an_empty_pool(poolless, upstream):
    """With an empty pool, a ready fallback responds; the log has the cause. Without the fallback, the client gets the error."""
    answer = poolless.ask(question("claude-fallback-x"))
    assert (answer.status_code, answer_text(answer), answer.json()["model"]) == (200, "from glm", "claude-fallback-x")
    assert [seen.json["model"] for seen in upstream.asked] == ["glm-5"]
    (line,) = poolless.logged("model=claude-fallback-x")
    assert "anthropic/claude-fallback-x: failed over to anthropic/glm-5 (no credential in the pool)" in line
    refusal = poolless.ask(question("claude-fallback-x"), x_claude_proxy_fallbacks="none")
    assert (refusal.status_code, len(upstream.asked)) == (400, 1)
    assert "No Claude credential" in refusal.json()["error"]["message"]


def test_a_deployments_own_key_is_the_last_resort(poolless, upstream):
    """With neither pool nor client credential the deployment's api_key is used."""
    assert poolless.ask(question("claude-keyed")).status_code == 200
    assert upstream.seen[0].header("x-api-key") == "sk-ant-api03-made-up-deployment"


def test_the_mode_can_be_set_for_one_request(pooled, upstream):
    """x-claude-token-mode overrides the mode, also behind a comma in the token's header; another value is a 400."""
    own = {"authorization": f"Bearer {CLIENT_TOKEN}"}
    pooled.ask(question("claude-sonnet-5"), x_claude_token_mode="passthrough", **own)
    comma = "sk-made-up-static-token-0123456789, x-claude-token-mode: passthrough"
    assert pooled.ask(question("claude-sonnet-5"), token=comma, **own).status_code == 200
    pooled.ask(question("claude-sonnet-5"), **own)
    assert [seen.credential for seen in upstream.asked] == [CLIENT_TOKEN, CLIENT_TOKEN, upstream.asked[2].credential]
    assert upstream.asked[2].credential in TOKENS.values()
    wrong = pooled.ask(question("claude-sonnet-5"), x_claude_token_mode="borrow", **own)
    assert (wrong.status_code, len(upstream.asked)) == (400, 3)
    assert "rotate or passthrough" in wrong.json()["error"]["message"]


def test_a_clients_own_401_stays_the_clients(poolless, upstream):
    """In passthrough the client's own 401 arrives unmodified, and no fallback hides it."""
    upstream.answer = by_provider(claude=refused)
    answer = poolless.ask(question("anthropic/claude-sonnet-5"), authorization=f"Bearer {CLIENT_TOKEN}")
    assert (answer.status_code, answer.json()["error"]["message"]) == (401, "Invalid authentication credentials")
    assert len(upstream.asked) == 1
