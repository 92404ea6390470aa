"""The days, weeks and months in which money is counted: dates in a time zone."""

from datetime import date, datetime, timedelta, tzinfo
from functools import lru_cache

from claude_proxy.config.budgets import Period


def day_at(now: float, timezone: tzinfo) -> date:
    """Return the date in a time zone; ``now`` is in Unix seconds."""
    return datetime.fromtimestamp(now, timezone).date()


@lru_cache(maxsize=64)
def days_of(period: Period, day: date) -> tuple[str, ...]:
    """Return the days of the period that contains a day, as ISO dates. A week starts on Monday."""
    first, end = _bounds(period, day)
    return tuple((first + timedelta(number)).isoformat() for number in range((end - first).days))


def resets_at(period: Period, day: date, timezone: tzinfo) -> float:
    """Return when the period that contains a day ends, in Unix seconds.

    That is the first moment of the next period's first day, also if clocks change at midnight.
    """
    _, end = _bounds(period, day)
    return datetime(end.year, end.month, end.day, tzinfo=timezone).timestamp()


def _bounds(period: Period, day: date) -> tuple[date, date]:
    """Return the first day of a period, and the first day after it."""
    if period is Period.DAY:
        return day, day + timedelta(1)
    if period is Period.WEEK:
        monday = day - timedelta(day.weekday())
        return monday, monday + timedelta(7)
    first = day.replace(day=1)
    return first, (first + timedelta(31)).replace(day=1)
