"""pool.py: who is asked next, who rests, who is out; on a clock that the test turns."""

import pytest

from claude_proxy import pool as pool_module
from claude_proxy.credentials import Credential, Kind, Secret
from claude_proxy.pool import Pool
from claude_proxy.settings import Affinity
from claude_proxy.verdicts import Then, Verdict

QUARANTINE = 900.0


class Clock:
    now = 1_800_000_000.0

    def __call__(self):
        return self.now


def credential(label, kind=Kind.OAUTH):
    return Credential(label, kind, Secret(f"sk-ant-made-up-{label}"))


A, B, C = credential("a"), credential("b"), credential("c")
K, L = credential("k", Kind.API_KEY), credential("l", Kind.API_KEY)
OUT = Verdict(Then.NEXT, "refused", out=True)
DONE = Verdict(Then.DONE, "answered")


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def make(clock):
    def make(*credentials, affinity=Affinity.SESSION):
        return Pool(credentials, affinity=affinity, quarantine=QUARANTINE, clock=clock)

    return make


def resting(clock, seconds, reason="rate limit"):
    return Verdict(Then.NEXT, reason, rest_until=clock.now + seconds)


def chosen(pool, times, session=None):
    return "".join(pool.choose(session).label for _ in range(times))


def walk(pool, session=None):
    """Return the labels that one request meets when every credential fails it."""
    tried = []
    while (found := pool.choose(session, tried)) is not None:
        tried.append(found.label)
    return "".join(tried)


def test_round_robin(make):
    """Requests without a session take the credentials in turn."""
    assert chosen(make(A, B, C), 7) == "abcabca"


def test_oauth_tokens_before_api_keys(make):
    """API keys wait until no OAuth token is usable, in whatever order they were given."""
    assert chosen(make(K, A, L, B), 5) == "ababa"
    assert walk(make(K, A, L, B)) == "abkl"


def test_api_keys_when_no_token_is_usable(make, clock):
    """When every OAuth token rests, API keys take turns, and when a token is back it goes first again."""
    pool = make(A, K, L)
    pool.note(A, resting(clock, 60))
    assert chosen(pool, 3) == "klk"
    clock.now += 60
    assert chosen(pool, 2) == "aa"


def test_who_rests_is_passed_over(make, clock):
    """A credential that rests is not asked, and is back at the very second that it was told."""
    pool = make(A, B, C)
    pool.note(B, resting(clock, 60))
    assert chosen(pool, 4) == "acac"
    clock.now += 59.9
    assert "b" not in chosen(pool, 4)
    clock.now += 0.1
    assert "b" in chosen(pool, 3)


def test_who_is_out_stays_out_for_the_quarantine(make, clock):
    """A refused credential is not asked for the operator's quarantine."""
    pool = make(A, B)
    pool.note(A, OUT)
    clock.now += QUARANTINE - 1
    assert chosen(pool, 3) == "bbb"
    clock.now += 1
    assert "a" in chosen(pool, 2)


def test_a_success_changes_nothing(make):
    """An answer that says nothing about a limit leaves the credential's state as it is."""
    pool = make(A)
    pool.note(A, DONE)
    assert (pool.state("a").back_at, pool.state("a").reason) == (0, "")


def test_a_longer_rest_wins(make, clock):
    """A rest is never shortened by a later answer to an earlier request."""
    pool = make(A)
    pool.note(A, resting(clock, 3600, "weekly"))
    pool.note(A, resting(clock, 5, "slow down"))
    assert (pool.state("a").back_at, pool.state("a").reason) == (clock.now + 3600, "weekly")
    pool.note(A, resting(clock, 7200, "longer"))
    assert (pool.state("a").back_at, pool.state("a").reason) == (clock.now + 7200, "longer")


def test_one_request_asks_each_credential_once(make):
    """A credential that this request has tried is never taken again, and when all were tried there is none."""
    pool = make(A, B, C)
    assert walk(pool) == "abc"
    assert pool.choose(None, {"a", "b", "c"}) is None


def test_when_all_rest_the_soonest_is_taken(make, clock):
    """With nobody usable the one that is back soonest is asked, an API key included, and no other after it."""
    pool = make(A, B, K)
    for each, seconds in ((A, 300), (B, 200), (K, 100)):
        pool.note(each, resting(clock, seconds))
    assert chosen(pool, 2) == "kk"
    assert walk(pool) == "k"


