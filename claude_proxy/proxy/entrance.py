"""A request inside LiteLLM: what its hooks find of it, and what the attempts that they hand to a lane come to."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from claude_proxy.anthropic.errors import Refusal
from claude_proxy.providers.compatibility import STRICT, Dialect
from claude_proxy.providers.endpoints import Provider
from claude_proxy.proxy.journal import Journal
from claude_proxy.proxy.outcome import Outcome
from claude_proxy.proxy.request import Request
from claude_proxy.proxy.response import ClientResponse


@dataclass
class Entrance:
    """One per call of LiteLLM's app. The hooks write, the gateway reads when the app is done."""

    request: Request
    outlet: ClientResponse
    journal: Journal
    # Whether the proxy's plan decides what comes after this call, so that LiteLLM has no fallback of its own.
    planned: bool = False
    # What the provider of the last attempt understands.
    row: Dialect = STRICT
    # What the last attempt on a lane came to, and what a hook refuses the request with.
    last: Outcome | None = None
    refusal: Refusal | None = None
    # What closes the responses that LiteLLM was given and may have dropped without a word when the client left.
    opened: list[Callable[[], Awaitable[None]]] = field(default_factory=list)
    _work: asyncio.Future[Outcome] | None = None

    async def run(self, work: Coroutine[Any, Any, Outcome]) -> Outcome | None:
        """Return what a lane's attempt comes to; None when the client left before, so that LiteLLM can book what there is."""
        self._work = asyncio.ensure_future(work)
        try:
            self.last = await self._work
        except asyncio.CancelledError:
            if not self.outlet.left:
                self._work.cancel()
                raise
            return None
        finally:
            self._work = None
        return self.last

    def interrupt(self) -> bool:
        """End the lane's attempt; return whether there was one."""
        if self._work is None:
            return False
        return self._work.cancel()

    async def close(self) -> None:
        """Close what is still open, at the request's end."""
        while self.opened:
            await self.opened.pop()()

    def outcome(self, of_litellm: Outcome) -> Outcome:
        """Return what the call came to: of a request whose first choice was Claude, Claude's own error is the client's."""
        if of_litellm.done or self.outlet.begun:
            return of_litellm
        if self.refusal is not None:
            return Outcome(self.refusal.status, self.refusal, final=True)
        if self.last is not None and not self.last.done and self.journal.first_provider is Provider.CLAUDE:
            return self.last
        return of_litellm


# Set by the gateway around each call of LiteLLM's app; LiteLLM's hooks run in the same context.
current: ContextVar[Entrance | None] = ContextVar("entrance", default=None)
