"""usage/spend.py: money by scope and day, alone and shared by several processes."""

import json
from datetime import UTC, date, datetime

import hypothesis.strategies as st
import pytest
from hypothesis import given

from claude_proxy.config.budgets import Period
from claude_proxy.state.rows import Row
from claude_proxy.usage import spend
from claude_proxy.usage.spend import SpendBook, scopes_of

NOW = datetime(2026, 11, 18, 12, tzinfo=UTC).timestamp()
DAY = 86400.0
TODAY, YESTERDAY = date(2026, 11, 18), date(2026, 11, 17)
ANNA = scopes_of("anna", ("team-a",))


class Clock:
    def __init__(self, now=NOW):
        self.now = now

    def __call__(self):
        return self.now


def book(writer="w", clock=None):
    return SpendBook(clock=clock or Clock(), writer=writer)


def paid(one, amount, scopes=ANNA, day=TODAY):
    tab = one.open(scopes, day)
    tab.set(amount)
    return tab


def exchanged(*books):
    """Let every book apply the changes of all."""
    rows = [row for one in books for row in one.changed()]
    for one in books:
        one.merge(rows)


# --- one process -----------------------------------------------------------------------------------------------------------


def test_a_request_counts_for_its_user_its_groups_and_all():
    """An amount is counted once in each scope, and in no other."""
    one = book()
    paid(one, 300)
    paid(one, 20, scopes_of("ben", ()))
    scopes = ("user:anna", "group:team-a", "all", "user:ben", "user:eve")
    assert [one.spent(scope, Period.DAY, TODAY) for scope in scopes] == [300, 300, 320, 20, 0]


def test_a_later_amount_of_a_request_replaces_the_earlier_one():
    """What is known of a request in progress counts, and its final amount takes its place, also if it is smaller."""
    one = book()
    tab = paid(one, 500)
    assert one.spent("all", Period.DAY, TODAY) == 500
    tab.set(120)
    assert one.spent("all", Period.DAY, TODAY) == 120


def test_weeks_and_months_are_sums_of_days():
    """Monday to Sunday are a week, the first to the last day a month; days outside do not count."""
    one = book()
    for number, day in enumerate(("10-31", "11-01", "11-16", "11-18", "11-22", "11-23", "12-01")):
        paid(one, 10**number, day=date.fromisoformat(f"2026-{day}"))
    assert [one.spent("all", period, TODAY) for period in Period] == [10**3, 11100, 111110]


def test_a_request_counts_on_the_day_of_its_arrival():
    """A response that ends after midnight counts where it began, so no amount is counted twice or lost."""
    clock = Clock()
    one = book(clock=clock)
    tab = paid(one, 100)
    clock.now += DAY
    tab.set(900)
    assert [one.spent("all", Period.DAY, day) for day in (TODAY, date(2026, 11, 19))] == [900, 0]


# --- several processes -----------------------------------------------------------------------------------------------------


def test_processes_add_up_and_each_writes_only_its_own_row():
    """Two processes that count at the same time lose nothing, and applying the rows again changes nothing."""
    first, second = book("a"), book("b")
    for _ in range(3):
        paid(first, 10)
        paid(second, 5)
    rows = [*first.changed(), *second.changed()]
    assert sorted(row.key for row in rows) == ["spend:2026-11-18:a", "spend:2026-11-18:b"]
    for one in (first, second):
        one.merge([*rows, *reversed(rows)])
        assert one.spent("group:team-a", Period.MONTH, TODAY) == 45


def test_the_amount_of_a_process_that_died_in_a_response_stays():
    """What an answer had cost when its process was killed remains counted for the others."""
    dead, alive = book("dead"), book("alive")
    paid(dead, 700)
    exchanged(dead, alive)
    del dead
    assert alive.spent("user:anna", Period.DAY, TODAY) == 700


def test_a_process_that_starts_again_finds_its_amounts_in_the_store():
    """After a restart the amounts of the day, week and month are those of before, and new ones are added."""
    before = book("first-life")
    paid(before, 40, day=YESTERDAY)
    paid(before, 2)
    rows = before.everything()
    after = book("second-life")
    after.merge(rows)
    paid(after, 100)
    assert [after.spent("all", period, TODAY) for period in Period] == [102, 142, 142]


def test_a_store_that_lost_its_rows_gets_those_of_all_processes():
    """``everything`` has the rows of others, too, because their processes may be gone."""
    first, second = book("a"), book("b")
    paid(first, 1)
    paid(second, 2)
    exchanged(first, second)
    third = book("c")
    third.merge(second.everything())
    assert third.spent("all", Period.DAY, TODAY) == 3


