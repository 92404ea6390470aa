"""Auto mode of the real Claude Code: Anthropic's server checks Claude's calls, and nobody asks another model for that."""

import json

import pytest
import upstream as up
from claude_code import ClaudeCode
from conftest import by_provider
from processes import STATIC_TOKEN

from claude_proxy.cli.onboarding import REPLACED_VARIABLES

COUNT = {"command": 'python3 -c \'print("forty" + "-two")\'', "description": "Count"}
BETA = "dangerous-tool-use-2026-09-03"


def checked(seen: up.Seen, outcome: str) -> up.Reply:
    """Answer as Claude does to a request with ``safeguards``: a call, and in the last event what the check says of it."""
    call = up.tool("Bash", COUNT)
    verdict = {"type": "available", "tool_uses": {call["id"]: {"type": "evaluated", "outcome": outcome}}}
    events = up.events_of(up.message(call, model=seen.json["model"]))
    events[-2]["delta"]["safeguard_results"] = [{"type": "dangerous_tool_use", "status": verdict}]
    return up.Reply(headers={"content-type": "text/event-stream", "request-id": "req_1"}, chunks=up.sse(*events))


@pytest.mark.parametrize("emptied", [(), REPLACED_VARIABLES], ids=["unset", "empty"])
@pytest.mark.parametrize(("outcome", "ran"), [("not_flagged", True), ("flagged", False)])
def test_claude_s_calls_are_checked_by_its_server(pooled, upstream, tmp_path, outcome, ran, emptied):
    """The request for the check and its result pass as they are, so that a call runs or not as Anthropic's server says.

    The variables that a printed command empties are for Claude Code as if they were not set.
    """

    def claude(seen: up.Seen) -> up.Reply:
        assert seen.json["safeguards"]
        assert BETA in seen.header("anthropic-beta").split(",")
        done = "tool_result" in json.dumps(seen.json["messages"])
        return up.anthropic_reply(seen, up.text("the end")) if done else checked(seen, outcome)

    upstream.answer = by_provider(claude=claude)
    user = ClaudeCode(tmp_path, pooled.url)
    run = user.run("Count", "--permission-mode", "auto", model="claude-opus-5-5", **dict.fromkeys(emptied, ""))
    assert (run.code, run.retries, run.result) == (0, 0, "the end"), run.events
    assert len(upstream.asked) == 2, "nobody is asked for a check besides"
    assert ("forty-two" in upstream.asked[-1].body.decode()) is ran


@pytest.mark.parametrize("model", ["glm", "gpt"])
@pytest.mark.parametrize("verdict", ["no", "yes"])
def test_claude_code_checks_another_model_s_calls(pooled, upstream, tmp_path, model, verdict):
    """With the variables of a printed block the check is a request for a model that is served, and its word holds."""

    def answer(seen: up.Seen) -> list[dict[str, object]]:
        assert "safeguards" not in seen.json
        said = json.dumps(seen.json["messages"])
        if not seen.json.get("tools"):
            return [up.text(f"<block>{verdict}</block>")]
        return [up.text("the end")] if '"tool_call_id"' in said or "tool_result" in said else [up.tool("Bash", COUNT)]

    upstream.answer = by_provider(
        glm=lambda seen: up.anthropic_reply(seen, *answer(seen)), gpt=lambda seen: up.openai_reply(seen, *answer(seen))
    )
    user = ClaudeCode(tmp_path, pooled.url, STATIC_TOKEN)
    block = {"CLAUDE_CODE_AUTO_MODE_SERVER": "0", "CLAUDE_CODE_AUTO_MODE_MODEL": model}
    run = user.run("Count", "--permission-mode", "auto", model=model, **block)
    assert (run.code, run.retries, run.result) == (0, 0, "the end"), run.events
    assert ("forty-two" in upstream.asked[-1].body.decode()) is (verdict == "no")
    assert any(not seen.json.get("tools") for seen in upstream.asked)
