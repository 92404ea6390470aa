"""Finds the files that Claude has written in a container, in a response that passes. Bytes in, ids out, no I/O.

Only results of Anthropic's own code execution name such files. What a model writes for a client's tool does not count, because
a user decides what that says.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any

from claude_proxy.anthropic.file_references import FILE_ID
from claude_proxy.anthropic.sse import LONGEST_END, event_object, first_event_end, last_event_end, whole_events

# The ends of the types of a result's block, and of an output in it.
RESULT, OUTPUT = "code_execution_tool_result", "code_execution_output"
# What a request that uses code execution contains.
TOOL = b"code_execution"
_RESULT, _FILE_ID = RESULT.encode(), f'"{FILE_ID}"'.encode()
# A larger event is not searched.
MAX_EVENT = 1024 * 1024


class WrittenFiles:
    """One per response: ``feed`` every chunk of a stream, or ``whole`` once. ``found`` is called with each id."""

    def __init__(self, found: Callable[[str], None]) -> None:
        self._found = found
        self._held = b""
        self._skips = False

    def feed(self, chunk: bytes) -> None:
        """Search the events that end in a chunk."""
        held = self._held + chunk
        end = last_event_end(held)
        if end:
            begin = first_event_end(held) if self._skips else 0
            if _RESULT in held[begin:end] and _FILE_ID in held[begin:end]:
                for raw in whole_events(held[begin:end]):
                    self._search((event_object(raw) or {}).get("content_block"))
            self._skips, held = False, held[end:]
        if len(held) > MAX_EVENT:
            self._skips, held = True, held[-LONGEST_END:]
        self._held = held

    def whole(self, message: bytes) -> None:
        """Search a response that is no stream."""
        if _RESULT not in message or _FILE_ID not in message:
            return
        try:
            content = json.loads(message).get("content")
        except (ValueError, RecursionError, AttributeError):
            return
        for block in content if isinstance(content, list) else ():
            self._search(block)

    def _search(self, block: Any) -> None:
        for identifier in _files_in(block):
            self._found(identifier)


def _files_in(block: Any) -> Iterator[str]:
    """Yield the ids of the files in a block, if it is a result of code execution."""
    result = block.get("content") if _is_of(block, RESULT) else None
    outputs = result.get("content") if isinstance(result, dict) else None
    for output in outputs if isinstance(outputs, list) else ():
        if _is_of(output, OUTPUT) and isinstance(output.get(FILE_ID), str):
            yield output[FILE_ID]


def _is_of(one: Any, ending: str) -> bool:
    kind = one.get("type") if isinstance(one, dict) else None
    return isinstance(kind, str) and kind.endswith(ending)
