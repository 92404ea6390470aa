"""history/exchange.py: replicas that share their history, and what version 0.1.0 left in the store."""

import asyncio
import base64
import json
import zlib
from contextlib import asynccontextmanager

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from msgspec.structs import replace
from recorded import Recorded
from test_history_queries import DAY, HOUR, NOW, RECORD, Clock, show

from claude_proxy.anthropic.usage import Usage
from claude_proxy.history import page_text, schema
from claude_proxy.history.exchange import MAX_WRITTEN, SHARE_SECONDS, place_of, row_of
from claude_proxy.history.page import MAX_CLOSED, Page
from claude_proxy.history.page_text import MAX_BYTES, InvalidPage
from claude_proxy.history.periods import HOUR_DAYS
from claude_proxy.history.schema import Place
from claude_proxy.history.service import History
from claude_proxy.state.rows import Row
from claude_proxy.usage.numbers import MAX_NUMBER, Names, numbers_of_totals, percentiles
from claude_proxy.usage.record import Record

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def several(count=3, clock=None, *, shares=True, listed=lambda _: True):
    """Replicas of one proxy, each with a database of its own."""
    clock = clock or Clock()
    found = [History(None, clock=clock, shares=shares, listed=listed) for _ in range(count)]
    for one in found:
        one.clock = clock
        await flush(one)
    yield found
    for one in found:
        await one.close()


async def flush(one):
    """Write what there is, and what reading it has brought."""
    for _ in range(4):
        assert await one.flush()


async def changes(one):
    """The rows that a replica shares now."""
    one.exchange.flush_next()
    rows = one.exchange.changed()
    await flush(one)
    one.exchange.flush_next()
    return rows + one.exchange.changed()


async def exchange(replicas):
    """Everybody gets what everybody shares."""
    rows = [row for one in replicas for row in await changes(one)]
    for one in replicas:
        one.exchange.merge(rows)
        await flush(one)
    return rows


async def numbers(one, **view):
    found = await show(one, **({"range": "30d", "by": "user"} | view))
    return {row["name"]: (row["requests"], row["usd"]) for row in found["rows"]}


async def test_replicas_add_up():
    """What several replicas counted is summed in each of them, and rows that come again change nothing."""
    async with several() as replicas:
        for number, one in enumerate(replicas):
            one.record(replace(RECORD, user=f"user-{number}"))
            one.record(RECORD)
        rows = await exchange(replicas)
        assert sorted(row.key.split(":")[1] for row in rows) == ["2026-11-18T14"] * 3
        expected = {"anna": (3, 4.5)} | {f"user-{number}": (1, 1.5) for number in range(3)}
        for one in replicas:
            one.exchange.merge(rows[::-1])
            await flush(one)
            assert await numbers(one) == expected
        assert await exchange(replicas) == [], "what came from others is no change"


async def test_a_page_is_shared_once_in_a_while_and_at_the_end():
    """A page that changes all the time is shared once a second, and at once when the process is about to end."""
    async with several(1) as (one,):
        one.record(RECORD)
        assert len(one.exchange.changed()) == 1
        one.record(RECORD)
        assert one.exchange.changed() == []
        one.clock.now += SHARE_SECONDS
        assert len(one.exchange.changed()) == 1
        one.record(RECORD)
        one.exchange.flush_next()
        assert len(one.exchange.changed()) == 1


async def test_a_large_page_is_shared_from_the_database():
    """A page that takes long to write as text is shared once it is in the database, with everything that was recorded."""
    async with several(2) as (one, other):
        for number in range(MAX_WRITTEN + 50):
            one.record(replace(RECORD, user=f"user-{number % 150}", project=f"project-{number % 7}"))
        assert one.exchange.changed() == []
        one.record(RECORD)
        rows = await changes(one)
        other.exchange.merge(rows)
        await flush(other)
        assert (len(rows), await numbers(other)) == (1, await numbers(one))
        assert (await show(other))["total"]["requests"] == MAX_WRITTEN + 51


async def test_a_new_replica_and_a_store_that_lost_everything():
    """A replica that starts later finds all that is in the store; a store that lost its rows gets all of them again."""
    async with several(2) as (first, second):
        for back in (12, 9, 3, 0):
            first.clock.now = NOW - back * DAY
            first.record(RECORD)
            await exchange([first, second])
        first.clock.now = NOW + HOUR
        await exchange([first, second])
        rows = second.exchange.everything()
        for _ in range(3):
            rows += await changes(second)
        assert sorted(row.key.split(":")[1] for row in rows) == ["2026-11-06", "2026-11-09", "2026-11-15T14", "2026-11-18T14"]
        async with several(1, first.clock) as (third,):
            third.exchange.merge(rows)
            await flush(third)
            assert await numbers(third) == await numbers(first) == {"anna": (4, 6.0)}


