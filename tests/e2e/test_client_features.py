"""What Claude Code brings itself works on Claude and on another model: memory, skills, plugins, hooks, MCP, commands."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import upstream as up
from claude_code import ClaudeCode
from processes import Proxy, clean_environment
from pseudo_terminal import Terminal
from test_claude_code import results_so_far, whichever

# An MCP server that knows one price. It speaks JSON-RPC, a message on each line.
MARKET = """
import json, sys

FRUIT = {"type": "object", "properties": {"fruit": {"type": "string"}}}
TOOL = {"name": "price", "description": "The price of a fruit", "inputSchema": FRUIT}

def answer(call):
    if call["method"] == "initialize":
        about = {"name": "market", "version": "1"}
        return {"protocolVersion": call["params"]["protocolVersion"], "capabilities": {"tools": {}}, "serverInfo": about}
    if call["method"] == "tools/list":
        return {"tools": [TOOL]}
    if call["method"] == "tools/call":
        return {"content": [{"type": "text", "text": call["params"]["arguments"]["fruit"] + " cost 4711"}]}
    return {}

for line in sys.stdin:
    call = json.loads(line)
    if "id" in call:
        print(json.dumps({"jsonrpc": "2.0", "id": call["id"], "result": answer(call)}), flush=True)
"""
SKILL = "---\nname: peeling\ndescription: How to peel a made-up fruit\n---\nPeel it from the left.\n"
COMMAND = "---\ndescription: Cook a fruit\n---\nCook $ARGUMENTS by the made-up recipe.\n"
ENTER, ESCAPE = "\r", "\x1b"
CHECK = "Is the made-up meal ready? $ARGUMENTS"


@pytest.fixture
def user(tmp_path: Path, pooled: Proxy) -> ClaudeCode:
    """A user whose project has memory with an import, a skill and hooks, beside a plugin and an MCP server."""
    user = ClaudeCode(tmp_path, pooled.url)
    user.environment["ENABLE_TOOL_SEARCH"] = "false"
    note = {"type": "command", "command": f"cat >> {tmp_path / 'hooked'}"}
    hooks = {
        "PostToolUse": [{"matcher": "Bash", "hooks": [note]}],
        "Stop": [{"hooks": [{"type": "prompt", "prompt": CHECK}]}],
    }
    files = {
        user.project / "CLAUDE.md": "Fruit is sold by the made-up pound.\n@more.md\n",
        user.project / "more.md": "Imported: pears are green.\n",
        user.project / ".claude/skills/peeling/SKILL.md": SKILL,
        user.home / ".claude/settings.json": json.dumps({"hooks": hooks}),
        tmp_path / "kitchen/.claude-plugin/plugin.json": json.dumps({"name": "kitchen", "version": "1.0.0"}),
        tmp_path / "kitchen/commands/cook.md": COMMAND,
        tmp_path / "market.py": MARKET,
        tmp_path / "mcp.json": json.dumps(
            {"mcpServers": {"market": {"command": sys.executable, "args": [str(tmp_path / "market.py")]}}}
        ),
    }
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return user


def cook(seen: up.Seen) -> list[dict[str, Any]]:
    """A model that looks up a price, reads a skill, runs a command, and says what it has learnt."""
    if "made-up meal ready" in seen.body.decode():
        return [up.text('{"ok": true}')]
    steps = [
        up.tool("mcp__market__price", {"fruit": "pears"}),
        up.tool("Skill", {"skill": "peeling"}),
        up.tool("Bash", {"command": "echo cooked", "description": "Cook"}),
    ]
    done = results_so_far(seen)
    return [steps[len(done)]] if len(done) < len(steps) else [up.text(f"done: {done[0]}")]


@pytest.mark.parametrize("model", ["claude-sonnet-5", "gpt"])
def test_what_claude_code_brings_itself(user, upstream, tmp_path, model):
    """A plugin's command, memory and its import, a skill, an MCP tool, and hooks of both kinds reach the model and back."""
    upstream.answer = whichever(cook)
    run = user.run(
        "/kitchen:cook pears", "--plugin-dir", str(tmp_path / "kitchen"), "--mcp-config", str(tmp_path / "mcp.json"),
        "--allowedTools", "mcp__market__price", "Skill", "Bash", model=model,
    )  # fmt: skip
    assert (run.code, run.retries) == (0, 0), run.result
    assert "pears cost 4711" in run.result
    main = [seen.body.decode() for seen in upstream.asked if "mcp__market__price" in seen.body.decode()]
    for words in ("Cook pears by the made-up recipe", "by the made-up pound", "pears are green", "How to peel a made-up fruit"):
        assert words in main[0], words
    assert "Peel it from the left" in main[-1]
    assert "echo cooked" in (tmp_path / "hooked").read_text()
    checks = [seen for seen in upstream.asked if "made-up meal ready" in seen.body.decode()]
    assert len(checks) == 1
    assert {seen.is_claude for seen in upstream.asked} == {model != "gpt"}


@pytest.fixture
def terminal(tmp_path: Path, pooled: Proxy) -> Iterator[Terminal]:
    """Claude Code in a terminal, of a user who trusts the project and skips the screens of a first start."""
    user = ClaudeCode(tmp_path, pooled.url)
    trusted = {"hasTrustDialogAccepted": True}
    first = {"hasCompletedOnboarding": True, "theme": "dark", "projects": {str(user.project): trusted}}
    (user.home / ".claude.json").write_text(json.dumps(first))
    (user.home / ".claude").mkdir()
    # Nobody is asked about auto mode.
    (user.home / ".claude/settings.json").write_text(json.dumps({"permissions": {"disableAutoMode": "disable"}}))
    running = Terminal([str(user.binary)], user.project, clean_environment(user.home, **user.environment))
    yield running
    running.close()


def test_the_commands_of_a_session(terminal, pooled, upstream):
    """The first screen is the prompt; /status names the proxy's address, and /model gives the session another model."""

    def enter(line: str, shown: str) -> None:
        terminal.send(line)
        terminal.wait_for(line, quiet=0.5)
        terminal.send(ENTER)
        terminal.wait_for(shown, quiet=0.5)

    terminal.wait_for("? for shortcuts", quiet=0.5)
    enter("/status", f"Anthropic base URL: {pooled.url}")
    terminal.send(ESCAPE)
    terminal.wait_for("? for shortcuts", quiet=0.5)
    enter("/model gpt", "Set model to gpt")
    enter("hello", "from gpt")
    assert {seen.json["model"] for seen in upstream.asked} == {"gpt-x"}
