"""alerts/error_rate.py: the share of requests that failed in the last minutes."""

import json

import hypothesis.strategies as st
import pytest
from hypothesis import given
from msgspec.structs import replace
from test_report import NOW, record

from claude_proxy.alerts.error_rate import MAX_WRITERS, MINUTES, SHARE_SECONDS, ErrorRate
from claude_proxy.state.rows import Row


class Clock:
    now = NOW

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.mark.parametrize(
    ("changes", "failed"),
    [
        ({}, 0),
        ({"status": 500}, 1), ({"status": 529}, 1), ({"status": 503, "served": ""}, 1),
        ({"status": 429}, 1),
        # A limit of the proxy, and its refusals: no provider responded.
        ({"status": 429, "served": ""}, 0), ({"status": 400}, 0), ({"status": 403, "served": ""}, 0),
        ({"status": 200, "error": "interrupted"}, 1),
        ({"status": 499, "error": "x"}, 0),
    ],
)  # fmt: skip
def test_what_has_failed(clock, changes, failed):
    """What the proxy or a provider caused is a failure; a refused request and a client that leaves are none."""
    rate = ErrorRate(clock)
    rate.record(replace(record(), **changes))
    assert rate.share() == (1, failed, MINUTES)


def test_counts_of_tokens_are_left_out(clock):
    """They are many, and say little."""
    rate = ErrorRate(clock)
    rate.record(replace(record(), counts_tokens=True))
    assert rate.share().requests == 0


def test_only_the_last_minutes(clock):
    """A request is counted for so many minutes, and then forgotten."""
    rate = ErrorRate(clock)
    rate.record(replace(record(), status=500))
    clock.now += 60 * 3
    rate.record(record())
    assert [rate.share(minutes)[:2] for minutes in (3, 4, 10)] == [(1, 0), (2, 1), (2, 1)]
    assert rate.share().percent == 50
    clock.now += 60 * MINUTES
    assert rate.share() == (0, 0, MINUTES)
    assert rate.share().percent == 0


def test_the_counts_are_those_of_all_processes(clock):
    """Each process knows the counts of the others, once, and after a restart those of the last one."""
    first, second = ErrorRate(clock), ErrorRate(clock)
    first.record(replace(record(), status=500))
    rows = first.changed()
    second.merge(rows)
    second.merge(rows)
    second.record(record())
    first.merge([*rows, *second.changed()])
    assert first.share() == second.share() == (2, 1, MINUTES)
    assert first.changed() == []


def test_rows_are_shared_now_and_then(clock):
    """A busy process does not write a row for each request."""
    rate = ErrorRate(clock)
    rate.record(record())
    assert len(rate.changed()) == 1
    rate.record(record())
    assert rate.changed() == []
    clock.now += SHARE_SECONDS
    assert len(rate.changed()) == 1


def test_the_number_of_processes_is_bounded(clock):
    """The counts of processes that are long gone make room."""
    rate = ErrorRate(clock)
    rate.merge([Row(f"errors:{number}", NOW + number, "[[1, 2, 3]]") for number in range(MAX_WRITERS + 10)])
    assert len(rate._counts) == MAX_WRITERS + 1


JSON = st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5), st.lists, max_leaves=8)


@given(JSON.map(json.dumps) | st.text(max_size=20))
def test_whatever_a_row_contains(value):
    """No row of another version ends the counting."""
    rate = ErrorRate(Clock())
    rate.merge([Row("errors:x", NOW, value), Row("errors", NOW, value)])
    rate.record(record())
    assert rate.share().requests >= 1
