"""An event loop with virtual time, which passes only while all tasks wait. Long waits take no real time."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any


class _Selector(selectors.DefaultSelector):
    """Does not wait, but adds the waiting time to ``passed``. Looks at files only when there is nothing else to wait for."""

    passed = 0.0

    def select(self, timeout: float | None = None) -> Any:
        if timeout is not None:
            self.passed += max(0.0, timeout)
            return []
        if ready := super().select(0):
            return ready
        raise RuntimeError("all tasks wait, and no event is scheduled")


class VirtualLoop(asyncio.SelectorEventLoop):
    """``time`` is in seconds since the loop was created."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        """Return the virtual time."""
        return self._virtual.passed

    def passes_to(self, moment: float) -> bool:
        """Let the time pass if nothing is to be done before a moment; return whether it is that late now."""
        if self._ready or (self._scheduled and self._scheduled[0].when() <= moment):
            return False
        self._virtual.passed = max(self._virtual.passed, moment)
        return True


def run_virtually(work: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine to its end and return its result."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work)


def now() -> float:
    """Return the loop's time."""
    return asyncio.get_running_loop().time()
