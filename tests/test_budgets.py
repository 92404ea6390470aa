"""config/budgets.py: how much money may be spent, by config.yaml."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from claude_proxy.config.budgets import Budget, Budgets, Period, mistakes
from claude_proxy.config.timezones import UTC

USD = 1_000_000
BLOCK = {
    "users": {"Anna": {"budget": {"day": 10, "week": 40.5, "month": "120"}}, "ben": {"models": ["glm"]}},
    "groups": {"Team-A": {"budget": {"month": 500, "soft": True}}, "plain": {"credentials": ["a"]}},
    "default_budget": {"day": 0.1},
    "budget": {"month": 2000, "timezone": "Europe/Berlin"},
    "budget_without_store": "refuse",
    "unpriced_models": "refuse",
}
ANNA = Budget("user:anna", {Period.DAY: 10 * USD, Period.WEEK: 40_500_000, Period.MONTH: 120 * USD})
TEAM = Budget("group:team-a", {Period.MONTH: 500 * USD}, soft=True)
EVERYONE = Budget("all", {Period.MONTH: 2000 * USD})


def config(**block):
    return {"claude_proxy": block}


def budget_of(name, limits):
    return Budget(f"user:{name}", limits)


@pytest.mark.parametrize(
    ("user", "groups", "found"),
    [
        ("anna", ("team-a",), (ANNA, TEAM, EVERYONE)),
        ("ANNA", ("other", "plain"), (ANNA, EVERYONE)),
        ("ben", (), (budget_of("ben", {Period.DAY: 100_000}), EVERYONE)),
        ("Carl", ("team-a",), (budget_of("carl", {Period.DAY: 100_000}), TEAM, EVERYONE)),
        ("admin", (), (EVERYONE,)),
    ],
)
def test_the_budgets_of_a_request(user, groups, found):
    """A request counts towards the user's own budget or the default one, that of each group, and that of all."""
    assert Budgets.of(config(**BLOCK)).of_user(user, groups) == found


def test_the_settings_of_all_budgets():
    """The time zone and the behaviour without a store and without a price are read; the defaults are UTC and to allow."""
    budgets, bare = Budgets.of(config(**BLOCK)), Budgets.of({})
    assert (budgets.timezone, budgets.refuses_without_store, bool(budgets)) == (ZoneInfo("Europe/Berlin"), True, True)
    assert (bare.timezone, bare.refuses_without_store, bool(bare)) == (UTC, False, False)
    assert (budgets.refuses_unpriced, bare.refuses_unpriced) == (True, False)
    assert not Budgets.of(config(budget={"timezone": "Asia/Tokyo"}))


def test_a_right_block_has_no_mistakes():
    """Whole numbers, decimals and texts of numbers are amounts; a time zone alone is valid."""
    assert list(mistakes(config(**BLOCK))) == []
    assert list(mistakes(config(budget={"timezone": "UTC"}, budget_without_store="allow", unpriced_models="allow"))) == []


@pytest.mark.parametrize(
    ("block", "says"),
    [
        ({"budget": 10}, "budget: should have amounts in USD by day, week or month; write {month: 10}"),
        ({"budget": None}, "budget: should have amounts"),
        ({"default_budget": [10]}, "default_budget: should have amounts"),
        ({"budget": {}}, "budget: should have an amount in USD for day, week or month; write {day: 10, week: 40"),
        ({"budget": {"soft": True}}, "budget: should have an amount"),
        ({"budget": {"day": 0}}, "budget: day: should be an amount in USD above 0, a number without a currency; write day: 10"),
        ({"budget": {"day": -1}}, "day: should be an amount"),
        ({"budget": {"day": "10 USD"}}, "day: should be an amount"),
        ({"budget": {"day": True}}, "day: should be an amount"),
        ({"budget": {"day": float("nan")}}, "day: should be an amount"),
        ({"budget": {"day": float("inf")}}, "day: should be an amount"),
        ({"budget": {"day": 1e-9}}, "day: should be an amount"),
        ({"budget": {"day": 1e12}}, "day: should be an amount"),
        ({"budget": {"day": 1, "soft": "yes"}}, "soft: should be true"),
        ({"budget": {"day": 1, "timezone": "Berlin"}}, "timezone: should be a name such as Europe/Berlin"),
        ({"budget": {"day": 1, "timezone": "../etc/passwd"}}, "timezone: should be a name"),
        ({"budget": {"day": 1, "timezone": ""}}, "timezone: should be a name"),
        ({"budget": {"day": 1, "timezone": 1}}, "timezone: should be a name"),
        (
            {"default_budget": {"day": 1, "timezone": "UTC"}},
            "timezone applies to all budgets; write it as claude_proxy: budget",
        ),
        ({"budget_without_store": "deny"}, "budget_without_store: should be refuse or allow"),
        ({"unpriced_models": True}, "unpriced_models: should be refuse or allow"),
        (
            {"users": {"anna": {"budget": {"day": 1, "year": 3}}}},
            "users: anna: budget: year is not known; the keys are day, week",
        ),
        (
            {"groups": {"team-a": {"budget": {"day": 1, "monthly": 3}}}},
            "groups: team-a: budget: monthly is not known; did you mean month?",
        ),
    ],
)
def test_a_mistake_in_the_block(block, says):
    """An invalid budget is an error that says what to write, because it would limit nothing."""
    (mistake,) = mistakes(config(**block))
    assert says in mistake


def test_a_machine_without_time_zone_data(monkeypatch):
    """UTC needs no data of the machine; for another zone, what is missing is named."""
    monkeypatch.setattr("claude_proxy.config.budgets.available_timezones", set)
    noon = datetime(2026, 7, 1, 12, tzinfo=UTC)
    assert (noon.utcoffset(), noon.tzname(), UTC.key) == (timedelta(0), "UTC", "UTC")
    assert list(mistakes(config(budget={"timezone": "UTC"}))) == []
    (mistake,) = mistakes(config(budget={"timezone": "Not/There"}))
    assert "this machine has no time zone data: install tzdata, or write UTC" in mistake


@pytest.mark.parametrize("key", ["budget", "default_budget", "budget_without_store", "unpriced_models"])
def test_a_budget_without_its_block(key):
    """A budget at the top level would limit nothing, so the file is rejected."""
    (mistake,) = mistakes({key: {"day": 1}})
    assert mistake.startswith(f"{key}: belongs under claude_proxy")


@pytest.mark.parametrize("block", [None, "x", {"users": "x"}, {"users": {"anna": "x"}}, {"groups": ["x"]}])
def test_a_broken_block_is_not_this_checks_matter(block):
    """A block of another shape does not break the check."""
    assert list(mistakes({"claude_proxy": block})) == []
