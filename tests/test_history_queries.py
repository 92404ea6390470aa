"""history/queries.py: what a view shows, from the database alone."""

from dataclasses import replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from msgspec.structs import replace as changed

from claude_proxy.anthropic.usage import Usage
from claude_proxy.history import queries
from claude_proxy.history.queries import MAX_ROWS, lines, shown
from claude_proxy.history.service import History
from claude_proxy.history.view import read_view
from claude_proxy.usage.record import Record

pytestmark = pytest.mark.anyio

HOUR, DAY = 3600.0, 86400.0
NOW = datetime(2026, 11, 18, 14, 30, tzinfo=UTC).timestamp()
RECORD = Record(
    at=NOW, user="anna", requested="opus", served="anthropic/opus", credential="first", status=200, first_byte_seconds=1.2,
    seconds=9.0, usage=Usage(10, 20, 30, 40), cost=1_500_000, groups=("team-a",), project="website",
)  # fmt: skip


class Clock:
    def __init__(self, now=NOW):
        self.now = now

    def __call__(self):
        return self.now


@pytest.fixture
async def history():
    clock = Clock()
    one = History(None, clock=clock)
    one.clock = clock
    yield one
    await one.close()


def fill(history, *records):
    """Record requests, each some hours before ``NOW``."""
    for back, record in sorted(records, key=lambda pair: -pair[0]):
        history.clock.now = NOW - back * HOUR
        history.record(record)
    history.clock.now = NOW


async def show(history, zone=UTC, *, only_user=None, hidden=(), **parameters):
    pairs = [
        (name.rstrip("_"), one) for name, value in parameters.items() for one in ([value] if isinstance(value, str) else value)
    ]
    view = replace(read_view(pairs, history.clock.now, zone), only_user=only_user, hidden=frozenset(hidden))
    return shown(view, await history.find(view))


async def test_a_request_is_shown_with_all_its_numbers(history):
    """A view has the sums, the course in each period of the range, and rates and percentiles of what is known."""
    fill(
        history,
        (0, RECORD),
        (2, changed(RECORD, status=500, error="api_error", failovers=("first: limit (HTTP 429)",))),
    )
    found = await show(history, by="model")
    assert (found["zone"], found["step"], found["by"], found["since"]) == ("UTC", "hour", "model", "2026-11-18T12")
    assert len(found["periods"]) == 24
    assert found["periods"][-3:] == ("2026-11-18T12", "2026-11-18T13", "2026-11-18T14")
    total = found["total"]
    series = total.pop("series")
    assert total == {
        "requests": 2, "errors": 1, "failovers": 1, "input": 20, "output": 40, "cache_read": 60, "cache_write": 80, "usd": 3.0,
        "unpriced": 0, "cache_hit_rate": 0.375, "first_byte_p50": 1.2, "first_byte_p95": 1.38,
    }  # fmt: skip
    assert series["requests"] == [*[0] * 21, 1, 0, 1]
    assert series["usd"] == [*[0] * 21, 1.5, 0, 1.5]
    assert series["first_byte_p50"][-3:] == [1.2, None, 1.2]
    assert [row["name"] for row in found["rows"]] == ["opus"]
    assert found["names"] == {
        "user": ["anna"], "group": ["team-a"], "model": ["opus"], "credential": ["first"], "project": ["website"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ("user", {"anna": 2, "ben": 1}), ("model", {"opus": 2, "haiku": 1}), ("credential", {"first": 2, "second": 1}),
        ("project", {"website": 2, "": 1}), ("group", {"team-a": 3, "team-b": 1}), ("none", {}),
    ],
)  # fmt: skip
async def test_usage_is_split(history, by, expected):
    """Each dimension splits the same usage; a request of a user in two groups is in the row of both."""
    ben = changed(RECORD, user="Ben", requested="haiku", credential="second", project="", groups=("team-a", "team-b"))
    fill(history, (0, RECORD), (1, RECORD), (1, ben))
    found = await show(history, by=by)
    assert {row["name"]: row["requests"] for row in found["rows"]} == expected
    assert found["total"]["requests"] == 3


