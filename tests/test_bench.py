"""benchmarks/run.py and what it is made of: the upstream answers as told, and the page says what was seen."""

import asyncio
import re

import pytest

from benchmarks import load, report, switches
from benchmarks.load import Seen
from benchmarks.run import Cell, Results, cells, in_turn
from benchmarks.servers import CLAUDE, DEFAULTS, OURS, SAME, UPSTREAM, Server, start_upstream
from benchmarks.upstream import PIECES


@pytest.fixture(scope="module")
def upstream(tmp_path_factory):
    server = start_upstream(tmp_path_factory.mktemp("upstream"))
    yield server
    server.stop()


def run(server: Server, concurrency=2, *, stream, large=False, orders=("",) * 4) -> Seen:
    bodies = [load.body(CLAUDE, large=large, stream=stream, order=order) for order in orders]
    return asyncio.run(load.run(server, bodies, concurrency, stream=stream))


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("stream", [False, True])
def test_every_request_is_answered_and_timed(upstream, large, stream):
    """Each request has the time of its first byte and of its end."""
    seen = run(upstream, stream=stream, large=large)
    assert (len(seen.first), len(seen.end), seen.lags) == (4, 4, [])
    assert all(0 < first <= end for first, end in zip(sorted(seen.first), sorted(seen.end), strict=True))
    assert seen.requests_per_second > 0


def test_paced_events_tell_when_they_left(upstream):
    """Each piece of a paced stream has its own way from the upstream to the client."""
    seen = run(upstream, stream=True, orders=["[[pace 0.001]]"] * 2)
    assert len(seen.lags) == 2 * PIECES
    assert all(lag > 0 for lag in seen.lags)


def test_an_answer_that_is_no_success_ends_the_benchmark(upstream):
    """A refused request is not counted as a fast one; the next one with the same name is answered."""
    with pytest.raises(RuntimeError, match="answered 429"):
        run(upstream, stream=False, orders=["[[once a]]"])
    assert len(run(upstream, stream=False, orders=["[[once a]]"]).end) == 1


def test_a_large_body_has_a_hundred_thousand_tokens():
    """Four characters a token; and a small one is small."""
    assert 380_000 < len(load.body(CLAUDE, large=True, stream=True)) < 500_000
    assert len(load.body(CLAUDE, large=False, stream=True)) < 3_000


def test_the_servers_take_turns():
    """Each round asks each server once, not always in the same order, and the first round does not count."""
    turns = list(in_turn("abc", 4))
    rounds = [turns[place : place + 3] for place in range(0, len(turns), 3)]
    assert [sorted(server for server, _ in each) for each in rounds] == [["a", "b", "c"]] * 5
    assert len({tuple(server for server, _ in each) for each in rounds}) > 1
    assert [counts for _, counts in turns] == [False] * 3 + [True] * 12


def seen_at(rate: float) -> Seen:
    return Seen(first=[1 / rate] * 10, end=[2 / rate] * 10, lags=[0.001], seconds=10 / rate, cpu=0.1)


def made_up_results() -> Results:
    rates = {UPSTREAM: 1000.0, DEFAULTS: 50.0, SAME: 60.0, OURS: 150.0}
    measured = {}
    for cell in cells(("claude", "openai"), (1, 16)):
        names = [name for name in rates if cell.provider == "claude" or name != UPSTREAM]
        measured[cell] = {name: [seen_at(rates[name]), seen_at(rates[name] * 2)] for name in names}
    return Results(
        measured,
        {name: [seen_at(rate)] for name, rate in rates.items()},
        {OURS: (seen_at(100), seen_at(50))},
        {name: [100.0, 300.0, 200.0] for name in rates},
    )


def test_the_page_says_what_was_seen():
    """Ratios within a round, times beyond the upstream's, failovers and memory stand in it as they were measured."""
    page = report.page(made_up_results(), "a machine", 2, ["one did not start"], "choosing")
    assert "3.00 (3.00 to 3.00) | 2.50 (2.50 to 2.50)" in page
    assert "| claude-proxy | 10.0 | 20.0 | 10.0 |" in page
    assert "| claude-proxy | 100 | 300 | 200 |" in page
    assert "one did not start" in page
    assert re.search(r"^\| 16 \| .* \| 225/s, 10\.0 s \|", page, re.MULTILINE)


def test_a_line_for_who_waits():
    """What is told while it runs names the kind of request and each server's rate."""
    cell = Cell("claude", large=True, stream=False, concurrency=4)
    line = report.line(cell, {OURS: [seen_at(10)]})
    assert line == "Claude, large body, whole answer, 4 at a time: claude-proxy: 10/s"


def test_a_switch_is_compared_within_a_round():
    """The processor time without a switch is told beside that of the same round with it."""
    on, off = [Seen(cpu=1.0), Seen(cpu=2.0)], [Seen(cpu=1.5), Seen(cpu=3.2)]
    results = {"small": {OURS: on, **dict.fromkeys(switches.OFF, off)}}
    assert switches.rows(results)[0] == [next(iter(switches.OFF)), "+55 % (+50 to +60)"]


@pytest.mark.parametrize("before", switches.OFF.values(), ids=list(switches.OFF))
def test_what_turns_a_switch_off_is_there(before):
    """Each of them changes a name that exists: nothing is compared with itself."""
    found = re.findall(r"import (claude_proxy(?:\.\w+)+) as \w+; \w+\.(\w+) =", before)
    assert found or before.startswith("import gc")
    for module, name in found:
        assert hasattr(__import__(module, fromlist=[name]), name)
    compile(before, "before", "exec")
