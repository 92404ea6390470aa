"""credentials/pool.py: who is asked next, who rests, who is out; on a clock that the test turns."""

import json
import logging
import math

import pytest
from answers import DAY, HOUR
from pools import (
    COOLDOWN,
    DONE,
    NOTHING,
    QUARANTINE,
    REJECTED,
    START,
    TRY_ONE_OTHER,
    A,
    B,
    C,
    K,
    L,
    chosen,
    cooldown,
    fill,
    tell,
    walk,
)

from claude_proxy.credentials.credential import Kind
from claude_proxy.credentials.learning_pool import SUSPICION_SECONDS
from claude_proxy.credentials.order import Requester
from claude_proxy.credentials.pool import PoolRequest
from claude_proxy.credentials.rate_limits import Window
from claude_proxy.credentials.response_rules import Action, Verdict
from claude_proxy.credentials.scope import EVERYTHING, Scope
from claude_proxy.credentials.upstream_response import UpstreamResponse

# Rule 1: who rests is not asked


def test_who_rests_is_passed_over(make, clock):
    """A credential that rests is not asked, and is back at the very second that it was told."""
    pool = make(A, B, C)
    cooldown(pool, B, 60)
    assert chosen(pool, 4) == "acac"
    clock.now += 59.9
    assert "b" not in chosen(pool, 4)
    clock.now += 0.1
    assert "b" in chosen(pool, 3)


def test_when_all_rest_nobody_is_asked(make, clock):
    """A pool of which every credential rests has nobody for any request, session or not, until the first one is back."""
    pool = make(A, B, K)
    assert chosen(pool, 1, "s") == "a"
    for each, seconds in ((A, 300), (B, 200), (K, 100)):
        cooldown(pool, each, seconds)
    assert (chosen(pool, 2), chosen(pool, 2, "s")) == ("--", "--")
    clock.now += 100
    assert (chosen(pool, 2), chosen(pool, 1, "s")) == ("kk", "k")


def test_who_is_out_stays_out_for_the_quarantine(make, clock):
    """A refused credential is not asked for the operator's quarantine."""
    pool = make(A, B)
    pool.record_response(A, REJECTED, NOTHING)
    clock.now += QUARANTINE - 1
    assert chosen(pool, 3) == "bbb"
    clock.now += 1
    assert "a" in chosen(pool, 2)


def test_a_family_rests_alone(make, clock):
    """A rest for one family of models leaves the credential to all the others."""
    pool = make(A, B)
    cooldown(pool, A, HOUR, "opus")
    assert chosen(pool, 3, family="opus") == "bbb"
    assert set(chosen(pool, 4, family="sonnet")) == set("ab")
    assert set(chosen(pool, 4)) == set("ab")
    clock.now += HOUR
    assert set(chosen(pool, 4, family="opus")) == set("ab")


def test_rests_of_several_families(make):
    """Each family has a rest of its own, and a rest for all models is one for each family."""
    pool = make(A)
    cooldown(pool, A, 100, "opus")
    cooldown(pool, A, 200, "fable")
    assert [pool.back_at(Scope(family)) - START for family in ("opus", "fable", "sonnet", "")] == [100, 200, -START, -START]
    cooldown(pool, A, 150)
    assert [pool.back_at(Scope(family)) - START for family in ("opus", "fable", "sonnet", "")] == [150, 200, 150, 150]


def test_a_limit_of_all_models_beside_one_of_a_family(make, clock):
    """When the 5-hour window and a family's week are both full, other families are back after the five hours."""
    pool = make(A)
    full = {"5h__status": "rejected", "5h__reset": START + HOUR, "7d_opus__status": "rejected"}
    tell(pool, A, 429, "opus", **full, **{"7d_opus__reset": START + 5 * DAY})
    assert (pool.back_at(Scope("sonnet")), pool.back_at(Scope("opus"))) == (START + HOUR, START + 5 * DAY)
    clock.now += HOUR
    assert (chosen(pool, 1, family="sonnet"), chosen(pool, 1, family="opus")) == ("a", "-")


