"""What is known of one credential: when it rests, how full its windows are, and what of its room is committed. No I/O."""

from dataclasses import dataclass, field
from typing import NamedTuple

from claude_proxy.credentials.credential import Credential
from claude_proxy.credentials.order import (
    NO_WINDOWS,
    Asker,
    Filled,
    Order,
    Ramp,
    Standing,
    is_owner,
    is_reserved,
    may_use,
)
from claude_proxy.credentials.scope import EVERYTHING, Scope

# The family of a window that is for all models.
ALL_MODELS = ""
NEVER = float("inf")
# Rests and windows that are kept of one credential. Anthropic has a handful of families and windows.
MAX_PLACES = 100
# How full a window can be said to be, as a fraction; credentials have been seen at 1.3.
MAX_UTILIZATION = 100.0
# The name of the window in which extra usage is counted. While it is open the credential's answers are paid for.
OVERAGE = "overage"
OVERAGE_PLACE = (ALL_MODELS, OVERAGE)
# How often the place of a credential that has windows is worked out anew where it depends on the time, in seconds.
STANDING_SECONDS = 60.0


@dataclass
class Cooldown:
    """Why and until when a credential is not asked. ``until`` and ``noted`` are Unix seconds, ``reason`` is for the operator.

    ``out`` says that Anthropic refused the credential itself; ``windows`` names the windows that were full: once an answer
    says that none of them is, the rest is over.
    """

    until: float
    reason: str
    rejected: bool = False
    noted: float = 0.0
    windows: tuple[str, ...] = ()


