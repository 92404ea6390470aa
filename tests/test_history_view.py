"""history/view.py and history/periods.py: which periods a route's parameters name."""

import contextlib
from datetime import UTC
from zoneinfo import ZoneInfo

import hypothesis.strategies as st
import pytest
from hypothesis import given
from test_history_queries import NOW

from claude_proxy.history import periods
from claude_proxy.history.view import InvalidView, read_view

NEW_YORK, KOLKATA = ZoneInfo("America/New_York"), ZoneInfo("Asia/Kolkata")


@pytest.mark.parametrize(
    ("parameters", "step", "count", "first", "last"),
    [
        ({}, "hour", 24, "2026-11-17T15", "2026-11-18T14"), ({"range": "7d"}, "hour", 168, "2026-11-11T15", "2026-11-18T14"),
        ({"range": "7d", "step": "day"}, "day", 7, "2026-11-12", "2026-11-18"),
        ({"range": "36h"}, "hour", 36, "2026-11-17T03", "2026-11-18T14"),
        ({"range": "90d"}, "day", 90, "2026-08-21", "2026-11-18"), ({"range": "365d"}, "day", 365, "2025-11-19", "2026-11-18"),
        ({"range": "500d"}, "month", 17, "2025-07", "2026-11"),
        ({"range": "1d", "step": "month"}, "month", 1, "2026-11", "2026-11"),
        ({"from": "2026-11-16", "to": "2026-11-17"}, "hour", 48, "2026-11-16T00", "2026-11-17T23"),
        ({"from": "2026-11-18"}, "hour", 15, "2026-11-18T00", "2026-11-18T14"),
        ({"to": "2026-11-17"}, "hour", 24, "2026-11-17T00", "2026-11-17T23"),
        ({"from": "2026-01-01", "to": "2026-01-31"}, "day", 31, "2026-01-01", "2026-01-31"),
        # Hours are kept for eight days.
        ({"from": "2026-11-10", "to": "2026-11-10"}, "hour", 24, "2026-11-10T00", "2026-11-10T23"),
        ({"from": "2026-11-09", "to": "2026-11-09"}, "day", 1, "2026-11-09", "2026-11-09"),
    ],
)  # fmt: skip
def test_ranges(parameters, step, count, first, last):
    """A range ends now and has a usual step; days are whole."""
    view = read_view(parameters.items(), NOW, UTC)
    assert (view.step, len(view.periods), view.periods[0], view.periods[-1]) == (step, count, first, last)


def test_days_of_other_time_zones():
    """Hours belong to the day in which they start, on days of 23 and 25 hours, and where days start between hours, too."""
    at = periods.start_of("2026-11-02T12").timestamp()
    view = read_view([("from", "2026-11-01"), ("to", "2026-11-01"), ("step", "hour")], at, NEW_YORK)
    assert (len(view.periods), view.periods[0], view.periods[-1]) == (25, "2026-11-01T04", "2026-11-02T04")
    assert {view.period_of(hour) for hour in view.periods} == set(view.periods)
    days = read_view([("from", "2026-11-01"), ("to", "2026-11-01"), ("step", "day")], at, NEW_YORK)
    assert {days.period_of(hour) for hour in view.periods} == {"2026-11-01"}
    assert periods.day_of("2026-11-01T18", KOLKATA) == "2026-11-01"
    assert periods.day_of("2026-11-01T19", KOLKATA) == "2026-11-02"


NO_PERIODS = (
    "", "2026", "2026-1", "2026-11-1", "20261118", "2026-11-18T", "2026-11-18T1", "2026-11-18T24", "x" * 13,
    "2026-W47-3", "99999-01-01",
)  # fmt: skip


@pytest.mark.parametrize("period", [*NO_PERIODS, "2026-11-28", "0001-01-01", "2026-11-28T00"])
def test_what_is_no_period(period):
    """A text that is no hour, day or month is none, nor is one far ahead or long past."""
    periods.check("2026-11-18", NOW)
    with pytest.raises(ValueError, match=r"period|hour|day|month|format|isoformat|data|range"):
        periods.check(period, NOW)


@given(st.lists(st.tuples(st.sampled_from(["range", "from", "to", "step", "by", "user", "x"]), st.text(max_size=12))))
def test_any_parameters_are_read_or_refused(parameters):
    """Whatever a client sends is a view of a bounded number of periods, or refused in words."""
    with contextlib.suppress(InvalidView):
        view = read_view(parameters, NOW, UTC)
        assert 0 <= len(view.periods) <= periods.MAX_AGE_DAYS + 1
