"""Tokens, routes and secrets, through the real proxy."""

import itertools

import httpx
import pytest
import upstream as up
from conftest import API_KEY, CLIENT_TOKEN, PROVIDER_KEYS, TOKENS, by_provider
from processes import MASTER_KEY, STATIC_TOKEN, Proxy, answer_text, question

from claude_proxy.access.routes import OPENAI_ROUTES


@pytest.mark.parametrize(
    "headers",
    [
        {"x_litellm_api_key": STATIC_TOKEN},
        {"x_litellm_api_key": f"Bearer {STATIC_TOKEN}"},
        {"authorization": f"Bearer {STATIC_TOKEN}"},
        {"x_api_key": STATIC_TOKEN},
        {"x_litellm_api_key": MASTER_KEY},
        {"x_litellm_api_key": STATIC_TOKEN, "authorization": f"Bearer {CLIENT_TOKEN}"},
    ],
    ids=["header", "header-bearer", "authorization", "x-api-key", "master", "beside-a-claude-token"],
)
def test_the_static_token_is_accepted_where_claude_code_puts_it(poolless, headers):
    """The token counts in x-litellm-api-key, in Authorization and in x-api-key."""
    assert poolless.ask(question("demo"), token=None, **headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x_litellm_api_key": "wrong"},
        {"authorization": f"Bearer {CLIENT_TOKEN}"},
        {"x_litellm_api_key": f"{STATIC_TOKEN}x"},
    ],
    ids=["none", "wrong", "only-a-claude-token", "longer"],
)
@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens", "/anthropic/v1/messages", "/v1/models"])
def test_a_wrong_token_is_refused_in_anthropics_shape(poolless, upstream, headers, path):
    """A wrong or missing token is a 401 that says which header is expected, and is not repeated by Claude Code."""
    answer = poolless.ask(question("demo"), path=path, token=None, **headers)
    assert (answer.status_code, answer.headers["x-should-retry"]) == (401, "false")
    assert (answer.json()["type"], answer.json()["error"]["type"]) == ("error", "authentication_error")
    assert "x-litellm-api-key" in answer.json()["error"]["message"]
    assert upstream.seen == []


OPENAI_OWN = {route for _, route in OPENAI_ROUTES}
CLOSED = ["/v1/chat/completions", "/chat/completions", "/v1/responses", "/files", "/v1/batches", "/v1/embeddings"]
CLOSED += [
    "/anthropic/v1/batches",
    "/vertex_ai/v1/x",
    "/openai/v1/chat/completions",
    "/v1/completions",
]
CLOSED += [
    "/engines/x/chat/completions",
    "/mcp",
    "/ui",
    "/openapi.json",
    "/api/event_logging/batch",
    "/v1/realtime",
    "/gemini/x",
]


@pytest.mark.parametrize("token", [STATIC_TOKEN, MASTER_KEY], ids=["static", "master"])
def test_routes_that_the_policy_does_not_cover_are_closed(poolless, upstream, token):
    """No pass-through and no other model route of LiteLLM's is open, to nobody."""
    for path in CLOSED:
        answer = poolless.ask(question("claude-sonnet-5"), path=path, token=token, authorization=f"Bearer {CLIENT_TOKEN}")
        assert answer.status_code == 404, path
        # OpenAI's own routes have another shape of errors, and another reason: they can be opened.
        assert answer.json().get("type") == (None if path in OPENAI_OWN else "error"), path
    assert upstream.seen == []


ADMINISTRATION = ["/health", "/model/info", "/key/list", "/global/spend", "/callbacks/list", "/user/list", "/model_group/info"]
# What returns settings or variables of the environment is closed to the master key, too.
CLOSED_ADMINISTRATION = ["/config/yaml", "/router/settings", "/settings", "/cache/ping", "/get/config/callbacks"]


def test_administration_needs_the_master_key(poolless, upstream):
    """The static token opens no administration and not /health, which calls every model; the master key does."""
    for path in ADMINISTRATION:
        refused = httpx.get(f"{poolless.url}{path}", headers={"x-litellm-api-key": STATIC_TOKEN}, trust_env=False)
        assert refused.status_code == 403, path
    for path, token in itertools.product(CLOSED_ADMINISTRATION, (STATIC_TOKEN, MASTER_KEY)):
        closed = httpx.get(f"{poolless.url}{path}", headers={"x-litellm-api-key": token}, trust_env=False)
        assert closed.status_code == 404, path
    allowed = httpx.get(f"{poolless.url}/model/info", headers={"x-litellm-api-key": MASTER_KEY}, trust_env=False)
    assert allowed.status_code == 200
    assert allowed.json()["data"]
    assert upstream.seen == []


