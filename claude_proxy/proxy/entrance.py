"""A request inside LiteLLM: what its hooks find of it, and what the attempts that they hand to a lane come to."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import ContextVar, Token
from dataclasses import dataclass, field, replace
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
    # The model that LiteLLM is to look for; the body names the one that the client asked for.
    model: str = ""
    # What the provider of the last attempt understands.
    row: Dialect = STRICT
    # Whether the last attempt's lane has made of the response what the client gets.
    is_clean: bool = False
    # What the last attempt on a lane came to, and what a hook refuses the request with.
    last: Outcome | None = None
    refusal: Refusal | None = None
    # What LiteLLM loses of the last response: when to come back, and why it ended; None where that is not known.
    retry_after: str | None = None
    native_end: str | None = None
    # The ends of its provider's that are good ones; all of them where it is empty.
    good_ends: frozenset[str] = frozenset()
    # What closes the responses that LiteLLM was given and may have dropped without a word when the client left.
    opened: list[Callable[[], Awaitable[None]]] = field(default_factory=list)
    _work: asyncio.Future[Outcome] | None = None

    async def run(self, work: Coroutine[Any, Any, Outcome]) -> Outcome | None:
        """Return what a lane's attempt comes to; None when the client left before, so that LiteLLM can book what there is."""
        self._work = asyncio.ensure_future(work)
        try:
            outcome = await self._work
        except asyncio.CancelledError:
            if not self.outlet.left:
                self._work.cancel()
                raise
            return None
        finally:
            self._work = None
        if self._is_shown():
            self.last = outcome
        return outcome

    def leave_lanes(self) -> None:
        """Note that the next attempt is LiteLLM's own."""
        self.is_clean = False
        if self._is_shown():
            self.last = None

    def _is_shown(self) -> bool:
        """Whether the current attempt's error may be the client's: of a request whose first choice was Claude only Claude's."""
        return self.journal.provider is Provider.CLAUDE or self.journal.first_provider is not Provider.CLAUDE

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
        """Return what the call came to: the error of a lane goes before LiteLLM's words for it."""
        if of_litellm.done or self.outlet.begun:
            return of_litellm
        if self.refusal is not None:
            return Outcome(self.refusal.status, self.refusal, final=True)
        if self.last is not None and not self.last.done:
            return self.last
        refusal = of_litellm.refusal
        if refusal is None or self.retry_after is None or any(name.lower() == "retry-after" for name, _ in refusal.headers):
            return of_litellm
        return replace(of_litellm, refusal=replace(refusal, headers=[*refusal.headers, ("retry-after", self.retry_after)]))

    def end_problem(self) -> str:
        """Return what is wrong with the end of a response, in words; empty for a good one.

        LiteLLM (1.106.2) makes ``stop`` of an end that it does not know, and of none.
        """
        if self.native_end is None or (self.native_end and (not self.good_ends or self.native_end in self.good_ends)):
            return ""
        return f"the provider ended its answer with {self.native_end or 'no reason'}"


class Current:
    """The entrance of the call of LiteLLM's app within which this is asked; its hooks run in the same context.

    LiteLLM's tasks may keep that context long after the call, so it refers to the entrance no longer than the call lasts.
    """

    def __init__(self) -> None:
        self._slot: ContextVar[list[Entrance]] = ContextVar("entrance")

    def get(self) -> Entrance | None:
        """Return the entrance; None outside of a call, and after it."""
        slot = self._slot.get(None)
        return slot[0] if slot else None

    def set(self, entrance: Entrance) -> Token[list[Entrance]]:
        """Begin a call; return what ends it."""
        return self._slot.set([entrance])

    def reset(self, token: Token[list[Entrance]]) -> None:
        """End a call, in this context and in those that were copied from it."""
        self._slot.get().clear()
        self._slot.reset(token)


# Set by the gateway around each call of LiteLLM's app.
current = Current()
