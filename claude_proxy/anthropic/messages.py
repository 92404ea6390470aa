"""Requests and whole responses in the Anthropic Messages format: what LiteLLM may see of a body, and thinking blocks.

Values in, values out. Nothing is modified in place; where there is nothing to change, the very same object comes back.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from claude_proxy.anthropic import search_blocks

Body = Mapping[str, Any]
Messages = list[dict[str, Any]]

# The fields of the Messages API that may go to another provider. Everything else in a client's body would reach LiteLLM's own
# switches (api_key, api_base, fallbacks, extra_headers, mock_response, guardrails, tags, ...), so it is an allow-list.
# Claude gets the client's whole body all the same.
FOR_PROVIDERS = frozenset(
    {
        "model", "messages", "system", "tools", "tool_choice", "max_tokens", "temperature", "top_p", "top_k", "stop_sequences",
        "stream", "thinking", "output_config", "context_management",
    }
)  # fmt: skip
# A tuple, which compares: what a client or an upstream puts into "type" need not be hashable.
THINKING_TYPES = ("thinking", "redacted_thinking")
# In front of the signature of kept thinking: whose it is. Claude's own signatures are base64 and have no colon.
MARK = "claude-proxy:"
# An id of a call that the proxy spelled begins so. OpenAI takes 40 characters; Claude's own ids have 30.
ID_PREFIX = "cpx_"
LONGEST_ID = 40
ID_FIELDS = {"tool_use": "id", "tool_result": "tool_use_id"}
# Parameters about thinking, which no other provider is sent unless its deployment in config.yaml asks for it.
THINKING_PARAMETERS = ("thinking", "output_config", "context_management")
# ``json.dumps`` makes an encoder for each call.
_compact = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_ascii = json.JSONEncoder(separators=(",", ":")).encode


def for_provider(body: Body) -> dict[str, Any]:
    """Return the part of a client's body that others may see; of ``metadata`` only ``user_id``, of tools no gateway ones."""
    seen = {name: value for name, value in body.items() if name in FOR_PROVIDERS}
    metadata = body.get("metadata")
    if isinstance(metadata, dict) and isinstance(metadata.get("user_id"), str):
        seen["metadata"] = {"user_id": metadata["user_id"]}
    if isinstance(seen.get("tools"), list):
        # LiteLLM runs tools of type "mcp" by itself, against any server that the client names, and breaks on what is no tool.
        seen["tools"] = [tool for tool in seen["tools"] if isinstance(tool, dict) and tool.get("type") != "mcp"]
    return seen


def is_deeper_than(value: object, limit: int) -> bool:
    """Whether lists and objects stand inside each other more than ``limit`` times. Without recursion."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(limit):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            break
    return bool(level)


def without_thinking(messages: Messages) -> Messages:
    """Take all thinking out of a history, for a provider that is not Anthropic. A turn of only thinking goes as a whole."""
    return _filtered(messages, lambda block: block.get("type") in THINKING_TYPES)


def without_foreign_thinking(messages: Messages) -> Messages:
    """Take out the thinking that Claude did not make: it has no signature or a mark, and Claude answers 400 to it.

    Signed blocks stay as they are, empty text included, and so does ``redacted_thinking``: Claude needs them inside a
    tool loop and for the cached prefix. What the proxy has searched for another model becomes text.
    """
    return _each_block(_filtered(messages, _is_foreign), _of_proxy)


def short_id(call: str) -> str:
    """Return an id of a call as it is where it is short enough, else a digest of it: two ids stay two."""
    if len(call) <= LONGEST_ID:
        return call
    return f"call_{hashlib.blake2b(call.encode('utf-8', 'surrogatepass'), digest_size=16).hexdigest()}"


def mark(provider: str, signature: str) -> str:
    """Return a signature that says whose the thinking is, with the provider's own one in it."""
    return f"{MARK}{provider}:{signature}"


def original_mark(signature: str) -> tuple[str, str] | None:
    """Return the provider and its own signature of a marked one; None for one without a mark."""
    if not signature.startswith(MARK):
        return None
    provider, _, original = signature.removeprefix(MARK).partition(":")
    return provider, original


def repaired(body: Body) -> dict[str, Any] | None:
    """Return the body for the second try after Claude refused its thinking blocks; None when it has none to take out.

    Without its blocks a tool loop may not ask for thinking either, and ``clear_thinking_*`` edits need thinking.
    """
    messages = body.get("messages")
    if not isinstance(messages, list):
        return None
    plain = without_thinking(messages)
    if plain is messages:
        return None
    mended = {name: value for name, value in body.items() if name != "thinking"} | {"messages": plain}
    management = body.get("context_management")
    if isinstance(management, dict) and isinstance(management.get("edits"), list):
        edits = [edit for edit in management["edits"] if not _clears_thinking(edit)]
        mended["context_management"] = management | {"edits": edits}
        if not edits:
            del mended["context_management"]
    return mended


def response_without_thinking(response: dict[str, Any]) -> dict[str, Any]:
    """Take the thinking blocks out of a whole response. One of only thinking stays a message, with no content."""
    content = response.get("content")
    if not isinstance(content, list):
        return response
    kept = [block for block in content if not (isinstance(block, dict) and block.get("type") in THINKING_TYPES)]
    return response if len(kept) == len(content) else response | {"content": kept}


def to_json(value: object) -> bytes:
    """Return compact JSON in UTF-8; where a lone surrogate forbids that (half an emoji), in ASCII with escapes."""
    try:
        return _compact(value).encode()
    except UnicodeEncodeError:
        return _ascii(value).encode()


def readable_json(value: object) -> bytes:
    """Return compact JSON in UTF-8; half a character becomes a question mark, because most providers refuse it."""
    return _compact(value).encode("utf-8", "replace")


def _filtered(messages: Messages, unwanted: Any) -> Messages:
    kept: Messages = []
    changed = False
    for message in messages:
        content = message.get("content") if isinstance(message, dict) else None
        if not isinstance(content, list) or message.get("role") != "assistant":
            kept.append(message)
            continue
        blocks = [block for block in content if not (isinstance(block, dict) and unwanted(block))]
        if len(blocks) == len(content):
            kept.append(message)
            continue
        changed = True
        if blocks:
            kept.append(message | {"content": blocks})
    return kept if changed else messages


def _is_foreign(block: Mapping[str, Any]) -> bool:
    match block.get("type"):
        case "thinking":
            signature = block.get("signature")
            return not signature or str(signature).startswith(MARK)
        case "redacted_thinking":
            return str(block.get("data")).startswith(MARK)
    return False


def _each_block(messages: Messages, changed: Callable[[Any], Any]) -> Messages:
    made = [
        message | {"content": [changed(block) for block in message["content"]]}
        if isinstance(message, dict) and isinstance(message.get("content"), list)
        else message
        for message in messages
    ]
    return messages if made == messages else made


def _of_proxy(block: Any) -> Any:
    """Return a block that the proxy has made or spelled as Claude takes it: a search as text, a long id of a call shortened."""
    if isinstance(block, dict) and search_blocks.is_own(block):
        return search_blocks.as_text(block)
    field = ID_FIELDS.get(str(block.get("type"))) if isinstance(block, dict) else None
    call = block.get(field) if field else None
    return block | {field: short_id(call)} if isinstance(call, str) and call.startswith(ID_PREFIX) else block


def _clears_thinking(edit: object) -> bool:
    return isinstance(edit, dict) and str(edit.get("type", "")).startswith("clear_thinking")
