"""The opening of a conversation, as a digest: what tells the requests of a client apart that names no session. No I/O.

Three rules:

1. Each turn of a conversation has the digest of the first: it is of the system prompt and of the first message alone.
2. What clients change between turns is not in it: the place of ``cache_control``, whether a text stands alone or in a list of
   blocks, and the block in which Claude Code counts (``x-anthropic-billing-header``).
3. It depends on nothing of this process, so that workers and replicas agree; and nothing can be read from it.

The strings of the body are hashed as they are written there; none is decoded. Measured on CPython 3.11: 0.2 ms at 450 kB.
"""

import hashlib
import re
from collections.abc import Iterator

import msgspec

# What a digest begins with, so that it is told apart from that of a session which the client has named.
MARK = "content-"
DIGEST_BYTES = 16
# Between the system prompt and the message: no part is so long.
_END = b"\xff" * 8
# Claude Code's block for its own accounts; in some versions it is another one at each turn.
_ACCOUNTS = b'"x-anthropic-billing-header:'
# Half a character, as a client writes it that cuts a text in the middle of one. The decoder takes none.
_HALF = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F][0-9a-fA-F]{2}"
)


class _Body(msgspec.Struct):
    messages: list[msgspec.Raw]
    system: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Message(msgspec.Struct):
    role: msgspec.Raw
    content: msgspec.Raw


class _Block(msgspec.Struct):
    """What a block says: a text's words, an image's or a document's source, a result's content."""

    type: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    text: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    source: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    content: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_BODY = msgspec.json.Decoder(_Body)
_MESSAGE = msgspec.json.Decoder(_Message)
_BLOCKS = msgspec.json.Decoder(list[_Block])


def opening_of(raw: bytes, *whose: str) -> str | None:
    """Return the digest of a conversation's opening, and of whose it is; None for a body in which none is found."""
    found = _found(raw) or _found(_HALF.sub(rb"\\ufffd", raw))
    if found is None:
        return None
    system, first = found
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES, person=b"conversation")

    def add(part: bytes | memoryview) -> None:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)

    for name in whose:
        add(name.encode("utf-8", "surrogatepass"))
    digest.update(_END)
    for part in () if system is msgspec.UNSET else _said(system):
        if bytes(part[: len(_ACCOUNTS)]) != _ACCOUNTS:
            add(part)
    digest.update(_END)
    add(bytes(first.role))
    for part in _said(first.content):
        add(part)
    return MARK + digest.hexdigest()


def _found(raw: bytes) -> tuple[msgspec.Raw | msgspec.UnsetType, _Message] | None:
    """Return the system prompt and the first message of a body; None without a first message."""
    try:
        body = _BODY.decode(raw)
        return (body.system, _MESSAGE.decode(body.messages[0])) if body.messages else None
    except (msgspec.MsgspecError, RecursionError):
        return None


def _said(content: msgspec.Raw) -> Iterator[memoryview]:
    """Yield what a system prompt or a message says, a part for each block; what is neither text nor blocks as it stands."""
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
