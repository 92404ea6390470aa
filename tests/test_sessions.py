"""credentials/sessions.py: which credential a session stays on, here and in other processes."""

import json

import pytest
from answers import DAY
from pools import (
    SALT,
    START,
    A,
    B,
    C,
    chosen,
    cooldown,
    fill,
    known,
    new_pool,
    walk,
)

from claude_proxy.anthropic.opening import MARK
from claude_proxy.credentials import sessions as sessions_module
from claude_proxy.credentials.pool import Affinity, PoolRequest
from claude_proxy.credentials.sessions import MAX_SESSIONS, SESSION_IDLE, SESSION_SHARED
from claude_proxy.state.rows import Row


@pytest.fixture
def shared(make):
    """Return pools with one salt, as those of one store have it."""

    def shared(*credentials, **options):
        pool = make(*credentials, **options)
        pool.set_salt(SALT)
        return pool

    return shared


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
    cooldown(pool, A, 60)
    assert walk(pool, "s") == "b"
    clock.now += 60
    assert chosen(pool, 3, "s") == "bbb"


def test_a_session_moves_within_a_request(make):
    """A request that failed on its session's credential goes on with another one, and the session stays there."""
    pool = make(A, B, C)
    assert chosen(pool, 1, "s") == "a"
    assert pool.choose(PoolRequest("s"), {"a"}) == B
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
    monkeypatch.setattr(sessions_module, "MAX_SESSIONS", 2)
    pool = make(A, B, C)
    assert [chosen(pool, 1, session) for session in ("s", "t", "s", "u")] == ["a", "b", "a", "c"]
    assert len(pool._sessions) == 2
    assert (chosen(pool, 1, "s"), chosen(pool, 1, "u")) == ("a", "c")
    assert chosen(pool, 1, "t") == "b", "a new session again, so where nobody lives"


def test_nothing_grows_without_a_bound(make):
    """However many sessions there are, what is remembered of them and what is waiting to be told stays bounded."""
    pool = make(A, B)
    for number in range(MAX_SESSIONS + 500):
        pool.choose(PoolRequest(f"s:{number}"))
    assert len(pool._sessions) == MAX_SESSIONS
    assert len(pool.changed()) <= MAX_SESSIONS + 1
    assert len(pool.everything()) <= MAX_SESSIONS + 1


def test_a_sessions_use_is_told_now_and_then(shared, clock):
    """A session in use is told again after a while, so that it is not idle to the others, but not at each request."""
    pool = shared(A)

    def shared_rows():
        chosen(pool, 1, "s")
        return [row.stamp for row in pool.changed() if row.key == "session:s"]

    assert shared_rows() == [START]
    clock.now += SESSION_SHARED - 1
    assert shared_rows() == []
    clock.now += 1
    assert shared_rows() == [START + SESSION_SHARED]


def test_the_later_binding_of_a_session_wins(shared, clock):
    """Two processes that bind one session agree on the later binding, even when the earlier one was used last."""
    first, second = shared(A, B), shared(B, A)
    assert chosen(first, 1, "s") == "a"
    clock.now += 1
    assert chosen(second, 1, "s") == "b"
    clock.now += 1
    chosen(first, 1, "s")
    first.merge(second.everything())
    second.merge(first.everything())
    assert (chosen(first, 1, "s"), chosen(second, 1, "s")) == ("b", "b")


def test_a_later_binding_is_shared_again(shared, clock):
    """When the store keeps the earlier binding because it was used last, the process with the later one shares it again."""
    first, second = shared(A, B), shared(B, A)
    chosen(first, 1, "s")
    clock.now += 1
    chosen(second, 1, "s")
    second.changed()
    clock.now += SESSION_SHARED
    chosen(first, 1, "s")
    earlier = [row for row in first.changed() if row.key == "session:s"]
    second.merge(earlier)
    (later,) = [row for row in second.changed() if row.key == "session:s"]
    assert later.stamp > earlier[0].stamp
    first.merge([later])
    assert (chosen(first, 1, "s"), chosen(second, 1, "s")) == ("b", "b")


def test_a_binding_that_never_was_is_passed_over(shared, clock):
    """A session's row that was bound after its last use is not possible, and binds nothing."""
    pool = shared(A)
    pool.merge([Row("session:s", START, json.dumps({"credential": pool.state("a").key, "bound": START + 1}))])
    assert known(pool)[1] == {}


def test_a_session_that_is_idle_elsewhere_is_not_taken_over(shared, clock):
    """A session's row that is older than six hours binds nothing."""
    first, second = shared(A, B), shared(A, B)
    chosen(first, 1, "s")
    clock.now += SESSION_IDLE + 1
    second.merge(first.everything())
    assert known(second)[1] == {}


def test_sessions_of_others_are_bounded(shared, monkeypatch):
    """What comes from a store fills no memory either."""
    monkeypatch.setattr(sessions_module, "MAX_SESSIONS", 3)
    pool = shared(A)
    pool.merge(
        [
            Row(f"session:{number}", START, json.dumps({"credential": pool.state("a").key, "bound": START}))
            for number in range(10)
        ]
    )
    assert len(pool._sessions) == 3


def test_sessions_without_a_name_go_first(make, monkeypatch):
    """Single questions of a client that names no session push no named session out, and have the half of the room at most."""
    monkeypatch.setattr(sessions_module, "MAX_SESSIONS", 6)
    pool = make(A, B)
    for session in ("s", "t", "u"):
        chosen(pool, 1, session)
    for number in range(50):
        chosen(pool, 1, f"{MARK}{number}")
    assert [*known(pool)[1]] == ["s", "t", "u", *(f"{MARK}{number}" for number in (47, 48, 49))]
    for number in range(3):
        chosen(pool, 1, f"v{number}")
    assert [*known(pool)[1]] == [f"{MARK}{number}" for number in (47, 48, 49)] + ["v0", "v1", "v2"]
    assert sum(snapshot.sessions for snapshot in pool.snapshot()) == 6


def test_a_session_without_a_name_goes_with_its_credential(make, monkeypatch):
    """With a credential that leaves the pool its sessions without a name are forgotten whole."""
    monkeypatch.setattr(sessions_module, "MAX_SESSIONS", 4)
    pool = make(A, B)
    for number in range(4):
        chosen(pool, 1, f"{MARK}{number}")
    pool.replace_credentials([B])
    for number in range(4, 10):
        chosen(pool, 1, f"{MARK}{number}")
    assert [*known(pool)[1]] == [f"{MARK}{number}" for number in (6, 7, 8, 9)]
    assert pool.state("b").sessions == 4


def test_a_session_without_a_name_is_known_elsewhere(shared):
    """A conversation without a name counts and stays as one with a name does, in other processes too."""
    first, second = shared(A, B), shared(B, A)
    assert chosen(first, 2, f"{MARK}0") == "aa"
    second.merge(first.everything())
    assert chosen(second, 2, f"{MARK}0") == "aa"
    assert [snapshot.sessions for snapshot in second.snapshot()] == [0, 1]


def test_a_conversation_that_begins_has_no_credential_yet(clock):
    """Several that begin with the same words are spread; each goes on where the last one of them began."""
    pool = new_pool(A, B, clock=clock)
    begun = [pool.choose(PoolRequest("content-x", is_new_session=True)).label for _ in range(3)]
    assert begun == ["a", "b", "a"]
    assert [pool.choose(PoolRequest("content-x")).label for _ in range(3)] == ["a", "a", "a"]
