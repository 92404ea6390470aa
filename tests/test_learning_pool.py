"""credentials/learning_pool.py: what a pool learns from answers, and when it takes it back; on a clock that the test turns."""

import pytest
from answers import DAY, HOUR
from pools import DONE, QUARANTINE, REFUSED, START, A, B, C, K, chosen, cooldown, fill, tell

from claude_proxy.credentials.learning_pool import REFUSED_SECONDS
from claude_proxy.credentials.pool import PROBE_SECONDS, ExtraUsage, PoolRequest
from claude_proxy.credentials.response_rules import Action, Verdict
from claude_proxy.credentials.scope import COUNT_TOKENS, EVERYTHING, FAST, MESSAGES, STANDARD, Scope
from claude_proxy.credentials.upstream_response import UpstreamResponse
from claude_proxy.usage.report import state_name

OPUS = Scope("opus", MESSAGES, STANDARD)


def answered(pool, each, scope=OPUS, sent=None, **headers):
    """Give the pool a good answer to a request that was sent then, now without another word."""
    sent = pool._clock() if sent is None else sent
    pool.record_response(each, DONE, UpstreamResponse(200, headers, b"", scope, pool._clock(), each.kind, sent))


# Scopes


@pytest.mark.parametrize(
    ("limited", "others"),
    [
        (Scope("opus", COUNT_TOKENS, STANDARD), [OPUS, Scope("sonnet", COUNT_TOKENS, STANDARD)]),
        (Scope("opus", MESSAGES, FAST), [OPUS, Scope("opus", COUNT_TOKENS, STANDARD)]),
        (OPUS, [Scope("sonnet", MESSAGES, STANDARD), Scope("opus", COUNT_TOKENS, STANDARD), Scope("opus", MESSAGES, FAST)]),
    ],
    ids=["count_tokens", "fast", "model"],
)
def test_a_limit_rests_what_it_is_about(make, limited, others):
    """A limit of one endpoint, speed or model leaves the credential to everything else."""
    pool = make(A)
    cooldown(pool, A, HOUR, limited.family, endpoint=limited.endpoint, speed=limited.speed)
    assert pool.choose(PoolRequest(None, limited)) is None
    assert [pool.choose(PoolRequest(None, other)) for other in others] == [A] * len(others)


# Ends of rests


def test_a_good_answer_ends_a_rest(make, clock):
    """What was asked for after a rest was noted, and is answered, shows that the rest is over: for what it covers."""
    pool = make(A)
    cooldown(pool, A, DAY)
    cooldown(pool, A, DAY, "fable")
    clock.now += 1
    answered(pool, A)
    assert (chosen(pool, 1, family="opus"), chosen(pool, 1, family="fable")) == ("a", "-")


def test_an_answer_to_an_earlier_request_ends_nothing(make, clock):
    """A request that was under way when a limit was met says nothing about it."""
    pool = make(A)
    clock.now += 10
    cooldown(pool, A, DAY)
    answered(pool, A, sent=START)
    assert chosen(pool, 1) == "-"


def test_a_fresh_window_ends_its_rests(make, clock):
    """A limit is over when an answer says that its windows have room again, whatever that answer was about."""
    pool = make(A)
    week = {"7d_opus__status": "rejected", "7d_opus__reset": START + 5 * DAY, "7d_opus__utilization": 1.0}
    tell(pool, A, 429, "opus", **week)
    cooldown(pool, A, DAY, "fable")
    clock.now += HOUR
    tell(pool, A, 200, "sonnet", **week)
    assert chosen(pool, 1, family="opus") == "-"
    tell(
        pool, A, 200, "sonnet", **{"7d_opus__status": "allowed", "7d_opus__reset": START + 7 * DAY, "7d_opus__utilization": 0.0}
    )
    assert (chosen(pool, 1, family="opus"), chosen(pool, 1, family="fable")) == ("a", "-")


