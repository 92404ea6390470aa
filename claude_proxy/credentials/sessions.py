"""Binds sessions to credentials, and counts the active sessions of each credential. No I/O; time is an argument."""

from collections import OrderedDict
from collections.abc import ItemsView, Mapping
from dataclasses import dataclass

from claude_proxy.anthropic.opening import MARK
from claude_proxy.credentials.rate_limits import CredentialState

# The maximum number of sessions, and the idle time after which one expires, in seconds. The longest idle one is removed first.
MAX_SESSIONS = 10_000
SESSION_IDLE = 6 * 3600.0
# Above this share of unnamed sessions, those are removed first: every single question looks like one.
UNNAMED_SHARE = 0.5
# How long after its last request a session is active and so adds to its credential's load, in seconds.
SESSION_ACTIVE = 3600.0
# How often a session's use is shared with the other processes, in seconds.
SESSION_SHARED = 300.0


@dataclass
class Binding:
    """The credential of a session, and when it was bound, last used, and last shared with other processes, in Unix seconds."""

    label: str
    bound: float
    used: float
    shared: float = 0.0


class Sessions:
    """The sessions of one pool. A session that was idle for ``SESSION_IDLE`` is no longer bound."""

    def __init__(self) -> None:
        # In each of these, the longest idle session is first.
        self._bindings: OrderedDict[str, Binding] = OrderedDict()
        self._unnamed: OrderedDict[str, None] = OrderedDict()
        self._active: OrderedDict[str, tuple[CredentialState, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._bindings)

    def items(self) -> ItemsView[str, Binding]:
        """Return every session with its binding."""
        return self._bindings.items()

    def bound(self, session: str, now: float) -> str | None:
        """Return the label of the session's credential; None for an unknown or idle session."""
        binding = self._bindings.get(session)
        return None if binding is None or binding.used < now - SESSION_IDLE else binding.label

    def bind(self, session: str, state: CredentialState, now: float) -> Binding | None:
        """Bind a session to the credential that serves it; return the binding if other processes need it."""
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
        """Apply another process's binding of a session; the binding of an idle session is ignored.

        The later of two bindings wins, whichever was used last, so that processes that serve the same session agree. Returns
        this process's binding if it wins, so that the other process receives it.
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

    def relabel(self, labels: Mapping[str, str]) -> None:
        """Move sessions to the new labels of their credentials; unbind the sessions of removed credentials."""
        for session, binding in [*self._bindings.items()]:
            if binding.label in labels:
                binding.label = labels[binding.label]
            else:
                self._forget(session)

    def forget_surplus(self) -> list[str]:
        """Remove the longest idle sessions beyond ``MAX_SESSIONS``; return those."""
        forgotten = []
        while len(self._bindings) > MAX_SESSIONS:
            many = len(self._unnamed) > UNNAMED_SHARE * MAX_SESSIONS
            session = next(iter(self._unnamed if many else self._bindings))
            self._forget(session)
            forgotten.append(session)
        return forgotten

    def discard_inactive(self, now: float) -> None:
        """Stop counting sessions that were idle for ``SESSION_ACTIVE``."""
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
        """Count a session for its credential, and no longer for the previous one."""
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
