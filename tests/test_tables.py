"""cli/tables.py: tables within a terminal's width, and as plain columns in a pipe."""

import io
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy.cli.tables import Column, Style, aligned, short, text

COLUMNS = (Column("user"), Column("cache read", numeric=True), Column("tokens", numeric=True))
ROWS = [("anna", 5, 1_234_567), ("b" * 100, 0, 12.0)]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_pipe_gets_plain_columns():
    """In a pipe each row is a line with whole words and exact numbers, titles have no spaces, and an empty cell is a dash."""
    assert text(COLUMNS, [*ROWS, ("", 1, 2)], Style(), total=("Total", 6, 7)).splitlines() == [
        f"{'user':100}  cache_read  tokens",
        f"{'anna':100}           5  1234567",
        f"{'b' * 100}           0       12",
        f"{'-':100}           1        2",
        f"{'Total':100}           6        7",
    ]


@pytest.mark.parametrize("width", [40, 60, 80, 120])
@pytest.mark.parametrize("colours", [False, True])
def test_a_terminal_gets_lines_within_its_width(width, colours):
    """On a terminal long names are wrapped and nothing is cut off; escapes are there only with colours."""
    shown = text(COLUMNS, ROWS, Style(width, colours), total=("Total", 6, 7))
    bare = shown.replace("\x1b[1m", "").replace("\x1b[0m", "")
    assert ("\x1b" in shown) is colours
    assert "\x1b" not in bare
    assert max(map(len, bare.splitlines())) <= width
    assert bare.count("b") == 100
    assert "1.23M" in bare


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (0, "0"), (999, "999"), (99_999, "99,999"), (100_000, "100k"), (123_456, "123k"), (999_999, "1,000k"),
        (1_000_000, "1M"), (12_345_678, "12.3M"), (5e9, "5G"), (999e9, "999G"), (1e15, "1,000T"),
    ],
)  # fmt: skip
def test_a_large_number_is_short_on_a_terminal(number, shown):
    """A number has at most six characters, and three digits above a hundred thousand."""
    assert short(number) == shown


@given(st.lists(st.lists(st.text(), max_size=4), max_size=4))
def test_nothing_steers_a_terminal(rows):
    """Whatever the cells hold, a table has one line a row, and no control characters."""
    shown = aligned(rows)
    assert len(shown.splitlines()) == len(rows)
    assert not any(unicodedata.category(char) == "Cc" for char in shown.replace("\n", ""))


@pytest.mark.parametrize(
    ("out", "environ", "style"),
    [
        (io.StringIO(), {}, Style(None)),
        (Terminal(), {}, Style(70, colours=True)),
        (Terminal(), {"NO_COLOR": "1"}, Style(70)),
        (Terminal(), {"NO_COLOR": ""}, Style(70, colours=True)),
        (Terminal(), {"TERM": "dumb"}, Style(None)),
    ],
)
def test_colours_are_for_terminals_that_want_them(out, environ, style, monkeypatch):
    """A pipe and TERM=dumb get plain columns; NO_COLOR gets a table without colours."""
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert Style.of(out, lambda: 70) == style
