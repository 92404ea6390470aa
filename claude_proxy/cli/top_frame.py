"""One picture of ``claude-proxy top``: the JSON of ``/pool`` and ``/pool/requests`` as lines that fit a terminal. No I/O.

Three rules:
  1. No line is wider than the terminal, and a picture with a height has at most that many lines.
  2. What has no room is counted in words, never left out in silence.
  3. What an older proxy does not send is left out; what it sends in another form is an error of ``FORM_ERRORS``.
"""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from rich.console import Console
from rich.text import Text

from claude_proxy.cli import budget_command, tables, terminal, top_tables
from claude_proxy.cli.tables import Style
from claude_proxy.cli.terminal import BOLD, clock_of, counted, credential, local_time, problems, summary, usage_table
from claude_proxy.cli.top_tables import MIDDLE, SOFT, STYLES, TITLE, Place, cell, fit, usd

FORM_ERRORS = (LookupError, TypeError, ValueError, AttributeError, OverflowError, OSError)
NARROWEST, WIDEST = 60, 160
# The width of a picture that is not for a terminal.
PLAIN_WIDTH = 120
OVERVIEW, ALERTS, CREDENTIALS = "overview", "alerts", "credentials"
REQUESTS, USERS, BUDGETS = "requests", "users", "budgets"
VIEWS = (OVERVIEW, ALERTS, CREDENTIALS, REQUESTS, USERS, BUDGETS)
# The alerts of the overview, the budgets in the head of a wide terminal, and the requests of a picture without a height.
MAX_ALERTS, MAX_BUDGETS, MAX_REQUESTS = 3, 3, 10
# From this height on, the overview has the whole text of an alert, and what to do. With less room than this below its head,
# it has one line for each credential.
TALL, LOW = 36, 22
# What the overview keeps for requests, however many credentials there are: the head and four.
REQUEST_LINES = 5
LEVELS = {"good": "bold green", "warning": "bold yellow", "critical": "bold red", "info": "bold"}
# How the lines of ``claude-proxy status`` look here.
LINE_STYLES = {**STYLES, BOLD: TITLE, terminal.SOFT: SOFT}
NOTHING, NO_ALERT = "No request yet.", "No alert fires."


class Size(NamedTuple):
    """The columns of a terminal, and its lines; without lines, everything is shown."""

    width: int
    height: int | None = None


@dataclass(frozen=True)
class Data:
    """What the proxy responded, and the time there when it did.

    ``requests`` is None for a proxy that lists none; ``problem`` is why there is nothing newer.
    """

    url: str
    now: float
    pool: Mapping[str, Any]
    requests: Mapping[str, Any] | None = None
    problem: str = ""


@dataclass(frozen=True)
class View:
    """Which of ``VIEWS`` is shown, and how many of its lines are scrolled away."""

    name: str = OVERVIEW
    offset: int = 0


class Body(NamedTuple):
    """The part below the head: lines that stay, and lines that scroll."""

    head: list[Text]
    lines: list[Text]


def frame(
    data: Data, view: View, size: Size, *, local: Callable[[float], datetime] = local_time, unicode: bool = True
) -> list[Text]:
    """Return the lines of a picture. ``local`` returns the viewer's time for Unix seconds."""
    width = min(max(size.width, NARROWEST), WIDEST)
    place = Place(width, data.now, local, unicode)
    top = _head(data, place)
    if size.height is None:
        body = _overview(data, place, None)
        return [*top, *_latest_alerts(data.pool, place, None), *body.head, *body.lines]
    if view.name == OVERVIEW:
        top += _latest_alerts(data.pool, place, size.height)
    foot = [_keys(view.name, width)]
    room = max(1, size.height - len(top) - len(foot))
    body = _overview(data, place, room) if view.name == OVERVIEW else _body(data, view.name, place)
    lines = [*top, *body.head, *_scrolled(body, view.offset, room)]
    lines = lines[: size.height - 1]
    lines += [Text(end="")] * (size.height - 1 - len(lines))
    return [fit(one, size.width) for one in [*lines, *foot]]


def last_offset(data: Data, view: View, size: Size, local: Callable[[float], datetime] = local_time) -> int:
    """Return how far a view can be scrolled."""
    if size.height is None or view.name == OVERVIEW:
        return 0
    place = Place(min(max(size.width, NARROWEST), WIDEST), data.now, local)
    body = _body(data, view.name, place)
    room = size.height - 1 - len(_head(data, place)) - len(body.head)
    return max(0, len(body.lines) - max(1, room))