async def test_filters_narrow(history):
    """Filters of one dimension add up, those of several narrow; what can be filtered stays the same."""
    others = [changed(RECORD, user=name, requested=model) for name in ("ben", "cara") for model in ("opus", "haiku")]
    fill(history, (0, RECORD), *((1, one) for one in others))
    for parameters, requests in [
        ({"user": "Anna"}, 1), ({"user": ["anna", "ben"]}, 3), ({"user": "ben", "model": "haiku"}, 1), ({"user": "nobody"}, 0),
        ({"group": "team-a"}, 5), ({"group": "team"}, 0), ({"project": ""}, 0), ({"credential": "first' OR 1=1 --"}, 0),
    ]:  # fmt: skip
        found = await show(history, by="user", **parameters)
        assert found["total"]["requests"] == requests, parameters
        assert found["names"]["user"] == ["anna", "ben", "cara"]


async def test_a_viewer_sees_their_own_usage(history):
    """Who may not see every user finds neither others' numbers nor others' names, and reserved credentials as one."""
    fill(
        history,
        (0, RECORD),
        (0, changed(RECORD, user="ben", requested="secret-model", project="plans", credential="second")),
    )
    for by in ("user", "model", "credential", "project", "group"):
        found = await show(history, by=by, only_user="anna", hidden={"first"})
        assert found["total"]["requests"] == 1
        assert not {"ben", "secret-model", "plans", "second", "first"} & set(str(found).replace("'", " ").split())
    found = await show(history, by="credential", user="ben", only_user="anna")
    assert (found["rows"], found["total"]["requests"]) == ([], 0)
    found = await show(history, by="credential", credential="other", only_user="anna", hidden={"first"})
    assert [row["name"] for row in found["rows"]] == ["other"]
    assert (await show(history, credential="first", only_user="anna", hidden={"first"}))["total"]["requests"] == 0


async def test_days_are_those_of_the_time_zone(history):
    """An hour is part of the day in which it starts in the configured time zone."""
    fill(history, (15, RECORD), (14, RECORD), (0, RECORD))  # 23:30, 00:30 and 14:30 UTC
    found = await show(history, range="7d", step="day")
    assert found["total"]["series"]["requests"][-2:] == [1, 2]
    found = await show(history, ZoneInfo("Europe/Berlin"), range="7d", step="day")
    assert found["total"]["series"]["requests"][-2:] == [0, 3]
    found = await show(history, from_="2026-11-17", to="2026-11-17")
    assert (len(found["periods"]), found["total"]["requests"]) == (24, 1)
    found = await show(history, range="365d", step="month")
    assert (found["periods"][-1], found["total"]["series"]["requests"][-1]) == ("2026-11", 3)


async def test_many_names_end_in_one_row(history):
    """A split has a bounded number of rows, the most expensive ones; the rest is one row, and sums stay whole."""
    for number in range(MAX_ROWS + 50):
        history.record(changed(RECORD, user=f"user-{number % 125}", project=f"project-{number}", cost=number))
    history.clock.now += HOUR
    for number in range(MAX_ROWS):
        history.record(changed(RECORD, project=f"later-{number}", cost=1000))
    found = await show(history, by="project")
    assert len(found["rows"]) == MAX_ROWS
    assert [row["name"] for row in found["rows"][:2]] == ["later-0", "later-1"]
    assert "other" in {row["name"] for row in found["rows"]}
    assert sum(row["requests"] for row in found["rows"]) == found["total"]["requests"] == 2 * MAX_ROWS + 50
    assert len(found["names"]["project"]) == MAX_ROWS


async def test_lines_of_a_table(history):
    """As lines, each period and name with requests is one."""
    fill(history, (0, RECORD), (3, changed(RECORD, requested="haiku")))
    view = read_view([("by", "model")], NOW, UTC)
    found = [*lines(view, await history.find(view))]
    assert [(line["period"], line["model"], line["requests"]) for line in found] == [
        ("2026-11-18T11", "haiku", 1),
        ("2026-11-18T14", "opus", 1),
    ]
    assert {"period", "model", *queries.NUMBERS} == set(found[0])
