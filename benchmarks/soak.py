"""``make soak``: many streams through one worker for a long time, with credentials failing over in between; then floods.

It ends with 1 when a request was lost, a resting credential was asked, memory grows with the requests, latency drifts, or the
proxy does not let go of what it held.
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
# What a run is fitted without: imports that a first request brings, and memory that the allocator takes up to a full load.
WARM_UP = 0.2
BLOCK_SECONDS = 10.0
# What a request may leave behind, in bytes, with certainty. The least that a mistake leaves is a task, a stream's copy or an
# exchange, each of some kilobytes; what grows by less has another cause, and at a team's pace no effect in a month.
LEFT_BY_A_REQUEST = 512
# What a latency may certainly grow by over a run, as a fraction; and what it may grow by whatever the fraction, in seconds:
# that much the scheduler gives and takes.
DRIFT, LEAST_DRIFT = 0.25, 0.010
# The ways of an answer, by the models that go them.
WAYS = {
    "Claude": ("claude-sonnet-5", "claude-opus-5", "claude-haiku-5"),
    "Anthropic's format": ("glm",),
    "OpenAI's format": ("gpt",),
}
CONNECTIONS, BURST, SESSIONS = 2000, 500, 10_000
# Numbers of the requests around the run begin here.
AROUND, IN_BURST = 10_000_000, 20_000_000


class Latency(NamedTuple):
    """A latency over a run; times are in seconds."""

    name: str
    points: list[tuple[float, float]]

    def drift(self, share: float) -> Drift:
        """Return how a percentile of it changes."""
        return drift(self.points, share)


@dataclass
class Run:
    """All that was measured."""

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
    # Connections after it: with clients, with Claude, with the other providers.
    held: tuple[int, int, int]
    still_open: int
    # In /pool; those that Claude answered; those that asked it, some of which it may never have answered.
    sessions: tuple[int, int, int]
    crash: str
    floods: list[Flood] = field(default_factory=list)
    # When each of the run's requests ended, in seconds since its begin, and whether it was answered.
    ends: list[tuple[float, bool]] = field(default_factory=list)

    @property
    def memory(self) -> Slope:
        """How the memory grows, in bytes an hour, once it is warm."""
        warm = self.begin_warm
        points = [(sample.at, float(sample.rss)) for sample in self.loaded if sample.at >= warm]
        return slope(in_blocks(points, min(BLOCK_SECONDS, self.seconds / 20)))

    @property
    def begin_warm(self) -> float:
        """From when on the run counts as warm, on the samples' clock."""
        return self.loaded[0].at + WARM_UP * self.seconds

    @property
    def left_by_a_request(self) -> float:
        """What a request certainly leaves behind, in bytes."""
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
    """Run it and measure. An answer is of so many pieces and lasts so many seconds, from the least to the most."""
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
            await flood.sessions(running, quick, SESSIONS // 2, "more than are remembered"),
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
    """Say what is under way, where the report does not go."""
    sys.stderr.write(f"soak: {words}\n")
    sys.stderr.flush()


def _latencies(crowd: Crowd, begin: float, seconds: float) -> Iterator[Latency]:
    """Return the latencies of the warm part of a run, while all streams ran."""
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
    """Return what is wrong, a sentence each."""
    found = [f"lost: {lost}" for lost in run.audit.lost]
    found += [f"a resting credential was asked: {asked}" for asked in run.audit.asked_cooling_down]
    found += [f"{one.name}: {one.lost} lost" for one in run.floods if one.lost]
    if run.crash:
        found.append(f"the proxy crashed:\n{run.crash}")
    if not run.audit.failovers:
        found.append("nothing failed over: this was no test of that")
    if run.left_by_a_request > LEFT_BY_A_REQUEST:
        found.append(f"memory grows by {run.left_by_a_request:.0f} bytes with each request, at least")
    found += [sentence for latency in run.latencies for sentence in _drifts(latency)]
    for name, held in (("the run", run.held), *((one.name, one.held) for one in run.floods)):
        if held[0] or held[1]:
            found.append(f"after {name} {held[0]} connections with clients and {held[1]} with Claude are held")
    if run.still_open:
        found.append(f"{run.still_open} answers are still under way at the upstream")
    known, answered, asking = run.sessions
    if not answered <= known <= asking:
        found.append(f"/pool counts {known} sessions; {answered} were answered by Claude, of {asking} that asked it")
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
        f"`{command}`: {run.streams} clients, each a session of its own that asks again as soon as it is answered, through "
        f"one worker for {run.seconds / 60:g} minutes; upstream and clients on the same machine ({where}). Every answer is "
        "compared whole: Claude's to the byte, a translated one by all that it says. The upstream plays limits, and keeps a "
        "ledger by which every error and every choice of a credential is checked."
    )
    yield ""
    yield "| What | Figure |"
    yield "| --- | --- |"
    yield f"| requests, floods included | {result.tried:,} |"
    yield f"| **lost** | **{len(result.lost)}** |"
    yield f"| resting credentials that were asked | {len(result.asked_resting)} |"
    yield f"| answered whole | {result.outcomes[ANSWERED]:,}, after a failover {result.failovers:,} |"
    yield f"| clients that left by themselves | {result.outcomes['left by itself']:,} |"
    for words, count in sorted(result.errors.items()):
        yield f"| the upstream's own errors: {words} | {count:,} |"
    yield f"| attempts at the upstream | {_listed(result.attempts)} |"
    yield f"| rests of credentials; times that all rested at once | {result.rests:,}; {result.all_rested} |"
    yield f"| streams at once, at most | {run.most_streaming} |"
    yield f"| requests a second | {run.requests / run.seconds:.1f} |"
    yield f"| CPU of the worker, of one core | {took / span:.0%}; runnable and not running {waited / span:.0%} |"
    yield f"| memory, begin and end of the warm part | {_mb(_warm(run)[0].rss)} and {_mb(_warm(run)[-1].rss)} |"
    yield (
        f"| memory's slope, ± standard error | {memory.per_hour / MEGABYTE:+.1f} ± {memory.error / MEGABYTE:.1f} MB/h at "
        f"{run.requests / run.seconds * 3600:,.0f} requests/h |"
    )
    yield f"| of that certain, for each request | {max(0.0, run.left_by_a_request):.0f} bytes (limit {LEFT_BY_A_REQUEST}) |"
    yield f"| open files before, at most, after | {run.before.files}, {max(s.files for s in loaded)}, {run.after.files} |"
    yield f"| connections after, with clients, Claude, others (LiteLLM keeps those for 2 minutes) | {_slashed(run.held)} |"
    yield f"| threads before, at most, after | {run.before.threads}, {max(s.threads for s in loaded)}, {run.after.threads} |"
    yield f"| state file with its journal, at most | {max(s.state_bytes for s in loaded) / MEGABYTE:.1f} MB |"
    yield f"| sessions in /pool, that Claude answered, that asked it | {_slashed(run.sessions)} |"
    yield f"| first byte of the first requests after the start | {_ms(run.first_bytes)} ms |"


def _by_minute(run: Run) -> Iterator[str]:
    yield "| Minute | Requests ended | Answered | Claude's events late by p50 / p99, ms | Memory, MB | Open files | CPU |"
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
        "What the proxy adds, in ms: first third of the warm part, then its last third. An event's lateness is from the moment "
        "at which the upstream sent it; a first byte's is without the upstream's own time, with the failovers before it."
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
    yield "Open files and memory in MB are those before, during and after a flood; connections are those held after it."
    yield ""
    yield "| Flood | Tried | Lost | Open files | Connections with clients, Claude, others | Memory |"
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
    """Print the report; return 1 when something is wrong, and say what."""
    parser = argparse.ArgumentParser(description="Let many clients stream through one worker for a long time.")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--no-floods", action="store_true", help="leave the floods at the end out")
    parser.add_argument("--write", action="store_true", help=f"write {DOCUMENT.relative_to(ROOT)}, too")
    options = parser.parse_args(arguments)
    if not 0 < options.minutes <= 24 * 60 or not 0 < options.streams <= 5000:
        parser.error("a soak takes up to 1440 minutes and up to 5000 streams")
    # Ended from outside, it ends what it has started, too.
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
