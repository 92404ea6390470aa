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

import hashlib
import hmac
import json
import logging
import math
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, NamedTuple

from claude_proxy.credentials.credential import Credential, Kind
from claude_proxy.credentials.response_rules import Action, UpstreamResponse, Verdict, known_windows
from claude_proxy.state.rows import Row, read_salt
from claude_proxy.text import clean

logger = logging.getLogger(__name__)

# Sessions that are remembered, and for how long without a request, in seconds; the most silent one is forgotten first.
MAX_SESSIONS = 10_000
SESSION_IDLE = 6 * 3600.0
# For how long after its last request a session counts as one that uses up its credential, in seconds.
SESSION_ACTIVE = 3600.0
# How much of a window such a session is taken to need. Without this all new sessions would go to the one credential whose
# window has just opened, use it up together and move together: in `tests/test_simulation.py` ten times as often.
SESSION_SHARE = 0.1
# How often a session's use is told to the other processes, in seconds.
SESSION_TOLD = 300.0
# Utilisations that differ by less count as equal.
UTILIZATION_STEP = 0.01
ROUNDING = 1e-6  # 0.57 is 56.99999999999999 steps
ALL_MODELS = ""
LONGEST_FIVE_HOURS = 6 * 3600.0
ORGANISATION = "anthropic-organization-id"
# What comes on top of the steps that are spoken for, so that such a credential is taken last.
DEPRIORITIZED = 10**6
SOFT_LIMIT_REACHED = 10**7
NEVER = float("inf")
# For how long a refusal that one caller's request met waits for another caller's to confirm it, in seconds.
SUSPICION_SECONDS = 600.0
# No rest is longer than Anthropic's longest window and some slack, in seconds, and no window opens later than this.
LONGEST_REST = 9 * 86400.0
LONGEST_WINDOW = 400 * 86400.0
# What another process tells may lie so far ahead of this one's clock, in seconds.
MAX_AHEAD = 2 * 86400.0
# Rests and windows that are kept of one credential. Anthropic has a handful of families and windows.
MAX_PLACES = 100
# How full a window can be said to be, as a fraction; credentials have been seen at 1.3.
MAX_UTILIZATION = 100.0
MAX_REASON = 200
MAX_PLACE = 256


class Affinity(Enum):
    """Whether the requests of one session stay on one credential."""

    SESSION = "session"
    NONE = "none"


class Wanted(NamedTuple):
    """What a request asks the pool for: its session, if it has one, and the family of its model, such as ``opus``."""

    session: str | None = None
    family: str = ""


@dataclass
class Rest:
    """``until`` is Unix seconds; ``out`` says that Anthropic refused the credential itself; ``reason`` is for the operator."""

    until: float
    reason: str
    out: bool = False


class Suspicion(NamedTuple):
    """A refusal that a caller's request may have caused itself; it is forgotten at ``until``, in Unix seconds."""

    caller: str
    until: float


@dataclass
class Window:
    """How full a window was: ``utilization`` is a fraction, ``reset`` and ``seen`` are Unix seconds."""

    utilization: float
    reset: float
    seen: float


