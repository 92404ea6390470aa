"""credentials/pool.py: who is asked next, who rests, who is out; on a clock that the test turns."""

import hashlib
import json
import logging
import math
import random

import answers
import pytest
from answers import DAY, HOUR, LIMIT
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_proxy.credentials import pool as pool_module
from claude_proxy.credentials.credential import Credential, Kind
from claude_proxy.credentials.pool import MAX_SESSIONS, SESSION_IDLE, SESSION_TOLD, SUSPICION_SECONDS, Affinity, Pool, Wanted
from claude_proxy.credentials.response_rules import Action, UpstreamResponse, Verdict, judge
from claude_proxy.secret import Secret
from claude_proxy.state.rows import Row

START = 1_800_000_000.0
QUARANTINE = 900.0
COOLDOWN = 60.0
SALT = "made-up-salt"


class Clock:
    now = START

    def __call__(self):
        return self.now


def credential(label, kind=Kind.OAUTH):
    return Credential(label, kind, Secret(f"sk-ant-made-up-{label * 20}"))


A, B, C = credential("a"), credential("b"), credential("c")
K, L = credential("k", Kind.API_KEY), credential("l", Kind.API_KEY)
BY_LABEL = {each.label: each for each in (A, B, C, K, L)}
OUT = Verdict(Action.NEXT, "refused", out=True)
DONE = Verdict(Action.DONE, "answered")
TRY_ONE_OTHER = Verdict(Action.TRY_ONE_OTHER, "a 429 that names no limit")
NOTHING = UpstreamResponse(200, {})


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def make(clock):
    def make(*credentials, affinity=Affinity.SESSION, **options):
        return Pool(credentials, affinity=affinity, quarantine=QUARANTINE, cooldown=COOLDOWN, clock=clock, **options)

    return make


def rest(pool, each, seconds, family="", reason="limit reached"):
    """Let a credential rest, for all models or for a family."""
    until = pool._clock() + seconds
    verdict = Verdict(Action.NEXT, reason, None, family, until) if family else Verdict(Action.NEXT, reason, until)
    pool.note(each, verdict, NOTHING)


def tell(pool, each, status=200, family="", organisation=None, **unified):
    """Give the pool an answer with these limit headers, with the verdict that it gets."""
    headers = answers.given(429, LIMIT, **unified).headers
    headers |= {"anthropic-organization-id": organisation} if organisation else {}
    answer = UpstreamResponse(status, headers, b"", family, pool._clock())
    pool.note(each, judge(answer, COOLDOWN), answer)


def fill(pool, each, utilization, seconds=HOUR, window="5h", family=""):
    """Let the pool learn how full a window is."""
    reset = pool._clock() + seconds
    tell(pool, each, family=family, **{f"{window}__utilization": utilization, f"{window}__reset": reset})


def chosen(pool, times, session=None, family=""):
    found = (pool.choose(Wanted(session, family)) for _ in range(times))
    return "".join(each.label if each else "-" for each in found)


def walk(pool, session=None, family=""):
    """Return the labels that one request meets when every credential fails it."""
    tried = []
    while (found := pool.choose(Wanted(session, family), tried)) is not None:
        tried.append(found.label)
    return "".join(tried)


# Rule 1: who rests is not asked


def test_who_rests_is_passed_over(make, clock):
    """A credential that rests is not asked, and is back at the very second that it was told."""
    pool = make(A, B, C)
    rest(pool, B, 60)
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
        rest(pool, each, seconds)
    assert (chosen(pool, 2), chosen(pool, 2, "s")) == ("--", "--")
    clock.now += 100
    assert (chosen(pool, 2), chosen(pool, 1, "s")) == ("kk", "k")


def test_who_is_out_stays_out_for_the_quarantine(make, clock):
    """A refused credential is not asked for the operator's quarantine."""
    pool = make(A, B)
    pool.note(A, OUT, NOTHING)
    clock.now += QUARANTINE - 1
    assert chosen(pool, 3) == "bbb"
    clock.now += 1
    assert "a" in chosen(pool, 2)


def test_a_family_rests_alone(make, clock):
    """A rest for one family of models leaves the credential to all the others."""
    pool = make(A, B)
    rest(pool, A, HOUR, "opus")
    assert chosen(pool, 3, family="opus") == "bbb"
    assert set(chosen(pool, 4, family="sonnet")) == set("ab")
    assert set(chosen(pool, 4)) == set("ab")
    clock.now += HOUR
    assert set(chosen(pool, 4, family="opus")) == set("ab")


def test_rests_of_several_families(make):
    """Each family has a rest of its own, and a rest for all models is one for each family."""
    pool = make(A)
    rest(pool, A, 100, "opus")
    rest(pool, A, 200, "fable")
    assert [pool.back_at(family) - START for family in ("opus", "fable", "sonnet", "")] == [100, 200, -START, -START]
    rest(pool, A, 150)
    assert [pool.back_at(family) - START for family in ("opus", "fable", "sonnet", "")] == [150, 200, 150, 150]


