"""Measures the gain of each server switch: ``make bench SWITCHES=1`` compares the proxy with itself without the switch."""

import os
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import uvloop

from benchmarks import load, report, servers
from benchmarks.load import LARGE, SMALL, Seen
from benchmarks.run import in_turn
from benchmarks.servers import OURS, Server

SERVER = "import claude_proxy.server.options as options; options.SERVER = {{**options.SERVER, {}}}"
# Python that turns each switch off; it runs before anything else.
OFF: Mapping[str, str] = {
    "httptools instead of h11": SERVER.format('"http": "h11"'),
    "uvloop": SERVER.format('"loop": "asyncio"'),
    "no access log": SERVER.format('"access_log": True, "log_level": "info"'),
    "rare garbage collections": "import gc; gc.freeze = gc.set_threshold = lambda *_: None",
}


class Kind(NamedTuple):
    """One column: a kind of request, and the concurrency."""

    provider: str
    size: str
    stream: bool
    concurrency: int = 4


KINDS = {
    "small, whole": Kind("claude", size=SMALL, stream=False),
    "small, streamed": Kind("claude", size=SMALL, stream=True),
    "small, streamed, 64 at a time": Kind("claude", size=SMALL, stream=True, concurrency=64),
    "large, whole": Kind("claude", size=LARGE, stream=False),
    "large, streamed": Kind("claude", size=LARGE, stream=True),
    "OpenAI format, small, streamed": Kind("openai", size=SMALL, stream=True),
}
ROUNDS = 5


async def measure(every: Sequence[Server]) -> dict[str, dict[str, list[Seen]]]:
    """Return the results, by kind of request and server."""
    results: dict[str, dict[str, list[Seen]]] = {}
    for name, kind in KINDS.items():
        seen = results[name] = {server.name: [] for server in every}
        requests = 60 if kind.size == LARGE or kind.provider == "openai" else 150
        for server, counts in in_turn(every, ROUNDS):
            body = load.body(server.models[kind.provider], kind.size, stream=kind.stream)
            run = await load.run(server, [body] * requests, kind.concurrency, stream=kind.stream)
            if counts:
                seen[server.name].append(run)
    return results


def rows(results: Mapping[str, Mapping[str, Sequence[Seen]]]) -> list[list[str]]:
    """Return a line for each switch: how much more processor time each kind of request needs without it, in per cent."""
    lines = []
    for name in OFF:
        cells = []
        for seen in results.values():
            more = [off.cpu / on.cpu * 100 - 100 for on, off in zip(seen[OURS], seen[name], strict=True)]
            cells.append(f"{statistics.median(more):+.0f} % ({min(more):+.0f} to {max(more):+.0f})")
        lines.append([name, *cells])
    return lines


def main() -> int:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        upstream = servers.start_upstream(Path(folder))
        stack.callback(upstream.stop)
        every = []
        for number, (name, before) in enumerate({OURS: "", **OFF}.items()):
            place = Path(folder) / str(number)
            place.mkdir()
            every.append(servers.start_claude_proxy(place, upstream, name=name, before=before))
            stack.callback(every[-1].stop)
        os.sched_setaffinity(0, servers.CLIENT_CPUS)
        results = uvloop.run(measure(every))
    sys.stdout.write(report.table(["without", *KINDS], rows(results)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
