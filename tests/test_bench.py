"""benchmarks/run.py and its parts: the upstream follows its commands, and the page shows the measurements."""

import asyncio
import importlib
import itertools
import os
import re
import subprocess
import sys
import time

import pytest

from benchmarks import certificate, load, report, servers, switches
from benchmarks.load import LARGE, MIDDLE, SMALL, Seen
from benchmarks.run import (
    CHUNKED,
    FAILOVER_KEYS,
    FAILOVERS,
    RESPONSES,
    SEPARATELY,
    STREAMED,
    USUAL,
    WHOLE,
    Cell,
    Results,
    cells,
    in_turn,
    measure,
    running,
    tls_cells,
)
from benchmarks.servers import CLAUDE, DEFAULTS, FLOOR, OURS, SAME, THROUGH, UPSTREAM, Server, start_floor, start_upstream
from benchmarks.upstream import PIECES
from claude_proxy.config import features
from claude_proxy.server.options import SERVER


@pytest.fixture(scope="module")
def upstream(tmp_path_factory):
    server = start_upstream(tmp_path_factory.mktemp("upstream"))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def secure(tmp_path_factory):
    """Start the upstream over TLS."""
    folder = tmp_path_factory.mktemp("secure")
    server = start_upstream(folder, certificate.make(folder))
    yield server
    server.stop()


def run(server: Server, concurrency=2, *, stream, size=SMALL, orders=("",) * 4, pieces=PIECES) -> Seen:
    bodies = [load.body(CLAUDE, size, stream=stream, order=order) for order in orders]
    return asyncio.run(load.run(server, bodies, concurrency, stream=stream, pieces=pieces))


@pytest.mark.parametrize("size", load.CALLS)
@pytest.mark.parametrize("stream", [False, True])
def test_every_request_is_answered_and_timed(upstream, size, stream):
    """Each request has the times of its first byte and of its end."""
    seen = run(upstream, stream=stream, size=size)
    assert (len(seen.first), len(seen.end), seen.lags) == (4, 4, [])
    assert all(0 < first <= end for first, end in zip(sorted(seen.first), sorted(seen.end), strict=True))
    assert seen.requests_per_second > 0


def test_paced_events_tell_when_they_left(upstream):
    """Each piece of a paced stream has its own time from the upstream to the client."""
    seen = run(upstream, stream=True, orders=["[[pace 0.001]]"] * 2)
    assert len(seen.lags) == 2 * PIECES
    assert all(lag > 0 for lag in seen.lags)


@pytest.mark.parametrize("concurrency", [1, 16])
def test_a_long_stream_has_as_many_pieces_as_it_was_asked_for(upstream, concurrency):
    """Each of the separate events arrives once, however the bytes of many streams are cut."""
    orders = [RESPONSES[SEPARATELY].order.replace("pace 0.002", "pace 0.0001")] * concurrency
    seen = run(upstream, concurrency, stream=True, orders=orders, pieces=300)
    assert len(seen.lags) == 300 * concurrency


@pytest.mark.parametrize("answer", RESPONSES)
def test_the_floor_forwards_what_the_upstream_answers(upstream, tmp_path, answer):
    """A response, whole or streamed, is forwarded with its events, so the floor does the same work as the others."""
    floor = start_floor(tmp_path, upstream)
    try:
        kind = RESPONSES[answer]
        seen = run(floor, stream=kind.stream, orders=[kind.order] * 2, pieces=kind.pieces)
    finally:
        floor.stop()
    assert len(seen.end) == 2
    assert floor.process.poll() is not None


def test_over_tls_the_floor_trusts_the_upstream_s_certificate(secure, tmp_path):
    """The same requests use TLS, from a client and from the floor, with certificate verification."""
    floor = start_floor(tmp_path, secure)
    try:
        assert len(run(floor, stream=True).end) == len(run(secure, stream=True).end) == 4
    finally:
        floor.stop()
    assert secure.url.startswith("https://")
    stranger = Server(UPSTREAM, secure.url, {}, secure.process, secure.log, {})
    with pytest.raises(Exception, match="certificate verify failed"):
        run(stranger, stream=True)


def test_an_answer_that_is_no_success_ends_the_benchmark(upstream):
    """A rejected request does not count as a fast one; the next one with the same name succeeds."""
    with pytest.raises(RuntimeError, match="responded with 429"):
        run(upstream, stream=False, orders=["[[once a]]"])
    assert len(run(upstream, stream=False, orders=["[[once a]]"]).end) == 1