def test_a_limit_of_all_models_beside_one_of_a_family(make, clock):
    """When the 5-hour window and a family's week are both full, other families are back after the five hours."""
    pool = make(A)
    full = {"5h__status": "rejected", "5h__reset": START + HOUR, "7d_opus__status": "rejected"}
    tell(pool, A, 429, "opus", **full, **{"7d_opus__reset": START + 5 * DAY})
    assert (pool.back_at("sonnet"), pool.back_at("opus")) == (START + HOUR, START + 5 * DAY)
    clock.now += HOUR
    assert (chosen(pool, 1, family="sonnet"), chosen(pool, 1, family="opus")) == ("a", "-")


def test_a_session_moves_for_the_family_that_rests(make):
    """A session whose credential rests for the family it asks for moves as a whole: its cache is built anew anyway."""
    pool = make(A, B)
    assert chosen(pool, 1, "s", "opus") == "a"
    rest(pool, A, HOUR, "opus")
    assert chosen(pool, 1, "s", "haiku") == "a"
    assert chosen(pool, 1, "s", "opus") == "b"
    assert chosen(pool, 1, "s", "haiku") == "b"


@pytest.mark.parametrize("family", ["", "opus"], ids=["all", "family"])
def test_a_longer_rest_wins(make, family):
    """A rest is never shortened by a later answer to an earlier request."""
    pool = make(A)

    def known():
        return pool.back_at(family) - START, pool.state("a").rests[family].reason

    rest(pool, A, 3600, family, "weekly")
    rest(pool, A, 5, family, "slow down")
    assert known() == (3600, "weekly")
    rest(pool, A, 7200, family, "longer")
    assert known() == (7200, "longer")


def test_a_quarantine_does_not_shorten_a_rest(make):
    """A credential that was refused while it rests for longer stays away for the rest."""
    pool = make(A)
    rest(pool, A, QUARANTINE + 1)
    pool.note(A, OUT, NOTHING)
    assert pool.back_at("") == START + QUARANTINE + 1


@pytest.mark.parametrize(
    "verdict",
    [DONE, Verdict(Action.CLIENT, "about the request"), Verdict(Action.ROUTER, "overloaded"),
     Verdict(Action.NEXT, "another 403"), Verdict(Action.REPAIR, "thinking"), Verdict(Action.CLIENT, "our fault", ours=True)],
    ids=lambda verdict: verdict.reason,
)  # fmt: skip
def test_what_is_not_about_the_credential_changes_nothing(make, verdict):
    """An answer that is not about the credential leaves it as it was: no rest, and no other place in the order."""
    pool = make(A, B)
    fill(pool, A, 0.1)
    fill(pool, B, 0.5)
    pool.note(A, verdict, UpstreamResponse(429, {}))
    assert (pool.state("a").rests, pool.back_at("")) == ({}, 0)
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
    rest(pool, A, 60)
    assert chosen(pool, 3) == "klk"
    clock.now += 60
    assert chosen(pool, 2) == "aa"


def test_api_keys_for_the_family_that_no_token_serves(make):
    """A family for which every OAuth token rests is served by an API key, the others are not."""
    pool = make(A, K)
    rest(pool, A, 60, "opus")
    assert (chosen(pool, 2, family="opus"), chosen(pool, 2, family="sonnet")) == ("kk", "aa")


def test_a_session_leaves_an_api_key(make, clock):
    """A session that had to take an API key goes back to an OAuth token as soon as one is usable: API keys cost money."""
    pool = make(A, K)
    rest(pool, A, 60)
    assert chosen(pool, 2, "s") == "kk"
    clock.now += 60
    assert chosen(pool, 2, "s") == "aa"


# Rule 3: sessions stay


def test_a_session_stays(make):
    """A session keeps the credential of its first request, whatever others do in between."""
    pool = make(A, B, C)
    assert chosen(pool, 3, "s") == "aaa"
    assert chosen(pool, 2, "t") == "bb"
    assert chosen(pool, 2) == "cc", "nobody else lives on c"
    assert chosen(pool, 2, "s") == "aa"


def test_a_session_stays_on_a_credential_that_fills_up(make):
    """Headroom and the soft limit are for new sessions: a session moves only when its credential rests."""
    pool = make(A, B)
    assert chosen(pool, 1, "s") == "a"
    fill(pool, A, 0.999)
    assert chosen(pool, 3, "s") == "aaa"


