"""``claude-proxy status`` and ``claude-proxy usage``: their options, and what the running proxy responds."""

import json
import os
import shutil
import sys
import time
from datetime import UTC, date, datetime
from typing import Any
from urllib.parse import urlencode

import click

from claude_proxy.cli import terminal, usage_table
from claude_proxy.cli.command import command
from claude_proxy.cli.console import has_colours, is_terminal, tell
from claude_proxy.cli.parsing import INTERRUPTED, Options, json_option, url_option
from claude_proxy.cli.running_proxy import ask, ask_json, unexpected, url_of
from claude_proxy.cli.tables import Style
from claude_proxy.config.settings import Settings
from claude_proxy.history.periods import DAY_DAYS

WATCH_SECONDS = 5.0
SINCE_HELP = (
    "Count from this day to now: today, yesterday (so both days), 7d (the last seven days with today), or a date such as "
    "2026-11-01. Days are UTC."
)
CLEAR = "\x1b[H\x1b[2J"


class Since(click.ParamType[date]):
    """A first day: ``today``, ``yesterday``, ``7d`` or a date."""

    name = "since"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> date:
        """Return the day."""
        if isinstance(value, date):
            return value
        try:
            return usage_table.first_day(value, datetime.now(tz=UTC).date())
        except (ValueError, OverflowError):
            self.fail(
                f"{value!r} is not today, yesterday, a number of days such as 7d, or a date such as 2026-11-01.", param, ctx
            )


def show_status(options: Options) -> int:
    """Show rate limits and usage of the running proxy."""
    settings = Settings.parse(os.environ)
    url = options.url or url_of(settings)
    try:
        while True:
            text = _status(ask_json(url, "/pool", settings.master_key or settings.static_token), url, options)
            clear = CLEAR if options.watch and not options.json and is_terminal(sys.stdout) else ""
            print(f"{clear}{text}", flush=True)  # noqa: T201 - what the command is for
            if not options.watch:
                return 0
            time.sleep(WATCH_SECONDS)
    except KeyboardInterrupt:  # how a watch ends
        return INTERRUPTED


def _status(data: Any, url: str, options: Options) -> str:
    width = shutil.get_terminal_size().columns if is_terminal(sys.stdout) else None
    try:
        text = terminal.render(data, width, colours=has_colours(sys.stdout))
        return json.dumps(data, indent=None if options.watch else 2) if options.json else text
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError, OSError):
        raise unexpected(url) from None


def show_usage(options: Options) -> None:
    """Show the usage that the running proxy has in its history."""
    if options.csv and options.json:
        raise click.UsageError("--csv and --json exclude each other.")
    settings = Settings.parse(os.environ)
    url = options.url or url_of(settings)
    text = ask(url, _route(options), settings.master_key or settings.static_token).decode(errors="replace")
    try:
        lines = usage_table.since(usage_table.read(text), options.since)
    except usage_table.UnknownForm:
        raise unexpected(url) from None
    by = [*dict.fromkeys(options.by)] or ([*usage_table.NAMES] if options.csv or options.json else ["user"])
    found = usage_table.summed(lines, by)
    if options.csv:
        out = usage_table.as_csv(found, by)
    elif options.json:
        out = usage_table.as_json(found, by, options.since)
    else:
        out = usage_table.as_table(found, by, Style.of(sys.stdout, lambda: shutil.get_terminal_size().columns))
    sys.stdout.write(out)
    _tell_of_month(lines, options.since)


def _route(options: Options) -> str:
    """Return the route of the table; the proxy sums it, except one of an earlier version, which ignores the query."""
    query = [("from", options.since.isoformat())] if options.since else []
    if options.by or not (options.csv or options.json):
        columns = {usage_table.KEYS[name] for name in options.by or ["user"]} | ({"period"} if options.since else set())
        query += [("by", column) for column in sorted(columns)]
    return f"/usage.csv?{urlencode(query)}" if query else "/usage.csv"


def _tell_of_month(lines: list[usage_table.Line], first: date | None) -> None:
    """Print which month is counted whole although it starts before the first day: its days are no longer known."""
    month = f"{first:%Y-%m}" if first and first.day > 1 else None
    if month and any(line.period == month for line in lines):
        tell(f"{month} is counted from its first day: the proxy knows single days of the last {DAY_DAYS} days at least.")


STATUS = command(
    "status",
    show_status,
    [
        click.Option(["--watch"], is_flag=True, help="Show it again every five seconds, until Ctrl-C."),
        json_option(),
        url_option(),
    ],
    about="Show the rate limits of each Claude credential, and the usage of each user and model.",
    examples=("claude-proxy status", "claude-proxy status --watch", "claude-proxy status --json | jq .pool"),
)
USAGE = command(
    "usage",
    show_usage,
    [
        click.Option(
            ["--by"],
            multiple=True,
            type=click.Choice([*usage_table.KEYS]),
            help="Sum by this column. Can be repeated. Default: user. With --csv or --json: every line of the table.",
        ),
        click.Option(["--since"], type=Since(), metavar="DAY", help=SINCE_HELP),
        click.Option(["--csv"], is_flag=True, help="Print CSV."),
        json_option(),
        url_option(),
    ],
    about="Show requests, errors and tokens, with their total. Needs the master key.",
    examples=(
        "claude-proxy usage                       # by user",
        "claude-proxy usage --since today         # of this day (UTC)",
        "claude-proxy usage --by day --since 7d   # the last seven days",
        "claude-proxy usage --by user --by model  # by both",
        "claude-proxy usage --csv > usage.csv     # everything",
    ),
)
