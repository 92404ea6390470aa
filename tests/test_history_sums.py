"""history/sums.py and history/table.py: what the status, the metrics and the table of usage are made of."""

import asyncio
import csv
import io
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from msgspec.structs import replace
from test_history_exchange import RECORDS, old_rows
from test_history_queries import DAY, HOUR, NOW, RECORD, Clock

from claude_proxy.history.periods import DAY_DAYS, HOUR_DAYS
from claude_proxy.history.service import History
from claude_proxy.usage.numbers import TOTAL
from claude_proxy.usage.used import Range

pytestmark = pytest.mark.anyio

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.fixture
async def history():
    one = of(None)
    yield one
    await one.close()


def of(path, clock=None, **more):
    clock = clock or Clock()
    one = History(path, clock=clock, **more)
    one.clock = clock
    return one


async def requests(one):
    used = await one.used()
    return {found.value: used.of(found).total().requests for found in Range}


async def test_ranges_are_days_of_the_time_zone(history):
    """Today, seven days with today, and the calendar week and month are made of days in the time zone."""
    for back in (40 * DAY, 10 * DAY, 3 * DAY, 1 * DAY, 15 * HOUR, 0):  # 18 November is a Wednesday
        history.clock.now = NOW - back
        history.record(RECORD)
    assert await requests(history) == {"today": 1, "week": 4, "calendar week": 3, "calendar month": 5}
    assert (await history.used()).since == "2026-10-09"
    berlin = of(None, history.clock, zone=lambda: BERLIN)
    for back in (15 * HOUR, 14 * HOUR):  # 0:30 and 1:30 in Berlin
        history.clock.now = NOW - back
        berlin.record(RECORD)
    history.clock.now = NOW
    assert (await requests(berlin))["today"] == 2
    await berlin.close()


async def test_what_is_kept_is_never_old(tmp_path):
    """Sums follow each request, those of other processes in this and in earlier hours, a new hour, a new day and a closing."""
    clock = Clock()
    one, other = (of(tmp_path / "history.sqlite", clock) for _ in range(2))
    total = 0
    for step in range(12 * 24):
        clock.now = NOW + step * HOUR
        for process in (one, other) if step % 3 else (other,):
            process.record(RECORD)
            total += 1
        await other.flush()
        if step % 5 == 0:
            clock.now -= HOUR
            other.record(RECORD)  # which comes late
            total += 1
            clock.now += HOUR
            await other.flush()
            assert (await one.counted()).totals["anna", "opus", "anthropic/opus", "first"][0] == total
            used = await one.used()
            assert used == await of_new(tmp_path / "history.sqlite", clock)
    for process in (one, other):
        await process.close()


async def of_new(path, clock):
    """The sums of a process that has kept nothing."""
    one = of(path, clock)
    found = await one.used()
    await one.close()
    return found


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 200), RECORDS), max_size=15))
async def test_all_sums_agree(steps):
    """The metrics, the table and the status count the same requests, whatever is closed."""
    one = of(None)
    for hours, record in steps:
        one.clock.now += hours * HOUR
        one.record(record)
        await one.flush()
    counted, used = await one.counted(), await one.used()
    lines = [*csv.DictReader(io.StringIO(await one.table()))]
    assert sum(int(line["requests"]) for line in lines) == sum(counts[0] for counts in counted.totals.values()) == len(steps)
    assert sum(sum(numbers[TOTAL]) for numbers in counted.times.values()) == len(steps)
    today = datetime.fromtimestamp(one.clock.now, UTC).date().isoformat()
    assert sum(int(line["requests"]) for line in lines if line["period"] == today) == used.of(Range.TODAY).total().requests
    for by in (("user",), ("period", "project"), ("groups", "credential")):
        part = [*csv.DictReader(io.StringIO(await one.table(by)))]
        assert sum(int(line["requests"]) for line in part) == len(steps)
        assert len({tuple(line[name] for name in by) for line in part}) == len(part)
    await one.close()


async def test_a_table_since_a_day(history):
    """Days before the first one are left out; a month that contains it is whole."""
    for back in (DAY_DAYS + 60, HOUR_DAYS + 2, 2, 0):
        history.clock.now = NOW - back * DAY
        history.record(RECORD)
        await history.flush()
    for _ in range(3):
        await history.flush()

    async def found(first):
        return [line["period"] for line in csv.DictReader(io.StringIO(await history.table(first=first)))]

    assert await found("") == ["2025-08", "2026-11-08", "2026-11-16", "2026-11-18"]
    assert await found("2026-11-16") == ["2026-11-16", "2026-11-18"]
    assert (await found("2025-08-20"))[0] == "2025-08"
    assert (await found("2025-09-01"))[0] == "2026-11-08"


async def test_times_of_version_0_1_0_keep_their_models():
    """The times that the earlier version kept by model stay in the metrics under the name of the model."""
    one = of(None, listed=lambda _: False)
    one.exchange.merge(old_rows())
    for _ in range(4):
        await one.flush()
    counted = await one.counted()
    times = {model: sum(numbers[TOTAL]) for model, numbers in counted.times.items()}
    assert {model: count for model, count in times.items() if count} == {"opus": 9}
    await one.close()


async def test_several_ask_at_once(history):
    """Requests for sums at the same time each get everything that was recorded before them."""
    history.record(RECORD)
    history.record(replace(RECORD, user="ben"))
    for used in await asyncio.gather(*(history.used() for _ in range(5))):
        assert sorted(used.of(Range.TODAY).by_user()) == ["anna", "ben"]
        assert used.of(Range.TODAY).by_user("ben").keys() == {"ben"}
