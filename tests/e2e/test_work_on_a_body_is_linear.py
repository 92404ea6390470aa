"""What a body costs, through the real proxy and on each lane: as much as it is long, and nothing is fetched on its behalf."""

import json
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dialects_upstream as strict
import httpx
import pytest
import upstream as up
import yaml
from conftest import TOKENS
from processes import Proxy, question
from test_dialects_through_the_proxy import TOKEN, service_account

from claude_proxy.providers import bounds
from claude_proxy.providers.history import NOT_FETCHED
from fuzz.shapes import SHAPES

MEMORY = 6 << 30
KEYS = {"api_key": "made-up-key-of-a-provider"}
LANES = ("claude-x", "glm", "gpt", "gemini", "gemini-vertex", "bedrock", "vertex", "nova", "ollama")
# Of LiteLLM's code two lanes run the same as another one: Gemini on Vertex AI as Gemini, Claude on Vertex AI as on Bedrock.
MEASURED = tuple(model for model in LANES if model not in ("gemini-vertex", "vertex"))
# What LiteLLM does not make by itself: there a body passes as it is.
RELAYED = ("claude-x", "glm")


def config(url: str, **settings: Any) -> dict[str, Any]:
    google = {
        "vertex_project": "made-up-project",
        "vertex_location": "europe-west1",
        "vertex_credentials": "os.environ/VERTEX_CREDENTIALS",
    }
    aws = {
        "aws_bedrock_runtime_endpoint": f"{url}/claude-bedrock",
        "aws_access_key_id": "AKIAMADEUP",
        "aws_secret_access_key": "made-up",
        "aws_region_name": "eu-central-1",
    }
    models: dict[str, dict[str, Any]] = {
        "claude-*": {"model": "anthropic/claude-*"},
        "glm": {"model": "anthropic/glm-5", "api_base": f"{url}/glm", **KEYS},
        "gpt": {"model": "openai/gpt-x", "api_base": f"{url}/gpt/v1", **KEYS},
        "gemini": {"model": "gemini/gemini-3.1-pro", "api_base": f"{url}/gemini", **KEYS},
        "gemini-vertex": {"model": "vertex_ai/gemini-2.5-pro", "api_base": f"{url}/gemini", **google},
        "bedrock": {"model": "bedrock/us.anthropic.claude-sonnet-5-v1:0", **aws},
        "nova": {"model": "bedrock/us.amazon.nova-pro-v1:0", **aws},
        "vertex": {"model": "vertex_ai/claude-sonnet-5", "api_base": f"{url}/claude-vertex", **google},
        "ollama": {"model": "ollama_chat/qwen", "api_base": f"{url}/ollama"},
    }
    return {
        "model_list": [{"model_name": name, "litellm_params": params} for name, params in models.items()],
        "router_settings": {"num_retries": 0, "disable_cooldowns": True},
        "litellm_settings": {"callbacks": ["request_transformer.proxy_handler_instance"], "drop_params": True} | settings,
        "general_settings": {"custom_auth": "custom_auth.user_api_key_auth", "master_key": "os.environ/LITELLM_MASTER_KEY"},
    }


def answer(seen: up.Seen) -> up.Reply:
    if seen.method == "GET" or seen.path.endswith("/api/show"):
        return up.Reply(404)
    return TOKEN if seen.path == "/token" else reply(strict.Sent(**vars(seen)), up.text("here"))


def reply(sent: strict.Sent, words: dict[str, Any]) -> up.Reply:
    if sent.provider in ("claude", "glm"):
        return up.anthropic_reply(sent, words)
    if sent.provider == "gpt":
        return up.openai_reply(sent, words)
    if sent.provider == "ollama":
        return whole({"model": "qwen", "message": {"role": "assistant", "content": "here"}, "done": True})
    if "nova" in sent.path:
        message = {"role": "assistant", "content": [{"text": "here"}]}
        usage = {"inputTokens": 1, "outputTokens": 1, "totalTokens": 2}
        return whole({"output": {"message": message}, "stopReason": "end_turn", "usage": usage})
    return strict.reply(sent, words)


def whole(body: dict[str, Any]) -> up.Reply:
    return up.Reply(headers={"content-type": "application/json"}, body=json.dumps(body).encode())


@pytest.fixture(scope="module")
def attacker() -> Iterator[up.Upstream]:
    """A host that only clients name."""
    server = up.Upstream(lambda _: up.Reply(404))
    yield server
    server.close()


def started(upstream: up.Upstream, home: Path, **settings: Any) -> Iterator[Proxy]:
    upstream.answer = answer
    environment = {
        "ANTHROPIC_API_BASE": upstream.url,
        "CLAUDE_OAUTH_TOKENS": f"a={TOKENS['a']}",
        "VERTEX_CREDENTIALS": str(service_account(home, upstream.other_url)),
    }
    running = Proxy(home / "proxy", yaml.safe_dump(config(upstream.other_url, **settings)), **environment).wait_ready()
    resource.prlimit(running.process.pid, resource.RLIMIT_AS, (MEMORY, MEMORY))
    yield running
    running.stop()