def test_a_session_moves_for_the_family_that_rests(make):
    """A session whose credential rests for the family it asks for moves as a whole: its cache is built anew anyway."""
    pool = make(A, B)
    assert chosen(pool, 1, "s", "opus") == "a"
    cooldown(pool, A, HOUR, "opus")
    assert chosen(pool, 1, "s", "haiku") == "a"
    assert chosen(pool, 1, "s", "opus") == "b"
    assert chosen(pool, 1, "s", "haiku") == "b"


@pytest.mark.parametrize("family", ["", "opus"], ids=["all", "family"])
def test_a_longer_rest_wins(make, family):
    """A rest is never shortened by a later answer to an earlier request."""
    pool = make(A)

    def known():
        return pool.back_at(Scope(family)) - START, pool.state("a").cooldowns[Scope(family)].reason

    cooldown(pool, A, 3600, family, "weekly")
    cooldown(pool, A, 5, family, "slow down")
    assert known() == (3600, "weekly")
    cooldown(pool, A, 7200, family, "longer")
    assert known() == (7200, "longer")


def test_a_quarantine_does_not_shorten_a_rest(make):
    """A credential that was refused while it rests for longer stays away for the rest."""
    pool = make(A)
    cooldown(pool, A, QUARANTINE + 1)
    pool.record_response(A, REJECTED, NOTHING)
    assert pool.back_at(EVERYTHING) == START + QUARANTINE + 1


@pytest.mark.parametrize(
    "verdict",
    [DONE, Verdict(Action.CLIENT, "about the request"), Verdict(Action.ROUTER, "overloaded"),
     Verdict(Action.NEXT, "another 403"), Verdict(Action.REPAIR, "thinking"), Verdict(Action.CLIENT, "ours", proxy_fault=True)],
    ids=lambda verdict: verdict.reason,
)  # fmt: skip
def test_what_is_not_about_the_credential_changes_nothing(make, verdict):
    """An answer that is not about the credential leaves it as it was: no rest, and no other place in the order."""
    pool = make(A, B)
    fill(pool, A, 0.1)
    fill(pool, B, 0.5)
    pool.record_response(A, verdict, UpstreamResponse(429, {}))
    assert (pool.state("a").cooldowns, pool.back_at(EVERYTHING)) == ({}, 0)
    assert chosen(pool, 3) == "aaa"


# Rule 2: API keys last


def test_oauth_tokens_before_api_keys(make):
    """API keys wait until no OAuth token is usable, in whatever order they were given and however full the tokens are."""
    pool = make(K, A, L, B)
    fill(pool, A, 0.995)
    fill(pool, B, 0.995)
    assert chosen(pool, 5) == "ababa"
    assert walk(pool) in ("bakl", "balk", "abkl", "ablk")


def test_api_keys_when_no_token_is_usable(make, clock):
    """When every OAuth token rests, API keys take turns, and when a token is back it goes first again."""
    pool = make(A, K, L)
    cooldown(pool, A, 60)
    assert chosen(pool, 3) == "klk"
    clock.now += 60
    assert chosen(pool, 2) == "aa"


def test_api_keys_for_the_family_that_no_token_serves(make):
    """A family for which every OAuth token rests is served by an API key, the others are not."""
    pool = make(A, K)
    cooldown(pool, A, 60, "opus")
    assert (chosen(pool, 2, family="opus"), chosen(pool, 2, family="sonnet")) == ("kk", "aa")


def test_a_session_leaves_an_api_key(make, clock):
    """A session that had to take an API key goes back to an OAuth token as soon as one is usable: API keys cost money."""
    pool = make(A, K)
    cooldown(pool, A, 60)
    assert chosen(pool, 2, "s") == "kk"
    clock.now += 60
    assert chosen(pool, 2, "s") == "aa"


# Rule 4: headroom


