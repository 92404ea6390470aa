"""Every provider of config.yaml.example, as its block stands there, against an upstream as strict as the real one."""

import copy
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import chat_streams
import dialects_upstream as strict
import httpx
import pytest
import upstream as up
import yaml
from claude_code import ClaudeCode
from conftest import CLIENT_TOKEN, TOKENS
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from processes import ROOT, STATIC_TOKEN, Proxy, streamed
from stream_validator import read_message

from claude_proxy.anthropic.messages import MARK

EXAMPLE = (ROOT / "config.yaml.example").read_text(encoding="utf-8")
# LiteLLM logs in to GitHub by itself, at a host of its own.
NOT_HERE = ("copilot",)
# The model of the example that stands for each provider of ``strict.REFUSALS``.
MODELS = {
    "zai": "glm", "kimi": "kimi", "deepseek": "deepseek", "openrouter": "openrouter", "claude-bedrock": "claude-bedrock",
    "claude-vertex": "claude-vertex", "gemini": "gemini", "azure": "azure-gpt", "gpt": "gpt", "groq": "groq",
    "together": "together", "hugging-face": "hugging-face", "vllm": "vllm", "ollama": "ollama",
}  # fmt: skip
CLAUDE_ELSEWHERE = ("claude-bedrock", "claude-vertex")
KEEPERS = ("kimi", "deepseek")
PROVIDERS = pytest.mark.parametrize("provider", MODELS)
STREAMS = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
BETAS = (
    "claude-code-20250219,interleaved-thinking-2025-05-14,thinking-token-count-2026-05-13,context-management-2025-06-27,"
    "prompt-caching-scope-2026-01-05,mid-conversation-system-2026-04-07,effort-2025-11-24,advanced-tool-use-2025-11-20,"
    "context-1m-2025-08-07,fine-grained-tool-streaming-2025-05-14"
)


def documented(text: str) -> dict[str, Any]:
    """The example with every commented block in use."""
    lines = text.splitlines()
    used = [f"  {line[4:]}" if re.match(r"  # (- model_name:|  )", line) else line for line in lines]
    config: dict[str, Any] = yaml.safe_load("\n".join(used))
    config["model_list"] = [entry for entry in config["model_list"] if entry["model_name"] not in NOT_HERE]
    return config


def redirected(config: dict[str, Any], url: str) -> dict[str, Any]:
    """The same with what has to be other on this machine: http for https, through HTTP_PROXY, or an endpoint's address."""
    for entry in config["model_list"]:
        params, name = entry["litellm_params"], entry["model_name"]
        base = params.get("api_base")
        if params["model"].startswith("anthropic/"):
            if base:
                params["api_base"] = base.replace("https://", "http://")
        elif params["model"].startswith("bedrock/"):
            params["aws_bedrock_runtime_endpoint"] = f"{url}/{name}"
        elif not str(base).startswith("os.environ/"):
            params["api_base"] = f"{url}/{name}"
    config["router_settings"] |= {"fallbacks": [], "num_retries": 0}
    return config


def service_account(home: Path, url: str) -> Path:
    """A made-up service account's file, whose tokens come from the upstream."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    account = {
        "type": "service_account",
        "project_id": "made-up-project",
        "private_key_id": "made-up",
        "private_key": key.private_bytes(encoding, form, serialization.NoEncryption()).decode(),
        "client_email": "proxy@made-up-project.iam.gserviceaccount.com",
        "client_id": "1",
        "token_uri": f"{url}/token",
    }
    path = home / "service-account.json"
    path.write_text(json.dumps(account), encoding="utf-8")
    return path


def providers_environment(home: Path, upstream: up.Upstream) -> dict[str, str]:
    """What every documented provider needs in the environment, with the upstream in the place of each."""
    url = upstream.other_url
    keys = {
        name: f"made-up-{name.lower()}" for name in re.findall(r"os\.environ/(\w+_(?:API_KEY|TOKEN)|AWS_SECRET\w+)", EXAMPLE)
    }
    return keys | {
        "ANTHROPIC_API_BASE": upstream.url,
        "CLAUDE_OAUTH_TOKENS": f"a={TOKENS['a']}",
        "AZURE_API_BASE": f"{url}/azure",
        "AWS_ACCESS_KEY_ID": "AKIAMADEUP",
        "AWS_REGION": "eu-central-1",
        "VERTEX_PROJECT": "made-up-project",
        "VERTEX_LOCATION": "europe-west1",
        "VERTEX_CREDENTIALS": str(service_account(home, url)),
        "HTTP_PROXY": url,
        "NO_PROXY": "127.0.0.1",
    }


@pytest.fixture(scope="module")
def translator(shared_upstream: up.Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """The module's one proxy, with every documented provider."""
    home = tmp_path_factory.mktemp("translator")
    url = shared_upstream.other_url
    shared_upstream.answer = lambda _: up.Reply(404)
    environment = providers_environment(home, shared_upstream)
    config = yaml.safe_dump(redirected(documented(EXAMPLE), url))
    proxy = Proxy(home / "proxy", config, **environment).wait_ready()
    yield proxy
    proxy.stop()


