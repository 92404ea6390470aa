"""A model request in progress, and its early end: by the client, the removal of its user, or the server's stop."""

import asyncio
import functools
import traceback
from collections.abc import Callable

from claude_proxy.asgi import WHEN_CUT, WHEN_GONE, Receive, Scope, WhenCut, WhenGone
from claude_proxy.proxy.entrance import Entrance
from claude_proxy.proxy.response import ClientResponse
from claude_proxy.server.draining import CUT_OFF


class UnderWay:
    """One per request, created in its task."""

    def __init__(self, outlet: ClientResponse) -> None:
        self.outlet = outlet
        # The call of LiteLLM's app, if any.
        self.entrance: Entrance | None = None
        self._task = asyncio.current_task()

    def leave(self) -> None:
        """End the request because the client has disconnected."""
        if self.outlet.leave():
            self._end()

    def revoke(self) -> None:
        """End the request because its user was removed."""
        if self.outlet.revoke():
            self._end()

    def cut(self, *, force: bool) -> bool:
        """End the request because the server stops; without ``force`` only between two events. Return whether it ends."""
        if self.outlet.left or not (force or self.outlet.has_room) or not self.outlet.cut(CUT_OFF):
            return False
        self._end()
        return True

    def accept_end(self, ended: asyncio.CancelledError) -> None:
        """Accept the cancellation that this object caused; raise any other one again."""
        if self._task is None or not self.outlet.left:
            raise ended
        self._task.uncancel()
        # LiteLLM's frames (1.106.2), futures and the exception reference each other. Clearing the frames frees them now, not at
        # the next garbage collection.
        traceback.clear_frames(ended.__traceback__)

    async def close(self) -> None:
        """Close what LiteLLM has left open. Afterwards nothing ends the request early.

        The request no longer refers to its task: both, and the body, are freed at once instead of by the garbage collector.
        """
        self._task = None
        if self.entrance is not None:
            await self.entrance.close()

    def watch(self, scope: Scope, receive: Receive) -> Callable[[], object]:
        """Watch for the client's disconnect and the server's stop; return a function that stops watching."""
        when_cut: WhenCut | None = scope.get(WHEN_CUT)
        if when_cut is not None:
            when_cut(self.cut)
        stop = _watch(scope, receive, self.leave)

        def stop_all() -> None:
            stop()
            if when_cut is not None:
                when_cut(_has_ended)

        return stop_all

    def _end(self) -> None:
        """Cancel only a lane's attempt inside LiteLLM, so that LiteLLM can record the usage; otherwise the whole request."""
        if self._task is not None and not (self.entrance and self.entrance.interrupt()):
            self._task.cancel()


def _has_ended(*, force: bool) -> bool:  # noqa: ARG001 - a ``Cut``
    """The request has its response; nothing is cut off."""
    return False


def _watch(scope: Scope, receive: Receive, leave: Callable[[], None]) -> Callable[[], object]:
    """Call ``leave`` when the client disconnects; return a function that stops watching. Other servers need a task for it."""
    when_gone: WhenGone | None = scope.get(WHEN_GONE)
    if when_gone is not None:
        when_gone(leave)
        return functools.partial(when_gone, None)

    async def until_gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        leave()

    return asyncio.ensure_future(until_gone()).cancel
