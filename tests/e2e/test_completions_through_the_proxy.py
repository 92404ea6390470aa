"""What comes back from providers whose format LiteLLM alone knows, and what they are sent, through the real proxy."""

import itertools
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import search_upstream as engine
import upstream as up
from conftest import CONFIG, proxy_environment
from native_upstream import CACHED, FORMATS, INPUT, OUTPUT, Native
from processes import STATIC_TOKEN, Proxy, question
from stream_validator import read_message

EVERYBODY = pytest.mark.parametrize("native", [*FORMATS.values()], ids=[*FORMATS])
STREAMS = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
# Each format's own words for why it ended; where it has none there is no case.
ENDS = [
    pytest.param(native, end, reason, id=f"{name}-{reason}")
    for name, native in FORMATS.items()
    for end, reason in zip(native.ends, ("end_turn", "max_tokens", "refusal"), strict=True)
    if end is not None
]
TOOLS = [
    {"name": name, "description": "d", "input_schema": {"type": "object", "properties": {"path": {"type": "string"}}}}
    for name in ("Read", "Look")
]
PNG = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
PDF = {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}
CALLS = ("Read", {"path": "/a"}), ("Look", {"path": "/b"})
ENTRIES = "".join(f"\n  - model_name: {one.name}\n    litellm_params: {one.params}" for one in FORMATS.values())
# Two deployments of one name, and Claude with a fallback of each format.
ENTRIES += f"\n  - model_name: shared\n    litellm_params: {FORMATS['ollama'].params}"
ENTRIES += f"\n  - model_name: shared\n    litellm_params: {FORMATS['gemini'].params}"
RULES = "".join(f"\n    - claude-then-{name}-*: [{name}]" for name in FORMATS)


@pytest.fixture(scope="module")
def search() -> Iterator[up.Upstream]:
    """A search endpoint that finds one page."""
    server = up.Upstream(lambda _: engine.results("searxng", engine.PEARS))
    yield server
    server.close()


