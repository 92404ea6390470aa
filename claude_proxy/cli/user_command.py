"""``claude-proxy user``: a token for each person."""

import os
import sys
from datetime import UTC, date, datetime

import click

from claude_proxy.access import users_file
from claude_proxy.cli.command import command, group
from claude_proxy.cli.console import tell
from claude_proxy.cli.parsing import Options
from claude_proxy.cli.project import checked, config_path, users_path
from claude_proxy.cli.settings_command import BLOCK_OPTIONS, blocks, tell_where
from claude_proxy.config.users import UserBook, parse_list, parse_users


def add_user(options: Options) -> None:
    """Make a person's token and print the block with it."""
    loaded, settings = checked(config_path(options.project, options.data))
    blocks(settings, loaded, options, None)  # what is wrong with the options is told before anything is written
    given = sys.stdin.readline().strip() if options.token == "-" else options.token  # noqa: S105 - not a token
    path = users_path(options.project, options.data)
    token = users_file.add(path, settings.users, options.user, given, today())
    print(blocks(settings, loaded, options, token))  # noqa: T201 - what the command is for
    tell_where(settings, options, token)
    tell(f"Added {options.user}; it counts at once. The token above is shown this once: only its hash is kept.")


def remove_user(options: Options) -> None:
    """Take a person out. Needs no settings that are right: this has to work when nothing else does."""
    users_file.remove(users_path(options.project, options.data), users_as_they_are(options), options.user)
    tell(f"Removed {options.user}; the next request with that token is refused.")


def list_users(options: Options) -> None:
    """Print who has a token, since when, and where that stands; no token."""
    rows = users_file.everybody(users_path(options.project, options.data), users_as_they_are(options))
    width = max((len(row.name) for row in rows), default=0)
    for row in rows:
        print(f"{row.name:{width}}  {row.since or '-':10}  {row.place}")  # noqa: T201 - what the command is for
    if not rows:
        tell("Nobody has a token of their own; `claude-proxy user add NAME` makes one.")


def users_as_they_are(options: Options) -> UserBook:
    """Return the users of the variable and of the file, whatever is wrong with the other settings."""
    fixed, _ = parse_users(parse_list(os.environ.get("PROXY_USER_TOKENS", "")))
    return UserBook(fixed, users_path(options.project, options.data))


def today() -> date:
    """Return the date for the file, by which nothing is decided."""
    return datetime.now(tz=UTC).date()


USER = group(
    "user",
    [
        command(
            "add",
            add_user,
            [
                click.Argument(["user"], metavar="NAME"),
                *BLOCK_OPTIONS,
                click.Option(["--token"], help="Use this token; - reads it from the standard input, which no `ps` shows."),
            ],
            about="Create a token for a user, and print the settings with it. The token is shown only this once.",
            examples=("claude-proxy user add anna --url https://proxy.example.org",),
        ),
        command(
            "remove",
            remove_user,
            [click.Argument(["user"], metavar="NAME")],
            about="Remove a user. The token of the user stops working.",
        ),
        command("list", list_users, about="List the users and the day on which each was added."),
    ],
    about="Add, remove and list users. Each user has a token.",
)
