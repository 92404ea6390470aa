"""An event loop whose time passes only while nobody has anything to do: waits of minutes take none, and none is cut short."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any


class _Selector(selectors.DefaultSelector):
    """Does not wait: what it would have waited has passed."""

    passed = 0.0

    def select(self, timeout: float | None = None) -> Any:
        if ready := super().select(0):
            return ready
        if timeout is None:
            raise RuntimeError("everybody waits, and nothing will happen any more")
        self.passed += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """``time`` is in seconds since its beginning."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        """Return what has passed."""
        return self._virtual.passed


def run_virtually(work: Coroutine[Any, Any, Any]) -> Any:
    """Run work to its end, and return what it returns."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work)


def now() -> float:
    """Return the loop's time."""
    return asyncio.get_running_loop().time()
