"""The tables of ``claude-proxy top``: credentials, requests, failovers. JSON in, lines of styled text out, no I/O.

A row is one line of exactly the width: what does not fit is cut with an ellipsis, and columns appear as the width grows.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from rich.text import Text

from claude_proxy.cli import tables
from claude_proxy.cli.tables import plain
from claude_proxy.cli.terminal import BAD, GOOD, WARN, grade, states, tokens_of

STYLES = {GOOD: "green", WARN: "yellow", BAD: "red"}
SOFT, TITLE = "dim", "bold"
# The states of a credential, the worst first; a paused one was taken out on purpose.
WORST = ("rejected", "expired", "rate-limited", "partly rate-limited", "usable", "paused")
SHORT_STATES = {"expired": "login expired"}
STATE_STYLES = {"usable": "green", "partly rate-limited": "yellow", "paused": "dim"}
# The unit of a window's name in a title.
UNITS = {"h": "hours", "d": "days"}
# A full and an empty part of a bar, and the place of an even pace; for terminals with and without Unicode.
BARS = {True: ("━", "─", "╂"), False: ("#", ".", "|")}
GAP = 2
# From these widths on a table has more columns.
MIDDLE, WIDE, WIDEST = 90, 110, 140
# In a cell of a window: the characters of its use and of its reset, and the width from which on the reset is shown.
USED, RESET, WITH_RESET = 5, 10, 21
# The least width of the column of states.
STATE = 14
HOUR, DAY = 3600.0, 86400.0


class Column(NamedTuple):
    """A title, a width, and whether the cells stand to the right."""

    title: str
    width: int
    right: bool = False


class Place(NamedTuple):
    """Where a table is drawn: its width, the present, the viewer's time, and whether the terminal has more than ASCII."""

    width: int
    now: float
    local: Callable[[float], datetime]
    unicode: bool = True

    def clock(self, at: float) -> str:
        """Return a time in at most nine characters: with its day of the week or its date, if it is not near."""
        distance = abs(at - self.now)
        return f"{self.local(at):{'%H:%M' if distance < 12 * HOUR else '%a %H:%M' if distance < 6 * DAY else '%d %b'}}"

    def seconds(self, at: float) -> str:
        """Return a time with its seconds."""
        return f"{self.local(at):%H:%M:%S}"


def cell(words: object, style: str = "") -> Text:
    """Return a text without characters that control a terminal."""
    return Text(plain(str(words)), style, no_wrap=True, end="")


def line(cells: Sequence[Text], columns: Sequence[Column]) -> Text:
    """Return cells as one line; the last one is not padded."""
    found = Text(no_wrap=True, end="")
    for place, (one, column) in enumerate(zip(cells, columns, strict=True)):
        fitted = one.copy()
        fitted.truncate(column.width, overflow="ellipsis")
        if column.right:
            fitted.align("right", column.width)
        elif place < len(columns) - 1:
            fitted.align("left", column.width)
        found.append_text(fitted)
        if place < len(columns) - 1:
            found.append(" " * GAP)
    return found


def table(columns: Sequence[Column], rows: Iterable[Sequence[Text]]) -> list[Text]:
    """Return a head and rows."""
    return [line([cell(column.title, SOFT) for column in columns], columns), *(line(row, columns) for row in rows)]


def filled(columns: Sequence[Column], width: int, flexible: Mapping[int, int]) -> list[Column]:
    """Return columns that fill a width: each flexible one, by its place, grows up to a maximum in order."""
    spare = width - sum(column.width for column in columns) - GAP * (len(columns) - 1)
    found = [*columns]
    for place, most in flexible.items():
        more = max(0, min(spare, most - found[place].width))
        found[place] = found[place]._replace(width=found[place].width + more)
        spare -= more
    return found


