"""A week of a team's work on a made clock: sessions that come and go, a fake Anthropic with quotas, the real pool and flow.

The flow is that of ``benchmarks/stepped.py``; ``make simulate`` plays a richer week on it.
"""

import itertools
import random
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from benchmarks.accounts import LENGTHS, Quota, metered
from benchmarks.stepped import MONDAY, Clock, Events, Flow, Handlers, Response
from claude_proxy.credentials.credential import Credential, Kind
from claude_proxy.credentials.pool import Affinity, Pool, PoolRequest
from claude_proxy.credentials.scope import Scope
from claude_proxy.credentials.upstream_response import UNIFIED
from claude_proxy.secret import Secret

__all__ = ["FAMILY", "LABELS", "MONDAY", "Blind", "Clairvoyant", "Clock", "Served", "Simulation", "Trace"]

HOUR, DAY = 3600.0, 86400.0
WEEK = 7 * DAY
FAMILY = "opus"

LABELS = "abcdefgh"
SEATS, LOAD = 50, 0.9
# Budgets, in full 5-hour windows: five working days of two windows use up a week, so that 90 % is near both limits.
BUDGETS = {"5h": 1.0, "7d": 10.0}


# --- Anthropic -----------------------------------------------------------------------------------------------------------


class Anthropic:
    """Serves a credential while both of its windows have something left; what an answer costs is known when it ends.

    The credentials were bought on different days, so the weeks of their 7-day windows end one after the other. On Monday each
    is as full as the same work makes it by then, or, for a team that has been ``careless``, anything from a third to full.
    """

    def __init__(self, rng: random.Random, *, careless: bool) -> None:
        self.quotas = {label: {name: Quota(name, budget) for name, budget in BUDGETS.items()} for label in LABELS}
        for place, quotas in enumerate(self.quotas.values()):
            day = 7 * (place + rng.random()) / len(self.quotas)
            working_days_so_far = max(0.0, 5 - day)
            used = rng.uniform(0.3, 1) if careless else LOAD * working_days_so_far / 5
            quotas["7d"].reset = float(int(MONDAY + day * DAY))
            quotas["7d"].used = BUDGETS["7d"] * used

    def is_spent(self, label: str, now: float) -> bool:
        return any(quota.is_spent(now) for quota in self.quotas[label].values())

    def answer(self, label: str, now: float) -> Response:
        return metered(self.quotas[label].values(), now)

    def charge(self, label: str, cost: float) -> None:
        for quota in self.quotas[label].values():
            quota.used += cost


# --- The team's work -----------------------------------------------------------------------------------------------------


class Request(NamedTuple):
    at: float
    session: str
    cost: float


def week_of_work(rng: random.Random) -> list[Request]:
    """Return the requests of a week, in order, which cost 90 % of what the credentials may spend in 7 days.

    Fifty seats work from morning to evening, a few on the week-end. Each has one session after the other, of minutes to
    hours, with pauses between; people and sessions differ in how often they ask and how much; subagents ask together.
    """
    found: list[Request] = []
    names = (f"session-{number:05}" for number in itertools.count())
    for _ in range(SEATS):
        pace, thirst = rng.lognormvariate(0, 0.4), rng.lognormvariate(0, 0.5)
        for day in range(7):
            if rng.random() < (0, 0, 0, 0, 0, 0.85, 0.95)[day]:
                continue
            now = MONDAY + day * DAY + rng.gauss(9, 1) * HOUR
            end = min(MONDAY + day * DAY + rng.gauss(18, 1.2) * HOUR, MONDAY + WEEK)
            while now < end:
                until = min(end, now + min(8 * HOUR, rng.lognormvariate(0.7, 0.8) * HOUR))
                found += _session(rng, next(names), now, until, pace, thirst)
                now = until + rng.expovariate(1 / (0.4 * HOUR))
    scale = LOAD * len(LABELS) * BUDGETS["7d"] / sum(request.cost for request in found)
    return sorted(request._replace(cost=request.cost * scale) for request in found)


