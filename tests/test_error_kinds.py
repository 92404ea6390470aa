"""anthropic/error_kinds.py: errors about a content policy, in providers' own words."""

import json

import pytest

from claude_proxy.anthropic.error_kinds import CONTENT_POLICY, MAX_BYTES, is_content_policy

FORBIDDEN = (
    "Output blocked by content filtering policy",
    "content_policy_violation",
    "This request appears to be violating our usage policy.",
)
OTHER = (
    "Overloaded",
    "prompt is too long: 208310 tokens > 200000 maximum",
    "max_tokens: 999999 > 64000",
    "messages: at least one message is required",
    "",
)


def body(message):
    return json.dumps({"type": "error", "error": {"type": "invalid_request_error", "message": message}}).encode()


@pytest.mark.parametrize("message", FORBIDDEN)
def test_a_request_against_a_policy(message):
    """A provider's content-policy error is recognised, in any case."""
    for said in (message, message.upper()):
        assert is_content_policy(body(said))


@pytest.mark.parametrize("message", OTHER)
def test_other_errors(message):
    """Any other error is not one."""
    assert not is_content_policy(body(message))


def test_sentences_stand_in_small_letters():
    """The searched sentences are in lower case, because the text is lowered."""
    assert all(sentence == sentence.lower() for sentence in CONTENT_POLICY)


@pytest.mark.parametrize(("before", "found"), [(MAX_BYTES - len("usage policies"), True), (MAX_BYTES, False)])
def test_only_the_beginning_is_looked_at(before, found):
    """Only the start of a body is searched, because a longer one may quote the request."""
    assert is_content_policy(b"x" * before + b"usage policies") is found


def test_any_bytes_may_be_there():
    """Invalid UTF-8 is no error and does not hide the words beside it."""
    assert not is_content_policy(b"\xff\xfe\x00")
    assert is_content_policy(b"\xff usage policies")
