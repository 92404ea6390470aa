"""Errors in Anthropic's shape."""

import json

import anyio
import pytest

from claude_proxy.anthropic import errors
from claude_proxy.anthropic.errors import error_event, error_message, error_type, own_refusal, send_refusal, without_tracebacks

FILE = errors.__file__
TRACEBACK = f'Traceback (most recent call last):\n  File "{FILE}", line 1, in x\n    y()\nKeyError: 1\n'


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"error":{"message":"m"}}', "m"),
        (b'{"type":"error","error":{"type":"x","message":"m"}}', "m"),
        (b'{"detail":"m"}', "m"),
        (b'{"detail":{"message":"m"}}', "m"),
        (b'{"message":"m"}', "m"),
        (b'{"error":"m"}', "m"),
        (b'{"error":{"message":""}}', "The proxy responded with HTTP 418."),
        (b'{"error":{"message":["m"]}}', "The proxy responded with HTTP 418."),
        (b'{"detail":[{"loc":[]}]}', "The proxy responded with HTTP 418."),
        (b"<html>", "The proxy responded with HTTP 418."),
        (b"\xff", "The proxy responded with HTTP 418."),
        (b"[" * 100_000, "The proxy responded with HTTP 418."),
        (b"", "The proxy responded with HTTP 418."),
        (b"null", "The proxy responded with HTTP 418."),
    ],
    ids=range(14),
)
def test_error_message(body, message):
    """An error's message is found in every shape of LiteLLM's; any other body gets a message of the proxy's."""
    assert error_message(body, 418) == message


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, "invalid_request_error"), (401, "authentication_error"), (418, "invalid_request_error"), (500, "api_error")],
)
def test_an_error_has_anthropics_name(status, kind):
    """Each status has Anthropic's error type; an unused status has the type of its class."""
    assert error_type(status) == kind


def test_an_own_refusal_is_final_unless_it_says_otherwise():
    """An error of the proxy has `x-should-retry: false` unless the caller passes other headers."""
    assert dict(own_refusal(401, "no").headers)["x-should-retry"] == "false"
    assert "x-should-retry" not in dict(own_refusal(429, "later", [("retry-after", "7")]).headers)
    assert json.loads(own_refusal(401, "no").body) == {
        "type": "error",
        "error": {"type": "authentication_error", "message": "no"},
    }


def test_an_own_refusal_may_have_another_type():
    """A status has one usual error type, and some errors have another one."""
    assert json.loads(own_refusal(429, "no", kind="billing_error").body)["error"]["type"] == "billing_error"


def test_an_error_can_end_a_stream():
    """An error in the middle of a stream is one whole event with the same body."""
    body = own_refusal(500, "broken").body
    assert error_event(body) == b"event: error\ndata: " + body + b"\n\n"


@pytest.mark.parametrize("head", [False, True])
def test_a_refusal_is_sent_with_its_length(head):
    """The length is that of the body, which HEAD leaves out; header text beyond Latin-1 is sent as UTF-8."""
    sent = []

    async def send(message):
        sent.append(message)

    refusal = own_refusal(404, "none", [("X-Word", "na\u00efve \u2713")])
    anyio.run(lambda: send_refusal(send, refusal, head=head))
    assert (b"content-length", str(len(refusal.body)).encode()) in sent[0]["headers"]
    assert (b"x-word", "na\u00efve \u2713".encode()) in sent[0]["headers"]
    assert sent[1]["body"] == (b"" if head else refusal.body)


def test_no_traceback_is_in_an_error():
    """An error contains only the first words of a LiteLLM traceback, without files and lines."""
    said = json.dumps({"error": {"message": f"litellm.APIConnectionError: 'bool' is no dict\n{TRACEBACK}"}}).encode()
    words = "LiteLLM cannot translate this request or its response: litellm.APIConnectionError: 'bool' is no dict"
    assert error_message(said, 500) == words
    said = json.dumps({"error": {"message": f"[Errno 2] No such file: '{FILE}' here"}}).encode()
    assert error_message(said, 500) == "[Errno 2] No such file: '(a file of the proxy)' here"


def test_no_traceback_is_in_an_error_event():
    """An error event loses its traceback and keeps its type; other events, and messages that quote one, are unchanged."""
    message = b'event: content_block_delta\ndata: {"delta": {"text": %s}}\n\n' % json.dumps(f"error {TRACEBACK}").encode()
    assert without_tracebacks(message) == message
    for error in (
        {"type": "error", "error": {"type": "overloaded_error", "message": f"x {TRACEBACK}"}},
        {"error": f"x {TRACEBACK}"},
    ):
        out = without_tracebacks(message + b"data: " + json.dumps(error).encode() + b"\n\n")
        kept, event = out[: len(message)], out[len(message) :]
        assert kept == message
        assert b"Traceback" not in event
        said = json.loads(event.split(b"data: ")[1])
        assert said["error"]["message"].endswith(": x")
        assert said["error"]["type"] == ("overloaded_error" if "type" in error else "api_error")


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("Key=anna (sk-...G3tg) Current cost: 50.125, Max budget: 50.0", "$50.12 of $50.00 are spent"),
        ("Team=made-up Current cost: 1234, Max budget: 1000", "$1,234.00 of $1,000.00 are spent"),
        ("Current cost: 1e-05, Max budget: 0.0", "$0.00001 of $0 are spent"),
    ],
)
def test_a_spent_budget(said, words):
    """A spent budget is said in dollars, with what to do, and without the end of the key that LiteLLM adds."""
    body = json.dumps({"error": {"message": f"Budget has been exceeded! {said}"}}).encode()
    assert error_message(body, 422) == f"Budget has been exceeded: {words}. An administrator can raise it."
