"""Writes the page of ``make bench``: tables of the measurements, and ratios with their range. All figures are computed."""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING

from benchmarks.load import PACE, Seen
from benchmarks.servers import ALL_THROUGH_LITELLM, DEFAULTS, FLOOR, OURS, POOL, SAME, THROUGH, UPSTREAM

if TYPE_CHECKING:
    from benchmarks.run import Cell, Results

WATCHED = "## History, alerts and the open page"
COMMANDS = """make bench            # this proxy, LiteLLM, the floor and the upstream, in less than fifteen minutes
make bench PEERS=1    # and two other proxies from npm
make bench WATCHED=1  # what the history, the alerts and the open page cost, in seven minutes"""
HEAD = """# Benchmarks

This page was written by `make bench`; [performance](performance.md) explains the figures and where the time goes.

```sh
{commands}
```

Machine: {machine}. Each server is one process on one processor; the clients and the loopback upstream use the others. If a
server needs less time than the clients, its requests per second are theirs. A body of 440 kB has about 100,000 tokens.
All servers run at the same time and are measured in turn, in {rounds} rounds after a warm-up round. A ratio is computed within
a round. Figures are medians of the rounds; after a ratio, its lowest and highest value follow in parentheses.

- **{floor}**: an ASGI function that forwards bytes, with aiohttp, served by uvicorn with httptools and uvloop.
- **{same}**: LiteLLM {litellm} without this project, with the server and the settings that this project uses.
- **{defaults}**: LiteLLM {litellm} without this project, started with its own command.
- **{ours}**: this proxy with a simple `config.yaml` (models, a fallback, the callback, keys) and {pool} credentials.
- **{through}**: the same with `litellm_settings: {more}`, a setting that sends every request through LiteLLM.
"""
FORMATS = {"claude": "Claude", "openai": "OpenAI format"}
Runs = Mapping[str, Sequence[Seen]]


def percentile(values: Sequence[float], part: float) -> float:
    """Return the percentile ``part`` (a fraction) of the values; 0 without values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] if ordered else 0.0


def spread(ratios: Sequence[float]) -> str:
    """Return a median with its lowest and highest value."""
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def rate(run: Seen) -> float:
    """Return the requests per second of a run."""
    return run.requests_per_second


def cpu(run: Seen) -> float:
    """Return the server's processor time per request of a run, in milliseconds."""
    return run.cpu_ms


def ratios(seen: Runs, what: Callable[[Seen], float], over: str, under: str) -> list[float]:
    """Return, for each round, ``what`` of ``over`` divided by that of ``under``."""
    return [what(high) / what(low) for high, low in zip(seen[over], seen[under], strict=True)]


def line(cell: "Cell", seen: Runs) -> str:
    """Return the progress line of a cell."""
    progress = ", ".join(
        f"{name}: {statistics.median(map(rate, runs)):.0f}/s {statistics.median(map(cpu, runs)):.2f} ms"
        for name, runs in seen.items()
    )
    return f"{title(cell)}, {cell.concurrency} at a time: {progress}"


def title(cell: "Cell") -> str:
    """Return a cell's kind of request, in words."""
    return f"{FORMATS[cell.provider]}{' over TLS' if cell.tls else ''}, {cell.size}, {cell.response}"


def page(results: "Results", machine: str, rounds: int, absent: Sequence[str], choosing: str) -> str:
    """Return the whole page as Markdown."""
    head = HEAD.format(
        commands=COMMANDS, machine=machine, rounds=rounds, litellm=version("litellm"), pool=POOL, more=ALL_THROUGH_LITELLM,
        floor=FLOOR, same=SAME, defaults=DEFAULTS, ours=OURS, through=THROUGH,
    )  # fmt: skip
    plain = {cell: seen for cell, seen in results.cells.items() if not cell.tls}
    secure = {cell: seen for cell, seen in results.cells.items() if cell.tls}
    parts = [head, *absent, _floors(plain), _milliseconds(plain), _secure(secure), _rates(plain), _added_times(plain)]
    parts += [_events(results), _failovers(results), _memory(results)]
    parts.append(f"## Choosing a credential\n\n```text\n{choosing}\n```\n")
    return "\n".join(part for part in parts if part)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] + ["--:"] * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(each)} |" for each in lines) + "\n"


def percent(found: Sequence[float]) -> str:
    """Return ratios as the growth in per cent: the median, and the quartiles in parentheses."""
    low, middle, high = statistics.quantiles([100 * ratio - 100 for ratio in found], n=4, method="inclusive")
    return f"{middle:+.1f} % ({low:+.1f} to {high:+.1f})"


def section(page: str, heading: str) -> str:
    """Return a section of a page, from its heading to the next one; empty without it."""
    _, found, rest = f"\n{page}".partition(f"\n{heading}\n")
    return f"{heading}\n{rest.partition(f'{chr(10)}## ')[0].rstrip()}\n" if found else ""


def with_section(page: str, heading: str, text: str) -> str:
    """Return a page with a section in its place, or at the end if it has none; ``text`` starts with the heading."""
    before = section(page, heading)
    return page.replace(before, text) if before else f"{page.rstrip()}\n\n{text}"


