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

    @property
    def words(self) -> str:
        """What there is to say of the credentials."""
        total = self.limited + self.refused
        if total == 1:
            return "the only Claude credential of this proxy is at its rate limit"
        if not self.refused:
            return f"all {total} Claude credentials of this proxy are at their rate limits"
        at_limit = "1 is at its rate limit" if self.limited == 1 else f"{self.limited} are at their rate limits"
        return f"of the {total} Claude credentials of this proxy {at_limit} and Anthropic refuses {self.refused}"


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
    first = "it" if counts.limited + counts.refused == 1 else "the first"
    return own_refusal(429, f"claude-proxy: {counts.words}; {first} is back {moment(now + seconds, now)}.", headers)


def refused_pool(seconds: float) -> Refusal:
    """Return a 503 for a pool of which every credential was refused: not for the client to heal, but for the operator."""
    return own_refusal(
        503,
        "Anthropic refused the proxy's Claude credentials. The proxy's operator finds in its log which ones, and why.",
        [("retry-after", str(math.ceil(seconds))), ("x-should-retry", "false")],
    )


def moment(when: float, now: float) -> str:
    """Return a moment to come in words, such as ``at 14:30 UTC (in 12 minutes)``; with its day where that is another one."""
    at, today = datetime.fromtimestamp(when, UTC), datetime.fromtimestamp(now, UTC)
    seconds = max(1, math.ceil(when - now))
    size, unit = next((one for one in UNITS if seconds >= 2 * one[0]), UNITS[-1])
    count = round(seconds / size)
    clock = f"at {at:%H:%M} UTC" if at.date() == today.date() else f"on {at:%d %b} at {at:%H:%M} UTC"
    return f"{clock} (in {count} {unit if count != 1 else unit[:-1]})"


def closed_pool(seconds: float) -> Refusal:
    """Return a 503 for a pool of which every credential is paused, or has a login that has expired."""
    return own_refusal(
        503,
        "Every Claude credential of the proxy is paused, or its login has expired; the proxy's operator can change that.",
        [("retry-after", str(math.ceil(seconds))), ("x-should-retry", "false")],
    )
