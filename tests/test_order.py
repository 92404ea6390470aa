"""credentials/order.py: whom the operator's order and the terms of credentials put first; on a clock that the test turns."""

from collections import Counter
from dataclasses import replace
from math import inf

import pytest
from answers import DAY, HOUR
from pools import (
    DONE,
    NOTHING,
    START,
    TRY_ONE_OTHER,
    A,
    B,
    C,
    K,
    chosen,
    cooldown,
    fill,
    new_pool,
    tell,
    walk,
)

from claude_proxy.credentials.credential import Terms
from claude_proxy.credentials.order import (
    ANONYMOUS,
    FIRST_MOVED,
    RAMP_SECONDS,
    RAMP_STEP_SECONDS,
    Filled,
    Order,
    Ramp,
    Requester,
    WindowSummary,
    length,
    may_use,
    named,
)
from claude_proxy.credentials.pool import BUSY_SECONDS, Affinity, ExtraUsage, PoolRequest
from claude_proxy.credentials.scope import EVERYTHING, Scope

ANNA, BEN = Requester("anna"), Requester("ben")
OPUS = Scope("opus")


def on(credential, **terms):
    return replace(credential, terms=Terms(**terms))


def sessions(pool, count, name="s", requester=ANONYMOUS):
    """Count on which credential each of so many new sessions is."""
    return Counter(pool.choose(PoolRequest(f"{name}{number}", EVERYTHING, requester)).label for number in range(count))


def asked(pool, requester=ANONYMOUS, session=None, tried=()):
    found = pool.choose(PoolRequest(session, EVERYTHING, requester), tried)
    return found.label if found else None


# Priority


def test_the_higher_priority_is_asked_first(make):
    """Nobody of a lower priority is asked while one of a higher one is usable, however full that one is."""
    pool = make(A, on(B, priority=1), on(C, priority=-1))
    fill(pool, B, 0.995)
    assert walk(pool) == "bac"
    cooldown(pool, B, HOUR)
    assert chosen(pool, 2) == "aa"


def test_a_priority_does_not_lift_what_is_paid_for(make):
    """What costs more comes later, whatever its priority is: extra usage after plans, API keys after both."""
    pool = make(A, on(B, priority=5), on(K, priority=9))
    tell(pool, B, **{"status": "allowed", "overage__in__use": "true", "5h__status": "rejected", "5h__reset": START + HOUR})
    assert walk(pool) == "abk"


def test_a_session_stays_where_a_priority_is_lower(make, clock):
    """A session that had to take a lower priority stays there, as after every move."""
    pool = make(A, on(B, priority=1))
    cooldown(pool, B, 60)
    assert chosen(pool, 1, "s") == "a"
    clock.now += 60
    assert (chosen(pool, 2, "s"), chosen(pool, 1, "t")) == ("aa", "b")


# Weight


def test_a_weight_is_a_share_of_sessions(make):
    """A credential of weight 2 gets twice as many sessions as one of weight 1."""
    assert sessions(make(A, on(B, weight=2.0)), 30) == {"a": 10, "b": 20}
    assert sessions(make(A, on(B, weight=2.0), order=Order.RESET_FIRST), 30) == {"a": 10, "b": 20}


# Reserve


def test_a_reserve_is_its_owners(make, clock):
    """From 1 - reserve on a window is full for everybody but the owner, sessions that are there included, until it opens."""
    pool = make(A, on(B, reserve=0.2, owner="Anna"))
    fill(pool, A, 0.7)
    assert [asked(pool, who, who.user) for who in (ANNA, BEN)] == ["b", "b"]
    fill(pool, B, 0.79, seconds=2 * HOUR)
    assert asked(pool, BEN, "ben") == "b"
    fill(pool, B, 0.8, seconds=2 * HOUR)
    assert [asked(pool, who, who.user) for who in (ANNA, BEN)] == ["b", "a"]
    cooldown(pool, A, DAY)
    assert [asked(pool, who) for who in (ANNA, BEN)] == ["b", None]
    assert [pool.back_at(EVERYTHING, who) for who in (ANNA, BEN)] == [0, START + 2 * HOUR]
    assert not pool.all_rejected(EVERYTHING, BEN)
    clock.now += 2 * HOUR
    assert asked(pool, BEN) == "b"


def test_a_reserve_of_a_familys_window(make):
    """A family's window that is as full as the reserve allows keeps others from that family alone."""
    pool = make(on(A, reserve=0.5, owner="anna"))
    fill(pool, A, 0.6, window="7d_opus", family="opus")
    assert [asked(pool, BEN), pool.choose(PoolRequest(None, OPUS, BEN))] == ["a", None]


def test_a_reserve_of_everything(make):
    """A credential that is reserved whole is asked for its owner alone, before anything is known of its windows, too."""
    pool = make(on(A, reserve=1.0, owner="anna"))
    assert [asked(pool, who) for who in (ANNA, BEN)] == ["a", None]
    assert 1 <= pool.retry_after(EVERYTHING, BEN) < 120