def test_a_new_session_takes_the_credential_with_the_most_headroom(make):
    """What counts is a credential's fullest window."""
    pool = make(A, B, C)
    fill(pool, A, 0.2)
    fill(pool, A, 0.9, window="7d")
    fill(pool, B, 0.7)
    fill(pool, B, 0.1, window="7d")
    fill(pool, C, 0.8)
    assert chosen(pool, 3) == "bbb"
    assert chosen(pool, 1, "s") == "b"


def test_sessions_share_the_room_that_there_is(make, clock):
    """Each session of the last hour is taken to need a tenth of a window, so that not all go where the most room is now."""
    pool = make(A, B)
    fill(pool, A, 0.5)
    fill(pool, B, 0.25)
    assert "".join(chosen(pool, 1, f"s{number}") for number in range(5)) == "bbbab"
    clock.now += 3601
    fill(pool, A, 0.5)
    fill(pool, B, 0.25)
    assert chosen(pool, 2) == "bb", "sessions that are silent need nothing"


def test_who_is_not_known_has_room(make):
    """A credential of which nothing is known yet is taken before one that is in use: its first answer tells."""
    pool = make(A, B)
    fill(pool, A, 0.02)
    assert chosen(pool, 3) == "bbb"


def test_a_window_that_has_opened_anew_is_empty(make, clock):
    """What was learned of a window holds until its reset, and a window without a reset is not learned."""
    pool = make(A, B)
    fill(pool, A, 0.9, seconds=HOUR)
    fill(pool, A, 0.4, seconds=2 * HOUR, window="7d")
    fill(pool, B, 0.5, seconds=3 * HOUR)
    tell(pool, B, **{"7d__utilization": 1.0})
    assert chosen(pool, 2) == "bb"
    clock.now += HOUR
    assert chosen(pool, 2) == "aa"
    clock.now += HOUR
    assert pool.choose(PoolRequest()) == A
    assert pool.state("a").load == 0


def test_a_later_answer_corrects_an_earlier_one(make):
    """A window is as full as the last answer says."""
    pool = make(A, B)
    fill(pool, A, 0.9)
    fill(pool, B, 0.5)
    fill(pool, A, 0.3)
    assert chosen(pool, 2) == "aa"


def test_a_familys_window_counts_for_the_family(make):
    """A window of one family is no load for another one, and the windows of all models are one for each family."""
    pool = make(A, B)
    fill(pool, A, 0.8, window="7d_opus", family="opus")
    fill(pool, A, 0.2)
    fill(pool, B, 0.5)
    assert (chosen(pool, 2, family="opus"), chosen(pool, 2, family="sonnet"), chosen(pool, 2)) == ("bb", "aa", "aa")
    fill(pool, A, 0.9)
    assert chosen(pool, 2, family="sonnet") == "bb"
    fill(pool, B, 0.95)
    assert chosen(pool, 2, family="opus") == "aa"


@pytest.mark.parametrize(
    ("loads", "expected"),
    [
        ((0.98, 0.5, 0.97), "bbb"),
        ((0.98, 0.98, 0.97), "ccc"),
        ((0.99, 0.98, 1.2), "bbb"),
        ((0.979, 0.98, 1.0), "aaa"),
    ],
    ids=["below", "one-below", "none-below", "just-below"],
)
def test_the_soft_limit(make, loads, expected):
    """A credential at or above the soft limit takes a new session only when no other one is below it."""
    pool = make(A, B, C, soft_limit=0.98)
    for each, load in zip((A, B, C), loads, strict=True):
        fill(pool, each, load)
    assert chosen(pool, 3) == expected


def test_the_soft_limit_goes_before_shyness(make):
    """Who has just refused a request for no known reason is better than who is nearly spent."""
    pool = make(A, B, soft_limit=0.9)
    fill(pool, A, 0.95)
    pool.record_response(B, TRY_ONE_OTHER, NOTHING)
    assert chosen(pool, 3) == "bbb"


