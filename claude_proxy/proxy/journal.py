"""The attempts of one request, in order, for its usage record."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from claude_proxy.anthropic.usage import Usage
from claude_proxy.config.deployments import Lane
from claude_proxy.providers.endpoints import Provider
from claude_proxy.usage.record import FAILED_OVER_TO, RETRIED, AttemptRecord

# The maximum number of attempts that are kept, of which the last one is kept always.
MAX_ATTEMPTS = 20
# The headers in which providers send the id of a request.
REQUEST_IDS = ("request-id", "x-request-id", "x-amzn-requestid")


class Summary(Protocol):
    """What is known of a response in progress: its usage so far, and whether that is the usage of the whole response."""

    @property
    def usage(self) -> Usage: ...

    @property
    def is_final(self) -> bool: ...


@dataclass
class Journal:
    """One per request. It only records; the result of an attempt is its ``Outcome``."""

    clock: Callable[[], float] = time.monotonic
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
    summary: Summary | None = None
    reported: Callable[[], Usage] | None = None
    # Whether the last attempt used the client's own Claude credential.
    of_client: bool = False
    # Anthropic's error type of a response that failed after a success status; "interrupted" for one that broke off.
    error: str = ""
    # Whether the provider has the request of the last attempt, and has not failed: it works on a response, or has sent it.
    at_provider: bool = False
    # Why the last attempt failed, in a few words; empty if it is not known.
    cause: str = ""
    # The lane of the last attempt, and the id that its provider gave the request; empty without one.
    lane: Lane | None = None
    request_id: str = ""
    # The attempts that have ended: one for each credential and each deployment.
    ended: list[AttemptRecord] = field(default_factory=list)
    # Why no fallback followed the last attempt, if those of the model are not ready; empty otherwise.
    no_fallback: str = ""
    # Of the attempt in progress: its target (empty if none is in progress), when it began, and why it failed, if that is known
    # in more words than its outcome has.
    _target: str = ""
    _began: float = 0.0
    _why: str = ""

    def begin(self, provider: Provider, served: str, model: str = "", lane: Lane | None = None) -> None:
        """Record the start of an attempt at a deployment of a model; after a failed one, also which model failed and why."""
        self._close(self.cause)
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
        self.lane, self.request_id = lane, ""
        self._open()

    def use(self, label: str) -> None:
        """Record that the attempt is made with a Claude credential."""
        self.labels.append(label)
        self._target = label

    def fail(self, why: str) -> None:
        """Record why the attempt with the current credential fails, if no other credential is used."""
        self._why = why

    def leave(self, label: str, why: str) -> None:
        """Record that another credential is used instead of this one, and why."""
        self.failovers.append(f"{label}: {why}")
        self._close(why)
        self._open()

    def end(self, cause: str) -> None:
        """Record the end of an attempt; ``cause`` says why it failed, and is empty if the client has its response."""
        self.cause = cause
        self._close(cause or self.error)

    def record_no_fallback(self, why: str) -> None:
        """Record why no fallback follows the last attempt, which has ended; an empty ``why`` adds nothing."""
        self.no_fallback = why
        if why and self.ended:
            last = self.ended[-1]
            self.ended[-1] = last._replace(why=f"{last.why}; {why}" if last.why else why)

    def learn_request_id(self, headers: Mapping[str, str]) -> None:
        """Record the id of a provider's response, by its headers with lower-case names."""
        for name in REQUEST_IDS:
            if found := headers.get(name):
                self.request_id = found
                return
        self.request_id = ""

    def attempts_made(self, why: str) -> tuple[AttemptRecord, ...]:
        """Return all attempts at the end of the request; ``why`` says why one that is still in progress failed."""
        self._close(why)
        return tuple(self.ended)

    def _open(self) -> None:
        self._target, self._began, self._why = self.served, self.clock(), ""

    def _close(self, why: str) -> None:
        if self._target:
            del self.ended[MAX_ATTEMPTS - 1 :]
            self.ended.append(AttemptRecord(self._target, self._why or why, self.clock() - self._began))
            self._target = ""

    def record_sent(self) -> None:
        """Record that a request of the last attempt is being sent, on an open connection."""
        self.at_provider = True

    def record_failed(self) -> None:
        """Record that the provider responded with an error, or not at all."""
        self.at_provider = False
