"""Reads the usage of version 0.1.0, which was kept as rows of the store: pages of a UTC day and process, and of a month.

The times of that version are known by model only. They become entries without a user that have no requests.
"""

import json
import math
from typing import Any

from claude_proxy.config.users import folded
from claude_proxy.history.page import MAX_CLOSED, Entries, Page, bounded
from claude_proxy.history.page_text import InvalidPage, add_left
from claude_proxy.history.schema import Place
from claude_proxy.state.rows import Row
from claude_proxy.text import clean
from claude_proxy.usage.numbers import (
    BUCKETS,
    FIRST_BYTE,
    FIRST_BYTE_MS,
    MAX_NUMBER,
    TOTAL,
    TOTAL_MS,
    WIDTH,
    Listed,
    Names,
    Totals,
    add,
    numbers_of_totals,
)

# The kinds of entries: usage, by user, model, serving model and credential; times, by model; failovers, by what was left.
# ``spent`` has the place of each entry with costs, the costs, and the number of responses without a known one.
USAGE, FIRST_BYTE_KIND, TOTAL_KIND, FAILOVERS, COST = "taken", "first_byte", "total", "moved", "spent"
_COUNTS = ("requests", "errors", "input", "output", "cache_read", "cache_write", "failovers")
# The upper bounds of the buckets that times had.
BOUNDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, math.inf)
_PLACES = [BUCKETS.index(bound) for bound in BOUNDS]
_TIMES = {FIRST_BYTE_KIND: (FIRST_BYTE_MS, FIRST_BYTE), TOTAL_KIND: (TOTAL_MS, TOTAL)}
MAX_WRITER = 64
# The prefixes of the rows' keys.
PREFIXES = ("usage:", "month:")
# Distinguishes a page of that version from one of a process of this version.
PREFIX = "0.1.0:"


def place_of(key: str) -> Place | None:
    """Return the place of a row's page; None for a row of another kind."""
    match key.split(":"):
        case ["usage", day, writer] if len(writer) <= MAX_WRITER:
            return Place(day, PREFIX + clean(writer))
        case ["month", month]:
            return Place(month, PREFIX)
    return None


def read(row: Row, listed: Listed) -> Page:
    """Read a row for which ``place_of`` is a place; raise ``InvalidPage``."""
    try:
        page = _read(json.loads(row.value), listed)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        raise InvalidPage(type(error).__name__) from None
    page.stamp = row.stamp
    return page


def _read(value: Any, listed: Listed) -> Page:
    entries: Entries = {}
    left: dict[str, int] = {}
    costs: dict[int, tuple[int, int]] = {}
    for (kind, *_), numbers in value:
        if kind == COST:
            costs |= {place: (_number(micro), _number(unpriced)) for place, micro, unpriced in numbers}
    for place, ((kind, *names), numbers) in enumerate(value):
        if kind == USAGE:
            user, model, served, credential = map(_text, names)
            micro, unpriced = costs.get(place, (0, 0))
            counts = dict(zip(_COUNTS, map(_number, numbers), strict=True))
            totals = Totals(**counts, micro_usd=micro, unpriced=unpriced)
            where = Names(clean(folded(user)), "", model, served, credential, "")
            add(entries.setdefault(where, [0] * WIDTH), numbers_of_totals(totals))
        elif kind in _TIMES:
            (model,) = map(_text, names)
            add(entries.setdefault(Names("", "", model, "", "", ""), [0] * WIDTH), _times(kind, numbers))
        elif kind == FAILOVERS:
            (name,), (count,) = map(_text, names), map(_number, numbers)
            left[name] = left.get(name, 0) + count
    page = bounded(entries, listed, MAX_CLOSED)
    add_left(page, left.items())
    return page


def _times(kind: str, found: list[Any]) -> list[int]:
    numbers = [0] * WIDTH
    sum_place, buckets = _TIMES[kind]
    *counts, seconds = found
    numbers[sum_place] = min(round(1000 * _float(seconds)), MAX_NUMBER)
    for place, count in zip(_PLACES, counts, strict=True):
        numbers[buckets.start + place] = _number(count)
    return numbers


def _float(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_NUMBER:
        raise ValueError("not a number in the range")
    return value


def _number(value: Any) -> int:
    return int(_float(value))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return clean(value)