def test_others_come_to_a_reserve_later(make):
    """What is kept free is no room for a new session."""
    pool = make(A, on(B, reserve=0.3, owner="anna"))
    fill(pool, A, 0.5)
    fill(pool, B, 0.3)
    assert chosen(pool, 1) == "a"


# Max_concurrency


def test_one_with_as_many_requests_as_it_may_have_is_passed_over(make):
    """It gets no further one until one of its own is over."""
    pool = make(on(A, max_concurrency=2), B)
    fill(pool, B, 0.5)
    assert chosen(pool, 4) == "aabb"
    pool.release(A)
    assert chosen(pool, 2) == "ab"


def test_a_session_is_elsewhere_for_one_request_and_comes_back(make):
    """Where its own credential is busy, another one serves that request, and the session's place stays where it is."""
    pool = make(on(A, max_concurrency=1), B)
    assert chosen(pool, 3, "s") == "abb"
    pool.release(A)
    assert chosen(pool, 1, "s") == "a"
    assert [state.sessions for state in pool.snapshot()] == [1, 0]


def test_a_request_waits_for_one_that_is_busy(make):
    """With nobody else to ask it looks again after a moment, and nobody who rests is asked instead."""
    pool = make(on(A, max_concurrency=1), B)
    cooldown(pool, B, HOUR)
    pool._probed = -inf
    assert (chosen(pool, 2, "s"), pool.is_busy(EVERYTHING)) == ("a-", True)
    assert pool.probe(PoolRequest("s")) is None
    assert pool.delay(EVERYTHING) == pytest.approx(BUSY_SECONDS)
    pool.release(A)
    assert (pool.delay(EVERYTHING), pool.is_busy(EVERYTHING)) == (0, False)
    chosen(pool, 1)
    assert pool.delay(EVERYTHING, {"a"}) > 60, "one that was of no use is not waited for"


# Groups


def test_groups(make):
    """A credential with groups is for them alone, and who has groups uses nothing else: in each of its restrictions one."""
    pool = make(A, on(B, groups=frozenset({"red", "blue"})), on(C, groups=frozenset({"red"})))
    red, blue = frozenset({"red"}), frozenset({"blue"})
    requesters = {(): "a", (red,): "bc", (blue,): "b", (red | blue,): "bc", (red, blue): "b", (frozenset({"green"}),): ""}
    for groups, labels in requesters.items():
        requester = Requester("anna", groups)
        found = {state.credential.label for state in pool.snapshot() if may_use(state.credential.terms, requester)}
        assert found == set(labels)
        assert {asked(pool, requester) for _ in range(4)} == (set(labels) or {None})
        assert pool.has_any(requester) is bool(labels)


def test_a_restriction_names_credentials(make):
    """A restriction that names a credential by its label allows it, with or without groups, and no other."""
    pool = make(A, on(B, groups=frozenset({"red"})), on(C, groups=frozenset({"b"})))
    for labels in ("a", "b", "ab"):
        requester = Requester("anna", (frozenset(map(named, labels)),))
        assert {asked(pool, requester) for _ in range(4)} == {*labels}
        assert pool.has_any(requester)
    assert asked(pool, Requester("anna", (frozenset({named("a")}), frozenset({"red"})))) is None


def test_a_session_leaves_a_group_that_it_is_not_in(make):
    """A session that was bound before its user got groups moves."""
    pool = make(A, on(B, groups=frozenset({"red"})))
    assert asked(pool, ANONYMOUS, "s") == "a"
    assert asked(pool, Requester("anna", (frozenset({"red"}),)), "s") == "b"


def test_a_group_that_rests_is_not_helped_out(make):
    """When a group's credentials rest, nobody else serves it, and it is told of its own."""
    pool = make(A, on(B, groups=frozenset({"red"})))
    red = Requester("anna", (frozenset({"red"}),))
    cooldown(pool, B, HOUR)
    assert (asked(pool, red), pool.back_at(EVERYTHING, red)) == (None, START + HOUR)
    assert (pool.delay(EVERYTHING, (), red), pool.cooling_down(EVERYTHING, red)) == (pytest.approx(HOUR), {"a", "b"})
    assert not pool.all_rejected(EVERYTHING, red)
    assert pool.retry_after(EVERYTHING, red) >= HOUR


# Slow start


def moved(pool, count, name="s"):
    return Counter(pool.choose(PoolRequest(f"{name}{number}")).label for number in range(count))


def herd(make, clock, *others):
    """Return a pool of which A has thirty sessions and rests."""
    pool = make(A, *others)
    for each in others:
        cooldown(pool, each, 1)
    sessions(pool, 30)
    clock.now += 1
    cooldown(pool, A, HOUR)
    return pool


def test_a_herd_fills_a_fresh_credential_slowly(make, clock):
    """Of sessions that have to move the fresh one takes two at first; the others go to those that have less room."""
    pool = herd(make, clock, B, C)
    fill(pool, C, 0.95)
    assert moved(pool, FIRST_MOVED + 1) == {"b": FIRST_MOVED, "c": 1}
    clock.now += RAMP_SECONDS
    assert pool.choose(PoolRequest("s29")).label == "b"


