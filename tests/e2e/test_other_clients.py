"""Clients with OpenAI's API through the real proxy, with OpenAI's own SDK: models, tools, errors, credentials, usage."""

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import upstream as up
from conftest import CLIENT_TOKEN, CONFIG, by_provider, proxy_environment
from processes import MASTER_KEY, Proxy

from claude_proxy.config.openai_routes import KEY

KEYS = {"one": "sk-ant-api03-made-up-one", "two": "sk-ant-api03-made-up-two"}
SUBSCRIPTION = "sk-ant-oat01-made-up-subscription"
# Without a restriction, a credential has no groups.
CREDENTIALS = "credentials:\n- {label: team, secret: sk-ant-oat01-made-up-team, groups: [team]}\n"
USERS = ("anna", "ben", "carla", "dora", "eve")
BLOCK = """
claude_proxy:
  openai_routes: true
  fetch_hosts: [images.example.org]
  users:
    ben: {models: ["gpt"]}
    carla: {groups: [team]}
    dora: {budget: {day: 0.01}}
  prices:
    gpt: {input: 1000, output: 1000}
    "claude-*": {input: 0, output: 0}
"""
MODELS = """  - model_name: embed
    litellm_params: {{model: openai/text-embed, api_base: "{url}/openai/v1", api_key: os.environ/OPENAI_API_KEY}}
"""
TOOL = {
    "type": "function",
    "function": {"name": "read", "parameters": {"type": "object", "properties": {"path": {"type": "string"}}}},
}
STREAMS = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
ANY_MODEL = pytest.mark.parametrize("model", ["gpt", "glm", "claude-sonnet-5-5"])
ASKED: list[dict[str, Any]] = [{"role": "user", "content": "hello"}]


def token_of(user: str) -> str:
    return f"made-up-token-of-{user}-0123456789"


def embeddings(seen: up.Seen) -> up.Reply:
    if not seen.path.endswith("/embeddings"):
        return up.openai_reply(seen, up.text("from gpt"))
    data = [{"object": "embedding", "index": 0, "embedding": [0.5] * 64}]
    whole = {"object": "list", "data": data, "model": "text-embed", "usage": {"prompt_tokens": 3, "total_tokens": 3}}
    return up.Reply(headers={"content-type": "application/json"}, body=json.dumps(whole).encode())


