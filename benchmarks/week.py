"""A week of requests on the simulated accounts, and its figures; subclasses choose the accounts."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from benchmarks.accounts import BUDGETS, OUTPUT, READ, WRITTEN, Account, Anthropic
from benchmarks.demand import HOUR, SimulatedRequest, dice, week_of_work
from benchmarks.stepped import COOLDOWN, Events, Flow, Handlers, Response
from claude_proxy.credentials.credential import Credential, Kind
from claude_proxy.credentials.order import Order
from claude_proxy.credentials.pool import Affinity, Pool, PoolRequest
from claude_proxy.credentials.scope import STANDARD, Scope
from claude_proxy.secret import Secret

# CLAUDE_POOL_MAX_WAIT_SECONDS and CLAUDE_TOKEN_QUARANTINE_SECONDS, the same for all orders.
MAX_WAIT, QUARANTINE = 120.0, 900.0
# The client of a refused request retries if the wait is at most SOON seconds, up to TRIES times.
SOON, TRIES = 600.0, 5
# How often the proxy retries after a 529, and after how many seconds.
RETRIES, RETRY_SECONDS = 2, 2.0


class World:
    """The same for all orders: requests, accounts, and their state on Monday."""

    def __init__(self, seed: int, accounts: int, load: float, *, days: int = 7, calm: bool = False) -> None:
        self.seed, self.count, self.load, self.calm = seed, accounts, load, calm
        self.requests = week_of_work(dice(seed), days)
        total = sum(request.context * READ + request.fresh * WRITTEN + request.output * OUTPUT for request in self.requests)
        # Tokens of a full five-hour window: the demand is ``load`` times what the accounts provide in so many days.
        self.unit = total / (load * accounts * BUDGETS["7d"] * days / 7)

    def anthropic(self) -> Anthropic:
        """Return the accounts as they are on Monday."""
        return Anthropic(dice(self.seed + 1000), self.count, min(self.load, 1.0), calm=self.calm)


@dataclass
class Figures:
    """The results of a week with so many requests.

    ``lost`` are refused requests that some account would have served, as far as responses had announced.
    """

    requests: int = 0
    served: int = 0
    cost: float = 0.0
    lost: int = 0
    # Refused requests that only an account would have served whose reset or recovery no response had announced; those that no
    # account could have served; and the requests that were given up.
    unannounced: int = 0
    unable: int = 0
    given_up: int = 0
    switches: int = 0
    sessions: int = 0
    reread: int = 0
    attempts: int = 0


class Week(Events):
    """One week; ``begin`` starts a request, for the first time or again."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.rng = dice(world.seed + 2000)
        self.anthropic = world.anthropic()
        self.figures = Figures(len(world.requests))
        self._last: dict[str, Account] = {}
        self._tries: dict[SimulatedRequest, int] = {}

    def run(self) -> Figures:
        """Simulate the week; return its figures."""
        for request in self.world.requests:
            self.at(request.at, self.begin, request)
        if not self.world.calm:
            for moment, accounts, hours in self.anthropic.events(dice(self.world.seed + 3000)):
                self.at(moment, self._happen, accounts, hours)
        self.run_all()
        self.figures.sessions = len(self._last)
        return self.figures

    def begin(self, request: SimulatedRequest) -> None:
        """Start a request."""
        raise NotImplementedError

    def could_serve(self, request: SimulatedRequest) -> list[Account]:
        """Return the accounts that would serve a request now."""
        now = self.clock.now
        return [one for one in self.anthropic.accounts.values() if self.anthropic.could_serve(one, request, now)]

    def serve(self, request: SimulatedRequest, account: Account, done: Callable[[], None] = lambda: None) -> None:
        """Serve a request with an account; its cost applies when it ends, and then ``done`` is called."""
        self.figures.served += 1
        before = self._last.get(request.session)
        if not request.counts:
            self._last[request.session] = account
            if before is not None and before is not account:
                self.figures.switches += 1
                if request.context and self.anthropic.is_warm(before, request, self.clock.now):
                    self.figures.reread += request.context
        self.at(self.clock.now + self.rng.uniform(5, 60), self._end, request, account, done)

    def refuse(self, request: SimulatedRequest, seconds: float, *, overloaded: bool = False) -> None:
        """Refuse a request, with so many seconds as its ``retry-after``; ``overloaded``: because Anthropic is overloaded."""
        able = [] if overloaded else self.could_serve(request)
        if not able:
            self.figures.unable += 1
        elif all(account.is_unreported for account in able):
            self.figures.unannounced += 1
        else:
            self.figures.lost += 1
        tries = self._tries[request] = self._tries.get(request, 0) + 1
        if seconds <= SOON and tries < TRIES:
            self.at(self.clock.now + seconds, self.begin, request)
        else:
            self.figures.given_up += 1

    def _end(self, request: SimulatedRequest, account: Account, done: Callable[[], None]) -> None:
        cost = self.anthropic.cost(account, request, self.clock.now) / self.world.unit
        self.figures.cost += cost
        for quota in account.concerned(request.family) if cost else ():
            quota.used += cost
        done()

    def _happen(self, accounts: list[Account], hours: float) -> None:
        for account in accounts:
            if hours:
                account.refuses_until = self.clock.now + hours * HOUR
                self.at(account.refuses_until, self._recover, account)
            else:
                self.anthropic.reset(account)

    def _recover(self, account: Account) -> None:
        """Let an account accept its token again; no header announces it."""
        account.is_unreported = True


