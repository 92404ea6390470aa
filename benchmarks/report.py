"""The page of ``make bench``: tables of what was measured, and ratios with their spread. No figure is written by hand."""

import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from benchmarks.load import PACE, Seen
from benchmarks.servers import DEFAULTS, OURS, SAME, UPSTREAM

if TYPE_CHECKING:
    from benchmarks.run import Cell, Results

COMMANDS = """make bench            # this proxy, LiteLLM and the upstream, in some fifteen minutes
make bench PEERS=1    # and two others from npm"""
HEAD = """# Benchmarks

This page is what `make bench` wrote; [performance](performance.md) says what the figures mean and where the time goes.

```sh
{commands}
```

Machine: {machine}. Each server is one process on one processor; the clients and the loopback upstream have the
rest. The upstream answers at once with {pieces} pieces of text. A large body has some 100,000 tokens (440 kB), a small one
2 kB. All servers run at the same time and are measured in turn, in {rounds} rounds after one for warming up. A ratio is taken
within a round; behind its median stand the lowest and the highest of the rounds.

- **{same}**: LiteLLM 1.106.2 without this project, with the server and the settings that this project gives it.
- **{defaults}**: LiteLLM 1.106.2 without this project, started by its own command.
"""


def percentile(values: Sequence[float], part: float) -> float:
    """Return the value that ``part`` of all are at most; 0 without values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] if ordered else 0.0


def spread(ratios: Sequence[float]) -> str:
    """Return a median with its lowest and highest."""
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def ratios(seen: Mapping[str, Sequence[Seen]], over: str, under: str) -> list[float]:
    """Return in each round how many times the requests per second of ``under`` those of ``over`` are."""
    return [high.requests_per_second / low.requests_per_second for high, low in zip(seen[over], seen[under], strict=True)]


def line(cell: "Cell", seen: Mapping[str, Sequence[Seen]]) -> str:
    """Return what is told while it runs."""
    rates = ", ".join(
        f"{name}: {statistics.median(run.requests_per_second for run in runs):.0f}/s" for name, runs in seen.items()
    )
    return f"{title(cell)}, {cell.concurrency} at a time: {rates}"


def title(cell: "Cell") -> str:
    """Return what a cell's requests are, in words."""
    format_ = {"claude": "Claude", "openai": "OpenAI format"}[cell.provider]
    return f"{format_}, {'large' if cell.large else 'small'} body, {'streamed' if cell.stream else 'whole'} answer"