@pytest.fixture(scope="module")
def proxy(shared_upstream: up.Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """A module's proxy with two API keys, a subscription that is never used here, and one of a group."""
    home = tmp_path_factory.mktemp("openai")
    (home / "credentials.yaml").write_text(CREDENTIALS)
    (home / "credentials.yaml").chmod(0o600)
    config = CONFIG.replace("\nrouter_settings:", f"\n{MODELS}router_settings:", 1).format(url=shared_upstream.other_url)
    environment = proxy_environment(shared_upstream) | {
        "CLAUDE_OAUTH_TOKENS": f"subscription={SUBSCRIPTION}",
        "CLAUDE_API_KEYS": ",".join(f"{label}={key}" for label, key in KEYS.items()),
        "PROXY_USER_TOKENS": ",".join(f"{user}={token_of(user)}" for user in USERS),
    }
    running = Proxy(home, config + BLOCK, **environment).wait_ready()
    yield running
    running.stop()


class Clients:
    """The SDK's clients of one test, and the requests that the proxy lists since its beginning."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._opened: list[httpx.Client] = []
        self._known = {request["id"] for request in self._listed("")}

    def __call__(self, user: str = "anna", **more: Any) -> openai.OpenAI:
        """A client with a user's token."""
        self._opened.append(httpx.Client(trust_env=False, timeout=60))
        own = {
            "base_url": f"{self._proxy.url}/v1",
            "api_key": token_of(user),
            "max_retries": 0,
            "http_client": self._opened[-1],
        }
        return openai.OpenAI(**(own | more))

    def latest(self, user: str = "anna") -> dict[str, Any]:
        """The request of a user that ended since the last call; its record comes after its response has left."""
        poll = threading.Event()
        for _ in range(1000):
            if new := [request for request in self._listed(user) if request["id"] not in self._known]:
                self._known |= {request["id"] for request in new}
                return new[0]
            poll.wait(0.02)
        raise AssertionError(self._proxy.output)

    def _listed(self, user: str) -> list[dict[str, Any]]:
        parameters = {"user": user} if user else {}
        headers = {"x-litellm-api-key": MASTER_KEY}
        found = httpx.get(f"{self._proxy.url}/pool/requests", params=parameters, headers=headers, trust_env=False)
        return list(found.json()["requests"])

    def close(self) -> None:
        for one in self._opened:
            one.close()


@pytest.fixture
def client(proxy: Proxy, upstream: up.Upstream) -> Iterator[Clients]:
    """The clients of a test. After it: no subscription was used, and no token of the proxy has left it."""
    clients = Clients(proxy)
    yield clients
    clients.close()
    for seen in upstream.seen:
        assert "sk-ant-oat" not in seen.everything
        assert "made-up-token-of" not in seen.everything
        assert "sk-ant-" not in seen.everything or seen.is_claude


def text_and_calls(answer: Any, *, stream: bool) -> tuple[str, str, list[tuple[str, str]], str]:
    """The text, the arguments of calls and the end of a chat completion, whole or streamed; and its model's name."""
    if not stream:
        (choice,) = answer.choices
        calls = [(call.function.name, call.function.arguments) for call in choice.message.tool_calls or ()]
        return choice.message.content or "", choice.finish_reason, calls, answer.model
    words, ends, model, named, arguments = "", "", "", [], ""
    for chunk in answer:
        model = chunk.model
        for choice in chunk.choices:
            words += choice.delta.content or ""
            ends = choice.finish_reason or ends
            for call in choice.delta.tool_calls or ():
                named += [call.function.name] if call.function.name else []
                arguments += call.function.arguments or ""
    return words, ends, [(name, arguments) for name in named], model


@ANY_MODEL
@STREAMS
def test_a_chat_completion(client, upstream, model, stream):
    """Text and a tool's call arrive from providers of either format, under the requested name, and the usage is recorded."""
    call = up.tool("read", {"path": "/a"})
    upstream.answer = by_provider(
        claude=lambda seen: up.anthropic_reply(seen, up.text("looking"), call),
        glm=lambda seen: up.anthropic_reply(seen, up.text("looking"), call),
        gpt=lambda seen: up.openai_reply(seen, up.text("looking"), call),
    )
    answer = client().chat.completions.create(model=model, messages=ASKED, tools=[TOOL], stream=stream)
    words, ends, calls, named = text_and_calls(answer, stream=stream)
    assert (words, ends, named) == ("looking", "tool_calls", model)
    assert [(name, json.loads(arguments)) for name, arguments in calls] == [("read", {"path": "/a"})]
    (seen,) = upstream.asked
    assert seen.is_claude == model.startswith("claude")
    assert seen.credential in {*KEYS.values(), "made-up-zai-key-0123", "made-up-openai-key-0123"}
    found = client.latest()
    assert (found["requested"], found["status"], found["input"], found["output"]) == (model, 200, 10, 5)


@STREAMS
@pytest.mark.parametrize("model", ["gpt", "claude-sonnet-5-5"])
def test_a_response(client, upstream, model, stream):
    """The Responses API is served by models that have only chat completions or messages, whole and as events."""
    answer = client().responses.create(model=model, input="hello", instructions="be brief", stream=stream)
    if stream:
        events = list(answer)
        assert "".join(event.delta for event in events if event.type == "response.output_text.delta")
        assert events[-1].type == "response.completed"
        answer = events[-1].response
    assert answer.output_text == ("from gpt" if model == "gpt" else "from claude")
    assert (answer.model, answer.usage.input_tokens, answer.usage.output_tokens) == (model, 10, 5)
    (seen,) = upstream.asked
    assert seen.path == ("/openai/v1/chat/completions" if model == "gpt" else "/v1/messages")
    found = client.latest()
    assert (found["requested"], found["input"], found["output"]) == (model, 10, 5)


def test_a_conversation_with_calls(client, upstream):
    """The calls and results of a conversation reach Claude as its own, in chat completions and in responses."""
    chat = [
        *ASKED,
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "read", "arguments": '{"path": "/a"}'}}],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "alpha"},
    ]
    items = [
        *ASKED,
        {"type": "function_call", "call_id": "call_1", "name": "read", "arguments": '{"path": "/a"}'},
        {"type": "function_call_output", "call_id": "call_1", "output": "alpha"},
    ]
    flat = {"type": "function"} | TOOL["function"]
    claude = client()
    claude.chat.completions.create(model="claude-sonnet-5-5", messages=chat, tools=[TOOL])
    claude.responses.create(model="claude-sonnet-5-5", input=items, tools=[flat])
    for seen in upstream.asked:
        assert [turn["role"] for turn in seen.json["messages"]] == ["user", "assistant", "user"]
        assert seen.json["messages"][1]["content"][-1]["input"] == {"path": "/a"}
        assert seen.json["messages"][2]["content"][0]["type"] == "tool_result"
    assert len(upstream.asked) == 2


