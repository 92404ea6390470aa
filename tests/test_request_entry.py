"""usage/request_entry.py: what is kept of a request, and what a reader sees of it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from claude_proxy.anthropic.usage import Usage
from claude_proxy.usage.record import AttemptRecord, Record
from claude_proxy.usage.request_entry import (
    MAX_ATTEMPTS,
    MAX_GROUPS,
    MAX_TEXT,
    ended_of,
    entry_of,
    read_entry,
    texts_of,
)

AT = 1_800_000_000.0
RECORD = Record(
    at=AT,
    user="Anna",
    requested="claude-opus-4-8",
    served="anthropic/claude-opus-4-8",
    credential="berta",
    status=200,
    first_byte_seconds=1.2,
    seconds=9.75,
    usage=Usage(1, 2, 3, 4),
    cost=310_000,
    model="claude-opus-4-8",
    groups=("team-a",),
    rule="long",
    project="web",
    lane="claude",
    attempts=(AttemptRecord("anna-max", "limit reached: 5h (HTTP 429)", 0.4), AttemptRecord("berta", "", 8.1)),
    request_id="req_1",
    size=18231,
)


def made(**changes):
    record = replace(RECORD, **changes)
    return entry_of(record, texts_of(record), "ab1")


def test_what_is_shown():
    """A reader gets names, attempts, times, tokens and costs, in the units that their names say."""
    assert made().shown() == {
        "id": "1800000009.750000-ab1",
        "at": AT,
        "user": "anna",
        "requested": "claude-opus-4-8",
        "model": "claude-opus-4-8",
        "served": "anthropic/claude-opus-4-8",
        "lane": "claude",
        "credential": "berta",
        "rule": "long",
        "project": "web",
        "groups": ["team-a"],
        "attempts": [
            {"target": "anna-max", "why": "limit reached: 5h (HTTP 429)", "seconds": 0.4},
            {"target": "berta", "why": "", "seconds": 8.1},
        ],
        "status": 200,
        "error": "",
        "first_byte": 1.2,
        "seconds": 9.75,
        "bytes": 18231,
        "input": 1,
        "output": 2,
        "cache_read": 3,
        "cache_write": 4,
        "usd": 0.31,
        "request_id": "req_1",
    }


@pytest.mark.parametrize(
    ("changes", "usd"), [({}, 0.31), ({"cost": None}, None), ({"cost": None, "served": ""}, 0), ({"cost": 0}, 0)]
)
def test_an_unknown_price_is_no_number(changes, usd):
    """A response without a known price has no cost; a request that nobody responded to has cost nothing."""
    assert made(**changes).shown()["usd"] == usd


@pytest.mark.parametrize(
    ("status", "error", "failed"),
    [(200, "", False), (429, "rate_limit_error", True), (200, "interrupted", True), (499, "", False), (500, "", True)],
)
def test_what_is_an_error(status, error, failed):
    """An error status and a response that broke off are errors; a client that disconnects is none."""
    assert made(status=status, error=error).failed is failed


def test_the_id_is_the_time_of_the_end():
    """The ids of entries sort by the time of their end, and the time can be read from them."""
    entries = [made(at=AT + shift) for shift in (0.0, 1e-6, 10.0, 1e8)]
    assert sorted(one.id for one in entries) == [one.id for one in entries]
    assert entries[0].ended == AT + 9.75


@pytest.mark.parametrize(
    "text",
    ["", "x", "1", "-ab", "nan-ab", "inf-ab", "-1-ab", "1e300-ab", "1-a b", " 1-a", "1_0-a", "1e3-a", "1-" + "a" * 300, "1-é"],
)
def test_what_is_no_id(text):
    """A text that no proxy has made as an id is rejected."""
    with pytest.raises(ValueError, match="id of a request"):
        ended_of(text)


def test_a_hidden_credential_has_no_name():
    """A hidden credential is found nowhere: not as the one that responded, not among the attempts, not by a search."""
    entry = made().hiding({"berta"})
    assert (entry.credential, [one.target for one in entry.attempts]) == ("other", ["anna-max", "other"])
    assert "berta" not in json.dumps(entry.shown())
    assert (entry.contains("berta"), entry.contains("anna-max")) == (False, True)
    assert made().hiding({"carl"}) == made()


@pytest.mark.parametrize(
    "text", ["anna", "opus", "claude", "berta", "long", "web", "team-a", "429", "limit reached", "req_1", "200"]
)
def test_a_search_finds_every_shown_text(text):
    """Every text that is shown can be searched for."""
    assert made().contains(text)
    assert not made().contains("no such text")


NASTY = st.text(max_size=20) | st.sampled_from(["\x1b[2J", "a\nb", "\ud800", "x" * 5000, "\u202e", ""])


@given(st.lists(NASTY, min_size=10, max_size=10), st.lists(st.tuples(NASTY, NASTY), max_size=30), st.lists(NASTY, max_size=60))
def test_texts_are_clean_and_bounded(texts, attempts, groups):
    """Whatever clients and providers send, what is kept is printable and bounded, and is read back as it was written."""
    names = ("user", "requested", "model", "served", "lane", "credential", "rule", "project", "error", "request_id")
    made_attempts = tuple(AttemptRecord(target, why, 1.0) for target, why in attempts)
    entry = made(**dict(zip(names, texts, strict=True)), attempts=made_attempts, groups=tuple(groups))
    kept = [getattr(entry, name) for name in names] + [text for one in entry.attempts for text in one[:2]] + [*entry.groups]
    assert all(text.isprintable() and len(text) <= MAX_TEXT for text in kept)
    assert (len(entry.attempts), len(entry.groups)) == (min(len(attempts), MAX_ATTEMPTS), min(len(groups), MAX_GROUPS))
    assert [one.why for one in entry.attempts] == kept[11 : 10 + 2 * len(entry.attempts) : 2]
    assert read_entry(json.loads(json.dumps(entry))) == entry


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.just("1-a"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=6,
)


@given(st.lists(VALUES, max_size=26) | VALUES, st.integers(0, 22), VALUES)
def test_a_row_of_another_writer(value, place, other):
    """What no proxy has written is rejected, or read as a valid entry; nothing else is raised."""
    spoiled = json.loads(json.dumps(made()))
    spoiled[place] = other
    for one in (value, spoiled):
        try:
            entry = read_entry(one)
        except (ValueError, TypeError, OverflowError):
            continue
        json.dumps(entry.shown(), allow_nan=False)
        assert entry.contains("") is True


def test_a_later_version_may_add_values():
    """Further values of a row are left out."""
    assert read_entry([*json.loads(json.dumps(made())), {"more": 1}]) == made()


def test_what_a_filter_of_the_status_may_name():
    """A request is found by its status, by whether it succeeded, and by whether it had more than one attempt."""
    assert made().statuses == {"200", "ok", "failover"}
    assert made(attempts=RECORD.attempts[:1]).statuses == {"200", "ok"}
    assert made(attempts=(), status=529, error="overloaded_error").statuses == {"529", "error"}
