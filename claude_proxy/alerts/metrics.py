"""What needs attention, budgets and requests in progress as Prometheus metrics. Plain functions.

A name has as many series as there are rules, budgets and users with requests in progress.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from prometheus_client.core import GaugeMetricFamily, Metric

from claude_proxy.alerts.rules import Alert
from claude_proxy.config.money import MICRO_USD
from claude_proxy.usage.standing import Standing


def attention(alerts: Sequence[Alert], empty_at: float | None) -> Iterator[Metric]:
    """Yield the number of alerts by rule, and when the pool is empty; the latter only if it is known."""
    firing = GaugeMetricFamily("claude_proxy_alerts", "Alerts that fire.", labels=("rule", "severity"))
    counts = Counter((one.key.partition(":")[0], one.severity) for one in alerts)
    for (rule, severity), count in sorted(counts.items()):
        firing.add_metric((rule, severity), count)
    yield firing
    if empty_at is not None:
        yield GaugeMetricFamily(
            "claude_proxy_pool_empty_seconds", "When the pool is empty at the current pace.", value=empty_at
        )


def budgets(standings: Iterable[Standing]) -> Iterator[Metric]:
    """Yield each amount of a budget, and what is spent of it."""
    labels = ("scope", "period")
    limit = GaugeMetricFamily("claude_proxy_budget_usd", "The amount of a budget, in USD.", labels=labels)
    spent = GaugeMetricFamily("claude_proxy_budget_spent_usd", "What is spent of a budget, in USD.", labels=labels)
    for one in standings:
        names = one.budget.scope, one.period.value
        limit.add_metric(names, one.limit / MICRO_USD)
        spent.add_metric(names, one.spent / MICRO_USD)
    yield from (limit, spent)


def running(found: Mapping[str, Any]) -> Iterator[Metric]:
    """Yield the requests in progress, as ``/pool`` shows them."""
    yield GaugeMetricFamily("claude_proxy_running_requests", "Requests in progress.", value=found["requests"])
