"""Bounds of request bodies: how large and slow one may be, and how much memory those under way may take, in all and per caller.

Three rules:
  1. a body counts from its first byte until its response has ended: as bytes while it arrives, then as what it becomes;
  2. what it becomes is estimated before it is parsed, and is never less than what Python takes for it;
  3. a body that would become more than ``MAX_RATIO`` times its size is refused.
"""

import asyncio
import os
import re
from pathlib import Path
from typing import Self

from claude_proxy.anthropic.errors import Refused
from claude_proxy.asgi import Receive
from claude_proxy.proxy.offload import LARGE, offloaded

# Anthropic itself takes 32 MB; a little more lets it be the one that refuses, in words that Claude Code knows.
MAX_BODY_BYTES = 40 * 1024 * 1024
# How long a client may take for a whole body, in seconds: 40 MB at 2 Mbit/s.
BODY_SECONDS = 180.0
MAX_RATIO = 8
# Below this estimate, in bytes, any shape is fine.
ANY_SHAPE_BYTES = 32 * 1024 * 1024
# Memory for all bodies of a process, in bytes: a quarter of the machine's or container's, within these bounds.
LEAST_BYTES, MOST_BYTES = 256 * 1024 * 1024, 1024 * 1024 * 1024
MEMORY_SHARE = 4
RETRY_AFTER_SECONDS = 5
# What CPython 3.11 takes for a list, an object, a text and any other value, with its place in what holds it.
LIST_BYTES, OBJECT_BYTES, TEXT_BYTES, VALUE_BYTES = 96, 190, 60, 40
_TEXT = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
# Where Linux says how much memory a container may have: cgroups, version 2 and 1.
CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
TOO_LARGE = "Request exceeds the maximum size"


class BodyBudget:
    """The memory for bodies under way, in bytes. One for a process, used by its event loop alone."""

    def __init__(self, total: int) -> None:
        self.total = total
        # One caller alone leaves room for another.
        self.per_caller = total // 2
        self._by_caller: dict[str, int] = {}
        self._held = 0

    def open(self, caller: str) -> "HeldBody":
        """Return what holds the memory of one body of this caller's."""
        return HeldBody(self, caller)

    def change(self, caller: str, amount: int) -> None:
        """Take or give back memory; raise ``Refused`` with 429 when there is not enough, and then nothing is taken."""
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
        """Bytes that are taken now."""
        return self._held


class HeldBody:
    """The memory of one body, from its first byte until the end of the ``with`` block."""

    def __init__(self, budget: BodyBudget, caller: str) -> None:
        self._budget = budget
        self._caller = caller
        self._bytes = 0

    def add(self, amount: int) -> None:
        """Count bytes that have arrived; raise ``Refused`` when the budget does not have them."""
        self._budget.change(self._caller, amount)
        self._bytes += amount

    def becomes(self, estimate: int, size: int) -> None:
        """Count a whole body of so many bytes as its estimate; raise ``Refused``, also for one out of proportion."""
        if estimate > max(MAX_RATIO * size, ANY_SHAPE_BYTES):
            raise Refused(413, TOO_LARGE)
        self.add(max(0, estimate - self._bytes))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Give the memory back."""
        self._budget.change(self._caller, -self._bytes)
        self._bytes = 0


async def read_body(receive: Receive, held: HeldBody, limit: int = MAX_BODY_BYTES) -> bytes:
    """Return a body once it is whole; raise ``Refused`` for one that is too large, too slow or over the budget.

    A small one counts as its bytes until somebody parses it, and calls ``weigh`` before. Raises ``ConnectionAbortedError``
    when the client leaves before.
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
    """Return what has arrived of a body, and whether more is to come. The server bounds how long the client may be silent."""
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ConnectionAbortedError
    part = message.get("body", b"")
    held.add(len(part))
    return part, message.get("more_body", False)


def weigh(held: HeldBody, raw: bytes) -> None:
    """Count a small body as what it becomes when it is parsed; raise ``Refused`` as above. A large one is counted already."""
    if len(raw) < LARGE:
        held.becomes(memory_of(raw), len(raw))


def memory_of(raw: bytes) -> int:
    """Return an upper estimate of the bytes that a JSON body takes, itself and parsed."""
    # One character beyond Latin-1 makes four bytes of each character of its text.
    texts = len(raw) * (2 if raw.isascii() and b"\\u" not in raw else 5)
    structure = _structure(raw, raw.count(b'"') // 2)
    if structure > MAX_RATIO // 2 * len(raw):
        # Brackets and commas inside of texts are no lists and no values.
        outside = _TEXT.sub(b'"', raw)
        structure = _structure(outside, outside.count(b'"'))
    return texts + structure


def _structure(raw: bytes, texts: int) -> int:
    values = LIST_BYTES * raw.count(b"[") + OBJECT_BYTES * raw.count(b"{") + VALUE_BYTES * raw.count(b",")
    return values + TEXT_BYTES * texts


def memory_for_bodies(workers: int, limits: tuple[str, ...] = CGROUP_LIMITS) -> int:
    """Return how much memory one of so many processes may use for bodies, in bytes."""
    known = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in limits:
        try:
            known.append(int(Path(path).read_text(encoding="ascii")))
        except (OSError, ValueError):  # not there, or "max"
            continue
    return min(MOST_BYTES, max(LEAST_BYTES, min(known) // MEMORY_SHARE // workers))