@pytest.fixture(scope="module")
def proxy(shared_upstream: up.Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    yield from started(shared_upstream, tmp_path_factory.mktemp("bodies"))


@pytest.fixture(scope="module")
def unguarded(shared_upstream: up.Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """A proxy whose LiteLLM fetches from loopback, too: its own guard would hide that it was asked to."""
    yield from started(shared_upstream, tmp_path_factory.mktemp("unguarded"), user_url_validation=False)


@pytest.fixture(autouse=True)
def answering(upstream: up.Upstream) -> None:
    upstream.answer = answer


def cpu_seconds(proxy: Proxy) -> float:
    """The processor time of the proxy's process until now."""
    fields = Path(f"/proc/{proxy.process.pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def asked(proxy: Proxy, model: str, fields: dict[str, Any]) -> httpx.Response:
    return proxy.ask({"model": model, "max_tokens": 9} | fields)


# --- The growth of the work --------------------------------------------------------------------------------------------------

# The larger of the two sizes that are compared, where a bound or a body's size asks for another than the usual one.
USUAL = 6_000
SIZES = {
    **dict.fromkeys(("turns_of_one_role", "turns_of_one_assistant", "alternating_turns", "system_turns"), 19_000),
    "calls_in_one_turn": bounds.CALLS_IN_A_TURN, "calls_without_results": bounds.CALLS_IN_A_TURN, "turns_with_calls": 3_000,
    "tools": bounds.TOOLS, "tools_with_long_names": bounds.TOOLS, "changes_of_tools": 1_600,
    "system_blocks": bounds.SYSTEM_BLOCKS,
    "stop_sequences": bounds.STOP_SEQUENCES, "properties_of_a_tool": 8_000, "references": 16_000, "metadata": 40_000,
    "nested_lists": 60_000, "wide_input": 20_000, "a_long_text": 400_000, "a_long_line": 2_000_000, "a_long_input": 200_000,
}  # fmt: skip
TIMES = 4
# Halfway between linear and quadratic, over what a request costs that has hardly anything in it.
AT_MOST = 8
LEAST = 0.06


@pytest.mark.parametrize("model", MEASURED)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_work_grows_with_the_body(proxy, upstream, shape, model):
    """A body of four times the size costs the proxy about four times the processor time, whatever is large in it."""
    large = SIZES.get(shape, USUAL)
    asked(proxy, model, SHAPES[shape](8))
    for _ in range(3):
        spent = []
        for size in (large // TIMES, large):
            fields = SHAPES[shape](size)
            before = cpu_seconds(proxy)
            answer = asked(proxy, model, fields)
            assert answer.status_code == 200, (answer.text[:500], proxy.output[-2000:])
            spent.append(cpu_seconds(proxy) - before)
        upstream.seen.clear()
        if spent[1] <= AT_MOST * max(spent[0], LEAST):
            return
    raise AssertionError(f"{large // TIMES} and {large}: {spent}")


# --- What is too much --------------------------------------------------------------------------------------------------------

TOO_MUCH = {
    "turns_of_one_role": bounds.TURNS, "blocks_in_one_turn": bounds.BLOCKS, "calls_in_one_turn": bounds.CALLS_IN_A_TURN,
    "turns_with_calls": bounds.CALLS, "tools": bounds.TOOLS, "system_blocks": bounds.SYSTEM_BLOCKS,
    "stop_sequences": bounds.STOP_SEQUENCES,
}  # fmt: skip


@pytest.mark.parametrize("model", [model for model in LANES if model != "claude-x"])
@pytest.mark.parametrize("shape", TOO_MUCH)
def test_what_is_over_a_bound_is_refused(proxy, upstream, shape, model):
    """One over a bound is refused with 400 in Anthropic's shape, and no provider is asked."""
    refused = asked(proxy, model, SHAPES[shape](TOO_MUCH[shape] + 1))
    assert refused.status_code == 400
    assert refused.json()["error"]["type"] == "invalid_request_error"
    assert "the proxy accepts at most" in refused.json()["error"]["message"]
    assert refused.headers["x-should-retry"] == "false"
    assert upstream.asked == []


@pytest.mark.parametrize("shape", TOO_MUCH)
def test_claude_gets_what_is_over_a_bound(proxy, upstream, shape):
    """For Claude no bound holds but Anthropic's own: the body arrives as it was sent."""
    fields = SHAPES[shape](TOO_MUCH[shape] + 1)
    assert asked(proxy, "claude-x", fields).status_code == 200
    (seen,) = upstream.asked
    assert seen.json["messages"] == fields["messages"]


def test_neighbours_of_one_role_count_as_one_turn(proxy, upstream):
    """Calls in many turns of one role are calls of the one turn that they become, and are held to its bound."""
    (_, calling, results) = SHAPES["calls_in_one_turn"](bounds.CALLS_IN_A_TURN + 1)["messages"]
    turns = [{"role": "assistant", "content": [block]} for block in calling["content"]]
    refused = asked(proxy, "gemini", {"messages": [{"role": "user", "content": "x"}, *turns, results]})
    assert refused.status_code == 400
    assert "tool calls" in refused.json()["error"]["message"]
    assert upstream.asked == []


# --- Schemas that multiply ---------------------------------------------------------------------------------------------------


def schema_of(levels: int) -> dict[str, Any]:
    """A schema whose references become ten times as much with each level."""
    definitions = {f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 10} for n in range(levels)}
    definitions[f"d{levels}"] = {"type": "string"}
    return {"type": "object", "properties": {"a": {"$ref": "#/$defs/d0"}}, "$defs": definitions}


def with_schema(schema: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "x"}], "tools": [{"name": "sprawling", "input_schema": schema}]}


EXPANDED = ("gemini", "gemini-vertex", "nova", "ollama")


@pytest.mark.parametrize("model", LANES)
def test_a_schema_that_multiplies(proxy, upstream, model):
    """Where references are expanded, a schema that becomes too large is refused by its tool's name; elsewhere it passes."""
    response = asked(proxy, model, with_schema(schema_of(9)))
    if model in EXPANDED:
        assert response.status_code == 400
        assert "sprawling" in response.json()["error"]["message"]
        assert upstream.asked == []
    else:
        assert response.status_code == 200
        assert "#/$defs/d9" in upstream.asked[-1].everything


@pytest.mark.parametrize("model", LANES)
def test_a_recursive_schema(proxy, upstream, attacker, model):
    """A schema that refers to itself and to another host arrives on every lane, and the host is not asked."""
    node = {"type": "object", "properties": {"inner": {"$ref": "#/$defs/node"}, "far": {"$ref": f"{attacker.other_url}/s"}}}
    schema = {"type": "object", "properties": {"a": {"$ref": "#/$defs/node"}}, "$defs": {"node": node}}
    assert asked(proxy, model, with_schema(schema)).status_code == 200
    sent = next(seen for seen in upstream.asked if "sprawling" in seen.everything)
    assert ("$ref" in sent.everything) is (model not in EXPANDED)
    assert attacker.seen == []


# --- Addresses ---------------------------------------------------------------------------------------------------------------


def sources(url: str) -> list[dict[str, Any]]:
    return [
        {"type": "url", "url": f"{url}/a.png"},
        {"type": "url", "url": "gs://a-bucket/a.png"},
        {"type": "file", "file_id": f"{url}/a.pdf"},
        {"type": "base64", "media_type": "image/png", "data": f"{url}/a.png"},
        {"type": "base64", "media_type": "image/png", "url": f"{url}/a.png", "data": "gs://a-bucket/a.png"},
        {"url": f"{url}/a.png"},
    ]


@pytest.mark.parametrize("model", LANES)
@pytest.mark.parametrize("kind", ["image", "document"])
def test_no_address_is_fetched(unguarded, upstream, attacker, kind, model):
    """Whatever address an image or a document names, in a turn or in a result, the proxy does not ask its host."""
    for source in sources(attacker.other_url):
        block = {"type": kind, "source": source}
        call = {"type": "tool_use", "id": "toolu_1", "name": "Read", "input": {}}
        result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [block]}
        turns = [{"role": "assistant", "content": [call]}, {"role": "user", "content": [result]}]
        tools = [{"name": "Read", "input_schema": {"type": "object", "properties": {}}}]
        for history in ([], turns):
            messages = [{"role": "user", "content": [block, up.text("look")]}, *history]
            asked(unguarded, model, {"messages": messages, "tools": tools})
    assert attacker.seen == []
    if model not in RELAYED:
        everything = "\n".join(seen.everything for seen in upstream.asked)
        assert NOT_FETCHED in everything
        assert "gs://" not in everything


@pytest.mark.parametrize("model", ["claude-x", "glm", "gpt"])
def test_a_provider_that_fetches_gets_the_address(proxy, upstream, model):
    """An image's address reaches Claude and whoever fetches images by themselves."""
    source = {"type": "url", "url": "https://images.example.org/a.png"}
    content = [{"type": "image", "source": source}, up.text("look")]
    assert asked(proxy, model, {"messages": [{"role": "user", "content": content}]}).status_code == 200
    assert "https://images.example.org/a.png" in upstream.asked[-1].everything


def test_the_proxy_still_answers(proxy):
    """After all of that every lane answers."""
    for model in LANES:
        assert proxy.ask(question(model)).status_code == 200