async def test_a_closed_day_replaces_its_hours_wherever_it_comes():
    """The page of a closed day counts once, before, after and between the hours that are in it; the fuller of two stays."""
    async with several(3) as (first, second, third):
        for one in (first, second):
            one.record(RECORD)
        hours = await exchange([first, second])
        first.record(RECORD)
        await changes(first)  # which nobody gets
        first.clock.now = NOW + (HOUR_DAYS + 1) * DAY
        for one in (first, second):
            await flush(one)
        (full,), (scarce,) = await changes(first), await changes(second)
        assert full.key == scarce.key == "history-day:2026-11-18"
        assert full.stamp > scarce.stamp
        for order in ((*hours, full, scarce), (scarce, *hours, full), (full, scarce, *hours)):
            for row in order:
                third.exchange.merge([row])
                await third.flush()
            assert await numbers(third) == {"anna": (3, 4.5)}
        assert await third.read(schema.places) == [Place("2026-11-18")]


async def test_workers_with_one_file_share_no_rows(tmp_path):
    """Processes with one file find each other's numbers in it, and share nothing through the store."""
    workers = [History(tmp_path / "history.sqlite", clock=Clock()) for _ in range(2)]
    for one in workers:
        one.clock = Clock()
        one.record(RECORD)
    await asyncio.gather(*(one.flush() for one in workers))
    for one in workers:
        assert (one.exchange.changed(), one.exchange.everything()) == ([], [])
        one.exchange.merge([row_of(Place("2026-11-18T14", "x"), Page())])
        assert await numbers(one) == {"anna": (2, 3.0)}
        await one.close()


RECORDS = st.builds(
    Record, at=st.just(NOW), user=st.sampled_from(["anna", "ben", "=\n"]), requested=st.sampled_from(["m", "n"]),
    served=st.sampled_from(["p/m", ""]), credential=st.sampled_from(["x", ""]), status=st.sampled_from([200, 429, 499]),
    first_byte_seconds=st.integers(0, 900), seconds=st.integers(0, 900), usage=st.builds(Usage, *[st.integers(-1, 1000)] * 4),
    failovers=st.lists(st.sampled_from(["x: limit", "nothing"]), max_size=2).map(tuple), cost=st.none() | st.integers(0, 10**6),
    groups=st.sampled_from([(), ("a",), ("a", "b")]), project=st.sampled_from(["", "p"]),
)  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(st.lists(RECORDS, max_size=12), st.sampled_from([(), ("m",), ("m", "n")]))
def test_requests_count_together_as_one_by_one(records, listed):
    """Requests that are recorded together have the sums, the failovers and the errors of those that are recorded in turn."""
    each, together = Recorded(clock=Clock(), listed=listed.__contains__), Recorded(clock=Clock(), listed=listed.__contains__)
    for record in records:
        each.record(record)
    together.record(*records)
    assert together.csv() == each.csv()
    assert together.counted() == each.counted()
    assert together.events.failovers() == each.events.failovers()
    assert together.events.errors() == each.events.errors()


# Who counts, how many days later, and what.
STEPS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 5), RECORDS), max_size=12)


