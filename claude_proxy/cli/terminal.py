"""``claude-proxy status``: rate limits and usage of the running proxy as text."""

import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from claude_proxy.access.routes import OPEN_NOTICE
from claude_proxy.cli import tables
from claude_proxy.cli.tables import Column, Row, Style, plain

NARROWEST, WIDEST = 40, 120
BAR = 20
FAILOVERS = 5
GOOD, WARN, BAD, SOFT, BOLD = "32", "33", "31", "2", "1"
STATE_COLOURS = {"usable": GOOD, "partly rate-limited": WARN, "paused": WARN}
# What is shown for a state beside its cooldowns.
STATE_WORDS = {"paused": "paused", "expired": "login expired: start Claude Code in its home folder"}
NOT_USED = "not used yet; Anthropic reports its limits with the first response"
USAGE = tuple(
    Column(f"{what} {period}", numeric=True) for period in ("today", "7 days") for what in ("requests", "errors", "tokens")
)


class Line(NamedTuple):
    """A line before it is wrapped; ``colour`` is a code of the terminal's, or empty."""

    text: str
    colour: str = ""
    indent: int = 0


def local_time(at: float) -> datetime:
    """Return Unix seconds as a time in the zone of this machine."""
    return datetime.fromtimestamp(at, UTC).astimezone()


def render(
    data: Mapping[str, Any], width: int | None, *, colours: bool, local: Callable[[float], datetime] = local_time
) -> str:
    """Return the JSON of ``/pool`` as text of at most ``width`` columns; None is a pipe, where no line is wrapped.

    ``local`` returns the viewer's time for Unix seconds.
    """
    width = None if width is None else min(max(width, NARROWEST), WIDEST)
    style = Style(width, colours=colours)

    clock = clock_of(data["now"], local)
    since, zone = f"{local(data['store']['process_started']):%Y-%m-%d %H:%M}", f"{local(data['now']):%Z}"
    lines = [part for line in _pool(data, clock) for part in _wrapped(line, style)]
    for title, rows in (("Users" if data["viewer"]["sees_all_users"] else "You", data["users"]), ("Models", data["models"])):
        if rows:
            lines += ["", *usage_table(title, rows, style).splitlines()]
    lines += [part for line in _last(data, clock, since, zone) for part in _wrapped(line, style)]
    return "\n".join(lines)


def clock_of(now: float, local: Callable[[float], datetime] = local_time) -> Callable[[float], str]:
    """Return what writes a time: as hours and minutes, and with its day if that is not the present one."""

    def clock(at: float) -> str:
        return f"{local(at):%H:%M}" if abs(at - now) < 12 * 3600 else f"{local(at):%a %d %b %H:%M}"

    return clock


def _wrapped(line: Line, style: Style) -> list[str]:
    space = " " * line.indent
    text = plain(line.text)
    parts = [f"{space}{text}".rstrip()]
    if style.width is not None:
        parts = textwrap.wrap(text, style.width, initial_indent=space, subsequent_indent=space) or [""]
    return [f"\x1b[{line.colour}m{part}\x1b[0m" if style.colours and line.colour else part for part in parts]


def usage_table(title: str, rows: Sequence[Mapping[str, Any]], style: Style) -> str:
    """Return the usage of users or models as a table, with the total of several."""
    lines: list[Row] = [(row["name"], *_numbers(row["today"]), *_numbers(row["week"])) for row in rows]
    total = ("Total", *(sum(column) for column in zip(*(line[1:] for line in lines), strict=True)))
    return tables.text([Column(title), *USAGE], lines, style, total=total if len(lines) > 1 else None)


def _numbers(row: Mapping[str, float]) -> tuple[float, float, float]:
    return row["requests"], row["errors"], tokens_of(row)


def tokens_of(row: Mapping[str, float]) -> float:
    """Return the tokens of a row of usage, cached ones too."""
    return row["input"] + row["output"] + row["cache_read"] + row["cache_write"]


def summary(data: Mapping[str, Any]) -> str:
    """Return how many credentials are usable, and how much room they have."""
    pool = data["pool"]
    room = "" if pool["headroom"] is None else f", {pool['headroom']:.0%} of the rate limits left"
    # Without any window, only a cooldown is known.
    if pool["headroom"] and not any(one["windows"] for one in data["credentials"]):
        room = ", rate limits not known yet"
    return f"{pool['usable']} of {counted(pool['credentials'], 'credential')} usable{room}"


