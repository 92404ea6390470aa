"""Who waits for a credential, and whose turn it is when one is back. Plain: no I/O, and time is an argument.

Six rules:

1. users take turns; of one user, who came first goes first, and who was let go for nothing has the first turn again;
2. the first one that is let go finds out whether the credential is good: the others follow after a good response, or after
   ``PROOF_SECONDS`` in which none said otherwise;
3. then they follow quickly, at each step one more than at the step before, until nobody is usable;
4. who can use nothing that is usable is passed over, and keeps its place;
5. who cannot be served within its time gives up as soon as that is known, and at its end at the latest;
6. there are at most ``MAX_PLACES``: in a full line the user with the most of them gives its last one up to one with fewer.
"""

import math
from bisect import insort
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

MAX_PLACES = 1000
# A limit is told within a fraction of this; the response itself may take minutes to begin.
PROOF_SECONDS = 2.0
STEP_SECONDS = 0.05
# A rest can end before its time: so often somebody looks, in seconds.
LOOK_SECONDS = 1.0
# Less is no pause: a sum of times may come out a little early.
LEAST_SECONDS = 0.001


@dataclass(eq=False)
class Place:
    """One request that waits. ``delay`` returns in how many seconds a credential is usable for it, 0 for now.

    ``until`` is the end of its time; ``is_picky`` says that it cannot use every credential, and holds up nobody who can.
    """

    user: str
    until: float
    delay: Callable[[], float]
    arrival: int = 0
    is_picky: bool = False
    # Whether it may ask now; None while it waits, False when it waits in vain.
    may_ask: bool | None = field(default=None, init=False)


class Line:
    """Those that wait for the same thing."""

    def __init__(self) -> None:
        # By user, in the order of their turns; of each user in the order of arrival.
        self._places: OrderedDict[str, list[Place]] = OrderedDict()
        self._count = 0
        self._picky = 0
        # Whether the credential that is back has proved good, and how many may go at the next step, from when on.
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
        """Whether one that comes now has to wait, because others wait who could use what it would use."""
        return self._count > self._picky

    def join(self, place: Place, *, again: bool = False) -> list[Place]:
        """Give a request its place; return those that have none any more, perhaps this one. ``again``: it was let go before."""
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
        """Take back the place of a request that waits no longer; one that has none is passed over."""
        places = self._places.get(place.user, [])
        if place in places:
            places.remove(place)
            self._count -= 1
            self._picky -= place.is_picky
            if not places:
                del self._places[place.user]

    def heard(self, *, good: bool) -> None:
        """Take in what became of one that was let go: whether its response shows that the credential is good."""
        if not self._is_proved:
            self._is_proved, self._next_at = good, -math.inf

    def look(self, now: float) -> tuple[list[Place], float]:
        """Settle who may ask and who waits in vain; return those, and after how many seconds to look again at the latest."""
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
        """Let go as many as it is time for, by whose turn it is."""
        self._is_proved = self._is_proved or self._next_at > -math.inf
        settled = [self._settle(place, may_ask=True) for _ in range(1 + self._step) if (place := self._ready())]
        self._step += self._is_proved
        self._next_at = now + (STEP_SECONDS if self._is_proved else PROOF_SECONDS)
        return settled

    def _nobody_usable(self, now: float) -> tuple[list[Place], float]:
        """Begin anew with the next credential that is back; settle those whose time ends before one is."""
        self._is_proved, self._step, self._next_at = False, 0, -math.inf
        delays = [(place, place.delay()) for place in self]
        in_vain = [self._settle(place, may_ask=False) for place, delay in delays if now + delay >= place.until]
        return in_vain, min((delay for _, delay in delays), default=LOOK_SECONDS)

    def _ready(self) -> Place | None:
        """Return the place whose turn it is among those for which a credential is usable now."""
        return next((place for place in self if place.delay() <= 0), None)

    def _settle(self, place: Place, *, may_ask: bool) -> Place:
        self.leave(place)
        place.may_ask = may_ask
        if may_ask and place.user in self._places:
            self._places.move_to_end(place.user)
        return place
