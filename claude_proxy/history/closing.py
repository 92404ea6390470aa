"""Closes old periods: the hours of a day become one page, and later the days of a month. Plain functions over a connection.

Four rules:
  1. A day is closed ``HOUR_DAYS`` after it, a month when its last day is older than ``DAY_DAYS``. Sums stay as they are.
  2. All processes that have the same pages close a period to the same page. If one has less data than another, its page has the
     smaller stamp, so the other's wins.
  3. What comes for a closed period from this machine is added to it.
  4. Closing is one transaction, so it does not matter which of several processes does it, or whether one dies in between.
"""

import sqlite3
from collections.abc import Iterable
from datetime import timedelta, tzinfo

from claude_proxy.history import periods, schema
from claude_proxy.history.page import MAX_CLOSED, bounded, total_of
from claude_proxy.history.schema import CLOSED, Place
from claude_proxy.usage.numbers import Listed, Names

# How many periods are closed in one transaction, for which other processes wait.
AT_ONCE = 1
MAX_MONTHS = 130
_USING = ("SELECT name FROM departure", "SELECT name FROM rollup")
_USED = " UNION ".join([*(f'SELECT "{name}" FROM usage' for name in Names._fields), *_USING])  # noqa: S608
_REMOVE_NAMES = f"DELETE FROM name WHERE id NOT IN ({_USED})"  # noqa: S608 - names of columns only


def due(places: Iterable[Place], now: float, zone: tzinfo) -> dict[str, list[Place]]:
    """Return the periods that must be closed, each with the pages that go into it; the oldest first."""
    today = periods.today_at(now, zone)
    first_hour = (today - timedelta(periods.HOUR_DAYS)).isoformat()
    first_day = (today - timedelta(periods.DAY_DAYS)).replace(day=1).isoformat()
    found: dict[str, list[Place]] = {}
    for place in places:
        day = periods.day_of(place.period, zone)
        if len(day) == periods.DAY_LENGTH and day < first_day:
            found.setdefault(day[: periods.MONTH_LENGTH], []).append(place)
        elif (day < first_hour or len(day) == periods.MONTH_LENGTH) and (place.period != day or place.writer != CLOSED):
            found.setdefault(day, []).append(place)
    return dict(sorted(found.items()))


def close(connection: sqlite3.Connection, now: float, zone: tzinfo, listed: Listed) -> tuple[list[str], bool]:
    """Close some of the periods that are due. Return them, and whether that were all."""
    places = schema.places(connection)
    _remove_oldest(connection, places)
    waiting = due(places, now, zone)
    chosen = [*waiting.items()][:AT_ONCE]
    for period, parts in chosen:
        _merge(connection, Place(period), parts, listed)
    if chosen:
        connection.execute(_REMOVE_NAMES)
    return [period for period, _ in chosen], len(chosen) == len(waiting)


def _merge(connection: sqlite3.Connection, target: Place, places: Iterable[Place], listed: Listed) -> None:
    sources = [schema.read_page(connection, place) for place in dict.fromkeys([target, *places])]
    page = bounded(total_of(source.entries.items() for source in sources), listed, MAX_CLOSED)
    left: dict[str, int] = {}
    for source in sources:
        for name, count in source.left.items():
            left[name] = left.get(name, 0) + count
    for name, count in sorted(left.items(), key=lambda item: (-item[1], item[0])):
        page.add_left(name, count)
    page.stamp = periods.end_of(target.period) + page.requests() / 1000
    for place in places:
        schema.remove_page(connection, place)
    schema.replace_page(connection, target, page)


def _remove_oldest(connection: sqlite3.Connection, places: Iterable[Place]) -> None:
    """Remove the oldest months if there are too many: nothing is removed because of the clock, which may be wrong."""
    months = sorted({place.period for place in places if len(place.period) == periods.MONTH_LENGTH})
    surplus = frozenset(months[:-MAX_MONTHS])
    for place in places:
        if place.period in surplus:
            schema.remove_page(connection, place)
