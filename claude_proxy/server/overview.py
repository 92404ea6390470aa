"""The situation of one process's proxy, for the alerts and for the overview of ``/pool``."""

import asyncio
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from prometheus_client.core import Metric

from claude_proxy import guard
from claude_proxy.access.routes import Caller, is_open
from claude_proxy.alerts import metrics
from claude_proxy.alerts.error_rate import ErrorRate
from claude_proxy.alerts.forecast import empty_at
from claude_proxy.alerts.overview import alerts_as_json, overview
from claude_proxy.alerts.rules import Alert, in_use
from claude_proxy.alerts.situation import Situation
from claude_proxy.alerts.watch import AlertWatch
from claude_proxy.config.alerts import INFO
from claude_proxy.config.budgets import Budget
from claude_proxy.config.models import ActiveConfig, not_ready
from claude_proxy.config.money import MICRO_USD
from claude_proxy.config.settings import Settings, TokenMode
from claude_proxy.credentials.pool import Pool
from claude_proxy.credentials.rate_limits import Snapshot
from claude_proxy.providers.endpoints import Hosts
from claude_proxy.state.replication import Shared
from claude_proxy.usage.prices import Prices
from claude_proxy.usage.report import StoreStatus, Viewer, is_cooling_down
from claude_proxy.usage.standing import ActiveBudgets
from claude_proxy.usage.used import Range, Used

# How often the installed releases are looked at, in seconds.
RELEASE_SECONDS = 600.0
# How long a situation, and a forecast, may be shown.
SITUATION_SECONDS = 1.0
FORECAST_SECONDS = 5.0
# The alerts of which a user is told, in the sentence: those about the pool. Their own budgets are listed, too.
OF_POOL, BUDGET_PREFIX = ("pool-empty", "pool-low"), "budget:"