def test_what_an_operator_lifts(make, clock):
    """An operator ends every rest of a credential, here and in the other processes; what comes later counts again."""
    pool, other = make(A, B), make(A, B)
    for one in (pool, other):
        one.set_salt("x")
    cooldown(pool, A, DAY)
    cooldown(pool, A, DAY, "opus")
    other.merge(pool.changed())
    clock.now += 1
    assert (pool.lift("a"), pool.lift("nobody")) == (True, False)
    other.merge(pool.changed())
    assert pool.cooling_down(EVERYTHING) == other.cooling_down(EVERYTHING) == frozenset()
    fresh = make(A, B)
    fresh.set_salt("x")
    fresh.merge(reversed(pool.everything()))
    assert fresh.cooling_down(Scope("opus")) == frozenset()
    clock.now += 1
    cooldown(pool, A, DAY)
    other.merge(pool.changed())
    assert other.cooling_down(EVERYTHING) == {"a"}


def test_an_end_reaches_other_processes(make, clock):
    """A rest that a good answer has ended here is over there too, and is not brought back by an old row."""
    pool, other = make(A), make(A)
    cooldown(pool, A, DAY)
    before = pool.changed()
    other.merge(before)
    clock.now += 1
    answered(pool, A)
    other.merge(pool.changed())
    other.merge(before)
    assert other.cooling_down(EVERYTHING) == frozenset()


# Refusals, which may be Anthropic's own trouble


def refuse(pool, each, times, clock):
    """Refuse a credential so often, each time when it is back; return how long it rested."""
    lasted = []
    for _ in range(times):
        pool.record_response(each, REFUSED, UpstreamResponse(401, {}))
        lasted.append(pool.state(each.label).usable_at(EVERYTHING) - clock.now)
        clock.now += lasted[-1]
    return lasted


def test_a_refused_token_is_tried_again_after_seconds_then_minutes(make, clock):
    """While others answer, it is the token: it rests for longer each time, and in the end for the quarantine."""
    pool = make(A, B)
    answered(pool, B)
    assert refuse(pool, A, 2, clock) == [*REFUSED_SECONDS[:2]]
    answered(pool, B)
    assert refuse(pool, A, 2, clock) == [REFUSED_SECONDS[2], QUARANTINE]


def test_a_good_answer_forgets_refusals(make, clock):
    """A token that answers begins anew."""
    pool = make(A, B)
    answered(pool, B)
    refuse(pool, A, 2, clock)
    answered(pool, A)
    assert refuse(pool, A, 1, clock) == [REFUSED_SECONDS[0]]


@pytest.mark.parametrize("credentials", [(A,), (A, B)], ids=["one", "all"])
def test_trouble_of_anthropics_takes_no_pool_away(make, clock, credentials, caplog):
    """While nobody is there who answers, a refused token rests for a minute at most."""
    pool = make(*credentials)
    for _ in range(5):
        for each in credentials:
            pool.record_response(each, REFUSED, UpstreamResponse(401, {}))
        assert pool.back_at(EVERYTHING) - clock.now <= REFUSED_SECONDS[1]
        clock.now = pool.back_at(EVERYTHING)
    assert ("may have an outage" in caplog.text) is (len(credentials) > 1)


def test_refusals_at_the_same_time_are_one(make, clock):
    """Many requests that are refused at once count as one refusal."""
    pool = make(A, B)
    answered(pool, B)
    for _ in range(9):
        pool.record_response(A, REFUSED, UpstreamResponse(401, {}))
    assert pool.state("a").usable_at(EVERYTHING) == clock.now + REFUSED_SECONDS[0]


# Extra usage


def pay(pool, each, **more):
    """Let a credential answer with extra usage."""
    full = {"status": "rejected", "overage__in__use": "true", "overage__utilization": "0.4", "5h__status": "rejected"}
    tell(pool, each, 200, "opus", **full, **{"5h__utilization": 1.0, "5h__reset": pool._clock() + HOUR}, **more)


def test_extra_usage_comes_after_every_plan_and_before_api_keys(make, clock):
    """Sessions leave a credential whose answers are paid for, until its window opens; bound sessions, too."""
    pool = make(A, B, K)
    assert chosen(pool, 1, "s") == "a"
    pay(pool, A)
    assert (chosen(pool, 2, "s"), chosen(pool, 2)) == ("bb", "bb")
    cooldown(pool, B, 2 * HOUR)
    assert (chosen(pool, 2, "s"), chosen(pool, 1)) == ("aa", "a")
    cooldown(pool, A, 60)
    assert chosen(pool, 1) == "k"
    clock.now += HOUR
    assert pool.snapshot()[0].extra_until == 0