@dataclass(eq=False)
class State:
    """What the pool knows about one credential: rests by family, windows by family and name; the rest is derived."""

    credential: Credential
    soft_limit: float = 1.0
    key: str = ""
    organisation: str | None = None
    rests: dict[str, Rest] = field(default_factory=dict)
    windows: dict[tuple[str, str], Window] = field(default_factory=dict)
    deprioritized_until: float = 0.0
    # Unconfirmed refusals, by Anthropic's sentence.
    suspicions: dict[str, Suspicion] = field(default_factory=dict)
    # When a proxy of this store first had it, in Unix seconds; the year of a setup token is counted from then.
    since: float | None = None
    # How many sessions of the last hour are bound to it: they all live on the same room.
    sessions: int = 0
    # Derived, so that a choice is a few comparisons: when the credential is usable again, for all models and for families
    # with a rest of their own, and how full its fullest window is, likewise; the latter holds until a window opens anew.
    back_at: float = 0.0
    family_back_at: dict[str, float] = field(default_factory=dict)
    load: float = 0.0
    family_load: dict[str, float] = field(default_factory=dict)
    load_until: float = NEVER
    committed: int = 0
    family_spoken_for: dict[str, int] = field(default_factory=dict)

    def usable_at(self, family: str) -> float:
        """Return when the credential may be asked for this family, in Unix seconds."""
        return self.family_back_at.get(family, self.back_at)

    def put_rest(self, family: str, rest: Rest, now: float) -> bool:
        """Take a rest in; return whether there was room for it. Those that are over make room."""
        if family not in self.rests and len(self.rests) >= MAX_PLACES:
            self.rests = {name: one for name, one in self.rests.items() if one.until > now}
        if family not in self.rests and len(self.rests) >= MAX_PLACES:
            return False
        self.rests[family] = rest
        return True

    def put_window(self, place: tuple[str, str], window: Window, now: float) -> bool:
        """Take a window in; return whether there was room for it. Those that have opened anew make room."""
        if place not in self.windows and len(self.windows) >= MAX_PLACES:
            self.windows = {name: one for name, one in self.windows.items() if one.reset > now}
        if place not in self.windows and len(self.windows) >= MAX_PLACES:
            return False
        self.windows[place] = window
        return True

    def derive(self, now: float) -> None:
        """Work out the derived part anew, after a change of the known part and when a window has opened."""
        self.back_at = self.rests[ALL_MODELS].until if ALL_MODELS in self.rests else 0.0
        self.family_back_at = {name: max(rest.until, self.back_at) for name, rest in self.rests.items() if name}
        closed = {place: window for place, window in self.windows.items() if window.reset > now}
        self.load_until = min((window.reset for window in closed.values()), default=NEVER)
        loads: dict[str, float] = {}
        for (family, _), window in closed.items():
            loads[family] = max(loads.get(family, 0.0), window.utilization)
        self.load = loads.pop(ALL_MODELS, 0.0)
        self.family_load = {family: max(load, self.load) for family, load in loads.items()}
        self._reckon()

    def count(self, sessions: int) -> None:
        """Count so many sessions more, or less."""
        self.sessions += sessions
        self._reckon()

    def _reckon(self) -> None:
        """Work out how much is spoken for, in steps: what is used, a share for each session, and much at the soft limit."""
        shares = SESSION_SHARE * self.sessions / UTILIZATION_STEP + ROUNDING

        def committed(load: float) -> int:
            return int(load / UTILIZATION_STEP + shares) + (SOFT_LIMIT_REACHED if load >= self.soft_limit else 0)

        self.committed = committed(self.load)
        self.family_spoken_for = {family: committed(load) for family, load in self.family_load.items()}


@dataclass(frozen=True)
class Snapshot:
    """One credential at a moment, for those who show it: only rests that last and windows that are not over."""

    credential: Credential
    since: float | None
    rests: dict[str, Rest]
    windows: dict[tuple[str, str], Window]
    sessions: int