Script = Callable[[strict.Sent], list[dict[str, Any]]]


TOKEN = up.Reply(
    headers={"content-type": "application/json"},
    body=b'{"access_token":"made-up-access","expires_in":3600,"token_type":"Bearer"}',
)


def replying(script: Script, raw: Callable[[strict.Sent], up.Reply] | None = None) -> Callable[[up.Seen], up.Reply]:
    """Answer 400 to what a provider refuses, and else in its format with the blocks that the script has for it."""

    def answer(seen: up.Seen) -> up.Reply:
        if seen.path == "/token":
            return TOKEN
        sent = strict.Sent(**vars(seen))
        if words := strict.refused(sent):
            return up.anthropic_error(400, "invalid_request_error", words)
        return raw(sent) if raw is not None and sent.provider != "claude" else strict.reply(sent, *script(sent))

    return answer


# --- a client that does what Claude Code does --------------------------------------------------------------------------------

SESSION = '{"device_id":"' + "0" * 64 + '","account_uuid":"","session_id":"00000000-0000-4000-8000-000000000000"}'
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}}
LONG_MARK = {"type": "ephemeral", "ttl": "1h", "scope": "global"}
SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {"path": {"type": "string"}, "limit": {"type": "number", "exclusiveMinimum": 0}},
    "required": ["path"],
    "additionalProperties": False,
}
CLAUDE_THOUGHT = {"type": "thinking", "thinking": "claude thought", "signature": f"{strict.CLAUDE_SIGNATURE}1=="}
CLAUDE_REDACTED = {"type": "redacted_thinking", "data": f"{strict.CLAUDE_SIGNATURE}2=="}
OPENING = [
    {"role": "user", "content": [up.text("look"), up.text("around") | {"cache_control": LONG_MARK}]},
    {"role": "system", "content": "Available agent types: none."},
    {
        "role": "assistant",
        "content": [
            CLAUDE_THOUGHT,
            CLAUDE_REDACTED,
            {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "made up"}},
            {
                "type": "web_search_tool_result",
                "tool_use_id": "srvtoolu_1",
                "content": [
                    {"type": "web_search_result", "url": "http://x.invalid", "title": "T", "encrypted_content": "c2VjcmV0"}
                ],
            },
            {"type": "tool_use", "id": "toolu_first", "name": "Read", "input": {"path": "/a"}},
            {"type": "tool_use", "id": "toolu_second", "name": "ToolSearch", "input": {}},
        ],
    },
    {
        "role": "user",
        "content": [
            {
                "type": "tool_result",
                "tool_use_id": "toolu_second",
                "content": [{"type": "tool_reference", "tool_name": "WebFetch"}],
            },
            {"type": "tool_result", "tool_use_id": "toolu_first", "content": [up.text("seen"), IMAGE], "is_error": False},
        ],
    },
    {"role": "system", "content": "The task list is empty."},
]


class Conversation:
    """Sends whole histories of the newest dialect, and takes answers in as Claude Code does. It drops nothing by itself."""

    def __init__(self, proxy: Proxy, *, stream: bool) -> None:
        self.proxy = proxy
        self.stream = stream
        self.messages: list[dict[str, Any]] = copy.deepcopy(OPENING)

    def request(self, model: str) -> dict[str, Any]:
        tools = [{"name": name, "description": "d", "input_schema": SCHEMA} for name in ("Read", "Look", "ToolSearch")]
        tools[0] |= {"eager_input_streaming": True, "defer_loading": True, "cache_control": LONG_MARK, "strict": True}
        billing = up.text("x-anthropic-billing-header: cc_version=2.1.197.1c0; cc_entrypoint=cli;")
        return {
            "model": model,
            "messages": self.messages,
            "system": [billing, up.text("You are made up.") | {"cache_control": LONG_MARK}],
            "tools": [*tools, {"type": "web_search_20250305", "name": "web_search", "max_uses": 8}],
            "metadata": {"user_id": SESSION},
            "max_tokens": 32000,
            "thinking": {"type": "adaptive"},
            "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
            "output_config": {"effort": "high"},
            "stream": self.stream,
        }

    def turn(self, model: str) -> list[dict[str, Any]]:
        """Ask, take the answer in, and run its tools: results come in the order of completion."""
        answer = ask(self.proxy, self.request(model))
        assert answer.status_code == 200, answer.text
        content, reason = read(answer)
        calls = [block for block in content if block["type"] == "tool_use"]
        assert reason == ("tool_use" if calls else "end_turn")
        self.messages.append({"role": "assistant", "content": content})
        results = [{"type": "tool_result", "tool_use_id": call["id"], "content": [IMAGE]} for call in reversed(calls)]
        self.messages.append({"role": "user", "content": [*results, up.text("go on")] if results else "go on"})
        return content


