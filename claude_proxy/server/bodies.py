"""Limits for request bodies: size, duration, and memory for all bodies together and per user.

Three rules:
  1. A body occupies memory from its first byte to the end of its response: first its bytes, then its parsed size.
  2. The parsed size is estimated before parsing, and never lower than what Python needs.
  3. A body whose parsed size is more than ``MAX_RATIO`` times its bytes is rejected.
"""

import asyncio
import os
import re
from pathlib import Path
from typing import Self

from claude_proxy.anthropic.errors import Refused
from claude_proxy.asgi import Message, Receive
from claude_proxy.proxy.offload import LARGE, offloaded

# Anthropic accepts 32 MB. The limit is higher, so that Anthropic itself rejects the body, with an error that Claude Code knows.
MAX_BODY_BYTES = 40 * 1024 * 1024
# The time limit for a whole body, in seconds: 40 MB at 2 Mbit/s.
BODY_SECONDS = 180.0
MAX_RATIO = 8
# Below this estimate, in bytes, the ratio does not matter.
ANY_SHAPE_BYTES = 32 * 1024 * 1024
# Memory for all bodies of a process, in bytes: a quarter of the machine or container, between these limits.
LEAST_BYTES, MOST_BYTES = 256 * 1024 * 1024, 1024 * 1024 * 1024
MEMORY_SHARE = 4
RETRY_AFTER_SECONDS = 5
# The memory that CPython 3.11 needs for a list, an object, a text and any other value, including its slot in the container.
LIST_BYTES, OBJECT_BYTES, TEXT_BYTES, VALUE_BYTES = 96, 190, 60, 40
_TEXT = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
# Files with the memory limit of a container on Linux: cgroups, version 2 and 1.
CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
TOO_LARGE = "Request exceeds the maximum size"


class BodyBudget:
    """The memory for bodies in progress, in bytes. One per process, used by its event loop only."""

    def __init__(self, total: int) -> None:
        self.total = total
        # One user alone leaves room for others.
        self.per_caller = total // 2
        self._by_caller: dict[str, int] = {}
        self._held = 0

    def open(self, caller: str) -> "HeldBody":
        """Return the holder of the memory for one body of this user."""
        return HeldBody(self, caller)

    def change(self, caller: str, amount: int) -> None:
        """Reserve or release memory; raise ``Refused`` with 429 if there is not enough, and reserve nothing then."""
        mine, all_of_it = self._by_caller.get(caller, 0) + amount, self._held + amount
        if amount > 0 and (mine > self.per_caller or all_of_it > self.total):
            whose = "The requests of this token" if mine > self.per_caller else "The requests to this proxy"
            raise Refused(
                429,
                f"{whose} take too much memory at the same time. Please try again later.",
                [("retry-after", str(RETRY_AFTER_SECONDS)), ("connection", "close")],
            )
        self._held = all_of_it
        self._by_caller[caller] = mine
        if not mine:
            del self._by_caller[caller]

    @property
    def held(self) -> int:
        """The reserved bytes."""
        return self._held


class HeldBody:
    """The memory of one body, from its first byte to the end of the ``with`` block."""

    def __init__(self, budget: BodyBudget, caller: str) -> None:
        self._budget = budget
        self._caller = caller
        self._bytes = 0

    def add(self, amount: int) -> None:
        """Add received bytes; raise ``Refused`` if the budget is exceeded."""
        self._budget.change(self._caller, amount)
        self._bytes += amount

    def becomes(self, estimate: int, size: int) -> None:
        """Replace the bytes of a complete body by its estimate; raise ``Refused``, also for a ratio beyond ``MAX_RATIO``."""
        if estimate > max(MAX_RATIO * size, ANY_SHAPE_BYTES):
            raise Refused(413, TOO_LARGE)
        self.add(max(0, estimate - self._bytes))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Release the memory."""
        self._budget.change(self._caller, -self._bytes)
        self._bytes = 0


async def read_body(receive: Receive, held: HeldBody, limit: int = MAX_BODY_BYTES) -> bytes:
    """Return a complete body; raise ``Refused`` if it is too large, too slow or exceeds the budget.

    A small body occupies only its bytes until ``weigh`` is called before parsing. Raises ``ConnectionAbortedError`` if the
    client disconnects.
    """
    raw, more = await _part(receive, held)
    if more:
        try:
            async with asyncio.timeout(BODY_SECONDS):
                raw = await _whole(raw, receive, held, limit)
        except TimeoutError:
            words = f"The request's body did not arrive within {BODY_SECONDS:.0f} seconds."
            raise Refused(408, words, [("connection", "close")]) from None
    if len(raw) > limit:
        raise Refused(413, TOO_LARGE)
    if len(raw) >= LARGE:
        held.becomes(await offloaded(len(raw), memory_of, raw), len(raw))
    return raw


async def _whole(first: bytes, receive: Receive, held: HeldBody, limit: int) -> bytes:
    body, more = bytearray(first), True
    while more and len(body) <= limit:
        part, more = await _part(receive, held)
        body += part
    return bytes(body)


async def _part(receive: Receive, held: HeldBody) -> tuple[bytes, bool]:
    """Return the next part of a body, and whether more follows. The server limits the client's silence."""
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ConnectionAbortedError
    part = message.get("body", b"")
    held.add(len(part))
    return part, message.get("more_body", False)


def weigh(held: HeldBody, raw: bytes) -> None:
    """Add the parsed size of a small body; raise ``Refused`` as above. A large one has already been added."""
    if len(raw) < LARGE:
        held.becomes(memory_of(raw), len(raw))


def memory_of(raw: bytes) -> int:
    """Return an upper estimate of the memory for a JSON body and its parsed form, in bytes."""
    # One character beyond Latin-1 makes every character of its text four bytes long.
    texts = len(raw) * (2 if raw.isascii() and b"\\u" not in raw else 5)
    structure = _structure(raw, raw.count(b'"') // 2)
    if structure > MAX_RATIO // 2 * len(raw):
        # Brackets and commas inside texts are neither lists nor values.
        outside = _TEXT.sub(b'"', raw)
        structure = _structure(outside, outside.count(b'"'))
    return texts + structure


def _structure(raw: bytes, texts: int) -> int:
    values = LIST_BYTES * raw.count(b"[") + OBJECT_BYTES * raw.count(b"{") + VALUE_BYTES * raw.count(b",")
    return values + TEXT_BYTES * texts


def memory_for_bodies(workers: int, limits: tuple[str, ...] = CGROUP_LIMITS) -> int:
    """Return the memory for bodies in each of ``workers`` processes, in bytes."""
    known = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in limits:
        try:
            known.append(int(Path(path).read_text(encoding="ascii")))
        except (OSError, ValueError):  # missing, or "max"
            continue
    return min(MOST_BYTES, max(LEAST_BYTES, min(known) // MEMORY_SHARE // workers))


def body_alone(body: bytes) -> Receive:
    """Return a ``receive`` that returns the body once and then waits forever: the call is ended by cancelling it."""
    pending = [body]

    async def replay() -> Message:
        if pending:
            return {"type": "http.request", "body": pending.pop(), "more_body": False}
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

    return replay


def body_first(body: bytes, receive: Receive) -> Receive:
    """Return a ``receive`` that returns the body once, and then messages from the client."""
    pending = [body]

    async def replay() -> Message:
        if pending:
            return {"type": "http.request", "body": pending.pop(), "more_body": False}
        return await receive()

    return replay
