"""Compares what the clients saw with what the upstream did: lost requests, justified errors, use during a cooldown. Pure."""

import math
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from benchmarks.crowd import ANSWERED, BROKEN, ERROR, LEFT, Outcome
from benchmarks.simulated_limits import (
    ALL,
    CUT,
    DROPPED,
    LIMITED,
    NAMELESS,
    OVERLOADED,
    QUARANTINE_SECONDS,
    REFUSED,
    SERVED,
    WHOLE,
    Arrival,
)

# The errors that a client may see for the upstream's mishaps, if no other credential could serve the request.
HONEST = {(529, OVERLOADED), (502, DROPPED), (429, NAMELESS)}
FAILED = frozenset({LIMITED, REFUSED, OVERLOADED, DROPPED, CUT, NAMELESS})


@dataclass(frozen=True)
class Cooldown:
    """A credential's cooldown: ``announced`` by the upstream, and ``known`` to the proxy at the latest.

    It ends at ``until`` for the upstream, and at ``at_latest`` for the proxy.
    """

    credential: str
    scope: str
    announced: float
    known: float
    until: float
    at_latest: float


@dataclass(frozen=True)
class Audit:
    """The result. ``lost`` and ``asked_cooling_down`` have a line for each case, and should be empty."""

    tried: int
    outcomes: Counter[str]
    errors: Counter[str]
    lost: tuple[str, ...]
    asked_cooling_down: tuple[str, ...]
    attempts: Counter[str]
    failovers: int
    cooldowns: int
    all_rate_limited: int


def audit(
    outcomes: Sequence[Outcome], ledger: Sequence[Arrival], credentials: Collection[str], shared_within: float = 0.0
) -> Audit:
    """Return the result of a whole run, after all requests have ended.

    ``shared_within`` is the number of seconds after which all processes know of a cooldown that one of them has learned of.
    """
    by_number: dict[int, list[Arrival]] = {}
    for arrival in ledger:
        if arrival.credential:  # the other entries are the ends of responses
            by_number.setdefault(arrival.number, []).append(arrival)
    ends = {outcome.number: outcome.ended for outcome in outcomes}
    cooldowns = list(_cooldowns(by_number, ends, shared_within))
    judged = {
        outcome.number: _judged(outcome, by_number.get(outcome.number, []), cooldowns, credentials) for outcome in outcomes
    }
    failed = [outcome for outcome in outcomes if outcome.kind in (ERROR, BROKEN) and judged[outcome.number]]
    return Audit(
        len(outcomes),
        Counter(outcome.kind for outcome in outcomes),
        Counter(judged[outcome.number] for outcome in failed),
        tuple(
            f"{outcome.model} {outcome.number}: {outcome.kind} {outcome.status} {outcome.detail!r}; upstream: "
            f"{[arrival.outcome for arrival in by_number.get(outcome.number, [])]}"
            for outcome in outcomes
            if not judged[outcome.number]
        ),
        tuple(_asked_cooling_down(ledger, cooldowns)),
        Counter(arrival.outcome for arrival in ledger if arrival.credential),
        sum(_failed_over(outcome, by_number.get(outcome.number, [])) for outcome in outcomes),
        len({(cooldown.credential, cooldown.scope, round(cooldown.until)) for cooldown in cooldowns}),
        len(_moments_of_none(cooldowns, credentials)),
    )


def _failed_over(outcome: Outcome, arrivals: Sequence[Arrival]) -> bool:
    return outcome.kind == ANSWERED and any(arrival.outcome in FAILED for arrival in arrivals[:-1])


def _judged(outcome: Outcome, arrivals: Sequence[Arrival], cooldowns: Sequence[Cooldown], credentials: Collection[str]) -> str:
    """Return why the outcome is correct, in words; empty for a lost request."""
    last = arrivals[-1].outcome if arrivals else ""
    match outcome.kind:
        case _ if outcome.kind in (ANSWERED, LEFT):
            return outcome.kind if last == SERVED or (outcome.kind == LEFT and last == CUT) else ""
        case _ if outcome.kind == BROKEN:
            return "the upstream broke off" if last == CUT else ""
        case _ if outcome.kind == ERROR:
            if (outcome.status, last) in HONEST:
                return f"HTTP {outcome.status}: {last}"
            tried = {arrival.credential for arrival in arrivals}
            if outcome.status == 429 and outcome.retry_after > 0 and _nobody_left(outcome, tried, cooldowns, credentials):
                return "HTTP 429: the whole pool is rate-limited"
    return ""


def _nobody_left(outcome: Outcome, tried: Collection[str], cooldowns: Sequence[Cooldown], credentials: Collection[str]) -> bool:
    """Whether at some moment of a request every credential was in its cooldown or already tried for it."""
    ours = [cooldown for cooldown in cooldowns if cooldown.announced <= outcome.ended and cooldown.at_latest >= outcome.sent]
    moments = [outcome.sent, *(cooldown.announced for cooldown in ours if cooldown.announced > outcome.sent)]
    return any(
        {cooldown.credential for cooldown in ours if cooldown.announced <= moment < cooldown.at_latest} | set(tried)
        >= set(credentials)
        for moment in moments
    )


def _moments_of_none(cooldowns: Sequence[Cooldown], credentials: Collection[str]) -> list[float]:
    """Return the moments from which every credential was in a cooldown for all models."""
    found: list[float] = []
    whole = [cooldown for cooldown in cooldowns if cooldown.scope == ALL]
    for start in sorted({cooldown.announced for cooldown in whole}):
        if found and start < found[-1] + 5:  # the same moment
            continue
        if {cooldown.credential for cooldown in whole if cooldown.announced <= start < cooldown.until} >= set(credentials):
            found.append(start)
    return found


def _cooldowns(by_number: dict[int, list[Arrival]], ends: dict[int, float], shared_within: float) -> Iterator[Cooldown]:
    """Yield the cooldowns. The proxy knows of a cooldown when it tries another credential, or has responded to the client.

    From that moment it may apply the whole ``retry-after``, and the whole quarantine again for each rejected request.
    """
    for number, arrivals in by_number.items():
        for place, arrival in enumerate(arrivals):
            if arrival.until:
                after = arrivals[place + 1].at if place + 1 < len(arrivals) else ends.get(number, arrival.until)
                left = arrival.until - arrival.at
                at_most = QUARANTINE_SECONDS if arrival.outcome == REFUSED else max(1.0, math.ceil(left))
                at_latest = max(arrival.at, after) + at_most
                yield Cooldown(arrival.credential, arrival.scope, arrival.at, after + shared_within, arrival.until, at_latest)


def _asked_cooling_down(ledger: Sequence[Arrival], cooldowns: Sequence[Cooldown]) -> Iterator[str]:
    """Yield requests that were sent after the proxy knew of a cooldown and that used the credential in its cooldown."""
    by_credential: dict[str, list[Cooldown]] = {}
    for cooldown in cooldowns:
        by_credential.setdefault(cooldown.credential, []).append(cooldown)
    for arrival in ledger:
        for cooldown in by_credential.get(arrival.credential, ()) if arrival.outcome != WHOLE else ():
            if (
                cooldown.scope in (ALL, arrival.family)
                and arrival.sent > cooldown.known
                and cooldown.known <= arrival.at < cooldown.until
            ):
                left = cooldown.until - arrival.at
                yield f"{arrival.number} used {arrival.credential} {left:.2f} s before its cooldown ended"
                break
