"""credentials/upstream_response.py: what an answer says about limits, by Anthropic's clock."""

import json
from email.utils import formatdate

import answers
import pytest
from answers import DAY, HOUR, LIMIT, UNIFIED

from claude_proxy.credentials.scope import Scope
from claude_proxy.credentials.upstream_response import (
    ERROR_TYPES,
    LONGEST_RETRY_AFTER,
    UpstreamResponse,
    known_windows,
    parse_reset,
)

NOW = 1_800_000_000


def test_windows():
    """Windows are read by their pattern: known ones, those of a family and those of tomorrow, with what is said of each."""
    headers = answers.windows(NOW, **{
        "7d_oi__utilization": "1.25", "7d_oi__reset": NOW + DAY, "7d_oi__status": "rejected",
        "7d_oi__surpassed__threshold": "1.0", "30d__utilization": "much", "30d__reset": NOW + 40 * DAY,
    })  # fmt: skip
    answer = UpstreamResponse(200, answers.given(429, LIMIT, **headers).headers, scope=Scope("fable"), now=NOW)
    assert sorted(answer.windows(), key=lambda window: window.name) == [
        ("30d", None, None, None, False),
        ("5h", None, 0.31, NOW + HOUR, False),
        ("7d", None, 0.12, NOW + 4 * DAY, False),
        ("7d_oi", "fable", 1.25, NOW + DAY, True),
    ]
    assert [window.name for window in known_windows(answer)] == ["5h", "7d", "7d_oi"]


@pytest.mark.parametrize(
    ("status", "message", "shown"),
    [
        (403, "This  organization\nhas been disabled.", "This organization has been disabled."),
        (401, "OAuth token lacks a scope: user:inference", "OAuth token lacks a scope: user:inference"),
        (403, "messages.0.content: the user's words", ""),
        (401, "sk-ant-oat01-made-up-secret is unknown", "*** is unknown"),
        (403, "\ud800", r"\ud800"),
        (403, "", ""),
        (403, None, ""),
    ],
)
def test_the_explanation_of_an_error(status, message, shown):
    """Anthropic's message is shown on one printable line, without credentials, unless it may quote the request."""
    body = json.dumps({"type": "error", "error": {"type": ERROR_TYPES[status], "message": message}}).encode()
    assert UpstreamResponse(status, {}, body).explanation == shown


@pytest.mark.parametrize("text", ["", "much", "nan", "inf", "-0.1", "50%"])
def test_a_utilization_that_is_no_fraction(text):
    """What is no fraction of a window is not learned."""
    answer = UpstreamResponse(200, {f"{UNIFIED}5h-utilization": text, f"{UNIFIED}5h-reset": str(NOW + HOUR)}, now=NOW)
    assert [*known_windows(answer)] == []


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        (f"{NOW + 60}", NOW + 60),
        (f"{NOW + 60}.5", NOW + 60.5),
        (f" {NOW + 60} ", NOW + 60),
        (f"{(NOW + 60) * 1000}", NOW + 60),
        ("2027-01-15T08:01:00Z", NOW + 60),
        (" 2027-01-15T08:01:00Z ", NOW + 60),
        ("2027-01-15T09:01:00+01:00", NOW + 60),
        ("2027-01-15T08:01:00", NOW + 60),
        (f"{NOW + 100}", NOW + 100),
        (f"{NOW}", None),
        (f"{NOW - 1}", None),
        (f"{NOW + 101}", None),
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
def test_parse_reset(text, moment, monkeypatch):
    """A reset is read as seconds, milliseconds or ISO 8601 in UTC; one that is past or too far away is no reset."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    assert parse_reset(text, NOW, longest=100) == moment


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7),
        (" 7 ", 7),
        ("0", 0),
        ("1e9", LONGEST_RETRY_AFTER),
        (formatdate(NOW + 90, usegmt=True), 90),
        (formatdate(NOW - 90, usegmt=True), 0),
        ("Wed, 32 Oct 2015 07:28:00 GMT", None),
        ("-1", None),
        ("nan", None),
        ("x", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after(text, seconds):
    """``retry-after`` is a number of seconds or a date, bounded; nonsense counts as none."""
    assert UpstreamResponse(429, {} if text is None else {"retry-after": text}, now=NOW).retry_after == seconds


@pytest.mark.parametrize("ahead", [-3600, -1, 0, 1, 7200])
def test_anthropics_clock(ahead):
    """A moment of Anthropic's is one of the proxy's clock by the difference that ``date`` tells, if it is one at all."""
    answer = UpstreamResponse(429, {"date": formatdate(NOW + ahead, usegmt=True)}, now=NOW)
    expected = ahead if abs(ahead) > 1 else 0
    assert (answer.skew, answer.moment(str(NOW + expected + 60), 100)) == (expected, NOW + 60)


def test_a_date_that_is_none():
    """A clock that does not say anything is taken to be the proxy's."""
    assert [UpstreamResponse(429, {"date": text}, now=NOW).skew for text in ("", "soon", "0", "Wed, 32 Oct")] == [0.0] * 4


def test_a_window_that_rejects_without_a_utilization_is_full():
    """A rejecting window whose utilization is missing counts as full until its reset; without a reset nothing is assumed."""
    headers = {f"{UNIFIED}5h-status": "rejected", f"{UNIFIED}5h-reset": str(NOW + 600)}
    (window,) = UpstreamResponse(429, headers, now=NOW).windows()
    assert (window.utilization, window.reset, window.rejected) == (1.0, NOW + 600, True)
    (window,) = UpstreamResponse(429, {f"{UNIFIED}5h-status": "rejected"}, now=NOW).windows()
    assert (window.utilization, window.rejected) == (None, True)
