"""verdicts.py: what an answer says about the credential and what happens to the request, as one table."""

import json

import pytest

from claude_proxy.verdicts import (
    LONGEST_RETRY_AFTER,
    UNIFIED,
    Answer,
    Judge,
    Then,
    error_body,
    judge,
    parse_reset,
    retry_after,
)

NOW = 1_800_000_000.0
COOLDOWN = 60.0
HOUR, DAY = 3600, 86400


def answer(http_status, message=None, /, **limits):
    """Return an answer; ``limits`` are unified headers by their short name, with ``_`` for ``-``, and ``retry_after``."""
    headers = {}
    for name, value in limits.items():
        full = "retry-after" if name == "retry_after" else UNIFIED + name.replace("_", "-").replace("--", "_")
        headers[full] = str(value)
    body = b"" if message is None else json.dumps(error_body("some_error", message)).encode()
    return Answer(http_status, headers, body)


def judged(given):
    return judge(given, Judge(NOW, COOLDOWN))


def rests(given):
    """Return how long the verdict lets the credential rest; the request has to go on with the next one."""
    verdict = judged(given)
    assert (verdict.then, verdict.out) == (Then.NEXT, False)
    return verdict.rest_until - NOW


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        # A window is exhausted: until the latest reset among the rejected ones.
        (answer(429, "x", status="rejected", reset=NOW + HOUR), HOUR),
        (answer(429, "x", **{"status": "rejected", "5h_status": "rejected", "5h_reset": NOW + HOUR}), HOUR),
        (answer(429, "x", **{"5h_status": "rejected", "5h_reset": NOW + HOUR}), HOUR),
        (
            answer(429, "x", **{
                "5h_status": "rejected", "5h_reset": NOW + HOUR, "7d_status": "rejected", "7d_reset": NOW + 3 * DAY,
            }),
            3 * DAY,
        ),
        (
            answer(429, "x", **{
                "5h_status": "rejected", "5h_reset": NOW + HOUR, "7d_status": "allowed_warning", "7d_reset": NOW + 3 * DAY,
            }),
            HOUR,
        ),
        (answer(429, "x", **{"status": "rejected", "7d__oi_status": "rejected", "7d__oi_reset": NOW + 2 * DAY}), 2 * DAY),
        (answer(429, "x", status="rejected", reset=f"{NOW + HOUR:.0f}000"), HOUR),
        (answer(429, "x", status="rejected", reset="2027-01-15T09:00:00Z"), HOUR),
        (answer(429, "x", status=" rejected ", reset=NOW + HOUR), HOUR),
        # A window is exhausted and its reset is nonsense.
        (answer(429, "x", status="rejected", reset=NOW - 1, retry_after=7), 7),
        (answer(429, "x", **{"5h_status": "rejected", "5h_reset": NOW + 7 * HOUR, "retry_after": 7}), 7),
        (answer(429, "x", status="rejected", reset=NOW + 9 * DAY), COOLDOWN),
        (answer(429, "x", status="rejected", reset="soon"), COOLDOWN),
        (answer(429, "x", status="rejected"), COOLDOWN),
        # No window is rejected.
        (answer(429, "x", retry_after=7), 7),
        (answer(429, "x", retry_after="0.5"), 0.5),
        (answer(429, "x", retry_after=0), 0),
        (answer(429, "x", retry_after=10 * DAY), LONGEST_RETRY_AFTER),
        (answer(429, "x", status="allowed", overage_status="rejected", reset=NOW + HOUR, retry_after=7), 7),
        # Neither.
        (answer(429, "x"), COOLDOWN),
        (answer(429), COOLDOWN),
        (answer(429, "x", retry_after="Wed, 21 Oct 2015 07:28:00 GMT"), COOLDOWN),
        (answer(429, "x", retry_after="-1"), COOLDOWN),
        (answer(429, "x", retry_after="nan"), COOLDOWN),
        (answer(429, "x", retry_after="inf"), COOLDOWN),
        (Answer(429, {}, b"<html>slow down</html>"), COOLDOWN),
        # "Error" with a limit in it is a limit.
        (answer(429, "Error", retry_after=7), 7),
        (answer(429, "Error", status="rejected", reset=NOW + HOUR), HOUR),
    ],
)  # fmt: skip
def test_a_rest(given, seconds):
    """A 429 about a limit rests the credential as long as it says, bounded, and the next one is asked."""
    assert rests(given) == seconds


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (401, "OAuth token has expired. Please obtain a new token."),
        (401, "Invalid authentication credentials"),
        (401, "OAuth authentication is currently not allowed for this organization."),
        (401, None),
        (403, "OAuth token has been revoked. Please obtain a new token."),
        (403, "OAuth authentication is currently not allowed for this organization."),
        (400, "This organization has been disabled."),
        (400, "Your credit balance is too low to access the Anthropic API."),
        (400, "Identity verification is required."),
    ],
)
def test_out(status, message):
    """A credential or an account that was refused is put out, and the next one is asked."""
    verdict = judged(answer(status, message))
    assert (verdict.then, verdict.out, verdict.rest_until) == (Then.NEXT, True, None)


