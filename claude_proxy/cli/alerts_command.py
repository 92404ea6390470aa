"""``claude-proxy alerts``: what needs attention at the running proxy, and a test of the notifications."""

import json
import os
import shutil
import sys
from datetime import UTC, datetime

from claude_proxy.alerts.delivery import deliver_now
from claude_proxy.alerts.messages import trial
from claude_proxy.cli import tables
from claude_proxy.cli.command import command, group
from claude_proxy.cli.console import CommandError, tell
from claude_proxy.cli.parsing import Options, json_option, url_option
from claude_proxy.cli.project import config_path
from claude_proxy.cli.running_proxy import ask_json, unexpected, url_of
from claude_proxy.cli.tables import Column, Style
from claude_proxy.config import models
from claude_proxy.config.alerts import URL, Alerts, entries, missing
from claude_proxy.config.settings import Settings

COLUMNS = tuple(map(Column, ("severity", "since UTC", "alert", "what to do")))
NO_TARGETS = "No address is set. `alerts: {to: [...]}` under `claude_proxy:` in config.yaml names them; see docs/alerts.md."


def show_alerts(options: Options) -> None:
    """Show the alerts that fire."""
    settings = Settings.parse(os.environ)
    url = options.url or url_of(settings)
    data = ask_json(url, "/pool", settings.master_key or settings.static_token)
    try:
        found, sentence = data["alerts"], str(data["overview"]["sentence"])
        rows = [
            [
                str(one["severity"]),
                f"{datetime.fromtimestamp(one['since'], UTC):%Y-%m-%d %H:%M}",
                str(one["text"]),
                str(one["action"]),
            ]
            for one in found
        ]
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError, OSError):
        raise unexpected(url) from None
    if options.json:
        print(json.dumps(found, indent=2))  # noqa: T201 - the output
    elif rows:
        style = Style.of(sys.stdout, lambda: shutil.get_terminal_size().columns)
        print(tables.text(COLUMNS, rows, style), end="")  # noqa: T201 - the output
    else:
        tell(tables.plain(sentence))


def send_test(options: Options) -> int:
    """Send a message to each target, and print what happened; return 1 if one did not get it."""
    loaded = models.load(config_path(options.project, options.data))
    config = Alerts.of(loaded, os.environ)
    unset = sorted({name for entry in entries(loaded) for name in missing(entry[URL], os.environ)})
    if not config.targets and not unset:
        raise CommandError(NO_TARGETS)
    reasons = deliver_now([(target.url, trial(config)) for target in config.targets])
    results = [(target.name, reason) for target, reason in zip(config.targets, reasons, strict=True)]
    results += [(name, "this variable is not set, and an address refers to it") for name in unset]
    if options.json:
        print(json.dumps([{"target": name, "sent": not reason, "reason": reason} for name, reason in results], indent=2))  # noqa: T201 - the output
    else:
        for name, reason in results:
            print(f"{'not sent' if reason else 'sent':9} {tables.plain(name)}{': ' if reason else ''}{tables.plain(reason)}")  # noqa: T201 - the output
    return int(any(reason for _, reason in results))


ALERTS = group(
    "alerts",
    [
        command(
            "test",
            send_test,
            [json_option()],
            about="Send a test message to each address of config.yaml, from this machine, and show what happened. The exit "
            "code is 1 if one did not accept it.",
            examples=("claude-proxy alerts test",),
        ),
    ],
    about="Show what needs attention at the running proxy, with what to do. With the master key: everything.",
    default=command("alerts", show_alerts, [json_option(), url_option()], about=""),
)
