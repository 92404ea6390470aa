"""Measures how long choosing a credential takes, for 100 credentials and 10,000 sessions, compared with a naive pool.

``make bench`` prints the table. Absolute times depend on the machine, so each line has both pools.
"""

import argparse
import sys
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from itertools import cycle
from typing import NamedTuple

from claude_proxy.credentials.credential import Credential, Kind
from claude_proxy.credentials.pool import Affinity, Pool, PoolRequest
from claude_proxy.credentials.response_rules import judge
from claude_proxy.credentials.scope import Scope
from claude_proxy.credentials.upstream_response import UNIFIED, UpstreamResponse
from claude_proxy.secret import Secret

CREDENTIALS, SESSIONS, CHOICES = 100, 10_000, 20_000
SOFT_LIMIT = 0.98
NOW = 1_800_000_000.0
FAMILIES = ("opus", "sonnet", "haiku")
# One credential in ten is in a cooldown, and another one in ten for one family only.
COOLING_DOWN = 10
# The time between two requests, in seconds, so that periodic work happens here too.
STEP = 0.05


class Clock:
    """A simulated clock, so that no cooldown ends by chance."""

    now = NOW

    def __call__(self) -> float:
        """Return Unix seconds."""
        return self.now


class Times(NamedTuple):
    """The times of one scenario, in microseconds."""

    p50: float
    p99: float


class Row(NamedTuple):
    """A line of the table."""

    scenario: str
    pool: Times
    naive: Times


@dataclass
class NaivePool:
    """A pool with the same rules but without any index or cache: it examines all credentials for every request."""

    pool: Pool
    labels: list[str]
    clock: Callable[[], float]
    places: dict[str, str]
    cursor: int = 0

    def choose(self, wanted: PoolRequest, tried: Collection[str] = ()) -> Credential | None:
        """Return the session's credential if it is usable, else the one with the most headroom, round robin among equals."""
        now = self.clock()
        ranks: dict[str, tuple[bool, float, int]] = {}
        for number, label in enumerate(self.labels):
            state = self.pool.state(label)
            cooldowns = [cooldown.until for scope, cooldown in state.cooldowns.items() if scope.covers(wanted.scope)]
            if label in tried or max(cooldowns, default=0.0) > now:
                continue
            windows = [
                window.utilization
                for (family, _), window in state.windows.items()
                if family in ("", wanted.scope.family) and window.reset > now
            ]
            fullest = max(windows, default=0.0)
            ranks[label] = (fullest >= SOFT_LIMIT, round(fullest, 2), (number - self.cursor) % len(self.labels))
        if not ranks:
            return None
        label = self.places.get(wanted.session or "", "")
        if label not in ranks:
            label = min(ranks, key=lambda each: ranks[each])
            self.cursor = (self.labels.index(label) + 1) % len(self.labels)
            if wanted.session:
                self.places[wanted.session] = label
        return self.pool.state(label).credential


def main(arguments: list[str] | None = None) -> int:
    """Print the table; return 0."""
    parser = argparse.ArgumentParser(description="Measure how long choosing a credential takes.")
    parser.add_argument("--choices", type=int, default=CHOICES, help="how many choices are measured in each scenario")
    choices: int = parser.parse_args(arguments).choices
    sys.stdout.write("\n".join(table(choices)) + "\n")
    return 0


def table(choices: int) -> list[str]:
    """Measure and return the table's lines."""
    lines = [
        f"Choosing one of {CREDENTIALS} credentials with {SESSIONS:,} sessions; {choices:,} choices each; microseconds",
        "",
        f"{'requests':<28}{'pool p50':>10}{'p99':>8}{'naive p50':>12}{'p99':>8}",
    ]
    lines += [
        f"{row.scenario:<28}{row.pool.p50:>10.1f}{row.pool.p99:>8.1f}{row.naive.p50:>12.1f}{row.naive.p99:>8.1f}"
        for row in measure(choices)
    ]
    return lines


