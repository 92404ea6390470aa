"""The pool: chooses the credential for each request. Plain and synchronous; time is an argument.

Seven rules:
  1. A credential is not used while it is rate-limited for the request's model family, endpoint or speed, or while its terms
     exclude the request.
  2. Credentials that bill by the token come last: first OAuth tokens within their plan, then those on extra usage, then API
     keys.
  3. A session stays on its credential while rules 1 and 2 permit, and it does not move back: a move loses its prompt cache.
     If the credential only has too many concurrent requests, another one serves that one request.
  4. A new session, and a session that moves, takes the credential with the best rank (``order.py``). A credential that takes
     over many sessions is deprioritized until its ramp permits more.
  5. Credentials of equal rank are used in turn (round robin).
  6. A request never uses the same credential twice.
  7. When none is available, one request a minute probes the most promising rate-limited credential: a cooldown may end before
     the announced time.

All calls come from one event loop, so there is no lock. ``merge`` applies what other processes have learned.
"""

import logging
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from enum import Enum
from typing import NamedTuple

from claude_proxy.credentials import pool_rows
from claude_proxy.credentials.credential import Credential, Kind
from claude_proxy.credentials.learning_pool import LearningPool
from claude_proxy.credentials.order import ANONYMOUS, DEPRIORITIZED, Order, Requester
from claude_proxy.credentials.pool_changes import state_of
from claude_proxy.credentials.rate_limits import NEVER, NO_COOLDOWN, Cooldown, CredentialState, Snapshot
from claude_proxy.credentials.scope import EVERYTHING, Scope
from claude_proxy.state.rows import Row

logger = logging.getLogger(__name__)

LONGEST_FIVE_HOURS = 6 * 3600.0
# How often a rate-limited credential is probed, and the minimum age of its cooldown, in seconds.
PROBE_SECONDS = 60.0
# How soon a request tries again when a credential is busy, in seconds.
BUSY_SECONDS = 0.25
PLAN_USED_UP = "the plan is used up, and paid extra usage is off"


class Affinity(Enum):
    """Whether a session stays on one credential."""

    SESSION = "session"
    NONE = "none"


class ExtraUsage(Enum):
    """Whether paid extra usage of a plan is used."""

    LAST = "last"
    NEVER = "never"


class Tier(Enum):
    """How a response is billed, in the order in which credentials are used."""

    PLAN = "within a plan"
    EXTRA_USAGE = "paid for beyond a plan"
    API_KEY = "paid for by the token"


# The kind of the credentials of each tier. Iterating over the enumeration itself costs as much as a choice.
_KINDS = tuple((tier, Kind.API_KEY if tier is Tier.API_KEY else Kind.OAUTH) for tier in Tier)


class PoolRequest(NamedTuple):
    """A request as the pool sees it: its session (if any), scope and user."""

    session: str | None = None
    scope: Scope = EVERYTHING
    requester: Requester = ANONYMOUS
    # Whether the request starts its session, which therefore has no credential yet.
    is_new_session: bool = False


