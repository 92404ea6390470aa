"""The command line: which commands there are, and how one is found. Each command has a file, which is imported when it runs."""

import importlib
import importlib.metadata
import io
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import click

from claude_proxy import __version__
from claude_proxy.cli.parsing import INTERRUPTED, folders, write_examples

EXAMPLES = (
    "claude-proxy serve           # start the proxy",
    "claude-proxy settings        # the settings for Claude Code",
    "claude-proxy user add anna   # a token for a user",
    "claude-proxy COMMAND --help  # the options of a command",
)
ABOUT = "One proxy between Claude Code and Claude or any other model, for a team of users."


class Place(NamedTuple):
    """Where a command is declared, and what it does, in a line."""

    module: str
    name: str
    about: str


COMMANDS: Mapping[str, Place] = {
    "serve": Place("serve_command", "SERVE", "Start the proxy."),
    "settings": Place("settings_command", "SETTINGS", "Print the settings for Claude Code, with the token."),
    "user": Place("user_command", "USER", "Add, remove and list users. Each user has a token."),
    "sign-in": Place("sign_in_command", "SIGN_IN", "List and end sign-ins with /login, and replace their keys."),
    "pool": Place("pool_command", "POOL", "Add, change and list the Claude credentials of the pool."),
    "status": Place("status_command", "STATUS", "Show rate limits and usage of the running proxy."),
    "top": Place("top_command", "TOP", "Show the running proxy live: alerts, money, credentials, requests."),
    "usage": Place("status_command", "USAGE", "Show requests and tokens by user, model, day or credential."),
    "budget": Place("budget_command", "BUDGET", "Show and change how much money users may spend."),
    "alerts": Place("alerts_command", "ALERTS", "Show what needs attention, and test the notifications."),
    "check": Place("check_command", "CHECK", "Find errors in .env, config.yaml and the environment."),
    "models": Place("check_command", "MODELS", "List the models of config.yaml and where each one goes."),
    "backup": Place("backup_command", "BACKUP", "Write everything that a new machine needs into one file."),
    "restore": Place("backup_command", "RESTORE", "Restore the files of a backup."),
}


class Commands(click.Group):
    """The commands of ``COMMANDS``. A command's file is imported when the command is named, which keeps the help fast."""

    def get_command(self, _: click.Context, name: str) -> click.Command | None:
        """Return a command, or None for a name that is not one."""
        place = COMMANDS.get(name)
        if place is None:
            return None
        found: click.Command = getattr(importlib.import_module(f"claude_proxy.cli.{place.module}"), place.name)
        return found

    def format_commands(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands, and import none of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, place.about) for name, place in COMMANDS.items()])

    def format_epilog(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        write_examples(EXAMPLES, formatter)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; exit with 1 when it fails, and with 2 for a command line that is wrong."""
    _prepare_output()
    try:
        code = commands().main(arguments, prog_name="claude-proxy", standalone_mode=False)
    except click.Abort:
        sys.exit(INTERRUPTED)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    if code:
        sys.exit(code)


def _prepare_output() -> None:
    """Let nothing that is printed be an error: a stream that is closed, or whose encoding has no ✓."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - open as long as the process
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def commands() -> Commands:
    """Return all commands."""
    return Commands(
        "claude-proxy",
        # Of each one its name alone, for a suggestion: ``get_command`` finds the rest.
        commands={name: click.Command(name) for name in COMMANDS},
        params=[
            *folders(),
            click.Option(
                ["--version"],
                is_flag=True,
                is_eager=True,
                expose_value=False,
                callback=_show_version,
                help="Show the versions of the proxy, of LiteLLM and of Python, and exit.",
            ),
        ],
        help=ABOUT,
        no_args_is_help=True,
    )


def _show_version(context: click.Context, _: click.Parameter, wanted: object) -> None:
    if wanted and not context.resilient_parsing:
        click.echo(f"claude-proxy {__version__} (LiteLLM {_version_of('litellm')}, Python {platform.python_version()})")
        context.exit()


def _version_of(package: str) -> str:
    """Return the version of an installed package, without importing it."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
