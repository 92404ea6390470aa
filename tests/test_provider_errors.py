"""proxy/provider_errors.py: another provider's error as an outcome."""

import json

import pytest

from claude_proxy.proxy.provider_errors import provider_error

LONG = {"error": {"message": "request (24071 tokens) exceeds the available context size (8192 tokens), try increasing it"}}


def outcome(status, said, headers=()):
    return provider_error(status, json.dumps(said).encode(), headers, estimate=lambda: 5000, max_tokens=100)


def words(found):
    return json.loads(found.refusal.body)["error"]["message"]


@pytest.mark.parametrize("status", [400, 413, 422, 500])
def test_a_request_that_is_too_long(status):
    """Claude Code reads the sentence by which it helps itself, with a 400."""
    found = outcome(status, LONG)
    assert (found.status, words(found)) == (400, "prompt is too long: 24071 tokens > 8192 maximum")
    coded = outcome(status, {"error": {"message": "no", "code": "context_length_exceeded"}})
    assert words(coded) == "prompt is too long: 5000 tokens > 4999 maximum"


@pytest.mark.parametrize(("status", "seen"), [(429, 429), (422, 400), (503, 503)])
def test_any_other_error(status, seen):
    """It keeps its words, and when to come back; a 422 is a 400."""
    found = outcome(status, {"error": {"message": "made up"}}, [("retry-after", "20"), ("x-other", "1")])
    assert (found.status, found.refusal.status, words(found)) == (seen, seen, "made up")
    assert ("retry-after", "20") in [*found.refusal.headers]
