"""The simulated requests of forty users in a week: sessions in working hours, subagents and token counts, by seed."""

import itertools
import random
from collections.abc import Iterator
from typing import NamedTuple

from benchmarks.stepped import MONDAY
from claude_proxy.credentials.scope import COUNT_TOKENS, MESSAGES

HOUR, DAY = 3600.0, 86400.0
WEEK = 7 * DAY
USERS = 40
# The probability that a user is away, from Monday on.
AWAY = (0.05, 0.05, 0.05, 0.05, 0.1, 0.85, 0.95)
FAMILIES = {"opus": 0.6, "sonnet": 0.4}
# Tokens: a session's first context, the size at which the client compacts it, and the size after that.
FIRST_CONTEXT, LARGEST_CONTEXT, SUMMARY = 25_000, 170_000, 20_000


class SimulatedRequest(NamedTuple):
    """A request: ``context`` tokens that the session has sent before, ``fresh`` new ones, and the output."""

    at: float
    session: str
    family: str
    context: int
    fresh: int
    output: int
    endpoint: str = MESSAGES
    user: int = 0

    @property
    def counts(self) -> bool:
        """Whether it is a token-count request."""
        return self.endpoint == COUNT_TOKENS


def dice(seed: int) -> random.Random:
    """Return the random numbers of a simulation, the same for the same seed."""
    return random.Random(seed)  # noqa: S311 - a game's dice, not a secret


def week_of_work(rng: random.Random, days: int = 7, users: int = USERS) -> list[SimulatedRequest]:
    """Return the requests of a week, or of its first days, in order."""
    found: list[SimulatedRequest] = []
    names = (f"session-{number:05}" for number in itertools.count())
    for user in range(users):
        pace, size = rng.lognormvariate(0, 0.4), rng.lognormvariate(0, 0.4)
        for day in range(days):
            if rng.random() < AWAY[day % 7]:
                continue
            now = MONDAY + day * DAY + rng.gauss(9, 1) * HOUR
            end = MONDAY + day * DAY + rng.gauss(18, 1.2) * HOUR
            while now < end:
                until = min(end, now + min(8 * HOUR, rng.lognormvariate(0.5, 0.8) * HOUR))
                found += _session(rng, (user, pace, size), next(names), now, until)
                now = until + rng.expovariate(1 / (0.4 * HOUR))
    return sorted(found)


def _session(
    rng: random.Random, person: tuple[int, float, float], name: str, now: float, until: float
) -> Iterator[SimulatedRequest]:
    user, pace, size = person
    per_hour = 10 * pace * rng.lognormvariate(0, 0.5)
    family = rng.choices([*FAMILIES], [*FAMILIES.values()])[0]
    context = FIRST_CONTEXT
    while now < until:
        fresh, output = int(size * rng.lognormvariate(8, 0.8)), int(size * rng.lognormvariate(6.5, 0.7))
        yield SimulatedRequest(now, name, family, context, fresh, output, user=user)
        context += fresh + output
        if context > LARGEST_CONTEXT:
            context = SUMMARY
        if rng.random() < 0.04:
            for _ in range(rng.randint(2, 5)):  # subagents start with a context of their own
                yield SimulatedRequest(now + rng.uniform(5, 20), name, family, 0, 15_000, output, user=user)
        if rng.random() < 0.03:
            for place in range(rng.randint(5, 20)):
                yield SimulatedRequest(now + 0.2 * place, name, family, context, 0, 0, COUNT_TOKENS, user)
        now += 15 + rng.expovariate(per_hour / HOUR)