@settings(max_examples=25, deadline=None)
@given(STEPS, st.randoms(use_true_random=False))
async def test_sums_are_right_in_any_order(steps, random):
    """Whatever versions of pages arrive, in whatever order and however often, the sums are those of all records."""
    views = [{"by": by, "range": "90d"} for by in ("none", "user", "group", "model", "credential", "project")]
    async with several(4) as (alone, *replicas), several(1, alone.clock) as (reader,):
        rows = []
        for number, days, record in steps:
            alone.clock.now += days * DAY + 1
            replicas[number].record(record)
            alone.record(record)
            shared = await changes(replicas[number])
            rows += shared
            for one in replicas:  # as a store does: no process is without the others for a week
                one.exchange.merge(shared)
                await flush(one)
        random.shuffle(rows)
        reader.exchange.merge([*rows, *rows[: len(rows) // 2]])
        await flush(reader)
        for one in (reader, *replicas):
            for view in views:
                found, expected = await show(one, **view), await show(alone, **view)
                assert (found["total"], found["rows"]) == (expected["total"], expected["rows"])


# --- pages as text -----------------------------------------------------------------------------------------------------------


def test_a_page_as_text_is_the_same_page():
    """A page that is written and read again is the same."""
    page = Page()
    page.add(Names("anna", "a,b", "m", "p/m", "c", ""), numbers_of_totals((1, 0, 2, 3, 4, 5, 6, 7, 8)))
    page.add_left("c", 3)
    again = page_text.read(page_text.written(page), 5.0, lambda _: True, is_closed=False)
    assert (again.entries, again.left, again.stamp) == (page.entries, page.left, 5.0)


GOOD = {"names": ["anna", "", "m"], "usage": [[0, 1, 2, 1, 1, 1, 0, 7]], "left": {"c": 1}}


@pytest.mark.parametrize(
    "change",
    [
        {"names": [1]}, {"names": None}, {"usage": [[0, 1, 2]]}, {"usage": [[0, 1, 2, 1, 1, 9, 0, 7]]}, {"left": {"c": -1}},
        {"usage": [[0, 1, 2, 1, 1, 1, 999, 7]]}, {"usage": [[0, 1, 2, 1, 1, 1, 0]]}, {"usage": [[0, 1, 2, 1, 1, 1, 0, -7]]},
        {"usage": [[0, 1, 2, 1, 1, 1, 0, 1.5]]}, {"usage": [[0, 1, 2, 1, 1, 1, 0, MAX_NUMBER * 2]]}, {"left": []},
        {"usage": [[0, 1, 2, 1, 1, -1, 0, 7]]}, {"usage": [[True, 1, 2, 1, 1, 1, 0, 7]]}, {"names": ["x"] * 10 * MAX_CLOSED},
    ],
)  # fmt: skip
def test_what_is_no_page_is_not_read(change):
    """A page with an invalid number, place or text is none."""
    page_text.read(json.dumps(GOOD), 1.0, lambda _: True, is_closed=False)
    bomb = base64.b64encode(zlib.compress(json.dumps(GOOD).encode() + b" " * 2 * MAX_BYTES)).decode()
    deep = '{"names": ' + "[" * 100_000
    for text in (json.dumps(GOOD | change), json.dumps(GOOD | change)[:-1], "[]", "", "\ud800", deep, bomb, bomb[:-9]):
        with pytest.raises(InvalidPage):
            page_text.read(text, 1.0, lambda _: True, is_closed=False)


def test_what_is_read_is_clean():
    """Texts are printable, short and of one case for users; entries that become one are added, and made-up names bounded."""
    value = {
        "names": ["An\x1b[2Jna", "an\x1b[2jNA", "m\n", "", "x" * 1000],
        "usage": [[0, 3, 2, 3, 3, 3, 0, 1], [1, 3, 2, 3, 3, 3, 0, 2], [4, 4, 4, 4, 4, 4, 0, 4]],
        "left": {"x" * 1000: 1},
    }
    page = page_text.read(json.dumps(value), 1.0, lambda model: model.startswith("m"), is_closed=False)
    assert page.entries[Names("an\\x1b[2jna", "", "m\\n", "", "", "")][0] == 3
    assert all(text.isprintable() and len(text) <= 400 for names in (*page.entries, page.left) for text in names)
    assert sum(numbers[0] for numbers in page.entries.values()) == 7


@pytest.mark.parametrize(
    "row",
    [
        Row("history-hour:2026-11-18T14:x", NOW, "no JSON"), Row("history-day:2026-11-18", float("nan"), json.dumps(GOOD)),
        Row("history-hour:2026-11-18T14", NOW, json.dumps(GOOD)), Row("history-day:2026-11-18:x", NOW, json.dumps(GOOD)),
        Row("history-day:9999-99-99", NOW, json.dumps(GOOD)), Row("history-day:2036-11-18", NOW, json.dumps(GOOD)),
        Row("history-hour:2026-11-18T99:x", NOW, json.dumps(GOOD)), Row("history-day:2006-11-18", NOW, json.dumps(GOOD)),
        Row("history-day:2026-11-18", NOW + 30 * DAY, json.dumps(GOOD)), Row("history-month:2026-13", NOW, json.dumps(GOOD)),
        Row("history-hour:" + "x" * 5000, NOW, json.dumps(GOOD)), Row("usage:2026-11-18:x", NOW, json.dumps(GOOD)),
        Row("usage:no-day:x", 1.0, "[]"), Row("month:2026-99", 1.0, "[]"), Row("salt", 0.0, '"x"'), Row("events:x", 1.0, "{}"),
    ],
)  # fmt: skip
async def test_rows_that_are_none_of_the_history_change_nothing(row):
    """A broken row, one of a period far away, and one of another part are skipped; the next row is taken over."""
    async with several(1) as (one,):
        one.exchange.merge([row, Row("history-hour:2026-11-18T13:x", NOW, json.dumps(GOOD))])
        await flush(one)
        assert await numbers(one) == {"anna": (7, 0.0)}
        assert one.database.unavailable is False


def test_keys_have_one_place():
    """A row's key names a page, and only a key of that form does."""
    for place in (Place("2026-11-18T14", "w"), Place("2026-11-18"), Place("2026-11")):
        assert place_of(row_of(place, Page()).key) == place


# --- version 0.1.0 -----------------------------------------------------------------------------------------------------------

OLD_DAY = [
    [["taken", "Anna", "opus", "anthropic/opus", "first"], [3, 1, 10, 20, 30, 40, 1]],
    [["first_byte", "opus"], [0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 4.5]],
    [["total", "opus"], [0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 20.0]],
    [["moved", "second"], [1]],
    [["spent"], [[0, 2_000_000, 1]]],
]  # fmt: skip
OLD_MONTH = [[["taken", "ben", "haiku", "anthropic/haiku", "first"], [5, 0, 1, 1, 1, 1, 0]]]


def old_rows():
    """What 0.1.0 leaves: the days of two processes, and a month with a day of it that is not pruned yet."""
    return [
        Row("usage:2026-11-17:aa", NOW - DAY, json.dumps(OLD_DAY)), Row("usage:2026-11-17:bb", NOW - DAY, json.dumps(OLD_DAY)),
        Row("usage:2026-10-30:aa", NOW - 18 * DAY, json.dumps(OLD_DAY)),
        Row("usage:2026-08-15:aa", NOW - 90 * DAY, json.dumps(OLD_MONTH)), Row("month:2026-08", NOW, json.dumps(OLD_MONTH)),
    ]  # fmt: skip


@pytest.mark.parametrize("shares", [False, True])
async def test_the_usage_of_version_0_1_0_is_taken_over_once(shares):
    """Days and months of the earlier ledger count once, however often the store is read, and whatever is closed since."""
    async with several(1, shares=shares) as (one,):
        for _ in range(3):
            for rows in (old_rows(), old_rows()[::-1]):
                one.exchange.merge(rows)
                await flush(one)
            assert await numbers(one, range="365d", step="month") == {"anna": (9, 6.0), "ben": (5, 0.0)}
            one.clock.now += 5 * DAY
        found = await show(one, range="365d", step="month", by="model")
        opus, _ = found["rows"]
        assert (opus["errors"], opus["failovers"], opus["input"], opus["unpriced"]) == (3, 3, 30, 3)
        assert (opus["first_byte_p50"], found["since"]) == (
            percentiles([0] * 5 + [3, 0, 0, 6] + [0] * 12, (0.5,))[0],
            "2026-08",
        )
        assert dict(await one.read(departures)) == {"second": 3}


def departures(connection):
    return connection.execute("SELECT text, SUM(count) FROM departure JOIN name ON id = name GROUP BY 1").fetchall()


async def test_replicas_take_over_the_earlier_usage_once():
    """Several replicas each read the earlier rows, close and share them; the sums stay."""
    async with several(2) as replicas:
        for one in replicas:
            one.exchange.merge(old_rows())
            await flush(one)
        for _ in range(3):
            await exchange(replicas)
            for one in replicas:
                one.exchange.merge(old_rows())
                assert await numbers(one, range="365d", step="month") == {"anna": (9, 6.0), "ben": (5, 0.0)}
            replicas[0].clock.now += 5 * DAY
        async with several(1, replicas[0].clock) as (later,):
            rows = replicas[0].exchange.everything()
            for _ in range(3):
                rows += await changes(replicas[0])
            later.exchange.merge([*old_rows(), *rows, *old_rows()])
            await flush(later)
            assert await numbers(later, range="365d", step="month") == {"anna": (9, 6.0), "ben": (5, 0.0)}
