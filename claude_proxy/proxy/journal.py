"""What was tried for one request, in order, for its record. Written by who tries it, read when all is over."""

from dataclasses import dataclass, field

from claude_proxy.anthropic.usage import Usage
from claude_proxy.providers.endpoints import Provider
from claude_proxy.usage.record import ASKED_AGAIN, LEFT_FOR


@dataclass
class Journal:
    """One per request. It decides nothing: what an attempt came to is its ``Outcome``."""

    provider: Provider | None = None
    first_provider: Provider | None = None
    # Provider and model of the last attempt, in LiteLLM's words.
    served: str = ""
    attempts: int = 0
    # The credentials that Claude was asked with, by label, and what was left for something else, in words.
    labels: list[str] = field(default_factory=list)
    failovers: list[str] = field(default_factory=list)
    # The tokens of the response, as far as it came; None while there is none.
    usage: Usage | None = None
    # Anthropic's type of the error that ended a response whose status was a success; "interrupted" for one that broke off.
    error: str = ""

    def begin(self, provider: Provider, served: str) -> None:
        """Note that an attempt at a provider begins."""
        if self.served and served != self.served:
            self.failovers.append(f"{self.served}: {LEFT_FOR}{served}")
        elif self.served:
            self.failovers.append(f"{self.served}: {ASKED_AGAIN}")
        self.attempts += 1
        # What the attempt before said is not the response.
        self.usage, self.error = None, ""
        self.provider = provider
        self.served = served
        self.first_provider = self.first_provider or provider
