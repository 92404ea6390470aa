"""Connects a request with the hooks that LiteLLM calls for it, and with the attempts that these hooks make on a lane."""

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
    """One per call of LiteLLM's app. The hooks write to it; the gateway reads it after the call."""

    request: Request
    outlet: ClientResponse
    journal: Journal
    # Whether the proxy's plan decides about fallbacks, so that LiteLLM must not.
    planned: bool = False
    # The model for LiteLLM's router; the body still contains the client's model.
    model: str = ""
    # Whether the client uses OpenAI's API, so that LiteLLM's response is for the client.
    is_openai: bool = False
    # The dialect of the last attempt's provider.
    row: Dialect = STRICT
    # Whether a lane has already prepared the last attempt's response for the client.
    is_clean: bool = False
    # The outcome of the last attempt on a lane, and the error of a hook that rejected the request.
    last: Outcome | None = None
    refusal: Refusal | None = None
    # Values of the last response that LiteLLM drops: `retry-after` and the stop reason; None if unknown.
    retry_after: str | None = None
    native_end: str | None = None
    # The provider's stop reasons that are normal; empty if all of them are.
    good_ends: frozenset[str] = frozenset()
    # Functions that close responses that LiteLLM may have abandoned when the client disconnected.
    opened: list[Callable[[], Awaitable[None]]] = field(default_factory=list)
    _work: asyncio.Future[Outcome] | None = None

    async def run(self, work: Coroutine[Any, Any, Outcome]) -> Outcome | None:
        """Return the outcome of a lane's attempt; None if the client disconnected: LiteLLM can then still record the usage."""
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

    def record(self, outcome: Outcome) -> None:
        """Record the outcome of a lane's attempt whose response LiteLLM translates for the client."""
        if self._is_shown():
            self.last = outcome

    def leave_lanes(self) -> None:
        """Record that the next attempt is LiteLLM's own."""
        self.is_clean = False
        if self._is_shown():
            self.last = None

    def _is_shown(self) -> bool:
        """Return whether the client may see the current attempt's error: after a first attempt at Claude, only Claude's."""
        return self.journal.provider is Provider.CLAUDE or self.journal.first_provider is not Provider.CLAUDE

    def interrupt(self) -> bool:
        """Cancel the lane's attempt; return whether there was one."""
        if self._work is None:
            return False
        return self._work.cancel()

    async def close(self) -> None:
        """Close every open response at the end of the request."""
        while self.opened:
            await self.opened.pop()()

    def outcome(self, of_litellm: Outcome) -> Outcome:
        """Return the outcome of the call; a lane's own error takes precedence over LiteLLM's version of it."""
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
        """Describe an abnormal stop reason of a response; empty for a normal one.

        LiteLLM (1.108.7) reports an unknown or missing stop reason as ``stop``.
        """
        if self.native_end is None or (self.native_end and (not self.good_ends or self.native_end in self.good_ends)):
            return ""
        return f"the provider ended its response with {self.native_end or 'no stop reason'}"


class Current:
    """The entrance of the current call of LiteLLM's app; LiteLLM's hooks run in the same context.

    LiteLLM's tasks may keep that context long after the call, so the reference is cleared at the end of the call.
    """

    def __init__(self) -> None:
        self._slot: ContextVar[list[Entrance]] = ContextVar("entrance")

    def get(self) -> Entrance | None:
        """Return the entrance; None outside of a call and after it."""
        slot = self._slot.get(None)
        return slot[0] if slot else None

    def set(self, entrance: Entrance) -> Token[list[Entrance]]:
        """Start a call; return the token that ends it."""
        return self._slot.set([entrance])

    def reset(self, token: Token[list[Entrance]]) -> None:
        """End a call, in this context and in its copies."""
        self._slot.get().clear()
        self._slot.reset(token)


# Set by the gateway around each call of LiteLLM's app.
current = Current()
