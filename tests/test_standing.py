"""usage/standing.py: how much of each budget is spent."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from claude_proxy.config.budgets import Budget, Budgets, Period
from claude_proxy.usage.spend import scopes_of
from claude_proxy.usage.standing import ActiveBudgets, Standing, foremost

NOW = datetime(2026, 11, 18, 12, tzinfo=UTC).timestamp()
USD = 1_000_000
CONFIG = {
    "claude_proxy": {
        "users": {"Anna": {"budget": {"day": 10, "month": 120}}, "ben": {}},
        "groups": {"team-a": {"budget": {"month": 500, "soft": True}}},
        "default_budget": {"day": 20},
        "budget": {"month": 2000, "timezone": "Europe/Berlin"},
    }
}


class Clock:
    now = NOW

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def budgets(clock):
    found = Budgets.of(CONFIG)
    return ActiveBudgets(lambda: found, clock)


def pay(budgets, user, usd, groups=()):
    budgets.book.open(scopes_of(user, groups), budgets.today()).set(usd * USD)


def limits(found):
    return {budget.scope: {period.value: limit // USD for period, limit in budget.limits.items()} for budget in found}


def standing(spent, limit=100, resets_at=1.0, *, soft=False):
    return Standing(Budget("all", {Period.DAY: limit}, soft), Period.DAY, limit, spent, resets_at)


def test_the_budgets_of_a_user(budgets):
    """A user's requests count towards the user's own budget or the default one, each group's, and that of all."""
    assert limits(budgets.of_user("ANNA", ("team-a",))) == {
        "user:anna": {"day": 10, "month": 120},
        "group:team-a": {"month": 500},
        "all": {"month": 2000},
    }
    assert limits(budgets.of_user("eve", ())) == {"user:eve": {"day": 20}, "all": {"month": 2000}}
    assert limits(budgets.of_user("admin", ())) == {"all": {"month": 2000}}


def test_an_override_applies_on_top_of_the_configuration(budgets):
    """An override sets, replaces or lifts single periods, of a user with a budget, of the default one, and of nobody's."""
    change = budgets.overrides.change
    change("user:anna", {Period.MONTH: 150 * USD, Period.DAY: None})
    change("user:eve", {Period.WEEK: 50 * USD})
    change("group:team-b", {Period.DAY: 5 * USD})
    assert limits(budgets.of_user("anna", ())) == {"user:anna": {"month": 150}, "all": {"month": 2000}}
    assert limits(budgets.of_user("eve", ("team-b",))) == {
        "user:eve": {"day": 20, "week": 50},
        "group:team-b": {"day": 5},
        "all": {"month": 2000},
    }
    change("user:anna", {})
    assert limits(budgets.of_user("anna", ()))["user:anna"] == {"day": 10, "month": 120}


def test_an_override_leaves_a_soft_budget_soft(budgets):
    """Only amounts are overridden: a budget that is only reported stays so."""
    budgets.overrides.change("group:team-a", {Period.MONTH: USD})
    assert [budget.soft for budget in budgets.of_user("eve", ("team-a",))] == [False, True, False]


def test_without_any_budget_nothing_applies(clock):
    """A configuration without budgets is false, until an override adds one."""
    found = ActiveBudgets(lambda: Budgets.of({}), clock)
    assert not found
    found.overrides.change("user:anna", {Period.DAY: USD})
    assert found
    assert limits(found.of_user("anna", ())) == {"user:anna": {"day": 1}}


def test_all_budgets_are_listed(budgets):
    """The list has every configured budget, the default one for each user who has spent something, and every override."""
    pay(budgets, "eve", 1)
    pay(budgets, "admin", 1)
    budgets.overrides.change("user:zoe", {Period.DAY: USD})
    assert [budget.scope for budget in budgets.every()] == ["all", "group:team-a", "user:anna", "user:eve", "user:zoe"]


def test_what_is_spent_and_when_it_resets(budgets, clock):
    """Each amount has what its scope has spent in the period, and the period's end in the time zone."""
    pay(budgets, "anna", 8)
    clock.now += 86400
    pay(budgets, "anna", 1)
    day, month, everyone = budgets.standings(budgets.of_user("anna", ()))
    berlin = ZoneInfo("Europe/Berlin")
    assert (day.spent, day.percent, day.resets_at) == (USD, 10, datetime(2026, 11, 20, tzinfo=berlin).timestamp())
    assert (month.spent, month.percent, month.resets_at) == (9 * USD, 7, datetime(2026, 12, 1, tzinfo=berlin).timestamp())
    assert everyone.spent == 9 * USD


@pytest.mark.parametrize(
    ("spent", "percent", "reached"), [(-5, 0, False), (0, 0, False), (99, 99, False), (100, 100, True), (250, 250, True)]
)
def test_when_a_budget_is_reached(spent, percent, reached):
    """A budget is reached when the whole amount is spent; a share is rounded down, so it is 100 only then."""
    assert (standing(spent).percent, standing(spent).is_reached) == (percent, reached)
    assert not standing(spent, soft=True).is_reached


def test_the_foremost_budget():
    """Of several, the reached one that resets last is shown, otherwise the fullest; a soft one is never reached."""
    early, late, full, soft = standing(100, resets_at=1), standing(100, resets_at=2), standing(90), standing(300, soft=True)
    assert foremost([early, late, full, soft]) is late
    assert foremost([full, standing(10), soft]) is soft
    assert foremost([standing(10), full]) is full
    assert foremost([]) is None


def test_a_changed_time_zone_moves_the_day(clock):
    """The time zone of the configuration decides which day it is."""
    clock.now = datetime(2026, 11, 18, 23, 30, tzinfo=UTC).timestamp()
    zones = iter(["UTC", "Europe/Berlin"])
    found = ActiveBudgets(lambda: Budgets({}, {}, timezone=ZoneInfo(next(zones))), clock)
    assert [found.today().isoformat() for _ in range(2)] == ["2026-11-18", "2026-11-19"]
