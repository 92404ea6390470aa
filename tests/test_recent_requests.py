"""usage/recent_requests.py: the latest requests of all processes."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from test_request_entry import RECORD

from claude_proxy.credentials.redaction import Redactor
from claude_proxy.secret import Secret
from claude_proxy.state.rows import Row
from claude_proxy.usage.recent_requests import (
    MAX_PAGES,
    MOST,
    OVERLAP_SECONDS,
    PAGE_ENTRIES,
    PAGES,
    Filters,
    RecentRequests,
)

NOW = 1_800_000_100.0
ALL = Filters()


class Clock:
    def __init__(self):
        self.now = NOW

    def __call__(self):
        return self.now


class Process:
    """The list of one process, and what it has put into the store."""

    def __init__(self, writer="a", store=None, **more):
        self.clock = Clock()
        self.store = {} if store is None else store
        self.recent = RecentRequests(clock=self.clock, writer=writer, **more)

    def add(self, count=1, **changes):
        for _ in range(count):
            self.clock.now += 1
            self.recent.record(replace(RECORD, at=self.clock.now - RECORD.seconds, **changes))
        return self

    def share(self):
        rows = self.recent.changed()
        self.store |= {row.key: row for row in rows if row.stamp > self.store.get(row.key, Row("", 0, "")).stamp}
        return rows

    def users(self, filters=ALL, limit=MOST, **more):
        return [one.user for one in self.recent.read(filters, limit, **more)[0]]


def test_the_newest_come_first():
    """A request that has ended is in the list at once, before those that ended earlier; a count of tokens is not."""
    one = Process().add(user="anna").add(user="ben").add(user="carl", counts_tokens=True)
    assert one.users() == ["ben", "anna"]
    assert one.add(user="dora").users() == ["dora", "ben", "anna"]


@pytest.mark.parametrize("count", [MOST - 1, MOST, MOST + 1, 3 * MOST])
def test_the_list_is_bounded(count):
    """At most ``MOST`` requests are shown, the newest ones, however many there were, in bounded rows."""
    one = Process()
    for number in range(count):
        one.add(user=str(number))
        if number % 100 == 0:
            one.share()
    shown = one.users()
    assert shown == [str(number) for number in range(count - 1, max(-1, count - 1 - MOST), -1)]
    one.share()
    assert len(one.store) == min(PAGES, -(-count // PAGE_ENTRIES))


def test_more_than_a_list_between_two_exchanges():
    """Of more requests than are shown, which arrive together, the newest are kept, also without a store."""
    one = Process()
    for number in range(3 * MOST):
        one.add(user=str(number))
    assert one.users() == [str(number) for number in range(3 * MOST - 1, 2 * MOST - 1, -1)]


def test_processes_share_their_requests():
    """Each process shows the requests of all, in one order; so does one that starts after the others were killed."""
    one, two = Process("a"), Process("b")
    for number in range(60):
        process, other = (one, two) if number % 3 else (two, one)
        process.clock.now = max(process.clock.now, other.clock.now)
        process.add(user=str(number))
        other.recent.merge(process.share())
    expected = [str(number) for number in range(59, -1, -1)]
    assert (one.users(), two.users()) == (expected, expected)
    three = Process("c")
    three.recent.merge([*one.store.values(), *two.store.values()])
    assert three.users() == expected
    ids = [one.id for one in three.recent.latest()]
    assert len({*ids}) == len(ids) == 60


def test_changes_are_shared_once_in_a_second():
    """Requests of the same second are shared together; a stop does not wait for that."""
    one = Process().add()
    assert len(one.share()) == 1
    one.recent.record(RECORD)
    assert one.share() == []
    one.recent.flush_next()
    assert len(one.share()) == 1
    one.clock.now += 1
    assert one.share() == []


def test_a_page_that_comes_again_changes_nothing():
    """Of two versions of a page the later one applies, in any order, and repeated rows change nothing."""
    one, two = Process("a"), Process("b")
    early = one.add(user="anna").share()
    late = one.add(user="ben").share()
    for rows in (late, early, late):
        two.recent.merge(rows)
        assert two.users() == ["ben", "anna"]


def test_a_store_that_has_lost_its_rows():
    """A process returns the pages of all processes, parsed or not, so that a store can be filled again."""
    one, two, three = Process("a"), Process("b"), Process("c")
    two.recent.merge(one.add(30, user="anna").share())
    three.recent.merge(two.recent.everything())
    assert len(two.users()) == 30
    three.recent.merge(two.recent.everything())
    assert three.users() == two.users()


def test_paging():
    """``before`` continues where a page of the list has ended, without a gap or a repetition."""
    one = Process()
    for number in range(25):
        one.add(user=str(number))
    found, before = [], ""
    for _ in range(10):
        entries, following = one.recent.read(Filters(before=before), 10)
        found += [entry.user for entry in entries]
        if following is None:
            break
        before = following
    assert found == [str(number) for number in range(24, -1, -1)]


def test_what_is_new_since():
    """``since`` returns what ended later, and repeats what ended shortly before, because other processes share with a delay."""
    one, two = Process("a"), Process("b")
    two.add(user="late")
    one.clock.now = two.clock.now
    for number in range(30):
        one.add(user=str(number))
    last = one.recent.latest()[5].id
    shown = one.users(Filters(since=last))
    assert shown == [str(number) for number in range(29, 29 - 6 - int(OVERLAP_SECONDS), -1)]
    for user in ("late", "later"):
        two.clock.now = one.clock.now - OVERLAP_SECONDS / 2
        two.add(user=user)
    last = one.recent.latest()[0].id
    one.recent.merge(two.share())
    assert {"late", "later"} <= {*one.users(Filters(since=last))}


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"user": ["anna"]}, ["anna"]),
        ({"user": ["anna", "ben"]}, ["ben", "anna"]),
        ({"model": ["haiku"]}, ["ben"]),
        ({"model": ["served-as"]}, ["carl"]),
        ({"credential": ["first"]}, ["ben"]),
        ({"rule": ["night"]}, ["carl"]),
        ({"lane": ["chat"]}, ["carl"]),
        ({"status": ["429"]}, ["carl"]),
        ({"status": ["error"]}, ["carl"]),
        ({"status": ["ok"]}, ["ben", "anna"]),
        ({"status": ["ok", "429"]}, ["carl", "ben", "anna"]),
        ({"status": ["failover"]}, ["carl", "ben", "anna"]),
        ({"text": "limit reached"}, ["carl", "ben", "anna"]),
        ({"text": "five weeks"}, []),
        ({"user": ["anna"], "status": ["error"]}, []),
    ],
    ids=str,
)
def test_filters(filters, expected):
    """A filter is by the exact names of one field, of which each may be allowed; a text is searched in all of them."""
    one = Process().add(user="anna").add(user="ben", requested="haiku", credential="first")
    one.add(user="carl", model="served-as", rule="night", lane="chat", status=429, error="rate_limit_error")
    assert one.users(Filters(**filters)) == expected


def test_a_user_sees_their_own_requests():
    """Of other users' requests nothing exists, and neither a filter nor a search finds a hidden credential."""
    one = Process().add(user="Anna", credential="theirs").add(user="ben")
    assert one.users(only_user="anna", hidden={"theirs"}) == ["anna"]
    for filters in (Filters(user=["ben"]), Filters(credential=["theirs"]), Filters(text="theirs")):
        assert one.users(filters, only_user="anna", hidden={"theirs"}) == []
    entries, _ = one.recent.read(ALL, 9, only_user="anna", hidden={"theirs"})
    assert [entry.credential for entry in entries] == ["other"]


