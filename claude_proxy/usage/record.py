"""What is remembered of a request after its answer has left: plain values, no body, no secret."""

from dataclasses import dataclass, field

from claude_proxy.anthropic.usage import Usage

# A failover reads "what was left: why". Where it is a model that was left, the reason begins with one of these.
LEFT_FOR, ASKED_AGAIN = "left for ", "asked again"


@dataclass(frozen=True, slots=True)
class Record:
    """One request of a client's. Its texts are labels and names, never values of tokens or parts of a body."""

    # Unix seconds at which the request arrived.
    at: float
    # The caller's name: a user's, "admin", or "anyone" on an open proxy.
    user: str
    # The model that the client named, as config.yaml has it, and the provider and model that answered, such as
    # "anthropic/claude-opus-4-8"; empty for nobody.
    asked: str
    served: str
    # The label of the credential that Claude was asked with last; empty for other providers.
    credential: str
    # The status that the client saw; 499 when it left before the end.
    status: int
    # From the request's arrival to the answer's first byte, and to its end.
    first_byte_seconds: float
    seconds: float
    usage: Usage = field(default_factory=Usage)
    # Each credential or model that was left for another one within the request: "anna: five_hour limit (HTTP 429)".
    failovers: tuple[str, ...] = ()
    # Whether only a count of tokens was asked for, which no provider bills.
    counts_tokens: bool = False
    # Anthropic's error type, or "interrupted" for an answer that broke off; empty for a success.
    error: str = ""