def ask(proxy: Proxy, body: dict[str, Any]) -> httpx.Response:
    client = {"authorization": f"Bearer {CLIENT_TOKEN}", "anthropic_beta": BETAS}
    return proxy.ask(body, path="/v1/messages?beta=true", **client)


def read(answer: httpx.Response) -> tuple[list[dict[str, Any]], str | None]:
    """The blocks and the stop reason of an answer; of a stream by Claude Code's rules: only deltas hold content."""
    if "event-stream" not in answer.headers["content-type"]:
        whole = answer.json()
        assert (whole["type"], whole["role"]) == ("message", "assistant")
        return whole["content"], whole["stop_reason"]
    events = streamed(answer)
    kinds = [event["type"] for event in events if event["type"].startswith("message")]
    assert kinds == ["message_start", "message_delta", "message_stop"], answer.text
    found: dict[int, dict[str, Any]] = {}
    inputs: dict[int, str] = {}
    for event in events:
        if event["type"] == "content_block_start":
            assert event["index"] == len(found)
            empty = {name: "" for name in ("text", "thinking", "signature") if name in event["content_block"]}
            found[event["index"]] = event["content_block"] | empty
            inputs[event["index"]] = ""
        elif event["type"] == "content_block_delta":
            apply_delta(found[event["index"]], event["delta"])
            inputs[event["index"]] += event["delta"].get("partial_json", "")
    for index, block in found.items():
        if block["type"] == "tool_use":
            block["input"] = json.loads(inputs[index] or "{}")
    return list(found.values()), events[-2]["delta"]["stop_reason"]


def apply_delta(block: dict[str, Any], delta: dict[str, Any]) -> None:
    """Add a delta to its block: a signature takes the place of the one before, everything else is added to it."""
    if delta["type"] == "signature_delta":
        block["signature"] = delta["signature"]
    for name in ("text", "thinking"):
        if delta["type"] == f"{name}_delta":
            block[name] += delta[name]


def story(sent: strict.Sent) -> list[dict[str, Any]]:
    """Each time two calls side by side, with the provider's own thinking before them, and ids as odd as they come."""
    number = next(up.ids)
    look = {"type": "tool_use", "id": f"toolu_{number}", "name": "Look", "input": {"path": "/b"}}
    if sent.provider in ("claude", *CLAUDE_ELSEWHERE):
        thought = up.thinking(f"claude thought {number}", f"{strict.CLAUDE_SIGNATURE}{number}==")
        return [thought, up.text("one"), up.tool("Read", {"path": "/a"}), look]
    odd = {"type": "tool_use", "id": f"functions.Read:{number}", "name": "Read", "input": {"path": "/a"}}
    is_own = sent.provider in KEEPERS and sent.json.get("thinking", {}).get("type") != "disabled"
    thoughts = [up.thinking(f"{sent.provider} thought {number}", f"{sent.provider}-signature")] if is_own else []
    if sent.provider in ("zai", "openrouter"):
        thoughts = [up.thinking("foreign thought")]
    return [*thoughts, up.text("one"), odd, look]


