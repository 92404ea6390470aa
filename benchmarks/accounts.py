"""A simulated Anthropic: accounts with limits per account, family and endpoint, early resets, incidents and prompt caches."""

import json
import random
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from benchmarks.demand import DAY, HOUR, WEEK, SimulatedRequest
from benchmarks.stepped import MONDAY, Response
from claude_proxy.anthropic.errors import error_body
from claude_proxy.credentials.upstream_response import UNIFIED

# Budgets in full five-hour windows; a week's working hours contain about ten. Opus has a weekly window of its own.
BUDGETS = {"5h": 1.0, "7d": 7.0, "7d_opus": 5.0}
LENGTHS = {"5h": 5 * HOUR, "7d": WEEK, "7d_opus": WEEK}
CLAIMS = {"5h": "five_hour", "7d": "seven_day", "7d_opus": "seven_day_opus"}
# The cost of a token relative to an input token: read from the cache, written to the cache, and output.
READ, WRITTEN, OUTPUT = 0.1, 1.25, 5.0
# How long a prompt cache is kept after its last use, in seconds.
CACHE_SECONDS = 3600.0
# The number of token-count requests per minute that an account serves.
COUNTS_A_MINUTE = 30


@dataclass
class Quota:
    """One window of one account. It opens with the first request served after its last end."""

    name: str
    # The size of the window.
    budget: float
    used: float = 0.0
    reset: float = 0.0

    @property
    def fullness(self) -> float:
        """How much of the window is used, as a fraction."""
        return self.used / self.budget

    def is_open(self, now: float) -> bool:
        """Whether the window has started and not ended."""
        return now < self.reset

    def is_spent(self, now: float) -> bool:
        """Whether the window is used up."""
        return self.is_open(now) and self.fullness >= 1

    def open(self, now: float) -> None:
        """Start the window if it is not open."""
        if not self.is_open(now):
            self.used, self.reset = 0.0, float(int(now) + int(LENGTHS[self.name]))

    def headers(self, now: float) -> dict[str, str]:
        """Return the response headers about the window."""
        if not self.is_open(now):
            return {}
        return {
            f"{UNIFIED}{self.name}-status": "rejected" if self.is_spent(now) else "allowed",
            f"{UNIFIED}{self.name}-utilization": f"{self.fullness:.4f}",
            f"{UNIFIED}{self.name}-reset": f"{self.reset:.0f}",
        }


def metered(quotas: Collection[Quota], now: float) -> Response:
    """Return Anthropic's response to a request in these windows. A served request opens the windows that are not open."""
    spent = [quota for quota in quotas if quota.is_spent(now)]
    if not spent:
        for quota in quotas:
            quota.open(now)
    last = max(spent or quotas, key=lambda quota: quota.reset)
    headers = {name: text for quota in quotas for name, text in quota.headers(now).items()} | {
        f"{UNIFIED}status": "rejected" if spent else "allowed",
        f"{UNIFIED}reset": f"{last.reset:.0f}",
        f"{UNIFIED}representative-claim": CLAIMS[last.name],
    }
    if not spent:
        return Response(200, headers)
    return _error(429, "rate_limit_error", "This request would exceed a limit.", headers | _after(last.reset - now))


@dataclass
class Account:
    """One account: its windows, its minute of token counts, the end of its token's rejection, and its prompt caches."""

    label: str
    quotas: dict[str, Quota] = field(default_factory=lambda: {name: Quota(name, budget) for name, budget in BUDGETS.items()})
    refuses_until: float = 0.0
    minute: float = 0.0
    counted: int = 0
    cached: dict[str, float] = field(default_factory=dict)
    # Whether its windows were reset early, or its token is accepted again, and no response has shown it yet.
    is_unreported: bool = False

    def concerned(self, family: str) -> list[Quota]:
        """Return the windows that apply to a request for a model family."""
        return [quota for name, quota in self.quotas.items() if name != "7d_opus" or family == "opus"]

    def has_counted(self, now: float) -> bool:
        """Whether the account's token counts of this minute are used up."""
        return now < self.minute + 60 and self.counted >= COUNTS_A_MINUTE


class Incident(NamedTuple):
    """A time in which every account is rejected (401), or every request (529)."""

    begin: float
    end: float
    status: int


