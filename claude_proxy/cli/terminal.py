"""``claude-proxy status`` and ``claude-proxy usage``: what the running proxy knows, in a terminal."""

import csv
import io
import shutil
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, TextIO

import httpx

from claude_proxy.config.settings import Settings
from claude_proxy.secret import Secret
from claude_proxy.upstream.headers import PROXY_TOKEN

WATCH_SECONDS = 5.0
ASK_SECONDS = 15.0
NARROWEST, WIDEST = 40, 120
BAR = 20
FAILOVERS = 5
GOOD, WARN, BAD, SOFT, BOLD = "32", "33", "31", "2", "1"
STATE_COLOURS = {"usable": GOOD, "partly rate-limited": WARN, "paused": WARN}
# What is said of a state beside its rests.
STATE_WORDS = {"paused": "paused", "expired": "its login has expired: start Claude Code in that home"}
CLEAR = "\x1b[H\x1b[2J"


class Unanswered(Exception):
    """The running proxy could not be asked; the message is a sentence for the operator and holds no secret."""


def url_of(settings: Settings) -> str:
    """Return where the proxy of these settings is reached from this machine."""
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host  # noqa: S104 - compared, not bound
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"


def ask(url: str, path: str, token: Secret | None) -> httpx.Response:
    """Ask the running proxy; raise ``Unanswered`` when it does not answer with a success."""
    headers = {"accept": "application/json"} | ({PROXY_TOKEN: token.reveal()} if token else {})
    try:
        answer = httpx.get(f"{url.rstrip('/')}{path}", headers=headers, timeout=ASK_SECONDS, trust_env=False)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Unanswered(
            f"No proxy answers at {url} ({type(error).__name__}): is it running there? --url names another."
        ) from None
    if answer.status_code in (401, 403):
        raise Unanswered(f"The proxy at {url} does not take the token of .env (HTTP {answer.status_code}).")
    if not answer.is_success:
        raise Unanswered(f"The proxy at {url} answered with HTTP {answer.status_code}.")
    return answer


def show_status(settings: Settings, url: str | None, *, watch: bool, out: TextIO) -> None:
    """Write the status once, or until it is interrupted."""
    person = out.isatty()
    while True:
        try:
            data = ask(url or url_of(settings), "/pool", settings.master_key or settings.static_token).json()
        except ValueError:
            raise Unanswered("What answers there is no claude-proxy: its answer is not JSON.") from None
        try:
            text = render(data, shutil.get_terminal_size().columns, colours=person)
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError, OSError):
            raise Unanswered("What answers there is no claude-proxy of this version: its answer has another form.") from None
        print(f"{CLEAR if watch and person else ''}{text}", file=out, flush=True)
        if not watch:
            return
        try:
            time.sleep(WATCH_SECONDS)
        except KeyboardInterrupt:  # how a watch ends
            return


def show_usage(settings: Settings, url: str | None, *, as_csv: bool, out: TextIO) -> None:
    """Write the book of usage: as CSV, or as a table for people."""
    text = ask(url or url_of(settings), "/usage.csv", settings.master_key or settings.static_token).text
    out.write(plain_lines(text) if as_csv else aligned([*csv.reader(io.StringIO(text))]))
    out.flush()


class Line(NamedTuple):
    """A line before it is wrapped; ``colour`` is a code of the terminal's, or empty."""

    text: str
    colour: str = ""
    indent: int = 0


def render(
    data: Mapping[str, Any], width: int, *, colours: bool, local: Callable[[float], datetime] = datetime.fromtimestamp
) -> str:
    """Return the JSON of ``/pool`` as text of at most ``width`` columns; ``local`` makes the viewer's time of Unix seconds."""
    width = min(max(width, NARROWEST), WIDEST)

    def clock(at: float) -> str:
        return f"{local(at):%H:%M}" if abs(at - data["now"]) < 12 * 3600 else f"{local(at):%a %d %b %H:%M}"

    lines: list[str] = []
    for line in _lines(data, clock, f"{local(data['store']['process_started']):%Y-%m-%d %H:%M}"):
        space = " " * line.indent
        wrapped = textwrap.wrap(plain(line.text), width, initial_indent=space, subsequent_indent=space) or [""]
        lines += [f"\x1b[{line.colour}m{part}\x1b[0m" if colours and line.colour else part for part in wrapped]
    return "\n".join(lines)


