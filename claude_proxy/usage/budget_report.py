"""Budgets as JSON values: for /pool, and for Claude Code's /usage. Plain functions."""

from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from claude_proxy.config.budgets import Budget, Budgets, Period
from claude_proxy.config.money import MICRO_USD
from claude_proxy.config.users import folded
from claude_proxy.usage.spend import ALL
from claude_proxy.usage.standing import GROUP, USER, ActiveBudgets, Standing, foremost

GROUPS = {Period.DAY: "daily", Period.WEEK: "weekly", Period.MONTH: "monthly"}
CURRENCY = "USD"
MICRO_PER_CENT = 10_000
# From these shares on, in per cent, a limit is shown as a warning or as critical.
CRITICAL, WARNING = 95, 75


def rows(budgets: ActiveBudgets, found: Iterable[Budget]) -> list[dict[str, Any]]:
    """Return each amount of budgets, in USD, with what is spent of it; times are Unix seconds.

    ``configured`` is the amount of config.yaml, None without one; ``override`` whether another amount applies instead, and
    ``until`` when that ends by itself, None if it does not.
    """
    out = []
    for one in budgets.standings(found):
        configured = _configured(budgets.configured, one.budget.scope).get(one.period)
        row = {
            "scope": one.budget.scope,
            "period": one.period.value,
            "limit": one.limit / MICRO_USD,
            "spent": one.spent / MICRO_USD,
            "percent": one.percent,
            "resets_at": one.resets_at,
            "timezone": str(budgets.configured.timezone),
            "soft": one.budget.soft,
            "configured": None if configured is None else configured / MICRO_USD,
            "override": one.period in budgets.overrides.of(one.budget.scope),
            "until": budgets.overrides.until(one.budget.scope, one.period),
        }
        out.append(row)
    return out


def _configured(found: Budgets, scope: str) -> Mapping[Period, int]:
    """Return the amounts of a scope in config.yaml."""
    budget = found.everyone if scope == ALL else found.groups.get(scope.removeprefix(GROUP))
    if scope.startswith(USER):
        budget = next((one for one in found.of_user(scope.removeprefix(USER), ()) if one.scope == scope), None)
    return budget.limits if budget else {}


def usage_for_client(budgets: ActiveBudgets, user: str, groups: Collection[str]) -> dict[str, Any]:
    """Return a user's budget in the form that Claude Code reads: cents, and whole per cent.

    With several amounts, ``extra_usage`` has the foremost one, which is the active one in ``limits``. A user without a budget
    has the sums alone; without any budget, nothing is counted.
    """
    if not budgets:
        return {"extra_usage": _extra(None, None, None, enabled=False), "limits": []}
    standings = budgets.standings(budgets.of_user(user, groups))
    main = foremost(standings)
    if main is None:
        spent = {period: _cents(budgets.book.spent(f"{USER}{folded(user)}", period, budgets.today())) for period in Period}
        sums = {GROUPS[period]: {"limit": None, "used_credits": spent[period], "utilization": None} for period in Period}
        del sums[GROUPS[Period.MONTH]]
        return {"extra_usage": _extra(None, spent[Period.MONTH], None) | sums, "limits": []}
    return {
        "extra_usage": _extra(_cents(main.limit), _cents(main.spent), _percent(main)),
        "limits": [_limit(one, is_active=one is main) for one in standings],
    }


def _extra(limit: int | None, used: int | None, percent: int | None, *, enabled: bool = True) -> dict[str, Any]:
    found = {"is_enabled": enabled, "monthly_limit": limit, "used_credits": used, "utilization": percent}
    return found | {"currency": CURRENCY}


def _limit(one: Standing, *, is_active: bool) -> dict[str, Any]:
    percent = _percent(one)
    return {
        "kind": "spend",
        "group": GROUPS[one.period],
        "percent": percent,
        "resets_at": datetime.fromtimestamp(one.resets_at, UTC).isoformat().replace("+00:00", "Z"),
        "severity": "critical" if percent >= CRITICAL else "warning" if percent >= WARNING else "normal",
        "is_active": is_active,
    }


def _percent(one: Standing) -> int:
    """Return the share that is spent; below 100 while requests are admitted."""
    return one.percent if one.is_reached else min(one.percent, 99)


def _cents(micro: int) -> int:
    return max(0, micro) // MICRO_PER_CENT
