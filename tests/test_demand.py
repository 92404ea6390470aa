"""credentials/demand.py: which model families clients request of the pool."""

import pytest
from pools import START, A, cooldown, new_pool

from claude_proxy.credentials.demand import MAX_FAMILIES, MAX_FAMILY, REQUESTED_FOR
from claude_proxy.credentials.scope import COUNT_TOKENS, FAST, MESSAGES, STANDARD, Scope
from claude_proxy.state.rows import Row


def usual(family):
    return Scope(family, MESSAGES, STANDARD)


def requested(pool):
    (one,) = pool.snapshot()
    return one.requested


@pytest.fixture
def pool(clock):
    return new_pool(A, clock=clock)


def test_a_family_counts_for_a_day(pool, clock):
    """A family counts from its last request on, for a day."""
    assert requested(pool) == frozenset()
    pool.record_requested(usual("opus"))
    clock.now += REQUESTED_FOR - 1
    pool.record_requested(usual("sonnet"))
    assert requested(pool) == {"opus", "sonnet"}
    clock.now += 1
    assert requested(pool) == {"sonnet"}


@pytest.mark.parametrize(
    "scope",
    [Scope("opus", COUNT_TOKENS, STANDARD), Scope("opus", MESSAGES, FAST), usual(""), usual("a:b"), usual("a\n"),
     usual("x" * (MAX_FAMILY + 1))],
)  # fmt: skip
def test_what_does_not_count(pool, scope):
    """Token counting and fast mode have limits of their own, and a client may write any name."""
    pool.record_requested(scope)
    assert requested(pool) == frozenset()
    assert not pool.changed()


def test_made_up_families_are_bounded(pool, clock):
    """The latest families are kept."""
    for number in range(3 * MAX_FAMILIES):
        clock.now += 1
        pool.record_requested(usual(f"made-up-{number}"))
    assert requested(pool) == {f"made-up-{number}" for number in range(2 * MAX_FAMILIES, 3 * MAX_FAMILIES)}


def test_processes_share_what_is_requested(pool, clock):
    """Other processes get a family once a minute, and a new one gets all of them; what they cannot use is skipped."""
    other = new_pool(A, clock=clock)
    pool.record_requested(usual("opus"))
    other.merge(pool.changed())
    assert requested(other) == {"opus"}
    clock.now += 30
    pool.record_requested(usual("opus"))
    assert not pool.changed()
    clock.now += 30
    pool.record_requested(usual("opus"))
    assert [(row.key, row.stamp) for row in pool.changed()] == [("requested:opus", clock.now)]
    third = new_pool(A, clock=clock)
    third.merge(pool.everything())
    assert requested(third) == {"opus"}
    third.merge([Row("requested:sonnet", stamp, "null") for stamp in (float("nan"), float("inf"), START - REQUESTED_FOR)])
    third.merge([Row("requested:a:b", clock.now, "null")])
    assert requested(third) == {"opus"}


def test_a_row_from_the_future_counts_for_a_day(pool, clock):
    """A clock that is ahead does not keep a family for longer."""
    pool.merge([Row("requested:opus", clock.now + 1e9, "null")])
    clock.now += REQUESTED_FOR
    assert requested(pool) == frozenset()


def test_what_a_credential_can_serve(pool):
    """A limit of a family, and one for everything, block it; one of token counting does not."""
    cooldown(pool, A, 60, "opus")
    cooldown(pool, A, 60, "sonnet", endpoint=COUNT_TOKENS)
    (one,) = pool.snapshot()
    assert [one.can_serve(family) for family in ("opus", "sonnet")] == [False, True]
    cooldown(pool, A, 60)
    (one,) = pool.snapshot()
    assert not one.can_serve("sonnet")