def test_new_sessions_are_not_held_back(make, clock):
    """A session that begins reads no cache anew: it goes where the most room is."""
    pool = herd(make, clock, B, C)
    fill(pool, C, 0.95)
    moved(pool, 8)
    fill(pool, B, 0.0)
    assert pool.choose(PoolRequest("new")).label == "b"


def test_nobody_is_refused_for_a_slow_start(make, clock):
    """Where there is nobody else within what a plan pays for, the fresh one takes them all."""
    pool = herd(make, clock, B, K)
    assert moved(pool, 30) == {"b": 30}


def test_a_ramp_doubles_until_it_is_over():
    """It takes two, and as many again in each step as before, then any number; after a minute without any it begins anew."""
    ramp, taken, now = Ramp(), [], START
    while now <= START + RAMP_SECONDS:
        count = 0
        while not ramp.is_full(now) and count < 1000:
            ramp.take(now)
            count += 1
        taken.append(ramp.taken)
        now += RAMP_STEP_SECONDS
    assert taken == [2, 4, 8, 16, 32, 64, 1064]
    assert not ramp.is_full(now)
    ramp.take(now + RAMP_SECONDS)
    assert ramp.taken == 1


# The order


def week(pool, each, used, days):
    fill(pool, each, used, seconds=days * DAY, window="7d")


def test_what_would_be_lost_soonest_is_used_first(make):
    """Under ``reset-first`` a new session goes where the most of a week is left for the time until it opens anew."""
    pool = make(A, B, C, order=Order.RESET_FIRST)
    week(pool, A, 0.2, 6)
    week(pool, B, 0.5, 1)
    week(pool, C, 0.9, 5)
    assert walk(pool) == "bac"
    assert new_pool(A, B, clock=pool._clock).choose(PoolRequest()) is not None


def test_sessions_are_spread_by_what_would_be_lost(make):
    """A session counts: one credential does not get all of them, and one that is ahead of an even use gets the fewest."""
    pool = make(A, B, C, order=Order.RESET_FIRST)
    week(pool, A, 0.2, 6)
    week(pool, B, 0.5, 1)
    week(pool, C, 0.9, 5)
    found = sessions(pool, 12)
    assert found["b"] > found["a"] > found["c"]


def test_a_five_hour_window_that_is_nearly_full_is_passed_over(make):
    """What would be lost of a week cannot be saved through a five-hour window without room."""
    pool = make(A, B, order=Order.RESET_FIRST)
    week(pool, A, 0.5, 1)
    week(pool, B, 0.5, 5)
    fill(pool, A, 0.95)
    assert chosen(pool, 3) == "bbb"


def test_time_changes_the_order(make, clock):
    """The place of a credential is worked out anew while its week goes by, without an answer that tells."""
    pool = make(A, B, order=Order.RESET_FIRST)
    week(pool, A, 0.6, 2)
    week(pool, B, 0.0, 4)
    assert chosen(pool, 1) == "b"
    clock.now += 1.9 * DAY
    assert chosen(pool, 1) == "a"


def test_who_is_not_known_counts_as_fresh():
    """Without windows a credential stands where one with an even use stands."""
    even = [Filled("7d", 0.5, 3.5 * DAY), Filled("5h", 0.0, HOUR)]
    assert WindowSummary.of([]).urgency == WindowSummary.of(even).urgency == 1
    assert [length(name) for name in ("5h", "7d", "7d_opus", "soon")] == [5 * HOUR, 7 * DAY, 7 * DAY, 0]


# Extra usage


@pytest.mark.parametrize(("terms", "expected"), [({}, "ba"), ({"extra_usage": "never"}, "b")])
def test_extra_usage_of_one_credential(make, terms, expected):
    """A credential's own word on extra usage goes before the pool's."""
    pool = make(on(A, **terms), B)
    tell(pool, A, **{"status": "allowed", "overage__in__use": "true", "5h__status": "rejected", "5h__reset": START + HOUR})
    assert walk(pool) == expected
    never = make(on(A, extra_usage="last"), B, extra_usage=ExtraUsage.NEVER)
    tell(never, A, **{"status": "allowed", "overage__in__use": "true", "5h__status": "rejected", "5h__reset": START + HOUR})
    assert walk(never) == "ba"


def test_without_sessions_terms_hold_too(make):
    """Terms are about requests, whether sessions are kept on credentials or not."""
    pool = make(A, on(B, priority=1, max_concurrency=1), affinity=Affinity.NONE)
    assert chosen(pool, 3, "s") == "baa"


def test_terms_that_are_edited_apply(make):
    """Other terms of the same credential count from the next request on, and what is known of it stays."""
    pool = make(A, B)
    fill(pool, B, 0.5)
    assert chosen(pool, 1) == "a"
    pool.replace_credentials([A, on(B, priority=1, reserve=0.5, owner="anna")])
    assert [asked(pool, who) for who in (ANNA, BEN)] == ["b", "a"]
    pool.replace_credentials([A, B])
    pool.record_response(B, DONE, NOTHING)
    pool.record_response(A, TRY_ONE_OTHER, NOTHING)
    assert chosen(pool, 1) == "b"