def test_a_session_moves_when_it_must_and_stays_there(make, clock):
    """A session whose credential rests moves on, and does not move back: its cache is with the new one."""
    pool = make(A, B)
    assert chosen(pool, 1, "s") == "a"
    rest(pool, A, 60)
    assert walk(pool, "s") == "b"
    clock.now += 60
    assert chosen(pool, 3, "s") == "bbb"


def test_a_session_moves_within_a_request(make):
    """A request that failed on its session's credential goes on with another one, and the session stays there."""
    pool = make(A, B, C)
    assert chosen(pool, 1, "s") == "a"
    assert pool.choose(Wanted("s"), {"a"}) == B
    assert chosen(pool, 2, "s") == "bb"


def test_without_affinity(make):
    """With affinity ``none`` a session is like any other request."""
    assert chosen(make(A, B, affinity=Affinity.NONE), 4, "s") == "abab"


@pytest.mark.parametrize("session", [None, ""], ids=["none", "empty"])
def test_no_session_is_not_a_session(make, session):
    """Requests that name no session do not share one."""
    pool = make(A, B)
    assert chosen(pool, 4, session) == "abab"
    assert not pool._sessions


def test_a_session_that_was_idle_is_a_new_one(make, clock):
    """After six hours without a request nothing is left of a session's cache, so it takes what is best now."""
    pool = make(A, B)
    assert (chosen(pool, 1, "s"), chosen(pool, 1, "t")) == ("a", "b")
    fill(pool, A, 0.5, DAY, "7d")
    clock.now += SESSION_IDLE
    assert chosen(pool, 1, "s") == "a"
    clock.now += SESSION_IDLE + 1
    assert chosen(pool, 2, "s") == "bb"


def test_silent_sessions_are_forgotten(make, monkeypatch):
    """No more sessions are remembered than the limit, and the one that was silent for longest goes first."""
    monkeypatch.setattr(pool_module, "MAX_SESSIONS", 2)
    pool = make(A, B, C)
    assert [chosen(pool, 1, session) for session in ("s", "t", "s", "u")] == ["a", "b", "a", "c"]
    assert len(pool._sessions) == 2
    assert (chosen(pool, 1, "s"), chosen(pool, 1, "u")) == ("a", "c")
    assert chosen(pool, 1, "t") == "b", "a new session again, so where nobody lives"


def test_nothing_grows_without_a_bound(make):
    """However many sessions there are, what is remembered of them and what is waiting to be told stays bounded."""
    pool = make(A, B)
    for number in range(MAX_SESSIONS + 500):
        pool.choose(Wanted(f"s:{number}"))
    assert len(pool._sessions) == MAX_SESSIONS
    assert len(pool.changed()) <= MAX_SESSIONS + 1
    assert len(pool.everything()) <= MAX_SESSIONS + 1


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
    assert pool.choose(Wanted()) == A
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
    pool.note(B, TRY_ONE_OTHER, NOTHING)
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
    assert pool.choose(Wanted()) == A
    rest(pool, A, 60)
    assert pool.choose(Wanted(), {"a"}) == B
    pool.note(B, OUT, NOTHING)
    assert pool.choose(Wanted(), {"a", "b"}) == C
    assert chosen(pool, 2) == "cc"


def test_a_windowless_429_makes_shy(make, clock):
    """After a 429 without a reason the credential does not rest, but requests start elsewhere for the cooldown."""
    pool = make(A, B)
    fill(pool, B, 0.8)
    pool.note(A, TRY_ONE_OTHER, UpstreamResponse(429, {}))
    assert (pool.state("a").rests, pool.back_at("")) == ({}, 0)
    assert chosen(pool, 3) == "bbb"
    clock.now += COOLDOWN
    assert chosen(pool, 2) == "aa"


def test_a_shy_credential_serves_its_sessions_and_when_it_is_the_last(make):
    """Shyness is no rest: a session stays, and a pool of which the others rest goes on."""
    pool = make(A, B)
    assert chosen(pool, 1, "s") == "a"
    pool.note(A, TRY_ONE_OTHER, NOTHING)
    assert chosen(pool, 2, "s") == "aa"
    rest(pool, B, 60)
    assert chosen(pool, 2) == "aa"


def test_when_all_are_shy(make):
    """When every credential is shy the order is the usual one."""
    pool = make(A, B)
    for each in (A, B):
        pool.note(each, TRY_ONE_OTHER, NOTHING)
    assert chosen(pool, 4) == "abab"


# Unconfirmed refusals


UNCONFIRMED = OUT._replace(unconfirmed="the sentence")


def test_an_unconfirmed_refusal_puts_nobody_out(make, clock):
    """A refusal that the request may have caused rests nobody; the credential is taken last until the suspicion is over."""
    pool = make(A, B)
    pool.note(A, UNCONFIRMED, UpstreamResponse(400, {}))
    assert pool.suspect(A, "the sentence", "anna") is False
    assert (pool.state("a").rests, pool.resting("")) == ({}, frozenset())
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
    pool.note(A, DONE, NOTHING)
    assert pool.suspect(A, "x", "ben") is False
    pool.note(A, DONE, NOTHING)
    assert {*chosen(pool, 2)} == {"a", "b"}


