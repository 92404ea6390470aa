"""Errors in Anthropic's shape, with headers that say whether a retry is useful."""

import json
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from claude_proxy.anthropic.sse import event_data, events, whole_events
from claude_proxy.asgi import Headers, Send, encoded

ERROR_TYPES = {
    400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error",
    413: "request_too_large", 429: "rate_limit_error", 503: "overloaded_error", 529: "overloaded_error",
}  # fmt: skip
# Client errors where a retry may help. Every other client error has `x-should-retry: false`: without it, Claude Code retries a
# bare 401 ten times over three minutes.
RETRYABLE = frozenset({408, 409, 429})
# Headers of an error that say whether to retry, and when.
RETRY_HEADERS = ("retry-after", "x-should-retry")
# Reasons for which a model is refused. The log has them instead of the error's type, which other errors have too.
UNKNOWN_MODEL, MODEL_NOT_ALLOWED, MODEL_NOT_READY = "unknown_model", "model_not_allowed", "model_not_ready"
UNPRICED_MODEL = "unpriced_model"
# How a client of the Messages API sends the proxy's token; other clients get other advice.
SEND_TOKEN = "send it in the header x-litellm-api-key, or set it as ANTHROPIC_AUTH_TOKEN in Claude Code"  # noqa: S105 - advice
# After these words, LiteLLM's 401 contains the end of the received key, its hash and the name of a table.
KEY_DETAILS = " Received API Key"
# And that for a spent budget names the key's alias and the end of the key.
_DOLLARS = r"(\d+(?:\.\d+)?(?:e[+-]?\d+)?)"
SPENT_BUDGET = re.compile(rf"Budget has been exceeded\b.*?Current cost: {_DOLLARS}, Max budget: {_DOLLARS}", re.DOTALL)
TRACEBACK = "Traceback (most recent call last)"
# Folders whose paths reveal how the proxy is installed.
_FOLDERS = sorted({sys.prefix, sys.base_prefix, str(Path(__file__).resolve().parents[2]), str(Path.home())} - {"/"}, key=len)
_PATH = re.compile(rf"(?:{'|'.join(map(re.escape, reversed(_FOLDERS)))})(?:{re.escape(os.sep)}[^\s'\"]*)?")


@dataclass(frozen=True)
class Refusal:
    """An error response, ready for the client: Anthropic's own, unchanged, or one of the proxy's."""

    status: int
    headers: Headers
    body: bytes
    # False when the upstream broke off its response: the client's connection is then closed instead of completed.
    whole: bool = True
    # For the log, where the error's type says too little; empty: the type.
    reason: str = ""