def test_embeddings(client, upstream):
    """Embeddings are counted by their input alone; a model of messages makes none."""
    upstream.answer = by_provider(gpt=embeddings)
    found = client().embeddings.create(model="embed", input="hello", encoding_format="float")
    assert (len(found.data[0].embedding), found.model) == (64, "embed")
    counted = client.latest()
    assert (counted["input"], counted["output"]) == (3, 0)
    with pytest.raises(openai.BadRequestError, match="makes no embeddings"):
        client().embeddings.create(model="claude-sonnet-5-5", input="hello")


def test_the_usage_of_a_stream_is_for_who_asks(client, upstream):
    """A stream ends with a chunk of its usage if the client asked for one, and is counted either way."""
    for asked in (False, True):
        more = {"stream_options": {"include_usage": True}} if asked else {}
        chunks = list(client().chat.completions.create(model="gpt", messages=ASKED, stream=True, **more))
        assert [chunk.usage.total_tokens for chunk in chunks if chunk.usage] == ([15] if asked else [])
        counted = client.latest()
        assert (counted["input"], counted["output"]) == (10, 5)
    assert all(seen.json["stream_options"] == {"include_usage": True} for seen in upstream.asked)


def test_models(client):
    """The list of models is readable for these clients."""
    assert "claude-proxy/gpt" in {model.id for model in client().models.list()}


def test_claude_is_asked_with_every_api_key(client, upstream):
    """A rate-limited key is left for the next one; the subscription of the pool is not used when both are."""

    def limited(seen: up.Seen) -> up.Reply:
        if seen.credential == KEYS["two"] or len(upstream.asked) > 2:
            return up.anthropic_reply(seen, up.text("from two"))
        return up.anthropic_error(429, "rate_limit_error", "too many", retry_after="1")

    upstream.answer = by_provider(claude=limited)
    for _ in range(2):
        answer = client().chat.completions.create(model="claude-sonnet-5-5", messages=ASKED)
        assert answer.choices[0].message.content == "from two"
    assert {seen.credential for seen in upstream.asked} <= {*KEYS.values()}


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_a_subscription_serves_no_other_client(client, upstream, api):
    """A user whose credentials are subscriptions is refused in words; a fallback of another provider responds."""
    carla = client("carla")
    create: Callable[..., Any] = carla.chat.completions.create if api == "chat" else carla.responses.create
    asked = {"messages": ASKED} if api == "chat" else {"input": "hello"}
    for stream in (False, True):
        with pytest.raises(openai.PermissionDeniedError, match="a subscription to Claude serves Claude Code alone"):
            create(model="claude-sonnet-5-5", stream=stream, **asked)
    answer = create(model="claude-fallback-1", **asked)
    assert (answer.choices[0].message.content if api == "chat" else answer.output_text) == "from glm"
    assert not any(seen.is_claude for seen in upstream.asked)


