"""What a command says to the person beside its output, which stays clean for other programs."""

import sys
from collections.abc import Sequence
from typing import NoReturn


def stop(heading: str, mistakes: Sequence[str]) -> NoReturn:
    """Say what is wrong and exit with 1."""
    tell("\n".join([heading, *(f"- {mistake}" for mistake in mistakes)]))
    sys.exit(1)


def tell(words: str) -> None:
    """Say something to the person that is not the command's output."""
    print(words, file=sys.stderr)  # noqa: T201 - a command line talks