def _session(rng: random.Random, name: str, now: float, until: float, pace: float, thirst: float) -> Iterator[Request]:
    per_hour = 6 * pace * rng.lognormvariate(0, 0.5)
    cost = thirst * rng.lognormvariate(0, 0.5)
    while now < until:
        yield Request(now, name, cost * rng.lognormvariate(0, 0.8))
        if rng.random() < 0.04:
            for _ in range(rng.randint(2, 5)):
                yield Request(now + rng.uniform(5, 20), name, cost * rng.lognormvariate(-0.7, 0.8))
        now += 20 + rng.expovariate(per_hour / HOUR)


# --- What a run leaves behind --------------------------------------------------------------------------------------------


class Sent(NamedTuple):
    """A request that left, and the latest end of a rest that Anthropic had named for that credential by then."""

    at: float
    label: str
    rests_until: float
    # Whether every credential rested then, as far as answers had told.
    all_rate_limited: bool


class Served(NamedTuple):
    at: float
    session: str
    label: str


class Refused(NamedTuple):
    """A request for which the pool had nobody, and who would have served it."""

    at: float
    session: str
    able: tuple[str, ...]


@dataclass
class Trace:
    """What Anthropic and the clients saw; nothing in it is the pool's word."""

    sent: list[Sent] = field(default_factory=list)
    served: list[Served] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    # When each credential ran out, until when it served nobody, and which window it was.
    spent: list[tuple[str, float, float, str]] = field(default_factory=list)

    def moves(self) -> int:
        """Return how often a session's answer came from another credential than its answer before."""
        return sum(before.label != after.label for before, after in self._pairs())

    def forced_moves(self) -> int:
        """Return how many moves nobody could have avoided, with the sessions where they stood.

        Counted by the windows that ran out: for each, the sessions whose last answer was this credential's and that
        were served again before it opened anew. Whoever serves them has to take another credential, so each of these
        costs one move at least, and no move is counted twice: it leaves one credential, during one of its rests.
        """
        stretches: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for label, start, end, _ in self.spent:
            stretches[label].append((start, end))
        forced = set()
        for before, after in self._pairs():
            for start, end in stretches[before.label]:
                # A request may be under way, and served, while an earlier one's cost uses up the window.
                if before.at < end and start <= after.at < end and after.label != before.label:
                    forced.add((before.label, start, before.session))
        return len(forced)

    def _pairs(self) -> Iterator[tuple[Served, Served]]:
        last: dict[str, Served] = {}
        for served in self.served:
            if served.session in last:
                yield last[served.session], served
            last[served.session] = served


# --- The run -------------------------------------------------------------------------------------------------------------


class Simulation(Events):
    """``week_of_work`` through ``Rotation`` and a pool. A client that is refused comes back when it is told to."""

    def __init__(self, seed: int, *, careless: bool = False) -> None:
        super().__init__()
        self.rng = random.Random(seed)
        self.requests = week_of_work(self.rng)
        self.anthropic = Anthropic(self.rng, careless=careless)
        credentials = [Credential(label, Kind.OAUTH, Secret(f"sk-ant-oat01-made-up-{label}")) for label in LABELS]
        self.pool = Pool(credentials, affinity=Affinity.SESSION, quarantine=900.0, clock=self.clock)
        self.trace = Trace()
        self._cooldowns: dict[str, float] = defaultdict(float)
        self._handlers = Handlers(self._sent, self._ended, self._pool_refusal)

    def run(self) -> Trace:
        for request in self.requests:
            self.at(request.at, self._begin, request)
        self.run_all()
        return self.trace

    def _begin(self, request: Request) -> None:
        Flow(self, self.pool, PoolRequest(request.session, Scope(FAMILY)), self._handlers, request)

    def _ended(self, flow: Flow, status: int) -> None:
        """A served request costs at its end, which ``_serve`` has seen to."""

    def _pool_refusal(self, flow: Flow) -> None:
        self.trace.refused.append(Refused(self.clock.now, flow.what.session, self._able()))
        self.at(self.clock.now + self.pool.retry_after(Scope(FAMILY)), self._begin, flow.what)

    def _sent(self, flow: Flow, label: str) -> None:
        now = self.clock.now
        self.trace.sent.append(Sent(now, label, self._cooldowns[label], all(self._cooldowns[one] > now for one in LABELS)))
        self.at(now + self.rng.uniform(0.05, 0.15), self._arrive, flow, label)

    def _arrive(self, flow: Flow, label: str) -> None:
        """Anthropic decides when a request arrives; its headers come a little later, and the cost is counted at the end."""
        now = self.clock.now
        response = self.anthropic.answer(label, now)
        if response.status == 200:
            self.at(now + self.rng.uniform(1, 3), flow.go_on, response)
            self._serve(flow.what, label)
        else:
            self.at(now + 0.1, self._rejected, flow, label, response)

    def _rejected(self, flow: Flow, label: str, response: Response) -> None:
        self._cooldowns[label] = max(self._cooldowns[label], float(dict(response.headers)[f"{UNIFIED}reset"]))
        flow.go_on(response)

    def _serve(self, request: Request, label: str) -> None:
        self.trace.served.append(Served(self.clock.now, request.session, label))
        self.at(self.clock.now + self.rng.uniform(5, 60), self._end, request, label)

    def _able(self) -> tuple[str, ...]:
        return tuple(label for label in LABELS if not self.anthropic.is_spent(label, self.clock.now))

    def _end(self, request: Request, label: str) -> None:
        now = self.clock.now
        was_spent = self.anthropic.is_spent(label, now)
        self.anthropic.charge(label, request.cost)
        if not was_spent and self.anthropic.is_spent(label, now):
            last = max((one for one in self.anthropic.quotas[label].values() if one.is_spent(now)), key=lambda one: one.reset)
            self.trace.spent.append((label, now, last.reset, last.name))


