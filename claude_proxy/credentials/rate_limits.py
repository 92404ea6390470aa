"""The state of one credential: its cooldowns, the utilization of its windows, and its rank. No I/O."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from claude_proxy.credentials.course import Course, begun
from claude_proxy.credentials.credential import Credential
from claude_proxy.credentials.order import (
    NO_WINDOWS,
    Filled,
    Order,
    Ramp,
    Requester,
    WindowSummary,
    admits,
    is_owner,
    is_reserved,
)
from claude_proxy.credentials.scope import EVERYTHING, MESSAGES, STANDARD, Scope

# The family of a window that covers all models.
ALL_MODELS = ""
NEVER = float("inf")
# The maximum number of cooldowns and of windows kept for a credential. Anthropic has a handful of families and windows.
MAX_PLACES = 100
# The highest accepted utilization, as a fraction; values of 1.3 have been observed.
MAX_UTILIZATION = 100.0
# The name of the window of extra usage. While it is open, the credential's responses are billed as extra usage.
OVERAGE = "overage"
OVERAGE_PLACE = (ALL_MODELS, OVERAGE)
# How often a rank that depends on time is recomputed, in seconds.
RANK_SECONDS = 60.0


@dataclass
class Cooldown:
    """Until when a credential is not used, and why. ``until`` and ``recorded_at`` are Unix seconds; ``reason`` is a text.

    ``explanation`` is Anthropic's message about it, on one line and without secrets; empty if there is none.

    ``rejected``: Anthropic rejected the credential itself. ``windows`` names the full windows; the cooldown ends when a
    response shows that all of them are open.
    """

    until: float
    reason: str
    rejected: bool = False
    recorded_at: float = 0.0
    windows: tuple[str, ...] = ()
    explanation: str = ""


NO_COOLDOWN = Cooldown(0.0, "")


class Suspicion(NamedTuple):
    """A refusal that may have been caused by the caller's request; it expires at ``until``, in Unix seconds."""

    caller: str
    until: float


@dataclass
class Window:
    """A window's ``utilization`` as a fraction; ``reset`` and ``seen`` are Unix seconds."""

    utilization: float
    reset: float
    seen: float


NO_WINDOW = Window(0.0, 0.0, 0.0)


def general_windows(windows: Mapping[tuple[str, str], Window]) -> dict[str, Window]:
    """Return the windows that limit all models, by name: those of no model family, without that of paid extra usage."""
    return {name: window for (family, name), window in windows.items() if family == ALL_MODELS and name != OVERAGE}


