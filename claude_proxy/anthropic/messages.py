"""Requests and whole responses in the Messages format: fields for other providers, thinking blocks, and JSON.

Values in, values out. Inputs are not modified; a function that changes nothing returns the same object.
"""

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from claude_proxy.anthropic import search_blocks
from claude_proxy.anthropic.errors import Refused

Body = Mapping[str, Any]
Messages = list[dict[str, Any]]

# The fields of the Messages API that another provider may get. It is an allow-list, because other fields of a client's body
# would reach LiteLLM's own switches (api_key, api_base, fallbacks, extra_headers, mock_response, guardrails, tags, ...).
# Claude gets the client's whole body.
FOR_PROVIDERS = frozenset(
    {
        "model", "messages", "system", "tools", "tool_choice", "max_tokens", "temperature", "top_p", "top_k", "stop_sequences",
        "stream", "thinking", "output_config", "context_management",
    }
)  # fmt: skip
# A tuple, because a value of "type" from a client or an upstream may be unhashable.
THINKING_TYPES = ("thinking", "redacted_thinking")
# Prefix of the signature of kept thinking, followed by its provider. Claude's own signatures are base64 and contain no colon.
MARK = "claude-proxy:"
# Prefix of a call id that the proxy has encoded. OpenAI accepts 40 characters; Claude's own ids have 30.
ID_PREFIX = "cpx_"
LONGEST_ID = 40
ID_FIELDS = {"tool_use": "id", "tool_result": "tool_use_id"}
# Thinking parameters. Another provider gets them only if its deployment in config.yaml enables them.
THINKING_PARAMETERS = ("thinking", "output_config", "context_management")
# Kept encoders, because ``json.dumps`` makes a new one at each call.
_compact = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_ascii = json.JSONEncoder(separators=(",", ":")).encode


def for_provider(body: Body) -> dict[str, Any]:
    """Return the fields that another provider may get, with ``metadata.user_id`` and without tools of type ``mcp``."""
    seen = {name: value for name, value in body.items() if name in FOR_PROVIDERS}
    metadata = body.get("metadata")
    if isinstance(metadata, dict) and isinstance(metadata.get("user_id"), str):
        seen["metadata"] = {"user_id": metadata["user_id"]}
    if isinstance(seen.get("tools"), list):
        # LiteLLM itself calls tools of type "mcp" on any server that the client names, and fails on a tool that is no object.
        seen["tools"] = [tool for tool in seen["tools"] if isinstance(tool, dict) and tool.get("type") != "mcp"]
    return seen


def parsed_object(raw: bytes) -> dict[str, Any]:
    """Parse the body of a request; raise ``Refused`` with 400 if it is not a JSON object whose numbers can be written again."""
    try:
        body = json.loads(raw, parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError):
        raise Refused(400, "The body is not JSON.") from None
    if not isinstance(body, dict):
        raise Refused(400, "The body should be a JSON object.")
    return body


def _finite(text: str) -> float:
    """Return a number; raise ``ValueError`` if JSON cannot represent it or it is too large to be written again."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


def is_deeper_than(value: object, limit: int) -> bool:
    """Whether lists and objects are nested more than ``limit`` levels deep. Without recursion."""
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
    """Return a history without thinking, for another provider. A turn of thinking only is removed."""
    return _filtered(messages, lambda block: block.get("type") in THINKING_TYPES)


def without_foreign_thinking(messages: Messages) -> Messages:
    """Return a history without the thinking that Claude did not make (unsigned or marked), which Claude rejects with 400.

    Signed blocks stay, even with empty text, and so does ``redacted_thinking``: Claude needs both in a tool loop and for the
    cached prefix. Web searches that the proxy made for another model become text.
    """
    return _each_block(_filtered(messages, _is_foreign), _of_proxy)


def short_id(call: str) -> str:
    """Return a call id of at most ``LONGEST_ID`` characters; a longer one becomes a digest, so different ids stay different."""
    if len(call) <= LONGEST_ID:
        return call
    return f"call_{hashlib.blake2b(call.encode('utf-8', 'surrogatepass'), digest_size=16).hexdigest()}"


def mark(provider: str, signature: str) -> str:
    """Return a signature that names its provider and contains the provider's own signature."""
    return f"{MARK}{provider}:{signature}"


def original_mark(signature: str) -> tuple[str, str] | None:
    """Return the provider and the provider's own signature of a marked signature; None for one without a mark."""
    if not signature.startswith(MARK):
        return None
    provider, _, original = signature.removeprefix(MARK).partition(":")
    return provider, original


def repaired(body: Body) -> dict[str, Any] | None:
    """Return the body for the retry after Claude rejected its thinking blocks; None if it has no thinking to remove.

    The ``thinking`` parameter is removed too, because a tool loop without its thinking blocks may not enable thinking.
    ``clear_thinking_*`` edits are removed, because they need thinking.
    """
    messages = body.get("messages")
    if not isinstance(messages, list):
        return None
    plain = without_thinking(messages)
    if plain is messages:
        return None
    fixed = {name: value for name, value in body.items() if name != "thinking"} | {"messages": plain}
    management = body.get("context_management")
    if isinstance(management, dict) and isinstance(management.get("edits"), list):
        edits = [edit for edit in management["edits"] if not _clears_thinking(edit)]
        fixed["context_management"] = management | {"edits": edits}
        if not edits:
            del fixed["context_management"]
    return fixed


def response_without_thinking(response: dict[str, Any]) -> dict[str, Any]:
    """Return a whole response without thinking blocks. A response of thinking only becomes a message without content."""
    content = response.get("content")
    if not isinstance(content, list):
        return response
    kept = [block for block in content if not (isinstance(block, dict) and block.get("type") in THINKING_TYPES)]
    return response if len(kept) == len(content) else response | {"content": kept}


def to_json(value: object) -> bytes:
    """Return compact JSON in UTF-8, or in ASCII with escapes if it contains a lone surrogate (half an emoji)."""
    try:
        return _compact(value).encode()
    except UnicodeEncodeError:
        return _ascii(value).encode()


def readable_json(value: object) -> bytes:
    """Return compact JSON in UTF-8; a lone surrogate becomes a question mark, because most providers reject it."""
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
    """Return a block as Claude accepts it: a search by the proxy becomes text, a long call id becomes short."""
    if isinstance(block, dict) and search_blocks.is_own(block):
        return search_blocks.as_text(block)
    field = ID_FIELDS.get(str(block.get("type"))) if isinstance(block, dict) else None
    call = block.get(field) if field else None
    return block | {field: short_id(call)} if isinstance(call, str) and call.startswith(ID_PREFIX) else block


def _clears_thinking(edit: object) -> bool:
    return isinstance(edit, dict) and str(edit.get("type", "")).startswith("clear_thinking")
