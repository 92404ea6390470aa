"""The transcript that Claude Code keeps of a session, without what differs between two runs of the same."""

import json
import re
from pathlib import Path
from typing import Any

from claude_code import ClaudeCode

Said = tuple[str, dict[str, Any]]
# Names of sessions and agents, and what was measured.
VARYING = (
    (r"projects/[^/\s]+/[0-9a-f-]{36}", "projects/THIS"),
    (r"\ba[0-9a-f]{16}\b", "AGENT"),
    (r"duration_ms: \d+", "duration_ms: 1"),
)


def transcript(user: ClaudeCode) -> list[Said]:
    """Return who said which block, in order; thinking is for its maker alone and left out."""
    said: list[Said] = []
    calls: dict[str, int] = {}
    for entry in entries(user):
        for block in blocks(entry):
            if block["type"] in ("thinking", "redacted_thinking"):
                continue
            named = {}
            if block["type"] == "tool_use":
                named["id"] = calls[block["id"]] = len(calls)
            elif block["type"] == "tool_result":
                named["tool_use_id"] = calls[block["tool_use_id"]]
            said.append((entry["type"], json.loads(_general(json.dumps(block | named), user))))
    return in_order_of_calls(said)


def thoughts(user: ClaudeCode) -> list[str]:
    """Return the thinking in a session."""
    return [block["thinking"] for entry in entries(user) for block in blocks(entry) if block["type"] == "thinking"]


def entries(user: ClaudeCode) -> list[dict[str, Any]]:
    """Return what the user and the model said in the one session of a project, subagents aside."""
    (path,) = Path(user.home, ".claude", "projects").glob("*/*.jsonl")
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line["type"] in ("user", "assistant") and not line.get("isSidechain")]


def blocks(entry: dict[str, Any]) -> list[dict[str, Any]]:
    content = entry["message"]["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def in_order_of_calls(said: list[Said]) -> list[Said]:
    """Return the same with results that stand side by side in the order of their calls: they come as their tools end."""
    made: list[Said] = []
    for one in said:
        place = len(made)
        while _is_result(one) and place and _is_result(made[place - 1]) and _call(made[place - 1]) > _call(one):
            place -= 1
        made.insert(place, one)
    return made


def _is_result(said: Said) -> bool:
    return bool(said[1]["type"] == "tool_result")


def _call(said: Said) -> int:
    return int(said[1]["tool_use_id"])


def _general(text: str, user: ClaudeCode) -> str:
    text = text.replace(str(user.project), "PROJECT").replace(str(user.home), "HOME")
    for pattern, word in VARYING:
        text = re.sub(pattern, word, text)
    return text
