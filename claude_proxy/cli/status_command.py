"""``claude-proxy status`` and ``claude-proxy usage``: their options, and the running proxy that they ask."""

import argparse
import os
import sys

from claude_proxy.cli import terminal
from claude_proxy.config.settings import Settings


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the two commands to the command line."""
    status = commands.add_parser("status", help="show quota and usage of the running proxy")
    status.add_argument("--watch", action="store_true", help="again every few seconds")
    usage = commands.add_parser("usage", help="show who used how much, by day")
    usage.add_argument("--csv", action="store_true", help="as CSV")
    for asking in (status, usage):
        asking.add_argument("--url", help="where the proxy is, instead of HOST and PORT")


def show_status(options: argparse.Namespace) -> None:
    """Show what the running proxy knows of quota and usage."""
    terminal.show_status(Settings.parse(os.environ), options.url, watch=options.watch, out=sys.stdout)


def show_usage(options: argparse.Namespace) -> None:
    """Show the running proxy's book of usage."""
    terminal.show_usage(Settings.parse(os.environ), options.url, as_csv=options.csv, out=sys.stdout)
