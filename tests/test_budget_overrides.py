"""usage/budget_overrides.py: budgets that were changed while the proxy runs."""

import pytest

from claude_proxy.config.budgets import Period
from claude_proxy.state.rows import Row
from claude_proxy.usage import budget_overrides
from claude_proxy.usage.budget_overrides import BudgetOverrides

NOW = 1_795_000_000.0


class Clock:
    now = NOW

    def __call__(self):
        return self.now


def test_a_change_adds_a_period_and_replaces_one():
    """Each change sets the named periods of its scope and leaves the others."""
    one = BudgetOverrides(Clock())
    one.change("user:anna", {Period.MONTH: 10})
    one.change("user:anna", {Period.DAY: 3, Period.MONTH: None})
    assert one.of("user:anna") == {Period.MONTH: None, Period.DAY: 3}
    assert one.of("user:ben") == {}
    assert one.scopes() == ["user:anna"]


def test_the_latest_change_applies_in_every_process():
    """Of two processes' changes the later one applies in both, also after the rows arrive again in another order."""
    clock = Clock()
    one, other = BudgetOverrides(clock), BudgetOverrides(clock)
    one.change("all", {Period.DAY: 1})
    first = one.changed()
    other.merge(first)
    other.change("all", {Period.DAY: 2})  # in the same moment
    second = other.changed()
    for each in (one, other):
        each.merge([*second, *first])
        assert each.of("all") == {Period.DAY: 2}


def test_a_removed_override_stays_removed():
    """After its removal no override applies, and an old row does not bring it back; a start with everything agrees."""
    one, other = BudgetOverrides(Clock()), BudgetOverrides(Clock())
    one.change("group:team-a", {Period.WEEK: 5})
    old = one.changed()
    assert one
    one.change("group:team-a", {})
    other.merge([*one.everything(), *old])
    assert (bool(one), bool(other), other.scopes()) == (False, False, [])


def test_a_temporary_amount_ends_by_itself():
    """At its end, in every process and after a restart, the lasting amount of the period applies again, or none."""
    clock = Clock()
    one, other = BudgetOverrides(clock), BudgetOverrides(clock)
    one.change("user:anna", {Period.MONTH: 10})
    one.change("user:anna", {Period.DAY: 3, Period.MONTH: None}, NOW + 60)
    other.merge(one.everything())
    for each in (one, other):
        assert each.of("user:anna") == {Period.DAY: 3, Period.MONTH: None}
        assert (each.until("user:anna", Period.DAY), each.until("user:anna", Period.WEEK)) == (NOW + 60, None)
    clock.now += 60
    for each in (one, other):
        assert each.of("user:anna") == {Period.MONTH: 10}
        assert each.until("user:anna", Period.DAY) is None


def test_the_only_temporary_amount_leaves_nothing_behind():
    """After its end there is no override, and nothing to show."""
    clock = Clock()
    one = BudgetOverrides(clock)
    one.change("all", {Period.DAY: 3}, NOW + 60)
    assert (bool(one), one.scopes()) == (True, ["all"])
    clock.now += 60
    assert (bool(one), one.scopes(), one.of("all")) == (False, [], {})


def test_a_later_change_replaces_a_temporary_amount():
    """A lasting amount ends the temporary one of its period alone; a removal ends all of them."""
    one = BudgetOverrides(Clock())
    one.change("all", {Period.DAY: 3, Period.WEEK: 5}, NOW + 60)
    one.change("all", {Period.DAY: 4}, NOW + 90)
    one.change("all", {Period.WEEK: 6})
    assert (one.of("all"), one.until("all", Period.DAY), one.until("all", Period.WEEK)) == (
        {Period.DAY: 4, Period.WEEK: 6}, NOW + 90, None,
    )  # fmt: skip
    one.change("all", {})
    assert one.of("all") == {}


@pytest.mark.parametrize(
    "row",
    [
        Row("budget:all", 9e9, "nonsense"),
        Row("budget:all", 9e9, "[]"),
        Row("budget:all", 9e9, '{"year": 5}'),
        Row("budget:all", 9e9, '{"day": 0}'),
        Row("budget:all", 9e9, '{"day": true}'),
        Row("budget:all", 9e9, '{"day": 1.5}'),
        Row("budget:all", 9e9, '{"temporary": 5}'),
        Row("budget:all", 9e9, '{"temporary": {"day": 5}}'),
        Row("budget:all", 9e9, '{"temporary": {"day": [5]}}'),
        Row("budget:all", 9e9, '{"temporary": {"day": [5, "tomorrow"]}}'),
        Row("budget:all", 9e9, '{"temporary": {"day": [5, NaN]}}'),
        Row("budget:all", 9e9, '{"temporary": {"day": [0, 9e9]}}'),
        Row("budget:all", 9e9, '{"temporary": {"year": [5, 9e9]}}'),
        Row("budget:all", float("nan"), '{"day": 5}'),
        Row("budget:" + "x" * 400, 9e9, '{"day": 5}'),
        Row("spend:2026-11-18:x", 9e9, "{}"),
    ],
)
def test_an_invalid_row_changes_nothing(row):
    """A row that this version cannot read is skipped, and the next one applies."""
    one = BudgetOverrides(Clock())
    one.merge([row, Row("budget:user:ben", 1.0, '{"day": 7}')])
    assert (one.scopes(), one.of("user:ben")) == (["user:ben"], {Period.DAY: 7})


def test_the_number_of_overrides_is_bounded(monkeypatch):
    """Rows of the store fill the memory up to a maximum."""
    monkeypatch.setattr(budget_overrides, "MAX_OVERRIDES", 2)
    one = BudgetOverrides(Clock())
    one.merge([Row(f"budget:user:{number}", 1.0, '{"day": 7}') for number in range(5)])
    assert len(one.scopes()) == 2
