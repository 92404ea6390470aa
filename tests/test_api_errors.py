"""openai/api_errors.py: errors in the shape of OpenAI's API."""

import asyncio
import json

import pytest

from claude_proxy.anthropic.errors import SEND_TOKEN, Refused, own_refusal, send_refusal
from claude_proxy.openai.api_errors import SET_TOKEN, ErrorFormat, error_object, last_event
from claude_proxy.openai.api_requests import Api
from claude_proxy.providers.returned import BROKEN_OFF


def sent(refusal):
    messages = []

    async def send(message):
        messages.append(message)

    asyncio.run(send_refusal(ErrorFormat(send), refusal))
    start, body = messages
    return start["status"], dict(start["headers"]), json.loads(body["body"])["error"]


@pytest.mark.parametrize(
    ("refused", "kind", "code"),
    [
        (Refused(400, "wrong"), "invalid_request_error", None),
        (Refused(401, "wrong"), "invalid_request_error", "invalid_api_key"),
        (Refused(403, "wrong"), "permission_error", "permission_denied"),
        (Refused(404, "model: a is not served by this proxy"), "invalid_request_error", "model_not_found"),
        (Refused(404, "/v1/x is not served"), "invalid_request_error", "not_found"),
        (Refused(429, "wrong"), "rate_limit_error", "rate_limit_exceeded"),
        (Refused(429, "wrong", kind="billing_error"), "insufficient_quota", "insufficient_quota"),
        (Refused(502, "wrong"), "server_error", None),
        (Refused(503, "wrong"), "server_error", "overloaded"),
    ],
)
def test_types_and_codes(refused, kind, code):
    """Each error has OpenAI's four fields, with its type and code."""
    status, headers, found = sent(refused.refusal())
    assert (status, headers[b"content-type"]) == (refused.status, b"application/json")
    assert found == {"message": str(refused), "type": kind, "param": None, "code": code}


def test_headers_of_an_error():
    """What says when to retry stays; what only Claude Code reads does not."""
    refusal = own_refusal(429, "slow", [("retry-after", "7"), ("anthropic-ratelimit-unified-status", "rejected")])
    _, headers, _ = sent(refusal)
    assert (headers[b"retry-after"], [name for name in headers if b"anthropic" in name]) == (b"7", [])


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        (f"The proxy's token is missing: {SEND_TOKEN}.", f"The proxy's token is missing: {SET_TOKEN}."),
        ("litellm.RateLimitError: RateLimitError: OpenAIException - slow down", "slow down"),
        ('litellm.RateLimitError: RateLimitError: OpenAIException - {"error": {"message": "slow down"}}', "slow down"),
        ("Response payload is not completed: <TransferEncodingError: 400>", BROKEN_OFF),
        ("User: arn:aws:iam::123456789012:user/x is not authorized", "User: (an account) is not authorized"),
        ("litellm.NotFoundError: no such model. Received Model Group=gpt\nAvailable Fallbacks=None", "no such model"),
    ],
)
def test_words(message, shown):
    """The message is the provider's or the proxy's own, with advice for these clients."""
    assert error_object(json.dumps({"error": {"message": message}}).encode(), 500)["message"] == shown


def test_a_response_that_is_no_error():
    """A good response passes in its parts, without the headers that Claude Code reads."""
    messages = []

    async def send(message):
        messages.append(message)

    async def pass_all():
        form = ErrorFormat(send)
        named = [(b"x", b"y"), (b"anthropic-ratelimit-unified-status", b"allowed")]
        await form({"type": "http.response.start", "status": 200, "headers": named})
        await form({"type": "http.response.body", "body": b"a", "more_body": True})
        assert len(messages) == 2
        await form({"type": "http.response.body", "body": b"b", "more_body": False})

    asyncio.run(pass_all())
    assert messages[0]["headers"] == [(b"x", b"y")]
    assert [message.get("body") for message in messages] == [None, b"a", b"b"]


def test_the_last_event_of_a_stream():
    """A stream ends with an error in the format of its route."""
    body = own_refusal(503, "the server stops").body
    chat = json.loads(last_event(Api.CHAT, "gpt", body).removeprefix(b"data: "))
    assert chat["error"]["message"] == "the server stops"
    failed = json.loads(last_event(Api.RESPONSES, "gpt", body).removeprefix(b"data: "))
    assert (failed["type"], failed["response"]["error"]["message"]) == ("response.failed", "the server stops")
