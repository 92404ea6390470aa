"""Encodes the ids of tool calls for each provider. Encoded ids stay unique, and the original can be decoded."""

import base64
import binascii
import re
import uuid

from claude_proxy.anthropic.messages import ID_PREFIX, short_id
from claude_proxy.providers.compatibility import Dialect

# Claude accepts only these ids, and Claude Code sends it ids that another provider made ("functions.Read:0").
_PLAIN_ID = re.compile(r"[A-Za-z0-9_-]+")
# Separates a call's id and Gemini's thought signature. Claude Code keeps no other field that could hold the signature.
THOUGHT = "__thought__"


def calls_in(messages: object) -> frozenset[str]:
    """Return the ids of the tool calls in a conversation."""
    turns = messages if isinstance(messages, list) else []
    blocks = [
        block
        for turn in turns
        if isinstance(turn, dict) and isinstance(turn.get("content"), list)
        for block in turn["content"]
        if isinstance(block, dict) and block.get("type") == "tool_use"
    ]
    return frozenset(block["id"] for block in blocks if isinstance(block.get("id"), str))


def new_id() -> str:
    """Return an id for a call that has none."""
    return f"toolu_{uuid.uuid4().hex}"


def safe_id(call: str) -> str:
    """Return a call id that every provider accepts: unchanged if it is plain, else encoded."""
    if _PLAIN_ID.fullmatch(call) and not call.startswith(ID_PREFIX):
        return call
    return ID_PREFIX + base64.urlsafe_b64encode(call.encode("utf-8", "surrogatepass")).decode().rstrip("=")


def original_id(call: str) -> str:
    """Return the id that ``safe_id`` encoded; any other id unchanged."""
    if not call.startswith(ID_PREFIX):
        return call
    encoded = call.removeprefix(ID_PREFIX)
    try:
        found = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode("utf-8", "surrogatepass")
    except (binascii.Error, ValueError):
        return call
    return found if safe_id(found) == call else call


def fitted_id(call: str, row: Dialect) -> str:
    """Return an id as the provider accepts it: encoded, or a digest if that is too long. Different ids stay different."""
    if row.signs_calls and call.startswith(ID_PREFIX):
        return original_id(call).partition(THOUGHT)[0]
    return short_id(call if _PLAIN_ID.fullmatch(call) else safe_id(call))
