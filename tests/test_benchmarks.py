"""benchmarks/: the programs run, and their comparisons are right; no test asserts a time."""

import json
import os
import random
import socket
import subprocess
import sys

import pytest

from benchmarks import choose, measure, script, simulated_limits
from benchmarks.audit import audit
from benchmarks.crowd import ANSWERED, BROKEN, ERROR, NOTHING, WRONG, Outcome
from benchmarks.simulated_limits import CUT, LIMITED, OVERLOADED, QUARANTINE_SECONDS, REFUSED, SERVED, Arrival
from benchmarks.soak_report import with_section

PLAN = script.Plan(7, 12, 1.0, tool=True, sent=5)
POOL = ("a", "b")


def test_the_table_is_printed(capsys):
    """``make bench`` succeeds and prints a line for each scenario."""
    assert choose.main(["--choices", "50"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len([line for line in lines if "sessions  " in line or "bound  " in line]) == 3


def test_the_pool_is_faster_than_a_naive_one():
    """An index is faster than a search through all credentials, for known and for new sessions."""
    rows = list(choose.measure(300))
    assert [row.scenario for row in rows if row.pool.p50 >= row.naive.p50] == []


@pytest.mark.parametrize("bound_of_ten", [0, 9, 10])
def test_both_pools_choose_by_the_same_rules(bound_of_ten):
    """The comparison is fair: both pools follow the same rules for cooldowns and for sessions."""
    clock = choose.Clock()
    pool, labels, places = choose._pool(clock)
    naive = choose.NaivePool(pool, labels, clock, dict(places))
    for wanted in choose._requests(200, bound_of_ten):
        slow, fast = naive.choose(wanted), pool.choose(wanted)
        assert pool.state(slow.label).usable_at(wanted.scope) <= clock.now
        assert pool.state(fast.label).usable_at(wanted.scope) <= clock.now
        if wanted.session in places:
            assert slow.label == fast.label == places[wanted.session]


# --- What a soak would find --------------------------------------------------------------------------------------------------


def stream(plan=PLAN, model="claude-sonnet-5"):
    """Return a response of the soak test's upstream, with moments in it."""
    return b"".join(script.stamped(part, 1000 + place) for place, part in enumerate(script.claude(plan, model)))


@pytest.mark.parametrize("tool", [True, False])
def test_a_whole_answer_is_in_order(tool):
    """Both ends of the soak test compute the same response, whatever its moments, streamed and whole."""
    plan = PLAN._replace(tool=tool)
    assert script.plan_in(f'{{"x": "{plan.words()}"}}'.encode()) == plan
    answer = stream(plan)
    for to_the_byte in (True, False):
        assert script.mistake(plan, "claude-sonnet-5", answer, streams=True, to_the_byte=to_the_byte) is None
    whole = json.dumps(script.whole(plan, "m")).encode()
    assert script.mistake(plan, "m", whole, streams=False, to_the_byte=False) is None


@pytest.mark.parametrize("to_the_byte", [True, False])
def test_an_answer_that_lacks_an_event_is_a_mistake(to_the_byte):
    """Without any one of its events, or with one of another stream, a response is incomplete."""
    events = stream().split(b"\n\n")[:-1]
    pieces = [place for place, event in enumerate(events) if b"_delta" in event]
    foreign = stream(PLAN._replace(number=8)).split(b"\n\n")[:-1]
    for place in pieces:
        for changed in ([*events[:place], *events[place + 1 :]], [*events[:place], foreign[place], *events[place + 1 :]]):
            if changed == events:
                continue
            answer = b"\n\n".join(changed) + b"\n\n"
            assert script.mistake(PLAN, "claude-sonnet-5", answer, streams=True, to_the_byte=to_the_byte) is not None


def outcome(number=1, kind=ANSWERED, status=200, sent=0.0, ended=1.0, retry_after=0.0):
    return Outcome(number, "claude-sonnet-5", kind, status, sent, ended, retry_after=retry_after)


def arrival(credential="a", result=SERVED, *, at=0.5, number=1, sent=0.0, until=0.0):
    return Arrival(at, number, credential, "sonnet", sent, result, until)


@pytest.mark.parametrize(
    ("seen", "did"),
    [
        # An answer that nobody gave, one that differs, one that never came.
        (outcome(), []),
        (outcome(kind=WRONG), [arrival()]),
        (outcome(kind=NOTHING, status=0), [arrival()]),
        # Errors that the upstream did not make.
        (outcome(kind=ERROR, status=529), [arrival()]),
        (outcome(kind=ERROR, status=502), [arrival(result=OVERLOADED)]),
        (outcome(kind=BROKEN), [arrival()]),
        # A 429 while a credential could have been asked, and one that does not say when to come back.
        (outcome(kind=ERROR, status=429, retry_after=5), [arrival(result=LIMITED, until=9.0)]),
        (outcome(kind=ERROR, status=429), [arrival(c, LIMITED, until=9.0) for c in POOL]),
    ],
)
def test_what_is_lost_is_found(seen, did):
    """A request is lost unless its response is complete, or the upstream's ledger explains why it is not."""
    assert len(audit([seen], did, POOL).lost) == 1


@pytest.mark.parametrize(
    ("seen", "did"),
    [
        (outcome(), [arrival(result=LIMITED, until=9.0), arrival("b", at=0.6)]),
        (outcome(kind=ERROR, status=529), [arrival(result=OVERLOADED)]),
        (outcome(kind=BROKEN), [arrival(result=CUT)]),
        (outcome(kind=ERROR, status=429, retry_after=5), [arrival(c, LIMITED, until=9.0) for c in POOL]),
    ],
)
def test_what_the_upstream_did_is_no_loss(seen, did):
    """An error that the ledger explains is the upstream's, and a failover is counted."""
    found = audit([seen], did, POOL)
    assert found.lost == ()
    assert found.failovers == int(seen.kind == ANSWERED)


@pytest.mark.parametrize(
    ("result", "until", "sent", "lost"),
    [
        # What is left of a rest is told in whole seconds, and counted from when the proxy hears it.
        (LIMITED, 0.6, 2.9, 0),
        (LIMITED, 0.6, 3.1, 1),
        # A refusal is heard a second time, and the quarantine begins anew.
        (REFUSED, 6.0, 1.9 + QUARANTINE_SECONDS, 0),
        (REFUSED, 6.0, 2.1 + QUARANTINE_SECONDS, 1),
    ],
)
def test_a_rest_lasts_from_when_the_proxy_hears_of_it(result, until, sent, lost):
    """Under load a response is received late; a 429 is justified exactly as long as the proxy knows of the cooldown."""
    told = [arrival(credential, result, number=number, until=until) for number, credential in enumerate(POOL, 1)]
    heard = [outcome(number, ERROR, 429, ended=2.0, retry_after=1) for number in (1, 2)]
    refused = outcome(3, ERROR, 429, sent=sent, ended=sent + 0.1, retry_after=1)
    assert len(audit([*heard, refused], told, POOL).lost) == lost


def test_asking_one_who_rests_is_found():
    """A request sent after the proxy knew of a cooldown must not use that credential; an earlier request may."""
    first = [arrival(result=LIMITED, until=9.0), arrival("b", at=0.6)]
    known = [outcome(), outcome(2, sent=0.7, ended=2.0), outcome(3, sent=0.55, ended=2.0), outcome(4, sent=9.1, ended=9.5)]
    late, on_its_way = arrival(number=2, sent=0.7, at=0.9), arrival(number=3, sent=0.55, at=0.9)
    afterwards = arrival(number=4, sent=9.1, at=9.2)
    assert len(audit(known, [*first, late], POOL).asked_cooling_down) == 1
    assert audit(known, [*first, on_its_way, afterwards], POOL).asked_cooling_down == ()


def test_a_credential_that_is_limited_stays_so_for_as_long_as_it_said():
    """The simulated upstream keeps its limits: no request is served before the cooldown ends, and one is served after it."""
    clock = [100.0]
    limits = simulated_limits.SimulatedLimits(lambda: clock[0], lambda: 1_800_000_000.3 + clock[0], all_rate_limited_every=1e9)
    seen = [
        limits.decide(PLAN._replace(number=101 * n), "a", "sonnet", first=False) for n in range(simulated_limits.BUDGET + 1)
    ]
    assert [one.outcome for one in seen] == [SERVED] * simulated_limits.BUDGET + [LIMITED]
    until = limits.ledger[-1].until
    clock[0] = until - 0.01
    assert limits.decide(PLAN, "a", "sonnet", first=False).outcome == LIMITED
    clock[0] = until
    assert limits.decide(PLAN, "a", "sonnet", first=False).outcome == SERVED


def points(rise, noise, seed=1):
    """Return memory samples of ten minutes, one every ten seconds, with this growth per hour."""
    random.seed(seed)
    return [(at, 500 + rise * at / 3600 + random.gauss(0, noise)) for at in range(0, 600, 10)]


def test_a_slope_is_found_in_noise_and_noise_is_none():
    """A leak that is larger than the noise is certain; flat noise never is."""
    assert measure.slope(points(300, 5)).at_least > 150
    assert sum(measure.slope(points(0, 5, seed)).at_least > 10 for seed in range(40)) <= 4


def test_a_walk_is_taken_for_less_certain_than_noise():
    """If neighbours are correlated, like memory samples, the error is wider than with independent points."""
    random.seed(2)
    walk, at = [], 0.0
    for place in range(60):
        at = 0.8 * at + random.gauss(0, 1)
        walk.append((place * 10.0, at))
    shuffled = [(place, value) for (place, _), (_, value) in zip(walk, random.sample(walk, len(walk)), strict=True)]
    assert measure.slope(walk).error > 1.5 * measure.slope(shuffled).error


def test_a_drift_is_found():
    """A latency that doubles during a run drifts; one that only varies does not."""
    random.seed(3)
    flat = [(at / 10, random.expovariate(100)) for at in range(6000)]
    grows = [(at, late * (1 + at / 600)) for at, late in flat]
    assert measure.drift(flat, 0.5).certain < 0.25 < measure.drift(grows, 0.5).certain


def test_a_process_is_seen_with_what_it_holds_open():
    """Both ends of a connection count, a listening socket does not, and each is an open file."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        before = measure.sample(os.getpid(), 0.0)
        assert measure.connections(os.getpid(), port) == 0
        with socket.create_connection(("127.0.0.1", port)), listening.accept()[0]:
            assert measure.connections(os.getpid(), port) == 2
            assert measure.sample(os.getpid(), 1.0).files == before.files + 2
        assert measure.sample(os.getpid(), 2.0).sockets == before.sockets


def test_other_processes_have_a_moment_to_learn_of_a_cooldown():
    """Within the time in which processes tell each other, another one may still use a credential; later none may."""
    first = [arrival(result=LIMITED, until=9.0), arrival("b", at=0.6)]
    known = [outcome(), outcome(2, sent=1.5, ended=2.0), outcome(3, sent=1.7, ended=2.0)]
    soon, late = arrival(number=2, sent=1.5, at=1.55), arrival(number=3, sent=1.7, at=1.75)
    assert audit(known, [*first, soon], POOL, shared_within=1.0).asked_cooling_down == ()
    assert len(audit(known, [*first, soon, late], POOL, shared_within=1.0).asked_cooling_down) == 1


def test_a_section_replaces_the_one_of_the_same_scale():
    """Each scale has one section of the page, in the order in which they were first measured."""
    page = with_section(with_section("# Load\n\nWhat it is.\n", "## One worker\n\nold\n"), "## 2 workers\n\nother\n")
    assert page == "# Load\n\nWhat it is.\n\n## One worker\n\nold\n\n## 2 workers\n\nother\n"
    assert with_section(page, "## One worker\n\nnew\n") == page.replace("old", "new")


def test_processes_are_measured_together():
    """The samples of all processes below one are added up, its own and its children's."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        pids = measure.with_children(os.getpid())
        assert {os.getpid(), child.pid} <= {*pids}
        one, two = (measure.sample(pid, 2.0) for pid in (os.getpid(), child.pid))
        found = measure.together([one, two])
        child.communicate(b"\n")
    assert found == one._replace(
        rss=one.rss + two.rss, cpu=one.cpu + two.cpu, files=one.files + two.files, sockets=one.sockets + two.sockets,
        threads=one.threads + two.threads, waited=one.waited + two.waited,
    )  # fmt: skip
