"""The steps of the checks, for a caller that shows which one is under way. No I/O."""

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

Step = TypeVar("Step")


class Steps(Protocol):
    """Yields the steps of pairs, each of which has words for the step; shows the words while the step is under way."""

    def __call__(self, steps: Iterable[tuple[str, Step]], /) -> Iterator[Step]: ...


def silently(steps: Iterable[tuple[str, Step]], /) -> Iterator[Step]:
    """Yield the steps and show nothing."""
    return (step for _, step in steps)
