"""Answers a view from the database: sums, courses and percentiles. Plain functions over a connection.

What a client sends reaches SQL only as parameters.
"""

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from claude_proxy.config.money import MICRO_USD
from claude_proxy.history import schema
from claude_proxy.history.schema import CLOSED, DIMENSIONS, WHOLE
from claude_proxy.history.view import NONE, View
from claude_proxy.usage.numbers import BUCKETS, COLUMNS, FIRST_BYTE, OTHER, Totals, percentiles

# The number of rows, and of names of a dimension that can be filtered.
MAX_ROWS = 200
SHARES = (0.5, 0.95)
_COUNTS = len(Totals._fields)
# What a view needs of an entry: the counts, and the buckets of the first byte.
_NEEDED = (*COLUMNS[:_COUNTS], *COLUMNS[FIRST_BYTE])
_SUMS = ", ".join(f"SUM({name})" for name in _NEEDED)
# The pages of a view, with the place of each in the view's periods. The table is the outer loop, so that each of its rows reads
# one range of the others.
_CHOSEN = (
    "WITH chosen AS (SELECT json_extract(value, '$[0]') AS period, json_extract(value, '$[1]') AS writer, "
    "json_extract(value, '$[2]') AS place FROM json_each(?)) "
)
_FROM = " FROM chosen CROSS JOIN usage ON usage.period = chosen.period AND usage.writer = chosen.writer"
_ROLLED = (
    f"{_CHOSEN}SELECT place, text, {_SUMS} FROM chosen CROSS JOIN rollup ON rollup.period = chosen.period "  # noqa: S608
    "AND rollup.dimension = ? JOIN name ON name.id = rollup.name GROUP BY 1, 2"
)
_NAMES = (
    f"{_CHOSEN}SELECT DISTINCT dimension, text FROM chosen CROSS JOIN rollup ON rollup.period = chosen.period "  # noqa: S608
    "JOIN name ON name.id = rollup.name WHERE requests > 0"
)
_NAMED = " IN (SELECT id FROM name WHERE text IN (SELECT value FROM json_each(?)))"
_IN_GROUP = (
    " IN (SELECT name.id FROM name, json_each(?) AS wanted WHERE instr(',' || text || ',', ',' || wanted.value || ',') > 0)"
)
# What a course has of each count, and its name.
COUNTS = ("requests", "errors", "failovers", "input", "output", "cache_read", "cache_write")
# The numbers of a line, in the order in which they are shown.
NUMBERS = (*COUNTS, "usd", "unpriced", "cache_hit_rate", "first_byte_p50", "first_byte_p95")
_PLACES = {name: Totals._fields.index(name) for name in Totals._fields}


# Period, writer and place of a page.
Chosen = tuple[str, str, int]


class Sums:
    """The numbers of one name, in each period of a view."""

    def __init__(self) -> None:
        self.by_place: dict[int, list[int]] = {}

    def add(self, place: int, numbers: Sequence[int]) -> None:
        """Add numbers to those of a period."""
        there = self.by_place.get(place)
        if there is None:
            self.by_place[place] = [*numbers]
        else:
            for position, number in enumerate(numbers):
                there[position] += number

    def add_all(self, other: "Sums") -> None:
        """Add the numbers of another name."""
        for place, numbers in other.by_place.items():
            self.add(place, numbers)

    def total(self) -> list[int]:
        """Return the sums over all periods."""
        return [sum(column) for column in zip(*self.by_place.values(), strict=True)] or [0] * len(_NEEDED)

    def shown(self, count: int) -> dict[str, Any]:
        """Return the sums, and the course over ``count`` periods."""
        columns = {name: [0] * count for name in COUNTS}
        usd: list[float] = [0] * count
        latencies: tuple[list[float | None], ...] = tuple([None] * count for _ in SHARES)
        for place, numbers in self.by_place.items():
            for name, column in columns.items():
                column[place] = numbers[_PLACES[name]]
            usd[place] = numbers[_PLACES["micro_usd"]] / MICRO_USD
            for course, value in zip(latencies, percentiles(numbers[_COUNTS:], SHARES), strict=True):
                course[place] = value
        names = [f"first_byte_p{share * 100:.0f}" for share in SHARES]
        series = {**columns, "usd": usd, **dict(zip(names, latencies, strict=True))}
        return {**numbers_shown(self.total()), "series": series}


