"""The pool of Claude credentials: who is asked next, who rests, who is out. Plain and synchronous; time is an argument.

Six rules:
  1. a credential that rests, for all models or for the family that is asked for, is not asked;
  2. API keys, which are paid for by the token, are asked only when no OAuth token is usable;
  3. a session stays on its credential while rules 1 and 2 allow it and does not move back: a move re-reads its prompt cache;
  4. a new session takes the credential with the most headroom: what its fullest window leaves, less a share for each session
     that lives on it already; those at the soft limit come last, and those that have just refused a request without saying why;
  5. among equals it goes round robin;
  6. a credential that this request has tried already is never asked again.

All calls come from one event loop, so there is no lock. What other processes learn comes in by ``merge``.
"""

import json
import logging
import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from enum import Enum
from typing import Any, NamedTuple

from claude_proxy.credentials import pool_rows
from claude_proxy.credentials.credential import Credential, Kind
from claude_proxy.credentials.pool_changes import state_of, taken_up
from claude_proxy.credentials.rate_limits import (
    ALL_MODELS,
    DEPRIORITIZED,
    MAX_UTILIZATION,
    NEVER,
    NO_REST,
    CredentialState,
    Rest,
    Snapshot,
    Suspicion,
    Window,
)
from claude_proxy.credentials.response_rules import Action, UpstreamResponse, Verdict, known_windows
from claude_proxy.credentials.sessions import Sessions
from claude_proxy.state.rows import Row, read_salt

logger = logging.getLogger(__name__)

LONGEST_FIVE_HOURS = 6 * 3600.0
ORGANISATION = "anthropic-organization-id"
# For how long a refusal that one caller's request met waits for another caller's to confirm it, in seconds.
SUSPICION_SECONDS = 600.0


class Affinity(Enum):
    """Whether the requests of one session stay on one credential."""

    SESSION = "session"
    NONE = "none"


class Wanted(NamedTuple):
    """What a request asks the pool for: its session, if it has one, and the family of its model, such as ``opus``."""

    session: str | None = None
    family: str = ""


