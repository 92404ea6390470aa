"""The usage record of a finished request: plain values, no body, no secret."""

from typing import NamedTuple

import msgspec

from claude_proxy.anthropic.usage import Usage

# A failover has the form "what was left: why". If a model was left, the reason starts with one of these.
FAILED_OVER_TO, RETRIED = "failed over to ", "retried"
# The status for a client that has disconnected.
LEFT = 499


class AttemptRecord(NamedTuple):
    """One attempt of a request. ``target`` is the label of a Claude credential, or provider and model.

    ``why`` says why it failed, and is empty for the attempt that responded; ``seconds`` include the wait for a credential.
    """

    target: str
    why: str
    seconds: float


class Record(msgspec.Struct, frozen=True):
    """One request of a client. Its texts are labels and names, never token values or parts of a body."""

    # Arrival, in Unix seconds.
    at: float
    # The user's name, "admin", or "anyone" on an open proxy.
    user: str
    # The requested model, by its name in config.yaml; and the provider and model that responded, such as
    # "anthropic/claude-opus-4-8", or empty if none did.
    requested: str
    served: str
    # The label of the last Claude credential; empty for other providers.
    credential: str
    # The status that the client received; 499 if it disconnected before the end.
    status: int
    # From arrival to the first byte of the response, and to its end.
    first_byte_seconds: float
    seconds: float
    usage: Usage = Usage()
    # Each failover to another credential or model: "anna: five_hour limit (HTTP 429)".
    failovers: tuple[str, ...] = ()
    # Whether the request was only a token count, which no provider bills.
    counts_tokens: bool = False
    # Anthropic's error type, the reason why a model was refused (UNKNOWN_MODEL and others of anthropic/errors.py), or
    # "interrupted" for a response that broke off; empty for a success.
    error: str = ""
    # What the response costs, in whole micro-USD; None if no price is known.
    cost: int | None = None
    # The name in config.yaml of the model that responded, such as a fallback's; empty if none did.
    model: str = ""
    # The user's groups: case-folded, sorted.
    groups: tuple[str, ...] = ()
    # The rule of config.yaml that chose the model; empty if none did.
    rule: str = ""
    # The project that the client named; empty without one.
    project: str = ""
    # The lane of the last attempt: "claude", "messages", "chat", "completion", "demo" or "litellm"; empty without an attempt.
    lane: str = ""
    # The attempts, in order.
    attempts: tuple[AttemptRecord, ...] = ()
    # The provider's id of its last response; empty if it sent none.
    request_id: str = ""
    # The length of the body that the client received, in bytes.
    size: int = 0
    # Why no fallback followed the failed attempt, if those of the model are not ready; empty otherwise.
    no_fallback: str = ""


def is_error(record: Record) -> bool:
    """Return whether a request failed; a client that disconnects is not a failure."""
    return bool(record.error or record.status >= 400) and record.status != LEFT


def is_answered(record: Record) -> bool:
    """Return whether an upstream responded to the request with a success."""
    return bool(record.served) and 200 <= record.status < 300 and not record.error


def is_of_model(failover: str) -> bool:
    """Return whether a failover left a model, whose name a client may have made up, rather than a credential."""
    reason = failover.partition(": ")[2]
    return reason.startswith((FAILED_OVER_TO, RETRIED))
