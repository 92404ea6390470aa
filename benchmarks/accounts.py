"""A made Anthropic: accounts with limits by account, by family and by endpoint, early resets, incidents, prompt caches."""

import json
import random
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from benchmarks.demand import DAY, HOUR, WEEK, Asked
from benchmarks.stepped import MONDAY, Response
from claude_proxy.anthropic.errors import error_body
from claude_proxy.credentials.upstream_response import UNIFIED

# Budgets in full five-hour windows, of which working hours see ten in a week; Opus has a week of its own.
BUDGETS = {"5h": 1.0, "7d": 7.0, "7d_opus": 5.0}
LENGTHS = {"5h": 5 * HOUR, "7d": WEEK, "7d_opus": WEEK}
CLAIMS = {"5h": "five_hour", "7d": "seven_day", "7d_opus": "seven_day_opus"}
# What a token costs beside one of input: read from the cache, written to it, and of output.
READ, WRITTEN, OUTPUT = 0.1, 1.25, 5.0
# For how long a prompt cache is kept after its last use, in seconds.
CACHE_SECONDS = 3600.0
# Requests to count tokens that an account is served in a minute.
COUNTS_A_MINUTE = 30


@dataclass
class Quota:
    """One window of one account: it opens with the first request that is served after the last one's end."""

    name: str
    # How much there is of it.
    budget: float
    used: float = 0.0
    reset: float = 0.0

    @property
    def fullness(self) -> float:
        """How full it is, as a fraction."""
        return self.used / self.budget

    def is_open(self, now: float) -> bool:
        """Whether it has begun and not ended."""
        return now < self.reset

    def is_spent(self, now: float) -> bool:
        """Whether nothing of it is left."""
        return self.is_open(now) and self.fullness >= 1

    def open(self, now: float) -> None:
        """Begin it where it is not open."""
        if not self.is_open(now):
            self.used, self.reset = 0.0, float(int(now) + int(LENGTHS[self.name]))

    def headers(self, now: float) -> dict[str, str]:
        """Return what an answer says of it."""
        if not self.is_open(now):
            return {}
        return {
            f"{UNIFIED}{self.name}-status": "rejected" if self.is_spent(now) else "allowed",
            f"{UNIFIED}{self.name}-utilization": f"{self.fullness:.4f}",
            f"{UNIFIED}{self.name}-reset": f"{self.reset:.0f}",
        }


def metered(quotas: Collection[Quota], now: float) -> Response:
    """Return Anthropic's answer to a request that these windows count: one that serves it opens those that are not open."""
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
    """One account: its windows, its minute of token counts, until when it refuses its token, and what it has cached."""

    label: str
    quotas: dict[str, Quota] = field(default_factory=lambda: {name: Quota(name, budget) for name, budget in BUDGETS.items()})
    refuses_until: float = 0.0
    minute: float = 0.0
    counted: int = 0
    cached: dict[str, float] = field(default_factory=dict)
    # Whether its windows were reset early, or its token is refused no longer, and nobody has been served since: no answer has
    # told it yet.
    is_secret: bool = False

    def concerned(self, family: str) -> list[Quota]:
        """Return the windows in which a request for a family of models counts."""
        return [quota for name, quota in self.quotas.items() if name != "7d_opus" or family == "opus"]

    def has_counted(self, now: float) -> bool:
        """Whether it counts no more tokens in this minute."""
        return now < self.minute + 60 and self.counted >= COUNTS_A_MINUTE


class Incident(NamedTuple):
    """From when to when every account is refused (401), or every request (529)."""

    begin: float
    end: float
    status: int


class Anthropic:
    """The accounts. ``load`` is how full the work of the weeks before has made their windows; the same seed, the same world.

    They were bought on different days, so the weeks end one after the other.
    """

    def __init__(self, rng: random.Random, count: int, load: float, *, calm: bool = False) -> None:
        self.accounts = {f"account-{number:02}": Account(f"account-{number:02}") for number in range(1, count + 1)}
        self.incidents: list[Incident] = []
        for place, account in enumerate(rng.sample([*self.accounts.values()], count)):
            day = 7 * (place + rng.random()) / count
            gone = max(0.0, 5 - day) / 5
            used = min(1.0, load * gone * rng.uniform(0.5, 1.3))
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
        """Yield when which accounts are reset early (the hours are 0), or refuse their token for so many hours."""
        accounts = [*self.accounts.values()]
        yield MONDAY + 1.6 * DAY, [rng.choice(accounts)], 3.0
        yield MONDAY + 2.55 * DAY, accounts, 0.0
        yield MONDAY + 3.6 * DAY, [rng.choice(accounts)], 0.0

    def reset(self, account: Account) -> None:
        """Reset the windows of an account before their time; no header tells."""
        for quota in account.quotas.values():
            quota.used, quota.reset = 0.0, 0.0
        account.is_secret = True

    def could_serve(self, account: Account, asked: Asked, now: float) -> bool:
        """Whether the account would answer such a request now."""
        if account.refuses_until > now or any(one.begin <= now < one.end for one in self.incidents):
            return False
        if asked.counts and account.has_counted(now):
            return False
        return not any(quota.is_spent(now) for quota in account.concerned(asked.family))

    def answer(self, account: Account, asked: Asked, now: float) -> Response:
        """Return the answer to a request that arrives now; what it costs is known when it ends."""
        trouble = next((one.status for one in self.incidents if one.begin <= now < one.end), 0)
        if trouble == 529:
            return _error(529, "overloaded_error", "Overloaded")
        if trouble or account.refuses_until > now:
            return _error(401, "authentication_error", "Invalid authentication credentials")
        quotas = account.concerned(asked.family)
        spent = [quota for quota in quotas if quota.is_spent(now)]
        if asked.counts and not spent:
            return self._counted(account, now)
        if not spent:
            account.is_secret = False
        return metered(quotas, now)

    def cost(self, account: Account, asked: Asked, now: float) -> float:
        """Return what a request costs that ends now, in tokens of input; its context is in the account's cache from now on."""
        if asked.counts:
            return 0.0
        warm = asked.context == 0 or self.is_warm(account, asked, now)
        if asked.context:
            account.cached[asked.session] = now
        return asked.context * (READ if warm else WRITTEN) + asked.fresh * WRITTEN + asked.output * OUTPUT

    def is_warm(self, account: Account, asked: Asked, now: float) -> bool:
        """Whether the account has the session's context in its cache."""
        return account.cached.get(asked.session, -CACHE_SECONDS) > now - CACHE_SECONDS

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
