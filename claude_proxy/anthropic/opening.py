"""A digest of a conversation's opening, which identifies a conversation of a client that sends no session id. No I/O.

Three rules:

1. Every turn of a conversation has the same digest: it covers only the system prompt and the first message.
2. It ignores what clients change between turns: the place of ``cache_control``, whether a text is a string or a list of
   blocks, and Claude Code's ``x-anthropic-billing-header`` block.
3. It does not depend on the process, so workers and replicas agree, and the text cannot be read from it.

The strings are hashed as written in the body, without decoding. Measured on CPython 3.11: 0.2 ms at 450 kB.
"""

import hashlib
import re
from collections.abc import Iterator

import msgspec

# Prefix of a digest, which distinguishes it from the digest of a session id that the client sent.
MARK = "content-"
DIGEST_BYTES = 16
# Separates the system prompt and the message. It equals no length that ``add`` writes.
_SEPARATOR = b"\xff" * 8
# Claude Code's billing block; in some versions it changes at each turn.
_BILLING_HEADER = b'"x-anthropic-billing-header:'
# A lone surrogate: a client that cuts a text may write half a character. The decoder rejects it.
_LONE_SURROGATE = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F][0-9a-fA-F]{2}"
)


class _Body(msgspec.Struct):
    messages: list[msgspec.Raw]
    system: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Message(msgspec.Struct):
    role: msgspec.Raw
    content: msgspec.Raw


class _Block(msgspec.Struct):
    """The content of a block: a text's words, an image's or a document's source, a result's content."""

    type: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    text: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    source: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    content: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_BODY = msgspec.json.Decoder(_Body)
_MESSAGE = msgspec.json.Decoder(_Message)
_BLOCKS = msgspec.json.Decoder(list[_Block])


def opening_of(raw: bytes, *owner: str) -> str | None:
    """Return the digest of a conversation's opening and its owner; None for a body without a first message."""
    found = _found(raw) or _found(_LONE_SURROGATE.sub(rb"\\ufffd", raw))
    if found is None:
        return None
    system, first = found
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES, person=b"conversation")

    def add(part: bytes | memoryview) -> None:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)

    for name in owner:
        add(name.encode("utf-8", "surrogatepass"))
    digest.update(_SEPARATOR)
    for part in () if system is msgspec.UNSET else _content_parts(system):
        if bytes(part[: len(_BILLING_HEADER)]) != _BILLING_HEADER:
            add(part)
    digest.update(_SEPARATOR)
    add(bytes(first.role))
    for part in _content_parts(first.content):
        add(part)
    return MARK + digest.hexdigest()


def _found(raw: bytes) -> tuple[msgspec.Raw | msgspec.UnsetType, _Message] | None:
    """Return the system prompt and the first message of a body; None without a first message."""
    try:
        body = _BODY.decode(raw)
        return (body.system, _MESSAGE.decode(body.messages[0])) if body.messages else None
    except (msgspec.MsgspecError, RecursionError):
        return None


def _content_parts(content: msgspec.Raw) -> Iterator[memoryview]:
    """Yield the content of a system prompt or a message, block by block; anything but a list of blocks is one part."""
    try:
        blocks = _BLOCKS.decode(content) if bytes(memoryview(content)[:1]) == b"[" else None
    except (msgspec.MsgspecError, RecursionError):
        blocks = None
    if blocks is None:
        yield memoryview(content)
        return
    for block in blocks:
        parts = [memoryview(part) for part in (block.text, block.source, block.content) if part is not msgspec.UNSET]
        if not parts and block.type is not msgspec.UNSET:
            parts = [memoryview(block.type)]
        yield from parts