@dataclass
class Binding:
    """A session's credential, when it was used and when that was last told, in Unix seconds."""

    label: str
    used: float
    told: float = 0.0


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
        ordered = sorted(credentials, key=lambda credential: credential.kind is Kind.API_KEY)
        self._states = {credential.label: State(credential, soft_limit) for credential in ordered}
        self._kinds = {
            kind: [state for state in self._states.values() if state.credential.kind is kind]
            for kind in (Kind.OAUTH, Kind.API_KEY)
        }
        self._affinity = affinity
        self._quarantine = quarantine
        self._shyness = cooldown
        self._clock = clock
        self._on_rest = on_rest
        self._sessions: OrderedDict[str, Binding] = OrderedDict()
        self._active: OrderedDict[str, tuple[State, float]] = OrderedDict()
        self._cursor = 0
        self._waiting = 0
        self._refused = 0
        self._changed: dict[str, Row] = {}
        self._by_key: dict[str, State] = {}
        self._said: set[frozenset[str]] = set()
        self.set_salt("")

    def __len__(self) -> int:
        return len(self._states)

    def state(self, label: str) -> State:
        """Return what is known of a credential, for those who show it."""
        return self._states[label]

    def snapshot(self) -> tuple[Snapshot, ...]:
        """Return what is known of every credential now; nothing in it changes later."""
        now = self._clock()
        self._let_go(now)
        return tuple(
            Snapshot(
                state.credential,
                state.since,
                {family: replace(rest) for family, rest in state.rests.items() if rest.until > now},
                {place: replace(window) for place, window in state.windows.items() if window.reset > now},
                state.sessions,
            )
            for state in self._states.values()
        )

    def note_seen(self) -> None:
        """Remember of each credential whose first day is not known that it was seen now; the earliest note counts."""
        for state in self._states.values():
            if state.since is None:
                state.since = self._clock()
                row = _seen_row(state, state.since)
                self._changed[row.key] = row

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
        state = self._states[credential.label]
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
            state.deprioritized_until = now + self._shyness

    def suspect(self, credential: Credential, refusal: str, caller: str) -> bool:
        """Record an unconfirmed refusal; return whether another caller's request met the same one within ``SUSPICION_SECONDS``.

        For that long, or until it answers a request, the credential is taken last, as after a 429 that names no limit.
        """
        now = self._clock()
        state = self._states[credential.label]
        state.deprioritized_until = now + SUSPICION_SECONDS
        before = state.suspicions.get(refusal)
        if before is not None and before.until > now and before.caller != caller:
            return True
        state.suspicions[refusal] = Suspicion(caller, now + SUSPICION_SECONDS)
        return False

    def put_out(self, credential: Credential, reason: str) -> None:
        """Put a credential out for the quarantine."""
        now = self._clock()
        self._rest([self._states[credential.label]], ALL_MODELS, Rest(now + self._quarantine, reason, out=True), now)

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
        return max(1.0, self.back_at(family) - self._clock()) + 0.5 * self._refused

    # --- What other processes know -------------------------------------------------------------------------------------------

    def set_salt(self, salt: str) -> None:
        """Name the credentials for the store: by a keyed hash, so that nothing in it leads to a credential."""
        self._salt = salt
        for state in self._states.values():
            secret = state.credential.secret.reveal()
            state.key = hmac.new(salt.encode(), secret.encode(), hashlib.sha256).hexdigest()[:32]
        self._by_key = {state.key: state for state in self._states.values()}
        if self._changed:  # under the names of before
            self._changed = {row.key: row for row in self.everything()}

    def changed(self) -> list[Row]:
        """Return what has changed here since the last call."""
        rows, self._changed = [*self._changed.values()], {}
        return rows

    def everything(self) -> list[Row]:
        """Return all that is known here."""
        rows = [self._cursor_row(self._clock())]
        for state in self._states.values():
            rows += [_rest_row(state, family, rest) for family, rest in state.rests.items()]
            rows += [_window_row(state, *place, window) for place, window in state.windows.items()]
            rows += [_seen_row(state, state.since)] if state.since is not None else []
        rows += [
            self._session_row(session, binding) for session, binding in self._sessions.items() if binding.label in self._states
        ]
        return rows

    def merge(self, rows: Iterable[Row]) -> None:
        """Take in what others know. Rows about credentials that are not in this pool, and foreign rows, are passed over.

        The row ``salt`` comes first; when it brings another salt, the credentials get other names.
        """
        now = self._clock()
        touched: dict[str, State] = {}
        for row in rows:
            try:
                if math.isfinite(row.stamp):
                    self._merge_row(row, json.loads(row.value), touched, now)
            except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
                logger.debug("a row that this version does not know was passed over: %.200r", row.key)
        for state in touched.values():
            state.derive(now)

    def _merge_row(self, row: Row, value: Any, touched: dict[str, State], now: float) -> None:
        match row.key.split(":"):
            case ["cursor"] if self._cursor == 0:  # where another process, or the one before this, left off
                self._cursor = int(_number(value, MAX_CURSOR))
            case ["salt"]:
                self.set_salt(read_salt(row))
            case ["seen", key] if key in self._by_key:
                since, told = self._by_key[key].since, float(_number(value, now + MAX_AHEAD))
                self._by_key[key].since = told if since is None else min(since, told)
            case ["session", session] if value in self._by_key and row.stamp <= now + MAX_AHEAD:
                self._merge_session(session, Binding(self._by_key[value].credential.label, row.stamp, row.stamp), now)
            case ["credential", key, *place] if key in self._by_key:
                if _learned(self._by_key[key], place, row.stamp, value, now):
                    touched[key] = self._by_key[key]

    def _merge_session(self, session: str, theirs: Binding, now: float) -> None:
        ours = self._sessions.get(session)
        if theirs.used > now - SESSION_IDLE and (ours is None or ours.used < theirs.used):
            self._sessions[session] = theirs
            self._count(session, self._states[theirs.label], theirs.used)
            self._forget_sessions()

    # --- The choice ----------------------------------------------------------------------------------------------------------

    def _bound(self, session: str | None, kind: Kind, family: str, tried: Collection[str], now: float) -> State | None:
        binding = self._sessions.get(session) if session else None
        if binding is None or binding.used < now - SESSION_IDLE or binding.label in tried:
            return None
        state = self._states[binding.label]
        return state if state.credential.kind is kind and state.usable_at(family) <= now else None

    def _best(self, states: Sequence[State], family: str, tried: Collection[str], now: float) -> State | None:
        """Return the usable credential with the most headroom; of equals the first one at or after the cursor."""
        self._let_go(now)
        count = len(states)
        start = self._cursor % count if count else 0
        best, least, place = None, 0, 0
        # Bare attributes and whole numbers: with a hundred credentials this loop is what a choice costs.
        for step, state in enumerate((*states[start:], *states[:start])):
            if state.back_at > now or (state.family_back_at and state.usable_at(family) > now):
                continue
            if tried and state.credential.label in tried:
                continue
            if state.load_until <= now:
                state.derive(now)
            rank = state.committed
            if state.family_spoken_for:
                rank = state.family_spoken_for.get(family, rank)
            if state.deprioritized_until > now:
                rank += DEPRIORITIZED
            if best is None or rank < least:
                best, least, place = state, rank, step
        if best is not None:
            self._cursor = (start + place + 1) % count
            row = self._cursor_row(now)
            self._changed[row.key] = row
        return best

    def _bind(self, session: str, state: State, now: float) -> None:
        binding = self._sessions.get(session)
        if binding is None or binding.label != state.credential.label:
            binding = self._sessions[session] = Binding(state.credential.label, now)
            self._forget_sessions()
        binding.used = now
        self._sessions.move_to_end(session)
        self._count(session, state, now)
        if now - binding.told >= SESSION_TOLD:
            binding.told = now
            row = self._session_row(session, binding)
            self._changed[row.key] = row

    def _forget_sessions(self) -> None:
        while len(self._sessions) > MAX_SESSIONS:
            session, _ = self._sessions.popitem(last=False)
            # With no store nobody asks for what has changed, and it has to stay bounded all the same.
            self._changed.pop(_session_key(session), None)
            self._uncount(session)

    def _count(self, session: str, state: State, used: float) -> None:
        """Count a session at its credential, and no longer at the one before."""
        before = self._active.get(session)
        if before is None or before[0] is not state:
            self._uncount(session)
            state.count(1)
        self._active[session] = state, used
        self._active.move_to_end(session)

    def _uncount(self, session: str) -> None:
        counted = self._active.pop(session, None)
        if counted is not None:
            counted[0].count(-1)

    def _let_go(self, now: float) -> None:
        """Count no longer who was silent for an hour; the most silent sessions stand first."""
        while self._active:
            session, (_, used) = next(iter(self._active.items()))
            if used > now - SESSION_ACTIVE:
                return
            self._uncount(session)

    # --- What is learned -----------------------------------------------------------------------------------------------------

    def _learn(self, state: State, answer: UpstreamResponse, now: float) -> None:
        for seen in known_windows(answer):
            if seen.utilization is None or seen.reset is None:
                continue
            family = answer.family if seen.family else ALL_MODELS
            window = Window(min(seen.utilization, MAX_UTILIZATION), seen.reset, now)
            if state.put_window((family, seen.name), window, now):
                row = _window_row(state, family, seen.name, window)
                self._changed[row.key] = row
        organisation = answer.headers.get(ORGANISATION)
        if organisation and organisation != state.organisation:
            state.organisation = organisation
            self._say_shared(state)
        state.derive(now)

    def _rest(self, states: Iterable[State], family: str, rest: Rest, now: float) -> None:
        for state in states:
            if rest.until > state.rests.get(family, _NO_REST).until and state.put_rest(family, rest, now):
                state.derive(now)
                row = _rest_row(state, family, rest)
                self._changed[row.key] = row
        self._on_rest()

    def _sharing(self, state: State) -> list[State]:
        """Return the credentials that share this one's quota: those of its kind and organisation, itself included."""
        if state.organisation is None:
            return [state]
        kind, organisation = state.credential.kind, state.organisation
        return [one for one in self._states.values() if one.organisation == organisation and one.credential.kind is kind]

    def _say_shared(self, state: State) -> None:
        labels = frozenset(one.credential.label for one in self._sharing(state))
        if len(labels) > 1 and labels not in self._said:
            self._said.add(labels)
            logger.warning("credentials %s are of one organisation and share one quota", ", ".join(sorted(labels)))

    def _cursor_row(self, now: float) -> Row:
        return Row("cursor", now, json.dumps(self._cursor))

    def _session_row(self, session: str, binding: Binding) -> Row:
        return Row(_session_key(session), binding.used, json.dumps(self._states[binding.label].key))


