"""Converts another provider's error: to Anthropic's format, and to wordings that Claude Code can handle."""

from collections.abc import Callable

from claude_proxy.anthropic.errors import error_message, own_refusal, refusal_of
from claude_proxy.anthropic.sse import json_object
from claude_proxy.asgi import Headers
from claude_proxy.config.deployments import Deployment
from claude_proxy.providers.meter import Meter
from claude_proxy.providers.overflow import Overflow, overflow_in
from claude_proxy.proxy.outcome import Outcome, failed
from claude_proxy.proxy.request import Request

# Statuses for a request that is too long; OpenAI-compatible servers use 422, some gateways 500.
TOO_LONG = (400, 413, 422, 500)
UNPROCESSABLE = 422


def input_tokens(meter: Meter, request: Request, one: Deployment) -> int:
    """Return the estimated number of input tokens of a request at a deployment."""
    return meter.tokens(one.served, request.sent(one.row))


def words_of(status: int, body: bytes) -> str:
    """Return the message of an error, then its code and type, which contain the information of some providers."""
    parsed = json_object(body) or {}
    inner = parsed.get("error", parsed)
    codes = [str(inner.get(name) or "") for name in ("code", "type")] if isinstance(inner, dict) else []
    return "\n".join([error_message(body, status), " ".join(codes)])


def overflow_of(status: int, body: bytes) -> Overflow | None:
    """Return how a request was too long; None for any other error."""
    return overflow_in(words_of(status, body)) if status in TOO_LONG else None


def provider_error(
    status: int, body: bytes, headers: Headers = (), *, estimate: Callable[[], int], max_tokens: int | None = None
) -> Outcome:
    """Return the outcome of an error. ``estimate`` counts the input if the provider did not; ``max_tokens`` was requested."""
    if (found := overflow_of(status, body)) is not None:
        return failed(400, own_refusal(400, found.sentence(estimate, max_tokens)))
    # A 422 concerns the request, like a 400; Claude Code and LiteLLM do not handle 422.
    status = 400 if status == UNPROCESSABLE else status
    return failed(status, refusal_of(status, body, headers))
