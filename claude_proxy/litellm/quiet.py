"""Keeps what LiteLLM prints while it starts out of the proxy's output. Imports nothing of LiteLLM's."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self, TextIO, cast

PRINTS = "litellm"


class StartOutput:
    """The standard output while LiteLLM starts. Drops what LiteLLM's own modules print, and passes on all else.

    LiteLLM (1.108.7) prints its models and its settings by ``print``, which no level of a log turns off.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._passes = False

    def write(self, text: str) -> int:
        """Write a text, unless a module of LiteLLM's prints it; the caller of ``print`` is the frame above this one."""
        caller = str(sys._getframe(1).f_globals.get("__name__", ""))  # noqa: SLF001 - what it is there for
        if not self._passes and caller.partition(".")[0] == PRINTS:
            return len(text)
        return self._stream.write(text)

    def pass_all(self) -> None:
        """Pass on everything from now on: LiteLLM prints the code for a login with GitHub Copilot at a request."""
        self._passes = True

    @classmethod
    @contextmanager
    def in_place(cls) -> Iterator[Self]:
        """Be the standard output within this context."""
        before = sys.stdout
        output = cls(before)
        sys.stdout = cast("TextIO", output)
        try:
            yield output
        finally:
            sys.stdout = before

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
