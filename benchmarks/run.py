"""``make bench``: measures this proxy beside the upstream, the floor, LiteLLM alone and, with PEERS=1, other proxies.

All servers run at the same time and are measured in turn, in another order each round, so that other work of the machine
affects all of them. Comparisons are made within a round. Writes docs/BENCHMARKS.md.
"""

import argparse
import functools
import os
import platform
import random
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import uvloop

from benchmarks import certificate, choose, load, peers, report, servers
from benchmarks.load import SMALL, Seen
from benchmarks.servers import Server
from benchmarks.upstream import PIECES

CONCURRENCY = (1, 4, 16, 64)
# The concurrency at which everything is measured; the other values are measured with small bodies for Claude.
USUAL = 16
ROUNDS = 5
# The length of one measurement in seconds, its part for a warm-up, and the least number of requests per client.
SECONDS, WARMING, LEAST = 0.4, 0.25, 2
# The number of warm-up requests of each kind for every server.
WARM_UP = 40
# The number of concurrent streams for which events are timed.
PACED = 16
FAILOVERS = 30
# The number of keys for the failover measurement: more than are limited in it.
FAILOVER_KEYS = FAILOVERS + 10
# The time between two pieces of the long stream, in seconds, so that each piece is forwarded as an event of its own.
SEPARATE = 0.002


class ResponseKind(NamedTuple):
    """A kind of response: the command for the upstream, and the number of text pieces."""

    stream: bool
    order: str = ""
    pieces: int = PIECES


WHOLE, STREAMED, SEPARATELY = "whole", f"streamed, {PIECES} events", f"streamed, 300 events {SEPARATE * 1000:.0f} ms apart"
RESPONSES = {
    WHOLE: ResponseKind(stream=False),
    STREAMED: ResponseKind(stream=True),
    SEPARATELY: ResponseKind(stream=True, order=f"[[pieces 300]] [[pace {SEPARATE}]]", pieces=300),
}
# Only for chat completions, of which each piece is translated.
CHUNKED = f"streamed, 200 events {SEPARATE * 1000:.0f} ms apart"
KINDS = RESPONSES | {CHUNKED: ResponseKind(stream=True, order=f"[[pieces 200]] [[pace {SEPARATE}]]", pieces=200)}


class Cell(NamedTuple):
    """One line of the tables."""

    provider: str
    size: str
    response: str
    concurrency: int
    tls: bool = False


class Results(NamedTuple):
    """By server name: the results of each round, and the memory in MB at the start, during the run, and at the end."""

    cells: dict[Cell, dict[str, list[Seen]]]
    # By the provider, too.
    paced: dict[tuple[str, str], list[Seen]]
    failovers: dict[str, tuple[Seen, Seen]]
    memory: dict[str, list[float]]


def cells(concurrencies: Sequence[int]) -> Iterator[Cell]:
    """Yield the measurements over plain HTTP, in the order of the tables."""
    for size in load.CALLS:
        for response in RESPONSES:
            yield from (Cell("claude", size, response, number) for number in (concurrencies if size == SMALL else [USUAL]))
    yield from (Cell("openai", SMALL, response, USUAL) for response in (WHOLE, STREAMED, CHUNKED))
    yield from (Cell("openai", load.LARGE, response, USUAL) for response in (WHOLE, STREAMED))


def tls_cells() -> Iterator[Cell]:
    """Yield the measurements over TLS."""
    yield from (Cell("claude", SMALL, response, USUAL, tls=True) for response in RESPONSES)


async def measure(every: Sequence[Server], each: Iterator[Cell], rounds: int, scale: float, results: Results) -> None:
    """Measure each cell with all servers of its provider: the upstream, the floor and the peers serve only Claude."""
    for cell in each:
        response = KINDS[cell.response]
        chosen = [server for server in every if cell.provider in server.models]
        seen = results.cells[cell] = {server.name: [] for server in chosen}
        for server, counts in in_turn(chosen, rounds):
            body = load.body(server.models[cell.provider], cell.size, stream=response.stream, order=response.order)
            # A long stream has its own duration; warm-ups and trial runs may be short.
            least = cell.concurrency * (LEAST if counts and scale >= 1 and not response.order else 1)
            requests = load.repeated(body, least, SECONDS * scale * (1 if counts else WARMING))
            run = await load.run(server, requests, cell.concurrency, stream=response.stream, pieces=response.pieces)
            if not cell.tls:
                results.memory.setdefault(server.name, []).append(server.memory_mb())
            if counts:
                seen[server.name].append(run)
        sys.stderr.write(f"{report.line(cell, seen)}\n")


async def warm_up(every: Sequence[Server]) -> None:
    """Send each server requests for both kinds of responses, so that everything is loaded."""
    for server in every:
        for model in server.models.values():
            for stream in (False, True):
                await load.run(server, [load.body(model, SMALL, stream=stream)] * WARM_UP, 4, stream=stream)


async def measure_events(every: Sequence[Server], rounds: int, results: Results) -> None:
    """Time single events, at the pace at which Claude writes."""
    for provider in ("claude", "openai"):
        for server, counts in in_turn([server for server in every if provider in server.models], rounds):
            body = load.body(server.models[provider], SMALL, stream=True, order=f"[[pace {load.PACE}]]")
            run = await load.run(server, [body] * PACED * 2, PACED, stream=True)
            if counts:
                results.paced.setdefault((provider, server.name), []).append(run)


