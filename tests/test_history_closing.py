"""history/closing.py: old periods become one page, and no number changes."""

import asyncio
from datetime import UTC
from zoneinfo import ZoneInfo

import pytest
from msgspec.structs import replace
from test_history_queries import DAY, HOUR, NOW, RECORD, Clock, fill, show

from claude_proxy.history import closing, schema
from claude_proxy.history.book import HistoryBook
from claude_proxy.history.closing import MAX_MONTHS
from claude_proxy.history.page import MAX_NAMES
from claude_proxy.history.periods import DAY_DAYS, HOUR_DAYS
from claude_proxy.history.schema import CLOSED, DIMENSIONS, Place
from claude_proxy.history.service import History
from claude_proxy.history.view import NONE

pytestmark = pytest.mark.anyio

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.fixture
async def history():
    clock = Clock()
    one = History(None, clock=clock)
    one.clock = clock
    yield one
    await one.close()


async def places(history):
    return await history.read(schema.places)


async def settle(history):
    """Close everything that is due."""
    before = None
    while before != (before := await places(history)):
        await history.flush()


async def test_hours_become_days_and_days_months(history):
    """Hours are kept for ``HOUR_DAYS``, days for ``DAY_DAYS``; then a period has one page, and every sum stays."""
    records = [RECORD, replace(RECORD, user="ben", failovers=("second: limit",)), replace(RECORD, groups=("a", "b"))]
    fill(history, *((hour, record) for hour in (0, 5, 30) for record in records))
    await settle(history)
    views = [{"by": by, "range": "3650d", "step": "month"} for by in (NONE, *DIMENSIONS)]
    before = [await show(history, **view) for view in views]
    assert {len(place.period) for place in await places(history)} == {13}
    history.clock.now = NOW + (HOUR_DAYS + 1) * DAY
    await settle(history)
    assert await places(history) == [Place("2026-11-17"), Place("2026-11-18")]
    found = [await show(history, **view) for view in views]
    assert [(one["rows"], one["total"], one["names"]) for one in found] == [
        (one["rows"], one["total"], one["names"]) for one in before
    ]
    by_day = await show(history, range="30d", by="user")
    assert [(row["name"], sum(row["series"]["requests"])) for row in by_day["rows"]] == [("anna", 6), ("ben", 3)]
    history.clock.now = NOW + (DAY_DAYS + 31) * DAY
    await settle(history)
    assert await places(history) == [Place("2026-11")]
    later = [await show(history, **view) for view in views]
    assert [(one["rows"][0]["usd"], one["total"]["requests"]) for one in later if one["rows"]] == [
        (one["rows"][0]["usd"], 9) for one in before if one["rows"]
    ]
    assert await history.read(lambda connection: schema.read_page(connection, Place("2026-11")).left) == {"second": 3}


def test_a_day_ends_where_the_time_zone_says():
    """What is due is by day of the time zone, and only whole days and months are closed."""
    hours = [Place("2026-11-17T22", "a"), Place("2026-11-17T23", "b"), Place("2026-11-18T00", "a")]
    now = NOW + (HOUR_DAYS + 1) * DAY - 15 * HOUR + 60  # 23:31 UTC, which is the next day in Berlin
    assert closing.due(hours, now, UTC) == {"2026-11-17": hours[:2]}
    assert closing.due(hours, now, BERLIN) == {"2026-11-17": hours[:1], "2026-11-18": hours[1:]}
    months = [Place("2025-10-31"), Place("2025-09-30", "old"), Place("2025-09"), Place("2026-11-18", "old")]
    assert closing.due(months, NOW, UTC) == {"2025-09": [months[1]]}
    assert closing.due(months, NOW + 31 * DAY, UTC) == {
        "2025-09": [months[1]],
        "2025-10": [months[0]],
        "2026-11-18": [months[3]],
    }


async def test_what_comes_late_is_added(history):
    """An hour of a day that is closed already is added to its page."""
    fill(history, (0, RECORD))
    history.clock.now = NOW + (HOUR_DAYS + 1) * DAY
    await settle(history)
    history.clock.now = NOW
    history.record(RECORD)
    history.clock.now = NOW + (HOUR_DAYS + 1) * DAY + 2 * HOUR
    await settle(history)
    assert await places(history) == [Place("2026-11-18")]
    assert (await show(history, range="30d"))["total"]["requests"] == 2


async def test_several_processes_close_once(tmp_path):
    """Several processes with one file close its periods at the same time, and each request stays counted once."""
    clock = Clock()
    several = [History(tmp_path / "history.sqlite", clock=clock) for _ in range(4)]
    for back in range(12 * 24, 0, -3):
        clock.now = NOW - back * HOUR
        for one in several:
            one.record(RECORD)
        await asyncio.gather(*(one.flush() for one in several))
    clock.now = NOW
    for _ in range(5):
        await asyncio.gather(*(one.flush() for one in several))
    for one in several:
        one.clock = clock
        found = await show(one, range="30d")
        assert found["total"]["requests"] == 4 * 12 * 8
    closed = [place.period for place in await several[0].read(schema.places) if place.writer == CLOSED]
    assert closed == ["2026-11-06", "2026-11-07", "2026-11-08", "2026-11-09"]
    for one in several:
        await one.close()


async def test_names_that_nothing_uses_are_removed(history):
    """A name that is on no page any more is removed when a period closes, so made-up names do not pile up."""
    for hour in range(3):
        fill(history, *((hour, replace(RECORD, project=f"project-{hour}-{number}")) for number in range(150)))
        await history.flush()

    def count(connection):
        return connection.execute("SELECT count(*) FROM name WHERE text LIKE 'project-%'").fetchone()[0]

    assert await history.read(count) == 450
    history.clock.now = NOW + (HOUR_DAYS + 1) * DAY
    await settle(history)
    assert await history.read(count) == MAX_NAMES
    assert (await show(history, range="30d"))["total"]["requests"] == 450


async def test_a_wrong_clock_removes_nothing(history):
    """Months are removed by their number and not by the clock: far ahead for a moment, it costs no request."""
    for month in range(MAX_MONTHS + 5):
        place = Place(f"{2015 + month // 12}-{month % 12 + 1:02}")
        await history.database.run(lambda connection, place=place: schema.replace_page(connection, place, page_of(RECORD)))
    history.clock.now = NOW + 20 * 365 * DAY
    await settle(history)
    history.clock.now = NOW
    assert len(await places(history)) == MAX_MONTHS
    assert (await places(history))[0] == Place("2015-06")
    assert sum(counts[0] for counts in (await history.counted()).totals.values()) == MAX_MONTHS


def page_of(record):
    book = HistoryBook(clock=Clock())
    book.record(record)
    (page,) = book.pages.values()
    return page
