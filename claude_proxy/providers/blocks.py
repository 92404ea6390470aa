"""Content blocks of the Messages API: what a turn is made of, and the few ways to make or read one."""

import json
from collections.abc import Mapping
from typing import Any

from claude_proxy.providers.compatibility import Dialect

Block = dict[str, Any]

EPHEMERAL = {"type": "ephemeral"}


def text_block(words: str) -> Block:
    """Return a block of text."""
    return {"type": "text", "text": words}


def with_cache_mark(made: Block, block: Block, row: Dialect) -> Block:
    """Return a block with the cache mark of the one that it was made from, in the plain form, where the provider reads it."""
    return made | {"cache_control": EPHEMERAL} if row.cache_control and block.get("cache_control") else made


def blocks_of(turn: Mapping[str, Any]) -> list[Block]:
    """Return the blocks of a turn; content that is a string is one of text."""
    content = turn["content"]
    return [text_block(content)] if isinstance(content, str) else content


def results_of(blocks: list[Block]) -> list[Block]:
    """Return those blocks that are the results of tools."""
    return [block for block in blocks if block["type"] == "tool_result"]


def plain_text(content: object) -> str:
    """Return the text in a string or a list of blocks, a line for each block; nothing for anything else."""
    if isinstance(content, str):
        return content.strip()
    parts = content if isinstance(content, list) else []
    return "\n".join(str(part["text"]) for part in parts if isinstance(part, dict) and part.get("text")).strip()


def public_json(part: Block) -> str:
    """Return a part as JSON, without what only Anthropic can read."""
    known = {name: value for name, value in part.items() if not name.startswith("encrypted") and name != "cache_control"}
    return json.dumps(known, ensure_ascii=False)
