"""The pool of Claude credentials: who is asked next, who rests, who is out. Plain and synchronous; time is an argument.

Seven rules:
  1. a credential that rests for what is asked (its model's family, the endpoint, the speed) is not asked;
  2. who is paid for by the token comes last: OAuth tokens within their plan, then those whose answers are extra usage, then
     API keys;
  3. a session stays on its credential while rules 1 and 2 allow it and does not move back: a move re-reads its prompt cache;
  4. a new session takes the credential with the most headroom: what its fullest window leaves, less a share for each session
     that lives on it already; those at the soft limit come last, and those that have just refused a request without saying why;
  5. among equals it goes round robin;
  6. a credential that this request has tried already is never asked again;
  7. when nobody is usable, one request a minute is sent all the same, to the most promising of those that rest: a rest is over
     when an answer says so, and not when it was announced.

All calls come from one event loop, so there is no lock. What other processes learn comes in by ``merge``.
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
from claude_proxy.credentials.pool_changes import state_of
from claude_proxy.credentials.rate_limits import DEPRIORITIZED, NEVER, CredentialState, Snapshot
from claude_proxy.credentials.scope import EVERYTHING, Scope
from claude_proxy.state.rows import Row

logger = logging.getLogger(__name__)

LONGEST_FIVE_HOURS = 6 * 3600.0
# How often one of a pool that rests is asked, and how long it has rested before, in seconds.
PROBE_SECONDS = 60.0


class Affinity(Enum):
    """Whether the requests of one session stay on one credential."""

    SESSION = "session"
    NONE = "none"


class ExtraUsage(Enum):
    """Whether a plan's paid extra usage is used."""

    LAST = "last"
    NEVER = "never"


class Tier(Enum):
    """What an answer costs, in the order in which credentials are asked."""

    PLAN = "within a plan"
    EXTRA_USAGE = "paid for beyond a plan"
    API_KEY = "paid for by the token"


class Wanted(NamedTuple):
    """What a request asks the pool for: its session, if it has one, and where it belongs."""

    session: str | None = None
    scope: Scope = EVERYTHING


