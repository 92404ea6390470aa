"""proxy/pool_refusals.py: what a client is told when nobody is usable."""

import json

import pytest
from pools import REJECTED, A, B, C, Clock, cooldown, new_pool

from claude_proxy.proxy.pool_refusals import Counts, exhausted_pool, moment, refused_pool

# A Friday, at 08:00 in the morning.
NOW = 1_800_000_000.0
HOUR, DAY = 3600, 86400


def test_an_exhausted_pool():
    """A pool that rests is a 429 with the headers by which Claude Code tells its user when to come back, rounded up."""
    refusal = exhausted_pool(89.2, NOW + 0.5, "seven_day", Counts(5, 0))
    assert refusal.status == 429
    assert dict(refusal.headers) == {
        "content-type": "application/json",
        "retry-after": "90",
        "anthropic-ratelimit-unified-status": "rejected",
        "anthropic-ratelimit-unified-reset": str(int(NOW) + 90),
        "anthropic-ratelimit-unified-representative-claim": "seven_day",
    }
    error = json.loads(refusal.body)["error"]
    assert error["type"] == "rate_limit_error"
    assert error["message"] == (
        "claude-proxy: all 5 Claude credentials of this proxy are rate-limited; "
        "the first is available again at 08:01 UTC (in 90 seconds)."
    )


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        (Counts(1, 0), "the only Claude credential of this proxy is rate-limited; it is available again "),
        (Counts(2, 0), "all 2 Claude credentials of this proxy are rate-limited; the first is available again "),
        (
            Counts(1, 1),
            "of the 2 Claude credentials of this proxy, 1 is rate-limited and 1 is rejected by Anthropic; the first",
        ),
        (Counts(3, 2), "of the 5 Claude credentials of this proxy, 3 are rate-limited and 2 are rejected by Anthropic; "),
    ],
)
def test_how_many(counts, words):
    """The words name the proxy, and say how many credentials are limited and how many are refused."""
    body = json.loads(exhausted_pool(60, NOW, "five_hour", counts).body)
    assert body["error"]["message"].startswith(f"claude-proxy: {words}")


def test_the_counts_of_a_pool():
    """A credential that Anthropic refuses counts as refused, whatever limit it has besides."""
    pool = new_pool(A, B, C, clock=Clock())
    cooldown(pool, A, 60)
    cooldown(pool, B, 60, "opus")
    cooldown(pool, C, 60)
    pool.confirm(C, REJECTED)
    assert Counts.of(pool.snapshot()) == Counts(2, 1)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "at 08:00 UTC (in 1 second)"),
        (119, "at 08:01 UTC (in 119 seconds)"),
        (12 * 60, "at 08:12 UTC (in 12 minutes)"),
        (119 * 60, "at 09:59 UTC (in 119 minutes)"),
        (5 * HOUR, "at 13:00 UTC (in 5 hours)"),
        (20 * HOUR, "on 16 Jan at 04:00 UTC (in 20 hours)"),
        (3 * DAY, "on 18 Jan at 08:00 UTC (in 3 days)"),
    ],
)
def test_a_moment(seconds, words):
    """A moment is said with its zone, with its day where that is not today, and as a time from now."""
    assert moment(NOW + seconds, NOW) == words


def test_a_refused_pool():
    """A pool that is out is a 503 that is not repeated, says who has to act, and when the next try is."""
    refusal = refused_pool(900.1)
    headers = dict(refusal.headers)
    assert (refusal.status, headers["retry-after"], headers["x-should-retry"]) == (503, "901", "false")
    assert json.loads(refusal.body)["error"]["type"] == "overloaded_error"
