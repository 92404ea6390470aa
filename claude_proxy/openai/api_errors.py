"""Errors for clients with OpenAI's API: in its shape, as a response or as the last event of a stream. No I/O of its own."""

import json
from typing import Any, NamedTuple

from claude_proxy.anthropic.errors import SEND_TOKEN, error_message, error_type
from claude_proxy.anthropic.messages import to_json
from claude_proxy.anthropic.sse import json_object
from claude_proxy.asgi import Headers, Message, ReshapedErrors, Send
from claude_proxy.openai.api_requests import Api
from claude_proxy.openai.provider_words import unreachable, words_of_provider
from claude_proxy.providers.returned import BROKEN_OFF

SERVER_ERROR = "server_error"
# Headers for Claude Code: the user's budget, in the form of Anthropic's limits.
HIDDEN_HEADERS = b"anthropic-"
# What LiteLLM (1.106.2) writes after a provider's message.
AFTER_MESSAGE = (". Received Model Group=", "\nReceived Model Group=", " LiteLLM Retried", "No fallback model group found")
# aiohttp's words (3.14.5) for a response that breaks off.
NOT_COMPLETE = "Response payload is not completed"
SET_TOKEN = "set it as the API key of your client, which sends it as `Authorization: Bearer`"  # noqa: S105 - advice


class Kind(NamedTuple):
    """OpenAI's type and code of an error."""

    type: str
    code: str | None


INVALID = "invalid_request_error"
KINDS = {
    "authentication_error": Kind(INVALID, "invalid_api_key"),
    "billing_error": Kind("insufficient_quota", "insufficient_quota"),
    "not_found_error": Kind(INVALID, "not_found"),
    "overloaded_error": Kind(SERVER_ERROR, "overloaded"),
    "permission_error": Kind("permission_error", "permission_denied"),
    "rate_limit_error": Kind("rate_limit_error", "rate_limit_exceeded"),
}


def error_object(body: bytes, status: int) -> dict[str, Any]:
    """Return OpenAI's error object for an error of the proxy, which has Anthropic's shape, or of LiteLLM."""
    found = json_object(body) or {}
    inner = found.get("error")
    kind = error_type(status)
    if found.get("type") == "error" and isinstance(inner, dict):
        kind = str(inner.get("type"))
    named = KINDS.get(kind) or Kind(SERVER_ERROR if status >= 500 else INVALID, None)
    message = cleaned(error_message(body, status))
    if kind == "not_found_error" and message.startswith("model:"):
        named = named._replace(code="model_not_found")
    return {"message": message, "type": named.type, "param": None, "code": named.code}


def cleaned(message: str) -> str:
    """Return a message without what LiteLLM writes around that of a provider, and with advice for these clients."""
    if words := unreachable(message):
        return words
    if NOT_COMPLETE in message:
        return BROKEN_OFF
    for mark in AFTER_MESSAGE:
        message = message.partition(mark)[0]
    return words_of_provider(message.strip()).replace(SEND_TOKEN, SET_TOKEN)


def chat_event(body: bytes, status: int = 500) -> bytes:
    """Return an error as the last event of a streamed chat completion."""
    return b"data: " + to_json({"error": error_object(body, status)}) + b"\n\n"


def failed_response(message: str, *, model: str, response_id: str = "resp_failed", number: int = 0) -> bytes:
    """Return the event with which a streamed response fails."""
    response = {
        "id": response_id,
        "object": "response",
        "created_at": 0,
        "model": model,
        "status": "failed",
        "output": [],
        "error": {"code": SERVER_ERROR, "message": message},
    }
    event = {"type": "response.failed", "sequence_number": number, "response": response}
    return b"data: " + to_json(event) + b"\n\n"


def last_event(api: Api, model: str, body: bytes) -> bytes:
    """Return the proxy's error as the last event of a stream."""
    if api is Api.RESPONSES:
        return failed_response(error_object(body, 500)["message"], model=model)
    return chat_event(body)


class ErrorFormat(ReshapedErrors):
    """ASGI ``send`` that gives errors OpenAI's shape; other responses pass, without headers for Claude Code."""

    def __init__(self, send: Send) -> None:
        super().__init__(send, _reshaped)

    async def __call__(self, message: Message) -> None:
        """Send a message, or hold it until the error is complete."""
        if message["type"] == "http.response.start":
            kept = [pair for pair in message["headers"] if not pair[0].startswith(HIDDEN_HEADERS)]
            message = {**message, "headers": kept}
        await super().__call__(message)


def _reshaped(status: int, body: bytes) -> tuple[Headers, bytes]:
    return [("content-type", "application/json")], json.dumps({"error": error_object(body, status)}).encode()
