"""The situation of one process's proxy, for the alerts and for the overview of ``/pool``."""

import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from claude_proxy import guard
from claude_proxy.access.routes import Caller, is_open
from claude_proxy.alerts.error_rate import ErrorRate
from claude_proxy.alerts.overview import alerts_as_json, overview
from claude_proxy.alerts.rules import Alert
from claude_proxy.alerts.situation import Situation
from claude_proxy.config.budgets import Budget, Period
from claude_proxy.config.models import ActiveConfig, not_ready
from claude_proxy.config.money import MICRO_USD
from claude_proxy.config.settings import Settings, TokenMode
from claude_proxy.credentials.pool import Pool
from claude_proxy.providers.endpoints import Hosts
from claude_proxy.usage.ledger import Ledger
from claude_proxy.usage.periods import days_of
from claude_proxy.usage.report import StoreStatus, Viewer
from claude_proxy.usage.standing import ActiveBudgets

# How often the installed releases are looked at, and the sums of the ledger are made, in seconds.
RELEASE_SECONDS = 600.0
SUM_SECONDS = 10.0
# Returns the alerts of a situation that fire, and since when, by key.
Current = Callable[[Situation], tuple[list[Alert], dict[str, float]]]


class Overview:
    """Collects what the rules look at, and shows each viewer what they may see.

    ``own_budgets`` returns the budgets that a caller may see; ``rejected_since`` is that of ``alerts/watch.py``.
    """

    def __init__(
        self,
        settings: Settings,
        config: ActiveConfig,
        pool: Pool,
        ledger: Ledger,
        *,
        budgets: ActiveBudgets,
        store_status: Callable[[], StoreStatus],
        problems: Callable[[], Sequence[str]],
        own_budgets: Callable[[Caller], list[Budget]],
        rejected_since: Callable[[], Mapping[str, float]],
        clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._config = config
        self._pool = pool
        self._ledger = ledger
        self._budgets = budgets
        self.errors = ErrorRate(clock)
        self._store_status = store_status
        self._problems = problems
        self._own_budgets = own_budgets
        self._rejected_since = rejected_since
        self._clock = clock
        self._hosts = Hosts(settings.claude_base)
        self._bad_releases: list[str] = []
        self._sums: dict[str, tuple[float, Mapping[str, float]]] = {}

    def situation(self) -> Situation:
        """Return the situation of the whole proxy, as far as this process knows it."""
        now, rate = self._clock(), self._config.alerts.thresholds.error_rate
        return Situation(
            now,
            self._pool.snapshot(),
            self._budgets.standings(self._budgets.every()),
            self.errors.share(rate[2]) if rate else self.errors.share(),
            self._store_status(),
            self._problems(),
            self._bad_releases,
            is_open(self._settings),
            self._without_credential(),
            self._cached("unpriced", now, self._unpriced),
            self._rejected_since(),
            self._budgets.configured.timezone,
        )

    def shown(self, viewer: Viewer, caller: Caller, current: Current) -> dict[str, Any]:
        """Return ``overview`` and ``alerts`` of ``/pool``. Without the master key: those about the viewer's own budgets."""
        situation = self.situation()
        money = self._cached(
            f"money:{'' if viewer.sees_all_users else viewer.name}", situation.now, lambda: self._money(viewer)
        )
        if not viewer.sees_all_users:
            pool = [one for one in situation.pool if one.credential.label not in viewer.hidden]
            budgets = self._budgets.standings(self._own_budgets(caller))
            situation = Situation(situation.now, pool, budgets, zone=situation.zone)
            alerts, since = current(situation)
            # A low pool is in the sentence; what an operator does about it is not for this viewer.
            own = [one for one in alerts if one.key.startswith("budget:")]
            in_sentence = [one for one in alerts if one in own or one.key in ("pool-empty", "pool-low")]
            return {
                "overview": overview(situation, in_sentence, money),
                "alerts": alerts_as_json(own, since, situation.now),
            }
        alerts, since = current(situation)
        return {"overview": overview(situation, alerts, money), "alerts": alerts_as_json(alerts, since, situation.now)}

    async def watch_releases(self) -> None:
        """Look for a release of LiteLLM that steals credentials, until cancelled: one may be installed while this runs."""
        while True:
            self._bad_releases = await asyncio.to_thread(guard.found, sys.path)
            await asyncio.sleep(RELEASE_SECONDS)

    def _without_credential(self) -> list[str]:
        """Return the models that need a credential of the pool, if it has none."""
        if len(self._pool) or self._settings.mode is not TokenMode.ROTATE:
            return []
        found = not_ready(self._config.loaded, self._config.environ, self._hosts, no_pool=True)
        return [name for name, needs in found.items() if not needs]

    def _unpriced(self) -> Mapping[str, float]:
        found: dict[str, float] = {}
        for names, totals in self._ledger.totals({self._ledger.today()}).items():
            if totals.unpriced:
                found[names.model] = found.get(names.model, 0) + totals.unpriced
        return found

    def _money(self, viewer: Viewer) -> Mapping[str, float]:
        """Return the known costs in USD of today, this week and this month, and today's responses without a known price."""
        ledger, zone = self._ledger, self._budgets.today()
        found: dict[str, float] = {}
        for name, period in (("today", Period.DAY), ("week", Period.WEEK), ("month", Period.MONTH)):
            sums = ledger.totals({*days_of(period, zone)})
            own = [totals for names, totals in sums.items() if viewer.sees_all_users or names.user == viewer.name]
            found[name] = sum(totals.micro_usd for totals in own) / MICRO_USD
            if period is Period.DAY:
                found["unpriced"] = sum(totals.unpriced for totals in own)
        return found

    def _cached(self, key: str, now: float, sums: Callable[[], Mapping[str, float]]) -> Mapping[str, float]:
        at, found = self._sums.get(key, (-SUM_SECONDS, {}))
        if not at <= now < at + SUM_SECONDS:
            found = sums()
            if len(self._sums) > 1000:
                self._sums.clear()
            self._sums[key] = now, found
        return found
