"""What a command is doing while it takes long, on a terminal's stderr and nowhere else."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

from claude_proxy.cli.console import has_colours, is_terminal

Item = TypeVar("Item")


def doing(words: str) -> AbstractContextManager[object]:
    """Show a line with a spinner until the block ends."""
    if not is_terminal(sys.stderr):
        return nullcontext()
    from rich.console import Console  # noqa: PLC0415 - late: takes long to import, and pipes need none of it
    from rich.text import Text  # noqa: PLC0415

    return Console(stderr=True, no_color=not has_colours(sys.stderr)).status(Text(words))


def each(items: Iterable[tuple[str, Item]]) -> Iterator[Item]:
    """Yield items, and show the words of the one that is worked on."""
    for words, item in items:
        with doing(words):
            yield item