def test_a_soft_limit_of_nothing(make):
    """A soft limit that every credential is above changes nothing: the pool serves."""
    pool = make(A, B, soft_limit=0)
    assert chosen(pool, 4) == "abab"


# Rule 5: round robin, and shyness


def test_round_robin(make):
    """Requests without a session take the credentials in turn."""
    assert chosen(make(A, B, C), 7) == "abcabca"


def test_new_sessions_are_spread(make):
    """Each new session takes the next credential."""
    pool = make(A, B, C)
    assert "".join(chosen(pool, 1, f"s{number}") for number in range(6)) == "abcabc"


def test_round_robin_among_those_that_are_about_as_full(make):
    """Less than a hundredth is no difference."""
    pool = make(A, B, C)
    for each, load in ((A, 0.501), (B, 0.508), (C, 0.52)):
        fill(pool, each, load)
    assert chosen(pool, 4) == "abab"


def test_the_next_request_starts_after_the_one_that_answered(make):
    """After 429 on the first and 401 on the second, the next request starts with the third."""
    pool = make(A, B, C)
    assert pool.choose(PoolRequest()) == A
    cooldown(pool, A, 60)
    assert pool.choose(PoolRequest(), {"a"}) == B
    pool.record_response(B, REJECTED, NOTHING)
    assert pool.choose(PoolRequest(), {"a", "b"}) == C
    assert chosen(pool, 2) == "cc"


def test_a_windowless_429_makes_shy(make, clock):
    """After a 429 without a reason the credential does not rest, but requests start elsewhere for the cooldown."""
    pool = make(A, B)
    fill(pool, B, 0.8)
    pool.record_response(A, TRY_ONE_OTHER, UpstreamResponse(429, {}))
    assert (pool.state("a").cooldowns, pool.back_at(EVERYTHING)) == ({}, 0)
    assert chosen(pool, 3) == "bbb"
    clock.now += COOLDOWN
    assert chosen(pool, 2) == "aa"


def test_a_shy_credential_serves_its_sessions_and_when_it_is_the_last(make):
    """Shyness is no rest: a session stays, and a pool of which the others rest goes on."""
    pool = make(A, B)
    assert chosen(pool, 1, "s") == "a"
    pool.record_response(A, TRY_ONE_OTHER, NOTHING)
    assert chosen(pool, 2, "s") == "aa"
    cooldown(pool, B, 60)
    assert chosen(pool, 2) == "aa"


def test_when_all_are_shy(make):
    """When every credential is shy the order is the usual one."""
    pool = make(A, B)
    for each in (A, B):
        pool.record_response(each, TRY_ONE_OTHER, NOTHING)
    assert chosen(pool, 4) == "abab"


# Unconfirmed refusals


UNCONFIRMED = REJECTED._replace(unconfirmed="the sentence")


def test_an_unconfirmed_refusal_puts_nobody_out(make, clock):
    """A refusal that the request may have caused rests nobody; the credential is taken last until the suspicion is over."""
    pool = make(A, B)
    pool.record_response(A, UNCONFIRMED, UpstreamResponse(400, {}))
    assert pool.suspect(A, "the sentence", "anna") is False
    assert (pool.state("a").cooldowns, pool.cooling_down(EVERYTHING)) == ({}, frozenset())
    assert chosen(pool, 3) == "bbb"
    clock.now += SUSPICION_SECONDS
    assert chosen(pool, 2) == "ab"


def test_who_confirms_a_suspicion(make, clock):
    """Another caller confirms a refusal within the time; the same caller, other words and another credential do not."""
    pool = make(A, B)
    assert [pool.suspect(A, "x", caller) for caller in ("anna", "anna", "ben", "ben")] == [False, False, True, True]
    assert [pool.suspect(A, "y", "ben"), pool.suspect(B, "x", "ben")] == [False, False]
    clock.now += SUSPICION_SECONDS
    assert [pool.suspect(A, "x", "carl"), pool.suspect(A, "x", "carl"), pool.suspect(A, "x", "anna")] == [False, False, True]


