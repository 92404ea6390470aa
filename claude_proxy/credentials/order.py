"""Which credential is asked next: the operator's order, and what the terms of a credential say. No I/O; time is an argument.

A place in the order is a whole number, the smallest is asked first. It consists of, the most important part first:
  1. the priority of the credential's terms;
  2. whether its windows are at the soft limit;
  3. whether it has just refused a request without saying why, or is filling up slowly;
  4. the order: ``headroom`` takes how full the fullest window is, ``reset-first`` how much of the weekly window would be
     lost, both with a share for each session that lives on the credential.
"""

import functools
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from claude_proxy.credentials.credential import Terms

# How much of a window an active session is taken to need. Without this all new sessions would go to the one credential whose
# window has just opened, use it up together and move together: in `tests/test_simulation.py` ten times as often.
SESSION_SHARE = 0.1
# Utilisations that differ by less count as equal.
UTILIZATION_STEP = 0.01
ROUNDING = 1e-6  # 0.57 is 56.99999999999999 steps
# What comes on top of the steps, so that such a credential is taken last.
DEPRIORITIZED = 10**6
SOFT_LIMIT_REACHED = 10**7
PRIORITY_STEP = 10**8

# For so long a credential that takes over sessions fills up slowly, in seconds: it takes FIRST_MOVED of them in the first step,
# and by the end of each further step twice as many as by the end of the one before. After so long without any it begins anew.
RAMP_SECONDS = 60.0
RAMP_STEP_SECONDS = 10.0
FIRST_MOVED = 2

_WINDOW_NAME = re.compile(r"([0-9]{1,4})([hd])")
_UNITS = {"h": 3600.0, "d": 86400.0}
# Windows of a day and more are the week's, which decides about what is lost.
LONG_SECONDS = 86400.0
LEAST_LEFT_SECONDS = 3600.0
# From here on the five-hour window of a credential with its sessions counts as nearly full.
NEARLY_FULL = 0.9
NEARLY_FULL_STEPS = 10**5
# A window that is used up counts as this much, so that nothing is divided by nothing.
LEAST_ROOM = 0.05


class Order(Enum):
    """Which credential a new session takes."""

    HEADROOM = "headroom"
    RESET_FIRST = "reset-first"


class Asker(NamedTuple):
    """Whose request it is: the user's name, folded, and the groups that it may use.

    Each set of groups is a restriction of its own, by the user or by the model; without any, credentials with groups are for
    others.
    """

    user: str = ""
    groups: tuple[frozenset[str], ...] = ()


ANYBODY = Asker()


class Filled(NamedTuple):
    """How full a window is, as a fraction, and in how many seconds it opens anew."""

    name: str
    utilization: float
    left: float


def may_use(terms: Terms, asker: Asker) -> bool:
    """Whether a credential is there for somebody: in one of the groups of each restriction, or in none where there is none."""
    if not asker.groups:
        return not terms.groups
    return not any(terms.groups.isdisjoint(groups) for groups in asker.groups)


def is_owner(terms: Terms, asker: Asker) -> bool:
    """Whether the reserve of a credential is kept for somebody."""
    return bool(terms.owner) and terms.owner.casefold() == asker.user


def is_reserved(terms: Terms, utilization: float) -> bool:
    """Whether what is left of a window is the owner's."""
    return terms.reserve > 0 and utilization >= 1 - terms.reserve - ROUNDING


class Standing(NamedTuple):
    """What the windows of a credential say of its place: how full the fullest is, and the fullest short one.

    ``haste`` is how quickly what is left of the week has to be used so that nothing is lost, beside an even use (1.0).
    """

    load: float = 0.0
    short_load: float = 0.0
    haste: float = 1.0

    @classmethod
    def of(cls, windows: Iterable[Filled]) -> "Standing":
        """Work it out from the windows that are not over; one that is not known counts as fresh."""
        load = short_load = 0.0
        haste = math.inf
        for name, utilization, left in windows:
            load = max(load, utilization)
            seconds = length(name)
            if seconds >= LONG_SECONDS:
                haste = min(haste, max(0.0, 1 - utilization) * seconds / max(left, LEAST_LEFT_SECONDS))
            else:
                short_load = max(short_load, utilization)
        return cls(load, short_load, 1.0 if haste == math.inf else haste)

    def place(self, order: Order, sessions: int, terms: Terms, soft_limit: float) -> int:
        """Return the place of a credential with so many sessions on it."""
        share = SESSION_SHARE * sessions / terms.weight
        if order is Order.HEADROOM:
            steps = int((self.load + terms.reserve + share) / UTILIZATION_STEP + ROUNDING)
        else:
            steps = self._by_haste(sessions, terms, share)
        behind = SOFT_LIMIT_REACHED if self.load + terms.reserve >= soft_limit else 0
        return min(steps, DEPRIORITIZED - 1) + behind - terms.priority * PRIORITY_STEP

    def _by_haste(self, sessions: int, terms: Terms, share: float) -> int:
        """Sessions are spread by what is to be used of the week, and by what the five hours leave of it."""
        room = max(self.haste, LEAST_ROOM) * max(1 - self.short_load, LEAST_ROOM)
        steps = int(100 * (sessions + 1) / (terms.weight * room))
        return steps + (NEARLY_FULL_STEPS if self.short_load + share >= NEARLY_FULL else 0)


NO_WINDOWS = Standing()


@functools.lru_cache(maxsize=1000)
def length(name: str) -> float:
    """Return how long a window is, in seconds; 0 when its name does not say."""
    match = _WINDOW_NAME.match(name)
    return int(match[1]) * _UNITS[match[2]] if match else 0.0


@dataclass
class Ramp:
    """How quickly a credential takes over the sessions of others."""

    begun: float = 0.0
    last: float = float("-inf")
    taken: int = 0

    def is_full(self, now: float) -> bool:
        """Whether it has taken as many as it may by now."""
        if now - self.last >= RAMP_SECONDS or now - self.begun >= RAMP_SECONDS:
            return False
        return self.taken >= FIRST_MOVED << int((now - self.begun) / RAMP_STEP_SECONDS)

    def take(self, now: float) -> None:
        """Note that it takes over a session."""
        if now - self.last >= RAMP_SECONDS:
            self.begun, self.taken = now, 0
        self.last = now
        self.taken += 1