def as_text(lines: Sequence[Text], *, colours: bool) -> str:
    """Return lines as a text that ends with a newline."""
    out = io.StringIO()
    console = Console(
        file=out, width=max((line.cell_len for line in lines), default=1) + 1, force_terminal=colours,
        color_system="standard" if colours else None, legacy_windows=False, _environ={},
    )  # fmt: skip
    for line in lines:
        console.print(line, end="\n", highlight=False, no_wrap=True, overflow="ignore", crop=False)
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())


def _head(data: Data, place: Place) -> list[Text]:
    """Return what every view begins with: is all well, what is under way, and money."""
    pool, time = data.pool, place.seconds(data.now)
    title = fit(cell(f"claude-proxy {data.url}", SOFT), place.width - len(time) - 1)
    title.align("left", place.width - len(time))
    lines = [title.append(time, SOFT)]
    if data.problem:
        lines += wrapped(f"{data.problem} The figures are those of {time}.", "bold red", place.width)
    overview = pool.get("overview") or {"level": "info", "sentence": f"{summary(pool)}."}
    lines += wrapped(overview["sentence"], LEVELS.get(overview["level"], TITLE), place.width)
    if words := [*_now(data, overview, MAX_BUDGETS if place.width >= MIDDLE else 1)]:
        lines += wrapped(" · ".join(words) if place.unicode else ", ".join(words), "", place.width)
    return [*lines, Text(end="")]


def _now(data: Data, overview: Mapping[str, Any], most: int) -> Iterator[str]:
    """Yield the requests under way, the money, the budgets that are used most, and when the pool is empty."""
    running = data.pool.get("running")
    if running is not None:
        users = sorted(running.get("users", {}).items(), key=lambda user: (-user[1], user[0]))[:3]
        named = f" ({', '.join(f'{name} {number}' for name, number in users)})" if users else ""
        yield f"running {running['requests']:,.0f}{named}"
    if money := overview.get("money"):
        sums = ", ".join(f"{period} {usd(money[period])}" for period in ("today", "week", "month"))
        unknown = f" and {counted(money['unpriced'], 'response')} without a known cost" if money.get("unpriced") else ""
        yield f"USD {sums}{unknown}"
    if budgets := _budgets(data.pool):
        yield "budgets: " + ", ".join(f"{one['scope']} {one['period']} {one['percent']} %" for one in budgets[:most])
    if overview.get("empty_in_words"):
        yield overview["empty_in_words"]


