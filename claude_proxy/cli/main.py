"""The command line: which commands there are, and how one that fails ends. Each command has a file of its own."""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from claude_proxy.access import users_file
from claude_proxy.cli import (
    check_command,
    onboarding,
    pool_command,
    serve_command,
    settings_command,
    status_command,
    terminal,
    user_command,
)
from claude_proxy.cli.console import stop
from claude_proxy.cli.project import ROOT, load_environment
from claude_proxy.config import models as config
from claude_proxy.config.credentials_edit import NotEdited
from claude_proxy.config.settings import SettingsError

# Commands that need the environment as a start has it, by their name and that of their action.
COMMANDS: Mapping[tuple[str, str | None], Callable[[argparse.Namespace], None]] = {
    ("settings", None): settings_command.show_settings,
    ("user", "add"): user_command.add_user,
    ("user", "remove"): user_command.remove_user,
    ("user", "list"): user_command.list_users,
    ("pool", "list"): pool_command.show_list,
    ("pool", "add"): pool_command.add_credential,
    ("pool", "pause"): pool_command.pause,
    ("pool", "resume"): pool_command.resume,
    ("pool", "remove"): pool_command.remove,
    ("pool", "set"): pool_command.change_terms,
    ("status", None): status_command.show_status,
    ("usage", None): status_command.show_usage,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; exit with 1 and a list of sentences when the settings are wrong, or when it cannot be done."""
    options = parser().parse_args(arguments)
    try:
        if options.command == "serve":
            serve_command.serve(options.project, options.data)
        elif options.command in check_command.COMMANDS:
            sys.exit(check_command.COMMANDS[options.command](options, sys.stdout))
        else:
            load_environment(options.project, options.data)
            COMMANDS[options.command, vars(options).get("action")](options)
    except (SettingsError, config.ConfigError) as error:
        stop("The proxy does not start:", error.mistakes)
    except (users_file.PeopleError, onboarding.OnboardingError, NotEdited) as error:
        stop("This was not done:", error.mistakes)
    except terminal.Unanswered as error:
        stop("The proxy was not asked:", (str(error),))


def parser() -> argparse.ArgumentParser:
    """Return what reads the command line."""
    whole = argparse.ArgumentParser(prog="claude-proxy", description="One LiteLLM proxy for a team of Claude Code users.")
    whole.add_argument("--project", type=Path, default=ROOT, help="the folder with .env and config.yaml")
    whole.add_argument(
        "--data", type=Path, help="a writable folder for what is generated when the project's is not to be written"
    )
    commands = whole.add_subparsers(dest="command", required=True)
    for command in (serve_command, settings_command, user_command, pool_command, status_command, check_command):
        command.add_to(commands)
    return whole
