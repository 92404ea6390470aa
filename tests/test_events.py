"""usage/events.py: the last failovers and errors, of one process and of several."""

import json
import math

import pytest
from msgspec.structs import replace
from test_report import NOW, record

from claude_proxy.state.rows import Row
from claude_proxy.usage.events import MAX_FAILOVERS, MAX_WRITERS, SHARE_SECONDS, RecentEvents


class Clock:
    def __init__(self):
        self.now = NOW

    def __call__(self):
        return self.now


def events(writer="w", clock=None):
    return RecentEvents(clock=clock or Clock(), writer=writer)


def moved(text="second: limit (HTTP 429)"):
    return record(failovers=(text,)), "m"


def test_failovers_and_last_errors_are_kept_bounded():
    """The last failovers are kept, the newest first, with the last error of each credential and its time."""
    clock = Clock()
    one = events(clock=clock)
    for number in range(MAX_FAILOVERS + 5):
        clock.now = NOW + number
        one.record(*moved(f"second: limit {number} (HTTP 429)"))
    found = one.failovers()
    assert len(found) == MAX_FAILOVERS
    assert (found[0].text, found[0].at) == (f"second: limit {MAX_FAILOVERS + 4} (HTTP 429)", clock.now)
    assert one.errors() == {"second": (clock.now, f"limit {MAX_FAILOVERS + 4} (HTTP 429)")}


def test_a_failed_request_is_its_credentials_error():
    """The error of a request is that of its credential; a failover from a model is no credential's error."""
    one = events()
    one.record(record(model="m", failovers=("m: failed over to n",)), "m")
    assert one.errors() == {}
    failed = replace(record(), status=401, error="authentication_error")
    one.record(failed, "m")
    assert one.errors()["first"].text == "authentication_error (HTTP 401)"


def test_processes_share_their_events():
    """Events are shared once in a while and at the end; rows that come again or late change nothing."""
    clock = Clock()
    one, other = events("a", clock), events("b", clock)
    one.record(*moved("first: limit"))
    rows = one.changed()
    one.record(*moved())
    assert one.changed() == []
    clock.now += SHARE_SECONDS
    later = one.changed()
    other.record(*moved("third: limit"))
    for _ in range(2):
        other.merge([*later, *rows])
    assert sorted(other.errors()) == ["first", "second", "third"]
    assert len(other.failovers()) == 3
    again = events("c", clock)
    again.merge(other.everything())
    assert (again.failovers(), again.errors(), again.changed()) == (other.failovers(), other.errors(), [])
    one.record(*moved())
    one.flush_next()
    assert len(one.changed()) == 1


def test_the_processes_whose_events_are_kept_are_bounded():
    """Of many processes the latest are kept."""
    one = events()
    one.merge(
        [
            Row(
                f"events:{number:04}", NOW + number, json.dumps({"failovers": [[NOW, "a", "m", f"x{number}: y"]], "errors": {}})
            )
            for number in range(MAX_WRITERS + 20)
        ]
    )
    assert len(one.everything()) == MAX_WRITERS
    assert one.everything()[0].key == "events:0020"


EMPTY = '{"failovers": [], "errors": {}}'


@pytest.mark.parametrize(
    "row",
    [
        Row("events:x", NOW, '{"failovers": [[1]], "errors": {}}'), Row("events:x", math.nan, EMPTY),
        Row("events:x", NOW, '{"failovers": [[1e300, "a", "b", "c"]], "errors": {}}'), Row("events:x", NOW, "no JSON"),
        Row("events:" + "x" * 100, NOW, '{"failovers": [], "errors": {}}'), Row("salt", 0.0, '"x"'), Row("events:x", NOW, "[]"),
        Row("events:x", NOW * 2, '{"failovers": [], "errors": {}}'), Row("events:x:y", NOW, '{"failovers": [], "errors": {}}'),
        Row("events:x", NOW, '{"failovers": [[1, 2, 3, 4]], "errors": {}}'), Row("events:x", NOW, '{"errors": {}}'),
        Row("events:x", NOW, '{"failovers": [], "errors": {"a": [true, "b"]}}'),
    ],
)  # fmt: skip
def test_rows_that_are_none_change_nothing(row):
    """A broken row, and one of another part, is skipped."""
    one = events()
    one.record(*moved())
    before = one.everything()
    one.merge([row])
    assert one.everything() == before