@pytest.mark.parametrize(
    ("size", "least", "most"), [(SMALL, 1_500, 3_000), (MIDDLE, 90_000, 120_000), (LARGE, 400_000, 480_000)]
)
def test_a_body_is_as_large_as_its_name_says(size, least, most):
    """The largest body has a hundred thousand tokens, at four characters each."""
    assert least < len(load.body(CLAUDE, size, stream=True)) < most


def test_requests_are_repeated_for_a_time_and_so_many_times_at_least():
    """A fast server gets more requests than a slow one in the same time, and each client's first ones are always sent."""
    assert list(load.repeated(b"body", 3, 0.0)) == [b"body"] * 3
    assert len(list(itertools.islice(load.repeated(b"body", 1, 60.0), 100))) == 100


def test_processor_time_is_that_of_the_process(upstream):
    """The processor time of the process counts, finer than a hundredth of a second, and waiting does not."""
    command = [sys.executable, "-c", "import sys; sum(range(3_000_000)); print(flush=True); sys.stdin.read()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        server = Server("busy", "", {}, process, upstream.log, {})
        used = server.cpu_seconds()
        assert 0 < used < time.monotonic()
        assert used * os.sysconf("SC_CLK_TCK") % 1 != 0
        process.stdin.close()


def test_every_size_and_answer_is_measured_at_the_usual_concurrency():
    """Other concurrencies are for small bodies for Claude, so that a run ends in time; TLS is for small bodies."""
    rows = list(cells((1, 16)))
    claude = [(cell.size, cell.response) for cell in rows if cell.provider == "claude" and cell.concurrency == USUAL]
    assert claude == list(itertools.product(load.CALLS, RESPONSES))
    assert {cell.size for cell in rows if cell.concurrency != USUAL} == {SMALL}
    assert [(cell.size, cell.response) for cell in tls_cells()] == [(SMALL, answer) for answer in RESPONSES]
    assert Cell("openai", SMALL, CHUNKED, USUAL) in rows


def test_no_failover_is_without_a_credential():
    """Each such request limits one more credential, so there are more credentials than such requests."""
    assert FAILOVER_KEYS > FAILOVERS


def test_a_setting_sends_everything_through_litellm():
    """The additional setting of the row "all through LiteLLM" is unknown to the lanes."""
    name = servers.ALL_THROUGH_LITELLM.partition(":")[0]
    assert features.reasons({"litellm_settings": {name: False}}) == (f"litellm_settings: {name}",)


def test_the_servers_of_a_part_are_measured_and_stopped(tmp_path):
    """Each cell has each round of each server for its provider, and all servers are stopped."""
    results = Results({}, {}, {}, {})
    with running(tmp_path, start_upstream(tmp_path), [start_floor]) as every:
        rows = iter([Cell("claude", SMALL, STREAMED, 2), Cell("openai", SMALL, WHOLE, 2)])
        asyncio.run(measure(every, rows, 2, 0.0, results))
    claude, openai = results.cells.values()
    assert {name: len(runs) for name, runs in claude.items()} == {UPSTREAM: 2, FLOOR: 2}
    assert openai == {}
    assert all(value > 0 for values in results.memory.values() for value in values)
    assert [server.process.poll() is None for server in every] == [False, False]


def test_the_servers_take_turns():
    """Each round uses each server once, in varying order, and the first round does not count."""
    turns = list(in_turn("abc", 4))
    rounds = [turns[place : place + 3] for place in range(0, len(turns), 3)]
    assert [sorted(server for server, _ in each) for each in rounds] == [["a", "b", "c"]] * 5
    assert len({tuple(server for server, _ in each) for each in rounds}) > 1
    assert [counts for _, counts in turns] == [False] * 3 + [True] * 12


def seen_at(rate: float, cpu=0.1) -> Seen:
    return Seen(first=[1 / rate] * 10, end=[2 / rate] * 10, lags=[0.001], seconds=10 / rate, cpu=cpu)


def made_up_results() -> Results:
    rates = {UPSTREAM: 1000.0, FLOOR: 800.0, DEFAULTS: 50.0, SAME: 60.0, OURS: 150.0, THROUGH: 75.0}
    costs = {UPSTREAM: 0.001, FLOOR: 0.01, DEFAULTS: 0.2, SAME: 0.1, OURS: 0.025, THROUGH: 0.05}
    measured = {}
    for cell in (*cells((1, 16)), *tls_cells()):
        names = (
            [UPSTREAM, FLOOR, OURS]
            if cell.tls
            else [name for name in rates if cell.provider == "claude" or name not in list(rates)[:2]]
        )
        measured[cell] = {
            name: [seen_at(rates[name], costs[name]), seen_at(rates[name] * 2, costs[name] * 2)] for name in names
        }
    return Results(
        measured,
        {("claude", name): [seen_at(rate)] for name, rate in rates.items()} | {("openai", OURS): [seen_at(rates[OURS])]},
        {OURS: (seen_at(100), seen_at(50))},
        {name: [100.0, 300.0, 200.0] for name in rates},
    )


def section(page: str, heading: str) -> str:
    return page.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]


