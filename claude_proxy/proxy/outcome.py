"""The result of one attempt: a response was sent to the client, or an error that another target may avoid."""

from dataclasses import dataclass

from claude_proxy.anthropic.errors import Refusal

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


def failed(status: int, refusal: Refusal, *, final: bool = False, of_pool: bool = False) -> Outcome:
    """Return the outcome of an attempt that has sent nothing to the client."""
    return Outcome(status, refusal, final, of_pool)
