"""``claude-proxy budget``: the budgets of the running proxy, and changes of them that apply immediately in every process."""

import json
import os
import shutil
import sys
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import click

from claude_proxy.cli import tables
from claude_proxy.cli.command import command, group
from claude_proxy.cli.console import tell
from claude_proxy.cli.parsing import Options, json_option, url_option
from claude_proxy.cli.running_proxy import ask_json, send_json, unexpected, url_of
from claude_proxy.cli.tables import Column, Style
from claude_proxy.config.budgets import PERIODS
from claude_proxy.config.money import amount
from claude_proxy.config.settings import Settings
from claude_proxy.config.timezones import UTC, is_timezone, timezone

NO_LIMIT = "none"
COLUMNS = (Column("scope"), Column("period"), *(Column(title, numeric=True) for title in ("spent USD", "of USD", "used")))
COLUMNS += (Column("resets"), Column("notes"))
NONE = "There are no budgets. `budget` under `claude_proxy:` in config.yaml sets them, and so does `claude-proxy budget set`."


def show_budgets(options: Options) -> None:
    """Show each budget, with what is spent of it."""
    settings = Settings.parse(os.environ)
    url = options.url or url_of(settings)
    data = ask_json(url, "/pool", settings.master_key or settings.static_token)
    try:
        found = data["budgets"]
        rows = [row(one) for one in found]
        zones = sorted({_zone(one["timezone"]).key for one in found})
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError):
        raise unexpected(url) from None
    if options.json:
        print(json.dumps(found, indent=2))  # noqa: T201 - the output
    elif rows:
        style = Style.of(sys.stdout, lambda: shutil.get_terminal_size().columns)
        print(tables.text(COLUMNS, rows, style), end="")  # noqa: T201 - the output
        tell(f"The times are those of {', '.join(zones)}.")
    else:
        tell(NONE)


def set_budget(options: Options) -> None:
    """Change amounts of a budget on top of config.yaml, until a moment if one is given."""
    limits = dict(map(_limit, options.limits))
    _change(options, limits, options.until)


def unset_budget(options: Options) -> None:
    """Remove the changes of a budget, so that config.yaml applies."""
    _change(options, {})


def _change(options: Options, limits: dict[str, str | None], until: str | None = None) -> None:
    settings = Settings.parse(os.environ)
    url = options.url or url_of(settings)
    change = {"scope": options.scope, "limits": limits} | ({"until": until} if until is not None else {})
    data = send_json(url, "/budget", settings.master_key, change)
    try:
        found, scope = data["budgets"], str(data["scope"])
        words = [f"{one['limit']:.2f} USD a {one['period']}" for one in found]
        end = f"The change ends on {_date(data['until'], data)} ({_zone(data['timezone']).key})." if until else ""
        warning = tables.plain(str(data.get("warning") or ""))
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError):
        raise unexpected(url) from None
    if options.json:
        print(json.dumps(found, indent=2))  # noqa: T201 - the output
    what = f"The budget of {tables.plain(scope)}"
    tell(f"{what} is now {tables.plain(', '.join(words))}." if words else f"{tables.plain(scope)} has no budget now.")
    if end:
        tell(end)
    if warning:
        tell(f"{warning} To undo it, run `claude-proxy budget unset {tables.plain(scope)}`.")


def _limit(text: str) -> tuple[str, str | None]:
    """Return a period and its amount, None for no limit; raise ``click.UsageError`` for another text."""
    period, equals, value = text.partition("=")
    if period not in PERIODS or not equals:
        raise click.UsageError(f"{text!r} is not an amount by period. Write day=10, week=40 or month=120, in USD.")
    if value == NO_LIMIT:
        return period, None
    if not amount(value):
        raise click.UsageError(f"{text!r}: the amount should be a number of USD above 0, or {NO_LIMIT} for no limit.")
    return period, value


def row(one: Mapping[str, Any]) -> list[str]:
    """Return a budget as a row of ``COLUMNS``."""
    return [
        str(one["scope"]),
        str(one["period"]),
        f"{one['spent']:.2f}",
        f"{one['limit']:.2f}",
        f"{one['percent']:d} %",
        _date(one["resets_at"], one),
        ", ".join(_notes(one)),
    ]


def _date(moment: float, one: Mapping[str, Any]) -> str:
    """Return a moment in the time zone that ``one`` names."""
    return f"{datetime.fromtimestamp(moment, _zone(one['timezone'])):%Y-%m-%d %H:%M}"


def _zone(name: str) -> ZoneInfo:
    """Return a time zone; UTC for one that this machine does not know."""
    return timezone(name) if is_timezone(name) else UTC


def _notes(one: Mapping[str, Any]) -> Iterable[str]:
    if one["soft"]:
        yield "soft"
    if one["override"]:
        yield "changed" if one["configured"] is None else f"config.yaml: {one['configured']:.2f}"
    if one.get("until") is not None:
        yield f"until {_date(one['until'], one)}"


SCOPE = click.Argument(["scope"], metavar="SCOPE")
BUDGET = group(
    "budget",
    [
        command(
            "set",
            set_budget,
            [
                SCOPE,
                click.Argument(["limits"], nargs=-1, required=True, metavar="PERIOD=USD..."),
                click.Option(
                    ["--until"], help="When the change ends by itself: tomorrow, 2026-12-05, 18:00, '2026-12-05 18:00'."
                ),
                json_option(),
                url_option(),
            ],
            about="Change a budget. SCOPE is user:NAME, group:NAME or all; PERIOD is day, week or month. The change applies "
            "immediately, in every process, until `unset` or `--until`. Needs the master key.",
            examples=(
                "claude-proxy budget set user:anna day=20 --until tomorrow",
                "claude-proxy budget set all day=100 week=none",
            ),
            writes=True,
        ),
        command(
            "unset",
            unset_budget,
            [SCOPE, json_option(), url_option()],
            about="Remove the changes of a budget, so that config.yaml applies. Needs the master key.",
            examples=("claude-proxy budget unset user:anna",),
            writes=True,
        ),
    ],
    about="Show the budgets, with what is spent of them, and change them. With the master key: those of all users.",
    default=command("budget", show_budgets, [json_option(), url_option()], about=""),
)
