"""benchmarks/made_up_history.py: the same team every time, with all that the page shows of one."""

from itertools import pairwise

from benchmarks.made_up_history import CREDENTIALS, GROUPS, MODELS, PROJECTS, USERS, Team, records, totals

# A Monday, 14:50 UTC.
END = 1796050200.0
SMALL = Team(users=50, days=30, requests=4)


def test_a_seed_gives_the_same_requests():
    """Two runs are equal, and another seed's is another."""
    assert [*records(SMALL, END)] == [*records(SMALL, END)]
    assert totals([*records(SMALL, END)]) != totals([*records(Team(50, 30, 4, seed=18), END)])


def test_all_names_occur():
    """Every user, group, model, credential and project is in a month of requests; other models have no credential."""
    found = [*records(SMALL, END)]
    assert {record.user for record in found} == {*USERS}
    assert {group for record in found for group in record.groups} == {*GROUPS}
    assert {record.requested for record in found} == {*MODELS}
    assert {record.credential for record in found} == {*CREDENTIALS, ""}
    assert {record.project for record in found} == {*PROJECTS}
    assert all(record.served.startswith("anthropic/") for record in found if record.credential)


def test_the_requests_are_in_order_and_before_the_end():
    """They arrive one after the other, the last ones on the day of the end."""
    times = [record.at for record in records(SMALL, END)]
    assert all(one <= other for one, other in pairwise(times))
    assert END - 6 * 3600 < times[-1] < END
    assert 29 * 86400 < END - times[0] < 30 * 86400


def test_some_requests_fail_and_some_move():
    """There are errors, failovers, and responses without a known price."""
    found = [*records(SMALL, END)]
    _, errors, micro_usd = totals(found)
    assert 0.01 < errors / len(found) < 0.06
    assert micro_usd > 0
    assert any(record.failovers for record in found)
    assert any(record.cost is None and record.status == 200 for record in found)
