"""The measurements of one soak test, and the problems that they show."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from benchmarks.audit import Audit
from benchmarks.flood import Flood
from benchmarks.measure import Drift, Sample, Slope, drift, in_blocks, slope
from benchmarks.stage import Scale

# The part at the start that is not fitted: imports at first requests, and memory that the allocator takes up to a full load.
WARM_UP = 0.2
BLOCK_SECONDS = 10.0
# The certain growth per request that is allowed in each process, in bytes; each keeps what the others share. The smallest leak,
# such as a task, a stream's copy or a request, has some kilobytes; a smaller growth has another cause, and no effect within a
# month at a team's pace.
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

    scale: Scale
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
    def allowed_growth(self) -> int:
        """The certain memory growth per request that is allowed in all processes together, in bytes."""
        return LEFT_BY_A_REQUEST * self.scale.workers * self.scale.replicas

    @property
    def left_by_a_request(self) -> float:
        """The certain memory growth per request, in bytes."""
        an_hour = self.requests / self.seconds * 3600
        return self.memory.at_least / an_hour if an_hour else 0.0


def faults(run: Run) -> list[str]:
    """Return the problems, one sentence each."""
    found = [f"lost: {lost}" for lost in run.audit.lost]
    found += [f"a credential was used during its cooldown: {used}" for used in run.audit.asked_cooling_down]
    found += [f"{one.name}: {one.lost} lost{''.join(f'; {text}' for text in one.instead)}" for one in run.floods if one.lost]
    if run.crash:
        found.append(f"the proxy crashed:\n{run.crash}")
    if not run.audit.failovers:
        found.append("there was no failover, so failovers were not tested")
    if run.left_by_a_request > run.allowed_growth:
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
            grows = f"grows from {1000 * seen.first:.0f} to {1000 * seen.last:.0f} ms over the run"
            yield f"{latency.name}, p{100 * share:.0f}: {grows}"
