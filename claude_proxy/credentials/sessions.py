"""Which credential each session stays on, and how many active sessions live on each. No I/O; time is an argument."""

from collections import OrderedDict
from collections.abc import ItemsView, Mapping
from dataclasses import dataclass

from claude_proxy.anthropic.opening import MARK
from claude_proxy.credentials.rate_limits import CredentialState

# Sessions that are remembered, and for how long without a request, in seconds; the most silent one is forgotten first.
MAX_SESSIONS = 10_000
SESSION_IDLE = 6 * 3600.0
# The share of them from which those that no client has named are forgotten first: each single question looks like one of them.
UNNAMED_SHARE = 0.5
# For how long after its last request a session counts as one that uses up its credential, in seconds.
SESSION_ACTIVE = 3600.0
# How often a session's use is shared with the other processes, in seconds.
SESSION_SHARED = 300.0


@dataclass
class Binding:
    """A session's credential; when it was bound to it, last used, and last shared with other processes, in Unix seconds."""

    label: str
    bound: float
    used: float
    shared: float = 0.0


class Sessions:
    """The sessions of one pool. A session that was idle for ``SESSION_IDLE`` is bound to no credential any more."""

    def __init__(self) -> None:
        # In all three the most silent session stands first.
        self._bindings: OrderedDict[str, Binding] = OrderedDict()
        self._unnamed: OrderedDict[str, None] = OrderedDict()
        self._active: OrderedDict[str, tuple[CredentialState, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._bindings)

    def items(self) -> ItemsView[str, Binding]:
        """Return every session that is remembered, with its binding."""
        return self._bindings.items()

    def bound(self, session: str, now: float) -> str | None:
        """Return the label of the session's credential; None for a session that is not known or was idle."""
        binding = self._bindings.get(session)
        return None if binding is None or binding.used < now - SESSION_IDLE else binding.label

    def bind(self, session: str, state: CredentialState, now: float) -> Binding | None:
        """Bind a session to the credential that serves it now; return the binding when other processes must learn of it."""
        binding = self._bindings.get(session)
        if binding is None or binding.label != state.credential.label:
            binding = self._bindings[session] = Binding(state.credential.label, now, now)
        binding.used = now
        self._touch(session)
        self._count(session, state, now)
        if now - binding.shared < SESSION_SHARED:
            return None
        binding.shared = now
        return binding

    def merge(self, session: str, state: CredentialState, bound: float, used: float, now: float) -> Binding | None:
        """Apply another process's binding of a session; an idle session is not bound.

        Of two bindings the one that was made later wins, however recently the other was used: processes that serve the same
        session must agree. Returns this process's binding when it wins, so that the other process learns of it.
        """
        if used <= now - SESSION_IDLE:
            return None
        label, ours = state.credential.label, self._bindings.get(session)
        if ours is None or ours.used <= now - SESSION_IDLE:
            self._bindings[session] = Binding(label, bound, used, used)
        elif ours.label != label and (ours.bound, ours.label) > (bound, label):
            ours.used = max(ours.used, used)
            return ours
        else:
            latest = max(ours.used, used)
            self._bindings[session] = Binding(label, max(bound, ours.bound), latest, max(ours.shared, used))
        self._touch(session)
        self._count(session, state, self._bindings[session].used)
        return None

    def take_up(self, labels: Mapping[str, str]) -> None:
        """Keep the sessions of these credentials, each under its new label; those of others are bound to none any more."""
        for session, binding in [*self._bindings.items()]:
            if binding.label in labels:
                binding.label = labels[binding.label]
            else:
                self._forget(session)

    def forget_surplus(self) -> list[str]:
        """Forget the most silent sessions beyond ``MAX_SESSIONS``; return those."""
        forgotten = []
        while len(self._bindings) > MAX_SESSIONS:
            many = len(self._unnamed) > UNNAMED_SHARE * MAX_SESSIONS
            session = next(iter(self._unnamed if many else self._bindings))
            self._forget(session)
            forgotten.append(session)
        return forgotten

    def discard_inactive(self, now: float) -> None:
        """Count no longer those that were silent for ``SESSION_ACTIVE``."""
        while self._active:
            session, (_, used) = next(iter(self._active.items()))
            if used > now - SESSION_ACTIVE:
                return
            self._uncount(session)

    def _touch(self, session: str) -> None:
        self._bindings.move_to_end(session)
        if session.startswith(MARK):
            self._unnamed[session] = None
            self._unnamed.move_to_end(session)

    def _forget(self, session: str) -> None:
        del self._bindings[session]
        self._unnamed.pop(session, None)
        self._uncount(session)

    def _count(self, session: str, state: CredentialState, used: float) -> None:
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
