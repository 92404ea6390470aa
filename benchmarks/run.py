"""``make bench``: this proxy beside the upstream directly, LiteLLM alone and, with PEERS=1, others; into docs/BENCHMARKS.md.

All servers run at the same time and are measured in turn, in another order each round, so that whatever else the machine does
meets all of them; what is compared is compared within a round.
"""

import argparse
import os
import platform
import random
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import uvloop

from benchmarks import choose, load, peers, report, servers
from benchmarks.load import Seen
from benchmarks.servers import Server

CONCURRENCY = (1, 4, 16, 64)
# Requests of one measurement: enough for a second or so of LiteLLM's.
REQUESTS = {False: 60, True: 24}
# At how many streams at once events are timed.
PACED = 16
FAILOVERS = 30


class Cell(NamedTuple):
    """One line of the tables."""

    provider: str
    large: bool
    stream: bool
    concurrency: int


class Results(NamedTuple):
    """Per server's name: what was seen in each round, and the memory in MB at the start, at most, and at the end."""

    cells: dict[Cell, dict[str, list[Seen]]]
    paced: dict[str, list[Seen]]
    failovers: dict[str, tuple[Seen, Seen]]
    memory: dict[str, list[float]]


def cells(providers: Sequence[str], concurrencies: Sequence[int]) -> Iterator[Cell]:
    """Yield every combination."""
    for provider in providers:
        for large in (False, True):
            for stream in (False, True):
                for concurrency in concurrencies:
                    yield Cell(provider, large, stream, concurrency)


def serves(server: Server, provider: str) -> bool:
    """Whether a server is measured with a provider; the upstream and the peers with Claude alone."""
    return provider in server.models


async def measure(every: Sequence[Server], rounds: int, concurrencies: Sequence[int], scale: float) -> Results:
    """Measure all servers in all cells, then single events, then failovers."""
    results = Results({}, {}, {}, {server.name: [server.memory_mb()] for server in every})
    for cell in cells(("claude", "openai"), concurrencies):
        requests = max(cell.concurrency * 2, int(REQUESTS[cell.large] * scale))
        chosen = [server for server in every if serves(server, cell.provider)]
        seen = results.cells[cell] = {server.name: [] for server in chosen}
        for server, counts in in_turn(chosen, rounds):
            body = load.body(server.models[cell.provider], large=cell.large, stream=cell.stream)
            run = await load.run(server, [body] * requests, cell.concurrency, stream=cell.stream)
            results.memory[server.name].append(server.memory_mb())
            if counts:
                seen[server.name].append(run)
        sys.stderr.write(f"{report.line(cell, seen)}\n")
    claude = [server for server in every if serves(server, "claude")]
    for server, counts in in_turn(claude, rounds):
        body = load.body(server.models["claude"], large=False, stream=True, order=f"[[pace {load.PACE}]]")
        run = await load.run(server, [body] * PACED * 2, PACED, stream=True)
        if counts:
            results.paced.setdefault(server.name, []).append(run)
    for server in claude:
        if server.failover_model:
            results.failovers[server.name] = await failovers(server)
    for server in every:
        results.memory[server.name].append(server.memory_mb())
    return results


def in_turn(chosen: Sequence[Server], rounds: int) -> Iterator[tuple[Server, bool]]:
    """Yield the servers round by round, each time in another order, and whether the round counts: the first warms up."""
    order = random.Random(1)  # noqa: S311 - an order, not a secret
    for number in range(rounds + 1):
        for server in order.sample(chosen, len(chosen)):
            yield server, number > 0


async def failovers(server: Server) -> tuple[Seen, Seen]:
    """Return requests one after the other: plain ones, and ones whose first credential is limited."""
    plain, moved = Seen(), Seen()
    for number in range(FAILOVERS):
        for seen, order in ((plain, ""), (moved, f"[[once {abs(hash(server.name))}-{number}]]")):
            body = load.body(server.failover_model, large=False, stream=True, order=order)
            run = await load.run(server, [body], 1, stream=True)
            seen.first += run.first
            seen.end += run.end
    return plain, moved


def started(folder: Path, stack: ExitStack, *, with_peers: bool) -> tuple[list[Server], list[str]]:
    """Start everything; return the servers, and a sentence for each peer that does not run here."""
    absent: list[str] = []

    def place(name: str) -> Path:
        (folder / name).mkdir()
        return folder / name

    upstream = servers.start_upstream(place("upstream"))
    stack.callback(upstream.stop)
    every = [upstream]
    for start in (servers.start_litellm, servers.start_litellm_same, servers.start_claude_proxy):
        every.append(start(place(start.__name__), upstream.url))
        stack.callback(every[-1].stop)
    if with_peers:
        if not peers.installed():
            peers.install()
        for begin in (peers.start_better_ccflare, peers.start_portkey):
            try:
                peer = begin(place(begin.__name__), upstream.url, "made-up-key", servers.free_port(), servers.SERVER_CPUS)
            except RuntimeError as error:
                absent.append(f"{begin.__name__.removeprefix('start_')} did not start: {str(error).splitlines()[0]}")
                continue
            stack.callback(peer.stop)
            every.append(Server(peer.name, peer.url, peer.headers, peer.process, folder / peer.name, {"claude": peer.model}))
    return every, absent


def main(arguments: Sequence[str] | None = None) -> int:
    """Run everything and write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="how often each number is measured")
    parser.add_argument("--scale", type=float, default=1.0, help="how many requests, in times the usual number")
    parser.add_argument("--concurrency", type=int, nargs="+", default=list(CONCURRENCY))
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--output", type=Path, help="the page to write; without it the page is printed")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        every, absent = started(Path(folder), stack, with_peers=options.peers)
        here = os.sched_getaffinity(0)
        os.sched_setaffinity(0, servers.CLIENT_CPUS)
        try:
            results = uvloop.run(measure(every, options.rounds, options.concurrency, options.scale))
        finally:
            os.sched_setaffinity(0, here)
    machine = f"{os.cpu_count()} processors, {platform.system()} on {platform.machine()}, Python {platform.python_version()}"
    page = report.page(results, machine, options.rounds, absent, "\n".join(choose.table(choose.CHOICES)))
    if options.output:
        options.output.write_text(page, encoding="utf-8")
    else:
        sys.stdout.write(page)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
