"""Credentials, a clock and a pool for the tests of the pool and of what it consists of."""

from functools import partial

import answers
import pytest
from answers import HOUR, LIMIT

from claude_proxy.credentials.credential import Credential, Kind
from claude_proxy.credentials.pool import Affinity, Pool, PoolRequest
from claude_proxy.credentials.response_rules import Action, Verdict, judge
from claude_proxy.credentials.scope import Scope
from claude_proxy.credentials.upstream_response import UpstreamResponse
from claude_proxy.secret import Secret

START = 1_800_000_000.0
QUARANTINE = 900.0
COOLDOWN = 60.0
SALT = "made-up-salt"


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def make(clock):
    return partial(new_pool, clock=clock)


class Clock:
    now = START

    def __call__(self):
        return self.now


def credential(label, kind=Kind.OAUTH):
    return Credential(label, kind, Secret(f"sk-ant-made-up-{label * 20}"))


A, B, C = credential("a"), credential("b"), credential("c")
K, L = credential("k", Kind.API_KEY), credential("l", Kind.API_KEY)
BY_LABEL = {each.label: each for each in (A, B, C, K, L)}
REJECTED = Verdict(Action.NEXT, "refused", rejected=True)
REFUSED = Verdict(Action.NEXT, "the credential was rejected", unauthorized=True)
DONE = Verdict(Action.DONE, "answered")
TRY_ONE_OTHER = Verdict(Action.TRY_ONE_OTHER, "a 429 that names no limit")
NOTHING = UpstreamResponse(200, {})


def new_pool(*credentials, affinity=Affinity.SESSION, **options):
    return Pool(credentials, affinity=affinity, quarantine=QUARANTINE, cooldown=COOLDOWN, **options)


def cooldown(pool, each, seconds, family="", reason="limit reached", *, endpoint="", speed=""):
    """Let a credential rest, for all models or for a family."""
    scope = Scope(family, endpoint, speed)
    pool.record_response(
        each, Verdict(Action.NEXT, reason, ((scope, pool._clock() + seconds),)), UpstreamResponse(429, {}, b"", scope)
    )


def tell(pool, each, http_status=200, family="", organization=None, sent=None, **unified):
    """Give the pool an answer with these limit headers, with the verdict that it gets."""
    headers = answers.given(429, LIMIT, **unified).headers
    headers |= {"anthropic-organization-id": organization} if organization else {}
    answer = UpstreamResponse(
        http_status, headers, b"", Scope(family), pool._clock(), each.kind, pool._clock() if sent is None else sent
    )
    pool.record_response(each, judge(answer, COOLDOWN), answer)


def fill(pool, each, utilization, seconds=HOUR, window="5h", family=""):
    """Let the pool learn how full a window is."""
    reset = pool._clock() + seconds
    tell(pool, each, family=family, **{f"{window}__utilization": utilization, f"{window}__reset": reset})


def chosen(pool, times, session=None, family=""):
    found = (pool.choose(PoolRequest(session, Scope(family))) for _ in range(times))
    return "".join(each.label if each else "-" for each in found)


def walk(pool, session=None, family=""):
    """Return the labels that one request meets when every credential fails it."""
    tried = []
    while (found := pool.choose(PoolRequest(session, Scope(family)), tried)) is not None:
        tried.append(found.label)
    return "".join(tried)


def known(pool):
    """What two pools of one store should agree on."""
    states = {
        label: (
            {
                scope: (
                    cooldown.until,
                    cooldown.reason,
                    cooldown.explanation,
                    cooldown.rejected,
                    cooldown.recorded_at,
                    cooldown.windows,
                )
                for scope, cooldown in state.cooldowns.items()
            },
            {place: (window.utilization, window.reset, window.seen) for place, window in state.windows.items()},
            dict(state.courses),
            (state.back_at, state.scoped, state.load, state.family_load),
        )
        for label, state in pool._states.items()
    }
    return states, {session: (binding.label, binding.used) for session, binding in pool._sessions.items()}


def busy(pool):
    """Let a pool know something of every kind."""
    cooldown(pool, A, 60)
    cooldown(pool, B, 600, "opus")
    pool.record_response(K, REJECTED, NOTHING)
    fill(pool, B, 0.4)
    fill(pool, B, 0.6, window="7d_opus", family="opus")
    chosen(pool, 1, "s")
    chosen(pool, 2)
    return pool