NO_COOLDOWN = Cooldown(0.0, "")


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
    """What the pool knows about one credential: rests by scope, windows by family and name; the rest is derived."""

    credential: Credential
    soft_limit: float = 1.0
    order: Order = Order.HEADROOM
    key: str = ""
    organisation: str | None = None
    # Whether it is not to be asked at all: it is paused, or its login has expired.
    closed: bool = False
    cooldowns: dict[Scope, Cooldown] = field(default_factory=dict)
    # When a rest was ended before its time, by scope, and when all of them were, in Unix seconds: what was noted before that
    # counts no longer.
    ended: dict[Scope, float] = field(default_factory=dict)
    lifted: float = 0.0
    windows: dict[tuple[str, str], Window] = field(default_factory=dict)
    # Refusals of the credential itself since it last answered, and when it was last asked during a rest.
    refusals: int = 0
    probed: float = 0.0
    # Requests that are under way on it, and how quickly it takes over the sessions of others.
    active: int = 0
    ramp: Ramp = field(default_factory=Ramp)
    deprioritized_until: float = 0.0
    # Unconfirmed refusals, by Anthropic's sentence.
    suspicions: dict[str, Suspicion] = field(default_factory=dict)
    # When a refusal in unknown words was met, by these words, in Unix seconds.
    unknown: dict[str, list[float]] = field(default_factory=dict)
    # When a proxy of this store first had it, in Unix seconds; the year of a setup token is counted from then.
    since: float | None = None
    # How many sessions of the last hour are bound to it: they all live on the same room.
    sessions: int = 0
    # Derived, so that a choice is a few comparisons: when the credential is usable again, for all requests and for those with
    # a rest of their own, and where its windows put it, likewise; the latter holds until a window opens anew.
    back_at: float = 0.0
    scoped: tuple[tuple[Scope, float], ...] = ()
    # Until when its answers are paid for as extra usage, in Unix seconds.
    extra_until: float = 0.0
    standing: Standing = NO_WINDOWS
    family_standing: dict[str, Standing] = field(default_factory=dict)
    # Until when windows are as full as the reserve allows, for everybody but its owner.
    reserved: dict[str, float] = field(default_factory=dict)
    load_until: float = NEVER
    committed: int = 0
    family_committed: dict[str, int] = field(default_factory=dict)

    def usable_at(self, asked: Scope) -> float:
        """Return when the credential may be asked for such a request, in Unix seconds."""
        if self.closed:
            return NEVER
        return max((until for scope, until in self.scoped if scope.covers(asked)), default=0.0) if self.scoped else self.back_at

    def cooling_down(self, asked: Scope, now: float) -> list[Cooldown]:
        """Return the rests that keep such a request away now."""
        return [cooldown for scope, cooldown in self.cooldowns.items() if cooldown.until > now and scope.covers(asked)]

    def put_cooldown(self, scope: Scope, cooldown: Cooldown, now: float) -> bool:
        """Take a rest in; return whether there was room for it. Those that are over make room."""
        if scope not in self.cooldowns and len(self.cooldowns) >= MAX_PLACES:
            self.cooldowns = {place: one for place, one in self.cooldowns.items() if one.until > now}
        if scope not in self.cooldowns and len(self.cooldowns) >= MAX_PLACES:
            return False
        self.cooldowns[scope] = cooldown
        return True

    def end_cooldown(self, scope: Scope, ended: float) -> bool:
        """End a rest that was noted before ``ended``, in Unix seconds; return whether there was one."""
        if len(self.ended) < MAX_PLACES or scope in self.ended:
            self.ended[scope] = max(ended, self.ended.get(scope, 0.0))
        cooldown = self.cooldowns.get(scope)
        if cooldown is None or cooldown.noted > ended:
            return False
        del self.cooldowns[scope]
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
        cooldowns = {scope: cooldown.until for scope, cooldown in self.cooldowns.items() if cooldown.until > now}
        self.back_at = cooldowns.get(EVERYTHING, 0.0)
        self.scoped = tuple(sorted(cooldowns.items())) if len(cooldowns) > (EVERYTHING in cooldowns) else ()
        closed = {place: window for place, window in self.windows.items() if window.reset > now}
        self.load_until = min((window.reset for window in closed.values()), default=NEVER)
        self.extra_until = closed[OVERAGE_PLACE].reset if OVERAGE_PLACE in closed else 0.0
        filled: dict[str, list[Filled]] = {ALL_MODELS: []}
        self.reserved = {}
        for (family, name), window in closed.items():
            if name == OVERAGE:
                continue
            filled.setdefault(family, []).append(Filled(name, window.utilization, window.reset - now))
            if is_reserved(self.credential.terms, window.utilization):
                self.reserved[family] = max(window.reset, self.reserved.get(family, 0.0))
        everything = filled.pop(ALL_MODELS)
        self.standing = Standing.of(everything)
        self.family_standing = {family: Standing.of([*everything, *own]) for family, own in filled.items()}
        if self.order is Order.RESET_FIRST and closed:
            self.load_until = min(self.load_until, now + STANDING_SECONDS)
        self._reckon()

    def withheld_until(self, asked: Scope, asker: Asker) -> float:
        """Return until when the terms of the credential keep somebody from it, in Unix seconds."""
        terms = self.credential.terms
        if not may_use(terms, asker):
            return NEVER
        if terms.reserve == 0 or is_owner(terms, asker):
            return 0.0
        if terms.reserve >= 1:
            return NEVER
        return max(self.reserved.get(ALL_MODELS, 0.0), self.reserved.get(asked.family, 0.0))

    @property
    def load(self) -> float:
        """How full the fullest window of all models is."""
        return self.standing.load

    @property
    def family_load(self) -> dict[str, float]:
        """How full the fullest window is for each family that has its own."""
        return {family: standing.load for family, standing in self.family_standing.items()}

    @property
    def is_busy(self) -> bool:
        """Whether as many requests are under way on it as may be at once."""
        most = self.credential.terms.max_concurrency
        return most is not None and self.active >= most

    @property
    def has_terms(self) -> bool:
        """Whether its terms keep some requests from it."""
        terms = self.credential.terms
        return bool(terms.groups) or terms.reserve > 0 or terms.max_concurrency is not None

    def count(self, sessions: int) -> None:
        """Count so many sessions more, or less."""
        self.sessions += sessions
        self._reckon()

    def _reckon(self) -> None:
        """Work out its place in the order anew."""
        cooldown = self.order, self.sessions, self.credential.terms, self.soft_limit
        self.committed = self.standing.place(*cooldown)
        self.family_committed = {family: standing.place(*cooldown) for family, standing in self.family_standing.items()}


@dataclass(frozen=True)
class Snapshot:
    """One credential at a moment, for those who show it: only rests that last and windows that are not over."""

    credential: Credential
    since: float | None
    cooldowns: dict[Scope, Cooldown]
    windows: dict[tuple[str, str], Window]
    sessions: int
    # Until when its answers are paid for as extra usage; 0 where they are not.
    extra_until: float = 0.0
    closed: bool = False