@pytest.fixture(scope="module")
def proxy(shared_upstream: up.Upstream, search: up.Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """The module's one proxy; the Responses API has OpenAI's own host, which is reached through a proxy of the environment."""
    url = shared_upstream.other_url
    config = CONFIG.format(url=url).replace(
        "\nrouter_settings:\n  fallbacks:", f"{ENTRIES}\nrouter_settings:\n  fallbacks:{RULES}"
    )
    config = config.replace("URL/", f"{url}/") + engine.config("searxng", search.other_url)
    environment = proxy_environment(shared_upstream) | {
        "HTTP_PROXY": url,
        "NO_PROXY": "127.0.0.1",
        "MADE_UP_SEARCH_KEY": engine.KEY,
    }
    running = Proxy(tmp_path_factory.mktemp("natives"), config, **environment).wait_ready()
    yield running
    running.stop()


Answer = Callable[[up.Seen, Native], up.Reply]


def native_of(seen: up.Seen) -> Native:
    """Whose request it is, by the first part of its path; OpenAI's has a path of its own."""
    return FORMATS.get(seen.path.split("/")[1], FORMATS["codex"])


def answering(answer: Answer, claude: Callable[[up.Seen], up.Reply] | None = None) -> Callable[[up.Seen], up.Reply]:
    def reply(seen: up.Seen) -> up.Reply:
        if seen.path == "/v1/messages":
            return claude(seen) if claude else up.anthropic_reply(seen, up.text("from claude"))
        if seen.path.endswith("/api/show"):  # LiteLLM asks Ollama what a model can do
            return up.Reply(404)
        return answer(seen, native_of(seen))

    return reply


def ask(proxy: Proxy, model: str, *, stream: bool, **more: Any) -> httpx.Response:
    return proxy.ask(question(model, stream=stream, **({"tools": TOOLS} | more)))


def message_of(answer: httpx.Response) -> dict[str, Any]:
    if "event-stream" in answer.headers["content-type"]:
        found: dict[str, Any] = read_message(answer.content)
        return found
    whole: dict[str, Any] = answer.json()
    return whole


@EVERYBODY
@STREAMS
def test_calls_side_by_side(proxy, upstream, native, stream):
    """Each call has its own arguments and an id that no other has, its counts are the provider's, and thinking stays out."""
    blocks = [up.thinking("hm hm"), up.text("one"), *(up.tool(*call) for call in CALLS)]
    upstream.answer = answering(lambda seen, _: native.reply(seen, *blocks))
    found = [message_of(ask(proxy, native.name, stream=stream)) for _ in range(2)]
    for message in found:
        assert [block["type"] for block in message["content"]] == ["text", "tool_use", "tool_use"], message
        assert [(block["name"], block["input"]) for block in message["content"][1:]] == [*CALLS]
        assert (message["stop_reason"], message["model"]) == ("tool_use", native.name)
        usage, cached = message["usage"], CACHED if native.caches else 0
        assert (usage["input_tokens"], usage["cache_read_input_tokens"], usage["output_tokens"]) == (
            INPUT - cached,
            cached,
            OUTPUT,
        )
        assert "hm hm" not in json.dumps(message)
    ids = [block["id"] for block in found[0]["content"][1:]]
    assert len(set(ids)) == 2


@EVERYBODY
@STREAMS
def test_an_id_that_the_conversation_has(proxy, upstream, native, stream):
    """A call gets an id that no call before it has, whatever the provider says."""
    upstream.answer = answering(lambda seen, _: native.reply(seen, up.text("one"), up.tool("Read", {"path": "/a"})))
    messages: list[dict[str, Any]] = [{"role": "user", "content": "look"}]
    for _ in range(3):
        content = message_of(ask(proxy, native.name, stream=stream, messages=messages))["content"]
        results = [{"type": "tool_result", "tool_use_id": content[1]["id"], "content": "seen"}]
        messages += [{"role": "assistant", "content": content}, {"role": "user", "content": results}]
    ids = [turn["content"][1]["id"] for turn in messages if turn["role"] == "assistant"]
    assert len(set(ids)) == 3
    assert upstream.asked[-1].everything.count("seen") == 2


@pytest.mark.parametrize(("native", "end", "reason"), ENDS)
@STREAMS
def test_why_a_response_ended(proxy, upstream, native, stream, end, reason):
    """The provider's own word for it becomes Anthropic's. LiteLLM keeps the text of a refused whole response of Gemini's."""
    upstream.answer = answering(lambda seen, _: native.reply(seen, up.text("one"), end=end))
    found = message_of(ask(proxy, native.name, stream=stream))
    content = [] if (native.name, reason, stream) == ("gemini", "refusal", False) else [up.text("one")]
    assert (found["content"], found["stop_reason"]) == (content, reason)


@EVERYBODY
@pytest.mark.parametrize("blocks", [[up.text("I will now wri")], [up.text("one"), up.tool("Read", {"path": "/a"})]])
def test_half_a_stream_is_an_error(proxy, upstream, native, blocks):
    """What the client has of it stays, and an error event ends it."""
    upstream.answer = answering(lambda seen, _: native.reply(seen, *blocks, end=None))
    answer = ask(proxy, native.name, stream=True)
    assert answer.status_code == 200
    assert read_message(answer.content)["type"] == "error"


@pytest.mark.parametrize("native", [one for one in FORMATS.values() if one.failure], ids=lambda one: one.name)
@STREAMS
def test_an_end_that_is_a_failure(proxy, upstream, native, stream):
    """A response that the provider gave up is an error, and no answer; before any word of it with a status."""
    upstream.answer = answering(lambda seen, _: native.reply(seen, end=native.failure))
    answer = ask(proxy, native.name, stream=stream)
    assert (answer.status_code, answer.json()["error"]["type"]) == (502, "api_error"), answer.text
    upstream.answer = answering(lambda seen, _: native.reply(seen, up.text("one"), end=native.failure))
    answer = ask(proxy, native.name, stream=stream)
    assert (read_message(answer.content) if stream else answer.json())["type"] == "error"


@EVERYBODY
@STREAMS
@pytest.mark.parametrize(
    ("status", "kind"), [(400, "invalid_request_error"), (429, "rate_limit_error"), (503, "overloaded_error")]
)
def test_an_error_at_once_has_a_status(proxy, upstream, native, stream, status, kind):
    """It arrives in Anthropic's shape, in the provider's words alone, and says when to come back."""
    upstream.answer = answering(lambda _, __: native.error(status, "made up words", **{"retry-after": "4711"}))
    answer = ask(proxy, native.name, stream=stream)
    assert (answer.status_code, answer.json()) == (
        status, {"type": "error", "error": {"type": kind, "message": "made up words"}}
    ), answer.text  # fmt: skip
    assert (answer.headers.get("retry-after"), "litellm" in answer.text.lower()) == ("4711", False)


@EVERYBODY
@STREAMS
def test_pictures_and_files(proxy, upstream, native, stream):
    """A picture and a PDF arrive where the provider takes them, in a tool's result too; else the model reads a sentence."""
    upstream.answer = answering(lambda seen, _: native.reply(seen, up.text("seen")))
    shown = [{"type": "image", "source": PNG}, {"type": "document", "source": PDF, "title": "report"}]
    messages = [
        {"role": "user", "content": [up.text("look"), *shown]},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1", "name": "Read", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": [up.text("r"), *shown]}]},
    ]
    assert ask(proxy, native.name, stream=stream, messages=messages).status_code == 200
    sent = upstream.asked[-1].everything
    assert (sent.count(PNG["data"]), sent.count(PDF["data"])) == (2, 2 if native.files else 0)
    assert sent.count("cannot read it") == (0 if native.files else 2)