class Overview:
    """Collects what the rules look at, evaluates them all the time, and shows each viewer what they may see.

    ``used`` returns what was used lately, ``own_budgets`` the budgets that a caller may see. ``is_shared`` is whether there is
    a store; ``wake`` shares changes now.
    """

    def __init__(
        self,
        settings: Settings,
        config: ActiveConfig,
        pool: Pool,
        *,
        used: Callable[[], Used],
        prices: Prices,
        budgets: ActiveBudgets,
        store_status: Callable[[], StoreStatus],
        problems: Callable[[], Sequence[str]],
        is_config_refused: Callable[[], bool],
        is_history_away: Callable[[], bool],
        own_budgets: Callable[[Caller], list[Budget]],
        is_shared: bool,
        wake: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._config = config
        self._pool = pool
        self._used = used
        self._prices = prices
        self._budgets = budgets
        self.errors = ErrorRate(clock)
        self._store_status = store_status
        self._problems = problems
        self._is_config_refused = is_config_refused
        self._is_history_away = is_history_away
        self._own_budgets = own_budgets
        self._clock = clock
        self._hosts = Hosts(settings.claude_base)
        self._bad_releases: list[str] = []
        self._latest: Situation | None = None
        self._forecasts: dict[frozenset[tuple[str, bool]], tuple[float, float | None]] = {}
        self.watch = AlertWatch(
            self.situation,
            lambda: config.alerts,
            clock=clock,
            is_shared=is_shared,
            is_unavailable=lambda: store_status().unavailable,
            wake=wake,
        )

    @property
    def parts(self) -> tuple[Shared, ...]:
        """What the processes share."""
        return self.errors, *self.watch.parts

    async def run(self) -> None:
        """Evaluate the rules, and notify operators, until cancelled."""
        await asyncio.gather(self.watch.run(), self._watch_releases())

    def situation(self) -> Situation:
        """Return the situation of the whole proxy, as far as this process knows it."""
        now, rate = self._clock(), self._config.alerts.thresholds.error_rate
        pool = self._pool.snapshot()
        return Situation(
            now,
            pool,
            self._budgets.standings(self._budgets.every()),
            self.errors.share(rate[2]) if rate else self.errors.share(),
            self._store_status(),
            self._problems(),
            self._bad_releases,
            is_open(self._settings),
            self._without_credential(),
            self._unpriced(),
            self.watch.rejected_since(),
            self._budgets.configured.timezone,
            self._empty_at(pool, now),
            self._is_config_refused(),
            self._is_history_away(),
        )

    def _recent_situation(self) -> Situation:
        """Return a situation of the last second, which several viewers share."""
        now = self._clock()
        if self._latest is None or not self._latest.now <= now < self._latest.now + SITUATION_SECONDS:
            self._latest = self.situation()
        return self._latest

    def _empty_at(self, pool: Sequence[Snapshot], now: float) -> float | None:
        """Return the forecast of the last seconds for a pool with these credentials, of which the same are usable."""
        key = frozenset((one.credential.label, is_cooling_down(one)) for one in pool)
        at, found = self._forecasts.get(key, (0.0, None))
        if not at <= now < at + FORECAST_SECONDS:
            self._forecasts = {of: one for of, one in self._forecasts.items() if one[0] <= now < one[0] + FORECAST_SECONDS}
            found = empty_at(in_use(pool), now)
            self._forecasts[key] = now, found
        return found

    def shown(self, viewer: Viewer, caller: Caller) -> dict[str, Any]:
        """Return ``overview`` and ``alerts`` of ``/pool``. Without the master key: the alerts about the viewer's own budgets.

        A low pool is in the sentence for everyone; what an operator does about it is not.
        """
        situation, alerts = self._seen_by(viewer, caller)
        money = self._money(viewer)
        listed = alerts if viewer.sees_all_users else [_for_user(one) for one in alerts if one.key.startswith(BUDGET_PREFIX)]
        since = {one.key: self.watch.since(one.key) for one in listed}
        is_closed = bool(viewer.hidden) and not situation.pool
        shown = overview(situation, alerts, money, is_closed=is_closed)
        return {"overview": shown, "alerts": alerts_as_json(listed, since, situation.now)}

    def metrics(self, viewer: Viewer, caller: Caller) -> list[Metric]:
        """Return the metrics of what a viewer may see."""
        situation, alerts = self._seen_by(viewer, caller)
        return [*metrics.attention(alerts, situation.empty_at), *metrics.budgets(situation.budgets)]

    def _seen_by(self, viewer: Viewer, caller: Caller) -> tuple[Situation, list[Alert]]:
        """Return the part of the situation that a viewer may see, and what they may know of the alerts."""
        found = self._recent_situation()
        if viewer.sees_all_users:
            return found, self.watch.current(found)
        pool = [one for one in found.pool if one.credential.label not in viewer.hidden]
        budgets = self._budgets.standings(self._own_budgets(caller))
        situation = Situation(found.now, pool, budgets, zone=found.zone, empty_at=self._empty_at(pool, found.now))
        return situation, [one for one in self.watch.current(situation) if one.key.startswith((*OF_POOL, BUDGET_PREFIX))]

    async def _watch_releases(self) -> None:
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

    def _unpriced(self) -> Mapping[str, int]:
        """Return the number of the last week's responses without a known cost, by the model that lacks a price."""
        found: Counter[str] = Counter()
        for names, count in self._used().of(Range.LAST_WEEK).unpriced.items():
            found[self._prices.missing(*names)] += count
        del found[""]  # their price is known by now
        return found

    def _money(self, viewer: Viewer) -> Mapping[str, float]:
        """Return the known costs in USD of today, this week and this month, and today's responses without a known price."""
        used, user = self._used(), None if viewer.sees_all_users else viewer.name
        found: dict[str, float] = {"unpriced": used.of(Range.TODAY).total(user).unpriced}
        for name, one in (("today", Range.TODAY), ("week", Range.CALENDAR_WEEK), ("month", Range.CALENDAR_MONTH)):
            found[name] = used.of(one).total(user).micro_usd / MICRO_USD
        return found


def _for_user(alert: Alert) -> Alert:
    """Return an alert about a budget for its user, who cannot change it."""
    return alert._replace(action="The proxy's operator can raise it." if alert.severity != INFO else alert.action, on_page="")
