"""``claude-proxy user``: users, each with a token."""

import json
import os
import shutil
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime

import click

from claude_proxy.access import users_file
from claude_proxy.check.facts import read_config
from claude_proxy.cli import tables
from claude_proxy.cli.command import command, group
from claude_proxy.cli.console import tell
from claude_proxy.cli.parsing import Options, json_option
from claude_proxy.cli.project import checked, config_path, users_path
from claude_proxy.cli.settings_command import BLOCK_OPTIONS, blocks, show_block
from claude_proxy.cli.tables import Column, Style
from claude_proxy.config.models import ConfigError
from claude_proxy.config.users import UserBook, folded, parse_list, parse_users
from claude_proxy.providers.endpoints import BLOCK

NO_FILE = "There is no users file; no user can log in with a token of their own."


def add_user(options: Options) -> None:
    """Create a user's token and print the settings with it."""
    loaded, settings = checked(config_path(options.project, options.data))
    blocks(settings, loaded, options, None)  # an error in the options is found before anything is written
    given = sys.stdin.readline().strip() if options.token == "-" else options.token  # noqa: S105 - not a token
    path = users_path(options.project, options.data)
    token = users_file.add(path, settings.users, options.user, given, today())
    show_block(settings, loaded, options, token)
    tell(f"Added {options.user}. A running proxy accepts the token immediately. The token is shown only this once.")


def remove_user(options: Options) -> None:
    """Remove a user, and say which entries of config.yaml are left. Works although other settings have errors."""
    users_file.remove(users_path(options.project, options.data), users_as_they_are(options), options.user)
    tell(f"Removed {options.user}. The proxy rejects the token from the next request on.")
    for place in entries_of(options.user, options):
        tell(f"{place} still names {options.user}. Remove the entry, unless it is for a later user of that name.")


def entries_of(user: str, options: Options) -> Iterator[str]:
    """Yield the places of a user's entries in config.yaml; none if it cannot be read."""
    try:
        path = config_path(options.project, options.data)
    except ConfigError:
        return
    loaded, lines, _ = read_config(path)
    for section in (("users",), ("managed_settings", "users")):
        found = loaded.get(BLOCK)
        for key in section:
            found = found.get(key) if isinstance(found, dict) else None
        for name in found if isinstance(found, dict) else ():
            if isinstance(name, str) and folded(name) == folded(user):
                line = lines.at(BLOCK, *section, name)
                yield f"{' '.join(filter(None, (path.name, line)))}: {BLOCK}: {': '.join(section)}"


def list_users(options: Options) -> None:
    """Print each user, the day on which it was added, and the file or variable that it is in; no token."""
    path = users_path(options.project, options.data)
    rows = users_file.listed(path, users_as_they_are(options))
    if options.json:
        found = [{"name": row.name, "since": row.since or None, "place": row.place} for row in rows]
        print(json.dumps(found, indent=2))  # noqa: T201 - the output
    elif rows:
        style = Style.of(sys.stdout, lambda: shutil.get_terminal_size().columns)
        columns = [Column(name) for name in ("user", "since", "place")]
        print(tables.text(columns, [[row.name, row.since, row.place] for row in rows], style), end="")  # noqa: T201
    if not rows:
        none = "There are no users." if path.exists() else NO_FILE
        tell(f"{none} `claude-proxy user add NAME` adds one.")


def users_as_they_are(options: Options) -> UserBook:
    """Return the users of the variable and of the file, whatever errors other settings have."""
    fixed, _ = parse_users(parse_list(os.environ.get("PROXY_USER_TOKENS", "")))
    return UserBook(fixed, users_path(options.project, options.data))


def today() -> date:
    """Return the date for the file. No decision depends on it."""
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
            writes=True,
        ),
        command(
            "remove",
            remove_user,
            [click.Argument(["user"], metavar="NAME")],
            about="Remove a user. The token of the user stops working.",
            writes=True,
        ),
        command("list", list_users, [json_option()], about="List the users and the day on which each was added."),
    ],
    about="Add, remove and list users. Each user has a token.",
)
