"""The queue of requests that wait for a credential. Plain: no I/O, and time is an argument.

Six rules:

1. Users take turns; the requests of one user are served in order of arrival. A request that was admitted in vain is first
   again.
2. The first admitted request tests the credential. The others follow after a good response, or after ``PROOF_SECONDS``
   without a refusal.
3. Then they follow quickly, one more at each step, until no credential is available.
4. A request that cannot use the available credentials is skipped and keeps its place.
5. A request that cannot be served within its time is refused as soon as that is known, at the latest when its time ends.
6. The queue has at most ``MAX_PLACES`` places. When it is full, the user with the most places gives up the last one to a user
   with fewer.
"""

import math
from bisect import insort
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

MAX_PLACES = 1000
# A limit is reported within a fraction of this time; the response itself may take minutes to start.
PROOF_SECONDS = 2.0
STEP_SECONDS = 0.05
# A cooldown can end early, so the queue checks at this interval, in seconds.
LOOK_SECONDS = 1.0
# The minimum pause: a sum of times may be slightly early.
LEAST_SECONDS = 0.001


@dataclass(eq=False)
class Place:
    """One waiting request. ``delay`` returns the seconds until a credential is available for it, 0 for now.

    ``until`` is the end of its waiting time. ``is_picky``: it cannot use every credential, so others may overtake it.
    """

    user: str
    until: float
    delay: Callable[[], float]
    arrival: int = 0
    is_picky: bool = False
    # None while it waits, True when it is admitted, False when it is refused.
    may_ask: bool | None = field(default=None, init=False)


class Line:
    """The requests that wait for the same pool."""

    def __init__(self) -> None:
        # By user, in the order of their turns; per user in order of arrival.
        self._places: OrderedDict[str, list[Place]] = OrderedDict()
        self._count = 0
        self._picky = 0
        # Whether the available credential has proved good; how many requests the next step admits, and when.
        self._is_proved = False
        self._step = 0
        self._next_at = -math.inf

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Place]:
        """Yield every place, by user in the order of their turns."""
        return (place for places in self._places.values() for place in places)

    @property
    def holds_up(self) -> bool:
        """Whether a new request must wait, because waiting requests could use the same credentials."""
        return self._count > self._picky

    def join(self, place: Place, *, again: bool = False) -> list[Place]:
        """Add a request; return the refused places, perhaps this one. ``again``: the request was admitted before."""
        settled = []
        if self._count >= MAX_PLACES:
            longest = max(self._places.values(), key=len)
            if len(longest) <= len(self._places.get(place.user, ())) + 1:
                place.may_ask = False
                return [place]
            settled.append(self._settle(longest[-1], may_ask=False))
        insort(self._places.setdefault(place.user, []), place, key=lambda one: one.arrival)
        if again:
            self._places.move_to_end(place.user, last=False)
        self._count += 1
        self._picky += place.is_picky
        return settled

    def leave(self, place: Place) -> None:
        """Remove the place of a request, if it still has one."""
        places = self._places.get(place.user, [])
        if place in places:
            places.remove(place)
            self._count -= 1
            self._picky -= place.is_picky
            if not places:
                del self._places[place.user]

    def heard(self, *, good: bool) -> None:
        """Record the result of an admitted request: whether its response shows that the credential is good."""
        if not self._is_proved:
            self._is_proved, self._next_at = good, -math.inf

    def look(self, now: float) -> tuple[list[Place], float]:
        """Admit and refuse places; return those, and the maximum seconds until the next call."""
        settled = [self._settle(place, may_ask=False) for place in [*self] if place.until <= now]
        if self._ready() is None:
            in_vain, pause = self._nobody_usable(now)
            settled += in_vain
        else:
            if self._next_at <= now:
                settled += self._let_go(now)
            pause = self._next_at - now
        return settled, max(LEAST_SECONDS, min(pause, *(place.until - now for place in self), LOOK_SECONDS))

    def _let_go(self, now: float) -> list[Place]:
        """Admit as many requests as the current step permits, in the order of turns."""
        self._is_proved = self._is_proved or self._next_at > -math.inf
        settled = [self._settle(place, may_ask=True) for _ in range(1 + self._step) if (place := self._ready())]
        self._step += self._is_proved
        self._next_at = now + (STEP_SECONDS if self._is_proved else PROOF_SECONDS)
        return settled

    def _nobody_usable(self, now: float) -> tuple[list[Place], float]:
        """Start again with the next credential; refuse the places whose time ends before one is available."""
        self._is_proved, self._step, self._next_at = False, 0, -math.inf
        delays = [(place, place.delay()) for place in self]
        in_vain = [self._settle(place, may_ask=False) for place, delay in delays if now + delay >= place.until]
        return in_vain, min((delay for _, delay in delays), default=LOOK_SECONDS)

    def _ready(self) -> Place | None:
        """Return the first place for which a credential is available now."""
        return next((place for place in self if place.delay() <= 0), None)

    def _settle(self, place: Place, *, may_ask: bool) -> Place:
        self.leave(place)
        place.may_ask = may_ask
        if may_ask and place.user in self._places:
            self._places.move_to_end(place.user)
        return place