def test_a_login_of_the_client_goes_nowhere(client, upstream):
    """A client's own Claude login is neither used for Claude nor sent to another provider."""
    with_login = {"x-litellm-api-key": token_of("anna"), "anthropic-beta": "oauth-2025-04-20", "x-made-up": "header"}
    for model in ("gpt", "claude-sonnet-5-5"):
        own = client(api_key=CLIENT_TOKEN, default_headers=with_login)
        assert own.chat.completions.create(model=model, messages=ASKED).choices
    assert all("oauth" not in seen.everything and "x-made-up" not in seen.everything for seen in upstream.asked)
    assert len(upstream.asked) == 2


def test_fields_for_litellm_do_nothing(client, upstream):
    """No field but those of OpenAI's API has an effect: no address, key, fallback, answer or tag of the client's."""
    strange = {
        "api_base": "http://127.0.0.1:9", "base_url": "http://127.0.0.1:9", "api_key": "made-up", "mock_response": "made up",
        "fallbacks": [{"model": "glm"}], "metadata": {"tags": ["a"]}, "litellm_metadata": {"a": 1}, "tags": ["a"],
        "callbacks": ["langfuse"], "guardrails": ["a"], "user": "made-up-user", "extra_headers": {"x-made-up": "a"},
        "custom_llm_provider": "groq", "model_list": [], "num_retries": 9, "timeout": 0.0001, "store": True,
    }  # fmt: skip
    answer = client().chat.completions.create(model="gpt", messages=ASKED, extra_body=strange)
    assert answer.choices[0].message.content == "from gpt"
    (seen,) = upstream.asked
    assert set(seen.json) == {"model", "messages"}
    assert "x-made-up" not in seen.everything