def test_who_rests_is_not_asked_after_another(make, clock):
    """A request that somebody usable failed does not go on to those that rest: they have no room either."""
    pool = make(A, B, C)
    pool.note(B, resting(clock, 60))
    assert walk(pool) == "ac"


def test_a_session_that_rests_takes_who_is_usable(make, clock):
    """A session's own credential is not asked while it rests, as long as another one is usable."""
    pool = make(A, B)
    assert chosen(pool, 1, "s") == "a"
    pool.note(A, resting(clock, 1))
    assert walk(pool, "s") == "b"


def test_a_session_leaves_an_api_key(make, clock):
    """A session that had to take an API key goes back to an OAuth token as soon as one is usable: API keys cost money."""
    pool = make(A, K)
    pool.note(A, resting(clock, 60))
    assert chosen(pool, 2, "s") == "kk"
    clock.now += 60
    assert chosen(pool, 2, "s") == "aa"


def test_the_next_request_starts_after_the_one_that_answered(make, clock):
    """After 429 on the first and 401 on the second, the next request starts with the third."""
    pool = make(A, B, C)
    assert pool.choose(None) == A
    pool.note(A, resting(clock, 60))
    assert pool.choose(None, {"a"}) == B
    pool.note(B, OUT)
    assert pool.choose(None, {"a", "b"}) == C
    assert chosen(pool, 2) == "cc"


def test_an_empty_pool(make):
    """An empty pool has nobody to ask, and is back at no time."""
    pool = make()
    assert pool.choose(None) is None
    assert pool.choose("s") is None
    assert (len(pool), pool.back_at()) == (0, 0)


def test_back_at_is_the_soonest(make, clock):
    """The pool is back when its first credential is."""
    pool = make(A, B)
    assert pool.back_at() == 0
    pool.note(A, resting(clock, 60))
    assert pool.back_at() == 0
    pool.note(B, resting(clock, 30))
    assert pool.back_at() == clock.now + 30


def test_a_session_stays(make):
    """A session keeps the credential of its first request, whatever others do in between."""
    pool = make(A, B, C)
    assert chosen(pool, 3, "s") == "aaa"
    assert chosen(pool, 2, "t") == "bb"
    assert chosen(pool, 2) == "ca"
    assert chosen(pool, 2, "s") == "aa"


def test_new_sessions_are_spread(make):
    """Each new session takes the next credential."""
    pool = make(A, B, C)
    assert "".join(pool.choose(f"s{number}").label for number in range(6)) == "abcabc"


def test_a_session_moves_when_it_must_and_stays_there(make, clock):
    """A session whose credential rests moves on, and does not move back: its cache is with the new one."""
    pool = make(A, B)
    assert chosen(pool, 1, "s") == "a"
    pool.note(A, resting(clock, 60))
    assert chosen(pool, 1, "s") == "b"
    clock.now += 60
    assert chosen(pool, 3, "s") == "bbb"


def test_a_session_moves_within_a_request(make):
    """A request that failed on its session's credential goes on with another one."""
    pool = make(A, B)
    assert chosen(pool, 1, "s") == "a"
    assert pool.choose("s", {"a"}) == B


def test_without_affinity(make):
    """With affinity ``none`` a session is like any other request."""
    assert chosen(make(A, B, affinity=Affinity.NONE), 4, "s") == "abab"


@pytest.mark.parametrize("session", [None, ""], ids=["none", "empty"])
def test_no_session_is_not_a_session(make, session):
    """Requests that name no session do not share one."""
    assert chosen(make(A, B), 4, session) == "abab"


def test_silent_sessions_are_forgotten(make, monkeypatch):
    """No more sessions are remembered than the limit, and the one that was silent for longest goes first."""
    monkeypatch.setattr(pool_module, "MAX_SESSIONS", 2)
    pool = make(A, B, C)
    assert [pool.choose(session).label for session in ("s", "t", "s", "u")] == ["a", "b", "a", "c"]
    assert len(pool._sessions) == 2
    assert pool.choose("s") == A
    assert pool.choose("u") == C
    assert pool.choose("t") == A, "a new session again, so the next in turn"


def test_the_pool_hides_its_secrets(make, clock):
    """Nothing that the pool shows of a credential holds its value."""
    pool = make(A)
    pool.note(A, resting(clock, 5))
    assert "made-up" not in f"{vars(pool)} {pool.state('a')}"