def test_an_answer_ends_a_suspicion(make):
    """A credential that answers a request is suspected no longer and is taken in its turn again."""
    pool = make(A, B)
    pool.suspect(A, "x", "anna")
    pool.record_response(A, DONE, NOTHING)
    assert pool.suspect(A, "x", "ben") is False
    pool.record_response(A, DONE, NOTHING)
    assert {*chosen(pool, 2)} == {"a", "b"}


def test_a_confirmed_refusal(make, clock):
    """A credential whose refusal is confirmed is not asked for the quarantine, and the other processes learn of it."""
    pool = make(A, B)
    pool.changed()
    pool.confirm(A, UNCONFIRMED)
    assert chosen(pool, 2) == "bb"
    assert [json.loads(row.value)["until"] for row in pool.changed() if ":limit:" in row.key] == [START + QUARANTINE]
    clock.now += QUARANTINE
    assert "a" in chosen(pool, 2)


# Rule 6: once a request


def test_one_request_asks_each_credential_once(make):
    """A credential that this request has tried is never taken again, and when all were tried there is none."""
    pool = make(A, B, C)
    assert walk(pool) == "abc"
    assert pool.choose(PoolRequest(), {"a", "b", "c"}) is None
    assert chosen(pool, 1, "s") == "a"
    assert walk(pool, "s") in ("abc", "acb")


def test_an_empty_pool(make):
    """An empty pool has nobody to ask, and is back at no time."""
    pool = make()
    assert (chosen(pool, 1), chosen(pool, 1, "s")) == ("-", "-")
    assert (len(pool), pool.back_at(EVERYTHING), pool.cooling_down(EVERYTHING), pool.claim(EVERYTHING)) == (
        0,
        0,
        frozenset(),
        "five_hour",
    )


# One organisation, perhaps one quota


WINDOWS = {"5h__reset": START + HOUR, "5h__utilization": 0.5, "7d__reset": START + 4 * DAY, "7d__utilization": 0.5}
FULL = WINDOWS | {"5h__status": "rejected"}


def test_seats_that_share_their_windows_rest_together(make):
    """Tokens of one organisation whose windows all open at the same moments have one quota: when one is full, all are."""
    pool = make(A, B, C, K)
    for each, organization in ((A, "o1"), (B, "o1"), (C, "o2"), (K, "o1")):
        tell(pool, each, organization=organization, **WINDOWS)
    tell(pool, A, 429, organization="o1", **FULL)
    assert pool.cooling_down(EVERYTHING) == {"a", "b"}
    assert walk(pool) == "ck"


@pytest.mark.parametrize(
    "theirs",
    [{"5h__reset": START + 2 * HOUR}, {"7d__reset": START + 5 * DAY}, {"30d__reset": START + 9 * DAY, "30d__utilization": 0.1}],
)
def test_seats_with_windows_of_their_own_rest_alone(make, theirs):
    """One organisation is no shared quota: a seat whose windows open at other moments has room of its own."""
    pool = make(A, B)
    tell(pool, A, organization="o1", **WINDOWS)
    tell(pool, B, organization="o1", **WINDOWS | theirs)
    tell(pool, A, 429, organization="o1", **FULL)
    assert pool.cooling_down(EVERYTHING) == {"a"}


def test_one_window_in_common_is_chance(make):
    """A window that opens at the same hour is no proof; nor is an organisation of which no window is known, or a throttle."""
    pool = make(A, B)
    five = {name: value for name, value in WINDOWS.items() if name.startswith("5h")}
    for each in (A, B):
        tell(pool, each, organization="o1", **five)
    tell(pool, A, 429, organization="o1", **five | {"5h__status": "rejected"})
    assert pool.cooling_down(EVERYTHING) == {"a"}
    other = make(A, B)
    for each in (A, B):
        tell(other, each, organization="o1", **WINDOWS)
    cooldown(other, A, 60)
    assert other.cooling_down(EVERYTHING) == {"a"}


