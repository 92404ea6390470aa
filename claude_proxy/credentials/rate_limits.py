"""What is known of one credential: when it rests, how full its windows are, and what of its room is committed. No I/O."""

from dataclasses import dataclass, field
from typing import NamedTuple

from claude_proxy.credentials.credential import Credential

# The family of a rest or a window that is for all models.
ALL_MODELS = ""
# How much of a window an active session is taken to need. Without this all new sessions would go to the one credential whose
# window has just opened, use it up together and move together: in `tests/test_simulation.py` ten times as often.
SESSION_SHARE = 0.1
# Utilisations that differ by less count as equal.
UTILIZATION_STEP = 0.01
ROUNDING = 1e-6  # 0.57 is 56.99999999999999 steps
# What comes on top of the committed steps, so that such a credential is taken last.
DEPRIORITIZED = 10**6
SOFT_LIMIT_REACHED = 10**7
NEVER = float("inf")
# Rests and windows that are kept of one credential. Anthropic has a handful of families and windows.
MAX_PLACES = 100
# How full a window can be said to be, as a fraction; credentials have been seen at 1.3.
MAX_UTILIZATION = 100.0


@dataclass
class Rest:
    """``until`` is Unix seconds; ``out`` says that Anthropic refused the credential itself; ``reason`` is for the operator."""

    until: float
    reason: str
    out: bool = False


NO_REST = Rest(0.0, "")


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


NO_WINDOW = Window(0.0, 0.0, 0.0)


@dataclass(eq=False)
class CredentialState:
    """What the pool knows about one credential: rests by family, windows by family and name; the rest is derived."""

    credential: Credential
    soft_limit: float = 1.0
    key: str = ""
    organisation: str | None = None
    # Whether it is not to be asked at all: it is paused, or its login has expired.
    closed: bool = False
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
    family_committed: dict[str, int] = field(default_factory=dict)

    def usable_at(self, family: str) -> float:
        """Return when the credential may be asked for this family, in Unix seconds."""
        return NEVER if self.closed else self.family_back_at.get(family, self.back_at)

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
        """Work out how much is committed, in steps: what is used, a share for each session, and much at the soft limit."""
        shares = SESSION_SHARE * self.sessions / UTILIZATION_STEP + ROUNDING

        def committed(load: float) -> int:
            return int(load / UTILIZATION_STEP + shares) + (SOFT_LIMIT_REACHED if load >= self.soft_limit else 0)

        self.committed = committed(self.load)
        self.family_committed = {family: committed(load) for family, load in self.family_load.items()}


@dataclass(frozen=True)
class Snapshot:
    """One credential at a moment, for those who show it: only rests that last and windows that are not over."""

    credential: Credential
    since: float | None
    rests: dict[str, Rest]
    windows: dict[tuple[str, str], Window]
    sessions: int
    closed: bool = False
