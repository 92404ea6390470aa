"""Sums of the history for the status, the metrics and ``/usage.csv``. They run in the database's thread.

The status is polled every few seconds, so the sums of all pages but those of the current hour are kept until a page changes.
"""

import json
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import tzinfo
from typing import NamedTuple

from claude_proxy.config.budgets import Period
from claude_proxy.history import periods, schema
from claude_proxy.history.page import MAX_NAMES, bounded
from claude_proxy.history.schema import Place
from claude_proxy.usage.numbers import COLUMNS, OTHER, WIDTH, Listed, Names, Totals, add, numbers_of_totals
from claude_proxy.usage.periods import days_of
from claude_proxy.usage.used import Counted, Counts, Range, RangeUsage, Used

WEEK_DAYS = 7
_COUNTS = COLUMNS[: len(Totals._fields)]
_CHOSEN = (
    "WITH chosen AS (SELECT json_extract(value, '$[0]') AS period, json_extract(value, '$[1]') AS writer, "
    "json_extract(value, '$[2]') AS shown FROM json_each(?)) "
)
_LEFT = (
    f"{_CHOSEN}SELECT text, SUM(count) FROM chosen CROSS JOIN departure d ON d.period = chosen.period "  # noqa: S608
    "AND d.writer = chosen.writer JOIN name ON name.id = d.name GROUP BY 1"
)
# What the sums are made of, besides the columns of names: the period as it is shown.
SHOWN = "shown"
Sums = dict[tuple[str, ...], Counts]


def sums(
    connection: sqlite3.Connection,
    pages: Iterable[tuple[Place, str]],
    columns: Sequence[str],
    numbers: Sequence[str] = _COUNTS,
) -> Sums:
    """Return sums of pages by columns of ``Names``, and by ``SHOWN``, the text that comes with each page."""
    chosen = json.dumps([(*place, shown) for place, shown in pages])
    texts = [column if column == SHOWN else f'(SELECT text FROM name WHERE id = "{column}")' for column in columns]  # noqa: S608
    grouped = ", ".join(column if column == SHOWN else f'"{column}"' for column in columns)
    query = (
        f"{_CHOSEN}SELECT {', '.join([*texts, *(f'SUM({number})' for number in numbers)])} FROM chosen "  # noqa: S608
        f"CROSS JOIN usage ON usage.period = chosen.period AND usage.writer = chosen.writer GROUP BY {grouped}"
    )
    width = len(columns)
    return {row[:width]: [*row[width:]] for row in connection.execute(query, (chosen,))}


def _merged(*several: Sums) -> Sums:
    found: Sums = {}
    for one in several:
        for names, counts in one.items():
            there = found.get(names)
            found[names] = counts if there is None else [mine + more for mine, more in zip(there, counts, strict=True)]
    return found


class _Key(NamedTuple):
    """What the kept sums depend on: the hour, the day, and the pages of other hours."""

    hour: str
    today: str
    zone: str
    pages: int
    stamps: float


# For each range the sums by user and model, and by credential.
_Ranges = Mapping[Range, tuple[Sums, Sums]]
_BY_MODEL, _BY_CREDENTIAL = ("user", "model"), ("credential",)
_TOTALS = ("user", "model", "served", "credential")


