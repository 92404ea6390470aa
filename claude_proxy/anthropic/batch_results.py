"""Reads the results of a batch while they pass: lines of JSON, one for each request. Bytes in, bytes out, no I/O.

Four rules:
  1. What is fed leaves in the same order. A line whose model has another name in config.yaml gets that name; every other line
     leaves in the bytes in which it came.
  2. The output depends on the bytes, never on how they were cut.
  3. At most ``MAX_LINE`` bytes are held back. A longer line leaves unread.
  4. The results are complete only if each line could be read and the last one has ended.
"""

import json
from collections.abc import Callable
from typing import Any

from claude_proxy.anthropic.messages import to_json
from claude_proxy.anthropic.usage import Usage, token_counts, usage_from

MAX_LINE = 32 * 1024 * 1024


class BatchResults:
    """One per response: ``feed`` every chunk, then ``finish`` once.

    ``renamed`` returns the name of a model for the client, by the name that Anthropic reports.
    """

    def __init__(self, renamed: Callable[[str], str]) -> None:
        self._renamed = renamed
        self._held = bytearray()
        self._skips = False
        self._unread = False
        # The number of lines so far, and the model (as reported) and usage of each message in them.
        self.count = 0
        self.messages: list[tuple[str, Usage]] = []

    @property
    def is_complete(self) -> bool:
        """Whether every line so far was read, and the last one has ended."""
        return not self._unread and not self._held

    def feed(self, chunk: bytes) -> bytes:
        """Return what is safe to send now: whole lines, as far as they are not too long."""
        out = bytearray()
        *ended, rest = chunk.split(b"\n")
        for part in ended:
            out += self._end_of_line(part)
        if self._skips:
            return bytes(out + rest)
        self._held += rest
        if len(self._held) > MAX_LINE:
            out += self._held
            self._held.clear()
            self._skips = self._unread = True
        return bytes(out)

    def finish(self) -> bytes:
        """Return what is held back; a last line without an end is read only if it is whole JSON."""
        held = bytes(self._held)
        self._held.clear()
        return self._line(held) if held else b""

    def _end_of_line(self, part: bytes) -> bytes:
        if self._skips:
            self._skips = False
            return part + b"\n"
        line = bytes(self._held) + part
        self._held.clear()
        return self._line(line) + b"\n"

    def _line(self, line: bytes) -> bytes:
        if not line.strip():
            return line
        try:
            entry = json.loads(line)
            result = entry["result"]
            message = result["message"] if result["type"] == "succeeded" else None
            model = message["model"] if message is not None else ""
        except (ValueError, RecursionError, LookupError, TypeError):
            self._unread = True
            return line
        self.count += 1
        return line if message is None else self._message(line, entry, message, model)

    def _message(self, line: bytes, entry: Any, message: Any, model: Any) -> bytes:
        counts = token_counts(message)
        if not counts or not isinstance(model, str):
            self._unread = True
            return line
        self.messages.append((model, usage_from(counts)))
        name = self._renamed(model)
        if name == model:
            return line
        message["model"] = name
        return to_json(entry)
