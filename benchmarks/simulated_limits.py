"""The limits that the soak test's upstream simulates, and the ledger of its requests. Pure; time is an argument, in seconds.

1. A credential that has served ``BUDGET`` requests since its last cooldown reaches a limit, in turn: the whole window, a
   request to slow down, one model family, or a rejection of the credential. The response contains the real duration.
2. Every ``all_rate_limited_every`` seconds all credentials reach their limit for ``ALL_RATE_LIMITED_SECONDS``.
3. Some requests, by their number, meet an overloaded server, a connection that is dropped before the response, one that breaks
   off in the middle, or a 429 without a limit.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

from benchmarks.script import Plan

UNIFIED = "anthropic-ratelimit-unified-"
BUDGET = 30
COOLDOWN_SECONDS = 6.0
ALL_RATE_LIMITED_SECONDS = 3.0
# The proxy's quarantine for a rejected credential in this test.
QUARANTINE_SECONDS = 12.0
ALL = ""
WHOLE, LEFT = "whole", "left"
SERVED, DROPPED, CUT, OVERLOADED, NAMELESS, LIMITED, REFUSED = (
    "served", "dropped", "cut", "overloaded", "nameless 429", "limited", "refused",
)  # fmt: skip
# One request in so many, by its number. The second number is the remainder, chosen so that they rarely coincide.
MISHAPS = {OVERLOADED: (101, 7), DROPPED: (103, 11), CUT: (107, 23), NAMELESS: (109, 31)}


class Arrival(NamedTuple):
    """One request at the upstream. Times are those of the monotonic clock, in seconds; ``until`` is a cooldown's end."""

    at: float
    number: int
    credential: str
    family: str
    sent: float
    outcome: str
    until: float = 0.0
    scope: str = ALL


class Decision(NamedTuple):
    """The upstream's reaction to a request: its status, headers and error, or an outcome without a response."""

    outcome: str
    status: int = 200
    headers: Mapping[str, str] = MappingProxyType({})
    kind: str = ""
    words: str = ""


@dataclass
class _Credential:
    served: int = 0
    cooldowns: dict[str, float] = field(default_factory=dict)
    # The kind of limit that it reports, by scope.
    limit_kinds: dict[str, str] = field(default_factory=dict)


class SimulatedLimits:
    """Decides about each request. ``clock`` is the monotonic clock, ``wall`` returns Unix seconds."""

    kinds = ("window", "slow down", "family", "refused")

    def __init__(self, clock: Callable[[], float], wall: Callable[[], float], all_rate_limited_every: float) -> None:
        self._clock = clock
        self._wall = wall
        self._every = all_rate_limited_every
        self._all_rate_limited_at = clock() + all_rate_limited_every / 2
        self._all_rate_limited_until = 0.0
        self._turn = 0
        self._credentials: dict[str, _Credential] = {}
        self.ledger: list[Arrival] = []

    def decide(self, plan: Plan, credential: str, family: str, *, first: bool) -> Decision:
        """Decide about a request to Claude and record it; ``first`` says that its number is new."""
        now = self._clock()
        decision, until, scope = self._decided(plan, credential, family, now, first=first)
        self.ledger.append(Arrival(now, plan.number, credential, family, plan.sent / 1e6, decision.outcome, until, scope))
        return decision

    def served(self, plan: Plan, deployment: str) -> None:
        """Record a request to another provider."""
        self.ledger.append(Arrival(self._clock(), plan.number, deployment, ALL, plan.sent / 1e6, SERVED))

    def became(self, number: int, outcome: str) -> None:
        """Record how a response ended."""
        self.ledger.append(Arrival(self._clock(), number, "", ALL, 0.0, outcome))

    def _decided(self, plan: Plan, credential: str, family: str, now: float, *, first: bool) -> tuple[Decision, float, str]:
        state = self._credentials.setdefault(credential, _Credential())
        if now >= self._all_rate_limited_at:
            self._all_rate_limited_at = now + self._every
            self._all_rate_limited_until = now + ALL_RATE_LIMITED_SECONDS
        if now < self._all_rate_limited_until and state.cooldowns.get(ALL, 0.0) <= now:
            state.cooldowns[ALL], state.limit_kinds[ALL] = self._whole_second(self._all_rate_limited_until, now), "window"
        for scope in (ALL, family):
            if state.cooldowns.get(scope, 0.0) > now:
                return self._limited(state, scope, family, now)
        if first and (mishap := next((name for name, (of, which) in MISHAPS.items() if plan.number % of == which), None)):
            return MISHAP_ANSWERS[mishap], 0.0, ALL
        state.served += 1
        if state.served > BUDGET:
            state.served = 0
            kind, self._turn = self.kinds[self._turn % len(self.kinds)], self._turn + 1
            scope = family if kind == "family" else ALL
            until = now + (QUARANTINE_SECONDS if kind == "refused" else COOLDOWN_SECONDS)
            state.cooldowns[scope] = self._whole_second(until, now) if kind in ("window", "family") else until
            state.limit_kinds[scope] = kind
            return self._limited(state, scope, family, now)
        return Decision(SERVED, headers=self._utilization(state)), 0.0, ALL

    def _limited(self, state: _Credential, scope: str, family: str, now: float) -> tuple[Decision, float, str]:
        until, kind = state.cooldowns[scope], state.limit_kinds[scope]
        if kind == "refused":
            decision = Decision(REFUSED, 403, {}, "permission_error", "OAuth token has been revoked.")
            return decision, until, scope
        left = until - now
        headers = {"retry-after": str(max(1, math.ceil(left)))}
        if kind == "slow down":
            # ``retry-after`` applies, and it is in whole seconds.
            until = now + float(headers["retry-after"])
        else:
            window, claim = (f"7d_{family}", f"seven_day_{family}") if kind == "family" else ("5h", "five_hour")
            reset = str(round(self._wall() + left))
            headers |= {
                f"{UNIFIED}status": "rejected",
                f"{UNIFIED}reset": reset,
                f"{UNIFIED}representative-claim": claim,
                f"{UNIFIED}{window}-status": "rejected",
                f"{UNIFIED}{window}-reset": reset,
                f"{UNIFIED}{window}-utilization": "1.0",
            }
        return Decision(LIMITED, 429, headers, "rate_limit_error", "This request would exceed the rate limit."), until, scope

    def _whole_second(self, until: float, now: float) -> float:
        """Return a moment at a whole Unix second, because window resets are whole seconds."""
        wall = self._wall()
        return now + math.ceil(wall + until - now) - wall

    def _utilization(self, state: _Credential) -> dict[str, str]:
        return {
            f"{UNIFIED}status": "allowed",
            f"{UNIFIED}5h-status": "allowed",
            f"{UNIFIED}5h-utilization": f"{state.served / BUDGET:.2f}",
            f"{UNIFIED}5h-reset": str(math.ceil(self._wall() + COOLDOWN_SECONDS)),
        }


MISHAP_ANSWERS = {
    OVERLOADED: Decision(OVERLOADED, 529, {}, "overloaded_error", "Overloaded"),
    DROPPED: Decision(DROPPED),
    CUT: Decision(CUT),
    NAMELESS: Decision(NAMELESS, 429, {}, "rate_limit_error", "Slow down, please."),
}