def test_a_refusal_is_not_shared(make):
    """A token that was revoked says nothing about another one of its organisation."""
    pool = make(A, B)
    for each in (A, B):
        tell(pool, each, organization="o1", **WINDOWS)
    pool.record_response(A, REJECTED, NOTHING)
    assert pool.cooling_down(EVERYTHING) == {"a"}


def test_sharing_is_said_once(make, caplog):
    """The operator reads once which credentials share a quota, and never a secret."""
    pool = make(A, B)
    with caplog.at_level(logging.WARNING, "claude_proxy.credentials.learning_pool"):
        for _ in range(3):
            for each in (A, B):
                tell(pool, each, organization="o1", **WINDOWS)
            tell(pool, A, 429, organization="o1", **FULL)
    assert caplog.messages == ["credentials a, b belong to one organization and share their windows"]


# When nobody is usable


def test_back_at_is_the_soonest(make):
    """The pool is back for a family when its first credential is."""
    pool = make(A, B)
    assert pool.back_at(EVERYTHING) == 0
    cooldown(pool, A, 60)
    assert pool.back_at(EVERYTHING) == 0
    cooldown(pool, B, 30)
    cooldown(pool, B, 90, "opus")
    assert (pool.back_at(EVERYTHING), pool.back_at(Scope("sonnet")), pool.back_at(Scope("opus"))) == (
        START + 30,
        START + 30,
        START + 60,
    )


def test_retry_after_is_truthful_and_spread(make):
    """A client is never told to come back before somebody is usable, and clients are told different times."""
    pool = make(A, B)
    cooldown(pool, A, 60)
    cooldown(pool, B, 600)
    told = [pool.retry_after(EVERYTHING) for _ in range(40)]
    assert all(60 <= seconds <= 60 + 10 for seconds in told)
    assert len(set(told)) == 20
    assert max(told.count(seconds) for seconds in told) == 2


def test_retry_after_of_a_pool_that_is_usable(make):
    """Who was refused although somebody is usable comes back in a moment, not at once."""
    assert 1 <= make(A).retry_after(EVERYTHING) <= 11


def test_retry_after_counts_per_family(make):
    """What is told is about the family that was asked for."""
    pool = make(A)
    cooldown(pool, A, 600, "opus")
    assert pool.retry_after(Scope("opus")) >= 600
    assert pool.retry_after(Scope("sonnet")) <= 11


def test_delay(make):
    """The first credential that is back ends a wait; asking for that changes nothing."""
    pool = make(A, B)
    cooldown(pool, A, 2)
    cooldown(pool, B, 60)
    assert [pool.delay(EVERYTHING) for _ in range(5)] == pytest.approx([2] * 5)


def test_there_is_nothing_to_wait_for_when_nobody_rests(make):
    """Who is usable and was of no use to a request is of none later: only a rest's end is worth waiting for."""
    pool = make(A, B)
    assert pool.delay(EVERYTHING, {"a", "b"}) == math.inf
    cooldown(pool, B, 2)
    assert pool.delay(EVERYTHING, {"a"}) == pytest.approx(2)


def test_who_came_back_meanwhile_is_not_waited_for(make):
    """A credential that was not tried and is usable can be asked at once, however many wait for others."""
    pool = make(A, B)
    cooldown(pool, A, 60)
    assert [pool.delay(EVERYTHING, {"a"}) for _ in range(3)] == [0, 0, 0]
    assert pool.delay(EVERYTHING, {"a", "b"}) == pytest.approx(60)


@pytest.mark.parametrize(
    ("seconds", "family", "claim"),
    [(HOUR, "", "five_hour"), (6 * HOUR, "", "five_hour"), (6 * HOUR + 1, "", "seven_day"), (2 * DAY, "opus", "seven_day")],
)
def test_claim(make, seconds, family, claim):
    """The claim is in Anthropic's words: a rest of hours is the session's limit, a longer one the week's."""
    pool = make(A, B)
    cooldown(pool, A, seconds, family)
    cooldown(pool, B, 7 * DAY, family)
    assert pool.claim(Scope(family or "sonnet")) == claim