def thoughts(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    blocks = [block for message in messages if isinstance(message["content"], list) for block in message["content"]]
    return [block for block in blocks if block["type"] in ("thinking", "redacted_thinking")]


@PROVIDERS
@STREAMS
def test_a_conversation_moves_between_claude_and_everybody_else(translator, upstream, provider, stream):
    """In the middle of tool loops, there and back twice: nobody answers 400, and Claude sees all that it has thought, alone."""
    upstream.answer = replying(story)
    conversation = Conversation(translator, stream=stream)
    for model in (
        "claude-opus-4-8",
        MODELS[provider],
        MODELS[provider],
        "claude-opus-4-8",
        MODELS[provider],
        "claude-sonnet-5",
    ):
        conversation.turn(model)
    asked = [strict.Sent(**vars(seen)) for seen in upstream.seen if seen.method == "POST" and seen.path != "/token"]
    assert [sent.provider for sent in asked] == ["claude", provider, provider, "claude", provider, "claude"]
    last = asked[-1].json["messages"]
    assert all(block.get("signature", block.get("data")).startswith(strict.CLAUDE_SIGNATURE) for block in thoughts(last))
    assert {block["thinking"] for block in thoughts(last) if block["type"] == "thinking"} >= {"claude thought"}
    assert len(thoughts(last)) == 2 + (5 if provider in CLAUDE_ELSEWHERE else 2)
    results = [
        block["tool_use_id"] for message in last if message["role"] == "user" and isinstance(message["content"], list)
        for block in message["content"] if block["type"] == "tool_result"
    ]  # fmt: skip
    assert sorted(results) == sorted(strict.ids(asked[-1]))
    assert len(set(results)) == 2 + 5 * 2


@pytest.mark.parametrize("provider", ["zai", "kimi", "deepseek", "openrouter", "claude-bedrock", "claude-vertex"])
def test_the_upstreams_are_strict(translator, provider):
    """What Claude Code sends is refused by each provider of this format as it is, so that the other tests prove something."""
    whole = Conversation(translator, stream=False).request("m")
    host = next((name for name, short in strict.HOSTS.items() if short == provider), "127.0.0.1")
    headers = (("host", host), ("anthropic-beta", BETAS))
    sent = strict.Sent("POST", f"/{provider}", "", headers, json.dumps(whole).encode(), is_claude=False)
    fired = [one.words for one in strict.REFUSALS[provider] if one.when(sent)]
    assert len(fired) >= 4, fired


def test_the_real_claude_code_keeps_thinking_for_its_maker(translator, upstream, tmp_path):
    """Claude Code sends kept thinking back to the model that it is of; on Claude the same conversation goes on without it."""
    user = ClaudeCode(tmp_path, translator.url)
    (user.project / "notes.txt").write_text("apples\n")

    def model(sent: strict.Sent) -> list[dict[str, Any]]:
        if sent.provider == "claude":
            return [up.thinking("claude thought", f"{strict.CLAUDE_SIGNATURE}1=="), up.text("Claude goes on")]
        done = sum(block["type"] == "tool_result" for block in strict.blocks(sent))
        thought = [up.thinking(f"kimi thought {done}", "kimi-signature")]
        if sent.json.get("thinking", {}).get("type") == "disabled":
            return [up.text("without a thought")]
        if not sent.json.get("tools") or done >= 2:
            return [*thought, up.text("done")]
        steps = [{"file_path": str(user.project / "notes.txt")}, {"command": "cat notes.txt", "description": "Show"}]
        call = {"type": "tool_use", "id": f"functions.Do:{done}", "name": ("Read", "Bash")[done], "input": steps[done]}
        return [*thought, up.text("a step"), call]

    upstream.answer = replying(model)
    run = user.run("Look at the notes", "--allowedTools", "Read", "Bash", model="kimi")
    assert (run.code, run.result, run.retries) == (0, "done", 0), run.events
    last = [seen for seen in upstream.seen if seen.json.get("tools")][-1]
    assert [block["thinking"] for block in thoughts(last.json["messages"])] == ["kimi thought 0", "kimi thought 1"]
    assert {block["signature"] for block in thoughts(last.json["messages"])} == {"kimi-signature"}
    for name, words in (("claude-sonnet-5", "Claude goes on"), ("kimi", "done"), ("claude-sonnet-5", "Claude goes on")):
        run = user.run("And now?", "--continue", model=name)
        assert (run.code, run.result, run.retries) == (0, words, 0), run.events
    assert {block["thinking"] for block in thoughts(upstream.seen[-1].json["messages"])} == {"claude thought"}


@PROVIDERS
@STREAMS
def test_no_credential_and_no_mark_reaches_another_provider(translator, upstream, provider, stream):
    """What goes to others holds no credential of the client's, the pool's or the proxy's, no person and no foreign thinking."""
    upstream.answer = replying(story)
    conversation = Conversation(translator, stream=stream)
    conversation.turn("claude-opus-4-8")
    conversation.turn(MODELS[provider])
    for seen in upstream.seen:
        if not seen.is_claude:
            secrets = (CLIENT_TOKEN, STATIC_TOKEN, *TOKENS.values(), "device_id", "encrypted_content", MARK)
            assert not [secret for secret in secrets if secret in seen.everything]
    last = upstream.seen[-1]
    assert ("claude thought" in last.everything) == (provider in CLAUDE_ELSEWHERE)
    assert all(words in last.everything for words in ("Available agent types", "The task list is empty", "http://x.invalid"))


@pytest.mark.parametrize("provider", KEEPERS)
@STREAMS
def test_kept_thinking(translator, upstream, provider, stream):
    """Its own thinking comes back to a provider that wants it, with its own signature, and to nobody else."""
    upstream.answer = replying(story)
    conversation = Conversation(translator, stream=stream)
    conversation.messages = [{"role": "user", "content": "look"}]
    content = conversation.turn(MODELS[provider])
    assert content[0]["signature"] == f"{MARK}{provider}:{provider}-signature"
    conversation.turn(MODELS[provider])
    first, second = upstream.seen
    assert first.json["thinking"]["type"] != "disabled"
    assert second.json["thinking"]["type"] != "disabled"
    kept = [(block["thinking"], block["signature"]) for block in thoughts(second.json["messages"])]
    assert kept == [(content[0]["thinking"], f"{provider}-signature")]
    for model in ("glm", "claude-opus-4-8", "gemini"):
        conversation.turn(model)
        assert f"{provider} thought" not in upstream.seen[-1].everything
    conversation.turn(MODELS[provider])
    assert upstream.seen[-1].json["thinking"] == {"type": "disabled"}
    assert len(thoughts(upstream.seen[-1].json["messages"])) == 2


@STREAMS
def test_gemini_gets_its_thought_signatures_back(translator, upstream, stream):
    """The signature that Gemini puts on a call comes back on that call, even after a turn of Claude's, and Claude sees none."""
    upstream.answer = replying(story)
    conversation = Conversation(translator, stream=stream)
    for model in ("gemini", "claude-opus-4-8", "gemini"):
        conversation.turn(model)
    first = next(
        content["parts"]
        for content in upstream.seen[-1].json["contents"]
        if any(part.get("thoughtSignature") == strict.GEMINI_SIGNATURE for part in content["parts"])
    )
    signatures = [part["thoughtSignature"] for part in first if "function_call" in part]
    assert signatures == [strict.GEMINI_SIGNATURE] * 2
    assert max(map(len, strict.ids(strict.Sent(**vars(upstream.seen[1]))))) <= 40


@pytest.mark.parametrize("provider", ["gpt", "groq"])
def test_parallel_calls_in_one_chunk(translator, upstream, provider):
    """Calls that come side by side in one chunk of a stream are as many blocks."""
    tool_calls = [call(arguments='{"path": "/a"}') | {"index": 0}, call("Look", '{"path": "/b"}') | {"index": 1}]
    lines = [
        {"choices": [{"index": 0, "delta": {"role": "assistant", "tool_calls": tool_calls}, "finish_reason": None}]},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]},
    ]
    body = {"id": "chatcmpl-1", "created": 1, "model": "m", "object": "chat.completion.chunk"}
    chunks = [b"data: %s\n\n" % json.dumps(body | line).encode() for line in lines] + [b"data: [DONE]\n\n"]
    upstream.answer = replying(story, lambda _: up.Reply(headers={"content-type": "text/event-stream"}, chunks=chunks))
    content, _ = read(ask(translator, Conversation(translator, stream=True).request(MODELS[provider])))
    assert [(block["name"], block["input"]) for block in content] == [("Read", {"path": "/a"}), ("Look", {"path": "/b"})]
    assert [block["id"] for block in content] == [made["id"] for made in tool_calls]


