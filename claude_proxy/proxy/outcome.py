"""The result of one attempt: a response was sent to the client, or an error that another target may avoid."""

from dataclasses import dataclass

from claude_proxy.anthropic.errors import Refusal, kind_of

# More digits are not a plausible waiting time.
MAX_DIGITS = 9


@dataclass(frozen=True, slots=True)
class Outcome:
    """``status`` decides about retries and fallbacks; it is 200 if the client has its response, complete or not."""

    status: int = 200
    # The error for the client if no other target responds; None if it has a response.
    refusal: Refusal | None = None
    # Whether no other target may be tried: the error concerns the request itself, and the client handles it.
    final: bool = True
    # Whether no upstream was reached: the pool refused, so waiting and trying the same pool again does not help.
    of_pool: bool = False
    # What happened, in the proxy's own words, where status and type of the error do not say it.
    cause: str = ""

    @property
    def why(self) -> str:
        """The error in a few words for the log, without any text of the response."""
        if self.cause or self.refusal is None:
            return self.cause
        if self.of_pool:
            return "no usable credential"
        return f"HTTP {self.status} {kind_of(self.refusal)}" if self.refusal.whole else "the response broke off"

    @property
    def done(self) -> bool:
        """Whether the response was sent to the client."""
        return self.refusal is None

    @property
    def retry_after(self) -> float | None:
        """The provider's ``retry-after`` in seconds; None if it is missing."""
        if self.refusal is None or self.of_pool:
            return None
        value = next((value for name, value in self.refusal.headers if name.lower() == "retry-after"), "")
        return float(value) if value.isascii() and value.isdigit() and len(value) < MAX_DIGITS else None


DONE = Outcome()


def failed(status: int, refusal: Refusal, *, final: bool = False, of_pool: bool = False, cause: str = "") -> Outcome:
    """Return the outcome of an attempt that has sent nothing to the client."""
    return Outcome(status, refusal, final, of_pool, cause)
