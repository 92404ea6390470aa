"""A request for a model under way, and what ends it early: its client, the removal of its user, or the server's stop."""

import asyncio
import functools
import traceback
from collections.abc import Callable

from claude_proxy.asgi import WHEN_CUT, WHEN_GONE, Receive, Scope, WhenCut, WhenGone
from claude_proxy.proxy.entrance import Entrance
from claude_proxy.proxy.response import ClientResponse
from claude_proxy.server.draining import CUT_OFF


class UnderWay:
    """One for a request, made in its task."""

    def __init__(self, outlet: ClientResponse) -> None:
        self.outlet = outlet
        # The call of LiteLLM's app, if there is one.
        self.entrance: Entrance | None = None
        self._task = asyncio.current_task()

    def leave(self) -> None:
        """End the request because the client has left."""
        if self.outlet.leave():
            self._end()

    def revoke(self) -> None:
        """End the request because its user was removed."""
        if self.outlet.revoke():
            self._end()

    def cut(self, *, force: bool) -> bool:
        """End the request because the server stops, between two events unless by force; return whether it ends."""
        if self.outlet.left or not (force or self.outlet.has_room) or not self.outlet.cut(CUT_OFF):
            return False
        self._end()
        return True

    def accept_end(self, ended: asyncio.CancelledError) -> None:
        """Take a cancellation for the end that was asked for; raise it again when it was somebody else's."""
        if self._task is None or not self.outlet.left:
            raise ended
        self._task.uncancel()
        # LiteLLM's frames hold futures (1.106.2), these the exception, and that the frames: now, and not at the next search
        # for garbage, they let go of what they hold.
        traceback.clear_frames(ended.__traceback__)

    async def close(self) -> None:
        """Close what LiteLLM has left open."""
        if self.entrance is not None:
            await self.entrance.close()

    def watch(self, scope: Scope, receive: Receive) -> Callable[[], object]:
        """End the request when the client is gone or the server stops; return what ends the watch."""
        when_cut: WhenCut | None = scope.get(WHEN_CUT)
        if when_cut is not None:
            when_cut(self.cut)
        return _watch(scope, receive, self.leave)

    def _end(self) -> None:
        """Cancel a lane's attempt inside LiteLLM alone, so that LiteLLM can record what there is; else all of it."""
        if self._task is not None and not (self.entrance and self.entrance.interrupt()):
            self._task.cancel()


def _watch(scope: Scope, receive: Receive, leave: Callable[[], None]) -> Callable[[], object]:
    """Call ``leave`` when the client is gone; return what ends that. Without this project's server it takes a task."""
    when_gone: WhenGone | None = scope.get(WHEN_GONE)
    if when_gone is not None:
        when_gone(leave)
        return functools.partial(when_gone, None)

    async def until_gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        leave()

    return asyncio.ensure_future(until_gone()).cancel