def _pool(data: Mapping[str, Any], clock: Callable[[float], str]) -> Iterator[Line]:
    yield Line(summary(data), BOLD)
    yield from (Line(problem, BAD) for problem in problems(data))
    for one in data["credentials"]:
        yield from (Line(""), *credential(one, clock))


def problems(data: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with the proxy as a whole, a sentence each."""
    return [*([OPEN_NOTICE] if data.get("open") else []), *data["pool"]["problems"]]


def _last(data: Mapping[str, Any], clock: Callable[[float], str], since: str, zone: str) -> Iterator[Line]:
    if data["failovers"]:
        yield from (Line(""), Line("Last failovers", BOLD))
    for one in data["failovers"][:FAILOVERS]:
        yield Line(f"{clock(one['at'])} {one['text']}", "", 2)
    store = data["store"]
    where = f"shared through {store['kind']}" if store["kind"] and not store["unavailable"] else "of this process alone"
    yield from (Line(""), Line(f"State {where}. Process running since {since}. Times are in {zone}.", SOFT))


def credential(one: Mapping[str, Any], clock: Callable[[float], str]) -> Iterator[Line]:
    """Yield everything that is known of a credential."""
    yield Line(f"{one['label']} ({one['kind']})", BOLD)
    for text, colour in states(one["state"], clock):
        yield Line(text, colour, 2)
    for window in one["windows"]:
        used = window["utilization"]
        yield Line(f"{bar(used)} {used:4.0%} {window['title']}, {forecast(window, clock)}", grade(used), 2)
    if not (one["windows"] or one["week"]["requests"] or one["last_error"] or one["state"]["cooldowns"]):
        yield Line(NOT_USED, SOFT, 2)
    yield Line(f"{counted(one['sessions'], 'session')}; today {sums(one['today'])}; 7 days {sums(one['week'])}", "", 2)
    if one["last_error"]:
        yield Line(f"last error {clock(one['last_error']['at'])}: {one['last_error']['text']}", SOFT, 2)
    if one["login"] and one["state"]["name"] != "expired":
        yield Line(one["login"]["words"], SOFT, 2)
    if one["setup_token"]:
        yield Line(one["setup_token"]["words"], WARN if one["setup_token"]["warning"] else SOFT, 2)


def states(state: Mapping[str, Any], clock: Callable[[float], str]) -> list[tuple[str, str]]:
    """Return the lines of a credential's state, each with its colour."""
    colour = STATE_COLOURS.get(state["name"], BAD)
    closed = STATE_WORDS.get(state["name"])
    lines = [] if closed or any(not cooldown["scope"] for cooldown in state["cooldowns"]) else [(state["name"], colour)]
    lines += [(closed, colour)] if closed else []
    for cooldown in state["cooldowns"]:
        name = "rate-limited" if closed else state["name"]
        what = f"rate-limited for {cooldown['scope']}" if cooldown["scope"] else name
        if cooldown.get("since"):  # missing in the JSON of earlier versions
            what += f" since {clock(cooldown['since'])},"
        lines.append((f"{what} until {clock(cooldown['until'])}: {cooldown['reason']}", colour))
    return lines


def forecast(window: Mapping[str, Any], clock: Callable[[float], str]) -> str:
    """Return when a window is full and when it resets."""
    if window["utilization"] >= 1:
        text = "full"
    else:
        text = "on track" if window["full_at"] is None else f"full at about {clock(window['full_at'])}"
    return f"{text}; resets {clock(window['reset'])}"


def bar(fraction: float) -> str:
    """Return a bar of ``BAR`` characters."""
    full = round(min(1.0, fraction) * BAR)
    return f"{'#' * full}{'.' * (BAR - full)}"


def grade(fraction: float) -> str:
    """Return the colour of a window."""
    return BAD if fraction >= 0.95 else WARN if fraction >= 0.75 else GOOD


def sums(row: Mapping[str, float]) -> str:
    """Return requests, tokens and errors in words."""
    errors = f", {counted(row['errors'], 'error')}" if row["errors"] else ""
    return f"{counted(row['requests'], 'request')}, {counted(tokens_of(row), 'token')}{errors}"


def counted(number: float, what: str) -> str:
    """Return a number with its noun, in the plural unless it is one."""
    return f"{number:,.0f} {what}{'' if number == 1 else 's'}"
