"""The command line: which commands there are, and how one is found. Each command has a file, which is imported when it runs."""

import importlib
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import click

from claude_proxy.cli.parsing import folders

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
    "pool": Place("pool_command", "POOL", "Add, change and list the Claude credentials of the pool."),
    "status": Place("status_command", "STATUS", "Show rate limits and usage of the running proxy."),
    "usage": Place("status_command", "USAGE", "Show the usage of each user, by day."),
    "check": Place("check_command", "CHECK", "Find errors in .env, config.yaml and the environment."),
    "models": Place("check_command", "MODELS", "List the models of config.yaml and where each one goes."),
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


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; exit with 1 when it fails, and with 2 for a command line that is wrong."""
    try:
        code = commands().main(arguments, prog_name="claude-proxy", standalone_mode=False)
    except click.Abort:  # Ctrl-C
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    if code:
        sys.exit(code)


def commands() -> Commands:
    """Return all commands."""
    return Commands(
        "claude-proxy",
        # Of each one its name alone, for a suggestion: ``get_command`` finds the rest.
        commands={name: click.Command(name) for name in COMMANDS},
        params=folders(),
        help=ABOUT,
        no_args_is_help=True,
    )