def test_extra_usage_is_over_when_an_answer_says_so(make):
    """An answer within the plan ends it."""
    pool = make(A, B)
    pay(pool, A)
    assert chosen(pool, 2) == "bb"
    tell(pool, A, 200, "opus", status="allowed", **{"5h__status": "allowed", "5h__utilization": 0.0, "5h__reset": START + HOUR})
    assert "a" in chosen(pool, 2)


def test_extra_usage_never(make, clock):
    """Where nobody wants to pay, such a credential rests until its window opens, and the refusal says until when."""
    pool = make(A, K, extra_usage=ExtraUsage.NEVER)
    pay(pool, A)
    assert chosen(pool, 1) == "k"
    alone = make(A, extra_usage=ExtraUsage.NEVER)
    pay(alone, A)
    assert (chosen(alone, 1), alone.cooling_down(EVERYTHING), alone.back_at(EVERYTHING)) == ("-", {"a"}, START + HOUR)
    (one,) = alone.snapshot()
    assert (one.cooldowns[EVERYTHING].until, one.extra_until, state_name(one)) == (START + HOUR, 0, "rate-limited")
    clock.now += HOUR
    assert chosen(alone, 1) == "a"
    assert alone.snapshot()[0].cooldowns == {}


def test_the_window_of_extra_usage_is_no_load(make):
    """How much of the extra usage is spent says nothing about the plan's room."""
    pool = make(A, B)
    pay(pool, A)
    assert pool.state("a").load == 1.0
    fill(pool, B, 0.2)
    assert pool.snapshot()[0].windows["", "overage"].utilization == 0.4


# Windows of other families


def test_the_window_of_another_family_is_known_and_is_no_load(make):
    """Fable's week on an answer of Opus's is Fable's."""
    pool = make(A, B)
    fable = {"7d_oi__utilization": 1.02, "7d_oi__reset": START + 5 * DAY, "7d_oi__status": "rejected"}
    tell(pool, A, 200, "opus", **fable, **{"5h__utilization": 0.05, "5h__reset": START + HOUR})
    fill(pool, B, 0.7, family="opus")
    assert chosen(pool, 2, family="opus") == "aa"
    assert chosen(pool, 2, family="fable") == "bb"


# When nobody is usable, one request a minute


def test_the_most_promising_is_asked_once_a_minute(make, clock):
    """It is the one that was left alone for longest, and of equals the one that is back first; nobody before a minute."""
    pool = make(A, B, C)
    for each, seconds in ((A, 3 * DAY), (B, 2 * DAY), (C, DAY)):
        cooldown(pool, each, seconds)
    asked = []
    for _ in range(6):
        asked.append([pool.probe(PoolRequest()) for _ in range(2)])
        clock.now += PROBE_SECONDS
    assert asked == [[None, None], [C, None], [B, None], [A, None], [C, None], [B, None]]


def test_other_processes_count(make, clock):
    """All processes of one store ask once a minute together."""
    pool, other = make(A), make(A)
    for one in (pool, other):
        cooldown(one, A, DAY)
        one.changed()
    clock.now += PROBE_SECONDS
    assert pool.probe(PoolRequest()) == A
    other.merge(pool.changed())
    assert other.probe(PoolRequest()) is None
    clock.now += PROBE_SECONDS
    assert other.probe(PoolRequest()) == A


@pytest.mark.parametrize("tried", [frozenset(), {"a"}])
def test_who_is_asked_so(make, clock, tried):
    """Not who was tried by this request, and not who does not rest for what is asked."""
    pool = make(A, B)
    cooldown(pool, A, DAY, "opus")
    cooldown(pool, B, DAY)
    clock.now += PROBE_SECONDS
    assert pool.probe(PoolRequest(None, Scope("sonnet")), tried) == B
    clock.now += PROBE_SECONDS
    assert pool.probe(PoolRequest(None, OPUS), tried) == (B if tried else A)


def test_an_unknown_credential_teaches_nothing(make):
    """What is said of a credential that is not in the pool any more is passed over."""
    pool = make(A)
    answer = UpstreamResponse(403, {})
    assert pool.record_unknown_refusal(B, answer) is False
    for act in (pool.confirm_unknown_refusal, pool.record_response, pool.confirm):
        act(
            B,
            *([Verdict(Action.NEXT, "x", rejected=True)] if act != pool.confirm_unknown_refusal else []),
            *([answer] if act != pool.confirm else []),
        )
    pool.release(B)
    assert chosen(pool, 1) == "a"
