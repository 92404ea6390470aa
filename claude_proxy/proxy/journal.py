"""The attempts of one request, in order, for its usage record."""

from collections.abc import Callable
from dataclasses import dataclass, field

from claude_proxy.anthropic.usage import StreamSummary, Usage
from claude_proxy.providers.endpoints import Provider
from claude_proxy.usage.record import FAILED_OVER_TO, RETRIED


@dataclass
class Journal:
    """One per request. It only records; the result of an attempt is its ``Outcome``."""

    provider: Provider | None = None
    first_provider: Provider | None = None
    # Provider and model of the last attempt, in LiteLLM's form; and the model's name in config.yaml.
    served: str = ""
    model: str = ""
    attempts: int = 0
    # The labels of the Claude credentials that were used, and the failovers, in words.
    labels: list[str] = field(default_factory=list)
    failovers: list[str] = field(default_factory=list)
    # The tokens of the response so far; None before the first one. Of a stream in progress, ``summary`` has them, and at its
    # end ``reported`` returns what its provider reported beyond its translation.
    usage: Usage | None = None
    summary: StreamSummary | None = None
    reported: Callable[[], Usage] | None = None
    # Whether the last attempt used the client's own Claude credential.
    of_client: bool = False
    # Anthropic's error type of a response that failed after a success status; "interrupted" for one that broke off.
    error: str = ""
    # Whether the provider has the request of the last attempt, and has not failed: it works on a response, or has sent it.
    at_provider: bool = False
    # Why the last attempt failed, in a few words; empty if it is not known.
    cause: str = ""

    def begin(self, provider: Provider, served: str, model: str = "") -> None:
        """Record the start of an attempt at a deployment of a model; after a failed one, also which model failed and why."""
        if self.served:
            step = RETRIED if served == self.served else f"{FAILED_OVER_TO}{served}"
            self.failovers.append(f"{self.served}: {step}{f' ({self.cause})' if self.cause else ''}")
        self.attempts, self.cause = self.attempts + 1, ""
        # Usage and error of the previous attempt do not belong to this response.
        self.usage, self.summary, self.reported, self.error = None, None, None, ""
        self.of_client = self.at_provider = False
        self.provider = provider
        self.served, self.model = served, model
        self.first_provider = self.first_provider or provider

    def record_sent(self) -> None:
        """Record that a request of the last attempt is being sent, on an open connection."""
        self.at_provider = True

    def record_failed(self) -> None:
        """Record that the provider responded with an error, or not at all."""
        self.at_provider = False
