"""Hold what the clients saw against what the upstream did: what was lost, which errors were honest, who asked whom. Plain."""

import math
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from benchmarks.crowd import ANSWERED, BROKEN, ERROR, LEFT, Outcome
from benchmarks.played import (
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

# What each of the upstream's mishaps may look like to a client that nobody else could serve.
HONEST = {(529, OVERLOADED), (502, DROPPED), (429, NAMELESS)}
FAILED = frozenset({LIMITED, REFUSED, OVERLOADED, DROPPED, CUT, NAMELESS})


@dataclass(frozen=True)
class Cooldown:
    """A credential's rest: ``told`` when the upstream said so, ``known`` when the proxy has certainly heard it.

    At the upstream it ends ``until``, and at the proxy ``at_latest``.
    """

    credential: str
    scope: str
    told: float
    known: float
    until: float
    at_latest: float


@dataclass(frozen=True)
class Audit:
    """What came out. ``lost`` and ``asked_resting`` hold a line for each case, and should hold none."""

    tried: int
    outcomes: Counter[str]
    errors: Counter[str]
    lost: tuple[str, ...]
    asked_cooling_down: tuple[str, ...]
    attempts: Counter[str]
    failovers: int
    cooldowns: int
    all_rate_limited: int


def audit(outcomes: Sequence[Outcome], ledger: Sequence[Arrival], credentials: Collection[str]) -> Audit:
    """Return what came out of a whole run, all of whose requests are over."""
    by_number: dict[int, list[Arrival]] = {}
    for arrival in ledger:
        if arrival.credential:  # the others are the ends of answers
            by_number.setdefault(arrival.number, []).append(arrival)
    ends = {outcome.number: outcome.ended for outcome in outcomes}
    cooldowns = list(_cooldowns(by_number, ends))
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
    """Return why the outcome is in order, in words; empty for a request that was lost."""
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
                return "HTTP 429: the whole pool rests"
    return ""


def _nobody_left(outcome: Outcome, tried: Collection[str], cooldowns: Sequence[Cooldown], credentials: Collection[str]) -> bool:
    """Whether in some moment of a request every credential rested, or had been tried for it."""
    ours = [cooldown for cooldown in cooldowns if cooldown.told <= outcome.ended and cooldown.at_latest >= outcome.sent]
    moments = [outcome.sent, *(cooldown.told for cooldown in ours if cooldown.told > outcome.sent)]
    return any(
        {cooldown.credential for cooldown in ours if cooldown.told <= moment < cooldown.at_latest} | set(tried)
        >= set(credentials)
        for moment in moments
    )


def _moments_of_none(cooldowns: Sequence[Cooldown], credentials: Collection[str]) -> list[float]:
    """Return the moments from which on every credential rested for all models."""
    found: list[float] = []
    whole = [cooldown for cooldown in cooldowns if cooldown.scope == ALL]
    for begins in sorted({cooldown.told for cooldown in whole}):
        if found and begins < found[-1] + 5:  # the same one
            continue
        if {cooldown.credential for cooldown in whole if cooldown.told <= begins < cooldown.until} >= set(credentials):
            found.append(begins)
    return found


def _cooldowns(by_number: dict[int, list[Arrival]], ends: dict[int, float]) -> Iterator[Cooldown]:
    """Return the rests. The proxy has heard of one when it asks somebody else for the same request, or has answered that.

    It may count what it was told from that moment: the whole of ``retry-after``, and the whole quarantine again for each
    request that was refused.
    """
    for number, arrivals in by_number.items():
        for place, arrival in enumerate(arrivals):
            if arrival.until:
                after = arrivals[place + 1].at if place + 1 < len(arrivals) else ends.get(number, arrival.until)
                left = arrival.until - arrival.at
                at_most = QUARANTINE_SECONDS if arrival.outcome == REFUSED else max(1.0, math.ceil(left))
                at_latest = max(arrival.at, after) + at_most
                yield Cooldown(arrival.credential, arrival.scope, arrival.at, after, arrival.until, at_latest)


def _asked_cooling_down(ledger: Sequence[Arrival], cooldowns: Sequence[Cooldown]) -> Iterator[str]:
    """Return the requests that their clients sent after the proxy knew of a rest, and that went to who rested."""
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
                yield f"{arrival.number} asked {arrival.credential} {cooldown.until - arrival.at:.2f} s before its rest ended"
                break