@dataclass(eq=False)
class CredentialState:
    """The state of a credential: cooldowns by scope, windows by family and name, and values derived from them."""

    credential: Credential
    soft_limit: float = 1.0
    order: Order = Order.HEADROOM
    key: str = ""
    organization: str | None = None
    # Whether it is paused or its login has expired.
    disabled: bool = False
    cooldowns: dict[Scope, Cooldown] = field(default_factory=dict)
    # When a cooldown was ended early, by scope, and when all of them were, in Unix seconds. Information that was recorded
    # before that time no longer applies.
    ended: dict[Scope, float] = field(default_factory=dict)
    lifted: float = 0.0
    windows: dict[tuple[str, str], Window] = field(default_factory=dict)
    # How the utilization of each window has changed.
    courses: dict[tuple[str, str], Course] = field(default_factory=dict)
    # Refusals in a row, and the time of the last probe.
    refusals: int = 0
    probed: float = 0.0
    # Requests in progress, and the ramp for sessions of other credentials.
    active: int = 0
    ramp: Ramp = field(default_factory=Ramp)
    deprioritized_until: float = 0.0
    # Unconfirmed refusals, by Anthropic's sentence.
    suspicions: dict[str, Suspicion] = field(default_factory=dict)
    # The times of refusals with unknown wording, by wording, in Unix seconds.
    unknown: dict[str, list[float]] = field(default_factory=dict)
    # When a proxy first saw it, in Unix seconds; a setup token's year is calculated from then.
    since: float | None = None
    # The number of sessions of the last hour that are bound to it.
    sessions: int = 0
    # Derived, so that a choice is a few comparisons: when the credential is available again, for every request and by scope;
    # and its rank, likewise, which is valid until the next window resets.
    back_at: float = 0.0
    scoped: tuple[tuple[Scope, float], ...] = ()
    # Until when its responses are billed as extra usage, in Unix seconds.
    extra_until: float = 0.0
    window_summary: WindowSummary = NO_WINDOWS
    family_summaries: dict[str, WindowSummary] = field(default_factory=dict)
    # Until when only the owner may use the rest of a window, by family, in Unix seconds.
    reserved: dict[str, float] = field(default_factory=dict)
    load_until: float = NEVER
    committed: int = 0
    family_committed: dict[str, int] = field(default_factory=dict)

    def usable_at(self, requested: Scope) -> float:
        """Return when the credential is available for such a request, in Unix seconds."""
        if self.disabled:
            return NEVER
        return (
            max((until for scope, until in self.scoped if scope.covers(requested)), default=0.0)
            if self.scoped
            else self.back_at
        )

    def cooling_down(self, requested: Scope, now: float) -> list[Cooldown]:
        """Return the cooldowns that block such a request now."""
        return [cooldown for scope, cooldown in self.cooldowns.items() if cooldown.until > now and scope.covers(requested)]

    def put_cooldown(self, scope: Scope, cooldown: Cooldown, now: float) -> bool:
        """Add a cooldown; return whether there was room for it. Expired ones make room."""
        if scope not in self.cooldowns and len(self.cooldowns) >= MAX_PLACES:
            self.cooldowns = {place: one for place, one in self.cooldowns.items() if one.until > now}
        if scope not in self.cooldowns and len(self.cooldowns) >= MAX_PLACES:
            return False
        self.cooldowns[scope] = cooldown
        return True

    def end_cooldown(self, scope: Scope, ended: float) -> bool:
        """End a cooldown that was recorded before ``ended``, in Unix seconds; return whether it existed."""
        if len(self.ended) < MAX_PLACES or scope in self.ended:
            self.ended[scope] = max(ended, self.ended.get(scope, 0.0))
        cooldown = self.cooldowns.get(scope)
        if cooldown is None or cooldown.recorded_at > ended:
            return False
        del self.cooldowns[scope]
        return True

    def put_window(self, place: tuple[str, str], window: Window, now: float) -> bool:
        """Add a window; return whether there was room for it. Windows that have reset make room."""
        if place not in self.windows and len(self.windows) >= MAX_PLACES:
            self.windows = {name: one for name, one in self.windows.items() if one.reset > now}
        if place not in self.windows and len(self.windows) >= MAX_PLACES:
            return False
        self.windows[place] = window
        return True

    def follow(self, place: tuple[str, str], before: Window | None, window: Window) -> Course | None:
        """Add a window's report to its course; return the course if it has changed. ``before`` is the report before it."""
        known = self.courses.get(place)
        course = begun(window) if known is None else known.after(place[1], before, window)
        return course if course is not known and self.put_course(place, course) else None

    def put_course(self, place: tuple[str, str], course: Course) -> bool:
        """Set the course of a window; return whether there was room for it. Courses of windows that are gone make room."""
        if place not in self.courses and len(self.courses) >= MAX_PLACES:
            self.courses = {name: one for name, one in self.courses.items() if name in self.windows}
        if place not in self.courses and len(self.courses) >= MAX_PLACES:
            return False
        self.courses[place] = course
        return True

    def derive(self, now: float) -> None:
        """Recompute the derived values, after a change and after the reset of a window."""
        cooldowns = {scope: cooldown.until for scope, cooldown in self.cooldowns.items() if cooldown.until > now}
        self.back_at = cooldowns.get(EVERYTHING, 0.0)
        self.scoped = tuple(sorted(cooldowns.items())) if len(cooldowns) > (EVERYTHING in cooldowns) else ()
        open_windows = {place: window for place, window in self.windows.items() if window.reset > now}
        self.load_until = min((window.reset for window in open_windows.values()), default=NEVER)
        self.extra_until = open_windows[OVERAGE_PLACE].reset if OVERAGE_PLACE in open_windows else 0.0
        filled: dict[str, list[Filled]] = {ALL_MODELS: []}
        self.reserved = {}
        for (family, name), window in open_windows.items():
            if name == OVERAGE:
                continue
            filled.setdefault(family, []).append(Filled(name, window.utilization, window.reset - now))
            if is_reserved(self.credential.terms, window.utilization):
                self.reserved[family] = max(window.reset, self.reserved.get(family, 0.0))
        everything = filled.pop(ALL_MODELS)
        self.window_summary = WindowSummary.of(everything)
        self.family_summaries = {family: WindowSummary.of([*everything, *own]) for family, own in filled.items()}
        if self.order is Order.RESET_FIRST and open_windows:
            self.load_until = min(self.load_until, now + RANK_SECONDS)
        self._update_rank()

    def may_serve(self, requester: Requester) -> bool:
        """Return whether the requester may use this credential at all."""
        return admits(self.credential, requester)

    def withheld_until(self, requested: Scope, requester: Requester) -> float:
        """Return until when the credential's terms exclude the requester, in Unix seconds."""
        terms = self.credential.terms
        if not self.may_serve(requester):
            return NEVER
        if terms.reserve == 0 or is_owner(terms, requester):
            return 0.0
        if terms.reserve >= 1:
            return NEVER
        return max(self.reserved.get(ALL_MODELS, 0.0), self.reserved.get(requested.family, 0.0))

    @property
    def load(self) -> float:
        """The utilization of the fullest window for all models."""
        return self.window_summary.load

    @property
    def family_load(self) -> dict[str, float]:
        """The utilization of the fullest window, for each family that has its own."""
        return {family: summary.load for family, summary in self.family_summaries.items()}

    @property
    def is_busy(self) -> bool:
        """Whether it has reached its maximum of concurrent requests."""
        most = self.credential.terms.max_concurrency
        return most is not None and self.active >= most

    @property
    def has_terms(self) -> bool:
        """Whether its terms exclude some requests."""
        terms = self.credential.terms
        return bool(terms.groups) or terms.reserve > 0 or terms.max_concurrency is not None

    def count(self, sessions: int) -> None:
        """Add ``sessions`` to the number of sessions; it may be negative."""
        self.sessions += sessions
        self._update_rank()

    def _update_rank(self) -> None:
        """Recompute the rank."""
        rank = self.order, self.sessions, self.credential.terms, self.soft_limit
        self.committed = self.window_summary.rank(*rank)
        self.family_committed = {family: summary.rank(*rank) for family, summary in self.family_summaries.items()}


@dataclass(frozen=True)
class Snapshot:
    """One credential at one moment, for status output: only active cooldowns and open windows."""

    credential: Credential
    since: float | None
    cooldowns: dict[Scope, Cooldown]
    windows: dict[tuple[str, str], Window]
    sessions: int
    # Until when its responses are billed as extra usage; 0 if they are not.
    extra_until: float = 0.0
    disabled: bool = False
    courses: dict[tuple[str, str], Course] = field(default_factory=dict)
    # The model families that clients have requested of the pool within a day.
    requested: frozenset[str] = frozenset()

    def blocking(self, family: str) -> list[Cooldown]:
        """Return the cooldowns that block usual requests for a model family."""
        usual = Scope(family, MESSAGES, STANDARD)
        return [cooldown for scope, cooldown in self.cooldowns.items() if scope.covers(usual)]

    def can_serve(self, family: str) -> bool:
        """Return whether usual requests for a model family may use this credential now."""
        return not self.disabled and not self.blocking(family)
