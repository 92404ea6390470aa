"""The errors for a client when no credential of the pool can serve its request."""

import math
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple

from claude_proxy.anthropic.errors import Refusal, own_refusal
from claude_proxy.credentials.rate_limits import Snapshot
from claude_proxy.credentials.upstream_response import UNIFIED

# From the longest unit to the shortest, in seconds. A unit is used from twice its length.
UNITS = ((86400, "days"), (3600, "hours"), (60, "minutes"), (1, "seconds"))


class Counts(NamedTuple):
    """The numbers of rate-limited and of rejected credentials in a pool."""

    limited: int
    rejected: int

    @classmethod
    def of(cls, pool: Iterable[Snapshot]) -> "Counts":
        """Count the credentials of a pool in which none is available, without paused and expired ones."""
        rejected = [
            any(cooldown.rejected for cooldown in snapshot.cooldowns.values()) for snapshot in pool if not snapshot.disabled
        ]
        return cls(len(rejected) - sum(rejected), sum(rejected))

    def sentence(self, until: str) -> str:
        """Describe the credentials; ``until`` is when the first one is usable again."""
        total = self.limited + self.rejected
        if total == 1:
            return f"the only Claude credential is rate-limited until {until}"
        if not self.rejected:
            return f"all {total} Claude credentials are rate-limited until {until}"
        limited = (
            f"{self.limited} of {total} Claude credentials {'is' if self.limited == 1 else 'are'} rate-limited until {until}"
        )
        return f"{limited}, and Anthropic rejected the other{f' {self.rejected}' if self.rejected > 1 else ''}"


def exhausted_pool(seconds: float, now: float, claim: str, counts: Counts) -> Refusal:
    """Return a 429 for a pool in which every credential is rate-limited; ``retry-after`` covers the whole pool.

    With these headers and a Claude login, Claude Code shows the reset time and does not retry (2.1.197). With only the proxy's
    token, it shows the message.
    """
    headers = [
        ("retry-after", str(math.ceil(seconds))),
        (f"{UNIFIED}status", "rejected"),
        (f"{UNIFIED}reset", str(math.ceil(now + seconds))),
        (f"{UNIFIED}representative-claim", claim),
    ]
    sentence = counts.sentence(moment(now + seconds, now))
    return own_refusal(429, f"claude-proxy: {sentence}. Try again then, or use another model.", headers)


def refused_pool(seconds: float) -> Refusal:
    """Return a 503 for a pool in which every credential is rejected: the operator must fix it, not the client."""
    return own_refusal(
        503,
        "claude-proxy: Anthropic rejected every Claude credential of this proxy. The operator finds the reasons in the log of "
        "the proxy and on its page /pool. These are the proxy's accounts, not yours.",
        [("retry-after", str(math.ceil(seconds))), ("x-should-retry", "false")],
    )


def refused_account(seconds: float) -> Refusal:
    """Return a 503 for a request that Anthropic refused with words about an account of the pool.

    The words themselves are left out: Claude Code would show some of them as an error of its user's own account.
    """
    return own_refusal(
        503,
        "claude-proxy: Anthropic refused an account of this proxy. It is not your account: ask the proxy's operator, who finds "
        "the reason in the log of the proxy and on its page /pool.",
        [("retry-after", str(math.ceil(seconds))), ("x-should-retry", "false")],
    )


def moment(when: float, now: float) -> str:
    """Return a future time in words, such as ``14:30 UTC (in 12 minutes)``, with the date if it is not today."""
    at, today = datetime.fromtimestamp(when, UTC), datetime.fromtimestamp(now, UTC)
    seconds = max(1, math.ceil(when - now))
    size, unit = next((one for one in UNITS if seconds >= 2 * one[0]), UNITS[-1])
    count = round(seconds / size)
    clock = f"{at:%H:%M} UTC" if at.date() == today.date() else f"{at:%d %b, %H:%M} UTC"
    return f"{clock} (in {count} {unit if count != 1 else unit[:-1]})"


def closed_pool(seconds: float) -> Refusal:
    """Return a 503 for a pool in which every credential is paused or has an expired login."""
    return own_refusal(
        503,
        "claude-proxy: every Claude credential of this proxy is paused, or its login has expired. Ask the operator, who finds "
        "which with `claude-proxy pool list` and on the page /pool.",
        [("retry-after", str(math.ceil(seconds))), ("x-should-retry", "false")],
    )
