"""usage/periods.py: days, weeks and months in a time zone."""

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import hypothesis.strategies as st
import pytest
from hypothesis import given

from claude_proxy.config.budgets import Period
from claude_proxy.usage.periods import day_at, days_of, moment, resets_at

BERLIN, AUCKLAND = ZoneInfo("Europe/Berlin"), ZoneInfo("Pacific/Auckland")
# In these two, a clock change happens at midnight.
BEIRUT, SAO_PAULO = ZoneInfo("Asia/Beirut"), ZoneInfo("America/Sao_Paulo")
HOUR = 3600.0


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("zone", "moment", "day"),
    [
        (UTC, "2026-11-30T23:59:59", "2026-11-30"),
        (BERLIN, "2026-11-30T22:59:59", "2026-11-30"),
        (BERLIN, "2026-11-30T23:00:00", "2026-12-01"),
        (BERLIN, "2026-07-31T22:00:00", "2026-08-01"),
        (AUCKLAND, "2026-12-31T11:00:00", "2027-01-01"),
        (ZoneInfo("America/Los_Angeles"), "2027-01-01T07:59:59", "2026-12-31"),
    ],
)
def test_a_day_is_a_date_in_the_time_zone(zone, moment, day):
    """A request belongs to the date that a calendar in the time zone shows."""
    assert day_at(at(moment), zone).isoformat() == day


@pytest.mark.parametrize(
    ("period", "day", "first", "last", "count"),
    [
        (Period.DAY, "2026-11-30", "2026-11-30", "2026-11-30", 1),
        (Period.WEEK, "2026-11-30", "2026-11-30", "2026-12-06", 7),  # a Monday
        (Period.WEEK, "2026-11-29", "2026-11-23", "2026-11-29", 7),  # a Sunday
        (Period.WEEK, "2027-01-01", "2026-12-28", "2027-01-03", 7),
        (Period.MONTH, "2026-11-30", "2026-11-01", "2026-11-30", 30),
        (Period.MONTH, "2026-12-31", "2026-12-01", "2026-12-31", 31),
        (Period.MONTH, "2028-02-10", "2028-02-01", "2028-02-29", 29),
    ],
)
def test_the_days_of_a_period(period, day, first, last, count):
    """A week goes from Monday to Sunday, also over the end of a month or year; a month has its days."""
    days = days_of(period, date.fromisoformat(day))
    assert (days[0], days[-1], len(days)) == (first, last, count)


@pytest.mark.parametrize(
    ("period", "zone", "day", "end"),
    [
        (Period.DAY, BERLIN, "2026-11-30", "2026-11-30T23:00:00"),
        (Period.MONTH, BERLIN, "2026-11-30", "2026-11-30T23:00:00"),
        (Period.WEEK, BERLIN, "2026-12-01", "2026-12-06T23:00:00"),
        # The clocks go back on 25 October, and forward on 29 March.
        (Period.DAY, BERLIN, "2026-10-25", "2026-10-25T23:00:00"),
        (Period.DAY, BERLIN, "2026-03-29", "2026-03-29T22:00:00"),
        (Period.MONTH, BERLIN, "2026-10-01", "2026-10-31T23:00:00"),
        # 29 March 2026 starts at 01:00 in Beirut; 18 February 2018 started an hour late in Sao Paulo.
        (Period.DAY, BEIRUT, "2026-03-28", "2026-03-28T22:00:00"),
        (Period.DAY, SAO_PAULO, "2018-02-17", "2018-02-18T03:00:00"),
    ],
)
def test_a_period_ends_with_the_first_moment_of_the_next_one(period, zone, day, end):
    """A period resets when the next one's first day starts in the time zone, also if the clocks change."""
    assert resets_at(period, date.fromisoformat(day), zone) == at(end)


@given(
    now=st.floats(at("1990-01-01"), at("2060-01-01")),
    period=st.sampled_from(Period),
    zone=st.sampled_from([UTC, BERLIN, AUCKLAND, BEIRUT, SAO_PAULO, ZoneInfo("America/St_Johns"), ZoneInfo("Asia/Kathmandu")]),
)
def test_now_is_in_its_period_and_the_reset_is_in_the_next_one(now, period, zone):
    """The present day belongs to its period, the reset is later, and a moment after it belongs to the next period."""
    today = day_at(now, zone)
    days, reset = days_of(period, today), resets_at(period, today, zone)
    assert today.isoformat() in days
    assert now < reset
    after = day_at(reset + 1, zone).isoformat()
    assert after > days[-1]
    assert day_at(reset - 2 * HOUR, zone).isoformat() <= days[-1]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tomorrow", "2026-10-25T00:00:00+02:00"),
        ("2026-10-26", "2026-10-26T00:00:00+01:00"),
        (" 18:00 ", "2026-10-24T18:00:00+02:00"),
        ("12:00", "2026-10-25T12:00:00+01:00"),
        ("2026-10-24 12:00:01", "2026-10-24T12:00:01+02:00"),
        ("2026-10-25T12:00", "2026-10-25T12:00:00+01:00"),
        ("2026-10-24T12:00:01-05:00", "2026-10-24T12:00:01-05:00"),
        ("2026-10-25T00:00Z", "2026-10-25T00:00:00+00:00"),
    ],
)
def test_the_moment_that_a_text_names(text, expected):
    """A day begins at 00:00, a time is the next one, and both are in the time zone, also across a change of clocks."""
    berlin = ZoneInfo("Europe/Berlin")
    now = datetime(2026, 10, 24, 12, tzinfo=berlin).timestamp()
    assert moment(text, now, berlin) == datetime.fromisoformat(expected).timestamp()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "today",
        "2026-10-24",
        "2026-10-24 12:00",
        "25:00",
        "12:00+02:00",
        "18:00Z",
        "tomorrow 12:00",
        "0001-01-01",
        "9999-12-31T23:59-23:00",
    ],
)
def test_a_text_that_names_no_moment_to_come(text):
    """Another text, and a moment that is past, are errors."""
    berlin = ZoneInfo("Europe/Berlin")
    with pytest.raises(ValueError, match=r"."):
        moment(text, datetime(2026, 10, 24, 12, tzinfo=berlin).timestamp(), berlin)
