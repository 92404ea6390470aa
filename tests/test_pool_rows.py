"""credentials/pool_rows.py: what pools tell each other through a store, and what they believe of it."""

import hashlib
import json
import math
import random

import pytest
from answers import HOUR
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pools import (
    COOLDOWN,
    NOTHING,
    QUARANTINE,
    REJECTED,
    SALT,
    START,
    TRY_ONE_OTHER,
    A,
    B,
    C,
    Clock,
    K,
    L,
    busy,
    chosen,
    cooldown,
    fill,
    known,
    tell,
    walk,
)

from claude_proxy.credentials.credential import Credential
from claude_proxy.credentials.pool import Affinity, Pool, PoolRequest
from claude_proxy.credentials.scope import EVERYTHING, Scope
from claude_proxy.state.rows import Row


@pytest.fixture
def shared(make):
    """Return pools with one salt, as those of one store have it."""

    def shared(*credentials, **options):
        pool = make(*credentials, **options)
        pool.set_salt(SALT)
        return pool

    return shared


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


@pytest.mark.parametrize(
    ("more", "explanation"),
    [
        ({}, ""),
        ({"explanation": "This organization has been disabled."}, "This organization has been disabled."),
        ({"explanation": "a\n\x1b[31m" + "x" * 300}, r"a\n\x1b[31m" + "x" * 188 + "…"),
    ],
    ids=["earlier-version", "own", "evil"],
)
def test_anthropics_message_in_the_store(shared, more, explanation):
    """A row of an earlier version has no message; a message of the store is shown on one line and is bounded."""
    pool = shared(A)
    value = {"until": START + HOUR, "reason": "the account was rejected", "rejected": True, "windows": []} | more
    pool.merge([Row(f"credential:{own_key(pool)}:limit:", START, json.dumps(value))])
    found = pool.state("a").cooldowns[EVERYTHING]
    assert (found.reason, found.rejected, found.explanation) == ("the account was rejected", True, explanation)


def test_anthropics_message_is_beside_the_reason(shared):
    """The row of a rejection has the fields that earlier versions read, unchanged, and the message in one of its own."""
    first, second = shared(A), shared(A)
    first.record_response(A, REJECTED._replace(explanation="disabled"), NOTHING)
    (row,) = (row for row in first.everything() if ":limit:" in row.key)
    assert json.loads(row.value) == {
        "until": START + QUARANTINE, "reason": REJECTED.reason, "rejected": True, "windows": [], "explanation": "disabled",
    }  # fmt: skip
    second.merge([row])
    assert known(second) == known(first)


def test_a_rest_is_told_at_once(make):
    """A rest calls for an exchange of rows right away; an ordinary answer and a shy credential do not."""
    calls = []
    pool = make(A, on_cooldown=lambda: calls.append(1))
    fill(pool, A, 0.5)
    pool.record_response(A, TRY_ONE_OTHER, NOTHING)
    assert calls == []
    cooldown(pool, A, 60)
    pool.record_response(A, REJECTED, NOTHING)
    assert len(calls) == 2


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
    assert second.cooling_down(EVERYTHING) == {"renamed"}