def _budgets(pool: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the budgets, the one that is used most first."""
    return sorted(pool.get("budgets", ()), key=lambda one: -one["percent"])


def _alerts(pool: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Return the firing alerts; of a proxy without alerts, what is wrong with it."""
    found = pool.get("alerts")
    return [{"severity": "critical", "text": text, "action": ""} for text in problems(pool)] if found is None else found


def _latest_alerts(pool: Mapping[str, Any], place: Place, height: int | None) -> list[Text]:
    """Return the most severe alerts, in a low terminal a line each, without what to do; all of them without a height."""
    found, lines = _alerts(pool), list[Text]()
    most = len(found) if height is None else MAX_ALERTS
    for one in found[:most]:
        lines += _alert(one, place) if height is None or height >= TALL else [_cut_alert(one, place)]
    if len(found) > most:
        lines.append(cell(f"! and {counted(len(found) - most, 'more alert')}: press a", TITLE))
    return [*lines, Text(end="")] if lines else []


def _cut_alert(one: Mapping[str, Any], place: Place) -> Text:
    return fit(cell(f"! {one['text']}", LEVELS.get(one["severity"], TITLE)), place.width)


def _alert(one: Mapping[str, Any], place: Place) -> list[Text]:
    """Return an alert with all its text, since when it fires, and what to do."""
    since = f" Since {place.clock(one['since'])}." if one.get("since") else ""
    lines = wrapped(f"! {one['text']}{since}", LEVELS.get(one["severity"], TITLE), place.width, indent=2)
    return [*lines, *(wrapped(f"  {one['action']}", "", place.width, indent=2) if one["action"] else ())]


def wrapped(words: str, style: str, width: int, indent: int = 0) -> list[Text]:
    """Return words as lines; those after the first are indented."""
    text = cell(words, style)
    # The console is only asked for how text is justified, which this one is not.
    first, *rest = text.wrap(Console(file=io.StringIO(), width=width), width - indent, no_wrap=False)
    for one in (first, *rest):
        one.rstrip()
        one.end = ""
    return [first, *(Text(" " * indent, end="").append_text(one) for one in rest)]


def _overview(data: Data, place: Place, room: int | None) -> Body:
    """Return credentials and below them the last requests; the credentials give way if there is no room for both."""
    head, *blocks = top_tables.credentials(data.pool, place)
    if room is not None and room < LOW:
        blocks = [block[:1] for block in blocks]
    if room is None:
        below = _requests(data, place, rules=False, most=MAX_REQUESTS)
        return Body(head, [*_flat(blocks), Text(end=""), *below.head, *below.lines])
    below = _requests(data, place, rules=False)
    above = [*head, *_flat(blocks)]
    kept = min(room, max(room - 1 - min(REQUEST_LINES, len(below.head) + len(below.lines)), len(head) + 1))
    if len(above) > kept:
        above = _cut(head, blocks, kept)
    rest = room - len(above) - 1
    lines = [*below.head, *below.lines][: max(0, rest)]
    return Body([], [*above, *([Text(end=""), *lines] if rest > 1 else [])])


def _cut(head: list[Text], blocks: Sequence[list[Text]], room: int) -> list[Text]:
    """Return as many whole credentials as there is room for, and how many more there are."""
    found = [*head]
    for number, block in enumerate(blocks):
        if len(found) + len(block) + 1 > room:
            return [*found, cell(f"and {counted(len(blocks) - number, 'more credential')}: press c", SOFT)]
        found += block
    return found


def _body(data: Data, name: str, place: Place) -> Body:
    """Return a view of one thing, which has the whole terminal."""
    if name == ALERTS:
        lines = [line for one in _alerts(data.pool) for line in (*_alert(one, place), Text(end=""))]
        return Body([], lines or [cell(NO_ALERT, SOFT)])
    if name == CREDENTIALS:
        return Body([], [*_details(data.pool, place)])
    if name == REQUESTS:
        return _requests(data, place, rules=True)
    if name == USERS:
        return Body([], [cell(text) for text in _usage(data.pool, place)])
    rows = [budget_command.row(one) for one in _budgets(data.pool)]
    if not rows:
        return Body([], wrapped(budget_command.NONE, SOFT, place.width))
    texts = [cell(text) for text in tables.text(budget_command.COLUMNS, rows, Style(place.width)).splitlines()]
    head = min(2, len(texts) - len(rows))  # a title has one or two lines, and a row has one, or more in a narrow terminal
    return Body(texts[:head], texts[head:])


def _details(pool: Mapping[str, Any], place: Place) -> Iterator[Text]:
    """Yield everything that is known of each credential."""
    clock = clock_of(place.now, place.local)
    for one in top_tables.worst_first(pool["credentials"]):
        for row in credential(one, clock):
            space = Text(" " * row.indent, end="")
            parts = wrapped(row.text, LINE_STYLES.get(row.colour, ""), place.width - row.indent)
            yield from (space.copy().append_text(part) for part in parts)
        yield Text(end="")


def _usage(pool: Mapping[str, Any], place: Place) -> Iterator[str]:
    style = Style(place.width)
    for title, rows in (("Users" if pool["viewer"]["sees_all_users"] else "You", pool["users"]), ("Models", pool["models"])):
        if rows:
            yield from (*usage_table(title, rows, style).splitlines(), "")


def _requests(data: Data, place: Place, *, rules: bool, most: int | None = None) -> Body:
    if data.requests is None:
        found = top_tables.failovers(data.pool["failovers"][:most], place)
        return Body([cell("last failovers", SOFT)], _flat(found) or [cell("none", SOFT)])
    head, *blocks = top_tables.requests(data.requests["requests"][:most], place, rules=rules)
    return Body(head, _flat(blocks) or [cell(NOTHING, SOFT)])


def _flat(blocks: Sequence[list[Text]]) -> list[Text]:
    return [one for block in blocks for one in block]


def _scrolled(body: Body, offset: int, room: int) -> list[Text]:
    """Return the lines from an offset; the last one says how many there are below it."""
    room = max(1, room - len(body.head))
    found = body.lines[offset : offset + room]
    below = len(body.lines) - offset - len(found)
    return [*found[:-1], cell(f"and {counted(below + 1, 'more line')}: press down", SOFT)] if below > 0 and found else found


def _keys(name: str, width: int) -> Text:
    found = Text(no_wrap=True, end="")
    for view in VIEWS:
        words = f" {view} " if view == name else f" {view[0]}"
        found.append(words, "reverse" if view == name else "bold")
        if view != name:
            found.append(f" {view} ", SOFT)
    found.append(" q", "bold").append(" quit", SOFT)
    return fit(found, width)