def test_no_secret_is_kept():
    """A secret that a client or a provider has put into a text is neither kept nor shared."""
    secret = "sk-made-up-secret-0123456789"
    one = Process(redact=Redactor([Secret(secret)]).text)
    one.add(requested=f"m {secret}", request_id=secret, project=f"a{secret}b").add(user="ben")
    rows = one.share()
    assert secret not in json.dumps([one.shown() for one in one.recent.latest()]) + "".join(row.value for row in rows)
    assert one.recent.latest()[1].project == "a***b"


VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=4), max_leaves=8
)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["recent:b:0", "recent:b:1", "recent:b:x", "recent:b:999", "recent:b:9999", "recent:b", "usage:x"])
            | st.text(max_size=9),
            st.sampled_from([0.0, NOW, NOW + 1e9]),
            st.text(max_size=20) | VALUES.map(json.dumps) | st.just("[" * 100_000) | st.just('{"a": 1}'),
        ),
        max_size=5,
    )
)
def test_rows_of_other_writers(rows):
    """Invalid rows change nothing and raise nothing."""
    one = Process().add(user="anna")
    one.recent.merge([Row(*row) for row in rows])
    assert one.users() == ["anna"]


def test_a_page_from_the_future_displaces_nothing():
    """Entries that ended after the stamp of their page are invalid, and so is a page that is far ahead of the clock."""
    one, other = Process("a").add(user="anna"), Process("b")
    other.clock.now += 1e6
    far = other.add(user="x").share()[0]
    one.recent.merge([far, Row(far.key, NOW, far.value)])
    assert one.users() == ["anna"]


def test_the_pages_of_others_are_bounded():
    """However many processes there were, a bounded number of pages is kept, the latest."""
    one = Process("a").add(user="anna")
    for number in range(MAX_PAGES + 100):
        other = Process(f"b{number}")
        other.clock.now = NOW + number
        one.recent.merge(other.add(user=str(number)).share())
    assert len(one.recent.everything()) == MAX_PAGES + 1  # and the own one
    assert str(MAX_PAGES + 99) in one.users()
    assert "anna" in one.users()