def test_put_out(make, clock):
    """A credential that is put out is not asked for the quarantine, and the other processes learn of it."""
    pool = make(A, B)
    pool.changed()
    pool.put_out(A, "the account was refused")
    assert chosen(pool, 2) == "bb"
    assert [row.stamp for row in pool.changed() if ":rest:" in row.key] == [START + QUARANTINE]
    clock.now += QUARANTINE
    assert "a" in chosen(pool, 2)


# Rule 6: once a request


def test_one_request_asks_each_credential_once(make):
    """A credential that this request has tried is never taken again, and when all were tried there is none."""
    pool = make(A, B, C)
    assert walk(pool) == "abc"
    assert pool.choose(Wanted(), {"a", "b", "c"}) is None
    assert chosen(pool, 1, "s") == "a"
    assert walk(pool, "s") in ("abc", "acb")


def test_an_empty_pool(make):
    """An empty pool has nobody to ask, and is back at no time."""
    pool = make()
    assert (chosen(pool, 1), chosen(pool, 1, "s")) == ("-", "-")
    assert (len(pool), pool.back_at(""), pool.resting(""), pool.claim("")) == (0, 0, frozenset(), "five_hour")


# One organisation, one quota


def test_credentials_of_one_organisation_rest_together(make):
    """Two OAuth tokens of one organisation share its quota: when one is limited, both rest. An API key has its own."""
    pool = make(A, B, C, K)
    for each, organisation in ((A, "o1"), (B, "o1"), (C, "o2"), (K, "o1")):
        tell(pool, each, organisation=organisation)
    rest(pool, A, 60)
    assert chosen(pool, 2) == "cc"
    assert pool.resting("") == {"a", "b"}
    assert walk(pool) == "ck"


def test_api_keys_of_one_organisation_rest_together(make):
    """API keys of one organisation share a quota among themselves."""
    pool = make(K, L, A)
    for each in (K, L, A):
        tell(pool, each, organisation="o1")
    rest(pool, L, 60)
    assert pool.resting("") == {"k", "l"}


def test_a_familys_rest_is_shared_too(make):
    """A limit of one family is the organisation's as well."""
    pool = make(A, B)
    for each in (A, B):
        tell(pool, each, organisation="o1")
    rest(pool, A, 60, "opus")
    assert (chosen(pool, 1, family="opus"), pool.resting("sonnet")) == ("-", frozenset())


def test_the_organisation_of_the_very_answer_counts(make):
    """An answer that both names the organisation and rejects rests the others at once."""
    pool = make(A, B)
    tell(pool, B, organisation="o1")
    tell(pool, A, 429, organisation="o1", **{"5h__status": "rejected", "5h__reset": START + HOUR})
    assert pool.resting("") == {"a", "b"}


def test_a_refusal_is_not_shared(make):
    """A token that was revoked says nothing about another one of its organisation."""
    pool = make(A, B)
    for each in (A, B):
        tell(pool, each, organisation="o1")
    pool.note(A, OUT, NOTHING)
    assert pool.resting("") == {"a"}


def test_sharing_is_said_once(make, caplog):
    """The operator reads once which credentials share a quota, and again only when it is another set of them."""
    pool = make(A, B, C, K)
    with caplog.at_level(logging.WARNING, "claude_proxy.credentials.pool"):
        for _ in range(3):
            tell(pool, A, organisation="o1")
            tell(pool, B, organisation="o1")
            tell(pool, K, organisation="o1")
    (line,) = caplog.messages
    assert line == "credentials a, b are of one organisation and share one quota"
    with caplog.at_level(logging.WARNING, "claude_proxy.credentials.pool"):
        tell(pool, C, organisation="o1")
    assert caplog.messages[1:] == ["credentials a, b, c are of one organisation and share one quota"]
    assert "made-up" not in caplog.text


# When nobody is usable


def test_back_at_is_the_soonest(make):
    """The pool is back for a family when its first credential is."""
    pool = make(A, B)
    assert pool.back_at("") == 0
    rest(pool, A, 60)
    assert pool.back_at("") == 0
    rest(pool, B, 30)
    rest(pool, B, 90, "opus")
    assert (pool.back_at(""), pool.back_at("sonnet"), pool.back_at("opus")) == (START + 30, START + 30, START + 60)


def test_retry_after_is_truthful_and_spread(make):
    """A client is never told to come back before somebody is usable, and clients are told different times."""
    pool = make(A, B)
    rest(pool, A, 60)
    rest(pool, B, 600)
    told = [pool.retry_after("") for _ in range(40)]
    assert all(60 <= seconds <= 60 + 10 for seconds in told)
    assert len(set(told)) == 20
    assert max(told.count(seconds) for seconds in told) == 2