def numbers_shown(numbers: Sequence[int]) -> dict[str, Any]:
    """Return the numbers of a name in the words of the routes."""
    totals = Totals(*numbers[:_COUNTS])
    prompt = totals.input + totals.cache_read + totals.cache_write
    p50, p95 = percentiles(numbers[_COUNTS:], SHARES)
    return {
        **{name: getattr(totals, name) for name in COUNTS},
        "usd": totals.micro_usd / MICRO_USD,
        "unpriced": totals.unpriced,
        "cache_hit_rate": round(totals.cache_read / prompt, 4) if prompt else None,
        "first_byte_p50": p50,
        "first_byte_p95": p95,
    }


class Found(NamedTuple):
    """What a view shows: all usage, that of each name, what can be filtered, and the first period with data."""

    total: Sums
    rows: Mapping[str, Sums]
    names: Mapping[str, Sequence[str]]
    since: str | None


def find(connection: sqlite3.Connection, view: View) -> Found:
    """Read what a view shows, in one transaction."""
    connection.execute("BEGIN")
    total, rows, chosen, since = _sums(connection, view)
    return Found(total, rows, _filterable(connection, view, chosen), since)


def find_numbers(connection: sqlite3.Connection, view: View) -> tuple[list[int], dict[str, list[int]]]:
    """Return the numbers of a view over its whole range, of all usage and of each name, in the order of its rows."""
    total, rows, *_ = _sums(connection, view)
    return total.total(), {name: sums.total() for name, sums in rows.items()}


def _sums(connection: sqlite3.Connection, view: View) -> tuple[Sums, dict[str, Sums], Sequence[Chosen], str | None]:
    """Return the sums of all usage and of each name, the pages of the view, and the first period with data."""
    stored = schema.places(connection)
    places = {period: place for place, period in enumerate(view.periods)}
    shown = ((one, view.period_of(one.period)) for one in stored)
    chosen = [(*one, places[period]) for one, period in shown if period in places]
    rolled = [one for one in chosen if one[1] == CLOSED] if view.is_whole else []
    detailed = [one for one in chosen if not rolled or one[1] != CLOSED]
    total, rows = Sums(), dict[str, Sums]()
    _add_detailed(connection, view, detailed, (total, rows))
    if rolled:
        for dimension in (WHOLE, view.by):
            for place, name, *numbers in connection.execute(_ROLLED, (json.dumps(rolled), dimension)):
                (total if dimension == WHOLE else rows.setdefault(name, Sums())).add(place, numbers)
    return total, _most(rows), chosen, stored[0].period if stored else None


def _add_detailed(
    connection: sqlite3.Connection, view: View, chosen: Sequence[Chosen], sums: tuple[Sums, dict[str, Sums]]
) -> None:
    """Add the entries of pages to the sums of all, and to those of each name."""
    total, rows = sums
    where, parameters = _conditions(view)
    by = f'usage."{DIMENSIONS[view.by]}"' if view.by != NONE else "NULL"
    query = f"{_CHOSEN}SELECT place, {by}, {_SUMS}{_FROM} WHERE {where} GROUP BY 1, 2"
    found = connection.execute(query, (json.dumps(chosen), *parameters)).fetchall()
    texts = _texts(connection, {row[1] for row in found if row[1] is not None})
    for place, name, *numbers in found:
        total.add(place, numbers)
        for one in _names_of(texts[name], view) if name is not None else ():
            rows.setdefault(one, Sums()).add(place, numbers)


def _conditions(view: View) -> tuple[str, list[str]]:
    """Return the conditions of a view, and their parameters."""
    wheres, parameters = ["TRUE"], []
    wanted = {name: [*names] for name, names in view.filters.items()}
    if "credential" in wanted:
        also = view.hidden if OTHER in wanted["credential"] else frozenset()
        wanted["credential"] = [name for name in wanted["credential"] if name not in view.hidden] + sorted(also)
    for name, names in wanted.items():
        wheres.append(f'usage."{DIMENSIONS[name]}"' + (_IN_GROUP if name == "group" else _NAMED))
        parameters.append(json.dumps(names))
    if view.only_user is not None:
        wheres.append(f"usage.user{_NAMED}")
        parameters.append(json.dumps([view.only_user]))
    return " AND ".join(wheres), parameters


