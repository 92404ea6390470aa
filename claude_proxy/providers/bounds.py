"""Limits for the size of a request to a provider other than Claude. Plain values, no I/O.

LiteLLM translates such a request inside the event loop, where it blocks all other requests, and some of its code is quadratic.
The limits keep that under about a second (LiteLLM 1.106.2, measured for each provider). They are at least ten times what
Claude Code sends: 28 tools, 5 blocks in a turn, a few hundred turns.
"""

from collections.abc import Mapping
from typing import Any

TURNS = 20_000
# Of all turns together, including the parts of tool results. LiteLLM needs 10 µs for each.
BLOCKS = 50_000
# LiteLLM's translation for Gemini compares each call of a turn with each result: 2,000 calls take 1 s, 4,000 take 4 s.
CALLS_IN_A_TURN = 500
CALLS = 6_000
# Characters of all texts together, without images. LiteLLM counts the tokens if a provider does not.
TEXT = 10_000_000
TOOLS = 2_000
TOOL_NAME_LENGTH = 256
SYSTEM_BLOCKS = 2_000
STOP_SEQUENCES = 1_000


class TooLarge(ValueError):
    """A request exceeds a limit; the text is for the client."""


def check(fields: Mapping[str, Any]) -> None:
    """Raise ``TooLarge`` if a Messages request exceeds a limit. One pass over its blocks."""
    for name, bound in (("messages", TURNS), ("tools", TOOLS), ("system", SYSTEM_BLOCKS), ("stop_sequences", STOP_SEQUENCES)):
        _hold(name, len(_list(fields.get(name))), bound, "entries")
    blocks = calls = characters = 0
    for place, turn in enumerate(_list(fields.get("messages"))):
        whole = turn.get("content") if isinstance(turn, dict) else None
        content = _list(whole)
        parts = [part for inner in map(_inner, content) for part in _list(inner)]
        calling = sum(1 for block in content if isinstance(block, dict) and block.get("type") == "tool_use")
        _hold(f"messages.{place}", calling, CALLS_IN_A_TURN, "tool calls")
        calls += calling
        blocks += len(content) + len(parts)
        characters += _length(whole) + sum(_length(_inner(block)) + _length(_text(block)) for block in (*content, *parts))
        _hold("messages", calls, CALLS, "tool calls")
        _hold("messages", blocks, BLOCKS, "content blocks")
        _hold("messages", characters, TEXT, "characters of text")
    for place, tool in enumerate(_list(fields.get("tools"))):
        called = tool.get("name") if isinstance(tool, dict) else None
        if isinstance(called, str):
            _hold(f"tools.{place}.name", len(called), TOOL_NAME_LENGTH, "characters")


def _hold(where: str, count: int, bound: int, what: str) -> None:
    if count > bound:
        raise TooLarge(f"{where}: {count} {what}; the proxy accepts at most {bound} for this model")


def _inner(block: object) -> object:
    return block.get("content") if isinstance(block, dict) else None


def _text(block: object) -> object:
    return block.get("text") if isinstance(block, dict) else None


def _length(value: object) -> int:
    return len(value) if isinstance(value, str) else 0


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