def test_an_open_proxy_opens_models_and_nothing_else(start_proxy):
    """With the word `open` every client may use the models, the start says so, and administration stays closed."""
    proxy = start_proxy(PROXY_STATIC_TOKEN="open", LITELLM_MASTER_KEY="")
    assert proxy.ask(question("demo"), token=None).status_code == 200
    assert proxy.ask(question("demo"), token="whatever").status_code == 200
    for path, headers in itertools.product(ADMINISTRATION, ({}, {"x-litellm-api-key": "sk-1234"})):
        assert httpx.get(f"{proxy.url}{path}", headers=headers, trust_env=False).status_code == 403
    form = {"files": {"file": b"made up"}, "trust_env": False}
    assert httpx.post(f"{proxy.url}/v1/files", **form).status_code == 415
    # No form can send this header. The pool of this proxy has no API key.
    assert httpx.post(f"{proxy.url}/v1/files", headers={"anthropic-version": "2023-06-01"}, **form).status_code == 501
    assert "WARNING: This proxy is open: everyone" in proxy.output


def test_public_routes_need_no_token(poolless):
    """Claude Code's HEAD / and the health checks of a load balancer are answered without a token."""
    with httpx.Client(base_url=poolless.url, trust_env=False) as client:
        assert client.head("/").status_code == 200
        assert client.head("/anthropic").status_code == 200
        assert client.get("/health/liveliness").status_code == 200
        assert client.get("/health/readiness").status_code == 200


def test_the_alias_prefix_serves_the_same_routes(poolless):
    """ANTHROPIC_BASE_URL may end in /anthropic or in a slash."""
    for path in ("/anthropic/v1/messages", "/v1/messages/"):
        assert poolless.ask(question("demo"), path=path).status_code == 200


LITELLM_PARAMETERS = {
    "api_key": "sk-evil-key-in-the-body",
    "base_url": "http://127.0.0.1:9/evil",
    "api_base": "http://127.0.0.1:9/evil",
    "headers": {"x-evil": "evil-header"},
    "extra_headers": {"authorization": "Bearer evil-header"},
    "extra_body": {"evil_body": 1},
    "fallbacks": ["glm"],
    "mock_response": "evil-mock",
    "mock_testing_fallbacks": True,
    "num_retries": 9,
    "timeout": 0.001,
    "custom_llm_provider": "openai",
    "drop_params": False,
    "user_config": {"model_list": []},
    "litellm_metadata": {"tags": ["evil-tag"]},
    "tags": ["evil-tag"],
    "guardrails": ["evil"],
    "cache": {"no-cache": True},
    "reasoning_effort": "high",
}
LITELLM_HEADERS = {
    "x_litellm_timeout": "0.001",
    "x_litellm_num_retries": "9",
    "x_litellm_tags": "evil",
    "x_evil": "evil-header",
}


@pytest.mark.parametrize("model", ["glm", "gpt"])
def test_litellms_own_parameters_do_nothing(poolless, upstream, model):
    """What LiteLLM would take from a client's body or headers takes no effect and does not reach the provider."""
    plain = poolless.ask(question(model))
    switched = poolless.ask(question(model, **LITELLM_PARAMETERS), **LITELLM_HEADERS)
    assert (switched.status_code, answer_text(switched)) == (200, answer_text(plain))
    first, second = upstream.asked
    assert (second.path, second.json, second.credential) == (first.path, first.json, first.credential)
    assert "evil" not in second.everything


def test_count_tokens(pooled, upstream):
    """Claude counts on a pooled credential with the client's own body; for the others, and where Claude fails, an estimate."""
    body = {"model": "claude-sonnet-5", "messages": [{"role": "user", "content": "hello " * 50}], "tools": []}
    counted = pooled.ask(body, path="/v1/messages/count_tokens?beta=true", anthropic_beta="token-counting-2024-11-01")
    assert (counted.status_code, counted.json()) == (200, {"input_tokens": 4711})
    (seen,) = upstream.asked
    assert (seen.path, seen.query, seen.json) == ("/v1/messages/count_tokens", "beta=true", body)
    assert seen.credential in TOKENS.values()
    assert seen.header("anthropic-beta") == "token-counting-2024-11-01,oauth-2025-04-20"
    for model in ("glm", "gpt", "demo"):
        estimate = pooled.ask(body | {"model": model}, path="/v1/messages/count_tokens").json()["input_tokens"]
        assert 40 <= estimate <= 80
    upstream.answer = lambda _: up.anthropic_error(529, "overloaded_error", "Overloaded")
    assert 40 <= pooled.ask(body, path="/v1/messages/count_tokens").json()["input_tokens"] <= 80


