"""What became of one attempt: the client has its response, or there is an error that another target may spare it."""

from dataclasses import dataclass

from claude_proxy.anthropic.errors import Refusal

# A longer number of seconds is no time to wait for.
MAX_DIGITS = 9


@dataclass(frozen=True, slots=True)
class Outcome:
    """``status`` is what retries and fallbacks are decided by; 200 when the client has its response, as far as it came."""

    status: int = 200
    # What the client gets unless another target answers; None when it has a response.
    refusal: Refusal | None = None
    # Whether no other target may answer: the error is about the request, and the client heals it by itself.
    final: bool = True
    # Whether nobody was asked last: the refusal is the pool's, and who waits for its end asks the same pool again.
    of_pool: bool = False

    @property
    def done(self) -> bool:
        """Whether the response has left for the client."""
        return self.refusal is None

    @property
    def retry_after(self) -> float | None:
        """After how many seconds the provider wants to be asked again; None where it does not say so."""
        if self.refusal is None or self.of_pool:
            return None
        value = next((value for name, value in self.refusal.headers if name.lower() == "retry-after"), "")
        return float(value) if value.isascii() and value.isdigit() and len(value) < MAX_DIGITS else None


DONE = Outcome()


def failed(status: int, refusal: Refusal, *, final: bool = False, of_pool: bool = False) -> Outcome:
    """Return the outcome of an attempt that has sent nothing."""
    return Outcome(status, refusal, final, of_pool)
