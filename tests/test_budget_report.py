"""usage/budget_report.py: budgets as JSON, for the page and for Claude Code's /usage."""

from datetime import UTC, datetime

import pytest

from claude_proxy.config.budgets import Budgets, Period
from claude_proxy.usage.budget_report import rows, usage_for_client
from claude_proxy.usage.spend import scopes_of
from claude_proxy.usage.standing import ActiveBudgets

NOW = datetime(2026, 11, 18, 12, tzinfo=UTC).timestamp()
TOMORROW, DECEMBER = datetime(2026, 11, 19, tzinfo=UTC).timestamp(), datetime(2026, 12, 1, tzinfo=UTC).timestamp()
USD = 1_000_000
BLOCK = {
    "users": {"anna": {"budget": {"day": 10, "month": 120}}},
    "groups": {"team-a": {"budget": {"month": 500, "soft": True}}},
}


def budgets(block=BLOCK):
    return ActiveBudgets(lambda: Budgets.of({"claude_proxy": block}), lambda: NOW)


def pay(found, user, usd, groups=()):
    found.book.open(scopes_of(user, groups), found.today()).set(round(usd * USD))


def test_the_rows_of_the_page():
    """Each amount has what is spent of it in USD, its share, its reset, and config.yaml's amount beside an override."""
    found = budgets()
    pay(found, "anna", 9, ("team-a",))
    found.overrides.change("user:anna", {Period.MONTH: 150 * USD})
    found.overrides.change("user:zoe", {Period.DAY: 500_000}, TOMORROW)
    soft, day, month, zoe = rows(found, found.every())
    assert day == {
        "scope": "user:anna", "period": "day", "limit": 10.0, "spent": 9.0, "percent": 90, "resets_at": TOMORROW,
        "timezone": "UTC", "soft": False, "configured": 10.0, "override": False,
        "until": None,
    }  # fmt: skip
    assert month == day | {
        "period": "month", "limit": 150.0, "percent": 6, "resets_at": DECEMBER, "configured": 120.0, "override": True,
    }  # fmt: skip
    assert (soft["scope"], soft["soft"], soft["configured"]) == ("group:team-a", True, 500.0)
    assert (zoe["scope"], zoe["limit"], zoe["configured"], zoe["override"], zoe["until"]) == (
        "user:zoe",
        0.5,
        None,
        True,
        TOMORROW,
    )


def test_the_fullest_budget_is_the_one_that_claude_code_shows():
    """Amounts are cents and whole per cent, and the active limit says which period and reset they belong to."""
    found = budgets()
    pay(found, "anna", 7.559)
    assert usage_for_client(found, "Anna", ()) == {
        "extra_usage": {
            "is_enabled": True, "monthly_limit": 1000, "used_credits": 755, "utilization": 75, "currency": "USD",
        },
        "limits": [
            {
                "kind": "spend", "group": "daily", "percent": 75, "resets_at": "2026-11-19T00:00:00Z", "severity": "warning",
                "is_active": True,
            },
            {
                "kind": "spend", "group": "monthly", "percent": 6, "resets_at": "2026-12-01T00:00:00Z", "severity": "normal",
                "is_active": False,
            },
        ],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("usd", "percent", "severity"), [(0, 0, "normal"), (9.6, 96, "critical"), (9.999, 99, "critical"), (12, 120, "critical")]
)
def test_a_share_is_100_only_when_requests_are_refused(usd, percent, severity):
    """Up to the last cent the share is below 100."""
    found = budgets()
    pay(found, "anna", usd)
    limit = usage_for_client(found, "anna", ())["limits"][0]
    assert (limit["percent"], limit["severity"]) == (percent, severity)


def test_a_user_without_a_budget_has_sums_and_no_limit():
    """What the day, the week and the month have cost is shown, without a limit."""
    found = budgets()
    pay(found, "zoe", 1.25)
    found.book.open(scopes_of("zoe", ()), datetime(2026, 11, 2, tzinfo=UTC).date()).set(USD)
    none = {"limit": None, "used_credits": 125, "utilization": None}
    assert usage_for_client(found, "zoe", ()) == {
        "extra_usage": {
            "is_enabled": True, "monthly_limit": None, "used_credits": 225, "utilization": None, "currency": "USD",
            "daily": none, "weekly": none,
        },
        "limits": [],
    }  # fmt: skip


def test_a_proxy_without_budgets_shows_none():
    """Where nothing is counted, no amount is shown, not even 0."""
    assert usage_for_client(budgets({}), "anna", ()) == {
        "extra_usage": {
            "is_enabled": False, "monthly_limit": None, "used_credits": None, "utilization": None, "currency": "USD",
        },
        "limits": [],
    }  # fmt: skip
