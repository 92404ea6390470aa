"""Orders the blocks of a response: one block is open, and parts of a later block wait. No I/O.

Five rules:
  1. a piece of a call belongs to the call of its ``index``; without an index, to the call of its id, else to the last call.
     Another id with a name at a known index is a new call, and so is a name alone after a complete call;
  2. a call starts when its name is known;
  3. the open block ends when another block waits behind it; a call ends only when its arguments are complete;
  4. a text of only whitespace is no block;
  5. parts behind a call with incomplete arguments wait and keep their order.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from claude_proxy.openai.parts import CALL, Part

_MARKS = re.compile(r'["\\{}\[\]]')


class Arguments:
    """Whether a JSON object that arrives in pieces is complete. Linear in the length of the pieces."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_text = False
        # Where the scan continues in the next piece, after a character escaped by a backslash.
        self._skip = 0
        self.is_whole = False

    def feed(self, piece: str) -> None:
        """Scan the next piece."""
        for found in _MARKS.finditer(piece, self._skip):
            place = found.start()
            if place < self._skip:
                continue  # an escaped character
            mark = found[0]
            if self._in_text:
                self._in_text = mark != '"'
                self._skip = place + 2 if mark == "\\" else self._skip
            elif mark == '"':
                self._in_text = True
            elif mark in "{[":
                self._depth += 1
            elif mark in "}]":
                self._depth -= 1
                self.is_whole = self._depth == 0
        self._skip = max(0, self._skip - len(piece))


@dataclass(eq=False)
class Block:
    """One block: its parts so far, and those that are not written yet."""

    kind: str
    place: int | None = None
    id: str = ""
    name: str = ""
    signature: str = ""
    waiting: list[str] = field(default_factory=list)
    # The pieces of a call's arguments so far.
    pieces: list[str] = field(default_factory=list)
    is_open: bool = False
    arguments: Arguments = field(default_factory=Arguments)

    @property
    def is_ready(self) -> bool:
        """Whether the block may start."""
        return bool(self.name) if self.kind == CALL else any(text.strip() for text in self.waiting)

    @property
    def may_end(self) -> bool:
        """Whether no more parts can belong to the block."""
        return self.kind != CALL or self.arguments.is_whole


class Step(NamedTuple):
    """What to write: ``begin``, ``more`` or ``end`` of a block."""

    what: str
    block: Block
    text: str = ""


BEGIN, MORE, END = "begin", "more", "end"


class Blocks:
    """``add`` each part, then ``finish`` once; both yield steps."""

    def __init__(self) -> None:
        self._queue: list[Block] = []
        self._calls: dict[int, Block] = {}
        self._by_id: dict[str, Block] = {}
        self._last_call: Block | None = None
        # Every call so far.
        self.calls: list[Block] = []
        # How many characters are kept: of calls, and of parts behind one.
        self.kept = 0

    def add(self, part: Part) -> Iterator[Step]:
        """Add a part."""
        block = self._call_of(part) if part.kind == CALL else self._text_of(part)
        if self._queue[:1] and self._queue[0].kind == CALL:
            self.kept += len(part.text)
        if part.text and not (block.kind == CALL and block.arguments.is_whole and not part.text.strip()):
            block.waiting.append(part.text)
            if block.kind == CALL:
                block.arguments.feed(part.text)
                block.pieces.append(part.text)
        yield from self._advance(last=False)

    def finish(self) -> Iterator[Step]:
        """End all blocks."""
        yield from self._advance(last=True)

    def continues(self, kind: str) -> bool:
        """Whether a part of this kind continues the open block, with nothing waiting before it."""
        queue = self._queue
        return len(queue) == 1 and queue[0].kind == kind and queue[0].is_open and not queue[0].waiting

    @property
    def has_calls(self) -> bool:
        """Whether a call has started."""
        return any(call.is_open for call in self.calls)

    def _text_of(self, part: Part) -> Block:
        if not self._queue or self._queue[-1].kind != part.kind:
            self._queue.append(Block(part.kind))
        return self._queue[-1]

    def _call_of(self, part: Part) -> Block:
        known = (
            self._calls.get(part.place) if part.place is not None else self._by_id.get(part.id) if part.id else self._last_call
        )
        if known is not None and part.id and part.name and known.id not in ("", part.id):
            known = self._by_id.get(part.id)
        if known is not None and part.place is None and not part.id and part.name and known.arguments.is_whole:
            known = None
        if known is None:
            known = Block(CALL, part.place)
            self._queue.append(known)
            self.calls.append(known)
        if part.place is not None:
            self._calls[part.place] = known
        known.id = known.id or part.id
        if not known.is_open:
            known.name = known.name or part.name
        known.signature = known.signature or part.signature
        if known.id:
            self._by_id[known.id] = known
        self._last_call = known
        return known

    def _advance(self, *, last: bool) -> Iterator[Step]:
        while self._queue:
            front = self._queue[0]
            more = len(self._queue) > 1
            if not front.is_open and front.is_ready:
                front.is_open = True
                yield Step(BEGIN, front)
            if front.is_open and front.waiting:
                text, front.waiting = "".join(front.waiting), []
                yield Step(MORE, front, text)
            if not last and not (more and front.may_end):
                return
            self._queue.pop(0)
            if front.is_open:
                yield Step(END, front)
