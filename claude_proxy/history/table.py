"""The history as one table: ``/usage.csv``, with a line for each day, or month, and each combination of names."""

import csv
import io
import sqlite3
from collections.abc import Sequence
from datetime import tzinfo

from claude_proxy.history import periods, schema
from claude_proxy.history.sums import SHOWN, sums
from claude_proxy.text import unformulated
from claude_proxy.usage.numbers import Names, Totals

# The columns in their order, in which earlier versions had the first ones.
NAMES = ("period", "user", "model", "served", "credential")
NUMBERS = ("requests", "errors", "input", "output", "cache_read", "cache_write", "failovers", "usd", "unpriced")
LATER_NAMES = ("groups", "project")
COLUMNS = (*NAMES, *NUMBERS, *LATER_NAMES)
# What a table can be summed by: everything but numbers.
BY = (*NAMES, *LATER_NAMES)


def table(connection: sqlite3.Connection, zone: tzinfo, *, by: Sequence[str] = BY, first: str = "") -> str:
    """Return the usage since a day as CSV, summed by some columns; the other columns of names are empty.

    A month that contains the day is included. Text that looks like a formula is quoted.
    """
    connection.execute("BEGIN")
    columns = [SHOWN if column == "period" else column for column in by]
    pages = [(place, periods.day_of(place.period, zone)) for place in schema.places(connection)]
    found = sums(connection, [page for page in pages if page[1] >= first[: len(page[1])]], columns)
    order = [by.index(column) for column in COLUMNS if column in by]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for names, counts in sorted(found.items(), key=lambda item: [item[0][place] for place in order]):
        totals = Totals(*counts)
        if totals.requests:
            texts = dict(zip(by, names, strict=True))
            numbers = {name: getattr(totals, name) for name in NUMBERS}
            shown = {column: unformulated(texts.get(column, "")) for column in BY}
            writer.writerow((shown | numbers)[column] for column in COLUMNS)
    return out.getvalue()


assert {*BY} == {"period", *Names._fields}  # noqa: S101 - every dimension has a column
