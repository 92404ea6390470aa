"""cli/usage_table.py: the usage of the history, filtered and summed."""

import csv
import io
import json
from datetime import date

import pytest
from recorded import Recorded
from test_report import NOW, record

from claude_proxy.cli import usage_table
from claude_proxy.cli.tables import Style

HEAD = "period,user,model,served,credential,requests,errors,input,output,cache_read,cache_write,failovers"
LEDGER = f"""{HEAD}
2026-08,anna,opus,claude,first,100,1,10,20,30,40,0
2026-11-17,anna,glm,zai,,1,0,5,5,0,0,0
2026-11-18,anna,opus,claude,first,2,1,10,20,30,40,1
2026-11-18,ben,opus,claude,second,3,0,1000,0,0,0,0
"""
TODAY = date(2026, 11, 18)


def by(*keys, first=None):
    lines = usage_table.since(usage_table.read(LEDGER), first)
    return {line.names: line.numbers[0] for line in usage_table.summed(lines, keys)}


def test_usage_is_summed_by_what_is_asked_for():
    """Usage is summed by user, model, day or credential, or by several of them; the most tokens stand first, days in order."""
    assert [*by("user").items()] == [(("ben",), 3), (("anna",), 103)]
    assert by("model") == {("opus",): 105, ("glm",): 1}
    assert [*by("day").items()] == [(("2026-08",), 100), (("2026-11-17",), 1), (("2026-11-18",), 5)]
    assert by("credential") == {("second",): 3, ("first",): 102, ("",): 1}
    assert [*by("day", "user")][-2:] == [("2026-11-18", "ben"), ("2026-11-18", "anna")]


@pytest.mark.parametrize(
    ("since", "requests"),
    [
        ("1d", 5),
        ("2d", 6),
        ("2026-11-18", 5),
        ("2026-08-31", 106),
        ("2026-09-01", 6),
        ("2026-11-19", 0),
        ("9999d", 106),
        ("today", 5),
        (" Today ", 5),
        ("yesterday", 6),
    ],
)
def test_usage_since_a_day(since, requests):
    """``--since`` is a number of days with today, a name of a day, or the first day; a month that holds it is there whole."""
    assert sum(by("user", first=usage_table.first_day(since, TODAY)).values()) == requests


@pytest.mark.parametrize("text", ["", "7", "d", "0d", "-1d", "7w", "10000d", "2026-13-01", "2026-11", "20261101", "tomorrow"])
def test_what_is_not_a_day(text):
    """Everything else than ``today``, ``yesterday``, ``7d`` and a date is refused."""
    with pytest.raises(ValueError):  # noqa: PT011 - whatever a date says
        usage_table.first_day(text, TODAY)


def test_every_form_has_the_same_numbers():
    """The table and JSON have the total of all lines, CSV has no total because its reader sums."""
    lines = usage_table.summed(usage_table.read(LEDGER), ["user"])
    table = [line.split() for line in usage_table.as_table(lines, ["user"], Style()).splitlines()]
    assert table == [
        ["user", *HEAD.split(",")[5:]],
        ["ben", "3", "0", "1000", "0", "0", "0", "0"],
        ["anna", "103", "2", "25", "45", "60", "80", "1"],
        ["Total", "106", "2", "1025", "45", "60", "80", "1"],
    ]
    found = json.loads(usage_table.as_json(lines, ["user"], TODAY))
    assert (found["by"], found["since"], found["total"]["input"]) == (["user"], "2026-11-18", 1025)
    numbers = dict(zip(table[0][1:], map(int, table[1][1:]), strict=True))
    assert found["rows"][0] == {"user": "ben", **numbers, "usd": "0.00", "unpriced": 0}
    head, *rows = csv.reader(io.StringIO(usage_table.as_csv(lines, ["user"])))
    assert [head, *rows] == [[*table[0], "usd", "unpriced"], *([*line, "0.00", "0"] for line in table[1:-1])]


COSTS = f"""{HEAD},usd,unpriced
2026-11-18,anna,glm,s,c,1,0,3,0,0,0,0,0.30,0
2026-11-18,anna,opus,s,c,1,0,2,0,0,0,0,12.4,0
2026-11-18,ben,glm,s,c,1,0,2,0,0,0,0,7,0
2026-11-18,ben,own,s,c,1,0,1,0,0,0,0,,1
2026-11-18,carl,own,s,c,1,0,1,0,0,0,0,,1
"""


def test_costs():
    """Costs are summed exactly; where some are not known the sum is a lower bound, and where none is, it is unknown."""
    lines = usage_table.summed(usage_table.read(COSTS), ["user"])
    table = [line.split() for line in usage_table.as_table(lines, ["user"], Style()).splitlines()]
    assert [line[-1] for line in table] == ["usd", "12.70", ">7.00", "unknown", ">19.70"]
    found = json.loads(usage_table.as_json(lines, ["user"], None))
    assert [(row["usd"], row["unpriced"]) for row in found["rows"]] == [("12.70", 0), ("7.00", 1), (None, 1)]
    _, *rows = csv.reader(io.StringIO(usage_table.as_csv(lines, ["user"])))
    assert [row[-2:] for row in rows] == [["12.70", "0"], ["7.00", "1"], ["", "1"]]


@pytest.mark.parametrize("keys", [["user"], ["day", "user", "model", "credential"]])
def test_costs_fit_a_terminal(keys):
    """With costs, too, a table has no line above eighty columns."""
    row = f"2026-11-18,{'U' * 40},{'M' * 40},s,{'C' * 40}{',999999' * 7},123456.789,1\n"
    shown = usage_table.as_table(usage_table.summed(usage_table.read(f"{HEAD},usd,unpriced\n{row}"), keys), keys, Style(80))
    assert max(map(len, shown.splitlines())) <= 80


@pytest.mark.parametrize("keys", [["user"], ["day", "user", "model", "credential"]])
def test_a_table_fits_a_terminal(keys):
    """With numbers that are as long as numbers get, a table has no line above eighty columns and shows every name whole."""
    row = f"2026-11-18,{'U' * 40},{'M' * 40},s,{'C' * 40}{',999999' * 7}\n"
    lines = usage_table.summed(usage_table.read(f"{HEAD}\n{row}{row.replace('U', 'V')}"), keys)
    shown = usage_table.as_table(lines, keys, Style(80))
    assert max(map(len, shown.splitlines())) <= 80
    assert shown.count("U") == shown.count("V") == 40
    assert shown.count("1,000k") == 2 * (6 if keys[1:] else 7)
    print(shown)


def test_nothing_used_has_a_total_of_zero():
    """A new proxy has a table with its total alone."""
    assert usage_table.as_table([], ["user"], Style()).splitlines()[1].split() == ["Total", *["0"] * 7]


def test_the_history_itself_is_read():
    """What the proxy writes is read back, with names that a spreadsheet would take for a formula."""
    recorded = Recorded(clock=lambda: NOW)
    recorded.record(record(user="=anna", model="'m"))
    (line,) = usage_table.read(recorded.csv())
    assert line.names[1:] == ("=anna", "'m", "anthropic/'m", "first", "", "")
    assert usage_table.as_csv([line], usage_table.NAMES) == recorded.csv()


@pytest.mark.parametrize(
    "text", ["", "hello", "<html>", "period,user\n", f"{HEAD}\nx\n", f"{HEAD}\na,b,c,d,e,1,2,3,4,5,6,x\n", f'{HEAD}\n"a'],
)  # fmt: skip
def test_what_is_no_history(text):
    """Another text than the history's is told apart."""
    with pytest.raises(usage_table.UnknownForm):
        usage_table.read(text)