def measure(choices: int) -> Iterator[Row]:
    """Measure each scenario, both pools with equal requests and equal knowledge."""
    for scenario, bound_of_ten in (("of bound sessions", 10), ("of new sessions", 0), ("mixed, nine in ten bound", 9)):
        clock = Clock()
        pool, labels, places = _pool(clock)
        naive = NaivePool(pool, labels, clock, places)
        # The naive pool is first, because the real pool changes the shared state and keeps its index current.
        slow = _times(naive.choose, _requests(choices, bound_of_ten), clock, lambda: None)
        fast = _times(pool.choose, _requests(choices, bound_of_ten), clock, pool.changed)
        yield Row(scenario, fast, slow)


def _pool(clock: Clock) -> tuple[Pool, list[str], dict[str, str]]:
    """Return a pool that knows all windows and has all sessions, and the sessions' credentials."""
    credentials = [
        Credential(f"c{number}", Kind.OAUTH, Secret(f"sk-ant-oat01-made-up-{number}")) for number in range(CREDENTIALS)
    ]
    pool = Pool(credentials, affinity=Affinity.SESSION, quarantine=900.0, clock=clock, soft_limit=SOFT_LIMIT)
    for number in range(SESSIONS):
        pool.choose(_wanted(number))
    for number, credential in enumerate(credentials):
        responses = [_response(200, number, FAMILIES[0])]
        if number % COOLING_DOWN == 0:
            responses.append(_response(429, number, FAMILIES[0]))
        if number % COOLING_DOWN == 1:
            responses.append(_response(429, number, FAMILIES[0], "_opus"))
        for response in responses:
            pool.record_response(credential, judge(response, 60.0), response)
    # Sessions that must move do so now, not during the measurement.
    places = {f"session-{number}": chosen.label for number in range(SESSIONS) if (chosen := pool.choose(_wanted(number)))}
    pool.changed()
    return pool, [credential.label for credential in credentials], places


def _response(status: int, number: int, family: str, suffix: str = "") -> UpstreamResponse:
    status_text = "rejected" if status == 429 else "allowed"
    headers = {f"{UNIFIED}status": status_text}
    for name, seconds, part in (("5h", 4 * 3600, 0.8), ("7d", 5 * 86400, 0.6), ("7d_opus", 5 * 86400, 0.7)):
        headers[f"{UNIFIED}{name}-utilization"] = f"{(number * 37 % CREDENTIALS) / CREDENTIALS * part:.4f}"
        headers[f"{UNIFIED}{name}-reset"] = f"{NOW + seconds + number:.0f}"
        headers[f"{UNIFIED}{name}-status"] = status_text if name == f"7d{suffix}" else "allowed"
    return UpstreamResponse(status, headers, scope=Scope(family), now=NOW)


def _wanted(number: int, kind: str = "session") -> PoolRequest:
    return PoolRequest(f"{kind}-{number}", Scope(FAMILIES[number % len(FAMILIES)]))


def _requests(choices: int, bound_of_ten: int) -> list[PoolRequest]:
    """Return the requests in advance: ``bound_of_ten`` of ten belong to known sessions, the others to new ones."""
    # Known sessions are those used last, so that new sessions push out idle ones. Their order differs from that of their last
    # use: 7919 has no divisor in common with their number.
    at_work = SESSIONS // 2
    known = (_wanted(SESSIONS - 1 - number * 7919 % at_work) for number in cycle(range(at_work)))
    return [next(known) if number % 10 < bound_of_ten else _wanted(number, "new") for number in range(choices)]


def _times(
    choose: Callable[[PoolRequest], Credential | None], requests: list[PoolRequest], clock: Clock, tell: Callable[[], object]
) -> Times:
    """Time each choice. Between two choices the clock advances, and sometimes the changes are reported, as in the proxy."""
    clock.now = NOW
    took: list[int] = []
    for number, wanted in enumerate(requests):
        started = time.perf_counter_ns()
        choose(wanted)
        took.append(time.perf_counter_ns() - started)
        clock.now += STEP
        if number % 100 == 0:
            tell()
    took.sort()
    return Times(took[len(took) // 2] / 1000, took[len(took) * 99 // 100] / 1000)


if __name__ == "__main__":
    raise SystemExit(main())
