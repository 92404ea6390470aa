"""The soak test's figures as Markdown: one section of docs/LOAD.md for each scale."""

import os
import platform
from collections import Counter
from collections.abc import Iterable, Iterator

from benchmarks.crowd import ANSWERED
from benchmarks.flood import megabytes
from benchmarks.measure import MEGABYTE, Sample, percentile
from benchmarks.soak_result import Run
from benchmarks.stage import ONE_WORKER

SHARED = (
    " The replicas share their state through Redis. Each client sends its requests to the replicas in turn; the load balancer "
    "of the profile `scale` would keep a session at its replica, which is easier."
)


def with_section(page: str, section: str) -> str:
    """Return the page with a section in place of the one that has the same heading, or at the end."""
    first, *others = page.split("\n## ")
    parts = {part.partition("\n")[0]: part.strip("\n") for part in (*others, section.removeprefix("## "))}
    return "\n\n## ".join([first.strip("\n"), *parts.values()]) + "\n"


def report(run: Run, command: str) -> str:
    """Return the figures as a section in Markdown."""
    return "\n".join([*_summary(run, command), "", *_by_minute(run), "", *_latency_table(run), "", *_flood_table(run), ""])


def _summary(run: Run, command: str) -> Iterator[str]:
    result, memory = run.audit, run.memory
    loaded = run.loaded
    took, waited = loaded[-1].cpu - loaded[0].cpu, loaded[-1].waited - loaded[0].waited
    span = loaded[-1].at - loaded[0].at
    yield f"## {run.scale.words.capitalize()}"
    yield ""
    where = f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}"
    yield (
        f"`{command}`: {run.streams} clients, each with its own session and one request after the other, through "
        f"{run.scale.words} for {run.seconds / 60:g} minutes; upstream and clients run on the same machine ({where})."
        f"{SHARED if run.scale.replicas > 1 else ''}"
    )
    yield ""
    yield "| What | Figure |"
    yield "| --- | --- |"
    yield f"| requests, including floods | {result.tried:,} |"
    yield f"| **lost** | **{len(result.lost)}** |"
    yield f"| requests with a credential in its cooldown | {len(result.asked_cooling_down)} |"
    yield f"| complete responses | {result.outcomes[ANSWERED]:,}, {result.failovers:,} of them after a failover |"
    yield f"| clients that left by themselves | {result.outcomes['left by itself']:,} |"
    for words, count in sorted(result.errors.items()):
        yield f"| the upstream's own errors: {words} | {count:,} |"
    yield f"| attempts at the upstream | {_listed(result.attempts)} |"
    yield f"| cooldowns; times that all credentials were rate-limited | {result.cooldowns:,}; {result.all_rate_limited} |"
    yield f"| concurrent streams, at most | {run.most_streaming} |"
    yield f"| requests per second | {run.requests / run.seconds:.1f} |"
    processes = "the worker" if run.scale == ONE_WORKER else "all processes"
    yield f"| CPU of {processes}, of one core | {took / span:.0%}; runnable but not running {waited / span:.0%} |"
    yield f"| memory at the start and the end, after the warm-up | {_mb(_warm(run)[0].rss)} and {_mb(_warm(run)[-1].rss)} |"
    yield (
        f"| memory slope, ± standard error | {memory.per_hour / MEGABYTE:+.1f} ± {memory.error / MEGABYTE:.1f} MB/h at "
        f"{run.requests / run.seconds * 3600:,.0f} requests/h |"
    )
    yield f"| certain growth per request | {max(0.0, run.left_by_a_request):.0f} bytes (limit {run.allowed_growth}) |"
    yield f"| open files before, at most, after | {run.before.files}, {max(s.files for s in loaded)}, {run.after.files} |"
    yield f"| connections after: clients, Claude, others (LiteLLM keeps those for 2 minutes) | {_slashed(run.held)} |"
    yield f"| threads before, at most, after | {run.before.threads}, {max(s.threads for s in loaded)}, {run.after.threads} |"
    if run.scale.replicas == 1:
        yield f"| state file with its journal, at most | {max(s.state_bytes for s in loaded) / MEGABYTE:.1f} MB |"
    yield f"| sessions: in /pool, with a response of Claude, with a request to Claude | {_slashed(run.sessions)} |"
    yield f"| time to first byte of the first requests after the start | {_ms(run.first_bytes)} ms |"


def _by_minute(run: Run) -> Iterator[str]:
    yield "| Minute | Requests ended | Responses | Delay of Claude's events, p50 / p99, ms | Memory, MB | Open files | CPU |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    events = next(latency for latency in run.latencies if latency.name == "Claude: event").points
    started = run.loaded[0].at
    for minute in range(max(1, round(run.seconds / 60))):
        inside = [s for s in run.loaded if 60 * minute <= s.at - started < 60 * (minute + 1)]
        ended = [good for at, good in run.ends if 60 * minute <= at < 60 * (minute + 1)]
        late = [value for at, value in events if 60 * minute <= at < 60 * (minute + 1)]
        cpu = (inside[-1].cpu - inside[0].cpu) / max(1e-9, inside[-1].at - inside[0].at)
        lateness = f"{1000 * percentile(late, 0.5):.1f} / {1000 * percentile(late, 0.99):.0f}" if late else "warm-up"
        rss = sum(s.rss for s in inside) / len(inside)
        files = max(s.files for s in inside)
        yield f"| {minute + 1} | {len(ended)} | {sum(ended)} | {lateness} | {rss / MEGABYTE:.0f} | {files} | {cpu:.0%} |"


def _latency_table(run: Run) -> Iterator[str]:
    yield (
        "What the proxy adds, in ms: in the first third after the warm-up, then in the last third. An event's delay starts "
        "when the upstream sends it; a first byte's excludes the upstream's own time and includes failovers."
    )
    yield ""
    yield "| Latency | Count | p50 | p99 | Certain growth of p50, p99 |"
    yield "| --- | --- | --- | --- | --- |"
    for latency in run.latencies:
        half, most = latency.drift(0.5), latency.drift(0.99)
        yield (
            f"| {latency.name} | {len(latency.points):,} | {1000 * half.first:.1f} → {1000 * half.last:.1f} | "
            f"{1000 * most.first:.0f} → {1000 * most.last:.0f} | {max(0.0, half.certain):.0%}, {max(0.0, most.certain):.0%} |"
        )


def _flood_table(run: Run) -> Iterator[str]:
    if not run.floods:
        return
    yield "Open files and memory in MB are those before, during and after a flood; connections are those after it."
    yield ""
    yield "| Flood | Tried | Lost | Open files | Connections: clients, Claude, others | Memory |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for one in run.floods:
        yield f"| {one.name} | {one.tried:,} | {one.lost} | {_slashed(one.files)} | {_slashed(one.held)} | {megabytes(one)} |"


def _warm(run: Run) -> list[Sample]:
    return [sample for sample in run.loaded if sample.at >= run.begin_warm]


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count:,} {words}" for words, count in sorted(counts.items(), key=lambda pair: -pair[1]))


def _slashed(counts: Iterable[int]) -> str:
    return " / ".join(map(str, counts))


def _ms(seconds: Iterable[float]) -> str:
    return ", ".join(f"{1000 * one:.0f}" for one in seconds if one >= 0)


def _mb(count: int) -> str:
    return f"{count / MEGABYTE:.0f} MB"