@pytest.mark.parametrize(
    ("notes", "all_rejected"),
    [
        ([(A, "out"), (B, "out")], True),
        ([(A, "out"), (B, "rest")], False),
        ([(A, "rest"), (B, "rest")], False),
        ([(A, "out"), (B, "opus")], False),
        ([(A, "out"), (B, "haiku")], True),
        ([], True),
    ],
    ids=["refused", "one-limited", "limited", "family-limited", "another-family", "no-rest"],
)
def test_all_rejected(make, notes, all_rejected):
    """Refusals, and no limit, are what keeps a pool from serving a family when nobody in it rests for a limit."""
    pool = make(A, B)
    for each, what in notes:
        if what == "out":
            pool.record_response(each, REJECTED, NOTHING)
        else:
            cooldown(pool, each, 60, "" if what == "rest" else what)
    assert pool.all_rejected(Scope("opus")) is all_rejected


def test_a_refusal_that_is_over_does_not_count(make, clock):
    """What kept a credential away once is not what keeps it away now."""
    pool = make(A, B)
    cooldown(pool, A, 60)
    clock.now += 61
    pool.record_response(A, REJECTED, NOTHING)
    pool.record_response(B, REJECTED, NOTHING)
    assert pool.all_rejected(EVERYTHING)


# --- what is shown ---------------------------------------------------------------------------------------------------------


def test_a_snapshot_holds_what_lasts(make, clock):
    """A snapshot has the rests that last and the windows that are open, and does not change with the pool."""
    pool = make(A, B)
    pool.choose(PoolRequest("s"))
    pool.record_response(A, REJECTED, NOTHING)
    pool.state("a").windows["", "5h"] = Window(0.5, START + HOUR, START)
    before, other = pool.snapshot()
    assert (before.credential, before.sessions, [*before.cooldowns], [*before.windows]) == (A, 1, [EVERYTHING], [("", "5h")])
    assert (other.cooldowns, other.windows, other.sessions) == ({}, {}, 0)
    clock.now += 2 * HOUR
    after, _ = pool.snapshot()
    assert (after.cooldowns, after.windows, after.sessions) == ({}, {}, 0)
    assert [*before.cooldowns] == [EVERYTHING]


def test_the_first_day_of_a_credential_is_the_first_that_anybody_knows(make, clock):
    """The first process that sees a credential writes the day down; a later one takes it over and writes none."""
    first = make(A)
    assert first.snapshot()[0].since is None
    first.record_first_seen()
    (row,) = first.changed()
    assert row.stamp == 0
    clock.now += DAY
    second = make(A, B)
    second.merge([row])
    second.record_first_seen()
    assert [one.since for one in second.snapshot()] == [START, START + DAY]
    assert len(second.changed()) == 1
    third = make(A)
    third.record_first_seen()
    third.merge([row])
    assert third.snapshot()[0].since == START
    assert row in third.everything()


def test_a_request_that_may_use_api_keys_only(make, clock):
    """No OAuth token is chosen, probed or waited for, whatever is free; the keys are used as for any other request."""
    pool = make(A, B, K, L)
    requester = Requester(api_keys_only=True)
    request = PoolRequest(session="s", requester=requester)
    assert {pool.choose(request).label, pool.choose(request, {"k"}).label} <= {"k", "l"}
    assert pool.choose(request, {"k", "l"}) is None
    assert pool.has_any(requester)
    for key in (K, L):
        cooldown(pool, key, 300)
    assert pool.choose(request) is None
    assert pool.delay(EVERYTHING, requester=requester) == 300
    assert pool.retry_after(EVERYTHING, requester) >= 300
    clock.now += 120
    assert pool.probe(request).kind is Kind.API_KEY
    assert not make(A, B).has_any(requester)
