"""Many clients at once through one worker: the code of ``make soak``, for half a minute, and its floods, smaller."""

import time
from collections.abc import Iterator

import pytest
import uvloop
from forked_process import ForkedProcess

from benchmarks import flood, soak
from benchmarks import stage as stages
from benchmarks.audit import audit
from benchmarks.crowd import MODELS, Crowd
from benchmarks.simulated_limits import LIMITED, REFUSED
from benchmarks.soak_report import report
from benchmarks.soak_result import Run
from benchmarks.stage import CREDENTIALS, TOKEN, Stage, stage

STREAMS = 200
# Shorter answers than the soak's, so that each client asks several times; and all credentials rest together early.
SECONDS, ALL_RATE_LIMITED_EVERY = 25.0, 16.0
# An idle connection to Claude is let go sooner than the proxy does by itself, which is waited for three times.
IDLE_SECONDS = 2.0
# What 200 streams may take, of memory, beyond the proxy that has answered one request of each kind, as a part of that.
GROWTH = 1.0


@pytest.fixture(scope="module")
def running() -> Iterator[Stage]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(stages, "Process", ForkedProcess)
        with stage(all_rate_limited_every=ALL_RATE_LIMITED_EVERY, idle_seconds=IDLE_SECONDS) as found:
            yield found


@pytest.fixture(scope="module")
def run(running: Stage) -> Run:
    return uvloop.run(soak.soak(running, STREAMS, SECONDS, floods=False, pieces=(20, 30), lasting=(5.0, 9.0)))


def quick(running: Stage, clients: int, number: int) -> Crowd:
    """Clients whose answers take a moment; their requests are numbered from there on."""
    return Crowd(running.urls, TOKEN, clients, (8, 8), (0.5, 1.0), f"quick-{number}", number=number)


def test_two_hundred_streams_lose_nothing(run):
    """With credentials failing over in between, every answer is whole and its own, or an error that the upstream made."""
    print(report(run, "this test"))
    assert run.audit.lost == ()
    assert run.audit.tried > STREAMS
    assert run.most_streaming > 0.8 * STREAMS
    assert run.crash == ""


def test_credentials_fail_over_and_those_that_rest_are_left_alone(run):
    """Requests are answered by another credential than the one that was limited or refused, and none asks one that rests."""
    assert run.audit.attempts[LIMITED] + run.audit.attempts[REFUSED] > 0
    assert run.audit.failovers > 0
    assert run.audit.asked_cooling_down == ()


def test_what_the_streams_took_is_given_back(run):
    """When the clients are gone, no answer is under way at the upstream, and no connection is held for them."""
    assert run.still_open == 0
    assert max(sample.files for sample in run.loaded) > run.before.files + STREAMS
    assert run.held[:2] == (0, 0)
    assert max(sample.rss for sample in run.loaded) < (1 + GROWTH) * run.before.rss


def test_the_pool_counts_each_session_once(run):
    """However often a session asks and fails over, /pool counts it at one credential."""
    known, answered, asking = run.sessions
    assert 0 < answered <= known <= asking


def test_connections_that_say_nothing_are_no_harm(running, run):
    """While 1,000 connections say nothing or half a request, others are answered, and afterwards nothing of them is left."""
    crowd = quick(running, len(MODELS), 30_000_000)
    found = uvloop.run(flood.connections(running, crowd, 1000))
    print(found)
    assert found.files[1] >= found.files[0] + 1000
    assert found.held[:2] == (0, 0)
    assert found.lost == 0
    assert audited(running, crowd).lost == ()


def test_a_burst_is_answered(running, run):
    """500 requests in one moment are all answered, by the last one."""
    crowd = quick(running, 500, 40_000_000)
    begun = time.monotonic()
    found = uvloop.run(flood.burst(running, crowd))
    print(found, f"{time.monotonic() - begun:.0f} s")
    result = audited(running, crowd)
    assert result.tried >= 500
    assert result.lost == ()
    assert found.held[:2] == (0, 0)


def audited(running: Stage, crowd: Crowd):
    """Hold what a crowd saw against the upstream's ledger."""
    return audit(crowd.outcomes, running.ledger()[0], CREDENTIALS)