def _lines(data: Mapping[str, Any], clock: Callable[[float], str], since: str) -> Iterator[Line]:
    pool, store = data["pool"], data["store"]
    room = "" if pool["headroom"] is None else f", {pool['headroom']:.0%} room left"
    yield Line(f"{pool['usable']} of {counted(pool['credentials'], 'credential')} usable{room}", BOLD)
    yield from (Line(problem, BAD) for problem in pool["problems"])
    for one in data["credentials"]:
        yield from _credential(one, clock)
    for title, rows in (("People" if data["viewer"]["sees_all_users"] else "You", data["users"]), ("Models", data["models"])):
        yield from (Line(""), Line(title, BOLD))
        for row in rows:
            yield Line(f"{row['name']}: today {sums(row['today'])}; 7 days {sums(row['week'])}", "", 2)
    if data["failovers"]:
        yield from (Line(""), Line("Last failovers", BOLD))
    for one in data["failovers"][:FAILOVERS]:
        yield Line(f"{clock(one['at'])} {one['text']}", "", 2)
    where = f"shared through {store['kind']}" if store["kind"] and not store["unavailable"] else "of one process alone"
    yield from (Line(""), Line(f"What is known is {where}. Process running since {since}.", SOFT))


def _credential(one: Mapping[str, Any], clock: Callable[[float], str]) -> Iterator[Line]:
    yield from (Line(""), Line(f"{one['label']} ({one['kind']})", BOLD))
    for text, colour in states(one["state"], clock):
        yield Line(text, colour, 2)
    for window in one["windows"]:
        used = window["utilization"]
        yield Line(f"{bar(used)} {used:4.0%} {window['title']}, {forecast(window, clock)}", grade(used), 2)
    yield Line(f"{counted(one['sessions'], 'session')}; today {sums(one['today'])}; 7 days {sums(one['week'])}", "", 2)
    if one["last_error"]:
        yield Line(f"last limit or error {clock(one['last_error']['at'])}: {one['last_error']['text']}", SOFT, 2)
    if one["login"] and one["state"]["name"] != "expired":
        yield Line(one["login"]["words"], SOFT, 2)
    if one["age"]:
        yield Line(f"setup token: {one['age']['words']}", WARN if one["age"]["warning"] else SOFT, 2)


def states(state: Mapping[str, Any], clock: Callable[[float], str]) -> list[tuple[str, str]]:
    """Return the lines that say what a credential may be asked for, each with its colour."""
    colour = STATE_COLOURS.get(state["name"], BAD)
    closed = STATE_WORDS.get(state["name"])
    lines = [] if closed or any(not cooldown["scope"] for cooldown in state["cooldowns"]) else [("usable", GOOD)]
    lines += [(closed, colour)] if closed else []
    for cooldown in state["cooldowns"]:
        name = "rate-limited" if closed else state["name"]
        what = f"rate-limited for {cooldown['scope']}" if cooldown["scope"] else name
        lines.append((f"{what} until {clock(cooldown['until'])}: {cooldown['reason']}", colour))
    return lines


def forecast(window: Mapping[str, Any], clock: Callable[[float], str]) -> str:
    """Return when a window is full and when it opens anew."""
    if window["utilization"] >= 1:
        text = "full"
    else:
        text = "not full before its reset" if window["full_at"] is None else f"full about {clock(window['full_at'])}"
    return f"{text}, opens anew {clock(window['reset'])}"


def bar(fraction: float) -> str:
    """Return a bar of ``BAR`` characters."""
    full = round(min(1.0, fraction) * BAR)
    return f"{'#' * full}{'.' * (BAR - full)}"


def grade(fraction: float) -> str:
    """Return the colour of a window."""
    return BAD if fraction >= 0.95 else WARN if fraction >= 0.75 else GOOD


def sums(row: Mapping[str, float]) -> str:
    """Return requests, tokens and errors in words."""
    tokens = row["input"] + row["output"] + row["cache_read"] + row["cache_write"]
    errors = f", {counted(row['errors'], 'error')}" if row["errors"] else ""
    return f"{counted(row['requests'], 'request')}, {counted(tokens, 'token')}{errors}"


def counted(number: float, what: str) -> str:
    """Return a number with its noun, in the plural unless it is one."""
    return f"{number:,.0f} {what}{'' if number == 1 else 's'}"


def plain(text: str) -> str:
    """Return a text without characters that steer a terminal, whoever answered at that address."""
    return "".join(char if char.isprintable() else "?" for char in text)


def plain_lines(text: str) -> str:
    """Return a text of several lines without characters that steer a terminal."""
    return "\n".join(plain(line) for line in text.split("\n"))


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as columns; numbers stand to the right."""
    columns = max((len(row) for row in rows), default=0)
    rows = [[*row, *[""] * (columns - len(row))] for row in rows]
    widths = [max(len(row[place]) for row in rows) for place in range(columns)]
    lines = [
        "  ".join(cell.rjust(width) if cell.isdigit() else cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    ]
    return "".join(f"{plain(line.rstrip())}\n" for line in lines)
