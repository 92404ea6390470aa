"""Translates a Messages request to a chat-completions request. Values in, values out, no I/O.

``providers/request_fields.py`` has already adapted the request to its provider: roles alternate, every call has its result, and
thinking is the provider's own. The shapes: https://platform.openai.com/docs/api-reference/chat/create.

  1. a field that the provider may not accept is not sent (``providers/compatibility.py``);
  2. a tool's result is one text, because a result accepts only text; its images and files follow in a user message;
  3. a note replaces what the provider cannot read;
  4. tool names are encoded as the provider accepts them, and decoded in its response.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from claude_proxy.openai.tool_names import sent_name
from claude_proxy.openai.tool_schemas import plain_schema
from claude_proxy.providers.blocks import Block, blocks_of, text_block
from claude_proxy.providers.compatibility import Dialect
from claude_proxy.providers.history import NO_IMAGE

FAILED = "The tool reported an error:\n"
NO_FILE = "(A document was here. This model cannot read it.)"
IN_RESULT = "(This belongs to the result of the tool call above.)"
# Many servers reject an empty result.
NO_TEXT = "(no text)"
CHOICES = {"auto": "auto", "any": "required", "none": "none"}
PDF = "application/pdf"
RESPONSE_NAME = "response"


def chat_body(sent: Mapping[str, Any], fitted: Mapping[str, Any], row: Dialect, model: str) -> dict[str, Any]:
    """Return the request. ``sent`` is the client's request, ``fitted`` its fields after adaptation to the provider."""
    body: dict[str, Any] = {"model": model, "messages": [*_messages(fitted, row)]}
    body |= _limits(sent, row) | _tools(fitted, row) | _format(sent, row)
    if sent.get("stream") is True:
        body["stream"] = True
        if row.stream_options:
            body["stream_options"] = {"include_usage": True}
    return body


def _limits(sent: Mapping[str, Any], row: Dialect) -> dict[str, Any]:
    made: dict[str, Any] = {}
    if isinstance(sent.get("max_tokens"), int):
        made[row.max_tokens] = sent["max_tokens"]
    # 1 is the default of every provider, and reasoning models accept no other value.
    made |= {
        name: sent[name] for name in ("temperature", "top_p") if isinstance(sent.get(name), int | float) and sent[name] != 1
    }
    if row.top_k and isinstance(sent.get("top_k"), int):
        made["top_k"] = sent["top_k"]
    stops = sent.get("stop_sequences")
    if isinstance(stops, list) and (wanted := [stop for stop in stops if isinstance(stop, str) and stop]):
        made["stop"] = wanted[: row.stops] if row.stops else wanted
    return made


def _tools(fitted: Mapping[str, Any], row: Dialect) -> dict[str, Any]:
    tools = fitted.get("tools")
    if not tools:
        return {}
    offered = [_tool(tool) for tool in chosen_tools(tools, fitted.get("messages") or (), row.tools)]
    made: dict[str, Any] = {"tools": offered}
    choice = fitted.get("tool_choice")
    if isinstance(choice, dict):
        made |= _choice(choice, offered, row)
        if choice.get("disable_parallel_tool_use") is True:
            made["parallel_tool_calls"] = False
    return made


def _choice(choice: Mapping[str, Any], offered: list[dict[str, Any]], row: Dialect) -> dict[str, Any]:
    if choice.get("type") != "tool":
        known = CHOICES.get(str(choice.get("type")))
        return {"tool_choice": known} if known else {}
    name = sent_name(str(choice.get("name")))
    if row.named_choice:
        return {"tool_choice": {"type": "function", "function": {"name": name}}}
    alone = [tool for tool in offered if tool["function"]["name"] == name]
    return {"tool_choice": "required"} | ({"tools": alone} if alone else {})


def chosen_tools(tools: list[dict[str, Any]], history: Iterable[Mapping[str, Any]], most: int) -> list[dict[str, Any]]:
    """Return at most ``most`` tools (0: all). Tools that the conversation has called are kept first."""
    if not most or len(tools) <= most:
        return tools
    used = {block.get("name") for turn in history for block in blocks_of(turn) if block.get("type") == "tool_use"}
    first = sorted(tools, key=lambda tool: tool.get("name") not in used)[:most]
    kept = {id(tool) for tool in first}
    return [tool for tool in tools if id(tool) in kept]


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {"name": sent_name(str(tool["name"]))}
    if isinstance(tool.get("description"), str):
        made["description"] = tool["description"]
    made["parameters"] = plain_schema(tool.get("input_schema"))
    return {"type": "function", "function": made}


def _format(sent: Mapping[str, Any], row: Dialect) -> dict[str, Any]:
    config = sent.get("output_config")
    wanted = config.get("format") if isinstance(config, dict) else sent.get("output_format")
    if not row.json_schema or not isinstance(wanted, dict) or not isinstance(wanted.get("schema"), dict):
        return {}
    schema = {"name": RESPONSE_NAME, "schema": plain_schema(wanted["schema"])}
    return {"response_format": {"type": "json_schema", "json_schema": schema}}


def _messages(fitted: Mapping[str, Any], row: Dialect) -> Iterator[dict[str, Any]]:
    if system := fitted.get("system"):
        blocks = [text_block(system)] if isinstance(system, str) else system
        yield {"role": "system", "content": _content(blocks, row)}
    ids = _Ids(row)
    for turn in fitted.get("messages") or ():
        if turn["role"] == "assistant":
            yield _assistant(turn, row, ids)
        else:
            yield from _user(turn, row, ids)