def _names_of(text: str, view: View) -> Iterable[str]:
    """Return the names in a dimension to which an entry counts."""
    if view.by == "group":
        return text.split(",")
    return (OTHER,) if view.by == "credential" and text in view.hidden else (text,)


def _most(rows: Mapping[str, Sums]) -> dict[str, Sums]:
    """Return the rows with requests, the most expensive ones first; those beyond ``MAX_ROWS`` as one row."""
    totals = {name: sums.total() for name, sums in rows.items()}
    ranked = sorted(
        (name for name in rows if totals[name][0]),
        key=lambda name: (-totals[name][_PLACES["micro_usd"]], -totals[name][0], name),
    )
    if len(ranked) <= MAX_ROWS:
        return {name: rows[name] for name in ranked}
    kept = [name for name in ranked if name != OTHER][: MAX_ROWS - 1]
    rest = Sums()
    for name in set(ranked).difference(kept):
        rest.add_all(rows[name])
    return {**{name: rows[name] for name in kept}, OTHER: rest}


def _filterable(connection: sqlite3.Connection, view: View, chosen: Sequence[Chosen]) -> dict[str, list[str]]:
    """Return the names in each dimension in the range, whatever the filters are."""
    rolled = [one for one in chosen if one[1] == CLOSED] if view.only_user is None else []
    detailed = [one for one in chosen if not rolled or one[1] != CLOSED]
    where, parameters = _conditions(View((), view.step, view.zone, only_user=view.only_user))
    columns = ", ".join(f'usage."{column}"' for column in DIMENSIONS.values())
    query = f"{_CHOSEN}SELECT DISTINCT {columns}{_FROM} WHERE {where} AND requests > 0"
    ids = zip(*connection.execute(query, (json.dumps(detailed), *parameters)), strict=True)
    names = {
        dimension: set(_texts(connection, set(column)).values()) for dimension, column in zip(DIMENSIONS, ids, strict=False)
    }
    found: dict[str, set[str]] = {dimension: names.get(dimension, set()) for dimension in DIMENSIONS}
    found["group"] = {group for text in found["group"] for group in text.split(",")}
    found["credential"] = {OTHER if text in view.hidden else text for text in found["credential"]}
    for dimension, name in connection.execute(_NAMES, (json.dumps(rolled),)):
        if dimension != WHOLE:
            found[dimension].add(name)
    return {dimension: sorted(texts - {""})[:MAX_ROWS] for dimension, texts in found.items()}


def _texts(connection: sqlite3.Connection, ids: Iterable[int]) -> dict[int, str]:
    wanted = json.dumps([*ids])
    return dict(connection.execute("SELECT id, text FROM name WHERE id IN (SELECT value FROM json_each(?))", (wanted,)))


def shown(view: View, found: Found) -> dict[str, Any]:
    """Return what a view shows as one JSON value."""
    count = len(view.periods)
    return {
        "zone": str(view.zone),
        "step": view.step,
        "periods": view.periods,
        "since": found.since,
        "by": view.by,
        "filters": view.filters,
        "total": found.total.shown(count),
        "rows": [{"name": name, **sums.shown(count)} for name, sums in found.rows.items()],
        "names": found.names,
    }


def lines(view: View, found: Found) -> Iterable[dict[str, Any]]:
    """Yield the same as lines of a table: one for each period and name, with requests."""
    rows = found.rows if view.by != NONE else {"": found.total}
    for place, period in enumerate(view.periods):
        for name, sums in rows.items():
            numbers = sums.by_place.get(place)
            if numbers and numbers[0]:
                yield {"period": period, **({view.by: name} if view.by != NONE else {}), **numbers_shown(numbers)}


def sum_lines(view: View, found: Found) -> Iterable[dict[str, Any]]:
    """Yield the sums over the range as lines of a table: one for each name, in the order of the rows."""
    rows = found.rows if view.by != NONE else {"": found.total}
    span = {"from": view.periods[0], "to": view.periods[-1]}
    for name, sums in rows.items():
        yield {**span, **({view.by: name} if view.by != NONE else {}), **numbers_shown(sums.total())}


assert len(_NEEDED) == _COUNTS + len(BUCKETS)  # noqa: S101 - the order of both is that of ``COLUMNS``
