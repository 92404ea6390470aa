"""What each kind of provider is sent and what comes back from it, through the real proxy."""

import json

import pytest
import upstream as up
from conftest import CLIENT_TOKEN, CONFIG, by_provider
from processes import answer_text, question, streamed

STREAMS = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
TARGETS = pytest.mark.parametrize("model", ["glm", "gpt"])
HISTORY = [
    {"role": "user", "content": [{"type": "text", "text": "look"}]},
    {
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": "signed thought", "signature": "EqQBSIGNED=="},
            {"type": "redacted_thinking", "data": "EmRedacted=="},
            {"type": "text", "text": "looking"},
            {"type": "tool_use", "id": "toolu_1", "name": "Read", "input": {"file_path": "/a"}},
            {"type": "tool_use", "id": "toolu_2", "name": "Read", "input": {"file_path": "/b"}},
        ],
    },
    {
        "role": "user",
        "content": [
            {"type": "tool_result", "tool_use_id": "toolu_1", "content": "alpha"},
            {"type": "tool_result", "tool_use_id": "toolu_2", "content": "bravo"},
        ],
    },
    {"role": "assistant", "content": [{"type": "thinking", "thinking": "foreign thought", "signature": ""}, up.text("done")]},
    {"role": "user", "content": "and now?"},
]
TOOLS = [{"name": "Read", "description": "reads", "input_schema": {"type": "object", "properties": {"file_path": {}}}}]
THINKING = {"thinking": {"type": "enabled", "budget_tokens": 4000}, "output_config": {"effort": "high"}}


def conversation(model: str, **more: object) -> dict[str, object]:
    return question(model, **more) | {"messages": HISTORY, "tools": TOOLS, "max_tokens": 8000}


@TARGETS
@STREAMS
def test_no_thinking_leaves_for_another_provider(poolless, upstream, model, stream):
    """History and parameters reach another provider without any thinking, and every tool call with its result."""
    assert poolless.ask(conversation(model, stream=stream, **THINKING)).status_code == 200
    (seen,) = upstream.seen
    assert "thought" not in seen.everything
    assert not {"thinking", "output_config", "reasoning_effort", "reasoning", "thinking_blocks"} & set(seen.json)
    assert "thinking" not in json.dumps(seen.json)
    assert "reasoning_content" not in json.dumps(seen.json)
    assert all(name in seen.everything for name in ("toolu_1", "toolu_2", "alpha", "bravo"))


@STREAMS
def test_no_thinking_comes_back_from_the_anthropic_format(poolless, upstream, stream):
    """Thinking of another provider's does not reach the client; what stays is numbered without gaps and names the model."""
    blocks = [up.thinking("hm"), up.text("one"), up.thinking("hm", "sig"), up.tool("Read", {"file_path": "/a"})]
    upstream.answer = by_provider(glm=lambda seen: up.anthropic_reply(seen, *blocks))
    answer = poolless.ask(question("glm", stream=stream, tools=TOOLS))
    assert "hm" not in answer.text
    if stream:
        events = streamed(answer)
        assert events[0]["message"]["model"] == "glm"
        starts = [
            (event["index"], event["content_block"]["type"]) for event in events if event["type"] == "content_block_start"
        ]
        assert starts == [(0, "text"), (1, "tool_use")]
    else:
        assert [block["type"] for block in answer.json()["content"]] == ["text", "tool_use"]
        assert answer.json()["model"] == "glm"