@pytest.mark.parametrize(
    ("refused", "words"),
    [
        ({"previous_response_id": "resp_1"}, "stores no responses"),
        ({"extra_body": {"conversation": "conv_1"}}, "stores no conversations"),
        ({"background": True}, "background"),
        ({"tools": [{"type": "mcp", "server_label": "a", "server_url": "litellm_proxy"}]}, "'mcp' is not served"),
        ({"tools": [{"type": "file_search", "vector_store_ids": ["vs_1"]}]}, "'file_search' is not served"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "stores no items"),
        ({"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "file_1"}]}]}, "stored at a provider"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "http://127.0.0.1/a"}]}]},
            "fetch_hosts",
        ),
    ],
)
def test_what_is_stored_or_fetched(client, upstream, refused, words):
    """Nothing that a provider or another user has stored is read, and nothing is fetched that config.yaml does not allow."""
    with pytest.raises(openai.BadRequestError, match=words):
        client().responses.create(**({"model": "gpt", "input": "hello"} | refused))
    assert not upstream.asked


def test_errors_have_the_shape_of_the_api(client, upstream):
    """A wrong token, a model that is forbidden or unknown, and a provider's error have type, code and message."""

    def error(exception: type[openai.APIStatusError], user: str, model: str, **more: Any) -> Any:
        with pytest.raises(exception) as caught:
            client(user, **more).chat.completions.create(model=model, messages=ASKED)
        assert set(caught.value.body or ()) == {"message", "type", "param", "code"}
        return caught.value

    wrong = error(openai.AuthenticationError, "anna", "gpt", api_key="sk-made-up-wrong")
    assert (wrong.code, "as the API key of your client" in wrong.message) == ("invalid_api_key", True)
    assert "ben may not use claude-sonnet-5-5" in error(openai.PermissionDeniedError, "ben", "claude-sonnet-5-5").message
    assert error(openai.NotFoundError, "anna", "unheard-of").code == "model_not_found"
    upstream.answer = by_provider(
        gpt=lambda _: up.Reply(429, {"content-type": "application/json", "retry-after": "7"}, b'{"error":{"message":"slow"}}')
    )
    limited = error(openai.RateLimitError, "anna", "gpt")
    assert (limited.code, limited.response.headers["retry-after"]) == ("rate_limit_exceeded", "7")
    assert "Model Group" not in limited.message
    assert "litellm" not in limited.message


def test_a_spent_budget(client, upstream):
    """What a request costs is counted, streamed or not, and the next one is refused until the budget resets."""
    dora = client("dora")
    assert list(dora.chat.completions.create(model="gpt", messages=ASKED, stream=True))
    with pytest.raises(openai.RateLimitError) as caught:
        dora.responses.create(model="gpt", input="hello")
    assert caught.value.code == "insufficient_quota"
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert int(caught.value.response.headers["retry-after"]) > 0
    assert "daily budget" in caught.value.message
    assert len(upstream.asked) == 1


@pytest.mark.parametrize("model", ["gpt", "claude-sonnet-5-5"])
@pytest.mark.parametrize("api", ["chat", "responses"])
def test_a_stream_that_breaks_off(client, upstream, model, api):
    """A stream that its provider cuts ends with an error, never as if it were whole."""

    def cut(seen: up.Seen) -> up.Reply:
        whole = (up.openai_reply if model == "gpt" else up.anthropic_reply)(seen, up.text("half of it"))

        def chunks() -> Iterator[bytes]:
            yield from list(whole.chunks or ())[:3]
            arrived.wait(60)

        return up.Reply(headers=whole.headers, chunks=chunks(), drop=True)

    arrived = threading.Event()
    upstream.answer = by_provider(claude=cut, gpt=cut)
    events = []

    def read(stream: Iterable[Any]) -> None:
        for event in stream:
            events.append(event)
            if event.choices[0].delta.content if api == "chat" else event.type == "response.output_text.delta":
                arrived.set()

    if api == "chat":
        with pytest.raises(openai.APIError, match="broke off"):
            read(client().chat.completions.create(model=model, messages=ASKED, stream=True))
    else:
        read(client().responses.create(model=model, input="hello", stream=True))
        assert events[-1].type == "response.failed"
        assert "broke off" in events[-1].response.error.message
    assert client.latest()["error"]


@pytest.mark.parametrize("model", ["gpt", "claude-sonnet-5-5"])
def test_a_client_that_leaves(client, upstream, model):
    """The provider's response ends when the client disconnects, and the request is listed with what it used."""
    closed = threading.Event()

    def endless(seen: up.Seen) -> up.Reply:
        whole = (up.openai_reply if model == "gpt" else up.anthropic_reply)(seen, up.text("words "))
        first, *rest = whole.chunks or ()

        def chunks() -> Iterator[bytes]:
            try:
                yield first
                delta = next(chunk for chunk in rest if b"wor" in chunk)
                yield from rest[: rest.index(delta)]
                for _ in range(1_000_000):
                    yield delta
            finally:
                closed.set()

        return up.Reply(headers=whole.headers, chunks=chunks())

    upstream.answer = by_provider(claude=endless, gpt=endless)
    stream = client("eve").chat.completions.create(model=model, messages=ASKED, stream=True)
    assert next(chunk for chunk in stream if chunk.choices and chunk.choices[0].delta.content)
    stream.close()
    assert closed.wait(60)
    assert client.latest("eve")["status"] == 499


def test_the_word_in_the_configuration(proxy, upstream):
    """Without the word the routes do not exist, and say which word opens them; a change applies while the proxy runs."""
    path = proxy.home / "config.yaml"
    opened = path.read_text()

    def put(text: str) -> None:
        part = Path(f"{path}.new")
        part.write_text(text)
        part.replace(path)

    def status() -> int:
        answer = proxy.ask({"model": "gpt", "messages": ASKED}, "/v1/chat/completions", token_of("anna"))
        assert answer.status_code == 200 or answer.json()["error"]["message"].endswith(
            f"/v1/chat/completions is off: set {KEY}: true under claude_proxy in config.yaml."
        )
        return answer.status_code

    def until(expected: int) -> None:
        poll = threading.Event()
        for _ in range(300):
            if status() == expected:
                return
            poll.wait(0.1)
        raise AssertionError(proxy.output)

    assert status() == 200
    put(opened.replace(f"  {KEY}: true\n", ""))
    until(404)
    put(opened)
    until(200)
