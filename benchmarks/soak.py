"""``make soak``: many concurrent streams for a long time, with failovers of credentials; then floods.

It exits with 1 if a request was lost, a credential was used during its cooldown, memory grows with the requests, latency
drifts, or the proxy does not release what it held.
"""

import argparse
import asyncio
import signal
import sys
import time
from collections.abc import Iterator, Sequence

import uvloop

from benchmarks import flood
from benchmarks.audit import audit
from benchmarks.crowd import ANSWERED, MODELS, Crowd
from benchmarks.measure import Sample
from benchmarks.soak_report import report, with_section
from benchmarks.soak_result import WARM_UP, WAYS, Latency, Run, faults
from benchmarks.stage import CRASH, CREDENTIALS, TOKEN, Scale, Stage, stage
from conformance.proxies import ROOT

DOCUMENT = ROOT / "docs" / "LOAD.md"
CONNECTIONS, BURST, SESSIONS = 2000, 500, 10_000
# The first numbers of the requests before, after and during the floods.
AROUND, IN_BURST = 10_000_000, 20_000_000


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
    quick = Crowd(running.urls, TOKEN, len(MODELS), pieces=(8, 8), seconds=(0.2, 0.4), sessions="around", number=AROUND)
    _tell("the first requests")
    first_bytes = await quick.one_of_each()
    before = running.sample()
    crowd = Crowd(running.urls, TOKEN, streams, pieces, lasting)
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
        burst = Crowd(running.urls, TOKEN, BURST, (8, 8), (1.0, 3.0), "burst", number=IN_BURST)
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
    outcomes = [outcome for one in crowds for outcome in one.outcomes]
    return Run(
        scale=running.scale,
        streams=streams,
        seconds=seconds,
        audit=audit(outcomes, ledger, CREDENTIALS, running.scale.shared_within),
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the report and the problems; return 1 if there are problems."""
    parser = argparse.ArgumentParser(description="Run many clients with streams through the proxy for a long time.")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--workers", type=int, default=1, help="the worker processes of each replica")
    parser.add_argument("--replicas", type=int, default=1, help="several share their state through a Redis that this starts")
    parser.add_argument("--no-floods", action="store_true", help="skip the floods at the end")
    parser.add_argument("--write", action="store_true", help=f"also write a section of {DOCUMENT.relative_to(ROOT)}")
    options = parser.parse_args(arguments)
    if not 0 < options.minutes <= 24 * 60 or not 0 < options.streams <= 5000:
        parser.error("a soak test takes up to 1440 minutes and up to 5000 streams")
    if not 0 < options.workers <= 16 or not 0 < options.replicas <= 16:
        parser.error("a soak test has up to 16 replicas of up to 16 workers")
    scale = Scale(options.workers, options.replicas)
    # On SIGTERM it also ends the processes that it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with stage(scale) as running:
        run = uvloop.run(soak(running, options.streams, 60 * options.minutes, floods=not options.no_floods))
    more = "".join(f" {name.upper()}={count}" for name, count in scale._asdict().items() if count > 1)
    text = report(run, f"make soak MINUTES={options.minutes:g} STREAMS={options.streams}{more}")
    wrong = faults(run)
    sys.stdout.write(text + "".join(f"- {fault}\n" for fault in wrong[:50]))
    if options.write:
        DOCUMENT.write_text(with_section(DOCUMENT.read_text(encoding="utf-8"), text), encoding="utf-8")
    return int(bool(wrong))


if __name__ == "__main__":
    raise SystemExit(main())