@STREAMS
def test_no_reasoning_comes_back_from_chat_completions(poolless, upstream, stream):
    """Reasoning of an OpenAI-format provider's does not become thinking of the client's; tool calls arrive whole."""
    read = up.tool("Read", {"file_path": "/a"})
    upstream.answer = by_provider(gpt=lambda seen: up.openai_reply(seen, up.text("one"), read, reasoning="hm hm"))
    answer = poolless.ask(question("gpt", stream=stream, tools=TOOLS))
    assert answer.status_code == 200
    assert "hm hm" not in answer.text
    if stream:
        events = streamed(answer)
        starts = [
            (event["index"], event["content_block"]["type"]) for event in events if event["type"] == "content_block_start"
        ]
        assert starts == [(0, "text"), (1, "tool_use")]
        parts = [event["delta"].get("partial_json", "") for event in events if event["type"] == "content_block_delta"]
        assert json.loads("".join(parts)) == {"file_path": "/a"}
        assert events[0]["message"]["model"] == "gpt"
        assert events[-1]["type"] == "message_stop"
    else:
        assert [block["type"] for block in answer.json()["content"]] == ["text", "tool_use"]
        assert answer.json()["content"][1]["input"] == {"file_path": "/a"}


@TARGETS
@STREAMS
def test_a_response_of_only_thinking_stays_a_message(poolless, upstream, model, stream):
    """A response that was only thinking is an empty, valid message: Claude Code then asks again by itself."""
    upstream.answer = by_provider(
        glm=lambda seen: up.anthropic_reply(seen, up.thinking("hm")), gpt=lambda seen: up.openai_reply(seen, reasoning="hm hm")
    )
    answer = poolless.ask(question(model, stream=stream))
    assert (answer.status_code, answer_text(answer)) == (200, "")
    if stream:
        kinds = [event["type"] for event in streamed(answer) if event["type"].startswith("message")]
        assert kinds == ["message_start", "message_delta", "message_stop"]


@pytest.mark.parametrize("model", ["gpt", "gpt-codex", "gpt-effort"])
@pytest.mark.parametrize(
    "thinking",
    [None, {"type": "enabled", "budget_tokens": 4000}, {"type": "adaptive"}, {"type": "disabled"}],
    ids=["none", "enabled", "adaptive", "disabled"],
)
def test_openai_models_are_asked_for_chat_completions(poolless, upstream, model, thinking):
    """Always the chat-completions path, also where config.yaml says False, and reasoning only where the deployment asks."""
    more = {"thinking": thinking, "output_config": {"effort": "low"}} if thinking else {}
    answer = poolless.ask(question(model, **more))
    assert (answer.status_code, answer_text(answer)) == (200, "from gpt")
    (seen,) = upstream.seen
    assert seen.path == "/openai/v1/chat/completions"
    assert seen.json.get("reasoning_effort") == ("high" if model == "gpt-effort" else None)
    assert "thinking" not in seen.json


def test_claude_gets_what_the_client_sent(poolless, upstream):
    """Claude sees the client's body in its order with every field, and its headers, but no thinking that it did not make."""
    body = conversation("claude-sonnet-5", **THINKING) | {"betas": ["x"], "field_of_tomorrow": {"a": [1, None]}}
    raw = json.dumps(body).encode()
    headers = {
        "authorization": f"Bearer {CLIENT_TOKEN}",
        "x_app": "cli",
        "anthropic_beta": "b-2,a-1",
        "user_agent": "made-up/1",
    }
    assert poolless.ask(raw, path="/v1/messages?beta=true", **headers).status_code == 200
    (seen,) = upstream.seen
    history = [dict(message) for message in HISTORY]
    history[3] = {"role": "assistant", "content": [up.text("done")]}
    assert seen.body == json.dumps(body | {"messages": history}, separators=(",", ":")).encode()
    assert (seen.path, seen.query) == ("/v1/messages", "beta=true")
    assert (seen.header("anthropic-beta"), seen.header("x-app")) == ("b-2,a-1,oauth-2025-04-20", "cli")
    assert seen.header("user-agent") == "made-up/1"
    assert seen.header("x-litellm-api-key") is None
    upstream.seen.clear()
    untouched = json.dumps(question("claude-sonnet-5"), indent=1).encode()
    poolless.ask(untouched, **headers)
    assert upstream.seen[0].body == untouched