def test_retry_after_of_a_pool_that_is_usable(make):
    """Who was refused although somebody is usable comes back in a moment, not at once."""
    assert 1 <= make(A).retry_after("") <= 11


def test_retry_after_counts_per_family(make):
    """What is told is about the family that was asked for."""
    pool = make(A)
    rest(pool, A, 600, "opus")
    assert pool.retry_after("opus") >= 600
    assert pool.retry_after("sonnet") <= 11


def test_delay_is_spread(make):
    """Several that wait for one credential come back one after the other, none before it is usable."""
    pool = make(A, B)
    rest(pool, A, 2)
    rest(pool, B, 60)
    delays = [pool.delay("") for _ in range(5)]
    assert delays == pytest.approx([2.05, 2.1, 2.15, 2.2, 2.25])
    for _ in range(5):
        pool.waited()
    assert pool.delay("") == pytest.approx(2.05)


def test_there_is_nothing_to_wait_for_when_nobody_rests(make):
    """Who is usable and was of no use to a request is of none later: only a rest's end is worth waiting for."""
    pool = make(A, B)
    assert pool.delay("", {"a", "b"}) == math.inf
    rest(pool, B, 2)
    assert pool.delay("", {"a"}) == pytest.approx(2.1)


def test_who_came_back_meanwhile_is_not_waited_for(make):
    """A credential that was not tried and is usable can be asked at once, however many wait for others."""
    pool = make(A, B)
    rest(pool, A, 60)
    assert [pool.delay("", {"a"}) for _ in range(3)] == [0, 0, 0]
    assert pool.delay("", {"a", "b"}) == pytest.approx(60.2)


@pytest.mark.parametrize(
    ("seconds", "family", "claim"),
    [(HOUR, "", "five_hour"), (6 * HOUR, "", "five_hour"), (6 * HOUR + 1, "", "seven_day"), (2 * DAY, "opus", "seven_day")],
)
def test_claim(make, seconds, family, claim):
    """The claim is in Anthropic's words: a rest of hours is the session's limit, a longer one the week's."""
    pool = make(A, B)
    rest(pool, A, seconds, family)
    rest(pool, B, 7 * DAY, family)
    assert pool.claim(family or "sonnet") == claim