def page(results: "Results", machine: str, rounds: int, absent: Sequence[str], choosing: str) -> str:
    """Return the whole page as Markdown."""
    from benchmarks.upstream import PIECES  # noqa: PLC0415 - uvloop is needed where it runs

    head = HEAD.format(commands=COMMANDS, machine=machine, pieces=PIECES, rounds=rounds, same=SAME, defaults=DEFAULTS)
    parts = [head, *absent, _summary(results), _throughput(results), _times(results), _events(results), _failovers(results)]
    parts += [_memory(results), f"## Choosing a credential\n\n```text\n{choosing}\n```\n"]
    return "\n".join(part for part in parts if part)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of Markdown."""
    lines = [head, ["---"] + ["--:"] * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(each)} |" for each in lines) + "\n"


def _summary(results: "Results") -> str:
    rows = []
    for provider in ("claude", "openai"):
        for large in (False, True):
            for stream in (False, True):
                chosen = [
                    cell for cell in results.cells if (cell.provider, cell.large, cell.stream) == (provider, large, stream)
                ]
                if not chosen:
                    continue
                against = [
                    spread([ratio for cell in chosen for ratio in ratios(results.cells[cell], OURS, other)])
                    for other in (DEFAULTS, SAME)
                ]
                rows.append([title(chosen[0]), *against])
    words = "How many times the requests per second of LiteLLM alone this proxy serves, over every concurrency and round:\n"
    return f"## In short\n\n{words}\n" + table(["", "against its defaults", "against our settings"], rows)


def _throughput(results: "Results") -> str:
    parts = ["## Requests per second of one worker, and processor seconds for 1,000 requests\n"]
    for cells in _groups(results):
        names = list(results.cells[cells[0]])
        rows = []
        for cell in cells:
            seen = results.cells[cell]
            rates = [
                f"{statistics.median(run.requests_per_second for run in seen[name]):.0f}/s, "
                f"{statistics.median(run.cpu_per_thousand for run in seen[name]):.1f} s"
                for name in names
            ]
            rows.append([str(cell.concurrency), *rates, *(spread(ratios(seen, OURS, other)) for other in (DEFAULTS, SAME))])
        head = ["at a time", *names, f"{OURS} over {DEFAULTS}", f"{OURS} over {SAME}"]
        parts.append(f"### {title(cells[0])}\n\n{table(head, rows)}")
    return "\n".join(parts)


def _times(results: "Results") -> str:
    words = (
        "## Added time\n\nMilliseconds beyond the upstream itself, as p50 / p99 of all rounds: to the first byte, and to the "
        "end. For the OpenAI format, for which nobody asks the upstream directly, the whole time.\n"
    )
    parts = [words]
    for cells in _groups(results):
        names = [name for name in results.cells[cells[0]] if name != UPSTREAM]
        rows = []
        for cell in cells:
            seen = results.cells[cell]
            rows.append([str(cell.concurrency), *(_added(seen, name) for name in names)])
        parts.append(f"### {title(cells[0])}: first byte; end\n\n{table(['at a time', *names], rows)}")
    return "\n".join(parts)


def _added(seen: Mapping[str, Sequence[Seen]], name: str) -> str:
    def of(server: str, what: str, part: float) -> float:
        values = [value for run in seen.get(server, ()) for value in getattr(run, what)]
        return percentile(values, part) * 1000

    told = [
        " / ".join(f"{of(name, what, part) - of(UPSTREAM, what, part):.1f}" for part in (0.5, 0.99))
        for what in ("first", "end")
    ]
    return "; ".join(told)


def _events(results: "Results") -> str:
    if not results.paced:
        return ""
    rows = []
    for name in (name for name in results.memory if name in results.paced):
        lags = [lag * 1000 for run in results.paced[name] for lag in run.lags]
        rows.append([name, f"{percentile(lags, 0.5):.2f}", f"{percentile(lags, 0.99):.2f}"])
    words = f"Milliseconds from the upstream to a client, 16 streams at once, an event every {PACE * 1000:.0f} ms:\n"
    return f"## Events\n\n{words}\n" + table(["", "p50", "p99"], rows)


def _failovers(results: "Results") -> str:
    if not results.failovers:
        return ""
    rows = []
    for name, (plain, moved) in results.failovers.items():
        times = [percentile(seen.first, 0.5) * 1000 for seen in (plain, moved)]
        rows.append([name, *(f"{value:.1f}" for value in times), f"{times[1] - times[0]:.1f}"])
    words = "Milliseconds to the first byte, p50, one request after the other; LiteLLM alone moves to another deployment:\n"
    return f"## A credential that answers 429\n\n{words}\n" + table(
        ["", "none limited", "the first one limited", "added"], rows
    )


def _memory(results: "Results") -> str:
    rows = [[name, *(f"{value:.0f}" for value in (seen[0], max(seen), seen[-1]))] for name, seen in results.memory.items()]
    return "## Memory\n\nMB resident:\n\n" + table(["", "at the start", "at most", "at the end"], rows)


def _groups(results: "Results") -> list[list["Cell"]]:
    groups: dict[tuple[str, bool, bool], list[Cell]] = {}
    for cell in results.cells:
        groups.setdefault((cell.provider, cell.large, cell.stream), []).append(cell)
    return list(groups.values())