@EVERYBODY
def test_a_client_that_leaves(proxy, upstream, native):
    """The provider's work on a stream ends with its client."""
    ended = threading.Event()

    def endless(seen: up.Seen) -> Iterator[bytes]:
        begun = native.reply(seen, up.text("word "), end=None).chunks
        try:
            yield from itertools.chain(begun or (), itertools.repeat([*(begun or ())][-1]))
        finally:
            ended.set()

    upstream.answer = answering(lambda seen, _: up.Reply(headers=native.events, chunks=endless(seen)))
    headers = {"x-litellm-api-key": STATIC_TOKEN}
    with httpx.Client(trust_env=False, timeout=60) as client:
        asked = client.stream("POST", f"{proxy.url}/v1/messages", json=question(native.name, stream=True), headers=headers)
        with asked as answer:
            assert next(answer.iter_bytes())
    assert ended.wait(60)


@EVERYBODY
@STREAMS
def test_a_search_of_the_web(proxy, upstream, search, native, stream):
    """A model whose provider has no search gets the proxy's: one message with the search and what it found."""
    read = engine.PEARS["text"]

    def model(seen: up.Seen, _: Native) -> up.Reply:
        called = up.tool("web_search", {"query": "ripe pears"})
        return native.reply(seen, up.text("they are ripe") if read in seen.everything else called)

    upstream.answer = answering(model)
    search.seen.clear()
    found = message_of(ask(proxy, native.name, stream=stream, tools=[{"type": "web_search_20250305", "name": "web_search"}]))
    kinds = [block["type"] for block in found["content"]]
    assert (kinds, found["stop_reason"]) == (["server_tool_use", "web_search_tool_result", "text"], "end_turn")
    assert found["content"][1]["content"][0]["url"] == engine.PEARS["url"]
    assert found["usage"]["server_tool_use"] == {"web_search_requests": 1}
    assert [engine.query("searxng", seen) for seen in search.seen] == ["ripe pears"]


@EVERYBODY
@STREAMS
def test_claude_falls_back(proxy, upstream, native, stream):
    """Where Claude is overloaded, another format answers under the name that was asked for."""
    upstream.answer = answering(
        lambda seen, _: native.reply(seen, up.text("instead")),
        claude=lambda _: up.anthropic_error(529, "overloaded_error", "busy"),
    )
    found = message_of(ask(proxy, f"claude-then-{native.name}-5", stream=stream))
    assert (found["content"], found["model"]) == ([up.text("instead")], f"claude-then-{native.name}-5")


@STREAMS
def test_several_deployments_of_one_name(proxy, upstream, stream):
    """Where one fails, another of another format answers, with a request in its own."""
    upstream.answer = answering(
        lambda seen, native: native.error(503, "busy") if native.name == "ollama" else native.reply(seen, up.text("gemini"))
    )
    for _ in range(4):
        found = message_of(ask(proxy, "shared", stream=stream))
        assert found["content"] == [up.text("gemini")]


@STREAMS
def test_a_schema_for_the_answer_and_a_choice_of_tool(proxy, upstream, stream):
    """Structured outputs, stop sequences and a tool that is chosen arrive in Gemini's words."""
    native = FORMATS["gemini"]
    upstream.answer = answering(lambda seen, _: native.reply(seen, up.text("{}")))
    schema = {"type": "object", "properties": {"title": {"type": "string"}}, "additionalProperties": False}
    wanted = {"format": {"type": "json_schema", "schema": schema}}
    more = {"output_config": wanted, "stop_sequences": ["END"], "top_k": 3, "tool_choice": {"type": "tool", "name": "Look"}}
    assert ask(proxy, "gemini", stream=stream, **more).status_code == 200
    sent = upstream.asked[-1].json
    config = sent["generationConfig"]
    assert (config["stop_sequences"], config["top_k"], config["max_output_tokens"]) == (["END"], 3, 100)
    assert config["response_mime_type"] == "application/json"
    assert sent["toolConfig"]["functionCallingConfig"]["allowed_function_names"] == ["Look"]