ADDRESSES = {
    "zai": ("api.z.ai", "/api/anthropic/v1/messages", {"x-api-key": "made-up-zai_api_key"}),
    "kimi": ("api.kimi.com", "/coding/v1/messages", {"x-api-key": "made-up-kimi_api_key"}),
    "deepseek": ("api.deepseek.com", "/anthropic/v1/messages", {"x-api-key": "made-up-deepseek_api_key"}),
    "openrouter": (
        "openrouter.ai",
        "/api/v1/messages",
        {"x-api-key": "made-up-openrouter_api_key", "authorization": "Bearer made-up-openrouter_api_key"},
    ),
    "claude-bedrock": ("127.0.0.1", "/claude-bedrock/model/us.anthropic.claude-sonnet-5-v1:0/invoke", {}),
    "claude-vertex": ("127.0.0.1", "/claude-vertex:rawPredict", {"authorization": "Bearer made-up-access"}),
    "gemini": (
        "127.0.0.1",
        "/gemini/models/gemini-3.1-pro:generateContent",
        {"x-goog-api-key": "made-up-gemini_api_key", "authorization": None},
    ),
    "azure": (
        "127.0.0.1",
        "/azure/openai/deployments/my-deployment/chat/completions",
        {"api-key": "made-up-azure_api_key", "authorization": None},
    ),
    "gpt": ("127.0.0.1", "/gpt/chat/completions", {"authorization": "Bearer made-up-openai_api_key"}),
    "groq": ("127.0.0.1", "/groq/chat/completions", {"authorization": "Bearer made-up-groq_api_key"}),
    "together": ("127.0.0.1", "/together/chat/completions", {"authorization": "Bearer made-up-togetherai_api_key"}),
    "hugging-face": ("127.0.0.1", "/hugging-face/v1/chat/completions", {"authorization": "Bearer made-up-hf_token"}),
    "vllm": ("127.0.0.1", "/vllm/chat/completions", {"authorization": "Bearer none"}),
    "ollama": ("127.0.0.1", "/ollama/chat/completions", {"authorization": "Bearer none"}),
}
STREAMING = {
    "invoke": "invoke-with-response-stream",
    ":rawPredict": ":streamRawPredict",
    ":generateContent": ":streamGenerateContent",
}


