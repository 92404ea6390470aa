"""The tables of the history's numbers, and how pages are written to them. Plain functions over a connection.

A page is one period of one process (``writer``); a closed period has one page, whose writer is empty. Texts are in a table of
their own, because a name is in many entries.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from claude_proxy.history.page import Page
from claude_proxy.usage.numbers import COLUMNS, WIDTH, Names, Numbers, add

# The writer of a closed page.
CLOSED = ""
# The dimensions of a view, each with its column, and the name of none of them.
DIMENSIONS = {"user": "user", "group": "groups", "model": "model", "credential": "credential", "project": "project"}
WHOLE = ""
# All names are quoted, because ``groups`` is a word of SQL.
NAME_COLUMNS = ", ".join(f'"{name}"' for name in Names._fields)
NUMBER_COLUMNS = ", ".join(COLUMNS)
TABLES = (
    "CREATE TABLE IF NOT EXISTS name (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE)",
    "CREATE TABLE IF NOT EXISTS usage (period TEXT NOT NULL, writer TEXT NOT NULL, "
    + ", ".join(f'"{name}" INTEGER NOT NULL' for name in Names._fields)
    + ", "
    + ", ".join(f"{name} INTEGER NOT NULL" for name in COLUMNS)
    + f", PRIMARY KEY (period, writer, {NAME_COLUMNS})) WITHOUT ROWID",
    (
        "CREATE TABLE IF NOT EXISTS departure (period TEXT NOT NULL, writer TEXT NOT NULL, name INTEGER NOT NULL, "
        "count INTEGER NOT NULL, PRIMARY KEY (period, writer, name)) WITHOUT ROWID"
    ),
    (
        "CREATE TABLE IF NOT EXISTS page (period TEXT NOT NULL, writer TEXT NOT NULL, stamp REAL NOT NULL, "
        "PRIMARY KEY (period, writer)) WITHOUT ROWID"
    ),
    # The sums of a closed page for each name of a dimension alone, so that a view of many days need not read all entries. The
    # dimension "" has the sums of the whole page, under the name "".
    (
        "CREATE TABLE IF NOT EXISTS rollup (period TEXT NOT NULL, dimension TEXT NOT NULL, name INTEGER NOT NULL, "
        + ", ".join(f"{name} INTEGER NOT NULL" for name in COLUMNS)
        + ", PRIMARY KEY (period, dimension, name)) WITHOUT ROWID"
    ),
)
_ID = "(SELECT id FROM name WHERE text = ?)"
_ADD_NAME = "INSERT OR IGNORE INTO name (text) VALUES (?)"
_ADD_ENTRY = (
    f"INSERT OR REPLACE INTO usage (period, writer, {NAME_COLUMNS}, {NUMBER_COLUMNS}) "  # noqa: S608 - names of columns only
    f"VALUES (?, ?, {', '.join([_ID] * len(Names._fields))}, {', '.join('?' * len(COLUMNS))})"
)
_ADD_DEPARTURE = f"INSERT OR REPLACE INTO departure VALUES (?, ?, {_ID}, ?)"  # noqa: S608 - names of columns only
_ADD_PAGE = "INSERT OR REPLACE INTO page VALUES (?, ?, ?)"
_ADD_ROLLUP = (
    f"INSERT INTO rollup (period, dimension, name, {NUMBER_COLUMNS}) "  # noqa: S608 - names of columns only
    f"VALUES (?, ?, {_ID}, {', '.join('?' * len(COLUMNS))})"
)
_REMOVE = tuple(f"DELETE FROM {table} WHERE period = ? AND writer = ?" for table in ("usage", "departure", "page"))  # noqa: S608
_READ_ENTRIES = (
    f"SELECT {', '.join(f'n{place}.text' for place in range(len(Names._fields)))}, {NUMBER_COLUMNS} FROM usage "  # noqa: S608
    + " ".join(f'JOIN name n{place} ON n{place}.id = "{name}"' for place, name in enumerate(Names._fields))
    + " WHERE period = ? AND writer = ?"
)
_READ_LEFT = "SELECT text, count FROM departure JOIN name ON id = name WHERE period = ? AND writer = ?"


class Place(NamedTuple):
    """A page's period and writer."""

    period: str
    writer: str = CLOSED


def add_entries(
    connection: sqlite3.Connection,
    place: Place,
    stamp: float,
    entries: Iterable[tuple[Names, Numbers]],
    left: Mapping[str, int],
) -> None:
    """Write entries of a page; those with the same names are replaced, others stay."""
    found = list(entries)
    texts = {name for names, _ in found for name in names} | set(left)
    connection.executemany(_ADD_NAME, [(text,) for text in sorted(texts)])
    connection.executemany(_ADD_ENTRY, [(*place, *names, *numbers) for names, numbers in found])
    connection.executemany(_ADD_DEPARTURE, [(*place, name, count) for name, count in left.items()])
    connection.execute(_ADD_PAGE, (*place, stamp))


def replace_page(connection: sqlite3.Connection, place: Place, page: Page) -> None:
    """Write a whole page in place of an earlier one."""
    remove_page(connection, place)
    add_entries(connection, place, page.stamp, page.entries.items(), page.left)
    if place.writer == CLOSED:
        _add_rollup(connection, place.period, page)


def _add_rollup(connection: sqlite3.Connection, period: str, page: Page) -> None:
    sums: dict[tuple[str, str], list[int]] = {}
    for names, numbers in page.entries.items():
        for dimension, name in names_of(names):
            add(sums.setdefault((dimension, name), [0] * WIDTH), numbers)
    connection.executemany(_ADD_NAME, [(name,) for _, name in sorted(sums)])
    connection.executemany(_ADD_ROLLUP, [(period, *place, *numbers) for place, numbers in sums.items()])


def names_of(names: Names) -> Iterator[tuple[str, str]]:
    """Yield each dimension with the names in it to which an entry counts: each of a user's groups is one."""
    yield WHOLE, ""
    for dimension, column in DIMENSIONS.items():
        text = getattr(names, column)
        yield from ((dimension, name) for name in (text.split(",") if dimension == "group" else (text,)))


def remove_page(connection: sqlite3.Connection, place: Place) -> None:
    """Remove a page with its entries."""
    for statement in _REMOVE:
        connection.execute(statement, place)
    if place.writer == CLOSED:
        connection.execute("DELETE FROM rollup WHERE period = ?", (place.period,))


def read_page(connection: sqlite3.Connection, place: Place) -> Page:
    """Return a page; an empty one if there is none."""
    width = len(Names._fields)
    page = Page()
    page.stamp = stamp_of(connection, place) or 0.0
    page.entries = {Names(*row[:width]): [*row[width:]] for row in connection.execute(_READ_ENTRIES, place)}
    page.left = dict(connection.execute(_READ_LEFT, place))
    return page


def stamp_of(connection: sqlite3.Connection, place: Place) -> float | None:
    """Return the time of a page's last change; None without the page."""
    found = connection.execute("SELECT stamp FROM page WHERE period = ? AND writer = ?", place).fetchone()
    return found[0] if found else None


def places(connection: sqlite3.Connection) -> list[Place]:
    """Return the places of all pages, in order."""
    return [Place(*row) for row in connection.execute("SELECT period, writer FROM page ORDER BY period, writer")]
