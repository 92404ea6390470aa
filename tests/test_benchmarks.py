"""benchmarks/: they run, and what they compare comes out as it should; no time is asserted."""

import pytest

from benchmarks import choose


def test_the_table_is_printed(capsys):
    """``make bench`` ends well and prints a line for each scenario."""
    assert choose.main(["--choices", "50"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len([line for line in lines if "sessions  " in line or "bound  " in line]) == 3


def test_the_pool_is_faster_than_a_naive_one():
    """Looking at derived values beats looking at everything, for sessions that are known and for new ones."""
    rows = list(choose.measure(300))
    assert [row.scenario for row in rows if row.pool.p50 >= row.naive.p50] == []


@pytest.mark.parametrize("bound_of_ten", [0, 9, 10])
def test_both_pools_choose_by_the_same_rules(bound_of_ten):
    """The comparison is fair: what the naive pool leaves out is speed; neither chooses one that rests or moves a session."""
    clock = choose.Clock()
    pool, labels, places = choose._pool(clock)
    naive = choose.NaivePool(pool, labels, clock, dict(places))
    for wanted in choose._requests(200, bound_of_ten):
        slow, fast = naive.choose(wanted), pool.choose(wanted)
        assert pool.state(slow.label).usable_at(wanted.family) <= clock.now
        assert pool.state(fast.label).usable_at(wanted.family) <= clock.now
        if wanted.session in places:
            assert slow.label == fast.label == places[wanted.session]