class RecentSums:
    """Makes ``Used`` and ``Counted``. All calls come from the database's thread."""

    def __init__(self, listed: Listed) -> None:
        self._listed = listed
        self._used: tuple[_Key | None, _Ranges] = None, {}
        self._counted: tuple[_Key | None, tuple[Sums, Sums]] = None, ({}, {})

    def used(self, connection: sqlite3.Connection, now: float, zone: tzinfo) -> Used:
        """Return what was used in each range."""
        connection.execute("BEGIN")
        places = schema.places(connection)
        current, earlier, key = self._split(connection, places, now, zone)
        if self._used[0] != key:
            self._used = key, {one: _range_sums(connection, _within(earlier, days, zone)) for one, days in _days(now, zone)}
        fresh = _range_sums(connection, current)
        found = {}
        for one, days in _days(now, zone):
            by_model, by_credential = self._used[1][one]
            if periods.day_of(key.hour, zone) in days:
                by_model, by_credential = _merged(by_model, fresh[0]), _merged(by_credential, fresh[1])
            usage = {(user, model): counts for (user, model), counts in by_model.items() if counts[0]}
            found[one] = RangeUsage(usage, {name: counts for (name,), counts in by_credential.items()})
        return Used(found, places[0].period if places else None)

    def counted(self, connection: sqlite3.Connection, now: float, zone: tzinfo) -> Counted:
        """Return what was used in total, under a bounded number of names."""
        connection.execute("BEGIN")
        places = schema.places(connection)
        current, earlier, key = self._split(connection, places, now, zone)
        if self._counted[0] != key:
            self._counted = key, _total_sums(connection, earlier)
        fresh = _total_sums(connection, current)
        by_names, by_model = (_merged(kept, new) for kept, new in zip(self._counted[1], fresh, strict=True))
        left = _bounded_left(connection.execute(_LEFT, (json.dumps([(*place, "") for place in places]),)))
        totals = self._bounded({Names(user, "", model, served, credential, ""): counts for
                                (user, model, served, credential), counts in by_names.items() if counts[0]})  # fmt: skip
        models = {model for _, model, *_ in totals}
        times: dict[str, Counts] = {}
        for (model,), numbers in by_model.items():
            shown = model if model in models else OTHER
            add(times.setdefault(shown, [0] * WIDTH), numbers)
        return Counted(totals, times, left)

    def _bounded(self, entries: Mapping[Names, Counts]) -> dict[tuple[str, str, str, str], Counts]:
        page = bounded({names: numbers_of_totals(Totals(*counts)) for names, counts in entries.items()}, self._listed)
        width = len(Totals._fields)
        return {
            (names.user, names.model, names.served, names.credential): numbers[:width]
            for names, numbers in page.entries.items()
        }

    def _split(
        self, connection: sqlite3.Connection, places: Sequence[Place], now: float, zone: tzinfo
    ) -> tuple[list[tuple[Place, str]], list[tuple[Place, str]], _Key]:
        """Return the pages of the current hour, all others, and the key of what is made of the others."""
        hour = periods.hour_at(now)
        current = [(place, "") for place in places if place.period == hour]
        earlier = [(place, "") for place in places if place.period != hour]
        (stamps,) = connection.execute("SELECT total(stamp) FROM page WHERE period != ?", (hour,)).fetchone()
        return current, earlier, _Key(hour, periods.today_at(now, zone).isoformat(), str(zone), len(earlier), stamps)


def _range_sums(connection: sqlite3.Connection, pages: Sequence[tuple[Place, str]]) -> tuple[Sums, Sums]:
    return sums(connection, pages, _BY_MODEL), sums(connection, pages, _BY_CREDENTIAL)


def _total_sums(connection: sqlite3.Connection, pages: Sequence[tuple[Place, str]]) -> tuple[Sums, Sums]:
    return sums(connection, pages, _TOTALS), sums(connection, pages, ("model",), COLUMNS)


def _days(now: float, zone: tzinfo) -> Iterator[tuple[Range, Collection[str]]]:
    """Yield the days of each range."""
    today = periods.today_at(now, zone)
    yield Range.TODAY, {today.isoformat()}
    yield Range.LAST_WEEK, {periods.day_before(today, back) for back in range(WEEK_DAYS)}
    yield Range.CALENDAR_WEEK, days_of(Period.WEEK, today)
    yield Range.CALENDAR_MONTH, days_of(Period.MONTH, today)


def _within(pages: Iterable[tuple[Place, str]], days: Collection[str], zone: tzinfo) -> list[tuple[Place, str]]:
    return [page for page in pages if periods.day_of(page[0].period, zone) in days]


def _bounded_left(rows: Iterable[tuple[str, int]]) -> dict[str, int]:
    ranked = sorted(rows, key=lambda row: (-row[1], row[0]))
    found = dict(ranked[:MAX_NAMES])
    rest = sum(count for _, count in ranked[MAX_NAMES:])
    return found | ({OTHER: found.get(OTHER, 0) + rest} if rest else {})
