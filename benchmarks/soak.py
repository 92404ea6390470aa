"""``make soak``: many concurrent streams through one worker for a long time, with failovers of credentials; then floods.

It exits with 1 if a request was lost, a credential was used during its cooldown, memory grows with the requests, latency
drifts, or the proxy does not release what it held.
"""

import argparse
import asyncio
import os
import platform
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import uvloop

from benchmarks import flood
from benchmarks.audit import Audit, audit
from benchmarks.crowd import ANSWERED, MODELS, Crowd
from benchmarks.flood import Flood, megabytes
from benchmarks.measure import MEGABYTE, Drift, Sample, Slope, drift, in_blocks, percentile, slope
from benchmarks.stage import CRASH, CREDENTIALS, TOKEN, Stage, stage
from conformance.proxies import ROOT

DOCUMENT = ROOT / "docs" / "LOAD.md"
# The part at the start that is not fitted: imports at first requests, and memory that the allocator takes up to a full load.
WARM_UP = 0.2
BLOCK_SECONDS = 10.0
# The certain growth per request that is allowed, in bytes. The smallest leak, such as a task, a stream's copy or a request, has
# some kilobytes; a smaller growth has another cause, and no effect within a month at a team's pace.
LEFT_BY_A_REQUEST = 512
# The certain growth of a latency that is allowed over a run, as a fraction; a growth below LEAST_DRIFT seconds is always
# allowed, because of the scheduler.
DRIFT, LEAST_DRIFT = 0.25, 0.010
# The lanes, by their models.
WAYS = {
    "Claude": ("claude-sonnet-5", "claude-opus-5", "claude-haiku-5"),
    "Anthropic's format": ("glm",),
    "OpenAI's format": ("gpt",),
}
CONNECTIONS, BURST, SESSIONS = 2000, 500, 10_000
# The first numbers of the requests before, after and during the floods.
AROUND, IN_BURST = 10_000_000, 20_000_000


class Latency(NamedTuple):
    """A latency during a run; times are in seconds."""

    name: str
    points: list[tuple[float, float]]

    def drift(self, share: float) -> Drift:
        """Return how a percentile of the latency changes."""
        return drift(self.points, share)


@dataclass
class Run:
    """All measurements."""

    streams: int
    seconds: float
    audit: Audit
    begin: float
    loaded: list[Sample]
    latencies: list[Latency]
    first_bytes: list[float]
    most_streaming: int
    requests: int
    upstream_cpu: float
    before: Sample
    after: Sample
    # Connections afterwards: with clients, with Claude, with other providers.
    held: tuple[int, int, int]
    still_open: int
    # Sessions: in /pool; with a response of Claude; with a request to Claude, possibly without a response.
    sessions: tuple[int, int, int]
    crash: str
    floods: list[Flood] = field(default_factory=list)
    # When each of the run's requests ended, in seconds since its start, and whether it got a response.
    ends: list[tuple[float, bool]] = field(default_factory=list)

    @property
    def memory(self) -> Slope:
        """How the memory grows after the warm-up, in bytes per hour."""
        warm = self.begin_warm
        points = [(sample.at, float(sample.rss)) for sample in self.loaded if sample.at >= warm]
        return slope(in_blocks(points, min(BLOCK_SECONDS, self.seconds / 20)))

    @property
    def begin_warm(self) -> float:
        """The end of the warm-up, on the samples' clock."""
        return self.loaded[0].at + WARM_UP * self.seconds

    @property
    def left_by_a_request(self) -> float:
        """The certain memory growth per request, in bytes."""
        an_hour = self.requests / self.seconds * 3600
        return self.memory.at_least / an_hour if an_hour else 0.0