def _cell_table(cells: Mapping["Cell", Runs], columns: Mapping[str, Callable[[Runs], str]]) -> str:
    """Return a row for each cell. A column whose servers did not run in a cell is empty there."""
    rows = []
    for cell, seen in cells.items():
        values = []
        for column in columns.values():
            try:
                values.append(column(seen))
            except KeyError:  # not all servers are measured with OpenAI's format
                values.append("")
        rows.append([title(cell), str(cell.concurrency), *values])
    return table(["", "at a time", *columns], rows)


def _names(cells: Mapping["Cell", Runs], *but: str) -> list[str]:
    return [name for name in dict.fromkeys(name for seen in cells.values() for name in seen) if name not in but]


def _median(name: str, what: Callable[[Seen], float], digits: int) -> Callable[[Runs], str]:
    return lambda seen: f"{statistics.median(map(what, seen[name])):.{digits}f}"


def _times(what: Callable[[Seen], float], over: str, under: str) -> Callable[[Runs], str]:
    return lambda seen: spread(ratios(seen, what, over, under))


def _floors(cells: Mapping["Cell", Runs]) -> str:
    cells = {cell: seen for cell, seen in cells.items() if FLOOR in seen}
    columns = {f"{FLOOR}, ms": _median(FLOOR, cpu, 2)}
    columns |= {name: _times(cpu, name, FLOOR) for name in _names(cells, UPSTREAM, FLOOR)}
    return f"## Processor time per request, as a multiple of the floor\n\n{_cell_table(cells, columns)}"


def _milliseconds(cells: Mapping["Cell", Runs]) -> str:
    columns = {name: _median(name, cpu, 2) for name in _names(cells)}
    return f"## Processor time per request, in milliseconds\n\n{_cell_table(cells, columns)}"


def _secure(cells: Mapping["Cell", Runs]) -> str:
    if not cells:
        return ""
    columns: dict[str, Callable[[Runs], str]] = {}
    for name in _names(cells):
        columns |= {f"{name}, ms": _median(name, cpu, 2), f"{name}, requests/s": _median(name, rate, 0)}
        if name not in {UPSTREAM, FLOOR}:
            columns[f"{name}, times the {FLOOR}'s ms"] = _times(cpu, name, FLOOR)
            columns[f"{name}, added ms to the end, p50 / p99"] = _added(name, "end")
    words = (
        "Only the connection to the upstream uses TLS; clients that measure the upstream directly also use TLS. Its "
        "certificate is self-signed and trusted through `SSL_CERT_FILE`, and connections are kept:\n"
    )
    return f"## Over TLS to the upstream\n\n{words}\n{_cell_table(cells, columns)}"


def _rates(cells: Mapping["Cell", Runs]) -> str:
    columns = {name: _median(name, rate, 0) for name in _names(cells)}
    columns |= {f"{OURS} over {other}": _times(rate, OURS, other) for other in (DEFAULTS, SAME)}
    words = "If events are apart, their pace limits the rate of every server:\n"
    return f"## Requests per second of one worker\n\n{words}\n{_cell_table(cells, columns)}"


def _added_times(cells: Mapping["Cell", Runs]) -> str:
    cells = {cell: seen for cell, seen in cells.items() if UPSTREAM in seen}
    parts = ["## Added time\n\nMilliseconds beyond the upstream itself, as p50 / p99 of all rounds.\n"]
    for what, words in (("first", "To the first byte"), ("end", "To the end")):
        columns = {name: _added(name, what) for name in _names(cells, UPSTREAM)}
        parts.append(f"### {words}\n\n{_cell_table(cells, columns)}")
    return "\n".join(parts)


def _added(name: str, what: str) -> Callable[[Runs], str]:
    def values(runs: Iterable[Seen]) -> list[float]:
        return [value for run in runs for value in getattr(run, what)]

    def added(seen: Runs) -> str:
        own, upstream = values(seen[name]), values(seen[UPSTREAM])
        return " / ".join(f"{(percentile(own, part) - percentile(upstream, part)) * 1000:.1f}" for part in (0.5, 0.99))

    return added


def _events(results: "Results") -> str:
    if not results.paced:
        return ""
    rows = []
    for (provider, name), runs in results.paced.items():
        lags = [lag * 1000 for run in runs for lag in run.lags]
        rows.append([f"{FORMATS[provider]}, {name}", f"{percentile(lags, 0.5):.2f}", f"{percentile(lags, 0.99):.2f}"])
    words = f"Milliseconds from the upstream to a client, 16 concurrent streams, an event every {PACE * 1000:.0f} ms:\n"
    return f"## Events\n\n{words}\n" + table(["", "p50", "p99"], rows)


def _failovers(results: "Results") -> str:
    if not results.failovers:
        return ""
    rows = []
    for name, (plain, moved) in results.failovers.items():
        times = [percentile(seen.first, 0.5) * 1000 for seen in (plain, moved)]
        rows.append([name, *(f"{value:.1f}" for value in times), f"{times[1] - times[0]:.1f}"])
    words = "Milliseconds to the first byte, p50, one request after the other; LiteLLM alone uses another deployment:\n"
    return f"## A credential with a 429\n\n{words}\n" + table(["", "none limited", "the first one limited", "added"], rows)


def _memory(results: "Results") -> str:
    rows = [[name, *(f"{value:.0f}" for value in (seen[0], max(seen), seen[-1]))] for name, seen in results.memory.items()]
    return "## Memory\n\nMB resident:\n\n" + table(["", "at the start", "at most", "at the end"], rows)