@pytest.mark.parametrize(
    ("notes", "is_out"),
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
def test_is_out(make, notes, is_out):
    """Refusals, and no limit, are what keeps a pool from serving a family when nobody in it rests for a limit."""
    pool = make(A, B)
    for each, what in notes:
        if what == "out":
            pool.note(each, OUT, NOTHING)
        else:
            rest(pool, each, 60, "" if what == "rest" else what)
    assert pool.is_out("opus") is is_out


def test_a_refusal_that_is_over_does_not_count(make, clock):
    """What kept a credential away once is not what keeps it away now."""
    pool = make(A, B)
    rest(pool, A, 60)
    clock.now += 61
    pool.note(A, OUT, NOTHING)
    pool.note(B, OUT, NOTHING)
    assert pool.is_out("")


# What other processes know


@pytest.fixture
def shared(make):
    """Return pools with one salt, as those of one store have it."""

    def shared(*credentials, **options):
        pool = make(*credentials, **options)
        pool.set_salt(SALT)
        return pool

    return shared


def known(pool):
    """What two pools of one store should agree on."""
    states = {
        label: (
            {family: (rest.until, rest.reason, rest.out) for family, rest in state.rests.items()},
            {place: (window.utilization, window.reset, window.seen) for place, window in state.windows.items()},
            (state.back_at, state.family_back_at, state.load, state.family_load),
        )
        for label, state in pool._states.items()
    }
    return states, {session: (binding.label, binding.used) for session, binding in pool._sessions.items()}


def busy(pool):
    """Let a pool know something of every kind."""
    rest(pool, A, 60)
    rest(pool, B, 600, "opus")
    pool.note(K, OUT, NOTHING)
    fill(pool, B, 0.4)
    fill(pool, B, 0.6, window="7d_opus", family="opus")
    chosen(pool, 1, "s")
    chosen(pool, 2)
    return pool


def test_everything_reaches_another_pool(shared):
    """A pool that takes in all rows of another one knows the same and chooses the same."""
    first, second = busy(shared(A, B, K)), shared(A, B, K)
    second.merge(first.everything())
    assert known(second) == known(first)
    assert second._cursor == first._cursor
    assert (chosen(second, 1, "s"), walk(second), chosen(second, 1, family="opus")) == ("b", "b", "-")


def test_changes_reach_another_pool(shared):
    """What changed is told once, and is all that there is to tell."""
    first, second = busy(shared(A, B, K)), shared(A, B, K)
    second.merge(first.changed())
    assert known(second) == known(first)
    assert first.changed() == []
    assert second.changed() == [], "what came from another pool is no change of this one's"


def test_a_rest_is_told_at_once(make):
    """A rest calls for an exchange of rows right away; an ordinary answer and a shy credential do not."""
    calls = []
    pool = make(A, on_rest=lambda: calls.append(1))
    fill(pool, A, 0.5)
    pool.note(A, TRY_ONE_OTHER, NOTHING)
    assert calls == []
    rest(pool, A, 60)
    pool.note(A, OUT, NOTHING)
    assert len(calls) == 2


def test_a_sessions_use_is_told_now_and_then(shared, clock):
    """A session in use is told again after a while, so that it is not idle to the others, but not at each request."""
    pool = shared(A)

    def told():
        chosen(pool, 1, "s")
        return [row.stamp for row in pool.changed() if row.key == "session:s"]

    assert told() == [START]
    clock.now += SESSION_TOLD - 1
    assert told() == []
    clock.now += 1
    assert told() == [START + SESSION_TOLD]


def test_the_later_use_of_a_session_wins(shared, clock):
    """A session that two processes serve ends up on the credential of its latest use, in both of them."""
    first, second = shared(A, B), shared(B, A)
    assert (chosen(first, 1, "s"), chosen(second, 1, "s")) == ("a", "b")
    clock.now += 10
    chosen(second, 1, "s")
    first.merge(second.everything())
    second.merge(first.everything())
    assert (chosen(first, 1, "s"), chosen(second, 1, "s")) == ("b", "b")


def test_a_session_that_is_idle_elsewhere_is_not_taken_over(shared, clock):
    """A session's row that is older than six hours binds nothing."""
    first, second = shared(A, B), shared(A, B)
    chosen(first, 1, "s")
    clock.now += SESSION_IDLE + 1
    second.merge(first.everything())
    assert known(second)[1] == {}


def test_sessions_of_others_are_bounded(shared, monkeypatch):
    """What comes from a store fills no memory either."""
    monkeypatch.setattr(pool_module, "MAX_SESSIONS", 3)
    pool = shared(A)
    pool.merge([Row(f"session:{number}", START, json.dumps(pool.state("a").key)) for number in range(10)])
    assert len(pool._sessions) == 3


def test_another_set_of_credentials(shared):
    """State of other credentials is harmless: nobody rests, nobody is full, no session is bound."""
    before = busy(shared(A, B, K))
    pool = shared(C, L)
    fresh = known(pool)
    pool.merge(before.everything())
    assert known(pool) == fresh
    assert set(chosen(pool, 4)) == {"c"}


def test_a_credential_under_another_label(shared):
    """A credential is known by its value: a new label for it changes nothing."""
    renamed = Credential("renamed", A.kind, A.secret)
    first, second = busy(shared(A, B, K)), shared(B, renamed)
    second.merge(first.everything())
    assert second.resting("") == {"renamed"}


def test_another_salt(make):
    """State under another salt is not understood, and harmless."""
    first, second = make(A, B, K), make(A, B, K)
    first.set_salt("one")
    second.set_salt("two")
    second.merge(busy(first).everything())
    assert second.resting("") == frozenset()


def test_a_salt_that_comes_late(make):
    """What was known before the salt came is told under the names of that salt, and under no other."""
    first, second = busy(make(A, B, K)), make(A, B, K)
    first.set_salt(SALT)
    second.set_salt(SALT)
    rows = first.changed()
    keys = {first.state(label).key for label in "abk"}
    assert {row.key.split(":")[1] for row in rows if row.key.startswith("credential:")} <= keys
    second.merge(rows)
    assert known(second) == known(first)


def test_a_salt_from_the_store(make):
    """The row with the salt gives the credentials their names, for the rows after it and for what is told from then on."""
    first, second = busy(make(A, B, K)), make(A, B, K)
    first.set_salt(SALT)
    second.merge([Row("salt", 0.0, json.dumps(SALT)), *first.everything()])
    assert known(second) == known(first)
    assert [second.state(label).key for label in "abk"] == [first.state(label).key for label in "abk"]


@pytest.mark.parametrize("salt", ["", SALT], ids=["no-salt", "salt"])
def test_no_secret_is_told(make, salt):
    """No row holds a credential's value, a part of it or its plain hash."""
    pool = make(A, B, K)
    pool.set_salt(salt)
    busy(pool)
    told = repr([*pool.everything(), *pool.changed()]).lower()
    assert told.count("credential:") > 5
    for each in (A, B, K):
        secret = each.secret.reveal()
        assert secret[7:27] not in told
        for algorithm in ("md5", "sha1", "sha256", "sha512"):
            assert hashlib.new(algorithm, secret.encode()).hexdigest()[:16] not in told


def test_the_pool_hides_its_secrets(make):
    """Nothing that the pool shows of a credential holds its value."""
    pool = busy(make(A, B, K))
    assert "made-up" not in f"{vars(pool)} {pool.state('a')}"


@pytest.mark.parametrize("value", ["7", "1000000", "-3", "1e9"])
def test_a_cursor_of_another_pool(shared, value):
    """A cursor that is beyond this pool's end, or none at all, leaves every credential its turn."""
    pool = shared(A, B, C)
    pool.merge([Row("cursor", START, value)])
    assert sorted(chosen(pool, 3)) == ["a", "b", "c"]


def own_key(pool):
    return pool.state("a").key


GARBAGE_VALUES = [
    "", "x", "null", "[]", "{}", "7", "-1", '"text"', "Infinity", "-Infinity", "NaN", "1e999", "9" * 5000, "[" * 100_000,
    '{"reason": 1, "out": 2}', '{"reason": null}', '{"utilization": "much", "reset": {}}', '{"utilization": NaN, "reset": 1}',
    '{"utilization": Infinity, "reset": Infinity}', '{"utilization": 1e400, "reset": -1e400}', "\udcff", "\x00",
]  # fmt: skip
GARBAGE_KEYS = [
    "", ":", "cursor", "cursor:1", "salt:x", "session", "session:", "session:s", "session:s:t", "credential", "credential:x",
    "credential:{key}", "credential:{key}:rest", "credential:{key}:rest:", "credential:{key}:rest:opus:x",
    "credential:{key}:window", "credential:{key}:window::5h", "credential:{key}:window:opus:7d_opus",
    "credential:x:rest:", "tomorrow:x", "\udcff",
]  # fmt: skip
GARBAGE_STAMPS = [0.0, -1.0, START, START + HOUR, 1e300, math.inf, -math.inf, math.nan]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(GARBAGE_KEYS) | st.text(max_size=20),
            st.sampled_from(GARBAGE_STAMPS),
            st.sampled_from(GARBAGE_VALUES) | st.text(max_size=20),
        ),
        max_size=8,
    )
)
def test_garbage_is_passed_over(rows):
    """Whatever the rows hold, nothing is raised, and the pool chooses, tells and answers as before."""
    pool = Pool([A, B], affinity=Affinity.SESSION, quarantine=QUARANTINE, clock=lambda: START)
    pool.merge([Row(key.replace("{key}", own_key(pool)), stamp, value) for key, stamp, value in rows])
    for family in ("", "opus"):
        assert pool.choose(Wanted("s", family), {"a"}) == B
        assert math.isfinite(pool.back_at(family))
        assert math.isfinite(pool.retry_after(family))
        assert pool.claim(family) in ("five_hour", "seven_day")
        pool.is_out(family)
    assert all(json.loads(row.value) is not None and math.isfinite(row.stamp) for row in pool.everything())


