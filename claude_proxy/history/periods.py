"""The periods of the history: hours in UTC, days in the configured time zone, months. Plain values.

An hour is ``2026-11-30T14``, a day ``2026-11-30`` and a month ``2026-11``. An hour belongs to the day in which it starts.
"""

from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache

HOUR_SECONDS = 3600
# How long hours are kept before their days have one page each, and days before their months have one.
HOUR_DAYS = 8
DAY_DAYS = 400
# A page that is older, or that begins later than this from now, is invalid.
MAX_AGE_DAYS = 3660
MAX_AHEAD = timedelta(days=2)
HOUR_LENGTH, DAY_LENGTH, MONTH_LENGTH = len("2026-11-30T14"), len("2026-11-30"), len("2026-11")


def hour_at(now: float) -> str:
    """Return the hour of a time in Unix seconds."""
    return _hour_of(int(now // HOUR_SECONDS))


@lru_cache(maxsize=1024)
def _hour_of(number: int) -> str:
    return datetime.fromtimestamp(number * HOUR_SECONDS, UTC).strftime("%Y-%m-%dT%H")


def start_of(hour: str) -> datetime:
    """Return when an hour starts; raise ValueError for another text."""
    found = datetime.strptime(hour, "%Y-%m-%dT%H").replace(tzinfo=UTC)
    if len(hour) != HOUR_LENGTH:
        raise ValueError("not an hour")
    return found


def is_hour(period: str) -> bool:
    """Return whether a period is an hour."""
    return len(period) == HOUR_LENGTH


def day_of(period: str, zone: tzinfo) -> str:
    """Return the day of an hour in a time zone; a day or month as it is."""
    return _day_of(period, zone) if is_hour(period) else period


@lru_cache(maxsize=2048)
def _day_of(hour: str, zone: tzinfo) -> str:
    return start_of(hour).astimezone(zone).date().isoformat()


def today_at(now: float, zone: tzinfo) -> date:
    """Return the date in a time zone."""
    return datetime.fromtimestamp(now, zone).date()


def day_before(day: date, count: int) -> str:
    """Return the day ``count`` days before another one."""
    return (day - timedelta(count)).isoformat()


def days_between(first: date, last: date) -> list[str]:
    """Return the days from ``first`` to ``last``, both included."""
    return [(first + timedelta(number)).isoformat() for number in range((last - first).days + 1)]


def months_between(first: date, last: date) -> list[str]:
    """Return the months from that of ``first`` to that of ``last``."""
    found = []
    month = first.replace(day=1)
    while month <= last:
        found.append(month.isoformat()[:MONTH_LENGTH])
        month = (month + timedelta(31)).replace(day=1)
    return found


def last_hours(now: float, count: int) -> list[str]:
    """Return the last hours, the current one included, the oldest first."""
    return [hour_at(now - HOUR_SECONDS * back) for back in reversed(range(count))]


def is_day(text: str) -> bool:
    """Return whether a text is a day."""
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def end_of(period: str) -> float:
    """Return when a day or a month ends by UTC, in Unix seconds."""
    if len(period) == DAY_LENGTH:
        after = date.fromisoformat(period) + timedelta(1)
    else:
        after = (date.fromisoformat(f"{period}-01") + timedelta(31)).replace(day=1)
    return datetime(after.year, after.month, after.day, tzinfo=UTC).timestamp()


def check(period: str, now: float) -> None:
    """Raise ValueError for a text that is no period, and for a period that is long ago or in the future."""
    if is_hour(period):
        start = start_of(period)
    else:
        day = period if len(period) == DAY_LENGTH else f"{period}-01"
        found = date.fromisoformat(day)
        if found.isoformat() != day:
            raise ValueError("not a period")
        start = datetime(found.year, found.month, found.day, tzinfo=UTC)
    age = datetime.fromtimestamp(now, UTC) - start
    if not -MAX_AHEAD <= age <= timedelta(days=MAX_AGE_DAYS):
        raise ValueError("not a period of the history")
