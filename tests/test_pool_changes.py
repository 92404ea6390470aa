"""credentials/pool_changes.py, by way of the pool: other credentials come while it is used; on a clock that the test turns."""

from dataclasses import replace

import pytest
from answers import HOUR
from pools import DONE, NOTHING, REJECTED, SALT, A, B, C, K, chosen, cooldown, credential, fill, known, walk

from claude_proxy.credentials.credential import Credential, Kind, Terms
from claude_proxy.credentials.pool import PoolRequest
from claude_proxy.credentials.response_rules import Action, Verdict
from claude_proxy.credentials.scope import EVERYTHING, Scope
from claude_proxy.secret import Secret

PAUSED = Terms(paused=True)


def paused(each: Credential) -> Credential:
    return replace(each, terms=PAUSED)


def login(clock, token="first", expires=HOUR, label="home"):
    """What a home of Claude Code's holds."""
    secret = Secret(f"sk-ant-oat01-made-up-{token}")
    return Credential(label, Kind.OAUTH, secret, source="homes/anna", renewed=True, expires=clock.now + expires)


# Who is there


def test_a_new_one_is_asked_and_one_that_is_gone_is_not(make):
    """A credential that was added takes its turn at once, and one that was removed is never asked again."""
    pool = make(A, B)
    pool.replace_credentials([B, C])
    assert {*chosen(pool, 6)} == {"b", "c"}
    assert len(pool) == 2
    assert [one.credential.label for one in pool.snapshot()] == ["b", "c"]


def test_api_keys_stay_the_last(make):
    """Whatever the order in which credentials come, API keys are asked after OAuth tokens."""
    pool = make(K)
    pool.replace_credentials([K, A])
    assert walk(pool) == "ak"


def test_an_empty_pool_fills_and_empties(make):
    """A pool may become empty and get credentials again."""
    pool = make()
    assert chosen(pool, 1) == "-"
    pool.replace_credentials([A])
    assert chosen(pool, 1) == "a"
    pool.replace_credentials([])
    assert chosen(pool, 1) == "-"
    assert pool.retry_after("") >= 1


# What is known


def test_who_stays_keeps_rests_windows_and_sessions(make):
    """Another credential's coming and going changes nothing of those that stay."""
    pool = make(A, B)
    cooldown(pool, A, 600, "opus")
    fill(pool, B, 0.4)
    chosen(pool, 1, "s")
    before = known(pool)
    pool.replace_credentials([A, B, C])
    pool.replace_credentials([B, A])
    assert known(pool) == before


def test_a_new_label_keeps_all_that_is_known(make):
    """A credential under another label keeps its rests, its windows and its sessions."""
    pool = make(A, B)
    bound = chosen(pool, 1, "s")
    each = {"a": A, "b": B}[bound]
    fill(pool, each, 0.4)
    cooldown(pool, each, 600, "opus")
    renamed = replace(each, label="anna")
    pool.replace_credentials([renamed, C])
    assert chosen(pool, 3, "s") == "annaannaanna"
    assert pool.state("anna").load == 0.4
    assert "anna" not in chosen(pool, 3, family="opus")
    assert pool.snapshot()[0].sessions == 1


def test_two_labels_may_change_places(make):
    """Two credentials that swap their labels swap what is known of the labels, and no session moves."""
    pool = make(A, B)
    cooldown(pool, A, 600)
    assert chosen(pool, 1, "s") == "b"
    pool.replace_credentials([replace(A, label="b"), replace(B, label="a")])
    assert chosen(pool, 2, "s") == "aa"
    assert chosen(pool, 2) == "aa"


def test_another_secret_under_a_label_is_another_credential(make):
    """A label that stands for another secret now begins with nothing known, and its sessions choose anew."""
    pool = make(A)
    cooldown(pool, A, 600)
    other = replace(A, secret=Secret("sk-ant-made-up-another"))
    pool.replace_credentials([other])
    assert pool.state("a").cooldowns == {}
    assert chosen(pool, 1, "s") == "a"
    pool.replace_credentials([A, B])
    assert pool.state("a").cooldowns == {}
    assert [one.sessions for one in pool.snapshot()] == [0, 0]


def test_sessions_of_a_removed_one_move_and_others_stay(make):
    """The sessions of a credential that is gone move at their next request, and no other session does."""
    pool = make(A, B)
    before = {f"s{n}": chosen(pool, 1, f"s{n}") for n in range(6)}
    assert {*before.values()} == {"a", "b"}
    pool.replace_credentials([B, C])
    after = {session: chosen(pool, 1, session) for session in before}
    assert {session for session in before if after[session] != before[session]} == {
        session for session, label in before.items() if label == "a"
    }
    assert "a" not in after.values()
    assert sum(one.sessions for one in pool.snapshot()) == 6


# What still arrives for one that is gone


@pytest.mark.parametrize("verdict", [DONE, REJECTED, Verdict(Action.NEXT, "limit reached", ((EVERYTHING, 1_800_000_600.0),))])
def test_responses_of_a_removed_one_teach_nothing(make, verdict):
    """A response to a credential that was removed meanwhile raises nothing, and is nobody else's."""
    pool = make(A, B)
    pool.replace_credentials([B])
    pool.changed()
    pool.record_response(A, verdict, NOTHING)
    pool.confirm(A, REJECTED)
    assert pool.suspect(A, "This organization has been disabled.", "anna") is False
    assert chosen(pool, 2) == "bb"
    assert [row.key for row in pool.changed()] == ["cursor"]