def worst_first(credentials: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return credentials by how soon somebody has to act: by state, then by when a window is full, then by use."""

    def key(one: Mapping[str, Any]) -> tuple[int, float, float, str]:
        state = one["state"]["name"]
        full = min((window["full_at"] for window in one["windows"] if window["full_at"] is not None), default=float("inf"))
        used = max((window["utilization"] for window in one["windows"]), default=0.0)
        return WORST.index(state) if state in WORST else 0, full, -used, one["label"]

    return sorted(credentials, key=key)


def credentials(data: Mapping[str, Any], place: Place) -> list[list[Text]]:
    """Return the head, and for each credential its lines: a row and, unless it is usable, why."""
    found = worst_first(data["credentials"])
    often = window_names(found)[: 2 if place.width < WIDEST else 3]
    names = sorted(often, key=lambda name: (length_of(name), name))
    columns = _credential_columns(found, names, place.width)
    lines = [table(columns, ())]
    for one in found:
        windows = {window["name"]: window for window in one["windows"]}
        state = one["state"]["name"]
        row = [
            cell(one["label"], TITLE),
            cell(SHORT_STATES.get(state, state), STATE_STYLES.get(state, "red")),
            *(window_cell(windows.get(name), columns[2].width, place) for name in names),
            forecast_cell(one, place),
            *([cell(f"{one['sessions']:,.0f}")] if place.width >= MIDDLE else []),
            cell(tables.short(one["today"]["requests"])),
        ]
        block = [line(row, columns)]
        if state not in ("usable", "paused"):
            reasons = [(text, STYLES[colour]) for text, colour in states(one["state"], place.clock) if text != state]
            block += [fit(cell(f"  {text}", style), place.width) for text, style in reasons]
        lines.append(block)
    return lines


def fit(text: Text, width: int) -> Text:
    """Return a text cut to a width."""
    found = text.copy()
    found.truncate(width, overflow="ellipsis")
    return found


def _credential_columns(found: Sequence[Mapping[str, Any]], names: Sequence[str], width: int) -> list[Column]:
    longest = max((len(one["label"]) for one in found), default=0)
    state = max([STATE, *(len(one["state"]["name"]) for one in found)])
    columns = [
        Column("credential", 10),
        Column("state", state),
        *(Column(short_title(name), 10 if state == STATE else 9) for name in names),
        Column("forecast", 17),
        *([Column("sess.", 5, right=True)] if width >= MIDDLE else []),
        Column("today", 5, right=True),
    ]
    columns = filled(columns, width, {0: min(max(longest, 10), 24 if width >= WIDE else 16)})
    spare = width - sum(column.width for column in columns) - GAP * (len(columns) - 1)
    for place in range(2, 2 + len(names)):  # the windows share what is left
        columns[place] = columns[place]._replace(width=columns[place].width + min(20, max(0, spare) // len(names)))
    return columns


def window_names(found: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the names of windows, first those that the most credentials have and that are used the most."""
    seen: dict[str, tuple[int, float]] = {}
    for one in found:
        for window in one["windows"]:
            count, used = seen.get(window["name"], (0, 0.0))
            seen[window["name"]] = count + 1, max(used, window["utilization"])
    return sorted(seen, key=lambda name: (-seen[name][0], -seen[name][1], name))


def length_of(name: str) -> float:
    """Return the length of a window in seconds; 0 if its name does not contain it."""
    count, unit = name.partition("_")[0][:-1], name.partition("_")[0][-1:]
    return int(count) * (HOUR if unit == "h" else DAY) if count.isdecimal() and len(count) < 5 and unit in UNITS else 0.0


def short_title(name: str) -> str:
    """Return a window's name in two or three words: ``7d_opus`` is ``7 days opus``."""
    first, _, family = name.partition("_")
    if not length_of(name):
        return name
    return f"{first[:-1]} {UNITS[first[-1]]}{f' {family}' if family else ''}".replace("_", " ")


def window_cell(window: Mapping[str, Any] | None, width: int, place: Place) -> Text:
    """Return a bar, on it the place of an even pace, how much is used, and the reset if there is room for it."""
    if window is None:
        return cell("-", SOFT)
    bar = width - USED - (RESET if width >= WITH_RESET else 0)
    full, empty, pace = BARS[place.unicode]
    used, style = window["utilization"], STYLES[grade(window["utilization"])]
    filled_up, mark = round(min(1.0, used) * bar), even_pace(window, place.now)
    signs = [full if number < filled_up else empty for number in range(bar)]
    if mark is not None:
        signs[min(bar - 1, int(mark * bar))] = pace
    found = Text("".join(signs[:filled_up]), style, no_wrap=True, end="")
    found.append("".join(signs[filled_up:]), SOFT).append(f" {min(used, 9.99):4.0%}", style)
    return found.append(f" {place.clock(window['reset'])}", SOFT) if width >= WITH_RESET else found


def even_pace(window: Mapping[str, Any], now: float) -> float | None:
    """Return the part of a window that has passed; None if its length is not known."""
    reset = window["reset"]
    opened = window.get("opened") or reset - length_of(window["name"])
    return (now - opened) / (reset - opened) if opened < now < reset else None


def forecast_cell(one: Mapping[str, Any], place: Place) -> Text:
    """Return when a credential is full at this pace, or usable again, or that it lasts.

    That is by its windows for all models: a cooldown for some models has a line of its own.
    """
    state = one["state"]
    closed = [cooldown["until"] for cooldown in state["cooldowns"] if not cooldown["scope"]]
    if state["name"] in ("paused", "expired"):
        return cell("-", SOFT)
    if closed:
        return cell(f"until {place.clock(max(closed))}", "red")
    if not one["windows"]:
        return cell("not known yet", SOFT)
    general = [window for window in one["windows"] if "_" not in window["name"]] or one["windows"]
    if full := [window["reset"] for window in general if window["utilization"] >= 1]:
        return cell(f"full to {place.clock(max(full))}", "red")
    if soon := [window["full_at"] for window in general if window["full_at"] is not None]:
        return cell(f"full at {place.clock(min(soon))}", "yellow")
    return cell("on track", "green")


def requests(found: Sequence[Mapping[str, Any]], place: Place, *, rules: bool) -> list[list[Text]]:
    """Return the head, and for each request its lines: a row, what failed and, with ``rules``, the rule that decided."""
    wide = place.width >= WIDE
    columns = [
        Column("time", 8),
        Column("user", 8),
        Column("model", 14),
        Column("credential", 8),
        *([Column("lane", 10)] if wide else []),
        Column("code", 4, right=True),
        Column("first", 6, right=True),
        *([Column("total", 6, right=True)] if wide else []),
        Column("tokens", 6, right=True),
        Column("USD", 6, right=True),
    ]
    columns = filled(columns, place.width, {2: 26, 1: 16, 3: 16})
    lines = [table(columns, ())]
    for one in found:
        cells = [
            cell(place.seconds(one["at"])),
            cell(one["user"]),
            cell(one["requested"] or one["model"]),
            cell(one["credential"] or one["served"].partition("/")[0]),
            *([cell(one["lane"])] if wide else []),
            cell(one["status"], "green" if one["status"] < 400 else "yellow" if one["status"] == 499 else "red"),
            cell(duration(one["first_byte"])),
            *([cell(duration(one["seconds"]))] if wide else []),
            cell(tables.short(tokens_of(one))),
            cell("?" if one["usd"] is None else usd(one["usd"])),
        ]
        block = [line(cells, columns)]
        block += [fit(cell(f"{'':8}  {note}", style), place.width) for note, style in request_notes(one, rules=rules)]
        lines.append(block)
    return lines


def request_notes(one: Mapping[str, Any], *, rules: bool) -> Iterator[tuple[str, str]]:
    """Yield what else is to be known of a request: the rule that decided, what failed before, and its error."""
    if rules and one["rule"]:
        yield f"rule {one['rule']}: {one['model']}", SOFT
    yield from (
        (f"{attempt['target']} failed after {duration(attempt['seconds'])}: {attempt['why']}", "yellow")
        for attempt in one["attempts"]
        if attempt["why"]
    )
    if one["error"]:
        yield one["error"], "red"


def failovers(found: Sequence[Mapping[str, Any]], place: Place) -> list[list[Text]]:
    """Return the last failovers, of a proxy that lists no requests."""
    return [[fit(cell(f"{place.clock(one['at'])}  {one['text']}"), place.width)] for one in found]


def duration(seconds: float | None) -> str:
    """Return seconds in at most six characters."""
    if seconds is None:
        return "-"
    if seconds < 10:
        return f"{seconds:.2f}s"
    return f"{seconds:.1f}s" if seconds < 1000 else f"{seconds / 60:,.0f}m"


def usd(amount: float) -> str:
    """Return an amount in USD in at most six characters."""
    if 0 < amount < 0.1:
        return f"{amount:.4f}"
    return f"{amount:.2f}" if amount < 1000 else tables.short(amount)