def row(text: str, start: str) -> list[str]:
    (found,) = [line for line in text.splitlines() if line.startswith(f"| {start} |")]
    return [cell.strip() for cell in found.strip("|").split("|")][1:]


def test_the_page_says_what_was_seen():
    """Ratios within a round, added times, failovers and memory are shown as measured."""
    page = report.page(made_up_results(), "a machine", 2, ["one did not start"], "choosing")
    rates = section(page, "Requests per second of one worker")
    assert row(rates, f"Claude, 2 kB, {WHOLE} | 16") == [
        "16", "1500", "1200", "75", "90", "225", "112", "3.00 (3.00 to 3.00)", "2.50 (2.50 to 2.50)",
    ]  # fmt: skip
    assert row(rates, f"OpenAI format, 440 kB, {STREAMED} | 16")[:4] == ["16", "", "", "75"]
    end = section(page, "Added time").split("### To the end")[1]
    assert row(end, f"Claude, 440 kB, {STREAMED} | 16")[4] == "11.3 / 11.3"
    assert "| claude-proxy | 10.0 | 20.0 | 10.0 |" in page
    assert "| claude-proxy | 100 | 300 | 200 |" in page
    assert "one did not start" in page


def test_processor_time_is_told_in_times_of_the_floor():
    """Each server except the upstream is compared with the floor of the same round; rows without a floor are left out."""
    page = report.page(made_up_results(), "a machine", 2, [], "choosing")
    floors = section(page, "Processor time per request, as a multiple of the floor")
    twenty, ten, two, five = (f"{ratio:.2f} ({ratio:.2f} to {ratio:.2f})" for ratio in (20, 10, 2.5, 5))
    assert row(floors, f"Claude, 2 kB, {SEPARATELY} | 16") == ["16", "1.50", twenty, ten, two, five]
    assert "OpenAI" not in floors
    assert "TLS" not in floors
    milliseconds = section(page, "Processor time per request, in milliseconds")
    assert row(milliseconds, f"Claude, 100 kB, {WHOLE} | 16") == ["16", "0.15", "1.50", "30.00", "15.00", "3.75", "7.50"]


def test_tls_has_a_table_of_its_own():
    """The table has the processor time, also as a multiple of the floor, the rate and the added time of each kind."""
    secure = section(report.page(made_up_results(), "a machine", 2, [], "choosing"), "Over TLS to the upstream")
    assert row(secure, f"Claude over TLS, 2 kB, {WHOLE} | 16") == [
        "16", "0.15", "1500", "1.50", "1200", "3.75", "225", "2.50 (2.50 to 2.50)", "11.3 / 11.3",
    ]  # fmt: skip


def test_a_line_for_who_waits():
    """A progress line names the kind of request and each server's rate and processor time."""
    cell = Cell("claude", LARGE, WHOLE, concurrency=4)
    line = report.line(cell, {OURS: [seen_at(10)]})
    assert line == "Claude, 440 kB, whole, 4 at a time: claude-proxy: 10/s 10.00 ms"


def test_a_switch_is_compared_within_a_round():
    """The processor time without a switch is compared with that of the same round with it."""
    on, off = [Seen(cpu=1.0), Seen(cpu=2.0)], [Seen(cpu=1.5), Seen(cpu=3.2)]
    results = {"small": {OURS: on, **dict.fromkeys(switches.OFF, off)}}
    assert switches.rows(results)[0] == [next(iter(switches.OFF)), "+55 % (+50 to +60)"]


@pytest.mark.parametrize("before", switches.OFF.values(), ids=list(switches.OFF))
def test_what_turns_a_switch_off_is_there(before):
    """Each replacement changes an existing name, so nothing is compared with itself."""
    for module, name in re.findall(r"import ([\w.]+)(?: as \w+)?; \w+\.(\w+) =", before):
        assert hasattr(importlib.import_module(module), name)
    compile(before, "before", "exec")
    for name in re.findall(r'"(\w+)": ', before):
        assert name in SERVER
