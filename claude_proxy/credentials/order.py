"""Ranks the credentials: the operator's order, and the terms of each credential. No I/O; time is an argument.

A rank is a whole number; the smallest is used first. Its parts, the most important one first:
  1. the priority in the credential's terms;
  2. whether its windows have reached the soft limit;
  3. whether it is deprioritized: it has just refused a request without a reason, or its ramp is full;
  4. the order: ``headroom`` uses the utilization of the fullest window, ``reset-first`` the part of the weekly window that
     would expire unused. Both add a share for each session on the credential.
"""

import functools
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from claude_proxy.credentials.credential import Credential, Kind, Terms

# The fraction of a window that an active session is assumed to need. Without it every new session would take the credential
# whose window has just reset, use it up, and move: ten times as many moves in `tests/test_simulation.py`.
SESSION_SHARE = 0.1
# Smaller differences in utilization are ignored.
UTILIZATION_STEP = 0.01
ROUNDING = 1e-6  # 0.57 / 0.01 is 56.99999999999999
# Added to the rank, so that such a credential is used last.
DEPRIORITIZED = 10**6
SOFT_LIMIT_REACHED = 10**7
PRIORITY_STEP = 10**8

# A credential takes over sessions slowly for RAMP_SECONDS: FIRST_MOVED sessions in the first step, and in total twice as many
# after each further step. The ramp starts again after RAMP_SECONDS without a new session.
RAMP_SECONDS = 60.0
RAMP_STEP_SECONDS = 10.0
FIRST_MOVED = 2

_WINDOW_NAME = re.compile(r"([0-9]{1,4})([hd])")
_UNITS = {"h": 3600.0, "d": 86400.0}
# Windows of a day and more belong to the week; they decide how much would expire unused.
LONG_SECONDS = 86400.0
LEAST_LEFT_SECONDS = 3600.0
# From this utilization on, sessions included, the five-hour window is treated as nearly full.
NEARLY_FULL = 0.9
NEARLY_FULL_STEPS = 10**5
# The minimum for a window that is used up, to avoid a division by zero.
LEAST_ROOM = 0.05


class Order(Enum):
    """Which credential a new session takes."""

    HEADROOM = "headroom"
    RESET_FIRST = "reset-first"


class Requester(NamedTuple):
    """The user of a request (name in folded case), and the groups that the request may use.

    Each set of groups is one restriction, by the user or by the model; it may also name credentials (``named``). Without a
    restriction, only credentials without groups may be used. With ``api_keys_only``, no OAuth token may be used.
    """

    user: str = ""
    groups: tuple[frozenset[str], ...] = ()
    api_keys_only: bool = False

    @property
    def is_restricted(self) -> bool:
        """Whether there may be credentials that the request may never use, whatever their terms."""
        return bool(self.groups) or self.api_keys_only


ANONYMOUS = Requester()


class Filled(NamedTuple):
    """A window's utilization as a fraction, and the seconds until its reset."""

    name: str
    utilization: float
    left: float


def named(label: str) -> str:
    """Return the entry of a restriction for one credential, by its label; a group has no such name."""
    return f"={label}"


def may_use(terms: Terms, requester: Requester, label: str = "") -> bool:
    """Return whether a request may use a credential.

    With restrictions, each has to name a group of the credential, or the credential itself; without, it must have no groups.
    """
    if not requester.groups:
        return not terms.groups
    return not any(terms.groups.isdisjoint(groups) and named(label) not in groups for groups in requester.groups)


def admits(credential: Credential, requester: Requester) -> bool:
    """Return whether a request may use a credential, by its terms and by its kind."""
    if requester.api_keys_only and credential.kind is not Kind.API_KEY:
        return False
    return may_use(credential.terms, requester, credential.label)


def is_owner(terms: Terms, requester: Requester) -> bool:
    """Return whether the credential's reserve belongs to this user."""
    return bool(terms.owner) and terms.owner.casefold() == requester.user


def is_reserved(terms: Terms, utilization: float) -> bool:
    """Return whether only the owner may use what is left of a window."""
    return terms.reserve > 0 and utilization >= 1 - terms.reserve - ROUNDING


class WindowSummary(NamedTuple):
    """The windows of a credential, summarized: utilization of the fullest one and of the fullest short one.

    ``urgency`` is the rate at which the rest of the week must be used so that nothing expires, relative to even use (1.0).
    """

    load: float = 0.0
    short_load: float = 0.0
    urgency: float = 1.0

    @classmethod
    def of(cls, windows: Iterable[Filled]) -> "WindowSummary":
        """Summarize the windows that have not reset; an unknown window is treated as empty."""
        load = short_load = 0.0
        urgency = math.inf
        for name, utilization, left in windows:
            load = max(load, utilization)
            seconds = length(name)
            if seconds >= LONG_SECONDS:
                urgency = min(urgency, max(0.0, 1 - utilization) * seconds / max(left, LEAST_LEFT_SECONDS))
            else:
                short_load = max(short_load, utilization)
        return cls(load, short_load, 1.0 if urgency == math.inf else urgency)

    def rank(self, order: Order, sessions: int, terms: Terms, soft_limit: float) -> int:
        """Return the rank of a credential with this number of sessions."""
        share = SESSION_SHARE * sessions / terms.weight
        if order is Order.HEADROOM:
            steps = int((self.load + terms.reserve + share) / UTILIZATION_STEP + ROUNDING)
        else:
            steps = self._by_urgency(sessions, terms, share)
        behind = SOFT_LIMIT_REACHED if self.load + terms.reserve >= soft_limit else 0
        return min(steps, DEPRIORITIZED - 1) + behind - terms.priority * PRIORITY_STEP

    def _by_urgency(self, sessions: int, terms: Terms, share: float) -> int:
        """Rank by the unused part of the week and the free part of the five hours, relative to the sessions."""
        room = max(self.urgency, LEAST_ROOM) * max(1 - self.short_load, LEAST_ROOM)
        steps = int(100 * (sessions + 1) / (terms.weight * room))
        return steps + (NEARLY_FULL_STEPS if self.short_load + share >= NEARLY_FULL else 0)


NO_WINDOWS = WindowSummary()


@functools.lru_cache(maxsize=1000)
def length(name: str) -> float:
    """Return the length of a window in seconds; 0 if its name does not contain it."""
    match = _WINDOW_NAME.match(name)
    return int(match[1]) * _UNITS[match[2]] if match else 0.0


@dataclass
class Ramp:
    """Limits how quickly a credential takes over sessions of other credentials."""

    begun: float = 0.0
    last: float = float("-inf")
    taken: int = 0

    def is_full(self, now: float) -> bool:
        """Return whether it has taken over the maximum number of sessions for now."""
        if now - self.last >= RAMP_SECONDS or now - self.begun >= RAMP_SECONDS:
            return False
        return self.taken >= FIRST_MOVED << int((now - self.begun) / RAMP_STEP_SECONDS)

    def take(self, now: float) -> None:
        """Record that it takes over a session."""
        if now - self.last >= RAMP_SECONDS:
            self.begun, self.taken = now, 0
        self.last = now
        self.taken += 1
