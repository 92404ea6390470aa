"""The pool through a week of 50 sessions on 8 credentials, and through moments in which everybody comes at once.

How many moves are the least? Sessions stand where they stand, and nobody knows what they will ask for. When a window runs
out, each of its sessions that is served again before the window opens anew has to be served by another credential: that is
one move for every such session and window, whoever chooses, and ``Trace.forced_moves`` counts them from what the fake Anthropic
and the clients saw. A pool that moves a session early, back, or twice for one window makes more.

That bound takes for granted where sessions stand, and so how many windows run out; a pool that herds them could pass.
So the week is played again by two others who keep the same rules about moves: ``Blind``, who takes credentials in turn, and
``Clairvoyant``, who knows the future and spreads sessions by it. The pool has to beat the one and come near the other.
"""

from collections import Counter
from functools import cache
from itertools import pairwise

import pytest
from simulation import FAMILY, LABELS, MONDAY, Blind, Clairvoyant, Clock, Served, Simulation, Trace

from claude_proxy.credentials.credential import Credential, Kind
from claude_proxy.credentials.pool import PROBE_SECONDS, Affinity, Pool, PoolRequest
from claude_proxy.credentials.response_rules import judge
from claude_proxy.credentials.scope import Scope
from claude_proxy.credentials.upstream_response import UNIFIED, UpstreamResponse
from claude_proxy.secret import Secret

SEEDS = (1, 2, 3)
# The steady team's three weeks, and one of a team that begins its week with windows that are nearly full.
WEEKS = [*((seed, False) for seed in SEEDS), (4, True)]
COOLDOWN = 60.0


@cache
def simulation(seed, careless):
    ready = Simulation(seed, careless=careless)
    ready.run()
    return ready


def week(seed, careless=False):  # noqa: FBT002 - a column of WEEKS
    return simulation(seed, careless).trace


@cache
def moves(yardstick, seed):
    return yardstick(seed).run().moves()


# --- A week --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seed", "careless"), WEEKS)
def test_nobody_is_refused_whom_a_credential_could_have_served(seed, careless):
    """When the pool refuses, every credential has a used-up window; a client that retries as told is served."""
    trace = week(seed, careless)
    assert [refused for refused in trace.refused if refused.able] == []
    assert Counter(served.session for served in trace.served) == Counter(
        request.session for request in simulation(seed, careless).requests
    )


@pytest.mark.parametrize(("seed", "careless"), WEEKS)
def test_nobody_is_asked_who_rests(seed, careless):
    """A credential in its cooldown gets no request, except one per minute for the whole pool while all are rate-limited."""
    probes = [sent for sent in week(seed, careless).sent if sent.at < sent.rests_until]
    assert [sent for sent in probes if not sent.all_rate_limited] == []
    assert all(after.at - before.at >= PROBE_SECONDS for before, after in pairwise(probes))


@pytest.mark.parametrize(("seed", "careless"), WEEKS)
def test_moves_are_the_least_where_sessions_stand(seed, careless):
    """Sessions move at most a tenth more often than used-up windows require."""
    trace = week(seed, careless)
    assert 0 < trace.moves() <= 1.1 * trace.forced_moves()


@pytest.mark.parametrize("seed", SEEDS)
def test_headroom_is_worth_more_than_taking_turns(seed):
    """A pool that considers headroom moves fewer sessions than a round robin."""
    assert week(seed).moves() < moves(Blind, seed)


def test_the_price_of_not_knowing_the_future():
    """Over three weeks the pool moves sessions at most five times as often as an order that knows the future."""
    assert sum(week(seed).moves() for seed in SEEDS) <= 5 * sum(moves(Clairvoyant, seed) for seed in SEEDS)


def test_the_weeks_are_hard_enough():
    """In these weeks windows of both lengths are used up, and at some moments no credential can serve."""
    assert all(len(week(seed).spent) >= 5 for seed in SEEDS)
    careless = week(*WEEKS[-1])
    assert {name for *_, name in careless.spent} == {"5h", "7d"}
    assert len(careless.refused) > 100


def test_the_bound_forgives_no_move_that_nothing_forced():
    """A move while the session's credential can serve, and a move back, do not count as forced."""
    trace = Trace(spent=[("a", 10.0, 50.0, "5h")])
    trace.served = [Served(at, "s", label) for at, label in ((1.0, "a"), (20.0, "b"), (60.0, "a"), (70.0, "b"))]
    assert (trace.moves(), trace.forced_moves()) == (3, 1)


# --- Everybody at once ---------------------------------------------------------------------------------------------------


def answer(clock, status, fullness, reset):
    """Return Anthropic's response for a credential whose 5-hour window is this full."""
    headers = {
        f"{UNIFIED}status": "allowed" if status == 200 else "rejected",
        f"{UNIFIED}5h-status": "allowed" if status == 200 else "rejected",
        f"{UNIFIED}5h-utilization": str(fullness),
        f"{UNIFIED}5h-reset": str(int(reset)),
    }
    return UpstreamResponse(status, headers, scope=Scope(FAMILY), now=clock.now)


@pytest.fixture
def office():
    """Return seven credentials, half used by six sessions each; the eighth, h, is in its cooldown for another minute."""
    clock = Clock()
    credentials = [Credential(label, Kind.OAUTH, Secret(f"sk-ant-oat01-made-up-{label}")) for label in LABELS]
    pool = Pool(credentials, affinity=Affinity.SESSION, quarantine=900.0, clock=clock)

    def note(label, status, fullness, reset):
        said = answer(clock, status, fullness, reset)
        pool.record_response(pool.state(label).credential, judge(said, COOLDOWN), said)

    note("h", 429, 1.0, clock.now + 2.5 * 3600 + 60)
    for number in range(42):
        label = pool.choose(PoolRequest(f"early-{number}", FAMILY)).label
        note(label, 200, 0.01, clock.now + 5 * 3600)
    clock.now += 2.5 * 3600
    for number in range(42):
        pool.choose(PoolRequest(f"early-{number}", FAMILY))
    for place, label in enumerate("abcdefg"):
        note(label, 200, 0.5 + 0.02 * place, clock.now + 2.5 * 3600)
    return clock, pool, note


def test_new_sessions_do_not_all_go_to_the_credential_that_is_back(office):
    """Of forty sessions that start when a cooldown ends, the returning credential gets the most, but at most half."""
    clock, pool, _ = office
    clock.now = MONDAY + 2.5 * 3600 + 60
    taken = Counter(pool.choose(PoolRequest(f"new-{number}", FAMILY)).label for number in range(40))
    assert taken.most_common(1)[0][0] == "h"
    assert taken["h"] <= 20
    assert set(taken) == set(LABELS)


def test_sessions_of_a_spent_credential_do_not_move_together(office):
    """When a window with many concurrent sessions is used up, they spread over the other credentials."""
    clock, pool, note = office
    bound = [f"early-{number}" for number in range(42)]
    before = {session: pool.choose(PoolRequest(session, FAMILY)).label for session in bound}
    left = [session for session, label in before.items() if label == "a"]
    for _ in left:  # all were on their way before the first was refused
        note("a", 429, 1.0, clock.now + 2.5 * 3600)
    taken = Counter(pool.choose(PoolRequest(session, FAMILY), {"a"}).label for session in left)
    assert len(left) >= 3
    assert max(taken.values()) <= len(left) / 2
    stayed = {session: pool.choose(PoolRequest(session, FAMILY)).label for session in bound if session not in left}
    assert stayed == {session: label for session, label in before.items() if session not in left}