class Pool(LearningPool):
    """Credentials and their state. ``clock`` returns Unix seconds, as Anthropic's resets are given in them."""

    def __init__(
        self,
        credentials: Sequence[Credential],
        *,
        affinity: Affinity,
        quarantine: float,
        clock: Callable[[], float],
        soft_limit: float = 0.98,
        cooldown: float = 60.0,
        extra_usage: ExtraUsage = ExtraUsage.LAST,
        on_rest: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(credentials, clock, soft_limit=soft_limit, quarantine=quarantine, cooldown=cooldown, on_rest=on_rest)
        self._affinity = affinity
        self._extra_usage = extra_usage
        self._refused = 0

    @property
    def closed(self) -> bool:
        """Whether no credential is to be asked at all: each is paused, or its login has expired."""
        return all(state.closed for state in self._states.values())

    def state(self, label: str) -> CredentialState:
        """Return what is known of a credential, for those who show it."""
        return self._states[label]

    def snapshot(self) -> tuple[Snapshot, ...]:
        """Return what is known of every credential now; nothing in it changes later."""
        now = self._clock()
        self._sessions.discard_inactive(now)
        return tuple(
            Snapshot(
                state.credential,
                state.since,
                {scope: replace(rest) for scope, rest in state.rests.items() if rest.until > now},
                {place: replace(window) for place, window in state.windows.items() if window.reset > now},
                state.sessions,
                state.extra_until if state.extra_until > now else 0.0,
                state.closed,
            )
            for state in self._states.values()
        )

    def note_seen(self) -> None:
        """Remember of each credential whose first day is not known that it was seen now; the earliest note counts."""
        for state in self._states.values():
            if state.since is None:
                state.since = self._clock()
                self._note_change(pool_rows.seen_row(state, state.since))

    def choose(self, wanted: Wanted, tried: Collection[str] = ()) -> Credential | None:
        """Return the credential to ask, by the rules; None when there is none to ask for this request now.

        It counts as asked until it is given to ``release``.
        """
        now = self._clock()
        session = wanted.session if self._affinity is Affinity.SESSION else None
        bound = self._bound(session, wanted.scope, tried, now) if session else None
        for tier in Tier:
            if bound is not None and self._tier(bound, now) is tier:
                chosen: CredentialState | None = bound
            else:
                chosen = self._best(tier, wanted.scope, tried, now)
            if chosen is not None:
                if session:
                    self._bind(session, chosen, now)
                chosen.active += 1
                return chosen.credential
        return None

    def probe(self, wanted: Wanted, tried: Collection[str] = ()) -> Credential | None:
        """Return a credential to ask although it rests, when nobody is usable and nobody was asked so for a minute.

        It is the one that was left alone for longest, at least a minute, and of equals the one that is back first.
        """
        now = self._clock()
        if self._probed > now - PROBE_SECONDS:
            return None
        found = [
            (max(state.probed, *(rest.noted for rest in rests)), state.usable_at(wanted.scope), label)
            for label, state in self._states.items()
            if not state.closed and label not in tried and (rests := state.resting(wanted.scope, now))
        ]
        seen, _, label = min(found, default=(NEVER, NEVER, ""))
        if seen > now - PROBE_SECONDS:
            return None
        state = self._states[label]
        state.probed = self._probed = now
        state.active += 1
        self._note_change(Row("probed", now, "null"))
        logger.info("nobody is usable: credential %s is asked to see whether its rest is over", label)
        return state.credential

    def release(self, credential: Credential) -> None:
        """Note that a request is under way on it no longer."""
        state = state_of(self._states, credential)
        if state is not None:
            state.active = max(0, state.active - 1)

    def of_kind(self, kind: Kind) -> frozenset[str]:
        """Return the labels of the credentials of a kind."""
        return frozenset(state.credential.label for state in self._kinds[kind])

    # --- When nobody is usable -----------------------------------------------------------------------------------------------

    def back_at(self, scope: Scope) -> float:
        """Return when the first credential may be asked for this, in Unix seconds; 0 for an empty pool."""
        return min((self._usable_at(state, scope) for state in self._states.values()), default=0.0)

    def is_out(self, scope: Scope) -> bool:
        """Whether it is refusals and not limits that keep every credential from being asked."""
        now = self._clock()
        return all(rest.out for state in self._states.values() for rest in state.resting(scope, now))

    def claim(self, scope: Scope) -> str:
        """Return, in Anthropic's words, which window keeps the credential that is back first from being asked."""
        reset = self.back_at(scope) - self._clock()
        return "five_hour" if reset <= LONGEST_FIVE_HOURS else "seven_day"

    def resting(self, scope: Scope) -> frozenset[str]:
        """Return the labels of those that rest now; after their rest a request that has asked them may ask them again."""
        now = self._clock()
        return frozenset(label for label, state in self._states.items() if self._usable_at(state, scope) > now)

    def delay(self, scope: Scope, tried: Collection[str] = ()) -> float:
        """Return how long a request has to wait for a credential, in seconds; ``credentials/queue.py`` knows whose turn it is.

        It is nothing when a credential has come back since the pool had none to choose, and endless when nobody rests whom the
        request could wait for: who is usable and was of no use to it does not change by waiting.
        """
        now = self._clock()
        moments = [(self._usable_at(state, scope), label in tried) for label, state in self._states.items()]
        if any(moment <= now and not was_tried for moment, was_tried in moments):
            return 0.0
        soonest = min((moment for moment, _ in moments if moment > now), default=NEVER)
        return soonest - now

    def retry_after(self, scope: Scope) -> float:
        """Return when a refused client should come again, in seconds: not before a credential is back, and not all at once."""
        self._refused = (self._refused + 1) % 20
        back = self.back_at(scope) - self._clock()
        return max(1.0, back if math.isfinite(back) else self._cooldown) + 0.5 * self._refused

    # --- The choice ----------------------------------------------------------------------------------------------------------

    def _tier(self, state: CredentialState, now: float) -> Tier:
        """Return what a credential's next answer would cost."""
        if state.credential.kind is Kind.API_KEY:
            return Tier.API_KEY
        return Tier.EXTRA_USAGE if state.extra_until > now else Tier.PLAN

    def _may_cost(self, state: CredentialState) -> bool:
        """Whether a credential may be asked for what is paid for as extra usage."""
        return (state.credential.terms.extra_usage or self._extra_usage.value) != ExtraUsage.NEVER.value

    def _usable_at(self, state: CredentialState, scope: Scope) -> float:
        """Return when a credential may be asked for this: after its rests, and after extra usage where that is not wanted."""
        return max(state.usable_at(scope), 0.0 if self._may_cost(state) else state.extra_until)

    def _bound(self, session: str, scope: Scope, tried: Collection[str], now: float) -> CredentialState | None:
        label = self._sessions.bound(session, now)
        if label is None or label in tried:
            return None
        state = self._states.get(label)
        return state if state and self._usable_at(state, scope) <= now else None

    def _best(self, tier: Tier, scope: Scope, tried: Collection[str], now: float) -> CredentialState | None:
        """Return the usable credential with the most headroom; of equals the first one at or after the cursor."""
        states = self._kinds[Kind.API_KEY if tier is Tier.API_KEY else Kind.OAUTH]
        is_extra = tier is Tier.EXTRA_USAGE
        self._sessions.discard_inactive(now)
        count = len(states)
        start = self._cursor % count if count else 0
        best, least, place = None, 0, 0
        # Bare attributes and whole numbers: with a hundred credentials this loop is what a choice costs.
        for step, state in enumerate((*states[start:], *states[:start])):
            if state.closed or state.back_at > now or (state.scoped and state.usable_at(scope) > now):
                continue
            if (state.extra_until > now) is not is_extra or (is_extra and not self._may_cost(state)):
                continue
            if tried and state.credential.label in tried:
                continue
            if state.load_until <= now:
                state.derive(now)
            rank = state.committed
            if state.family_committed:
                rank = state.family_committed.get(scope.family, rank)
            if state.deprioritized_until > now:
                rank += DEPRIORITIZED
            if best is None or rank < least:
                best, least, place = state, rank, step
        if best is not None:
            self._cursor = (start + place + 1) % count
            self._cursor_moved = True
        return best

    def _bind(self, session: str, state: CredentialState, now: float) -> None:
        binding = self._sessions.bind(session, state, now)
        self._forget_surplus()
        if binding is not None:
            self._note_change(pool_rows.session_row(session, binding.used, state))
