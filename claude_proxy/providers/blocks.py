"""Content blocks of the Messages API: a few functions to make and read them."""

import json
from collections.abc import Mapping
from typing import Any

from claude_proxy.providers.compatibility import Dialect

Block = dict[str, Any]

EPHEMERAL = {"type": "ephemeral"}


def text_block(words: str) -> Block:
    """Return a text block."""
    return {"type": "text", "text": words}


def with_cache_mark(made: Block, block: Block, row: Dialect) -> Block:
    """Return ``made`` with the cache mark of ``block``, in its plain form, if the provider reads cache marks."""
    return made | {"cache_control": EPHEMERAL} if row.cache_control and block.get("cache_control") else made


def blocks_of(turn: Mapping[str, Any]) -> list[Block]:
    """Return the blocks of a turn; string content becomes one text block."""
    content = turn["content"]
    return [text_block(content)] if isinstance(content, str) else content


def results_of(blocks: list[Block]) -> list[Block]:
    """Return the blocks that are tool results."""
    return [block for block in blocks if block["type"] == "tool_result"]


def plain_text(content: object) -> str:
    """Return the text of a string or of a list of blocks, one line per block; empty for anything else."""
    if isinstance(content, str):
        return content.strip()
    parts = content if isinstance(content, list) else []
    return "\n".join(str(part["text"]) for part in parts if isinstance(part, dict) and part.get("text")).strip()


def public_json(part: Block) -> str:
    """Return a part as JSON, without the fields that only Anthropic can read."""
    known = {name: value for name, value in part.items() if not name.startswith("encrypted") and name != "cache_control"}
    return json.dumps(known, ensure_ascii=False)