def test_rows_out_of_order_leave_the_latest_amount():
    """An older row of a process changes nothing after a newer one."""
    first, second = book("a"), book("b")
    tab = paid(first, 10)
    old = first.changed()
    tab.set(30)
    new = first.changed()
    second.merge(new)
    second.merge(old)
    assert second.spent("all", Period.DAY, TODAY) == 30


@pytest.mark.parametrize("jump", [-400 * DAY, -DAY, DAY, 400 * DAY])
def test_a_clock_that_jumps_loses_no_amount(jump):
    """After a jump forward or back, others still apply the process's new rows, and no amount of before is forgotten."""
    clock = Clock()
    one, other = book("a", clock), book("b")
    tab = paid(one, 10)
    exchanged(one, other)
    clock.now += jump
    tab.set(25)
    paid(one, 1, day=datetime.fromtimestamp(clock.now, UTC).date())
    exchanged(one, other)
    clock.now = NOW
    tab.set(60)
    exchanged(one, other)
    assert one.spent("all", Period.DAY, TODAY) == other.spent("all", Period.DAY, TODAY) == 60


@given(
    steps=st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 10_000), st.sampled_from(["share", "set", "new"])), min_size=1, max_size=40
    )
)
def test_any_order_of_amounts_and_exchanges_gives_the_sum(steps):
    """Whatever processes count and when they share it, after a last exchange all know the exact sum."""
    books = [book(name) for name in "abc"]
    tabs = [[one.open(ANNA, TODAY)] for one in books]
    for number, amount, what in steps:
        if what == "share":
            rows = books[number].changed()
            for one in books:
                one.merge(rows)
        elif what == "new":
            tabs[number].append(books[number].open(ANNA, TODAY))
        else:
            tabs[number][-1].set(amount)
    exchanged(*books)
    total = sum(tab.amount for found in tabs for tab in found)
    assert [one.spent("user:anna", Period.WEEK, TODAY) for one in books] == [total] * 3


@pytest.mark.parametrize(
    "row",
    [
        Row("spend:2026-11-18:x", 9e9, "[]"),
        Row("spend:2026-11-18:x", 9e9, "nonsense"),
        Row("spend:2026-11-18:x", 9e9, '{"all": "5"}'),
        Row("spend:2026-11-18:x", 9e9, '{"all": 1e5}'),
        Row("spend:2026-11-18:x", 9e9, '{"all": true}'),
        Row("spend:2026-11-18:x", 9e9, json.dumps({"all": 2**60})),
        Row("spend:2026-11-18:x", 9e9, json.dumps({"user:" + "x" * 400: 1})),
        Row("spend:2026-11-18:x", float("inf"), '{"all": 5}'),
        Row("spend:2026-11-18:" + "x" * 65, 9e9, '{"all": 5}'),
        Row("spend:2026-13-18:x", 9e9, '{"all": 5}'),
        Row("spend:20261118:x", 9e9, '{"all": 5}'),
        Row("spend:2026-11-18", 9e9, '{"all": 5}'),
        Row("usage:2026-11-18:x", 9e9, '{"all": 5}'),
        Row("salt", 0.0, '"x"'),
    ],
)
def test_an_invalid_row_is_skipped(row):
    """A row of another version, or of somebody else, changes no amount and stops no other row."""
    one, other = book("a"), book("b")
    paid(other, 7)
    one.merge([row, *other.changed()])
    assert one.spent("all", Period.MONTH, TODAY) == 7


def test_the_number_of_rows_is_bounded(monkeypatch):
    """Beyond the maximum the oldest day goes, and newer days stay exact."""
    monkeypatch.setattr(spend, "MAX_ROWS", 3)
    one = book("a")
    paid(one, 1)
    one.merge([Row(f"spend:2026-11-{day}:b", 9e9, '{"all": 5}') for day in (10, 11, 12)])
    assert one.spent("all", Period.MONTH, TODAY) == 11
    assert [one.spent("all", Period.DAY, date(2026, 11, day)) for day in (10, 11, 12, 18)] == [0, 5, 5, 1]


def test_users_with_an_amount_are_known():
    """The scopes of a period are those with an amount in it."""
    one = book()
    paid(one, 1)
    paid(one, 1, scopes_of("ben", ()), date(2026, 10, 1))
    assert one.scopes(Period.MONTH, TODAY) == {"user:anna", "group:team-a", "all"}