def test_thinking_that_claude_refuses_is_taken_out_once(poolless, upstream):
    """A 400 about thinking that Claude Code does not heal goes out once more without thinking; the client sees no 400."""

    def picky(seen: up.Seen) -> up.Reply:
        if "signed thought" in seen.everything:
            words = "messages.1.content.0.type: Expected `thinking` or `redacted_thinking`, but found `text`"
            return up.anthropic_error(400, "invalid_request_error", words)
        return up.anthropic_reply(seen, up.text("healed"))

    upstream.answer = by_provider(claude=picky)
    answer = poolless.ask(conversation("claude-sonnet-5", **THINKING), authorization=f"Bearer {CLIENT_TOKEN}")
    assert (answer.status_code, answer_text(answer)) == (200, "healed")
    assert len(upstream.seen) == 2
    assert "thinking" not in upstream.seen[1].json


def test_a_signature_that_claude_refuses_is_for_claude_code_to_heal(poolless, upstream):
    """The 400 on which Claude Code acts by itself arrives unmodified after one request, although LiteLLM would repeat it."""
    words = "messages.1.content.0: Invalid `signature` in `thinking` block"
    upstream.answer = by_provider(claude=lambda _: up.anthropic_error(400, "invalid_request_error", words))
    answer = poolless.ask(conversation("claude-sonnet-5"), authorization=f"Bearer {CLIENT_TOKEN}")
    assert (answer.status_code, answer.json()["error"]["message"]) == (400, words)
    assert len(upstream.seen) == 1


@STREAMS
def test_the_demo_answers_without_any_key(poolless, upstream, stream):
    """The demo says that the proxy works and which keys are missing; nothing leaves the process."""
    for model in ("demo", "claude-demo"):
        answer = poolless.ask(question(model, stream=stream, tools=TOOLS))
        assert answer.status_code == 200
        assert "The proxy works" in answer_text(answer)
        assert "keyless: not ready, set NEVER_SET_API_KEY" in answer_text(answer)
    assert upstream.seen == []


def test_a_provider_without_its_key_says_so(poolless, upstream):
    """A model whose key is not set answers at once, in words, and its provider is not asked."""
    answer = poolless.ask(question("keyless"))
    assert (answer.status_code, answer.headers["x-should-retry"]) == (400, "false")
    assert "keyless is not ready: set NEVER_SET_API_KEY" in answer.json()["error"]["message"]
    assert upstream.seen == []


def test_a_model_that_nobody_serves_is_not_found(poolless):
    """An unknown model is a 404 in Anthropic's shape, at once."""
    answer = poolless.ask(question("no-such-model"))
    assert (answer.status_code, answer.json()["error"]["type"]) == (404, "not_found_error")
    assert "no-such-model" in answer.json()["error"]["message"]
    assert answer.headers["x-should-retry"] == "false"


NAMED_SERVER = """
  - model_name: local
    litellm_params: {{model: openai/local, api_base: "{url}/openai/v1", api_key: none}}
    model_info: {{chat_server: llama.cpp}}
router_settings:"""
LOOKS = {"name": "Look", "description": "looks", "input_schema": {"type": "object", "properties": {}}}


@pytest.mark.parametrize("settings", ["", "  cache: false\n"], ids=["lanes", "litellm"])
def test_a_server_that_a_deployment_names(start_proxy, upstream, settings):
    """It is sent what it reads, at either entrance: llama.cpp takes no choice that names a tool, and reads `top_k`."""
    config = CONFIG.replace("\nrouter_settings:", NAMED_SERVER).replace("litellm_settings:\n", f"litellm_settings:\n{settings}")
    proxy = start_proxy(config=config.format(url=upstream.other_url))
    tools = {"tools": [LOOKS, LOOKS | {"name": "Read"}], "tool_choice": {"type": "tool", "name": "Read"}}
    assert proxy.ask(question("local", **tools, top_k=5)).status_code == 200
    (asked,) = upstream.asked
    assert (asked.json["tool_choice"], asked.json["top_k"]) == ("required", 5)
    assert [tool["function"]["name"] for tool in asked.json["tools"]] == ["Read"]
    assert "chat_server" not in asked.everything