@pytest.mark.parametrize("row", [Row(None, START, "1"), Row("cursor", None, "1"), Row("cursor", START, None)], ids=repr)
def test_what_is_no_row_is_passed_over(make, row):
    """Not even a row of the wrong type is an error."""
    pool = make(A)
    pool.merge([row])
    assert chosen(pool, 1) == "a"


def test_the_rows_after_garbage_count(shared):
    """One row that is not understood costs no other."""
    first, second = busy(shared(A, B, K)), shared(A, B, K)
    second.merge([Row("cursor", START, "Infinity"), Row("session:s", START, "[[]]"), *first.everything()])
    assert known(second) == known(first)


def facts():
    """Rows as several processes tell them of two credentials: a key and a stamp stand for one fact, told by anybody."""
    pool = Pool([A, B], affinity=Affinity.SESSION, quarantine=QUARANTINE, clock=lambda: START)
    keys = [pool.state(label).key for label in "ab"]
    of_rest = st.builds(
        lambda key, family, until: Row(
            f"credential:{key}:rest:{family}", until, json.dumps({"reason": f"until {until}", "out": until % 2 == 0})
        ),
        st.sampled_from(keys),
        st.sampled_from(["", "opus", "sonnet"]),
        st.integers(-5, 5).map(lambda minutes: START + 60.0 * minutes),
    )
    of_window = st.builds(
        lambda key, place, seen: Row(
            f"credential:{key}:window:{place}",
            seen,
            json.dumps({"utilization": seen % 1, "reset": START + 600 * (seen % 3 - 1)}),
        ),
        st.sampled_from(keys),
        st.sampled_from([":5h", ":7d", "opus:7d_opus"]),
        st.integers(0, 40).map(lambda quarters: START - 10 + quarters / 4),
    )
    of_session = st.builds(
        lambda session, used: Row(f"session:{session}", used, json.dumps(keys[int(used) % 2])),
        st.sampled_from(["s", "t"]),
        st.integers(0, 40).map(lambda minutes: START - 7 * HOUR + 600 * minutes),
    )
    return st.lists(of_rest | of_window | of_session, max_size=30)