@PROVIDERS
@STREAMS
def test_where_a_documented_block_goes(translator, upstream, provider, stream):
    """Each block of the example asks its provider's own path, with its own key in the way that the provider reads it."""
    upstream.answer = replying(lambda _: [up.text("hello")])
    conversation = Conversation(translator, stream=stream)
    assert [block["text"] for block in conversation.turn(MODELS[provider])] == ["hello"]
    (seen,) = (seen for seen in upstream.seen if seen.path != "/token")
    host, path, headers = ADDRESSES[provider]
    end = next((end for end in STREAMING if stream and path.endswith(end)), None)
    assert (seen.header("host") or "").split(":")[0] == host
    assert seen.path == (path if end is None else path.removesuffix(end) + STREAMING[end])
    assert {name: seen.header(name) for name in headers} == headers


@PROVIDERS
@STREAMS
def test_a_web_search_that_the_provider_cannot_make(translator, upstream, provider, stream):
    """Claude Code's request for a search alone is answered in words: the model is told that there is none."""
    upstream.answer = replying(lambda _: [up.text("from memory")])
    body = {
        "model": MODELS[provider],
        "max_tokens": 100,
        "system": "You are made up.",
        "messages": [{"role": "user", "content": [up.text("Perform a web search for the query: made up")]}],
        "tools": [{"type": "web_search_20250305", "name": "web_search", "max_uses": 8}],
        "tool_choice": {"type": "tool", "name": "web_search"},
        "thinking": {"type": "disabled"},
        "temperature": 1,
        "stream": stream,
    }
    answer = ask(translator, body)
    assert answer.status_code == 200, answer.text
    assert read(answer) == ([up.text("from memory")], "end_turn")
    told = "There is no web search in this conversation" in upstream.asked[-1].everything
    assert told == (provider != "claude-vertex")  # which has one


FIXTURES = ROOT.parent / "shared" / "fixtures"
REAL = (
    "first_turn_unknown_model_glm", "first_turn_interactive", "tool_result_image", "tool_result_parallel",
    "tool_result_read_edit", "tool_result_turn_redacted", "tool_result_turn_empty_signature", "tool_reference_turn",
    "thinking_history_switched_model", "side_web_search", "side_title_main_model", "side_compact", "subagent_request",
)  # fmt: skip


@pytest.mark.skipif(not FIXTURES.is_dir(), reason="no recorded requests of Claude Code's here")
@PROVIDERS
def test_what_claude_code_really_sends(translator, upstream, provider):
    """Every kind of request that Claude Code was seen to send is one that each provider takes."""
    upstream.answer = replying(lambda _: [up.text("hello")])
    for name in REAL:
        recorded = json.loads((FIXTURES / f"{name}.json").read_text(encoding="utf-8"))
        answer = ask(translator, recorded["body"] | {"model": MODELS[provider]})
        assert answer.status_code == 200, f"{name}: {answer.text}"
        assert read(answer) == ([up.text("hello")], "end_turn")


@pytest.mark.parametrize("provider", CLAUDE_ELSEWHERE)
@STREAMS
def test_claude_elsewhere_keeps_its_thinking(translator, upstream, provider, stream):
    """Claude on a cloud is asked for thinking and a million tokens, and its signed thinking passes both ways as it is."""
    upstream.answer = replying(story)
    conversation = Conversation(translator, stream=stream)
    conversation.turn("claude-opus-4-8")
    content = conversation.turn(MODELS[provider])
    assert content[0]["signature"].startswith(strict.CLAUDE_SIGNATURE)
    conversation.turn(MODELS[provider])
    last = upstream.seen[-1].json
    assert content[0] in thoughts(last["messages"])
    assert CLAUDE_REDACTED in thoughts(last["messages"])
    assert last["thinking"]["type"] in ("adaptive", "enabled")
    assert "context-1m-2025-08-07" in last["anthropic_beta"]


# --- answers that are odd ----------------------------------------------------------------------------------------------------


