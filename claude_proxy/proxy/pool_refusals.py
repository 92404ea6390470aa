"""What a client is told when no credential of the pool can serve its request: in words for its user, and in headers."""

import math
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple

from claude_proxy.anthropic.errors import Refusal, own_refusal
from claude_proxy.credentials.rate_limits import Snapshot
from claude_proxy.credentials.upstream_response import UNIFIED

# From the longest unit to the shortest, in seconds; each serves from twice its length on.
UNITS = ((86400, "days"), (3600, "hours"), (60, "minutes"), (1, "seconds"))


class Counts(NamedTuple):
    """How many credentials of a pool are at a limit, and how many Anthropic refuses."""

    limited: int
    refused: int

    @classmethod
    def of(cls, pool: Iterable[Snapshot]) -> "Counts":
        """Count the credentials of a pool of which none is usable, without those that its operator has taken out."""
        refused = [
            any(cooldown.rejected for cooldown in snapshot.cooldowns.values()) for snapshot in pool if not snapshot.closed
        ]
        return cls(len(refused) - sum(refused), sum(refused))

    def sentence(self, until: str) -> str:
        """Return what there is to say of the credentials, of which the first is usable again at a moment."""
        total = self.limited + self.refused
        if total == 1:
            return f"the only Claude credential is rate-limited until {until}"
        if not self.refused:
            return f"all {total} Claude credentials are rate-limited until {until}"
        limited = (
            f"{self.limited} of {total} Claude credentials {'is' if self.limited == 1 else 'are'} rate-limited until {until}"
        )
        return f"{limited}, and Anthropic rejected the other{f' {self.refused}' if self.refused > 1 else ''}"


def exhausted_pool(seconds: float, now: float, claim: str, counts: Counts) -> Refusal:
    """Return a 429 for a pool of which every credential is rate-limited: it covers the whole pool.

    By these headers Claude Code tells its user when to come back instead of asking again and again, where the user has a
    login (2.1.197). Where it has the proxy's token alone, it shows the words.
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
    """Return a 503 for a pool of which every credential was rejected: not for the client to heal, but for the operator."""
    return own_refusal(
        503,
        "claude-proxy: Anthropic rejected every Claude credential of this proxy. The operator finds the reasons in the log of "
        "the proxy and on its page /pool.",
        [("retry-after", str(math.ceil(seconds))), ("x-should-retry", "false")],
    )


def moment(when: float, now: float) -> str:
    """Return a moment to come in words, such as ``14:30 UTC (in 12 minutes)``; with its day where that is another one."""
    at, today = datetime.fromtimestamp(when, UTC), datetime.fromtimestamp(now, UTC)
    seconds = max(1, math.ceil(when - now))
    size, unit = next((one for one in UNITS if seconds >= 2 * one[0]), UNITS[-1])
    count = round(seconds / size)
    clock = f"{at:%H:%M} UTC" if at.date() == today.date() else f"{at:%d %b, %H:%M} UTC"
    return f"{clock} (in {count} {unit if count != 1 else unit[:-1]})"


def closed_pool(seconds: float) -> Refusal:
    """Return a 503 for a pool of which every credential is paused, or has a login that has expired."""
    return own_refusal(
        503,
        "claude-proxy: every Claude credential of this proxy is paused, or its login has expired. The operator finds which "
        "with `claude-proxy pool list` and on the page /pool.",
        [("retry-after", str(math.ceil(seconds))), ("x-should-retry", "false")],
    )
