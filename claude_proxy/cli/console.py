"""What a command prints to stderr: stdout has its output alone, for other programs."""

import contextlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn, TextIO


class CommandError(Exception):
    """A command cannot do its work. ``mistakes`` holds a sentence each, and no secret."""

    def __init__(self, *mistakes: str) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


def stop(heading: str, mistakes: Sequence[str]) -> NoReturn:
    """Print a list of errors and exit with 1."""
    tell("\n".join([heading, *(f"- {mistake}" for mistake in mistakes)]))
    sys.exit(1)


def fail(*errors: str) -> NoReturn:
    """Print each error in a line of its own and exit with 1."""
    tell("\n".join(f"Error: {error}" for error in errors))
    sys.exit(1)


def tell(words: str) -> None:
    """Print something that is not the command's output."""
    print(words, file=sys.stderr)  # noqa: T201 - a command line talks


def close_output() -> None:
    """Discard what is still to be written to stdout, such as for a program that has ended, or to a disk that is full."""
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        return
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


def is_terminal(out: TextIO) -> bool:
    """Whether a stream is a terminal that can move its cursor."""
    return out.isatty() and os.environ.get("TERM") != "dumb"


def has_colours(out: TextIO) -> bool:
    """Whether to write colours: to a terminal, unless ``NO_COLOR`` is set (https://no-color.org)."""
    return is_terminal(out) and not os.environ.get("NO_COLOR")