class Pool(LearningPool):
    """The credentials and their state. ``clock`` returns Unix seconds, the unit of Anthropic's resets."""

    def __init__(
        self,
        credentials: Sequence[Credential],
        *,
        affinity: Affinity,
        quarantine: float,
        clock: Callable[[], float],
        soft_limit: float = 0.98,
        cooldown: float = 60.0,
        order: Order = Order.HEADROOM,
        extra_usage: ExtraUsage = ExtraUsage.LAST,
        on_cooldown: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(
            credentials,
            clock,
            soft_limit=soft_limit,
            order=order,
            quarantine=quarantine,
            cooldown=cooldown,
            on_cooldown=on_cooldown,
        )
        self._affinity = affinity
        self._extra_usage = extra_usage
        self._refused = 0

    @property
    def is_disabled(self) -> bool:
        """Whether every credential is paused or has an expired login."""
        return all(state.disabled for state in self._states.values())

    def state(self, label: str) -> CredentialState:
        """Return the state of a credential, for status output."""
        return self._states[label]

    def snapshot(self) -> tuple[Snapshot, ...]:
        """Return an immutable snapshot of every credential."""
        now = self._clock()
        requested = self._demand.families(now)
        self._sessions.discard_inactive(now)
        return tuple(
            Snapshot(
                state.credential,
                state.since,
                self._active_cooldowns(state, now),
                {place: replace(window) for place, window in state.windows.items() if window.reset > now},
                state.sessions,
                state.extra_until if state.extra_until > now and self._may_cost(state) else 0.0,
                state.disabled,
                dict(state.courses),
                requested,
            )
            for state in self._states.values()
        )

    def _active_cooldowns(self, state: CredentialState, now: float) -> dict[Scope, Cooldown]:
        """Return the cooldowns that apply now. A plan that is used up is one, where paid extra usage is off."""
        found = {scope: replace(cooldown) for scope, cooldown in state.cooldowns.items() if cooldown.until > now}
        if state.extra_until > max(now, found.get(EVERYTHING, NO_COOLDOWN).until) and not self._may_cost(state):
            found[EVERYTHING] = Cooldown(state.extra_until, PLAN_USED_UP)
        return found

    def record_first_seen(self) -> None:
        """Record the current time as the first use of every credential without one; the earliest record wins."""
        for state in self._states.values():
            if state.since is None:
                state.since = self._clock()
                self._record_change(pool_rows.seen_row(state, state.since))

    def choose(self, request: PoolRequest, tried: Collection[str] = ()) -> Credential | None:
        """Return the credential for a request, or None if none is available now.

        The request occupies the credential until ``release``.
        """
        now = self._clock()
        session = request.session if self._affinity is Affinity.SESSION else None
        label = self._sessions.bound(session, now) if session and not request.is_new_session else None
        bound = self._bound(label, request, tried, now) if label else None
        is_guest = bound is not None and bound.is_busy
        moves = label is not None and not is_guest
        for tier, kind in _KINDS:
            states = self._kinds[kind]
            chosen: CredentialState | None = None
            if bound is not None and not is_guest and self._tier(bound, now) is tier:
                chosen = bound
            elif states:
                chosen = self._best(states, request, tried, now, is_extra=tier is Tier.EXTRA_USAGE, moves=moves)
            if chosen is not None:
                if session and not is_guest:
                    self._bind(session, chosen, now)
                if moves and chosen is not bound:
                    chosen.ramp.take(now)
                chosen.active += 1
                return chosen.credential
        return None

    def probe(self, request: PoolRequest, tried: Collection[str] = ()) -> Credential | None:
        """Return a rate-limited credential to probe when none is available; None if the last probe is less than a minute old.

        It is the one that has been unused for longest, at least a minute; among equals, the one with the earliest reset.
        """
        now = self._clock()
        if self._probed > now - PROBE_SECONDS or self.is_busy(request.scope, request.requester):
            return None
        found = [
            (max(state.probed, *(cooldown.recorded_at for cooldown in cooldowns)), state.usable_at(request.scope), label)
            for label, state in self._states.items()
            if not state.disabled and label not in tried and (cooldowns := state.cooling_down(request.scope, now))
            if not state.is_busy and state.withheld_until(request.scope, request.requester) <= now
        ]
        seen, _, label = min(found, default=(NEVER, NEVER, ""))
        if seen > now - PROBE_SECONDS:
            return None
        state = self._states[label]
        state.probed = self._probed = now
        state.active += 1
        self._record_change(Row("probed", now, "null"))
        logger.info("no credential is available: probing credential %s to see whether its cooldown is over", label)
        return state.credential

    def release(self, credential: Credential) -> None:
        """Record that a request has finished with the credential."""
        state = state_of(self._states, credential)
        if state is not None:
            state.active = max(0, state.active - 1)

    def of_kind(self, kind: Kind) -> frozenset[str]:
        """Return the labels of the credentials of one kind."""
        return frozenset(state.credential.label for state in self._kinds[kind])

    # --- When no credential is available -------------------------------------------------------------------------------------

    def back_at(self, scope: Scope, requester: Requester = ANONYMOUS) -> float:
        """Return when the first credential becomes available for this scope, in Unix seconds; 0 for an empty pool."""
        return min((self._usable_at(state, scope, requester) for state in self._states.values()), default=0.0)

    def all_rejected(self, scope: Scope, requester: Requester = ANONYMOUS) -> bool:
        """Return whether every credential is rejected rather than rate-limited."""
        now = self._clock()
        found = [state for state in self._states.values() if state.may_serve(requester)]
        reserved = any(not state.cooling_down(scope, now) and state.withheld_until(scope, requester) > now for state in found)
        return not reserved and all(cooldown.rejected for state in found for cooldown in state.cooling_down(scope, now))

    def is_busy(self, scope: Scope, requester: Requester = ANONYMOUS) -> bool:
        """Return whether a credential is unavailable only because of its maximum of concurrent requests."""
        now = self._clock()
        return any(state.is_busy and self._usable_at(state, scope, requester) <= now for state in self._with_terms)

    def has_any(self, requester: Requester) -> bool:
        """Return whether the requester may use any credential at all, available now or not."""
        return any(state.may_serve(requester) for state in self._states.values())

    def claim(self, scope: Scope, requester: Requester = ANONYMOUS) -> str:
        """Return, in Anthropic's terms, the window that blocks the credential with the earliest reset."""
        reset = self.back_at(scope, requester) - self._clock()
        return "five_hour" if reset <= LONGEST_FIVE_HOURS else "seven_day"

    def cooling_down(self, scope: Scope, requester: Requester = ANONYMOUS) -> frozenset[str]:
        """Return the labels of the rate-limited credentials; after its cooldown a request may use a credential again."""
        now = self._clock()
        return frozenset(label for label, state in self._states.items() if self._usable_at(state, scope, requester) > now)

    def delay(self, scope: Scope, tried: Collection[str] = (), requester: Requester = ANONYMOUS) -> float:
        """Return how long a request must wait for a credential, in seconds; ``credentials/queue.py`` decides the order.

        0 if a credential has become available; infinity if there is no cooldown to wait for (an available credential that
        this request has already tried does not help). ``BUSY_SECONDS`` for a busy credential.
        """
        now = self._clock()
        soonest = NEVER
        for label, state in self._states.items():
            moment = self._usable_at(state, scope, requester)
            if moment <= now and label not in tried:
                if not state.is_busy:
                    return 0.0
                moment = now + BUSY_SECONDS
            if moment > now:
                soonest = min(soonest, moment)
        return soonest - now

    def retry_after(self, scope: Scope, requester: Requester = ANONYMOUS) -> float:
        """Return ``retry-after`` for a refused client, in seconds: after the first reset, spread over several seconds."""
        self._refused = (self._refused + 1) % 20
        back = self.back_at(scope, requester) - self._clock()
        return max(1.0, back if math.isfinite(back) else self._cooldown) + 0.5 * self._refused

    # --- The choice ----------------------------------------------------------------------------------------------------------

    def _tier(self, state: CredentialState, now: float) -> Tier:
        """Return how the next response of a credential is billed."""
        if state.credential.kind is Kind.API_KEY:
            return Tier.API_KEY
        return Tier.EXTRA_USAGE if state.extra_until > now else Tier.PLAN

    def _may_cost(self, state: CredentialState) -> bool:
        """Return whether a credential may be used for paid extra usage."""
        return (state.credential.terms.extra_usage or self._extra_usage.value) != ExtraUsage.NEVER.value

    def _usable_at(self, state: CredentialState, scope: Scope, requester: Requester) -> float:
        """Return when a credential becomes available: after its cooldowns, and when its terms and its price permit."""
        at = state.usable_at(scope)
        if state.extra_until > at and not self._may_cost(state):
            at = state.extra_until
        return max(at, state.withheld_until(scope, requester)) if requester.is_restricted or state in self._with_terms else at

    def _bound(self, label: str, request: PoolRequest, tried: Collection[str], now: float) -> CredentialState | None:
        state = None if label in tried else self._states.get(label)
        return state if state and self._usable_at(state, request.scope, request.requester) <= now else None

    def _excluded(self, request: PoolRequest, tried: Collection[str], now: float) -> set[CredentialState]:
        """Return the credentials that the request has tried, and those whose terms exclude it now."""
        found = {self._states[label] for label in tried if label in self._states}
        having = self._states.values() if request.requester.is_restricted else self._with_terms
        return found | {one for one in having if one.is_busy or one.withheld_until(request.scope, request.requester) > now}

    def _best(
        self,
        states: Sequence[CredentialState],
        request: PoolRequest,
        tried: Collection[str],
        now: float,
        *,
        is_extra: bool,
        moves: bool,
    ) -> CredentialState | None:
        """Return the available credential with the best rank; among equals the first one at or after the cursor.

        There is at least one in ``states``. With ``is_extra``, only those on paid extra usage count, otherwise only the others.
        """
        scope = request.scope
        limited = tried or self._with_terms or request.requester.is_restricted
        excluded = self._excluded(request, tried, now) if limited else None
        filling = {state for state in states if state.ramp.is_full(now)} if moves else None
        self._sessions.discard_inactive(now)
        count = len(states)
        start = self._cursor % count
        best, least, place = None, 0, 0
        # Plain attributes and integers: with a hundred credentials, this loop is the cost of a choice.
        for step, state in enumerate((*states[start:], *states[:start])):
            if state.disabled or state.back_at > now or (state.scoped and state.usable_at(scope) > now):
                continue
            if (state.extra_until > now) is not is_extra or (is_extra and not self._may_cost(state)):
                continue
            if excluded and state in excluded:
                continue
            if state.load_until <= now:
                state.derive(now)
            rank = state.committed
            if state.family_committed:
                rank = state.family_committed.get(scope.family, rank)
            if state.deprioritized_until > now or (filling and state in filling):
                rank += DEPRIORITIZED
            if best is None or rank < least:
                best, least, place = state, rank, step
        if best is not None:
            self._cursor = (start + place + 1) % count
            self._cursor_moved = self._has_chosen = True
        return best

    def _bind(self, session: str, state: CredentialState, now: float) -> None:
        binding = self._sessions.bind(session, state, now)
        self._forget_surplus()
        if binding is not None:
            self._record_change(pool_rows.session_row(session, binding, state))