class Anthropic:
    """The accounts. ``load`` is how full the weeks before have made their windows. The same seed gives the same accounts.

    The accounts started on different days, so their weekly windows end one after the other.
    """

    def __init__(self, rng: random.Random, count: int, load: float, *, calm: bool = False) -> None:
        self.accounts = {f"account-{number:02}": Account(f"account-{number:02}") for number in range(1, count + 1)}
        self.incidents: list[Incident] = []
        for place, account in enumerate(rng.sample([*self.accounts.values()], count)):
            day = 7 * (place + rng.random()) / count
            past = max(0.0, 5 - day) / 5
            used = min(1.0, load * past * rng.uniform(0.5, 1.3))
            for name in ("7d", "7d_opus"):
                account.quotas[name].reset = float(int(MONDAY + day * DAY))
                account.quotas[name].used = BUDGETS[name] * used
        if not calm:
            at = MONDAY + DAY + rng.uniform(10, 16) * HOUR
            self.incidents.append(Incident(at, at + 60, 401))
            for day in (0, 2, 3):
                at = MONDAY + day * DAY + rng.uniform(9, 17) * HOUR
                self.incidents.append(Incident(at, at + rng.uniform(30, 120), 529))

    def events(self, rng: random.Random) -> Iterable[tuple[float, list[Account], float]]:
        """Yield when which accounts are reset early (0 hours), or have their token rejected for so many hours."""
        accounts = [*self.accounts.values()]
        yield MONDAY + 1.6 * DAY, [rng.choice(accounts)], 3.0
        yield MONDAY + 2.55 * DAY, accounts, 0.0
        yield MONDAY + 3.6 * DAY, [rng.choice(accounts)], 0.0

    def reset(self, account: Account) -> None:
        """Reset an account's windows early; no header reports it."""
        for quota in account.quotas.values():
            quota.used, quota.reset = 0.0, 0.0
        account.is_unreported = True

    def could_serve(self, account: Account, request: SimulatedRequest, now: float) -> bool:
        """Whether the account would serve such a request now."""
        if account.refuses_until > now or any(one.begin <= now < one.end for one in self.incidents):
            return False
        if request.counts and account.has_counted(now):
            return False
        return not any(quota.is_spent(now) for quota in account.concerned(request.family))

    def respond(self, account: Account, request: SimulatedRequest, now: float) -> Response:
        """Return the response to a request that arrives now; its cost is known when it ends."""
        trouble = next((one.status for one in self.incidents if one.begin <= now < one.end), 0)
        if trouble == 529:
            return _error(529, "overloaded_error", "Overloaded")
        if trouble or account.refuses_until > now:
            return _error(401, "authentication_error", "Invalid authentication credentials")
        quotas = account.concerned(request.family)
        spent = [quota for quota in quotas if quota.is_spent(now)]
        if request.counts and not spent:
            return self._counted(account, now)
        if not spent:
            account.is_unreported = False
        return metered(quotas, now)

    def cost(self, account: Account, request: SimulatedRequest, now: float) -> float:
        """Return the cost of a request that ends now, in input tokens, and put its context into the account's cache."""
        if request.counts:
            return 0.0
        warm = request.context == 0 or self.is_warm(account, request, now)
        if request.context:
            account.cached[request.session] = now
        return request.context * (READ if warm else WRITTEN) + request.fresh * WRITTEN + request.output * OUTPUT

    def is_warm(self, account: Account, request: SimulatedRequest, now: float) -> bool:
        """Whether the account's cache has the session's context."""
        return account.cached.get(request.session, -CACHE_SECONDS) > now - CACHE_SECONDS

    def _counted(self, account: Account, now: float) -> Response:
        if now >= account.minute + 60:
            account.minute, account.counted = now, 0
        if account.has_counted(now):
            return _error(429, "rate_limit_error", "Too many requests.", _after(account.minute + 60 - now))
        account.counted += 1
        return Response(200, {})


def _after(seconds: float) -> dict[str, str]:
    return {"retry-after": f"{max(1, seconds):.0f}"}


def _error(status: int, kind: str, words: str, headers: dict[str, str] | None = None) -> Response:
    return Response(status, headers or {}, json.dumps(error_body(kind, words)).encode())
