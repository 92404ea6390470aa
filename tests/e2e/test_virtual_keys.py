"""LiteLLM's own virtual keys, budgets and pages, on a real PostgreSQL."""

import base64
import json
from collections.abc import Iterator

import httpx
import pytest
import upstream as up
from conftest import API_KEY, CLIENT_TOKEN, PROVIDER_KEYS, TOKENS, by_credential, by_provider, module_proxy
from database import Postgres, client, in_time
from native_upstream import FORMATS
from processes import MASTER_KEY, STATIC_TOKEN, Proxy, answer_text, question

# Of lanes whose response LiteLLM takes for Anthropic's.
PRICED = """
  - model_name: gpt-priced
    litellm_params: {{model: openai/gpt-4o, api_base: "{url}/openai/v1", api_key: made-up}}
  - model_name: gemini-priced
    litellm_params: {{model: gemini/gemini-2.5-pro, api_base: "{url}/gemini", api_key: made-up}}
claude_proxy: {{openai_routes: true}}"""
# A model that a key may not use: after a 403 Claude Code would tell its user to log in.
DENIED = 400, "invalid_request_error"
PROMPT = "made-up words that only the model may read"


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    database = Postgres()
    yield database
    database.remove()


@pytest.fixture(scope="module")
def proxy(postgres: Postgres, shared_upstream: up.Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    variables = {
        "DATABASE_URL": postgres.url,
        "CLAUDE_PROXY_DATABASE_CLIENT": str(client()),
        # The tables are there; Prisma would want a program to look.
        "DISABLE_SCHEMA_UPDATE": "true",
        "CLAUDE_API_KEYS": API_KEY,
    }
    yield from module_proxy(shared_upstream, tmp_path_factory.mktemp("database"), models=PRICED, **variables)


def administrate(proxy: Proxy, path: str, token: str = MASTER_KEY, **body: object) -> httpx.Response:
    return httpx.post(f"{proxy.url}{path}", json=body, headers={"x-litellm-api-key": token}, trust_env=False, timeout=30)


def look(proxy: Proxy, path: str, key: str | None) -> httpx.Response:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    return httpx.get(f"{proxy.url}{path}", headers=headers, trust_env=False, timeout=30)


def new_key(proxy: Proxy, **limits: object) -> str:
    made = administrate(proxy, "/key/generate", **limits)
    assert made.status_code == 200, made.text
    return made.json()["key"]


def session_key(proxy: Proxy) -> str:
    """Sign in to LiteLLM's pages as its administrator, and return the key that the pages then use."""
    signed_in = httpx.post(
        f"{proxy.url}/v2/login", json={"username": "admin", "password": MASTER_KEY}, trust_env=False, timeout=30
    )
    payload = signed_in.json()["token"].split(".")[1]
    return json.loads(base64.urlsafe_b64decode(payload + "=="))["key"]


def error(answer: httpx.Response) -> tuple[int, str]:
    assert answer.json()["type"] == "error"
    return answer.status_code, answer.json()["error"]["type"]


def test_a_key_opens_the_models_on_its_list(proxy, upstream):
    """A virtual key works where Claude Code puts its token, for its models and for counting; another model is refused."""
    key = new_key(proxy, models=["claude-*"])
    for path in ("/v1/messages", "/v1/messages/count_tokens"):
        assert proxy.ask(question("claude-sonnet-5"), path, None, authorization=f"Bearer {key}").status_code == 200
        assert error(proxy.ask(question("glm"), path, None, authorization=f"Bearer {key}")) == DENIED
    assert {seen.path for seen in upstream.seen} == {"/v1/messages", "/v1/messages/count_tokens"}


def test_a_key_sees_the_models_on_its_list(proxy):
    """The list of models holds the key's own, and the name under which another is listed opens it no more than its own."""
    for models, names in ((["glm", "demo"], {"glm", "demo"}), (["claude-sonnet-*"], {"claude-sonnet-5-5"})):
        key = new_key(proxy, models=models)
        assert {one["display_name"] for one in look(proxy, "/v1/models", key).json()["data"]} == names
    every_claude = new_key(proxy, models=["claude-*"])
    for path in ("/v1/messages", "/v1/messages/count_tokens"):
        for name in ("claude-proxy/glm", "claude-proxy/claude-proxy/glm"):
            assert error(proxy.ask(question(name), path, every_claude)) == DENIED
        assert proxy.ask(question("claude-proxy/glm"), path, new_key(proxy, models=["glm"])).status_code == 200


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("model", ["claude-sonnet-4-5", "gpt-priced", "gemini-priced"])
def test_a_spent_budget_refuses(proxy, upstream, model, stream):
    """What an answer cost counts against its key's budget, and a key without budget left is refused before anybody is asked."""
    key, others = new_key(proxy, max_budget=0.00001), upstream.answer
    gemini = FORMATS["gemini"]
    upstream.answer = lambda seen: gemini.reply(seen, up.text("x")) if seen.path.startswith("/gemini") else others(seen)
    assert proxy.ask(question(model, stream=stream), token=key).status_code == 200
    assert in_time(lambda: proxy.ask(question(model, stream=stream), token=key).status_code == 422)
    upstream.seen.clear()
    refused = proxy.ask(question(model, stream=stream), token=key)
    assert error(refused) == (422, "invalid_request_error")
    assert "Budget has been exceeded" in refused.json()["error"]["message"]
    assert refused.headers["x-should-retry"] == "false"
    assert upstream.asked == []


def test_the_static_token_and_the_master_key_go_on(proxy):
    """A team with one token need not change anything when it turns the database on."""
    for token in (STATIC_TOKEN, MASTER_KEY):
        assert proxy.ask(question("claude-sonnet-5"), token=token).status_code == 200


def test_a_revoked_key_is_refused(proxy, upstream):
    """A deleted key and a blocked one open nothing any more."""
    deleted, blocked = new_key(proxy), new_key(proxy)
    for key in (deleted, blocked):
        assert proxy.ask(question("claude-sonnet-5"), token=key).status_code == 200
    assert administrate(proxy, "/key/delete", keys=[deleted]).status_code == 200
    assert administrate(proxy, "/key/block", key=blocked).status_code == 200
    upstream.seen.clear()
    for key in (deleted, blocked):
        assert error(proxy.ask(question("claude-sonnet-5"), token=key)) == (401, "authentication_error")
    assert upstream.asked == []


@pytest.mark.parametrize("token", ["sk-made-up-unknown-key", "made-up-and-no-key", None])
def test_an_unknown_key_is_refused(proxy, upstream, token):
    """A token that nobody knows is a 401 that Claude Code does not repeat and that says nothing about the key."""
    for path in ("/v1/messages", "/v1/messages/count_tokens"):
        refused = proxy.ask(question("claude-sonnet-5"), path, token)
        assert error(refused) == (401, "authentication_error")
        assert refused.headers["x-should-retry"] == "false"
        assert "Hash" not in refused.text
    assert upstream.asked == []


def test_the_pool_serves_a_key(proxy, upstream):
    """A key's request goes out on the pool's credentials and moves on from one that is limited."""
    limited = up.anthropic_error(429, "rate_limit_error", "limited", retry_after="1")
    upstream.answer = by_credential(a=lambda _: limited, b=lambda _: limited)
    answer = proxy.ask(question("claude-sonnet-5"), token=new_key(proxy))
    assert answer_text(answer) == "from c"


def test_a_client_credential_beside_a_key_goes_to_claude_alone(proxy, upstream):
    """With a key for the proxy and a login of their own, a person's login reaches Claude, and nobody else."""
    key = new_key(proxy)
    both = {"authorization": f"Bearer {CLIENT_TOKEN}", "x_claude_token_mode": "passthrough"}
    for model in ("claude-sonnet-5", "claude-looks-like-it", "glm", "gpt"):
        assert proxy.ask(question(model), token=key, **both).status_code == 200
    assert [CLIENT_TOKEN in seen.everything for seen in upstream.seen] == [True, False, False, False]
    assert not [seen for seen in upstream.seen if key in seen.everything]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_thinking_stays_out_of_a_key_s_conversation(proxy, upstream, stream):
    """Other providers get no thinking in a key's request, and none of theirs comes back."""
    upstream.answer = by_provider(glm=lambda seen: up.anthropic_reply(seen, up.thinking("hm"), up.text("so")))
    history = [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": [up.thinking("secret thoughts", "signed"), up.text("hi")]},
        {"role": "user", "content": "go on"},
    ]
    answer = proxy.ask(question("glm", stream=stream) | {"messages": history}, token=new_key(proxy))
    assert answer_text(answer) == "so"
    assert "thinking" not in answer.text
    assert "secret thoughts" not in upstream.seen[-1].everything


ADMINISTRATION = ["/health", "/model/info", "/v2/model/info", "/key/list", "/spend/logs", "/user/list", "/team/list", "/audit"]
ADMINISTRATION += ["/get/ui_settings"]


def test_a_key_opens_no_administration(proxy, upstream):
    """A key's holder sees their own models and spend, and neither other keys nor the configuration nor what others spent."""
    key, other = new_key(proxy), new_key(proxy)
    for path in [*ADMINISTRATION, f"/key/info?key={other}"]:
        assert error(look(proxy, path, key)) == (403, "permission_error"), path
    assert error(administrate(proxy, "/key/generate", key)) == (403, "permission_error")
    assert look(proxy, "/key/info", key).json()["info"]["spend"] == 0
    assert upstream.asked == []


def test_the_pages_are_for_administrators(proxy):
    """LiteLLM's pages open without a token, and what they show needs an administrator who has signed in."""
    assert "<html" in look(proxy, "/ui/", None).text
    session = session_key(proxy)
    assert look(proxy, "/key/list", session).status_code == 200
    assert look(proxy, "/model/info", session).status_code == 200
    for path in ADMINISTRATION:
        assert look(proxy, path, None).status_code == 401, path
        assert look(proxy, path, STATIC_TOKEN).status_code == 403, path
    wrong = httpx.post(f"{proxy.url}/v2/login", json={"username": "admin", "password": "wrong"}, trust_env=False)
    assert wrong.status_code == 401


def test_the_other_routes_stay_closed(proxy):
    """With a database, too, no route is open that the header policy does not cover."""
    for path in ("/vertex_ai/v1/x", "/mcp", "/openapi.json", "/credentials"):
        for token in (new_key(proxy), MASTER_KEY):
            assert error(proxy.ask(question("demo"), path, token)) == (404, "not_found_error"), path


@pytest.mark.parametrize("model", ["gpt", "claude-sonnet-5"])
def test_a_key_and_the_routes_of_openai(proxy, upstream, model):
    """A virtual key works on OpenAI's routes for its models, with its budget; an unknown key gets the shape of that API."""
    key = new_key(proxy, models=[model])
    chat = {"model": model, "messages": [{"role": "user", "content": "hello"}]}
    for stream in (False, True):
        assert proxy.ask(chat | {"stream": stream}, "/v1/chat/completions", key).status_code == 200
        assert proxy.ask({"model": model, "input": "hello", "stream": stream}, "/v1/responses", key).status_code == 200
    assert [seen.credential for seen in upstream.asked] == [API_KEY if model != "gpt" else PROVIDER_KEYS["OPENAI_API_KEY"]] * 4
    for body, token, status in ((chat | {"model": "glm"}, key, 403), (chat, "sk-made-up-unknown-key", 401)):
        refused = proxy.ask(body, "/v1/chat/completions", token)
        assert (refused.status_code, {*refused.json()["error"]}) == (status, {"message", "type", "param", "code"})
        assert token not in refused.text
    assert len(upstream.asked) == 4


@pytest.mark.parametrize("model", ["claude-sonnet-4-5", "gpt-priced"])
def test_a_spent_budget_on_the_routes_of_openai(proxy, upstream, model):
    """What a streamed response costs there counts against the key's budget, too; a spent one is OpenAI's error for it."""
    key = new_key(proxy, max_budget=0.00001)
    chat = {"model": model, "messages": [{"role": "user", "content": "hello"}], "stream": True}
    assert proxy.ask(chat, "/v1/chat/completions", key).status_code == 200
    assert in_time(lambda: proxy.ask(chat, "/v1/chat/completions", key).status_code == 429)
    refused = proxy.ask(chat, "/v1/chat/completions", key)
    assert (refused.json()["error"]["code"], refused.headers["x-should-retry"]) == ("insufficient_quota", "false")
    assert "Budget has been exceeded" in refused.json()["error"]["message"]


def test_no_secret_and_no_conversation_is_kept(proxy, postgres):
    """Neither the log nor the database holds a token, a key or a word of what was asked."""
    key = new_key(proxy)
    both = {"authorization": f"Bearer {CLIENT_TOKEN}"}
    for model in ("claude-sonnet-5", "glm", "gpt"):
        assert proxy.ask(question(model, PROMPT), token=key, **both).status_code == 200
    rows = 'SELECT count(*) FROM "LiteLLM_SpendLogs" WHERE spend >= 0'
    before = int(postgres.sql(rows))
    assert proxy.ask(question("glm", PROMPT), token=key).status_code == 200
    assert in_time(lambda: int(postgres.sql(rows)) > before)
    kept = postgres.everything()
    secrets = [*TOKENS.values(), API_KEY, CLIENT_TOKEN, *PROVIDER_KEYS.values(), STATIC_TOKEN, MASTER_KEY, key]
    assert [secret for secret in secrets if secret in kept or secret in proxy.output] == []
    assert PROMPT not in kept
    assert PROMPT not in proxy.output


def test_the_static_token_needs_no_database(proxy, postgres):
    """While the database is away, the team's token goes on working, and keys work again when it is back."""
    key = new_key(proxy)
    postgres.stop()
    try:
        assert proxy.ask(question("claude-sonnet-5"), token=STATIC_TOKEN).status_code == 200
    finally:
        postgres.start()
    assert in_time(lambda: proxy.ask(question("claude-sonnet-5"), token=key).status_code == 200)