MAX_CURSOR = 2**53
_NO_REST = Rest(0.0, "")
_NO_WINDOW = Window(0.0, 0.0, 0.0)


def _learned(state: State, place: Sequence[str], stamp: float, value: Any, now: float) -> bool:
    """Take in what a row says of a credential; return whether that was news: a longer rest, or a window seen later.

    A rest that ends later than any can is none: it would keep the credential out for ever.
    """
    if not all(part.isprintable() and len(part) <= MAX_PLACE for part in place):
        raise ValueError("no place of a credential's")
    match place:
        case ["rest", family] if state.rests.get(family, _NO_REST).until < stamp <= now + LONGEST_REST:
            if not isinstance(value["reason"], str):
                raise TypeError("no reason")
            rest = Rest(stamp, clean(value["reason"], MAX_REASON), bool(value["out"]))
            return state.put_rest(family, rest, now)
        case ["window", family, name] if state.windows.get((family, name), _NO_WINDOW).seen < stamp <= now + MAX_AHEAD:
            used, reset = _number(value["utilization"], MAX_UTILIZATION), _number(value["reset"], now + LONGEST_WINDOW)
            return state.put_window((family, name), Window(float(used), float(reset), stamp), now)
    return False


def _number(value: Any, largest: float) -> float:
    """Return a number from 0 to the largest one; raise ValueError for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= largest:
        raise ValueError("no number")
    return value


def _session_key(session: str) -> str:
    return f"session:{session.replace(':', '_')}"


def _seen_row(state: State, since: float) -> Row:
    """Return a row with stamp 0: the first writer of it wins, and no age prunes it."""
    return Row(f"seen:{state.key}", 0.0, json.dumps(since))


def _rest_row(state: State, family: str, rest: Rest) -> Row:
    value = json.dumps({"reason": rest.reason, "out": rest.out})
    return Row(f"credential:{state.key}:rest:{family}", rest.until, value)


def _window_row(state: State, family: str, name: str, window: Window) -> Row:
    value = json.dumps({"utilization": window.utilization, "reset": window.reset})
    return Row(f"credential:{state.key}:window:{family}:{name}", window.seen, value)
