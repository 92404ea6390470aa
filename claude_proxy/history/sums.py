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
from claude_proxy.usage.numbers import COLUMNS, OTHER, WIDTH, Listed, Names, Totals, add
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
    chosen = json.dumps(_chosen(pages))
    texts = [column if column == SHOWN else f'(SELECT text FROM name WHERE id = "{column}")' for column in columns]  # noqa: S608
    grouped = ", ".join(column if column == SHOWN else f'"{column}"' for column in columns)
    query = (
        f"{_CHOSEN}SELECT {', '.join([*texts, *(f'SUM({number})' for number in numbers)])} FROM chosen "  # noqa: S608
        f"CROSS JOIN usage ON usage.period = chosen.period AND usage.writer = chosen.writer GROUP BY {grouped}"
    )
    width = len(columns)
    return {row[:width]: [*row[width:]] for row in connection.execute(query, (chosen,))}


def _chosen(pages: Iterable[tuple[Place, str]]) -> list[tuple[str, str, str]]:
    return [(*place, shown) for place, shown in pages]


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
    latest: float | None
    stamps: float


class _Totals(NamedTuple):
    """Sums of all time: by ``_TOTALS``, all numbers by model, and how often what was left."""

    totals: Sums
    times: Sums
    left: Sums


# For each range the sums by user, model and the model that responded, and by credential.
_Ranges = Mapping[Range, tuple[Sums, Sums]]
_BY_MODEL, _BY_CREDENTIAL = ("user", "model", "served"), ("credential",)
_UNPRICED = Totals._fields.index("unpriced")
_TOTALS = ("user", "model", "served", "credential")


class RecentSums:
    """Makes ``Used`` and ``Counted``. All calls come from the database's thread."""

    def __init__(self, listed: Listed) -> None:
        self._listed = listed
        self._used: tuple[_Key | None, _Ranges] = None, {}
        self._counted: tuple[_Key | None, _Totals] = None, _Totals({}, {}, {})

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
            found[one] = _range_usage(by_model, by_credential)
        return Used(found, places[0].period if places else None)

    def counted(self, connection: sqlite3.Connection, now: float, zone: tzinfo) -> Counted:
        """Return what was used in total, under a bounded number of names."""
        connection.execute("BEGIN")
        places = schema.places(connection)
        current, earlier, key = self._split(connection, places, now, zone)
        if self._counted[0] != key:
            self._counted = key, self._total_sums(connection, earlier)
        kept, fresh = self._counted[1], self._total_sums(connection, current)
        totals = self._bounded(_merged(kept.totals, fresh.totals))
        models = {model for _, model, *_ in totals}
        times: Sums = {}
        for (model,), numbers in (*kept.times.items(), *fresh.times.items()):
            add(times.setdefault((model if model in models else OTHER,), [0] * WIDTH), numbers)
        left = _bounded_left(_merged(kept.left, fresh.left))
        return Counted(
            {(user, model, served, credential): counts for (user, model, served, credential), counts in totals.items()},
            {model: numbers for (model,), numbers in times.items()},
            {name: count for (name,), (count,) in left.items()},
        )

    def _total_sums(self, connection: sqlite3.Connection, pages: Sequence[tuple[Place, str]]) -> _Totals:
        left = connection.execute(_LEFT, (json.dumps(_chosen(pages)),))
        return _Totals(
            self._bounded(sums(connection, pages, _TOTALS)),
            sums(connection, pages, ("model",), COLUMNS),
            _bounded_left({(name,): [count] for name, count in left}),
        )

    def _bounded(self, found: Sums) -> Sums:
        """Return sums by ``_TOTALS`` under a bounded number of names."""
        entries = {
            Names(user, "", model, served, credential, ""): [*counts, *[0] * (WIDTH - len(counts))]
            for (user, model, served, credential), counts in found.items()
            if counts[0]
        }
        width = len(Totals._fields)
        return {
            (names.user, names.model, names.served, names.credential): numbers[:width]
            for names, numbers in bounded(entries, self._listed).entries.items()
        }

    def _split(
        self, connection: sqlite3.Connection, places: Sequence[Place], now: float, zone: tzinfo
    ) -> tuple[list[tuple[Place, str]], list[tuple[Place, str]], _Key]:
        """Return the pages of the current hour, all others, and the key of what is made of the others."""
        hour = periods.hour_at(now)
        current = [(place, "") for place in places if place.period == hour]
        earlier = [(place, "") for place in places if place.period != hour]
        # Differences to the hour, because a sum of thousands of whole stamps is not exact enough to notice a change.
        start = periods.start_of(hour).timestamp()
        latest, stamps = connection.execute(
            "SELECT max(stamp), total(stamp - ?) FROM page WHERE period != ?", (start, hour)
        ).fetchone()
        today = periods.today_at(now, zone).isoformat()
        return current, earlier, _Key(hour, today, str(zone), len(earlier), latest, stamps)


def _range_sums(connection: sqlite3.Connection, pages: Sequence[tuple[Place, str]]) -> tuple[Sums, Sums]:
    return sums(connection, pages, _BY_MODEL), sums(connection, pages, _BY_CREDENTIAL)


def _range_usage(by_model: Sums, by_credential: Sums) -> RangeUsage:
    usage: dict[tuple[str, str], Counts] = {}
    unpriced: dict[tuple[str, str], int] = {}
    for (user, model, served), counts in by_model.items():
        if counts[0]:
            add(usage.setdefault((user, model), [0] * len(counts)), counts)
        if counts[_UNPRICED]:
            unpriced[model, served] = unpriced.get((model, served), 0) + counts[_UNPRICED]
    return RangeUsage(usage, {name: counts for (name,), counts in by_credential.items()}, unpriced)


def _days(now: float, zone: tzinfo) -> Iterator[tuple[Range, Collection[str]]]:
    """Yield the days of each range."""
    today = periods.today_at(now, zone)
    yield Range.TODAY, {today.isoformat()}
    yield Range.LAST_WEEK, {periods.day_before(today, back) for back in range(WEEK_DAYS)}
    yield Range.CALENDAR_WEEK, days_of(Period.WEEK, today)
    yield Range.CALENDAR_MONTH, days_of(Period.MONTH, today)


def _within(pages: Iterable[tuple[Place, str]], days: Collection[str], zone: tzinfo) -> list[tuple[Place, str]]:
    return [page for page in pages if periods.day_of(page[0].period, zone) in days]


def _bounded_left(found: Sums) -> Sums:
    ranked = sorted(found.items(), key=lambda item: (-item[1][0], item[0]))
    kept = dict(ranked[:MAX_NAMES])
    rest = sum(count for _, (count,) in ranked[MAX_NAMES:])
    return kept | ({(OTHER,): [kept.get((OTHER,), [0])[0] + rest]} if rest else {})
