"""Adapts a conversation's history to a provider.

The steps, in this order:

  1. a system turn inside the history becomes a user's reminder, unless it applied only to a past turn; tool results come
     before other blocks, neighbouring turns of one role are joined, and empty turns are removed;
  2. thinking is kept only if it is the provider's own (see ``Thinking``);
  3. blocks of tools that Anthropic runs become text, call and result together; unknown blocks are removed;
  4. every call has one result in the next turn, and every result has its call; ids stay unique;
  5. block fields that the provider does not accept are removed;
  6. a URL that may not be fetched becomes a note (``fetching.py``).

Inputs are not modified; a history that needs no change is returned as the same object.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any

from claude_proxy.anthropic.messages import THINKING_TYPES, Messages, original_mark
from claude_proxy.anthropic.search_blocks import found_words
from claude_proxy.providers import fetching
from claude_proxy.providers.blocks import Block, blocks_of, plain_text, public_json, results_of, text_block, with_cache_mark
from claude_proxy.providers.call_ids import THOUGHT, fitted_id, original_id
from claude_proxy.providers.compatibility import Dialect, Thinking
from claude_proxy.providers.fetching import NO_HOSTS, FetchHosts

NO_RESULT = "There is no result: the call was interrupted."
NO_START = "(The start of this conversation is missing.)"
NO_IMAGE = "(An image or a document was here. This model cannot see it.)"
NOT_FETCHED = "(An image or a document was here. The proxy does not fetch its URL.)"
# Block fields that every provider accepts. A block of another type becomes text or is removed.
BLOCK_FIELDS: Mapping[str, tuple[str, ...]] = {
    "text": ("type", "text"),
    "image": ("type", "source"),
    "document": ("type", "source", "title", "context"),
    "tool_use": ("type", "id", "name", "input"),
    "tool_result": ("type", "tool_use_id", "content", "is_error"),
    "thinking": ("type", "thinking", "signature"),
    "redacted_thinking": ("type", "data"),
}
ROLES = {"tool_use": "assistant", "tool_result": "user"}
SERVER_CALLS = ("server_tool_use", "mcp_tool_use")


@dataclass(frozen=True, slots=True)
class _Fit:
    """The rules for the blocks of one history."""

    row: Dialect
    relayed: bool
    hosts: FetchHosts
    # The ids of server tool calls that have a result.
    pairs: frozenset[str]

    def has_source(self, block: Block) -> bool:
        """Whether an image or a document may keep its source: LiteLLM need not fetch it, or may."""
        passes = self.row.addresses and block.get("type") == "image"
        return self.relayed or fetching.is_safe(block.get("source"), self.hosts, passes=passes)


def fitted_messages(messages: Messages, row: Dialect, *, relayed: bool = False, hosts: FetchHosts = NO_HOSTS) -> Messages:
    """Return the history as the provider accepts it; the same object if nothing changed."""
    fit = _Fit(row, relayed, hosts, _server_pairs(messages))
    turns = [turn for message in _active_turns(messages) if (turn := _fitted_turn(message, fit)) is not None]
    paired = _joined(_paired(_joined(turns)))
    if messages and (not paired or paired[0]["role"] == "assistant"):
        paired.insert(0, {"role": "user", "content": NO_START})
    return messages if paired == messages else paired


def _active_turns(messages: Messages) -> Iterator[object]:
    """Yield the turns without past system turns that applied only to one user turn (``clear_at``)."""
    last = max(
        (place for place, turn in enumerate(messages) if isinstance(turn, dict) and turn.get("role") == "user"), default=0
    )
    for place, turn in enumerate(messages):
        is_past = place < last and isinstance(turn, dict) and turn.get("clear_at") == "next_user_message"
        if not (is_past and turn.get("role") == "system"):
            yield turn


def _fitted_turn(message: object, fit: _Fit) -> dict[str, Any] | None:
    if not isinstance(message, dict) or message.get("role") not in ("user", "assistant", "system"):
        return None
    role, content = message["role"], message.get("content")
    if role == "system":
        text = plain_text(content)
        return {"role": "user", "content": [text_block(f"<system-reminder>\n{text}\n</system-reminder>")]} if text else None
    if isinstance(content, str):
        return {"role": role, "content": content} if content.strip() else None
    if not isinstance(content, list):
        return None
    blocks = [made for block in content if isinstance(block, dict) for made in _fitted_block(block, role, fit)]
    return {"role": role, "content": blocks} if blocks else None


def _fitted_block(block: Block, role: str, fit: _Fit) -> Iterator[Block]:
    kind, row = str(block.get("type")), fit.row
    if kind in THINKING_TYPES:
        if role == "assistant" and (own := own_thinking(block, row)) is not None:
            yield own
    elif kind in ("image", "document") and not (row.images and fit.has_source(block)):
        yield text_block(NOT_FETCHED if row.images and fetching.is_elsewhere(block.get("source")) else NO_IMAGE)
    elif kind in BLOCK_FIELDS:
        is_empty = kind == "text" and not str(block.get("text") or "").strip()
        if not is_empty and ROLES.get(kind, role) == role:
            yield with_cache_mark(_fitted_fields(block, kind, fit), block, row)
    elif text := _server_text(block, fit.pairs):
        # The line break separates it from the next text: some formats have one string per turn, where LiteLLM joins the texts.
        yield with_cache_mark(text_block(f"{text}\n"), block, row)


def _fitted_fields(block: Block, kind: str, fit: _Fit) -> Block:
    made = {name: block[name] for name in BLOCK_FIELDS[kind] if name in block}
    row = fit.row
    if kind == "tool_use":
        made["id"] = fitted_id(str(block.get("id", "")), row)
        made["input"] = block["input"] if isinstance(block.get("input"), dict) else {}
        signature = original_id(str(block.get("id", ""))).partition(THOUGHT)[2] if row.signs_calls else ""
        if signature:
            made["provider_specific_fields"] = {"signature": signature}  # where LiteLLM 1.106.2 looks for it
    elif kind == "tool_result":
        made["tool_use_id"] = fitted_id(str(block.get("tool_use_id", "")), row)
        if isinstance(block.get("content"), list):
            made["content"] = [each for part in block["content"] for each in _fitted_part(part, fit)]
    return made


def _fitted_part(part: object, fit: _Fit) -> Iterator[Block]:
    """Yield a part of a tool result: text and images are kept, a tool reference becomes a sentence."""
    if not isinstance(part, dict):
        return
    match part.get("type"):
        case "tool_reference":
            yield text_block(f"The tool {part.get('tool_name')} is loaded.")
        case "text" | "image" | "document":
            yield from _fitted_block(part, "user", fit)
        case _:
            if text := plain_text([part]) or public_json(part):
                yield text_block(text)


def own_thinking(block: Block, row: Dialect) -> Block | None:
    """Return a thinking block in the form of the provider that made it; None if another provider made it."""
    field = "signature" if block.get("type") == "thinking" else "data"
    value = block.get(field)
    value = value if isinstance(value, str) else ""
    marked = original_mark(value)
    if row.thinking is Thinking.CLAUDE:
        return {name: block[name] for name in BLOCK_FIELDS[block["type"]] if name in block} if value and not marked else None
    if row.thinking is Thinking.NONE or marked is None or marked[0] != row.name:
        return None
    made = {name: block[name] for name in BLOCK_FIELDS[block["type"]] if name in block}
    return made | {field: marked[1]}


def _server_pairs(messages: Messages) -> frozenset[str]:
    """Return the ids of server tool calls that have a result."""
    blocks = [
        block
        for message in messages
        if isinstance(message, dict) and isinstance(message.get("content"), list)
        for block in message["content"]
        if isinstance(block, dict)
    ]
    calls = {str(block.get("id")) for block in blocks if str(block.get("type")) in SERVER_CALLS}
    results = {str(block.get("tool_use_id")) for block in blocks if _is_server_result(block)}
    return frozenset(calls & results)


def _is_server_result(block: Block) -> bool:
    kind = str(block.get("type"))
    return kind.endswith("_tool_result") and kind != "tool_result"


def _server_text(block: Block, pairs: frozenset[str]) -> str:
    """Return a block of a tool that ran at Anthropic as text; empty for a call without a result and for unknown blocks."""
    if str(block.get("type")) in SERVER_CALLS and str(block.get("id")) in pairs:
        return f"[{block.get('name')}: {json.dumps(block.get('input'), ensure_ascii=False)}]"
    if not _is_server_result(block) or str(block.get("tool_use_id")) not in pairs:
        return ""
    content = block.get("content")
    parts = content if isinstance(content, list) else [content]
    lines = [_result_text(part) for part in parts if isinstance(part, dict)]
    return "\n".join(line for line in lines if line) or "(no result)"


def _result_text(part: Block) -> str:
    if part.get("url"):
        return found_words(part)
    return plain_text([part]) or public_json(part)


def _joined(turns: Iterable[dict[str, Any]]) -> Messages:
    """Join neighbouring turns of one role, and put the tool results first in a user turn, as every endpoint requires."""
    runs = (list(run) for _, run in groupby(turns, key=itemgetter("role")))
    joined = (run[0] if len(run) == 1 else {"role": run[0]["role"], "content": [*_all_blocks(run)]} for run in runs)
    return [_results_first(turn) for turn in joined]


def _all_blocks(turns: Iterable[dict[str, Any]]) -> Iterator[Block]:
    for turn in turns:
        yield from blocks_of(turn)


def _results_first(turn: dict[str, Any]) -> dict[str, Any]:
    if turn["role"] != "user" or isinstance(turn["content"], str):
        return turn
    return {"role": "user", "content": sorted(turn["content"], key=lambda block: block["type"] != "tool_result")}


def _paired(turns: Messages) -> Messages:
    """Give every call one result in the next turn, and remove results without a call."""
    paired: Messages = []
    calls: dict[str, None] = {}
    for turn in turns:
        if turn["role"] == "user" or calls:
            results_turn = turn if turn["role"] == "user" else {"role": "user", "content": []}
            if blocks := _with_results(blocks_of(results_turn), calls):
                paired.append(results_turn if blocks == blocks_of(results_turn) else {"role": "user", "content": blocks})
        calls = {}
        if turn["role"] == "assistant":
            blocks = [block for block in blocks_of(turn) if block["type"] != "tool_use" or _first_of(block["id"], calls)]
            paired.append(turn if blocks == blocks_of(turn) else turn | {"content": blocks})
    return [*paired, {"role": "user", "content": _with_results([], calls)}] if calls else paired


def _with_results(blocks: list[Block], calls: Iterable[str]) -> list[Block]:
    """Return a user's blocks with exactly one result for each of the calls, and no other results."""
    results = {block["tool_use_id"]: block for block in reversed(results_of(blocks))}
    missing = [_no_result(call) for call in calls if call not in results]
    known = {id(results[call]) for call in calls if call in results}
    return missing + [block for block in blocks if block["type"] != "tool_result" or id(block) in known]


def _first_of(call: str, seen: dict[str, None]) -> bool:
    if call in seen:
        return False
    seen[call] = None
    return True


def _no_result(call: str) -> Block:
    return {"type": "tool_result", "tool_use_id": call, "content": NO_RESULT, "is_error": True}