def chat_answer(message: dict[str, Any], finish: str | None, *, pieces: int = 2) -> Callable[[strict.Sent], up.Reply]:
    """A chat-completions answer with this finish reason, its calls' arguments in so many pieces."""

    def reply(sent: strict.Sent) -> up.Reply:
        body = {"id": f"chatcmpl-{next(up.ids)}", "created": 1, "model": sent.json["model"]}
        usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
        if not sent.json.get("stream"):
            choice = {"index": 0, "message": {"role": "assistant", "content": None} | message, "finish_reason": finish}
            # Groq says this in each answer, and LiteLLM needs it of Groq.
            whole = body | {"object": "chat.completion", "choices": [choice], "usage": usage, "service_tier": "on_demand"}
            return up.Reply(headers={"content-type": "application/json"}, body=json.dumps(whole).encode())
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
        deltas += [{name: message[name]} for name in ("reasoning_content", "content") if message.get(name)]
        for index, call in enumerate(message.get("tool_calls", ())):
            arguments = call["function"]["arguments"]
            size = -(-len(arguments) // pieces)
            cut = [arguments[start : start + size] for start in range(0, len(arguments), size)]
            first = call | {"index": index, "function": call["function"] | {"arguments": cut[0]}}
            deltas.append({"tool_calls": [first]})
            deltas += [{"tool_calls": [{"index": index, "function": {"arguments": piece}}]} for piece in cut[1:]]
        lines = [{"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
        lines.append({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
        lines.append({"choices": [], "usage": usage})
        chunks = [b"data: %s\n\n" % json.dumps(body | {"object": "chat.completion.chunk"} | line).encode() for line in lines]
        return up.Reply(headers={"content-type": "text/event-stream"}, chunks=[*chunks, b"data: [DONE]\n\n"])

    return reply


def call(name: str = "Read", arguments: str = '{"path": "/a, with a long name"}', **more: Any) -> dict[str, Any]:
    named = {"id": f"call_{next(up.ids)}", "type": "function"} | more
    return named | {"function": {"name": name, "arguments": arguments}}


CHAT_PROVIDERS = pytest.mark.parametrize("provider", ["azure", "gpt", "groq"])
WORDS, CALLS = {"content": "hello"}, {"tool_calls": [call(), call()]}


@CHAT_PROVIDERS
@STREAMS
@pytest.mark.parametrize(
    ("message", "finish", "reason"),
    [
        (WORDS, "stop", "end_turn"),
        (WORDS, "length", "max_tokens"),
        (WORDS, "content_filter", ("refusal", "end_turn")),
        (WORDS, "function_call", "end_turn"),
        (WORDS, "tool_calls", "end_turn"),
        (WORDS, None, "end_turn"),
        (CALLS, "tool_calls", "tool_use"),
        (CALLS, "stop", "tool_use"),
        (CALLS, "function_call", "tool_use"),
        (CALLS, None, "tool_use"),
        (CALLS, "length", "max_tokens"),
        (WORDS | CALLS, "stop", "tool_use"),
        ({"content": ""}, "stop", "end_turn"),
        ({"reasoning_content": "hm"}, "stop", "end_turn"),
    ],
    ids=[
        "stop", "length", "content-filter", "function-call", "tool-calls-without-one", "null", "calls",
        "calls-and-stop", "calls-and-function-call", "calls-and-null", "calls-and-length",
        "words-calls-and-stop", "empty", "only-thinking",
    ],
)  # fmt: skip
def test_any_end_of_an_answer_is_a_valid_message(translator, upstream, provider, stream, message, finish, reason):
    """Whatever a provider gives for its reason to stop, the client gets one of Anthropic's that fits what is in the message."""
    upstream.answer = replying(story, chat_answer(message, finish))
    body = Conversation(translator, stream=stream).request(MODELS[provider])
    answer = ask(translator, body)
    assert answer.status_code == 200, answer.text
    content, stopped = read(answer)
    assert stopped in ((reason,) if isinstance(reason, str) else reason)
    wanted = ["text"] * bool(message.get("content")) + ["tool_use"] * len(message.get("tool_calls", ()))
    assert [block["type"] for block in content if block.get("text") != ""] == wanted


def chat_stream(*chunks: Any, done: bool = True) -> Callable[[strict.Sent], up.Reply]:
    """A chat-completions stream of these chunks, each sent by itself."""
    pieces = [chat_streams.sse(one, done=False) for one in chunks] + ([b"data: [DONE]\n\n"] if done else [])
    return lambda _: up.Reply(headers={"content-type": "text/event-stream"}, chunks=pieces)


CHAT_LANE = pytest.mark.parametrize("provider", ["azure", "gpt", "groq", "together", "hugging-face", "vllm", "ollama"])


@CHAT_LANE
@pytest.mark.parametrize("chunks", chat_streams.SIDE_BY_SIDE.values(), ids=chat_streams.SIDE_BY_SIDE)
def test_calls_side_by_side(translator, upstream, provider, chunks):
    """Each call has its own arguments, however the provider tells calls that come together."""
    upstream.answer = replying(story, chat_stream(*chunks, chat_streams.CALLED, chat_streams.USAGE))
    found = read_message(ask(translator, Conversation(translator, stream=True).request(MODELS[provider])).content)
    told = [(block["name"], block["input"]) for block in found["content"]]
    assert told == [("Read", json.loads(chat_streams.A)), ("Look", json.loads(chat_streams.B))]
    assert (found["stop_reason"], found["usage"]["input_tokens"]) == ("tool_use", 100)


@CHAT_LANE
@pytest.mark.parametrize(
    "chunks",
    [
        [chat_streams.chunk({"content": "I will now wri"})],
        [chat_streams.calls(chat_streams.call(0, '{"pa', given="c", name="Read"))],
        [chat_streams.chunk({"content": "one"}), {"error": {"message": "made up", "code": 502}}],
        [chat_streams.chunk({"content": "one"}), chat_streams.chunk({"content": ""}, "error", error={"message": "made up"})],
    ],
    ids=["words", "half-a-call", "an-error", "an-error-beside-its-end"],
)
def test_half_a_stream_is_an_error(translator, upstream, provider, chunks):
    """A stream without an end, and one that ends with an error, ends with one."""
    upstream.answer = replying(story, chat_stream(*chunks, done=False))
    found = read_message(ask(translator, Conversation(translator, stream=True).request(MODELS[provider])).content)
    assert found["type"] == "error"


@CHAT_LANE
@pytest.mark.parametrize(
    ("said", "status", "kind"),
    [
        ({"error": {"message": "made up", "code": 429}}, 429, "rate_limit_error"),
        (chat_streams.chunk({"content": ""}, "error", error={"message": "made up", "code": 400}), 400, "invalid_request_error"),
    ],
)
def test_an_error_at_once_has_a_status(translator, upstream, provider, said, status, kind):
    """The client sees an error as one, and something else may answer."""
    upstream.answer = replying(story, chat_stream(said))
    answer = ask(translator, Conversation(translator, stream=True).request(MODELS[provider]))
    assert (answer.status_code, answer.json()["error"]["type"]) == (status, kind)


@CHAT_LANE
@STREAMS
def test_when_to_come_back(translator, upstream, provider, stream):
    """The provider's own word on it reaches the client with the status."""
    limited = up.Reply(429, {"content-type": "application/json", "retry-after": "287441"}, b'{"error":{"message":"made up"}}')
    upstream.answer = replying(story, lambda _: limited)
    answer = ask(translator, Conversation(translator, stream=stream).request(MODELS[provider]))
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "287441")


@CHAT_PROVIDERS
@STREAMS
@pytest.mark.parametrize("message", [WORDS, CALLS], ids=["words", "calls"])
@pytest.mark.parametrize("finish", ["made_up", "network_error", "abort", "insufficient_system_resource", "error"])
def test_an_end_that_nobody_knows_is_an_error(translator, upstream, provider, stream, message, finish):
    """Half an answer is not told as a whole one: the client gets an error, and can ask again."""
    upstream.answer = replying(story, chat_answer(message, finish))
    answer = ask(translator, Conversation(translator, stream=stream).request(MODELS[provider]))
    if stream:
        assert json.loads(answer.text.rsplit("data: ", 1)[1])["type"] == "error"
    else:
        assert (answer.status_code, answer.json()["error"]["type"]) == (502, "api_error")


@CHAT_PROVIDERS
@STREAMS
@pytest.mark.parametrize("pieces", [1, 40], ids=["one-piece", "forty-pieces"])
def test_arguments_in_pieces(translator, upstream, provider, stream, pieces):
    """The arguments of a call arrive whole, in however many pieces they came."""
    tool_calls = [call(arguments='{"path": "/a, with a long name", "limit": 7}'), call(arguments="{}")]
    upstream.answer = replying(story, chat_answer({"tool_calls": tool_calls}, "tool_calls", pieces=pieces))
    content, _ = read(ask(translator, Conversation(translator, stream=stream).request(MODELS[provider])))
    assert [block["input"] for block in content] == [{"path": "/a, with a long name", "limit": 7}, {}]
    assert [block["id"] for block in content] == [made["id"] for made in tool_calls]


@pytest.mark.parametrize("provider", ["zai", "kimi", "claude-bedrock", "claude-vertex"])
@STREAMS
@pytest.mark.parametrize("content", [[], [up.thinking("hm", f"{strict.CLAUDE_SIGNATURE}9==")]], ids=["empty", "only-thinking"])
def test_an_answer_without_words_in_anthropics_format(translator, upstream, provider, stream, content):
    """An answer of only thinking, and an empty one, is a valid message."""
    upstream.answer = replying(lambda _: content)
    found, reason = read(ask(translator, Conversation(translator, stream=stream).request(MODELS[provider])))
    assert reason == "end_turn"
    assert [block["type"] for block in found] == [block["type"] for block in content if provider != "zai"]
