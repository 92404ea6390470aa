"""benchmarks/simulate.py: the page's claims hold in one short week, and a seed always gives the same figures."""

import logging

import pytest

from benchmarks import simulate
from benchmarks.orders import BeforeWeek, OmniscientWeek
from benchmarks.week import Figures, OurWeek, World, reset_first

ORDERS = {"headroom": OurWeek, "reset-first": reset_first, "before": BeforeWeek, "omniscient": OmniscientWeek}


@pytest.fixture(scope="module", autouse=True)
def _quiet():
    """Silence thousands of log lines about cooldowns."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(scope="module")
def usual():
    world = World(1, 5, simulate.USUAL, days=4)
    return {name: week(world).run() for name, week in ORDERS.items()}


@pytest.fixture(scope="module")
def overloaded():
    world = World(1, 5, simulate.OVERLOADED, calm=True)
    return {name: ORDERS[name](world).run() for name in ("headroom", "reset-first")}


@pytest.mark.parametrize("order", ["headroom", "reset-first"])
def test_nobody_is_refused_whom_an_account_could_have_served(usual, overloaded, order):
    """No request is refused that an account could serve, through incidents, early resets and all kinds of limits."""
    assert (usual[order].lost, overloaded[order].lost) == (0, 0)


def test_the_week_is_hard_enough(usual, overloaded):
    """The earlier order loses requests in the same week, sessions move, and requests are refused."""
    assert usual["before"].lost > 0
    assert 0 < usual["omniscient"].switches <= usual["headroom"].switches < usual["before"].switches
    assert overloaded["headroom"].unable > 0


def test_reset_first_serves_more_of_too_much_work(overloaded):
    """If there is more work than the accounts provide, using the windows that reset first serves more requests."""
    assert overloaded["reset-first"].served > overloaded["headroom"].served


def test_a_seed_is_a_week():
    """The same seed gives the same figures, another seed another week."""
    first, again, other = (OurWeek(World(seed, 5, 1.1, days=1)).run() for seed in (1, 1, 2))
    assert first == again != other


def test_the_page_has_a_line_for_each_order(monkeypatch, capsys, tmp_path):
    """``make simulate`` prints what it writes: a line for each number of accounts and each order."""
    made = Figures(10, served=9, sessions=2, switches=1)
    monkeypatch.setattr(simulate, "run", lambda orders, *_, **_more: {name: [made] for name in orders})
    monkeypatch.setattr(simulate, "PAGE", tmp_path / "SIMULATION.md")
    assert simulate.main(["--write", "--seeds", "1"]) == 0
    text = (tmp_path / "SIMULATION.md").read_text(encoding="utf-8")
    assert capsys.readouterr().out == text
    assert text.count("| 5 | ") == text.count("| 20 | ") == 6
