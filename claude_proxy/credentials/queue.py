"""The queue of requests that wait for a credential. Plain: no I/O, and time is an argument.

Six rules:

1. Users take turns; the requests of one user are served in order of arrival. A request that was admitted in vain is first
   again.
2. The first admitted request tests the credential. The others follow after a good response, or after ``PROOF_SECONDS``
   without a refusal.
3. Then they follow quickly, one more at each step, until no credential is available.
4. A request that cannot use the available credentials is skipped and keeps its place.
5. A request that cannot be served within its time is refused as soon as that is known, at the latest when its time ends.
6. The queue has at most ``MAX_WAITERS`` requests. When it is full, the user with the most requests loses the last one to a user
   with fewer.
"""

import math
from bisect import insort
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

MAX_WAITERS = 1000
# A limit is reported within a fraction of this time; the response itself may take minutes to start.
PROOF_SECONDS = 2.0
STEP_SECONDS = 0.05
# A cooldown can end early, so the queue checks at this interval, in seconds.
POLL_SECONDS = 1.0
# The minimum pause: a sum of times may be slightly early.
LEAST_SECONDS = 0.001


@dataclass(eq=False)
class Waiter:
    """One waiting request. ``delay`` returns the seconds until a credential is available for it, 0 for now.

    ``until`` is the end of its waiting time. ``is_restricted``: it cannot use every credential, so others may overtake it.
    """

    user: str
    until: float
    delay: Callable[[], float]
    arrival: int = 0
    is_restricted: bool = False
    # None while it waits, True when it is admitted, False when it is refused.
    is_admitted: bool | None = field(default=None, init=False)


class WaitQueue:
    """The requests that wait for the same pool."""

    def __init__(self) -> None:
        # By user, in the order of their turns; per user in order of arrival.
        self._waiters: OrderedDict[str, list[Waiter]] = OrderedDict()
        self._count = 0
        self._restricted = 0
        # Whether the available credential has proved good; how many requests the next step admits, and when.
        self._is_proved = False
        self._step = 0
        self._next_at = -math.inf

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Waiter]:
        """Yield every waiter, by user in the order of their turns."""
        return (waiter for waiters in self._waiters.values() for waiter in waiters)

    @property
    def must_wait(self) -> bool:
        """Whether a new request must wait, because waiting requests could use the same credentials."""
        return self._count > self._restricted

    def join(self, waiter: Waiter, *, again: bool = False) -> list[Waiter]:
        """Add a waiter; return the refused ones, perhaps this one. ``again``: the request was admitted before."""
        settled = []
        if self._count >= MAX_WAITERS:
            longest = max(self._waiters.values(), key=len)
            if len(longest) <= len(self._waiters.get(waiter.user, ())) + 1:
                waiter.is_admitted = False
                return [waiter]
            settled.append(self._settle(longest[-1], is_admitted=False))
        insort(self._waiters.setdefault(waiter.user, []), waiter, key=lambda one: one.arrival)
        if again:
            self._waiters.move_to_end(waiter.user, last=False)
        self._count += 1
        self._restricted += waiter.is_restricted
        return settled

    def leave(self, waiter: Waiter) -> None:
        """Remove a waiter, if it is still in the queue."""
        waiters = self._waiters.get(waiter.user, [])
        if waiter in waiters:
            waiters.remove(waiter)
            self._count -= 1
            self._restricted -= waiter.is_restricted
            if not waiters:
                del self._waiters[waiter.user]

    def report(self, *, good: bool) -> None:
        """Record the result of an admitted request: whether its response shows that the credential is good."""
        if not self._is_proved:
            self._is_proved, self._next_at = good, -math.inf

    def advance(self, now: float) -> tuple[list[Waiter], float]:
        """Admit and refuse waiters; return those, and the maximum seconds until the next call."""
        settled = [self._settle(waiter, is_admitted=False) for waiter in [*self] if waiter.until <= now]
        if self._ready() is None:
            in_vain, pause = self._reset(now)
            settled += in_vain
        else:
            if self._next_at <= now:
                settled += self._admit(now)
            pause = self._next_at - now
        return settled, max(LEAST_SECONDS, min(pause, *(waiter.until - now for waiter in self), POLL_SECONDS))

    def _admit(self, now: float) -> list[Waiter]:
        """Admit as many requests as the current step permits, in the order of turns."""
        self._is_proved = self._is_proved or self._next_at > -math.inf
        settled = [self._settle(waiter, is_admitted=True) for _ in range(1 + self._step) if (waiter := self._ready())]
        self._step += self._is_proved
        self._next_at = now + (STEP_SECONDS if self._is_proved else PROOF_SECONDS)
        return settled

    def _reset(self, now: float) -> tuple[list[Waiter], float]:
        """Start again with the next credential; refuse the waiters whose time ends before one is available."""
        self._is_proved, self._step, self._next_at = False, 0, -math.inf
        delays = [(waiter, waiter.delay()) for waiter in self]
        in_vain = [self._settle(waiter, is_admitted=False) for waiter, delay in delays if now + delay >= waiter.until]
        return in_vain, min((delay for _, delay in delays), default=POLL_SECONDS)

    def _ready(self) -> Waiter | None:
        """Return the first waiter for which a credential is available now."""
        return next((waiter for waiter in self if waiter.delay() <= 0), None)

    def _settle(self, waiter: Waiter, *, is_admitted: bool) -> Waiter:
        self.leave(waiter)
        waiter.is_admitted = is_admitted
        if is_admitted and waiter.user in self._waiters:
            self._waiters.move_to_end(waiter.user)
        return waiter