class _Ids:
    """The call ids as the provider expects them: unchanged, or numbered (Kimi K2: ``functions.NAME:N``)."""

    def __init__(self, row: Dialect) -> None:
        self._numbers = row.numbered_calls
        self._made: dict[str, str] = {}

    def of_call(self, call: Block) -> str:
        given = str(call["id"])
        if not self._numbers:
            return given
        self._made[given] = f"functions.{sent_name(str(call['name']))}:{len(self._made)}"
        return self._made[given]

    def of_result(self, result: Block) -> str:
        given = str(result["tool_use_id"])
        return self._made.get(given, given)


def _assistant(turn: Mapping[str, Any], row: Dialect, ids: _Ids) -> dict[str, Any]:
    blocks = blocks_of(turn)
    thoughts = [str(block.get("thinking") or "") for block in blocks if block["type"] == "thinking"]
    texts = [block for block in blocks if block["type"] == "text"]
    calls = [_call(block, ids) for block in blocks if block["type"] == "tool_use"]
    made: dict[str, Any] = {"role": "assistant", "content": _content(texts, row) if texts else None}
    if thoughts:
        made["reasoning_content"] = "\n".join(thoughts)
    if calls:
        made["tool_calls"] = calls
    elif not texts:
        made["content"] = ""
    return made


def _call(block: Block, ids: _Ids) -> dict[str, Any]:
    function: dict[str, Any] = {
        "name": sent_name(str(block["name"])),
        "arguments": json.dumps(block.get("input") or {}, ensure_ascii=False),
    }
    made = {"id": ids.of_call(block), "type": "function", "function": function}
    extra = block.get("provider_specific_fields")
    if isinstance(extra, dict) and extra.get("signature"):
        # The two places where LiteLLM (1.106.2) and Google's own chat completions look for it.
        function["provider_specific_fields"] = {"thought_signature": extra["signature"]}
        made["extra_content"] = {"google": {"thought_signature": extra["signature"]}}
    return made


def _user(turn: Mapping[str, Any], row: Dialect, ids: _Ids) -> Iterator[dict[str, Any]]:
    """Yield the turn's tool results, then one user message: the results' images and files, then the user's blocks."""
    shown: list[Block] = []
    others: list[Block] = []
    for block in blocks_of(turn):
        if block["type"] == "tool_result":
            text, seen = _result(block)
            yield {"role": "tool", "tool_call_id": ids.of_result(block), "content": text}
            shown += seen
        else:
            others.append(block)
    if shown:
        shown.insert(0, text_block(IN_RESULT))
    if shown or others:
        yield {"role": "user", "content": _content([*shown, *others], row)}


def _result(block: Block) -> tuple[str, list[Block]]:
    """Return the text of a result, and its parts that are not text."""
    content = block.get("content")
    parts = [text_block(content)] if isinstance(content, str) else content if isinstance(content, list) else []
    texts = [str(part["text"]) for part in parts if part.get("type") == "text"]
    text = "\n\n".join(texts) or NO_TEXT
    return (FAILED if block.get("is_error") is True else "") + text, [part for part in parts if part.get("type") != "text"]


def _content(blocks: list[Block], row: Dialect) -> str | list[dict[str, Any]]:
    """Return the content of a message; plain text becomes one string, because some providers accept no list."""
    made = [part for block in blocks for part in _part(block, row)]
    if all(part["type"] == "text" and "cache_control" not in part for part in made):
        return "\n\n".join(part["text"] for part in made)
    return made


def _part(block: Block, row: Dialect) -> Iterator[dict[str, Any]]:
    source = block.get("source")
    match block["type"]:
        case "text":
            mark = {"cache_control": block["cache_control"]} if "cache_control" in block else {}
            yield {"type": "text", "text": str(block.get("text") or "")} | mark
        case "image":
            address = _address(source)
            yield {"type": "image_url", "image_url": {"url": address}} if address else _text_part(NO_IMAGE)
        case "document":
            yield from _document(block, source if isinstance(source, dict) else {}, row)


def _document(block: Block, source: Mapping[str, Any], row: Dialect) -> Iterator[dict[str, Any]]:
    title = str(block.get("title") or "document")
    if source.get("type") == "text":
        yield _text_part(f"{title}:\n{source.get('data') or ''}")
    elif source.get("type") == "content":
        content = source.get("content")
        parts = [text_block(content)] if isinstance(content, str) else content if isinstance(content, list) else []
        for part in parts:
            if isinstance(part, dict) and part.get("type") in ("text", "image"):
                yield from _part(part, row)
    elif row.files and source.get("type") == "base64" and source.get("media_type") == PDF:
        name = title if title.lower().endswith(".pdf") else f"{title}.pdf"
        yield {"type": "file", "file": {"filename": name, "file_data": f"data:{PDF};base64,{source.get('data')}"}}
    elif row.fetches and source.get("type") == "url":  # the operator has allowed the provider to fetch URLs
        yield {"type": "file", "file": {"file_id": str(source.get("url"))}}
    else:
        yield _text_part(NO_FILE)


def _address(source: object) -> str:
    if not isinstance(source, dict):
        return ""
    if source.get("type") == "base64":
        return f"data:{source.get('media_type')};base64,{source.get('data')}"
    return str(source.get("url") or "")


def _text_part(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}
