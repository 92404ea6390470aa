"""Tools and effort that change in the course of a conversation: to Claude as they came, to others as they are at its end."""

import json
from typing import Any

import pytest
import upstream as up
from claude_code import ClaudeCode
from conftest import by_provider
from processes import question

PLACEHOLDER = "DeferredToolPlaceholder"
MODELS = pytest.mark.parametrize("model", ["claude-opus-5-5", "glm", "gpt", "gpt-effort"])


def names(seen: up.Seen) -> list[str]:
    """The names of the offered tools, in either format."""
    return [tool.get("function", tool)["name"] for tool in seen.json.get("tools", [])]


def answering(script: Any) -> Any:
    return by_provider(
        claude=lambda seen: up.anthropic_reply(seen, *script(seen)),
        glm=lambda seen: up.anthropic_reply(seen, *script(seen)),
        gpt=lambda seen: up.openai_reply(seen, *script(seen)),
    )


@MODELS
def test_claude_code_loads_a_tool(tmp_path, pooled, upstream, model):
    """A tool that the model found by ToolSearch is offered from then on and runs; before, nobody but Claude hears of it."""

    def script(seen: up.Seen) -> list[dict[str, Any]]:
        said = json.dumps(seen.json["messages"])
        if "the jobs are known" in said:
            return [up.text("and again")]
        if "No scheduled jobs" in said:
            return [up.text("the jobs are known")]
        if "I look for a made-up tool" in said:
            return [up.text("listing"), up.tool("CronList", {})]
        return [up.text("I look for a made-up tool"), up.tool("ToolSearch", {"query": "select:CronList", "max_results": 3})]

    upstream.answer = answering(script)
    user = ClaudeCode(tmp_path, pooled.url)
    run = user.run("Which jobs are there?", "--allowedTools", "ToolSearch", "CronList", model=model)
    assert (run.code, run.retries, run.result) == (0, 0, "the jobs are known")
    again = user.run("Say it again", "--continue", model=model)
    assert (again.code, again.retries, again.result) == (0, 0, "and again")
    first, *later = [names(seen) for seen in upstream.seen]
    assert {"ToolSearch", "Read"} <= set(first)
    assert "CronList" not in first
    assert len(later) == 3
    assert all("CronList" in offered for offered in later)
    assert all((PLACEHOLDER in offered) == model.startswith("claude") for offered in (first, *later))
    for seen in upstream.seen if model.startswith("claude") else ():
        assert seen.json["thinking"]["display"]
        assert next(turn["output_config"] for turn in seen.json["messages"] if turn["role"] == "system")["effort"]
        assert "mid-conversation-tool-changes-2026-07-01" in seen.header("anthropic-beta").split(",")
        assert {tool["name"] for tool in seen.json["tools"] if tool.get("defer_loading")} == {*names(seen)} & {
            PLACEHOLDER, "CronList",
        }  # fmt: skip


SCHEMA = {"type": "object", "properties": {"path": {"type": "string"}}}
LATE = {"name": "Late", "description": "comes later", "input_schema": SCHEMA, "eager_input_streaming": True}
TOOLS = [
    {"name": "Read", "description": "reads", "input_schema": SCHEMA},
    {"name": "Write", "description": "writes", "input_schema": SCHEMA},
    {"name": "WebFetch", "description": "fetches", "input_schema": SCHEMA, "defer_loading": True},
    {"name": "Waiting", "description": "waits", "input_schema": SCHEMA, "defer_loading": True},
    {"name": PLACEHOLDER, "description": "none", "input_schema": {"type": "object"}, "defer_loading": True},
]
MESSAGES = [
    {"role": "user", "content": "begin"},
    {"role": "system", "content": [], "output_config": {"effort": "low"}},
    {"role": "assistant", "content": [{"type": "text", "text": "begun"}]},
    {"role": "user", "content": "go on"},
    {"role": "system", "clear_at": "next_user_message", "content": "of this moment alone"},
    {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1", "name": "Write", "input": {"path": "/a"}}]},
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "written"}]},
    {
        "role": "system",
        "content": [
            {"type": "text", "text": "the tools have changed"},
            {"type": "tool_removal", "tool": {"type": "tool_reference", "name": "Write"}},
            {"type": "tool_addition", "tool": {"type": "tool_reference", "name": "WebFetch"}},
            {"type": "tool_addition", "tool": {"type": "tool_definition", "definition": LATE}},
            {"type": "tool_addition", "tool": {"type": "mcp_toolset_reference", "server_name": "made-up"}},
        ],
        "output_config": {"effort": "max"},
    },
]


def changed(model: str, **more: Any) -> dict[str, Any]:
    thinking = {"type": "adaptive", "display": "updates"}
    return question(model, messages=MESSAGES, tools=TOOLS, thinking=thinking, output_config={"effort": "high"}, **more)


@MODELS
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_changes_of_tools_and_effort(pooled, upstream, model, stream):
    """Claude gets the conversation to the byte; others get the tools of its end and no word of what they do not know."""
    upstream.answer = answering(lambda _: [up.tool("Late", {"path": "/b"})])
    body = json.dumps(changed(model, stream=stream)).encode()
    answer = pooled.ask(body, anthropic_beta="mid-conversation-tool-changes-2026-07-01,inline-tools-2026-09-15")
    assert answer.status_code == 200, answer.text
    assert "Late" in answer.text
    (seen,) = upstream.asked
    if model.startswith("claude"):
        assert seen.body == body
        return
    assert names(seen) == ["Read", "WebFetch", "Late"]
    assert "the tools have changed" in seen.everything
    unknown = (
        "tool_addition", "tool_removal", "defer_loading", "eager_input_streaming", "display", "output_config", "clear_at",
        "of this moment alone", "made-up-server", "anthropic-beta", PLACEHOLDER, "Waiting",
    )  # fmt: skip
    assert not [word for word in unknown if word in seen.everything]


@MODELS
def test_an_effort_alone_is_a_turn(pooled, upstream, model):
    """A system turn that sets the effort and says nothing is no turn for those who do not know it, and to Claude passes."""
    turns = [*MESSAGES[:1], {"role": "system", "output_config": {"effort": "low"}}]
    body = json.dumps(question(model, messages=turns)).encode()
    assert pooled.ask(body).status_code == 200
    (seen,) = upstream.asked
    if model.startswith("claude"):
        assert seen.body == body
    else:
        assert [turn["role"] for turn in seen.json["messages"]] == ["user"]
        assert "effort" not in json.dumps(seen.json["messages"])
