"""``claude-proxy usage``: the history of the running proxy as a table, filtered and summed. Plain functions, no I/O."""

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal

from claude_proxy.cli import tables
from claude_proxy.cli.tables import Column, Row, Style
from claude_proxy.config import money
from claude_proxy.config.money import amount, micro_usd
from claude_proxy.text import FORMULA, unformulated

# By what usage is summed, and its column of ``/usage.csv``. A user with several groups has them all in one text.
KEYS: Mapping[str, str] = {
    "user": "user", "model": "model", "day": "period", "project": "project", "group": "groups", "credential": "credential",
    "served": "served",
}  # fmt: skip
NAMES = ("period", "user", "model", "served", "credential", "groups", "project")
NUMBERS = ("requests", "errors", "input", "output", "cache_read", "cache_write", "failovers", "usd", "unpriced")
USD, UNPRICED, UNKNOWN = NUMBERS.index("usd"), NUMBERS.index("unpriced"), "unknown"
# What the table of a proxy of an earlier version lacks, and the names that stand behind the numbers.
LATER_NAMES = ("groups", "project")
LATER = ("usd", "unpriced", *LATER_NAMES)


# Names of a first day, and how many days before today it is.
DAYS_BACK = {"today": 0, "yesterday": 1}


class UnknownForm(ValueError):
    """The text is not the table of a proxy of this version."""


@dataclass(frozen=True)
class Line:
    """A line of the table: ``names`` in the order of ``NAMES``, ``numbers`` in that of ``NUMBERS``, the cost in micro-USD."""

    names: tuple[str, ...]
    numbers: tuple[int, ...]

    @property
    def period(self) -> str:
        """A day such as 2026-11-18, or a month such as 2026-09; empty if the proxy has summed all of them."""
        return self.names[0]


def read(text: str) -> list[Line]:
    """Return the lines of ``/usage.csv``; raise ``UnknownForm`` for another text."""
    try:
        head, *rows = csv.reader(io.StringIO(text), strict=True)
        places = [None if name in LATER and name not in head else head.index(name) for name in (*NAMES, *NUMBERS)]
        lines = [["" if place is None else row[place] for place in places] for row in rows]
        return [Line(tuple(_unquoted(name) for name in line[: len(NAMES)]), _numbers(line[len(NAMES) :])) for line in lines]
    except (ValueError, IndexError, csv.Error) as error:
        raise UnknownForm from error


def _numbers(texts: Sequence[str]) -> tuple[int, ...]:
    *counts, usd, unpriced = texts
    return (*map(int, counts), micro_usd(amount(usd) or Decimal(0)) if usd else 0, int(unpriced or 0))


def _unquoted(name: str) -> str:
    """Return a name without the quote that the proxy puts before what a spreadsheet takes for a formula."""
    return name[1:] if name.startswith("'") and name[1:].startswith(FORMULA) else name


def since(lines: Iterable[Line], first: date | None) -> list[Line]:
    """Return the lines of a day and after it; a month is whole or not there, and one that holds the day is whole."""
    if first is None:
        return [*lines]
    day = first.isoformat()
    return [line for line in lines if line.period >= day[: len(line.period)]]


def first_day(text: str, today: date) -> date:
    """Read ``today``, ``yesterday``, ``7d`` (the last seven days with today) or a date; raise ValueError for another text."""
    if (name := text.strip().lower()) in DAYS_BACK:
        return today - timedelta(days=DAYS_BACK[name])
    if match := re.fullmatch(r"([1-9][0-9]{0,3})d", text.strip()):
        return today - timedelta(days=int(match[1]) - 1)
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text.strip()):
        raise ValueError("not a day")
    return date.fromisoformat(text.strip())


def summed(lines: Iterable[Line], by: Sequence[str]) -> list[Line]:
    """Return one line for each value of ``by``: days in order, everything else with the most tokens first.

    By ``NAMES`` they are the lines of the proxy, in its order.
    """
    if tuple(by) == NAMES:
        return [*lines]
    places = [NAMES.index(KEYS.get(key, key)) for key in by]
    sums: dict[tuple[str, ...], list[int]] = {}
    for line in lines:
        there = sums.setdefault(tuple(line.names[place] for place in places), [0] * len(NUMBERS))
        for place, number in enumerate(line.numbers):
            there[place] += number
    found = [Line(names, tuple(numbers)) for names, numbers in sums.items()]
    days = [place for place, key in enumerate(by) if key in ("day", "period")]
    return sorted(found, key=lambda line: ([line.names[place] for place in days], -sum(line.numbers[2:6]), line.names))


def total(lines: Sequence[Line]) -> tuple[int, ...]:
    """Return the sums of all lines, in the order of ``NUMBERS``."""
    return tuple(sum(column) for column in zip(*(line.numbers for line in lines), strict=True)) or (0,) * len(NUMBERS)


def as_table(lines: Sequence[Line], by: Sequence[str], style: Style) -> str:
    """Return a table with its total. A credential's place is empty for providers that are not Claude."""
    # Beside several names a terminal has no room for the failovers.
    hidden = {"failovers"} if style.width is not None and len(by) > 1 else set()
    if not any(line.numbers[USD] or line.numbers[UNPRICED] for line in lines):
        hidden.add("usd")
    shown = [name for name in NUMBERS[:UNPRICED] if name not in hidden]
    columns = [*(Column(name) for name in by), *(Column(name.replace("_", " "), numeric=True) for name in shown)]

    def cells(numbers: Sequence[int]) -> list[str | int]:
        return [cost(numbers) if name == "usd" else numbers[NUMBERS.index(name)] for name in shown]

    rows: list[Row] = [(*(name or "-" for name in line.names), *cells(line.numbers)) for line in lines]
    last: Row = ("Total", *[""] * (len(by) - 1), *cells(total(lines)))
    return tables.text(columns, rows, style, total=last)


def cost(numbers: Sequence[int]) -> str:
    """Return the cost in USD in words; with responses whose cost is not known, ``>12.50`` or ``unknown``."""
    if not numbers[UNPRICED]:
        return money.shown(numbers[USD])
    return f">{money.shown(numbers[USD])}" if numbers[USD] else UNKNOWN


def as_json(lines: Sequence[Line], by: Sequence[str], first: date | None) -> str:
    """Return the same as JSON."""
    return (
        json.dumps(
            {
                "by": [*by],
                "since": first.isoformat() if first else None,
                "rows": [{**dict(zip(by, line.names, strict=True)), **_named(line.numbers)} for line in lines],
                "total": _named(total(lines)),
            },
            indent=2,
        )
        + "\n"
    )


def as_csv(lines: Iterable[Line], by: Sequence[str]) -> str:
    """Return the same as CSV, without the total."""
    later = LATER_NAMES if tuple(by) == NAMES else ()
    columns = (*(name for name in by if name not in later), *NUMBERS, *later)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    for line in lines:
        names = {name: tables.plain(unformulated(text)) for name, text in zip(by, line.names, strict=True)}
        values = names | _named(line.numbers)
        writer.writerow(values[column] for column in columns)
    return out.getvalue()


def _named(numbers: Sequence[int]) -> dict[str, int | str | None]:
    """Return the numbers by their names; the cost is a text in USD, and None if it is not known."""
    usd = None if cost(numbers) == UNKNOWN else money.shown(numbers[USD])
    return {**dict(zip(NUMBERS, numbers, strict=True)), "usd": usd}
