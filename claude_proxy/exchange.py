"""One request of a client's and what became of it, from the moment it arrives until its answer has left."""

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from claude_proxy.dialects import STRICT, Dialect
from claude_proxy.headers import Client, Headers
from claude_proxy.targets import Provider


@dataclass(frozen=True)
class Refusal:
    """An error answer, ready for the client: of Anthropic's as it came, or one of the proxy's own."""

    status: int
    headers: Headers
    body: bytes


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
    provider: Provider | None = None
    first_provider: Provider | None = None
    # What the last provider that is not Claude understands, and whose thinking comes back.
    dialect: Dialect = STRICT
    refusal: Refusal | None = None
    # The headers of the last answer of Claude's.
    answer_headers: Headers = ()
    # The answer belongs to the client as it is: no retry and no fallback may replace it.
    final: bool = False
    attempts: int = 0
    labels: list[str] = field(default_factory=list)

    @property
    def model(self) -> str:
        model = self.body.get("model")
        return model if isinstance(model, str) else ""

    def begin(self, provider: Provider) -> None:
        """Note that an attempt at a provider begins."""
        self.attempts += 1
        self.provider = provider
        self.first_provider = self.first_provider or provider


# Set by the gateway for each request; LiteLLM's hooks run in the same context. None outside of a client's request.
current: ContextVar[Exchange | None] = ContextVar("exchange", default=None)
