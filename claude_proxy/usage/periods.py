"""The days, weeks and months in which money is counted: dates in a time zone."""

from datetime import date, datetime, time, timedelta, tzinfo
from functools import lru_cache

from claude_proxy.config.budgets import Period

TOMORROW = "tomorrow"
# Later moments, from the year 5138 on, are errors, so that every time zone has a date for the others.
MAX_MOMENT = 1e11


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


def moment(text: str, now: float, timezone: tzinfo) -> float:
    """Return the moment that a text names, in Unix seconds; raise ``ValueError`` for another text and a past moment.

    - ``tomorrow``, and a date such as 2026-12-05: 00:00 of that day
    - a time such as 18:00: the next one
    - both, such as 2026-12-05 18:00, also with an offset of its own (+02:00)

    Without an offset, times are in ``timezone``.
    """
    text, today = text.strip(), day_at(now, timezone)
    try:
        found = _moment(text, now, today, timezone)
    except OverflowError:
        raise ValueError("beyond the calendar") from None
    if not now < found < MAX_MOMENT:
        raise ValueError("past, or too far away")
    return found


def _moment(text: str, now: float, today: date, timezone: tzinfo) -> float:
    if text == TOMORROW:
        return resets_at(Period.DAY, today, timezone)
    if ":" in text and not set("-+Z") & set(text.upper()):
        at = time.fromisoformat(text)
        found = datetime.combine(today, at, timezone).timestamp()
        return found if found > now else datetime.combine(today + timedelta(1), at, timezone).timestamp()
    named = datetime.fromisoformat(text)
    return (named if named.tzinfo else named.replace(tzinfo=timezone)).timestamp()


def _bounds(period: Period, day: date) -> tuple[date, date]:
    """Return the first day of a period, and the first day after it."""
    if period is Period.DAY:
        return day, day + timedelta(1)
    if period is Period.WEEK:
        monday = day - timedelta(day.weekday())
        return monday, monday + timedelta(7)
    first = day.replace(day=1)
    return first, (first + timedelta(31)).replace(day=1)