def test_another_salt(make):
    """State under another salt is not understood, and harmless."""
    first, second = make(A, B, K), make(A, B, K)
    first.set_salt("one")
    second.set_salt("two")
    second.merge(busy(first).everything())
    assert second.cooling_down(EVERYTHING) == frozenset()


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
    '{"reason": 1, "rejected": 2, "until": 1.8e9, "windows": []}',
    '{"reason": "x", "rejected": 2, "until": 1.8e9, "windows": [1]}',
    '{"reason": "x", "rejected": 2, "until": 1.8e9, "windows": [], "explanation": 1}',
    '{"until": 0}', '{"until": -1}', '{"until": 1e99, "reason": "x", "rejected": 0, "windows": []}',
    '{"reason": null}', '{"utilization": "much", "reset": {}}', '{"utilization": NaN, "reset": 1}',
    '{"reset": 1.8e9, "samples": []}', '{"reset": 1.8e9, "samples": [[1.8e9, NaN]]}',
    '{"reset": 1, "samples": [[2, 1], [1, 1]]}', '{"reset": [], "samples": [[1, 1, 1]]}',
    '{"reset": 1.8e9, "samples": {"a": 1}}', '{"reset": 1.8e9, "samples": [[1e99, 1]]}',
    '{"utilization": Infinity, "reset": Infinity}', '{"utilization": 1e400, "reset": -1e400}', "\udcff", "\x00",
]  # fmt: skip
GARBAGE_KEYS = [
    "", ":", "cursor", "cursor:1", "salt:x", "session", "session:", "session:s", "session:s:t", "credential", "credential:x",
    "credential:{key}", "credential:{key}:limit", "credential:{key}:limit:", "credential:{key}:limit:opus:x",
    "credential:{key}:course::5h", "credential:{key}:window", "credential:{key}:window::5h",
    "credential:{key}:window:opus:7d_opus",
    "credential:x:limit:", "credential:{key}:limit:a/b/c/d", "credential:{key}:limit:/count_tokens", "lifted:{key}", "lifted:x",
    "probed", "tomorrow:x", "\udcff",
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
        assert pool.choose(PoolRequest("s", Scope(family)), {"a"}) == B
        assert math.isfinite(pool.back_at(Scope(family)))
        assert math.isfinite(pool.retry_after(Scope(family)))
        assert pool.claim(Scope(family)) in ("five_hour", "seven_day")
        pool.all_rejected(Scope(family))
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
    of_cooldown = st.builds(
        lambda key, scope, recorded_at, minutes: Row(
            f"credential:{key}:limit:{scope}",
            recorded_at,
            json.dumps(
                {
                    "until": minutes and START + 60.0 * minutes,
                    "reason": f"for {minutes}",
                    "rejected": minutes < 0,
                    "windows": [],
                }
            ),
        ),
        st.sampled_from(keys),
        st.sampled_from(["", "opus", "sonnet/messages/fast", "/count_tokens"]),
        st.integers(0, 40).map(lambda quarters: START - 10 + quarters / 4),
        st.integers(-5, 5),
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
    of_course = st.builds(
        lambda key, place, last: Row(
            f"credential:{key}:course:{place}",
            last,
            json.dumps({"reset": START, "samples": [[last - 1, 0.1], [last, last % 1]]}),
        ),
        st.sampled_from(keys),
        st.sampled_from([":5h", "opus:7d_opus"]),
        st.integers(0, 40).map(lambda quarters: START - 10 + quarters / 4),
    )
    of_session = st.builds(
        lambda session, used, age: Row(
            f"session:{session}", used, json.dumps({"credential": keys[int(used + age) % 2], "bound": used - age})
        ),
        st.sampled_from(["s", "t"]),
        st.integers(0, 40).map(lambda minutes: START - 7 * HOUR + 600 * minutes),
        st.integers(0, 3).map(lambda steps: 601.0 * steps),
    )
    return st.lists(of_cooldown | of_window | of_course | of_session, max_size=30)


@settings(max_examples=200)
@given(facts(), st.randoms(use_true_random=False))
def test_rows_in_any_order_and_number(rows, shuffler):
    """Rows give one state in whatever order, in whatever parts and however often they come; what was noted last wins."""

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
        told = [(row.stamp, json.loads(row.value)["until"]) for row in rows if row.key == f"credential:{key}:limit:"]
        last = max(told, default=(0.0, 0.0))
        ended = max((recorded_at for recorded_at, until in told if not until), default=0.0)
        assert expected.state(label).back_at == (last[1] if last[1] > START and last[0] > ended else 0.0)
    told_on = merged([expected.everything()])
    assert known(told_on) == known(expected), "what a pool tells is what it was told"


def happens(what, pool, other, each, dice):
    """One of the things that happen to a pool; the last one is that another pool takes in what has changed."""
    match what:
        case 0:
            cooldown(pool, each, dice.randint(1, 30))
        case 1:
            cooldown(pool, each, dice.randint(1, 30), "opus")
        case 2:
            pool.record_response(each, REJECTED, NOTHING)
        case 3:
            fill(pool, each, dice.random())
        case 4:
            fill(pool, each, dice.random(), window="7d_opus", family="opus")
        case 5:
            chosen(pool, 1, f"s{dice.randint(0, 2)}", dice.choice(["opus", "sonnet"]))
        case 6:
            tell(pool, each, family="opus", sent=pool._clock())
        case 7:
            pool.lift(each.label)
        case 8:
            other.merge(pool.changed())


@settings(max_examples=100)
@example([(1, 5, 1), (0, 1, 0), (0, 1, 1), (0, 5, 2)], 1)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 8), st.integers(0, 2)), max_size=40), st.integers(0, 2**32))
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
    # Where a session goes that leaves its credential, such as an API key when a token is usable again, is each process's own.
    bound = {session: label for session, (label, _) in known(pools[0])[1].items()}
    stays = [[chosen(pool, 1, session) == label for session, label in bound.items()] for pool in pools]
    assert stays[0] == stays[1]


def test_a_round_robin_that_has_come_round_goes_on(shared):
    """What the store says of the round robin counts at a start alone, and not when it is at its beginning again."""
    pool = shared(A, B, C)
    assert chosen(pool, 2) == "ab"
    told = pool.changed()
    assert chosen(pool, 1) == "c"
    pool.merge(told)
    assert chosen(pool, 1) == "a"
    fresh = shared(A, B, C)
    fresh.merge(told)
    assert chosen(fresh, 1) == "c"