class Refused(Exception):
    """The request is refused. ``status`` and ``headers`` are for the response; the message is for the client.

    Without ``headers`` the response has ``x-should-retry: false``; without ``kind`` its error type is that of the status.
    ``reason`` is for the log.
    """

    def __init__(
        self,
        status: int,
        message: str,
        headers: list[tuple[str, str]] | None = None,
        *,
        kind: str = "",
        reason: str = "",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers
        self.kind = kind
        self.reason = reason

    def refusal(self) -> Refusal:
        """Return the response."""
        return own_refusal(self.status, str(self), self.headers, kind=self.kind, reason=self.reason)


def own_refusal(
    status: int, message: str, headers: list[tuple[str, str]] | None = None, *, kind: str = "", reason: str = ""
) -> Refusal:
    """Return one of the proxy's errors in Anthropic's shape; without ``headers`` it has ``x-should-retry: false``."""
    extra = [("x-should-retry", "false")] if headers is None else headers
    body = json.dumps(error_body(kind or error_type(status), message)).encode()
    return Refusal(status, [("content-type", "application/json"), *extra], body, reason=reason)


def refusal_of(status: int, body: bytes, headers: Headers) -> Refusal:
    """Return another provider's error in Anthropic's shape, with its message and its retry headers."""
    kept = [(name.lower(), value) for name, value in headers if name.lower() in RETRY_HEADERS]
    if status < 500 and status not in RETRYABLE and "x-should-retry" not in dict(kept):
        kept.append(("x-should-retry", "false"))
    return own_refusal(status, error_message(body, status), kept)


def error_type(status: int) -> str:
    """Return Anthropic's error type for a status."""
    return ERROR_TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")


def kind_of(refusal: Refusal) -> str:
    """Return the reason of an error for the log; without one its type, from its body or from an event in it."""
    if refusal.reason:
        return refusal.reason
    for data in (refusal.body, *events(refusal.body)):
        try:
            error = json.loads(data)["error"]["type"]
        except (ValueError, RecursionError, LookupError, TypeError):
            continue
        if isinstance(error, str):
            return error
    return error_type(refusal.status)


def error_message(body: bytes, status: int) -> str:
    """Return the message of an error of LiteLLM or a provider, whatever its shape."""
    try:
        error = json.loads(body)
    except (ValueError, RecursionError):
        error = None
    inner = error.get("error", error.get("detail", error)) if isinstance(error, dict) else None
    message = inner.get("message") if isinstance(inner, dict) else inner
    message = without_internals(message.split(KEY_DETAILS, 1)[0]) if isinstance(message, str) else None
    return message or f"The proxy responded with HTTP {status}."


def without_internals(message: str) -> str:
    """Return an error message without LiteLLM's traceback, without paths of the proxy's files and without parts of a key."""
    if spent := SPENT_BUDGET.search(message):
        cost, budget = map(_dollars, spent.groups())
        return f"Budget has been exceeded: {cost} of {budget} are spent. An administrator can raise it."
    text, traceback, _ = message.partition(TRACEBACK)
    text = _PATH.sub("(a file of the proxy)", text).strip()
    return f"LiteLLM cannot translate this request or its response: {text}" if traceback else text


def _dollars(amount: str) -> str:
    value = float(amount)
    return f"${value:,.2f}" if value >= 0.01 else f"${value:.6f}".rstrip("0").rstrip(".")


def without_tracebacks(stream: bytes) -> bytes:
    """Return whole events with tracebacks removed from error events; all other events keep their bytes."""
    if TRACEBACK.encode() not in stream:
        return stream
    out = bytearray()
    for raw in whole_events(stream):
        try:
            event = json.loads(event_data(raw))
        except (ValueError, RecursionError):
            event = None
        error = event.get("error") if isinstance(event, dict) else None
        if error and TRACEBACK.encode() in raw:
            kind = error.get("type") if isinstance(error, dict) else None
            body = error_body(kind if isinstance(kind, str) else "api_error", error_message(json.dumps(event).encode(), 500))
            out += error_event(json.dumps(body).encode())
        else:
            out += raw
    return bytes(out)


def error_event(body: bytes) -> bytes:
    """Return an error in Anthropic's shape as the last event of a stream whose status is already sent."""
    return b"event: error\ndata: " + body + b"\n\n"


async def send_refusal(send: Send, refusal: Refusal, *, head: bool = False) -> None:
    """Send a whole response; for HEAD only its headers."""
    length = ("content-length", str(len(refusal.body)))
    await send({"type": "http.response.start", "status": refusal.status, "headers": encoded([*refusal.headers, length])})
    await send({"type": "http.response.body", "body": b"" if head else refusal.body})


def error_body(kind: str, message: str) -> dict[str, Any]:
    """Return an error in Anthropic's shape."""
    return {"type": "error", "error": {"type": kind, "message": message}}


STATUS_OF_ERRORS = {
    "invalid_request_error": 400, "authentication_error": 401, "billing_error": 402, "permission_error": 403,
    "not_found_error": 404, "request_too_large": 413, "rate_limit_error": 429, "timeout_error": 504, "overloaded_error": 529,
}  # fmt: skip