class Pool:
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
        on_rest: Callable[[], None] = lambda: None,
    ) -> None:
        self._states: dict[str, CredentialState] = {}
        self._soft_limit = soft_limit
        self._affinity = affinity
        self._quarantine = quarantine
        self._cooldown = cooldown
        self._clock = clock
        self._on_rest = on_rest
        self._sessions = Sessions()
        self._cursor = 0
        self._cursor_moved = False
        self._waiting = 0
        self._refused = 0
        self._changed: dict[str, Row] = {}
        self._by_key: dict[str, CredentialState] = {}
        self._said: set[frozenset[str]] = set()
        self._salt = ""
        self.take_up(credentials)

    def __len__(self) -> int:
        return len(self._states)

    @property
    def closed(self) -> bool:
        """Whether no credential is to be asked at all: each is paused, or its login has expired."""
        return all(state.closed for state in self._states.values())

    def take_up(self, credentials: Iterable[Credential]) -> None:
        """Have these from now on, with what is known of those that were here before, whatever their labels are now.

        What is known of one that is gone is forgotten, and its sessions move at their next request.
        """
        self._states, labels = taken_up(self._states, credentials, self._soft_limit, self._clock())
        self._kinds = {
            kind: [state for state in self._states.values() if state.credential.kind is kind]
            for kind in (Kind.OAUTH, Kind.API_KEY)
        }
        self._sessions.take_up(labels)
        self._name_states()

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
                {family: replace(rest) for family, rest in state.rests.items() if rest.until > now},
                {place: replace(window) for place, window in state.windows.items() if window.reset > now},
                state.sessions,
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
        """Return the credential to ask, by the six rules; None when there is none to ask for this request now."""
        now = self._clock()
        session = wanted.session if self._affinity is Affinity.SESSION else None
        for kind, states in self._kinds.items():
            chosen = self._bound(session, kind, wanted.family, tried, now) or self._best(states, wanted.family, tried, now)
            if chosen is not None:
                if session:
                    self._bind(session, chosen, now)
                return chosen.credential
        return None

    def note(self, credential: Credential, verdict: Verdict, answer: UpstreamResponse) -> None:
        """Learn from an answer: rests, utilisation and organisation. A rest that is already longer stays as it is.

        An unconfirmed refusal puts nobody out: that is for ``suspect`` and ``put_out``.
        """
        now = self._clock()
        state = state_of(self._states, credential)
        if state is None:
            return
        self._learn(state, answer, now)
        if verdict.action is Action.DONE and state.suspicions:
            state.suspicions.clear()
            state.deprioritized_until = 0.0
        if verdict.out and not verdict.unconfirmed:
            self.put_out(credential, verdict.reason)
        if verdict.rest_until is not None:
            self._rest(self._sharing(state), ALL_MODELS, Rest(verdict.rest_until, verdict.reason), now)
        if verdict.family_until is not None:
            self._rest(self._sharing(state), verdict.family, Rest(verdict.family_until, verdict.reason), now)
        if verdict.action is Action.TRY_ONE_OTHER:
            state.deprioritized_until = now + self._cooldown

    def suspect(self, credential: Credential, refusal: str, caller: str) -> bool:
        """Record an unconfirmed refusal; return whether another caller's request met the same one within ``SUSPICION_SECONDS``.

        For that long, or until it answers a request, the credential is taken last, as after a 429 that names no limit.
        """
        now = self._clock()
        state = state_of(self._states, credential)
        if state is None:
            return False
        state.deprioritized_until = now + SUSPICION_SECONDS
        before = state.suspicions.get(refusal)
        if before is not None and before.until > now and before.caller != caller:
            return True
        state.suspicions[refusal] = Suspicion(caller, now + SUSPICION_SECONDS)
        return False

    def put_out(self, credential: Credential, reason: str) -> None:
        """Put a credential out for the quarantine."""
        now = self._clock()
        if state := state_of(self._states, credential):
            self._rest([state], ALL_MODELS, Rest(now + self._quarantine, reason, out=True), now)

    def back_at(self, family: str) -> float:
        """Return when the first credential may be asked for this family, in Unix seconds; 0 for an empty pool."""
        return min((state.usable_at(family) for state in self._states.values()), default=0.0)

    def is_out(self, family: str) -> bool:
        """Whether it is refusals and not limits that keep every credential from being asked."""
        now = self._clock()
        rests = [rest for state in self._states.values() for name, rest in state.rests.items() if name in (ALL_MODELS, family)]
        return all(rest.out for rest in rests if rest.until > now)

    def claim(self, family: str) -> str:
        """Return, in Anthropic's words, which window keeps the credential that is back first from being asked."""
        first = min(self._states.values(), key=lambda state: state.usable_at(family), default=None)
        reset = first.usable_at(family) - self._clock() if first else 0.0
        return "five_hour" if reset <= LONGEST_FIVE_HOURS else "seven_day"

    def resting(self, family: str) -> frozenset[str]:
        """Return the labels of those that rest now; after their rest a request that has asked them may ask them again."""
        now = self._clock()
        return frozenset(label for label, state in self._states.items() if state.usable_at(family) > now)

    def delay(self, family: str, tried: Collection[str] = ()) -> float:
        """Return how long a request has to wait for its turn, in seconds: those that wait come back one after the other.

        It is nothing when a credential has come back since the pool had none to choose, and endless when nobody rests whom the
        request could wait for: who is usable and was of no use to it does not change by waiting.
        """
        self._waiting += 1
        now = self._clock()
        moments = [(state.usable_at(family), label in tried) for label, state in self._states.items()]
        if any(moment <= now and not was_tried for moment, was_tried in moments):
            return 0.0
        soonest = min((moment for moment, _ in moments if moment > now), default=NEVER)
        return soonest - now + 0.05 * self._waiting

    def waited(self) -> None:
        """Note that a request waits no longer."""
        self._waiting -= 1

    def retry_after(self, family: str) -> float:
        """Return when a refused client should come again, in seconds: not before a credential is back, and not all at once."""
        self._refused = (self._refused + 1) % 20
        back = self.back_at(family) - self._clock()
        return max(1.0, back if math.isfinite(back) else self._cooldown) + 0.5 * self._refused

    # --- What other processes know -------------------------------------------------------------------------------------------

    def set_salt(self, salt: str) -> None:
        """Name the credentials for the store: by a keyed hash, so that nothing in it leads to a credential."""
        self._salt = salt
        self._name_states()
        if self._changed:  # under the names of before
            self._changed = {row.key: row for row in self.everything()}

    def changed(self) -> list[Row]:
        """Return what has changed here since the last call."""
        rows, self._changed = [*self._changed.values()], {}
        if self._cursor_moved:
            self._cursor_moved = False
            rows.append(pool_rows.cursor_row(self._cursor, self._clock()))
        return rows

    def everything(self) -> list[Row]:
        """Return all that is known here."""
        rows = [pool_rows.cursor_row(self._cursor, self._clock())]
        for state in self._states.values():
            rows += pool_rows.credential_rows(state)
        for session, binding in self._sessions.items():
            if binding.label in self._states:
                rows.append(pool_rows.session_row(session, binding.used, self._states[binding.label]))
        return rows

    def merge(self, rows: Iterable[Row]) -> None:
        """Take in what others know. Rows about credentials that are not in this pool, and foreign rows, are passed over.

        The row ``salt`` comes first; when it brings another salt, the credentials get other names.
        """
        now = self._clock()
        touched: dict[str, CredentialState] = {}
        for row in rows:
            try:
                if math.isfinite(row.stamp):
                    self._merge_row(row, json.loads(row.value), touched, now)
            except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
                logger.debug("a row that this version does not know was passed over: %.200r", row.key)
        for state in touched.values():
            state.derive(now)

    def _merge_row(self, row: Row, value: Any, touched: dict[str, CredentialState], now: float) -> None:
        match row.key.split(":"):
            case ["cursor"] if self._cursor == 0:  # where another process, or the one before this, left off
                self._cursor = int(pool_rows.number(value, pool_rows.MAX_CURSOR))
            case ["salt"]:
                self.set_salt(read_salt(row))
            case ["seen", key] if key in self._by_key:
                since, told = self._by_key[key].since, float(pool_rows.number(value, now + pool_rows.MAX_AHEAD))
                self._by_key[key].since = told if since is None else min(since, told)
            case ["session", session] if value in self._by_key and row.stamp <= now + pool_rows.MAX_AHEAD:
                self._sessions.merge(session, self._by_key[value], row.stamp, now)
                self._forget_surplus()
            case ["credential", key, *place] if key in self._by_key:
                if pool_rows.take_in(self._by_key[key], place, row.stamp, value, now):
                    touched[key] = self._by_key[key]

    def _name_states(self) -> None:
        for state in self._states.values():
            state.key = pool_rows.key_of(state.credential, self._salt)
        self._by_key = {state.key: state for state in self._states.values()}

    def _note_change(self, row: Row) -> None:
        """Keep a row until it is asked for by ``changed``; a later one takes its place."""
        self._changed[row.key] = row

    # --- The choice ----------------------------------------------------------------------------------------------------------

    def _bound(
        self, session: str | None, kind: Kind, family: str, tried: Collection[str], now: float
    ) -> CredentialState | None:
        label = self._sessions.bound(session, now) if session else None
        if label is None or label in tried:
            return None
        state = self._states.get(label)
        return state if state and state.credential.kind is kind and state.usable_at(family) <= now else None

    def _best(
        self, states: Sequence[CredentialState], family: str, tried: Collection[str], now: float
    ) -> CredentialState | None:
        """Return the usable credential with the most headroom; of equals the first one at or after the cursor."""
        self._sessions.discard_inactive(now)
        count = len(states)
        start = self._cursor % count if count else 0
        best, least, place = None, 0, 0
        # Bare attributes and whole numbers: with a hundred credentials this loop is what a choice costs.
        for step, state in enumerate((*states[start:], *states[:start])):
            if state.closed or state.back_at > now or (state.family_back_at and state.usable_at(family) > now):
                continue
            if tried and state.credential.label in tried:
                continue
            if state.load_until <= now:
                state.derive(now)
            rank = state.committed
            if state.family_committed:
                rank = state.family_committed.get(family, rank)
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

    def _forget_surplus(self) -> None:
        for session in self._sessions.forget_surplus():
            # With no store nobody asks for what has changed, and it has to stay bounded all the same.
            self._changed.pop(pool_rows.session_key(session), None)

    # --- What is learned -----------------------------------------------------------------------------------------------------

    def _learn(self, state: CredentialState, answer: UpstreamResponse, now: float) -> None:
        learned = False
        for seen in known_windows(answer):
            if seen.utilization is None or seen.reset is None:
                continue
            family = answer.family if seen.family else ALL_MODELS
            window = Window(min(seen.utilization, MAX_UTILIZATION), seen.reset, now)
            if state.put_window((family, seen.name), window, now):
                self._note_change(pool_rows.window_row(state, family, seen.name, window))
                learned = True
        organisation = answer.headers.get(ORGANISATION)
        if organisation and organisation != state.organisation:
            state.organisation = organisation
            self._say_shared(state)
        if learned:
            state.derive(now)

    def _rest(self, states: Iterable[CredentialState], family: str, rest: Rest, now: float) -> None:
        for state in states:
            if rest.until > state.rests.get(family, NO_REST).until and state.put_rest(family, rest, now):
                state.derive(now)
                self._note_change(pool_rows.rest_row(state, family, rest))
        self._on_rest()

    def _sharing(self, state: CredentialState) -> list[CredentialState]:
        """Return the credentials that share this one's quota: those of its kind and organisation, itself included."""
        if state.organisation is None:
            return [state]
        kind, organisation = state.credential.kind, state.organisation
        return [one for one in self._states.values() if one.organisation == organisation and one.credential.kind is kind]

    def _say_shared(self, state: CredentialState) -> None:
        labels = frozenset(one.credential.label for one in self._sharing(state))
        if len(labels) > 1 and labels not in self._said:
            self._said.add(labels)
            logger.warning("credentials %s are of one organisation and share one quota", ", ".join(sorted(labels)))
