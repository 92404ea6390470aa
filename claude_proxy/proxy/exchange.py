"""One request of a client's and what became of it, from the moment it arrives until its answer has left."""

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol

from claude_proxy.anthropic.errors import Refusal
from claude_proxy.anthropic.usage import Usage
from claude_proxy.asgi import Headers
from claude_proxy.providers.compatibility import STRICT, Dialect
from claude_proxy.providers.endpoints import Provider
from claude_proxy.providers.model_names import served_name
from claude_proxy.upstream.headers import Client
from claude_proxy.usage.record import ASKED_AGAIN, LEFT_FOR


class Outlet(Protocol):
    """The way of an upstream's answer to the client past LiteLLM, as it arrives."""

    async def begin(self, status: int, headers: Headers) -> None:
        """Send the status. From here on nothing that LiteLLM says reaches the client."""

    async def write(self, data: bytes) -> None:
        """Send a part of the body."""

    async def end(self) -> None:
        """Send the end. An answer that has begun and is not ended closes the client's connection, as its upstream's did."""

    async def while_client_stays(self, work: Coroutine[Any, Any, None]) -> bool:
        """Run this until it is done, or until the client leaves; return whether the client stayed."""


@dataclass
class Exchange:
    """What the client sent, in its own words, and what the attempts to serve it came to.

    LiteLLM gets a reduced copy of headers and body; the whole of them is here and nowhere else. Not to be logged.
    """

    client: Client
    headers: Headers
    raw_body: bytes
    body: Mapping[str, Any]
    query: str = ""
    # The caller's name, by which it is logged and counted.
    user: str = ""
    # Whether the client asks how many tokens its request has, and for no answer.
    counts_tokens: bool = False
    outlet: Outlet | None = None
    provider: Provider | None = None
    first_provider: Provider | None = None
    # Provider and model of the last attempt, in LiteLLM's words.
    served: str = ""
    # What the last provider that is not Claude understands, and whose thinking comes back.
    dialect: Dialect = STRICT
    refusal: Refusal | None = None
    # The answer belongs to the client as it is: no retry and no fallback may replace it.
    final: bool = False
    attempts: int = 0
    # The credentials that Claude was asked with, by label, and what was left for something else, in words.
    labels: list[str] = field(default_factory=list)
    failovers: list[str] = field(default_factory=list)
    # Whether LiteLLM keeps books about the answer, and so needs it whole.
    booked: bool = True
    # The tokens of an answer that went to the client past LiteLLM, as far as it came; None while there is none.
    usage: Usage | None = None
    # Anthropic's type of the error that ended an answer whose status was a success; "interrupted" for one that broke off.
    error: str = ""
    # What closes the answers that LiteLLM was given and may have dropped without a word when the client left.
    opened: list[Callable[[], Awaitable[None]]] = field(default_factory=list)

    @property
    def model(self) -> str:
        """The name that the client asked for, which its answer carries."""
        model = self.body.get("model")
        return model if isinstance(model, str) else ""

    @property
    def name(self) -> str:
        """The same model's name in config.yaml."""
        return served_name(self.model)

    @property
    def streams(self) -> bool:
        """Whether the client wants events."""
        return self.body.get("stream") is True

    async def close(self) -> None:
        """Close what is open yet, at the request's end."""
        while self.opened:
            await self.opened.pop()()

    def release(self) -> None:
        """Let go of what makes it large, when all is said: LiteLLM's tasks may keep their context, and this in it."""
        self.raw_body, self.body, self.outlet = b"", {}, None

    def begin(self, provider: Provider, served: str) -> None:
        """Note that an attempt at a provider begins."""
        if self.served and served != self.served:
            self.failovers.append(f"{self.served}: {LEFT_FOR}{served}")
        elif self.served:
            self.failovers.append(f"{self.served}: {ASKED_AGAIN}")
        self.attempts += 1
        # What the attempt before said is not the answer.
        self.usage, self.error = None, ""
        self.provider = provider
        self.served = served
        self.first_provider = self.first_provider or provider


# Set by the gateway for each request; LiteLLM's hooks run in the same context. None outside of a client's request.
current: ContextVar[Exchange | None] = ContextVar("exchange", default=None)