@settings(max_examples=200)
@given(facts(), st.randoms(use_true_random=False))
def test_rows_in_any_order_and_number(rows, shuffler):
    """Rows give one state in whatever order, in whatever parts and however often they come; the longer rest wins."""

    def merged(parts):
        pool = Pool([A, B], affinity=Affinity.SESSION, quarantine=QUARANTINE, clock=lambda: START)
        for part in parts:
            pool.merge(part)
        return pool

    expected = merged([rows])
    again = [*rows, *shuffler.sample(rows, len(rows) // 2)]
    shuffler.shuffle(again)
    cut = shuffler.randint(0, len(again))
    assert known(merged([again[:cut], again[cut:], rows[::-1]])) == known(expected)
    for label in "ab":
        key = expected.state(label).key
        untils = [row.stamp for row in rows if row.key == f"credential:{key}:rest:"]
        assert expected.state(label).back_at == max(untils, default=0.0)
    told_on = merged([expected.everything()])
    assert known(told_on) == known(expected), "what a pool tells is what it was told"


def happens(what, pool, other, each, dice):
    """One of the things that happen to a pool; the last one is that another pool takes in what has changed."""
    match what:
        case 0:
            rest(pool, each, dice.randint(1, 30))
        case 1:
            rest(pool, each, dice.randint(1, 30), "opus")
        case 2:
            pool.note(each, OUT, NOTHING)
        case 3:
            fill(pool, each, dice.random())
        case 4:
            fill(pool, each, dice.random(), window="7d_opus", family="opus")
        case 5:
            chosen(pool, 1, f"s{dice.randint(0, 2)}", dice.choice(["opus", "sonnet"]))
        case 6:
            other.merge(pool.changed())


@settings(max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 6), st.integers(0, 2)), max_size=40), st.integers(0, 2**32))
def test_two_pools_that_exchange_rows_agree(steps, seed):
    """Two processes that serve at the same time know the same after an exchange, whatever happened in which order."""
    clock, dice = Clock(), random.Random(seed)
    pools = [
        Pool([A, B, K], affinity=Affinity.SESSION, quarantine=QUARANTINE, cooldown=COOLDOWN, clock=clock) for _ in range(2)
    ]
    for which, what, whom in steps:
        clock.now += 1 + dice.random()
        happens(what, pools[which], pools[1 - which], (A, B, K)[whom], dice)
    for _ in range(2):
        pools[0].merge(pools[1].everything())
        pools[1].merge(pools[0].everything())
    clock.now += 0.5
    for pool in pools:
        for state in pool._states.values():
            state.derive(clock.now)
    assert known(pools[0]) == known(pools[1])
    assert [chosen(pools[0], 1, f"s{n}") for n in range(3)] == [chosen(pools[1], 1, f"s{n}") for n in range(3)]


# --- what is shown ---------------------------------------------------------------------------------------------------------


def shown_pool(clock, *credentials):
    return Pool(credentials, affinity=Affinity.SESSION, quarantine=QUARANTINE, clock=clock)


def test_a_snapshot_holds_what_lasts(clock):
    """A snapshot has the rests that last and the windows that are open, and does not change with the pool."""
    pool = shown_pool(clock, A, B)
    pool.choose(Wanted("s"))
    pool.note(A, OUT, NOTHING)
    pool.state("a").windows["", "5h"] = pool_module.Window(0.5, START + HOUR, START)
    before, other = pool.snapshot()
    assert (before.credential, before.sessions, [*before.rests], [*before.windows]) == (A, 1, [""], [("", "5h")])
    assert (other.rests, other.windows, other.sessions) == ({}, {}, 0)
    clock.now += 2 * HOUR
    after, _ = pool.snapshot()
    assert (after.rests, after.windows, after.sessions) == ({}, {}, 0)
    assert [*before.rests] == [""]


def test_the_first_day_of_a_credential_is_the_first_that_anybody_knows(clock):
    """The first process that sees a credential writes the day down; a later one takes it over and writes none."""
    first = shown_pool(clock, A)
    assert first.snapshot()[0].since is None
    first.note_seen()
    (row,) = first.changed()
    assert row.stamp == 0
    clock.now += DAY
    second = shown_pool(clock, A, B)
    second.merge([row])
    second.note_seen()
    assert [one.since for one in second.snapshot()] == [START, START + DAY]
    assert len(second.changed()) == 1
    third = shown_pool(clock, A)
    third.note_seen()
    third.merge([row])
    assert third.snapshot()[0].since == START
    assert row in third.everything()