def test_models_are_listed_for_discovery(poolless):
    """GET /v1/models lists the models, with ids that Claude Code's discovery keeps, in Anthropic's shape."""
    headers = {
        "authorization": f"Bearer {STATIC_TOKEN}",
        "anthropic-version": "2023-06-01",
        "user-agent": "claude-code/2.1.197",
    }
    answer = httpx.get(f"{poolless.url}/v1/models?limit=1000", headers=headers, trust_env=False)
    ids = [model["id"] for model in answer.json()["data"]]
    assert answer.status_code == 200
    assert all(model.startswith("claude") for model in ids)
    assert {"claude-demo", "claude-keyed", "claude-proxy/glm", "claude-sonnet-5-5"} <= set(ids)


@pytest.mark.parametrize("stream", [False, True])
def test_a_listed_model_answers_under_its_listed_name(poolless, upstream, stream):
    """The id from the list may be asked for: the model behind it answers, under that id, and its tokens are counted."""
    for model, text in (("claude-proxy/glm", "from glm"), ("claude-proxy/gpt", "from gpt")):
        answer = poolless.ask(question(model, stream=stream))
        assert (answer.status_code, answer_text(answer)) == (200, text)
        assert f'"model":"{model}"' in answer.text.replace('": "', '":"')
    assert upstream.seen[0].json["model"] == "glm-5"
    assert poolless.ask(question("claude-proxy/glm"), path="/v1/messages/count_tokens").json()["input_tokens"] > 0


def test_canary_no_claude_credential_reaches_anybody_else(start_proxy, upstream):
    """On every route, to every provider, on first attempts, fallbacks and counts, only Claude's host sees Claude credentials.

    And no answer and no log holds any secret of the run, an upstream that echoes all it saw included.
    """
    claude_secrets = [*TOKENS.values(), API_KEY, CLIENT_TOKEN, "sk-ant-api03-made-up-deployment"]
    secrets = [*claude_secrets, *PROVIDER_KEYS.values(), STATIC_TOKEN, MASTER_KEY]
    proxy: Proxy = start_proxy(CLAUDE_API_KEYS=API_KEY, LITELLM_LOG="DEBUG")

    def echo(seen: up.Seen) -> up.Reply:
        return up.anthropic_error(400, "invalid_request_error", f"you sent {seen.headers}")

    def limited(_: up.Seen) -> up.Reply:
        return up.anthropic_error(429, "rate_limit_error", "limit", retry_after="1")

    models = [
        "glm",
        "gpt",
        "gpt-codex",
        "claude-looks-like-it",
        "claude-fallback-fast-x",
        "anthropic/claude-x",
        "keyless",
        "demo",
    ]
    own = [
        {"authorization": f"Bearer {CLIENT_TOKEN}"},
        {"x_api_key": API_KEY, "x_claude_token_mode": "passthrough"},
        {"api_key": CLIENT_TOKEN, "x_goog_api_key": CLIENT_TOKEN, "x_other": CLIENT_TOKEN, "cookie": f"t={CLIENT_TOKEN}"},
        {"authorization": f"bearer {CLIENT_TOKEN}", "x_claude_token_mode": "passthrough"},
    ]
    texts = []
    for answers in ({}, {"claude": limited}, {"claude": echo, "glm": echo, "gpt": echo}):
        upstream.answer = by_provider(**answers)
        for model, headers, stream in itertools.product(models, own, (False, True)):
            answer = proxy.ask(question(model, stream=stream), path="/v1/messages?beta=true", **headers)
            texts.append(f"{answer.headers} {answer.text}")
        for path, headers in itertools.product([*CLOSED, *ADMINISTRATION, "/v1/messages/count_tokens", "/health"], own):
            texts.append(proxy.ask(question("glm"), path=path, token=MASTER_KEY, **headers).text)
    assert any(seen.is_claude for seen in upstream.seen)
    others = [seen for seen in (*upstream.seen, *upstream.listed) if not seen.is_claude]
    assert len(others) > 50
    leaked = {(seen.path, secret) for seen in others for secret in claude_secrets if secret in seen.everything}
    assert leaked == set()
    assert {secret for secret in (STATIC_TOKEN, MASTER_KEY) for seen in upstream.seen if secret in seen.everything} == set()
    assert {secret for secret in secrets for text in texts if secret in text} == set()
    proxy.stop()
    assert "claude_proxy" in proxy.output or "LiteLLM" in proxy.output
    assert {secret for secret in secrets if secret in proxy.output} == set()
