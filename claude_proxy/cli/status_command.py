"""``claude-proxy status`` and ``claude-proxy usage``: their options, and the running proxy that they ask."""

import os
import sys

import click

from claude_proxy.cli import terminal
from claude_proxy.cli.command import command
from claude_proxy.cli.parsing import Options
from claude_proxy.config.settings import Settings


def show_status(options: Options) -> None:
    """Show what the running proxy knows of quota and usage."""
    terminal.show_status(Settings.parse(os.environ), options.url, watch=options.watch, out=sys.stdout)


def show_usage(options: Options) -> None:
    """Show the running proxy's book of usage."""
    terminal.show_usage(Settings.parse(os.environ), options.url, as_csv=options.csv, out=sys.stdout)


def url_option() -> click.Option:
    """Return the option of every command that asks the running proxy."""
    return click.Option(["--url"], help="The address of the proxy. Default: HOST and PORT of .env.")


STATUS = command(
    "status",
    show_status,
    [click.Option(["--watch"], is_flag=True, help="Show it again every five seconds, until Ctrl-C."), url_option()],
    about="Show rate limits and usage of the running proxy.",
)
USAGE = command(
    "usage",
    show_usage,
    [click.Option(["--csv"], is_flag=True, help="Print CSV."), url_option()],
    about="Show the usage of each user, by day.",
)