def test_a_response_under_the_old_label_is_learned_under_the_new_one(make):
    """A response of before a change of the label counts for the same secret."""
    pool = make(A, B)
    pool.replace_credentials([replace(A, label="anna"), B])
    cooldown(pool, A, 600)
    assert chosen(pool, 2) == "bb"
    pool.replace_credentials([replace(A, label="b"), replace(B, label="a")])
    assert chosen(pool, 2) == "aa"


def test_what_others_know_of_a_removed_one_is_passed_over(make, clock):
    """Rows of a store about a credential that this pool no longer has are no mistake, and bind no session to it."""
    ours, others = make(A, B), make(A)
    for pool in (ours, others):
        pool.set_salt(SALT)
    chosen(others, 1, "s")
    cooldown(others, A, 600)
    ours.replace_credentials([B])
    ours.merge(others.everything())
    assert chosen(ours, 1, "s") == "b"
    assert not [row for row in ours.everything() if row.key.startswith("credential:")]


def test_a_credential_has_one_name_in_the_store(make):
    """One that comes later, or comes back, is found by the rows of other processes under the same salt."""
    ours, others = make(A), make(A, B)
    for pool in (ours, others):
        pool.set_salt(SALT)
    cooldown(others, B, 600)
    ours.replace_credentials([A, B])
    ours.merge(others.everything())
    assert "b" not in chosen(ours, 3)


# Paused, and expired


def test_a_paused_one_is_not_asked_and_forgets_nothing(make):
    """A paused credential is asked for nothing, its bound sessions included, and is back with its rests and windows."""
    pool = make(A, B)
    session = next(f"s{n}" for n in range(4) if chosen(pool, 1, f"s{n}") == "a")
    fill(pool, A, 0.3)
    cooldown(pool, A, 600, "opus")
    pool.replace_credentials([paused(A), B])
    assert chosen(pool, 3) == "bbb"
    assert walk(pool, session) == "b"
    assert [one.disabled for one in pool.snapshot()] == [True, False]
    pool.replace_credentials([A, B])
    assert pool.state("a").load == 0.3
    assert chosen(pool, 2, family="opus") == "bb"
    assert walk(pool) == "ba"


def test_a_pool_of_paused_ones_names_a_time(make):
    """With every credential paused nobody is asked, and a client is told a number of seconds to wait, not endlessly many."""
    pool = make(paused(A), paused(K))
    assert chosen(pool, 1) == "-"
    assert 1 <= pool.retry_after("opus") < 120
    assert pool.claim("opus") == "seven_day"


def test_an_expired_login_is_not_asked(make, clock):
    """A login that has expired is not asked, from when the pool is told so until there is another."""
    pool = make(login(clock), B)
    assert "home" in chosen(pool, 3)
    clock.now += HOUR
    pool.replace_credentials([login(clock, expires=0), B])
    assert chosen(pool, 3) == "bbb"
    pool.replace_credentials([login(clock, "second"), B])
    assert "home" in chosen(pool, 3)


def test_a_renewed_login_is_the_same_credential(make, clock):
    """A login that its client has renewed keeps rests, windows, sessions and its name in the store."""
    pool = make(login(clock))
    pool.choose(PoolRequest("s"))
    fill(pool, login(clock), 0.3)
    cooldown(pool, login(clock), 600, "opus")
    key = pool.state("home").key
    pool.replace_credentials([login(clock, "second")])
    assert pool.state("home").key == key
    assert pool.state("home").load == 0.3
    assert pool.choose(PoolRequest("s", Scope("opus"))) is None
    asked = pool.choose(PoolRequest("s"))
    assert asked is not None
    assert asked.secret.reveal().endswith("second")
    assert pool.snapshot()[0].sessions == 1


def test_a_refusal_ends_with_what_was_refused(make, clock):
    """A login that Anthropic refused is asked again once it is renewed, and late refusals of the old one do not count."""
    pool = make(login(clock))
    pool.record_response(login(clock), REJECTED, NOTHING)
    assert chosen(pool, 1) == "-"
    pool.replace_credentials([login(clock, "second")])
    assert chosen(pool, 1) == "home"
    pool.record_response(login(clock), REJECTED, NOTHING)
    assert chosen(pool, 1) == "home"


def test_other_terms_change_nothing_that_is_known(make):
    """A change of the terms keeps all that is known."""
    pool = make(A, B)
    cooldown(pool, A, 600)
    chosen(pool, 1, "s")
    before = known(pool)
    pool.replace_credentials([replace(A, terms=Terms(priority=2)), B])
    assert known(pool) == before
    assert pool.state("a").credential.terms.priority == 2


def test_many_changes_under_load_keep_the_counts(make):
    """However often credentials come and go, each session is counted once, at the credential that serves it."""
    pool = make(A, B)
    every = [credential(letter) for letter in "abcdef"]
    for turn in range(60):
        pool.replace_credentials([every[(turn + step) % 6] for step in range(3)])
        for number in range(10):
            pool.choose(PoolRequest(f"s{number}"))
    assert sum(one.sessions for one in pool.snapshot()) == 10
    assert all(one.sessions >= 0 for one in pool.snapshot())