def in_turn(chosen: Sequence[Server], rounds: int) -> Iterator[tuple[Server, bool]]:
    """Yield the servers round by round, each time in another order, and whether the round counts; the first is a warm-up."""
    order = random.Random(1)  # noqa: S311 - an order, not a secret
    for number in range(rounds + 1):
        for server in order.sample(chosen, len(chosen)):
            yield server, number > 0


async def measure_failovers(every: Sequence[Server], results: Results) -> None:
    """Send requests one after the other: plain ones, and ones whose first credential is limited."""
    for place, server in enumerate(every):
        plain, moved = results.failovers[server.name] = Seen(), Seen()
        for number in range(FAILOVERS):
            for seen, order in ((plain, ""), (moved, f"[[once {place}-{number}]]")):
                body = load.body(server.models["claude"], SMALL, stream=True, order=order)
                run = await load.run(server, [body], 1, stream=True)
                seen.first += run.first
                seen.end += run.end


@contextmanager
def running(folder: Path, upstream: Server, starts: Sequence[Callable[[Path, Server], Server]]) -> Iterator[list[Server]]:
    """Start servers in front of ``upstream``, each in its own folder; stop all of them and the upstream at the end."""
    with ExitStack() as stack:
        stack.callback(upstream.stop)
        every = [upstream]
        for start in starts:
            place = Path(tempfile.mkdtemp(dir=folder))
            every.append(start(place, upstream))
            stack.callback(every[-1].stop)
        yield every


@contextmanager
def peers_running(folder: Path, upstream: Server) -> Iterator[tuple[list[Server], list[str]]]:
    """Start the peers; yield those that run, and a message for each that does not."""
    if not peers.installed():
        peers.install()
    every: list[Server] = []
    absent: list[str] = []
    with ExitStack() as stack:
        for start in (peers.start_better_ccflare, peers.start_portkey):
            home = folder / start.__name__
            home.mkdir()
            try:
                peer = start(home, upstream.url, "made-up-key", servers.free_port(), servers.SERVER_CPUS)
            except RuntimeError as error:
                absent.append(f"{start.__name__.removeprefix('start_')} did not start: {str(error).splitlines()[0]}")
                continue
            stack.callback(peer.stop)
            every.append(Server(peer.name, peer.url, peer.headers, peer.process, home, {"claude": peer.model}))
        yield every, absent


STARTS = (
    servers.start_floor,
    servers.start_litellm,
    servers.start_litellm_same,
    servers.start_claude_proxy,
    servers.start_all_through_litellm,
)


def measured(options: argparse.Namespace, folder: Path) -> tuple[Results, list[str]]:
    """Start the servers of each part, one part after the other, and measure them; also return what is missing."""
    results = Results({}, {}, {}, {})
    absent: list[str] = []
    with ExitStack() as stack:
        every = stack.enter_context(running(folder, servers.start_upstream(folder), STARTS))
        if options.peers:
            others, absent = stack.enter_context(peers_running(folder, every[0]))
            every += others
        results.memory.update({server.name: [server.memory_mb()] for server in every})
        uvloop.run(warm_up(every))
        uvloop.run(measure(every, cells(options.concurrency), options.rounds, options.scale, results))
        uvloop.run(measure_events(every, options.rounds, results))
        for server in every:
            results.memory[server.name].append(server.memory_mb())
    upstream = servers.start_upstream(folder, certificate.make(folder))
    with running(folder, upstream, (servers.start_floor, servers.start_claude_proxy)) as every:
        uvloop.run(warm_up(every))
        uvloop.run(measure(every, tls_cells(), options.rounds, options.scale, results))
    moving = (servers.start_litellm, servers.start_litellm_same, servers.start_claude_proxy)
    starts = [functools.partial(start, keys=FAILOVER_KEYS) for start in moving]
    with running(folder, servers.start_upstream(folder), starts) as every:
        uvloop.run(measure_failovers(every[1:], results))
    return results, absent


def main(arguments: Sequence[str] | None = None) -> int:
    """Run everything and write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="how often each number is measured")
    parser.add_argument("--scale", type=float, default=1.0, help="how long a measurement lasts, in times the usual")
    parser.add_argument("--concurrency", type=int, nargs="+", default=list(CONCURRENCY), help="with small bodies")
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--output", type=Path, help="the page to write; without it the page is printed")
    options = parser.parse_args(arguments)
    here = os.sched_getaffinity(0)
    os.sched_setaffinity(0, servers.CLIENT_CPUS)
    try:
        with tempfile.TemporaryDirectory() as folder:
            results, absent = measured(options, Path(folder))
    finally:
        os.sched_setaffinity(0, here)
    machine = f"{os.cpu_count()} processors, {platform.system()} on {platform.machine()}, Python {platform.python_version()}"
    page = report.page(results, machine, options.rounds, absent, "\n".join(choose.table(choose.CHOICES)))
    if options.output:
        # Measured by benchmarks/watched.py.
        if options.output.exists() and (kept := report.section(options.output.read_text(encoding="utf-8"), report.WATCHED)):
            page = report.with_section(page, report.WATCHED, kept)
        options.output.write_text(page, encoding="utf-8")
    else:
        sys.stdout.write(page)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