@pytest.mark.parametrize(
    ("given", "then"),
    [
        # Answered.
        (answer(200, status="allowed"), Then.DONE),
        (answer(200, status="rejected"), Then.DONE),
        (answer(302), Then.DONE),
        # About the request.
        (answer(429, "Extra usage is required for long context requests.", status="rejected", reset=NOW + HOUR), Then.CLIENT),
        (answer(400, "Extra usage is required for long context requests."), Then.CLIENT),
        (answer(429, "Usage credits are required for fast mode."), Then.CLIENT),
        (answer(400, "Third-party apps now draw from your extra usage, not your plan limits."), Then.CLIENT),
        (answer(429, "Error"), Then.CLIENT),
        (answer(403, "This credential is only authorized for use with Claude Code and cannot be used elsewhere."), Then.CLIENT),
        (answer(400, "This credential is only authorized for use with Claude Code."), Then.CLIENT),
        # About the proxy.
        (answer(401, "invalid x-api-key"), Then.CLIENT),
        (answer(401, "OAuth authentication is currently not supported."), Then.CLIENT),
        # Other 4xx.
        (answer(400, "messages: at least one message is required"), Then.CLIENT),
        (answer(400, "prompt is too long: 210000 tokens > 200000 maximum"), Then.CLIENT),
        (answer(403, "Request not allowed"), Then.CLIENT),
        (answer(404, "model: claude-none"), Then.CLIENT),
        (answer(413, "Request exceeds the maximum size"), Then.CLIENT),
        (answer(400), Then.CLIENT),
        # About Anthropic.
        (answer(500, "Internal server error"), Then.ROUTER),
        (answer(529, "Overloaded"), Then.ROUTER),
        (answer(503, retry_after=7), Then.ROUTER),
        (Answer(502, {}, b"<html>"), Then.ROUTER),
    ],
)
def test_the_credential_is_untouched(given, then):
    """An answer about the request, the proxy or Anthropic itself costs no credential anything, and nobody else is asked."""
    verdict = judged(given)
    assert (verdict.then, verdict.rest_until, verdict.out) == (then, None, False)


@pytest.mark.parametrize(
    "message",
    [
        "messages.1.content.0.type: Expected `thinking` or `redacted_thinking`, but found `text`.",
        "messages.1: each thinking block must contain thinking",
        "a final `assistant` message must start with a thinking block",
        "thinking blocks are not supported by this model",
    ],
)
def test_thinking_that_nobody_heals(message):
    """A refusal of thinking blocks on which Claude Code does not act is repaired on the same credential."""
    verdict = judged(answer(400, message))
    assert (verdict.then, verdict.rest_until, verdict.out) == (Then.REPAIR, None, False)


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (400, "messages.1.content.0: Invalid `signature` in `thinking` block"),
        (400, "messages.1.content.0.thinking.signature: Field required"),
        (400, "`thinking` or `redacted_thinking` blocks in the latest assistant message cannot be modified."),
        (400, "messages.1: redacted_thinking block has an invalid signature"),
        (400, "adaptive thinking is not supported on this model"),
        (400, "`max_tokens` must be greater than `thinking.budget_tokens`"),
        (404, "each thinking block must contain thinking"),
        (500, "each thinking block must contain thinking"),
    ],
)
def test_thinking_that_is_not_ours_to_repair(status, message):
    """What Claude Code heals by itself, and what is no 400 about blocks, reaches it in Anthropic's words."""
    assert judged(answer(status, message)).then is not Then.REPAIR


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 529])
@pytest.mark.parametrize(
    "body",
    [b"", b"null", b"[]", b'{"error":"made-up"}', b'{"error":{"message":7}}', b'{"error":null}', b"\xff\xfe",
     b"[" * 100_000, b'{"erro'],
    ids=["empty", "null", "list", "text-error", "number", "null-error", "not-text", "nested-too-deep", "cut-off"],
)  # fmt: skip
def test_bodies_that_are_not_anthropics(status, body):
    """Every answer gets a verdict, whatever its body is: the status alone decides then."""
    given = Answer(status, {}, body)
    assert given.message == ""
    assert judged(given) == judged(Answer(status, {}))


@pytest.mark.parametrize(
    "given", [answer(429, "x", retry_after=7), answer(401), answer(429, "Error"), answer(400), answer(529)], ids=range(5)
)
def test_reasons_are_for_the_operator(given):
    """Every verdict has a reason in words, which is the proxy's own and not the upstream's text."""
    assert judged(given).reason


def test_the_reason_names_the_rejected_windows():
    """The operator reads which windows were exhausted."""
    verdict = judged(answer(429, "x", **{"5h_status": "rejected", "7d__oi_status": "rejected", "7d_status": "allowed"}))
    assert "5h, 7d_oi" in verdict.reason


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        (f"{NOW + 60:.0f}", NOW + 60),
        (f"{NOW + 60:.0f}.5", NOW + 60.5),
        (f"{(NOW + 60) * 1000:.0f}", NOW + 60),
        ("2027-01-15T08:01:00Z", NOW + 60),
        ("2027-01-15T09:01:00+01:00", NOW + 60),
        (f"{NOW:.0f}", None),
        (f"{NOW - 1:.0f}", None),
        (f"{NOW + 101:.0f}", None),
        ("0", None),
        ("60", None),
        ("", None),
        ("soon", None),
        ("nan", None),
        ("inf", None),
        ("1e400", None),
        ("9999-12-31T23:59:59Z", None),
        ("0001-01-01T00:00:00+23:59", None),
    ],
)
def test_parse_reset(text, moment):
    """A reset is read as seconds, milliseconds or ISO 8601, and one that is past or too far away is no reset."""
    assert parse_reset(text, NOW, longest=100) == moment


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7),
        (" 7 ", 7),
        ("0", 0),
        ("1e9", LONGEST_RETRY_AFTER),
        ("-1", None),
        ("nan", None),
        ("x", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after(text, seconds):
    """``retry-after`` is a number of seconds, bounded; a date or nonsense counts as none."""
    assert retry_after(Answer(429, {} if text is None else {"retry-after": text})) == seconds


def test_error_body():
    """The proxy's own errors have Anthropic's shape."""
    assert error_body("a", "b") == {"type": "error", "error": {"type": "a", "message": "b"}}