async def soak(
    running: Stage,
    streams: int,
    seconds: float,
    *,
    floods: bool,
    pieces: tuple[int, int] = (30, 60),
    lasting: tuple[float, float] = (12.0, 28.0),
) -> Run:
    """Run the test and measure. A response has ``pieces`` pieces and takes ``lasting`` seconds, from the least to the most."""
    quick = Crowd(running.proxy.url, TOKEN, len(MODELS), pieces=(8, 8), seconds=(0.2, 0.4), sessions="around", number=AROUND)
    _tell("the first requests")
    first_bytes = await quick.one_of_each()
    before = running.sample()
    crowd = Crowd(running.proxy.url, TOKEN, streams, pieces, lasting)
    samples: list[Sample] = []
    watching = asyncio.ensure_future(running.watch(samples))
    begin = time.monotonic()
    _tell(f"{streams} streams for {seconds:.0f} s")
    await crowd.run(lambda: time.monotonic() < begin + seconds)
    watching.cancel()
    _tell("the end of its connections")
    held = await flood.settled(running)
    after = running.sample()
    found = await asyncio.to_thread(running.pool)
    known = sum(credential["sessions"] for credential in found["credentials"])
    asking = sum(
        MODELS[client % len(MODELS)].name.startswith("claude") for one in (crowd, quick) for client in range(one.clients)
    )
    sessions = known, len(crowd.bound) + len(quick.bound), asking
    crowds, drowned = [crowd, quick], []
    if floods:
        _tell("floods")
        burst = Crowd(running.proxy.url, TOKEN, BURST, (8, 8), (1.0, 3.0), "burst", number=IN_BURST)
        crowds.append(burst)
        drowned = [
            await flood.connections(running, quick, CONNECTIONS),
            await flood.burst(running, burst),
            await flood.sessions(running, quick, SESSIONS, "the first"),
            await flood.sessions(running, quick, SESSIONS // 2, "more than are kept"),
        ]
    _tell("the audit")
    ledger, still_open, upstream_cpu = await asyncio.to_thread(running.ledger)
    log = running.log
    return Run(
        streams=streams,
        seconds=seconds,
        audit=audit([outcome for one in crowds for outcome in one.outcomes], ledger, CREDENTIALS),
        begin=begin,
        loaded=[sample for sample in samples if sample.at <= samples[0].at + seconds],
        latencies=list(_latencies(crowd, begin, seconds)),
        first_bytes=first_bytes,
        most_streaming=crowd.most_streaming,
        requests=len(crowd.outcomes),
        upstream_cpu=upstream_cpu,
        before=before,
        after=after,
        held=held,
        still_open=still_open,
        sessions=sessions,
        crash=log[log.index(CRASH) :] if CRASH in log else "",
        floods=drowned,
        ends=[(outcome.ended - begin, outcome.kind == ANSWERED) for outcome in crowd.outcomes],
    )


def _tell(words: str) -> None:
    """Report progress on standard error."""
    sys.stderr.write(f"soak: {words}\n")
    sys.stderr.flush()


def _latencies(crowd: Crowd, begin: float, seconds: float) -> Iterator[Latency]:
    """Return the latencies after the warm-up, while all streams ran."""
    low, high = begin + WARM_UP * seconds, begin + seconds
    for way, models in WAYS.items():
        firsts = [
            (outcome.sent - begin, outcome.first_byte)
            for outcome in crowd.outcomes
            if outcome.model in models and outcome.first_byte >= 0 and low <= outcome.sent <= high
        ]
        events = [(at - begin, late) for model in models for at, late in crowd.delays[model] if low <= at <= high]
        yield Latency(f"{way}: first byte", sorted(firsts))
        yield Latency(f"{way}: event", sorted(events))


def faults(run: Run) -> list[str]:
    """Return the problems, one sentence each."""
    found = [f"lost: {lost}" for lost in run.audit.lost]
    found += [f"a credential was used during its cooldown: {used}" for used in run.audit.asked_cooling_down]
    found += [f"{one.name}: {one.lost} lost" for one in run.floods if one.lost]
    if run.crash:
        found.append(f"the proxy crashed:\n{run.crash}")
    if not run.audit.failovers:
        found.append("there was no failover, so failovers were not tested")
    if run.left_by_a_request > LEFT_BY_A_REQUEST:
        found.append(f"memory grows by {run.left_by_a_request:.0f} bytes with each request, at least")
    found += [sentence for latency in run.latencies for sentence in _drifts(latency)]
    for name, held in (("the run", run.held), *((one.name, one.held) for one in run.floods)):
        if held[0] or held[1]:
            found.append(f"after {name} {held[0]} connections with clients and {held[1]} with Claude are held")
    if run.still_open:
        found.append(f"{run.still_open} responses are still in progress at the upstream")
    known, answered, asking = run.sessions
    if not answered <= known <= asking:
        found.append(f"/pool has {known} sessions; Claude responded to {answered}, and {asking} sent it requests")
    return found


def _drifts(latency: Latency) -> Iterator[str]:
    for share in (0.5, 0.99):
        seen = latency.drift(share)
        if seen.certain > DRIFT and seen.last - seen.first > LEAST_DRIFT:
            yield f"{latency.name}, p{share:.0%}: grows from {1000 * seen.first:.0f} to {1000 * seen.last:.0f} ms over the run"


def report(run: Run, command: str) -> str:
    """Return the figures as Markdown."""
    return "\n".join([*_summary(run, command), "", *_by_minute(run), "", *_latency_table(run), "", *_flood_table(run), ""])


def _summary(run: Run, command: str) -> Iterator[str]:
    result, memory = run.audit, run.memory
    loaded = run.loaded
    took, waited = loaded[-1].cpu - loaded[0].cpu, loaded[-1].waited - loaded[0].waited
    span = loaded[-1].at - loaded[0].at
    yield "# Load"
    yield ""
    where = f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}"
    yield (
        f"`{command}`: {run.streams} clients, each with its own session and one request after the other, through one worker "
        f"for {run.seconds / 60:g} minutes; upstream and clients run on the same machine ({where}). Every response is "
        "compared: Claude's to the byte, a translated one by its whole content. The upstream simulates limits, and its ledger "
        "is used to check every error and every choice of a credential."
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
    yield f"| CPU of the worker, of one core | {took / span:.0%}; runnable but not running {waited / span:.0%} |"
    yield f"| memory at the start and the end, after the warm-up | {_mb(_warm(run)[0].rss)} and {_mb(_warm(run)[-1].rss)} |"
    yield (
        f"| memory slope, ± standard error | {memory.per_hour / MEGABYTE:+.1f} ± {memory.error / MEGABYTE:.1f} MB/h at "
        f"{run.requests / run.seconds * 3600:,.0f} requests/h |"
    )
    yield f"| certain growth per request | {max(0.0, run.left_by_a_request):.0f} bytes (limit {LEFT_BY_A_REQUEST}) |"
    yield f"| open files before, at most, after | {run.before.files}, {max(s.files for s in loaded)}, {run.after.files} |"
    yield f"| connections after: clients, Claude, others (LiteLLM keeps those for 2 minutes) | {_slashed(run.held)} |"
    yield f"| threads before, at most, after | {run.before.threads}, {max(s.threads for s in loaded)}, {run.after.threads} |"
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the report and the problems; return 1 if there are problems."""
    parser = argparse.ArgumentParser(description="Run many clients with streams through one worker for a long time.")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--no-floods", action="store_true", help="skip the floods at the end")
    parser.add_argument("--write", action="store_true", help=f"also write {DOCUMENT.relative_to(ROOT)}")
    options = parser.parse_args(arguments)
    if not 0 < options.minutes <= 24 * 60 or not 0 < options.streams <= 5000:
        parser.error("a soak test takes up to 1440 minutes and up to 5000 streams")
    # On SIGTERM it also ends the processes that it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with stage() as running:
        run = uvloop.run(soak(running, options.streams, 60 * options.minutes, floods=not options.no_floods))
    text = report(run, f"make soak MINUTES={options.minutes:g} STREAMS={options.streams}")
    wrong = faults(run)
    sys.stdout.write(text + "".join(f"- {fault}\n" for fault in wrong[:50]))
    if options.write:
        DOCUMENT.write_text(text, encoding="utf-8")
    return int(bool(wrong))


if __name__ == "__main__":
    raise SystemExit(main())
