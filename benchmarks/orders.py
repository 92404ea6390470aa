"""Two orders for comparison: the project's order before scopes, probes and terms, and an omniscient one."""

from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass, field

from benchmarks.accounts import BUDGETS, LENGTHS, OUTPUT, READ, WRITTEN, Account
from benchmarks.demand import HOUR, SimulatedRequest
from benchmarks.stepped import COOLDOWN, Response
from benchmarks.week import MAX_WAIT, QUARANTINE, RETRIES, RETRY_SECONDS, Week, World, response_of
from claude_proxy.credentials.upstream_response import UNIFIED

SOFT_LIMIT, SESSION_SHARE = 0.98, 0.1
IDLE, ACTIVE = 6 * HOUR, HOUR
# How often a waiting request of these orders checks again, in seconds.
LOOK_SECONDS = 1.0


@dataclass
class Known:
    """What the earlier order knows of an account: cooldowns and windows, by family; the empty family is all models."""

    account: Account
    cooldowns: dict[str, float] = field(default_factory=dict)
    windows: dict[str, tuple[str, float, float]] = field(default_factory=dict)
    sessions: dict[str, float] = field(default_factory=dict)

    def usable_at(self, family: str) -> float:
        """Return when the account may be used for a family."""
        return max(self.cooldowns.get("", 0.0), self.cooldowns.get(family, 0.0))

    def committed(self, family: str, now: float) -> tuple[bool, int]:
        """Return whether the account is at the soft limit, and how much of it is committed, in hundredths."""
        self.sessions = {name: used for name, used in self.sessions.items() if used > now - ACTIVE}
        fullest = max((used for of, used, reset in self.windows.values() if of in ("", family) and reset > now), default=0.0)
        return fullest >= SOFT_LIMIT, int(100 * fullest + 100 * SESSION_SHARE * len(self.sessions) + 1e-4)


class BeforeWeek(Week):
    """The rules of git revision 4b4496c: the most headroom, and cooldowns that last as long as announced.

    1. a 429 starts a cooldown for all models, or for the family whose window alone is full, until the time that it names; one
       that only says when to retry, such as that of token counting, starts it for all models;
    2. a 401 rejects the account for the quarantine; no cooldown ends early, and no account is used during its cooldown;
    3. a session keeps its account while that is usable; else the account with the most headroom takes it, round robin among
       equals.
    """

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._known = [Known(account) for account in self.anthropic.accounts.values()]
        self._places: dict[str, tuple[Known, float]] = {}
        self._cursor = 0
        self._overloads: dict[SimulatedRequest, int] = {}

    def begin(self, request: SimulatedRequest) -> None:
        """Start a request, for the first time or again."""
        self._ask(request, (), self.clock.now + MAX_WAIT)

    def _ask(self, request: SimulatedRequest, tried: tuple[Known, ...], until: float) -> None:
        now = self.clock.now
        usable = [one for one in self._known if one.usable_at(request.family) <= now and one not in tried]
        if usable:
            chosen = self._choose(request, usable)
            self.at(now + self.rng.uniform(0.05, 0.15), self._arrive, request, chosen, (*tried, chosen), until)
            return
        back = min(one.usable_at(request.family) for one in self._known)
        if now < back <= until:
            self.at(back, self._ask, request, (), until)
        else:
            self.refuse(request, max(1.0, back - now))

    def _choose(self, request: SimulatedRequest, usable: list[Known]) -> Known:
        now = self.clock.now
        bound, last = self._places.get(request.session, (None, 0.0))
        if bound is None or bound not in usable or last < now - IDLE:
            count = len(self._known)
            chosen = min(
                usable,
                key=lambda one: (one.committed(request.family, now), (self._known.index(one) - self._cursor) % count),
            )
            self._cursor = (self._known.index(chosen) + 1) % count
            if bound is not None:
                bound.sessions.pop(request.session, None)
            bound = chosen
        self._places[request.session] = bound, now
        bound.sessions[request.session] = now
        return bound

    def _arrive(self, request: SimulatedRequest, known: Known, tried: tuple[Known, ...], until: float) -> None:
        response = response_of(self, request, known.account)
        self._learn(request, known, response)
        if response.status == 200:
            self.serve(request, known.account)
        elif response.status == 529:
            overloads = self._overloads[request] = self._overloads.get(request, 0) + 1
            if overloads <= RETRIES:
                self.at(self.clock.now + RETRY_SECONDS, self.begin, request)
            else:
                self.refuse(request, RETRY_SECONDS * overloads, overloaded=True)
        else:
            self.at(self.clock.now + 0.1, self._ask, request, tried, until)

    def _learn(self, request: SimulatedRequest, known: Known, response: Response) -> None:
        now, headers = self.clock.now, response.first_headers
        full: dict[str, float] = {}
        for name in BUDGETS:
            if f"{UNIFIED}{name}-reset" not in headers:
                continue
            family = request.family if "_" in name else ""
            reset = float(headers[f"{UNIFIED}{name}-reset"])
            known.windows[name] = family, float(headers[f"{UNIFIED}{name}-utilization"]), reset
            if headers[f"{UNIFIED}{name}-status"] == "rejected":
                full[family] = max(full.get(family, 0.0), reset)
        if response.status == 401:
            full = {"": now + QUARANTINE}
        elif response.status == 429 and not full:
            full = {"": now + float(headers.get("retry-after", COOLDOWN))}
        for family, end in full.items() if response.status in (401, 429) else ():
            known.cooldowns[family] = max(end, known.cooldowns.get(family, 0.0))


class OmniscientWeek(Week):
    """Knows which accounts can serve, and all future requests of every session.

    A session moves only when it must, to the account that will be the least full when its windows end.
    """

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._places: dict[str, Account] = {}
        # The times of each session's requests, and the session's cost before each of them.
        self._when: dict[str, list[float]] = defaultdict(list)
        self._costs: dict[str, list[float]] = defaultdict(lambda: [0.0])
        for request in world.requests:
            if not request.counts:
                cost = request.context * READ + request.fresh * WRITTEN + request.output * OUTPUT
                self._when[request.session].append(request.at)
                self._costs[request.session].append(self._costs[request.session][-1] + cost / world.unit)

    def begin(self, request: SimulatedRequest) -> None:
        """Start a request, for the first time or again."""
        self._ask(request, self.clock.now + MAX_WAIT)

    def _ask(self, request: SimulatedRequest, until: float) -> None:
        able = self.could_serve(request)
        if not able:
            if self.clock.now + LOOK_SECONDS <= until:
                self.at(self.clock.now + LOOK_SECONDS, self._ask, request, until)
            else:
                self.refuse(request, MAX_WAIT)
            return
        account = self._places.get(request.session)
        if account is None or account not in able:
            account = min(able, key=lambda one: self._fullness(one, request.session))
            if not request.counts:
                self._places[request.session] = account
        if response_of(self, request, account).status == 200:
            self.serve(request, account)

    def _fullness(self, account: Account, session: str) -> float:
        now = self.clock.now
        there = {one for one, place in self._places.items() if place is account and self._when[one][-1] > now} | {session}
        fullest = 0.0
        for name in ("5h", "7d"):
            quota = account.quotas[name]
            end, used = (quota.reset, quota.used) if quota.is_open(now) else (now + LENGTHS[name], 0.0)
            fullest = max(fullest, (used + sum(self._future(one, now, end) for one in there)) / BUDGETS[name])
        return fullest

    def _future(self, session: str, now: float, end: float) -> float:
        when, costs = self._when[session], self._costs[session]
        return costs[bisect_left(when, end)] - costs[bisect_left(when, now)]
