"""Tables: within the width of a terminal; in a pipe as aligned columns without colours, boxes, wrapping or truncation."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TextIO

from claude_proxy.cli.console import has_colours, is_terminal

Cell = str | float
Row = Sequence[Cell]
# Of a large number a terminal shows so many digits and a unit.
UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


class Column(NamedTuple):
    """The title of a column, and whether it holds numbers."""

    title: str
    numeric: bool = False


@dataclass(frozen=True)
class Style:
    """How a table is written: ``width`` is that of the terminal, None for a pipe."""

    width: int | None = None
    colours: bool = False

    @classmethod
    def of(cls, out: TextIO, columns: Callable[[], int]) -> "Style":
        """Return the style for a stream; ``columns`` returns the width of the terminal."""
        return cls(columns(), has_colours(out)) if is_terminal(out) else cls()


def text(columns: Sequence[Column], rows: Sequence[Row], style: Style, *, total: Row | None = None) -> str:
    """Return a table that ends with a newline; ``total`` is its last row."""
    if style.width is None:
        return aligned([[column.title.replace(" ", "_") for column in columns], *rows, *([total] if total else [])])
    from rich.console import Console  # noqa: PLC0415 - late: takes long to import, and pipes need none of it
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        if column.numeric:  # a number is never wrapped, and its title is after the first word
            table.add_column(column.title.replace(" ", "\n", 1), justify="right", no_wrap=True)
        else:
            table.add_column(column.title, overflow="fold")
    for row in [*rows, *([total] if total else [])]:
        cells = [Text(short(cell) if isinstance(cell, int | float) else plain(cell)) for cell in row]
        table.add_row(*cells, style="bold" if row is total else None)
    out = io.StringIO()
    Console(
        file=out, width=style.width, force_terminal=style.colours, color_system="standard" if style.colours else None,
        legacy_windows=False, _environ={},
    ).print(table)  # fmt: skip
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())


def aligned(rows: Sequence[Row]) -> str:
    """Return rows as columns, two spaces between them; numbers stand to the right."""
    columns = max((len(row) for row in rows), default=0)
    cells = [[_exact(cell) for cell in row] + [""] * (columns - len(row)) for row in rows]
    widths = [max(len(row[place]) for row in cells) for place in range(columns)]
    lines = [
        "  ".join(cell.rjust(width) if cell.isdigit() else cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in cells
    ]
    return "".join(f"{line.rstrip()}\n" for line in lines)


def short(number: float) -> str:
    """Return a number in at most six characters, such as 99,999 or 12.3M."""
    for size, unit in UNITS:
        if number >= size * 100:
            return f"{number / size:,.0f}{unit}"
        if number >= size > UNITS[-1][0]:
            return f"{number / size:.3g}{unit}"
    return f"{number:,.0f}"


def plain(words: str) -> str:
    """Return a text without characters that control a terminal, whatever program responded."""
    return "".join(char if char.isprintable() else "?" for char in words)


def _exact(cell: Cell) -> str:
    return f"{cell:.0f}" if isinstance(cell, int | float) else plain(cell) or "-"
