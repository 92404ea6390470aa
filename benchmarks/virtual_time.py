"""An event loop with virtual time, which passes only while all tasks wait. Long waits take no real time."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any


class _Selector(selectors.DefaultSelector):
    """Does not wait, but adds the waiting time to ``passed``."""

    passed = 0.0

    def select(self, timeout: float | None = None) -> Any:
        if ready := super().select(0):
            return ready
        if timeout is None:
            raise RuntimeError("all tasks wait, and no event is scheduled")
        self.passed += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """``time`` is in seconds since the loop was created."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        """Return the virtual time."""
        return self._virtual.passed


def run_virtually(work: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine to its end and return its result."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work)


def now() -> float:
    """Return the loop's time."""
    return asyncio.get_running_loop().time()