class OurWeek(Week):
    """A week with the project's own flow and pool."""

    def __init__(self, world: World, order: Order = Order.HEADROOM) -> None:
        super().__init__(world)
        credentials = [
            Credential(label, Kind.OAUTH, Secret(f"sk-ant-oat01-made-up-{label}")) for label in self.anthropic.accounts
        ]
        self.pool = Pool(
            credentials,
            affinity=Affinity.SESSION,
            quarantine=QUARANTINE,
            cooldown=COOLDOWN,
            clock=self.clock,
            order=order,
        )
        self._handlers = Handlers(self._sent, self._ended, self._no_credential)
        self._overloads: dict[SimulatedRequest, int] = {}

    def begin(self, request: SimulatedRequest) -> None:
        """Start a request in the flow."""
        wanted, user = PoolRequest(request.session, _scope(request)), f"user-{request.user}"
        Flow(self, self.pool, wanted, self._handlers, request, user=user, max_wait=MAX_WAIT)

    def _sent(self, flow: Flow, label: str) -> None:
        self.figures.attempts += 1
        self.at(self.clock.now + self.rng.uniform(0.05, 0.15), self._arrive, flow, self.anthropic.accounts[label])

    def _arrive(self, flow: Flow, account: Account) -> None:
        response = self.anthropic.respond(account, flow.what, self.clock.now)
        if response.status == 200:
            self.serve(flow.what, account, flow.release)
        self.at(self.clock.now + 0.1, flow.go_on, response)

    def _ended(self, flow: Flow, status: int) -> None:
        if status == 200:
            return
        flow.release()
        request: SimulatedRequest = flow.what
        overloads = self._overloads[request] = self._overloads.get(request, 0) + 1
        if overloads <= RETRIES:
            self.at(self.clock.now + RETRY_SECONDS, self.begin, request)
        else:
            self.refuse(request, RETRY_SECONDS * overloads, overloaded=True)

    def _no_credential(self, flow: Flow) -> None:
        self.refuse(flow.what, self.pool.retry_after(_scope(flow.what)))


reset_first = partial(OurWeek, order=Order.RESET_FIRST)


def response_of(week: Week, request: SimulatedRequest, account: Account) -> Response:
    """Return an account's response at this time, and count the attempt."""
    week.figures.attempts += 1
    return week.anthropic.respond(account, request, week.clock.now)


def _scope(request: SimulatedRequest) -> Scope:
    return Scope(request.family, request.endpoint, STANDARD)
