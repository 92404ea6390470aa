"""What the proxy looks at in the body of a Messages request, decoded without the rest. Bytes in, values out, no I/O.

Measured on CPython 3.11: at 500 kB this takes 0.45 ms, orjson 0.8 and json 1.8, each without the walk that must follow;
at 2 kB 2, 3 and 9 µs.
"""

import msgspec

from claude_proxy.anthropic.messages import ID_PREFIX, MARK
from claude_proxy.anthropic.search_blocks import PREFIX

# The deepest body that is taken. Half of what Python can read: what writes the body again is less far from its own end.
MAX_DEPTH = 400
# A larger body is not searched for its depth here: what reads it has an end of its own, at about 1,000.
SMALL_BYTES = 64 * 1024
# Ids of calls that the proxy has spelled, and of searches that it has made, begin so.
_OWN_IDS = (ID_PREFIX, PREFIX)
# Python reads no number of more than 4,300 digits; a run of so many has a whole block of this size in it.
_DIGITS = 2048


class RequestView(msgspec.Struct, frozen=True):
    """What of a request decides where it goes, and whether its bytes can stay as they are on the way to Claude."""

    model: str
    streams: bool
    user_id: str | None = None
    # Whether there may be thinking that Claude did not make, or an id that the proxy has spelled or made.
    needs_mending: bool = True
    # Whether the client asks for its calls to be checked, which Claude alone does (auto mode, Claude Code 2.1.332).
    safeguards: bool = False
    # Such as ``fast``; empty where the client does not say.
    speed: str = ""
    # How many messages the conversation has.
    turns: int = 0


class _Block(msgspec.Struct):
    type: str = ""
    signature: str | None = None
    data: str | None = None
    id: str | None = None
    tool_use_id: str | None = None


class _Turn(msgspec.Struct):
    role: str
    content: str | list[_Block]


class _Metadata(msgspec.Struct):
    user_id: str | None = None


class _Body(msgspec.Struct):
    model: str
    messages: list[_Turn]
    stream: bool = False
    metadata: _Metadata | None = None
    safeguards: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    speed: str | None = None
    # Only so that a number beyond what JSON can be written with again is found.
    temperature: float | None = None
    top_p: float | None = None


_DECODER = msgspec.json.Decoder(_Body)


def view(raw: bytes) -> RequestView | None:
    """Return the view of an ordinary request; None for one that has to be parsed as a whole to know what it is.

    That is one with a member of an unexpected type, one that may be too deep, and one whose numbers are too long to be read.
    """
    if len(raw) <= SMALL_BYTES and raw.count(b"[") + raw.count(b"{") > MAX_DEPTH:
        return None
    if any(raw[start : start + _DIGITS].isdigit() for start in range(0, len(raw), _DIGITS)):
        return None
    try:
        if not raw.isascii():
            raw.decode()  # the decoder does not look into texts that it skips
        body = _DECODER.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if not body.model or not body.messages:
        return None
    user_id = body.metadata.user_id if body.metadata else None
    safeguards = body.safeguards is not msgspec.UNSET
    return RequestView(
        body.model,
        body.stream,
        user_id,
        any(map(_needs_mending, body.messages)),
        safeguards,
        body.speed or "",
        len(body.messages),
    )


def _needs_mending(turn: _Turn) -> bool:
    if isinstance(turn.content, str):
        return False
    is_assistant = turn.role == "assistant"
    for block in turn.content:
        if block.type == "thinking":
            if is_assistant and (not block.signature or block.signature.startswith(MARK)):
                return True
        elif block.type == "redacted_thinking":
            if is_assistant and (block.data or "").startswith(MARK):
                return True
        elif (block.id or "").startswith(_OWN_IDS) or (block.tool_use_id or "").startswith(_OWN_IDS):
            return True
    return False