# --- Yardsticks ----------------------------------------------------------------------------------------------------------


class Yardstick(Simulation):
    """The same week without a pool: a session moves only when it must, as in the pool, and ``cost`` says where to."""

    def __init__(self, seed: int, *, careless: bool = False) -> None:
        super().__init__(seed, careless=careless)
        self._places: dict[str, str] = {}
        self._taken: Counter[str] = Counter()

    def _begin(self, request: Request) -> None:
        now, session, able = self.clock.now, request.session, self._able()
        if not able:
            resets = [[one.reset for one in quotas.values() if one.is_spent(now)] for quotas in self.anthropic.quotas.values()]
            self.trace.refused.append(Refused(now, session, able))
            self.at(min(map(max, resets)), self._begin, request)
            return
        if self._places.get(session) not in able:
            self._places[session] = min(able, key=lambda label: self.cost(label, session))
            self._taken[self._places[session]] += 1
        label = self._places[session]
        for quota in self.anthropic.quotas[label].values():
            quota.open(now)
        self._serve(request, label)

    def cost(self, label: str, session: str) -> float:
        raise NotImplementedError


class Blind(Yardstick):
    """Knows nothing of anybody's limits: takes the credentials in turn, past those that are spent, which it is told."""

    def cost(self, label: str, session: str) -> float:
        return self._taken[label]


class Clairvoyant(Yardstick):
    """Knows what every session will ask for: takes the credential that will be the least full when its windows end."""

    def __init__(self, seed: int, *, careless: bool = False) -> None:
        super().__init__(seed, careless=careless)
        # When each session asks, and what it has cost before each of these moments.
        self._when: dict[str, list[float]] = defaultdict(list)
        self._costs: dict[str, list[float]] = defaultdict(lambda: [0.0])
        for at, session, cost in self.requests:
            self._when[session].append(at)
            self._costs[session].append(self._costs[session][-1] + cost)

    def cost(self, label: str, session: str) -> float:
        now = self.clock.now
        sessions = {one for one, place in self._places.items() if place == label and self._when[one][-1] > now} | {session}
        fullest = 0.0
        for quota in self.anthropic.quotas[label].values():
            end, used = (quota.reset, quota.used) if quota.is_open(now) else (now + LENGTHS[quota.name], 0.0)
            fullest = max(fullest, (used + sum(self._future(one, now, end) for one in sessions)) / BUDGETS[quota.name])
        return fullest

    def _future(self, session: str, now: float, end: float) -> float:
        when, costs = self._when[session], self._costs[session]
        return costs[bisect_left(when, end)] - costs[bisect_left(when, now)]
