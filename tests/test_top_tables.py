"""cli/top_tables.py: the rows of ``top``: what is worst, what a window's cell and a forecast say, and short numbers."""

import pytest
from test_report import DAY, HOUR, NOW
from test_top_frame import request, utc

from claude_proxy.cli import top_tables
from claude_proxy.cli.top_tables import Column, Place, cell, duration, filled, line, usd

PLACE = Place(80, NOW, utc)


def window(name="5h", utilization=0.5, full_at=None, reset=NOW + 2 * HOUR, **more):
    return {"name": name, "utilization": utilization, "reset": reset, "seen": NOW, "full_at": full_at, **more}


def credential(label="first", state="usable", windows=(), cooldowns=()):
    found = [{"scope": scope, "until": until, "reason": "x"} for scope, until in cooldowns]
    sums = dict.fromkeys(("requests", "errors", "input", "output", "cache_read", "cache_write"), 0)
    return {
        "label": label, "kind": "OAuth token", "state": {"name": state, "cooldowns": found}, "windows": [*windows],
        "sessions": 0, "today": sums, "week": sums,
    }  # fmt: skip


def test_the_worst_stands_first():
    """Credentials are sorted by state, then by when a window is full, then by use; paused ones are last."""
    pool = [
        credential("paused", "paused", [window(utilization=1)]), credential("b"), credential("a"),
        credential("half", windows=[window()]), credential("soon", windows=[window(full_at=NOW + HOUR)]),
        credential("later", windows=[window(full_at=NOW + 2 * HOUR)]), credential("partly", "partly rate-limited"),
        credential("limited", "rate-limited"), credential("expired", "expired"), credential("rejected", "rejected"),
        credential("new", "a state of a later version"),
    ]  # fmt: skip
    assert [one["label"] for one in top_tables.worst_first(pool)] == [
        "new", "rejected", "expired", "limited", "partly", "soon", "later", "half", "a", "b", "paused",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("one", "words", "style"),
    [
        (credential(state="paused", cooldowns=[("", NOW + HOUR)]), "-", "dim"),
        (credential(state="expired"), "-", "dim"),
        (credential(state="rejected", cooldowns=[("", NOW + HOUR), ("Opus", NOW + DAY)]), "until 12:06", "red"),
        (credential(), "not known yet", "dim"),
        (credential(windows=[window(utilization=1), window("7d", 1.2, reset=NOW + 2 * DAY)]), "full to Fri 11:06", "red"),
        (credential(windows=[window(full_at=NOW + HOUR), window("7d", full_at=NOW + DAY)]), "full at 12:06", "yellow"),
        (credential(windows=[window("7d", full_at=NOW + DAY)]), "full at Thu 11:06", "yellow"),
        (credential(windows=[window("7d"), window("7d_opus", 1)]), "on track", "green"),
        (credential(windows=[window("7d_opus", 1)]), "full to 13:06", "red"),
    ],
)
def test_a_forecast(one, words, style):
    """A forecast is the next thing that happens to a credential as a whole, with its time."""
    found = top_tables.forecast_cell(one, PLACE)
    assert (found.plain, found.style) == (words, style)


@pytest.mark.parametrize(
    ("one", "width", "unicode", "words"),
    [
        (window(), 15, True, "━━━━━─╂───  50%"),
        (window(), 15, False, "#####.|...  50%"),
        (window(utilization=0.9), 15, True, "━━━━━━╂━━─  90%"),
        (window(utilization=1.5), 15, True, "━━━━━━╂━━━ 150%"),
        (window(utilization=0), 15, True, "──────╂───   0%"),
        (window("overage"), 15, True, "━━━━━─────  50%"),
        (window(reset=NOW - 1), 15, True, "━━━━━─────  50%"),
        (window(opened=NOW - 2 * HOUR), 15, True, "━━━━━╂────  50%"),
        (window(), 25, True, "━━━━━─╂───  50% 13:06"),
        (None, 15, True, "-"),
    ],
)
def test_a_window(one, width, unicode, words):
    """A window is a bar with the place of an even pace, its use in per cent and, in a wide cell, its reset."""
    assert top_tables.window_cell(one, width, PLACE._replace(unicode=unicode)).plain == words


def test_the_windows_that_most_credentials_have():
    """There are two columns for windows, and three in a wide terminal: those that the most credentials have."""
    pool = {
        "now": NOW,
        "credentials": [credential("a", windows=[window("7d"), window("5h")])]
        + [credential(f"b{number}", windows=[window("7d"), window("5h"), window("7d_opus", 0.1)]) for number in range(2)]
        + [credential("c", windows=[window("7d_sonnet"), window("overage")])],
    }
    for width, titles in (
        (80, ["5 hours", "7 days"]),
        (120, ["5 hours", "7 days"]),
        (160, ["5 hours", "7 days", "7 days opus"]),
    ):
        (head,), *_ = top_tables.credentials(pool, Place(width, NOW, utc))
        assert [title.strip() for title in head.plain.split("  ") if "hours" in title or "days" in title] == titles
    assert top_tables.short_title("overage") == "overage"


@pytest.mark.parametrize(
    ("at", "words"), [(NOW, "11:06"), (NOW - 11 * HOUR, "00:06"), (NOW + 3 * DAY, "Sat 11:06"), (NOW + 7 * DAY, "25 Nov")]
)
def test_a_time(at, words):
    """A time near the present has no day; one within the week has its weekday, and any other one its date."""
    assert PLACE.clock(at) == words


def test_cells_are_cut_and_columns_grow():
    """A cell that is too long ends with an ellipsis; numbers stand to the right; flexible columns take what is spare."""
    columns = [Column("a", 4), Column("b", 3, right=True), Column("c", 2)]
    assert line([cell("abcdef"), cell("1"), cell("x")], columns).plain == "abc…    1  x"
    assert [column.width for column in filled(columns, 20, {0: 6, 2: 30})] == [6, 3, 7]
    assert [column.width for column in filled(columns, 5, {0: 6})] == [4, 3, 2]


def test_a_request_of_another_provider_and_one_without_a_response():
    """Without a credential the provider is named, an unknown cost is a question mark, and a status has its colour."""
    rows = [
        request(credential="", served="zai/glm", usd=None), request(status=499, credential="", served="", usd=0.0),
        request(status=529, first_byte=None, seconds=0.4),
    ]  # fmt: skip
    _, *found = top_tables.requests(rows, Place(120, NOW, utc), rules=False)
    assert [block[0].plain.split()[3:5] for block in found] == [["zai", "claude"], ["claude", "499"], ["first", "claude"]]
    assert [block[0].plain.split()[-1] for block in found] == ["?", "0.00", "0.31"]
    assert [[str(span.style) for span in block[0].spans] for block in found] == [["green"], ["yellow"], ["red"]]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(None, "-"), (0, "0.00s"), (1.234, "1.23s"), (12.34, "12.3s"), (999.9, "999.9s"), (6000, "100m"), (599_999, "10,000m")],
)
def test_a_duration(seconds, words):
    """A duration has at most three significant digits after its whole seconds."""
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("amount", "words"),
    [(0, "0.00"), (0.0042, "0.0042"), (0.1, "0.10"), (12.5, "12.50"), (999.99, "999.99"), (1310, "1,310"), (2e6, "2M")],
)
def test_an_amount(amount, words):
    """An amount has at most six characters; one below ten cents has four decimals."""
    assert usd(amount) == words
