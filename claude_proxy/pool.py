"""The pool of Claude credentials: who is asked next, who rests, who is out. Plain and synchronous; time is an argument.

Four rules:
  1. API keys, which are paid for by the token, are taken only when no OAuth token is usable;
  2. a session stays on its credential while that one is usable, everybody else takes the next usable one, round robin;
  3. a credential that rests or is out is not usable; when none is, the one that is back soonest is asked, and no other;
  4. a credential that this request has tried already is never taken again.

All calls come from one event loop, so there is no lock.
"""

from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from claude_proxy.credentials import Credential, Kind
from claude_proxy.settings import Affinity
from claude_proxy.verdicts import Verdict

# Sessions that are remembered; the one that was silent for longest is forgotten first.
MAX_SESSIONS = 10_000


@dataclass
class State:
    """What the pool knows about one credential. ``back_at`` is Unix seconds; before it the credential is not usable."""

    back_at: float = 0.0
    reason: str = ""


class Pool:
    """Credentials and their state. ``clock`` returns Unix seconds, as Anthropic's resets are given in them."""

    def __init__(
        self, credentials: Sequence[Credential], *, affinity: Affinity, quarantine: float, clock: Callable[[], float]
    ) -> None:
        self._credentials = sorted(credentials, key=lambda credential: credential.kind is Kind.API_KEY)
        self._states = {credential.label: State() for credential in credentials}
        self._affinity = affinity
        self._quarantine = quarantine
        self._clock = clock
        self._sessions: OrderedDict[str, str] = OrderedDict()
        self._cursor = 0

    def __len__(self) -> int:
        return len(self._credentials)

    def state(self, label: str) -> State:
        """Return what is known of a credential, for those who show it."""
        return self._states[label]

    def back_at(self) -> float:
        """Return when the first credential is usable again, in Unix seconds; 0 for an empty pool."""
        return min((state.back_at for state in self._states.values()), default=0.0)

    def choose(self, session: str | None, tried: Collection[str] = ()) -> Credential | None:
        """Return the credential to ask, by the four rules; None when there is none left to ask for this request."""
        now = self._clock()
        left = [credential for credential in self._credentials if credential.label not in tried]
        usable = [credential for credential in left if self._states[credential.label].back_at <= now]
        if usable:
            first_kind = [credential for credential in usable if credential.kind is usable[0].kind]
            bound = self._sessions.get(session) if session and self._affinity is Affinity.SESSION else None
            chosen = next((credential for credential in first_kind if credential.label == bound), None) or self._next(
                first_kind
            )
        elif left and not tried:
            chosen = min(left, key=lambda credential: self._states[credential.label].back_at)
        else:
            return None
        if session and self._affinity is Affinity.SESSION:
            self._bind(session, chosen.label)
        return chosen

    def note(self, credential: Credential, verdict: Verdict) -> None:
        """Learn from an answer. A rest that is already longer stays as it is."""
        state = self._states[credential.label]
        back_at = self._clock() + self._quarantine if verdict.out else verdict.rest_until
        if back_at is not None and back_at > state.back_at:
            state.back_at, state.reason = back_at, verdict.reason

    def _next(self, usable: Sequence[Credential]) -> Credential:
        """Take the first usable credential at or after the cursor."""
        order = [credential for credential in self._credentials if credential.kind is usable[0].kind]
        for step in range(len(order)):
            candidate = order[(self._cursor + step) % len(order)]
            if candidate in usable:
                self._cursor = (self._cursor + step + 1) % len(order)
                return candidate
        raise AssertionError("a usable credential is one of its kind")

    def _bind(self, session: str, label: str) -> None:
        self._sessions[session] = label
        self._sessions.move_to_end(session)
        if len(self._sessions) > MAX_SESSIONS:
            self._sessions.popitem(last=False)
