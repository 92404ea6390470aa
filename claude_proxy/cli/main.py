"""The command line: prepare what is missing, check the settings, start LiteLLM with this project's callbacks in it."""

import argparse
import contextlib
import errno
import os
import resource
import secrets
import socket
import stat
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, TextIO

from claude_proxy.access import users_file
from claude_proxy.access.routes import STATIC_NAME, is_open
from claude_proxy.cli import check_command, onboarding, terminal
from claude_proxy.cli.project import ROOT, config_path, load_environment, present, read_secret_files, state_folder, users_path
from claude_proxy.config import backup
from claude_proxy.config import models as config
from claude_proxy.config.settings import (
    OWN_REDIS,
    Settings,
    SettingsError,
)
from claude_proxy.config.users import UserBook, parse_list, parse_users
from claude_proxy.litellm import database
from claude_proxy.secret import Secret
from claude_proxy.server.options import LITELLM_ENVIRONMENT, MANY_FILES, SERVER

GENERATED = ("PROXY_STATIC_TOKEN", "LITELLM_MASTER_KEY")
# Variables of Claude Code's or of the Anthropic SDK's that LiteLLM reads too: whoever starts the proxy from a shell that is
# set up for Claude Code would send it in circles, or its own key to everybody's requests.
CLIENT_VARIABLES = ("ANTHROPIC_BASE_URL", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_CUSTOM_HEADERS", "ANTHROPIC_MODEL")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; exit with 1 and a list of sentences when the settings are wrong, or when it cannot be done."""
    options = parser().parse_args(arguments)
    try:
        if options.command == "serve":
            serve(options.project, options.data)
        elif options.command in check_command.COMMANDS:
            sys.exit(check_command.COMMANDS[options.command](options, sys.stdout))
        else:
            load_environment(options.project, options.data)
            COMMANDS[options.command, vars(options).get("action")](options)
    except (SettingsError, config.ConfigError) as error:
        stop("The proxy does not start:", error.mistakes)
    except (users_file.PeopleError, onboarding.OnboardingError) as error:
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
    commands.add_parser("serve", help="prepare what is missing and start the proxy")
    shown = argparse.ArgumentParser(add_help=False)
    shown.add_argument("--model", help="the model to use; left out, Claude, or the first that is ready")
    shown.add_argument("--url", help="the proxy's address for clients, such as https://proxy.example.org")
    shown.add_argument("--format", choices=list(onboarding.FORMATS), default="settings", help="what it is for")
    block = commands.add_parser(
        "settings", parents=[shown], help="print the block for Claude Code's settings.json, with the token"
    )
    block.add_argument("--user", help="the person whom it is for")
    actions = commands.add_parser("user", help="a token for each person").add_subparsers(dest="action", required=True)
    new = actions.add_parser("add", parents=[shown], help="make a token, and print the block with it; it is shown this once")
    new.add_argument("user", metavar="NAME")
    new.add_argument("--token", help="use this one; - reads it from the standard input, where no list of processes shows it")
    actions.add_parser("remove", help="refuse a person's token from now on").add_argument("user", metavar="NAME")
    actions.add_parser("list", help="who has a token, and since when")
    status = commands.add_parser("status", help="show quota and usage of the running proxy")
    status.add_argument("--watch", action="store_true", help="again every few seconds")
    usage = commands.add_parser("usage", help="show who used how much, by day")
    usage.add_argument("--csv", action="store_true", help="as CSV")
    check_command.add_to(commands)
    for asking in (status, usage):
        asking.add_argument("--url", help="where the proxy is, instead of HOST and PORT")
    return whole


def stop(heading: str, mistakes: Sequence[str]) -> None:
    """Say what is wrong and exit with 1."""
    tell("\n".join([heading, *(f"- {mistake}" for mistake in mistakes)]))
    sys.exit(1)


def tell(words: str) -> None:
    """Say something to the person that is not the command's output."""
    print(words, file=sys.stderr)  # noqa: T201 - a command line talks


def show_settings(options: argparse.Namespace) -> None:
    """Print what a client needs, with the token where it is known."""
    loaded, settings = checked(config_path(options.project, options.data))
    token = users_file.find(settings.users, options.user).token if options.user else settings.static_token
    print(blocks(settings, loaded, options, token))  # noqa: T201 - what the command is for
    tell_where(settings, options)
    if options.user and token is None:
        tell(
            f"The token of {options.user} cannot be shown again: only its hash is kept. To make a new one: "
            f"claude-proxy user remove {options.user}, then claude-proxy user add {options.user}."
        )


def tell_where(settings: Settings, options: argparse.Namespace) -> None:
    """Say where the printed block goes, and when only this machine can use it."""
    tell(f"For {onboarding.FORMATS[options.format].where}.")
    url = onboarding.proxy_url(settings, options.url, os.environ)
    if options.url is None and onboarding.is_for_this_machine_only(settings, url):
        tell(f"{url}: this address works on this machine only; --url https://... gives the one for others.")


def add_user(options: argparse.Namespace) -> None:
    """Make a person's token and print the block with it."""
    loaded, settings = checked(config_path(options.project, options.data))
    blocks(settings, loaded, options, None)  # what is wrong with the options is told before anything is written
    given = sys.stdin.readline().strip() if options.token == "-" else options.token  # noqa: S105 - not a token
    path = users_path(options.project, options.data)
    token = users_file.add(path, settings.users, options.user, given, today())
    print(blocks(settings, loaded, options, token))  # noqa: T201 - what the command is for
    tell_where(settings, options)
    tell(f"Added {options.user}; it counts at once. The token above is shown this once: only its hash is kept.")


def remove_user(options: argparse.Namespace) -> None:
    """Take a person out. Needs no settings that are right: this has to work when nothing else does."""
    users_file.remove(users_path(options.project, options.data), users_as_they_are(options), options.user)
    tell(f"Removed {options.user}; the next request with that token is refused.")


def list_users(options: argparse.Namespace) -> None:
    """Print who has a token, since when, and where that stands; no token."""
    rows = users_file.everybody(users_path(options.project, options.data), users_as_they_are(options))
    width = max((len(row.name) for row in rows), default=0)
    for row in rows:
        print(f"{row.name:{width}}  {row.since or '-':10}  {row.place}")  # noqa: T201 - what the command is for
    if not rows:
        tell("Nobody has a token of their own; `claude-proxy user add NAME` makes one.")


def users_as_they_are(options: argparse.Namespace) -> UserBook:
    """Return the users of the variable and of the file, whatever is wrong with the other settings."""
    fixed, _ = parse_users(parse_list(os.environ.get("PROXY_USER_TOKENS", "")))
    return UserBook(fixed, users_path(options.project, options.data))


def today() -> date:
    """Return the date for the file, by which nothing is decided."""
    return datetime.now(tz=UTC).date()


def show_status(options: argparse.Namespace) -> None:
    """Show what the running proxy knows of quota and usage."""
    terminal.show_status(Settings.parse(os.environ), options.url, watch=options.watch, out=sys.stdout)


def show_usage(options: argparse.Namespace) -> None:
    """Show the running proxy's book of usage."""
    terminal.show_usage(Settings.parse(os.environ), options.url, as_csv=options.csv, out=sys.stdout)


COMMANDS: Mapping[tuple[str, str | None], Callable[[argparse.Namespace], None]] = {
    ("settings", None): show_settings,
    ("user", "add"): add_user,
    ("user", "remove"): remove_user,
    ("user", "list"): list_users,
    ("status", None): show_status,
    ("usage", None): show_usage,
}


def keep_to_the_owner(folder: Path) -> None:
    """Take the right to write in the proxy's own folder from everybody else; a folder of another owner stays as it is.

    Earlier versions made it as the umask said, and who may write there may add users.
    """
    with contextlib.suppress(OSError):
        found = folder.stat()
        if found.st_uid == os.geteuid() and found.st_mode & 0o022:
            folder.chmod(stat.S_IMODE(found.st_mode) & ~0o022)


def serve(project: Path, data: Path | None) -> None:
    """Start the proxy and stay until it is stopped."""
    written = prepare(project, data)
    load_environment(project, data)
    keep_to_the_owner(state_folder(project, data))
    edited = config_path(project, data)
    copy = (data or project / ".state") / backup.NAME
    path, broken = backup.choose(edited, copy)
    loaded, settings = checked(path)
    require_port(settings.host, settings.port)
    found = check_command.at_start(path, project, data)
    for name in CLIENT_VARIABLES:
        os.environ.pop(name, None)
    for name, value in LITELLM_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    # LiteLLM does not start without one, and reads the variable by itself.
    os.environ["LITELLM_MASTER_KEY"] = settings.master_key.reveal() if settings.master_key else generated_token()
    os.environ.pop("LITELLM_MASTER_KEY_FILE", None)
    if settings.redis_url:
        os.environ[OWN_REDIS] = settings.redis_url.reveal()
        for name in ("REDIS_URL", "REDIS_URL_FILE"):
            os.environ.pop(name, None)
    if settings.database_url:
        # LiteLLM reads the variable by itself, and so does Prisma.
        os.environ["DATABASE_URL"] = settings.database_url.reveal()
        os.environ.pop("DATABASE_URL_FILE", None)
        database.prepare(os.environ)
    os.environ["CONFIG_FILE_PATH"] = str(path)
    os.environ[backup.WATCHED], os.environ[backup.VARIABLE] = str(project / "config.yaml"), str(copy)
    os.environ.setdefault("CLAUDE_POOL_STATE_FILE", str(state_folder(project, data) / "pool.sqlite3"))
    # For this process and for the workers that it starts.
    sys.path.insert(0, str(ROOT))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", ""))))
    announce(settings, written, loaded, sys.stdout, [*told_of_copy(broken, copy), *found])
    allow_many_connections()

    import uvicorn  # noqa: PLC0415 - late: a mistake in the settings is told before it

    uvicorn.run(
        "claude_proxy.litellm.app:app",
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        **SERVER,
    )


def allow_many_connections() -> None:
    """Let this process and its workers open as many files as the system lets it, and no fewer than before.

    A stream takes two. Many systems begin at 1024, macOS at 256; at its limit a server refuses everybody.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MANY_FILES if hard == resource.RLIM_INFINITY else min(hard, MANY_FILES)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    # What the kernel itself allows, macOS does not tell.
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


# What may be wrong with the address to listen on, by what the system says of it.
ADDRESS_MISTAKES: Mapping[int, str] = {
    errno.EADDRINUSE: "PORT: {port} is in use: stop the other program, or set PORT",
    errno.EACCES: "PORT: {port} is not for this user: set PORT to one from 1024",
    errno.EADDRNOTAVAIL: "HOST: {host} is not an address of this machine",
}


def require_port(host: str, port: int) -> None:
    """Raise ``SettingsError`` when nothing can listen there: said before the banner, and not by a traceback after it.

    Of a name's several addresses one is enough, as it is for the server, but none may be in use.
    """
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise SettingsError((f"HOST: {host} is not known here ({error.strerror}); it should hold an address",)) from error
    errors = [found for family, _, _, _, address in addresses if (found := bind_error(family, address))]
    if errno.EADDRINUSE in errors or len(errors) == len(addresses):
        number = errno.EADDRINUSE if errno.EADDRINUSE in errors else errors[0]
        mistake = ADDRESS_MISTAKES.get(number, "HOST: nothing can listen at {host}")
        raise SettingsError((mistake.format(host=host, port=port),))


def bind_error(family: int, address: tuple[Any, ...]) -> int:
    """Return the number of the system's error for listening at an address; 0 when that is possible."""
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # As the server does: connections that have just ended do not count.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind(address)
    except OSError as error:
        return error.errno or errno.EINVAL
    return 0


def checked(path: Path) -> tuple[dict[str, Any], Settings]:
    """Return what config.yaml and the environment hold; raise ``SettingsError`` with the mistakes of both together."""
    mistakes: list[str] = []
    loaded: dict[str, Any] = {}
    settings: Settings | None = None
    try:
        loaded = config.load(path)
        read_secret_files(os.environ, config.variables(loaded))
    except (config.ConfigError, SettingsError) as error:
        mistakes += error.mistakes
    try:
        settings = Settings.parse(os.environ)
    except SettingsError as error:
        mistakes += error.mistakes
    if mistakes or settings is None:
        raise SettingsError(tuple(mistakes))
    return loaded, settings


def prepare(project: Path, data: Path | None) -> list[Path]:
    """Write ``.env``, with random tokens and mode 600, and ``config.yaml`` where they are missing; return what was written.

    With a ``data`` folder the project's own is not touched: the tokens go to ``data/.env``, and the example serves as config.
    It is copied anew at each start, so that it is this version's.
    """
    written = []
    home = data or project
    target = home / ".env"
    try:
        if not present(project / ".env") and not present(target):
            lines = (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()
            wanted = [f"{name}=" for name in GENERATED if not os.environ.get(f"{name}_FILE")]
            filled = [f"{line}{generated_token()}" if line in wanted else line for line in lines]
            write_private(target, "\n".join(filled) + "\n")
            written.append(target)
        if not present(project / "config.yaml"):
            # A copy even so: LiteLLM passes over a file whose name does not end in .yaml, and starts without any rule.
            (home / "config.yaml").write_text((ROOT / "config.yaml.example").read_text(encoding="utf-8"), encoding="utf-8")
            if data is None:
                written.append(home / "config.yaml")
    except OSError as error:
        mistake = f"{home}: cannot be written ({error.strerror}); the folder should belong to the user that the proxy runs as"
        raise config.ConfigError((mistake,)) from error
    return written


def generated_token() -> str:
    """Return a new random token, in the form that LiteLLM likes for its master key."""
    return f"sk-{secrets.token_hex(32)}"


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, from its first moment, and whole: half a ``.env`` would be an open proxy.

    Of two processes that do so at once, such as two replicas with one volume, the first one's file stays.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(part)
    finally:
        part.unlink()


def settings_block(settings: Settings, loaded: Mapping[str, Any], *, show_token: bool) -> str:
    """Return the block for Claude Code's settings.json. A program that collects output gets a placeholder for the token."""
    return blocks(settings, loaded, argparse.Namespace(), settings.static_token if show_token else None)


def blocks(settings: Settings, loaded: Mapping[str, Any], options: argparse.Namespace, token: Secret | None) -> str:
    """Return what the options ask for, with the token or a placeholder; raise ``OnboardingError``."""
    chosen: dict[str, str | None] = vars(options)
    user, model = chosen.get("user") or STATIC_NAME, chosen.get("model")
    form = onboarding.FORMATS[chosen.get("format") or "settings"]
    models = [model or onboarding.default_model(loaded, settings, os.environ, user)]
    if form.several and model is None:
        models = list(dict.fromkeys([*models, *onboarding.ready_models(loaded, os.environ, user)]))
    url = onboarding.proxy_url(settings, chosen.get("url"), os.environ)
    shown = token.reveal() if token else onboarding.placeholder(settings, chosen.get("user"))
    return form.render([onboarding.setup(loaded, settings, url=url, token=shown, model=one, user=user) for one in models])


def told_of_copy(broken: Sequence[str], copy: Path) -> list[str]:
    """Return what to say when config.yaml is broken and its last good copy serves in its place."""
    if not broken:
        return []
    since = datetime.fromtimestamp(copy.stat().st_mtime, UTC).strftime("%Y-%m-%d %H:%M UTC")
    going_on = f"The proxy goes on with {copy}, which served last ({since}). Mend config.yaml: it is then taken up."
    return [f"ERROR: {mistake}" for mistake in broken] + [f"ERROR: {going_on}"]


def announce(
    settings: Settings, written: Sequence[Path], loaded: Mapping[str, Any], out: TextIO, more: Sequence[str] = ()
) -> None:
    """Say what was made, what is open and what to paste. The token itself is shown to a person's terminal only."""
    lines = [*more, *(f"Wrote {path}." for path in written)]
    if people_there := settings.users.everybody():
        lines.append(f"People with a token of their own: {len(people_there)}.")
    if is_open(settings):
        lines.append(
            "WARNING: PROXY_STATIC_TOKEN is not set: everybody who reaches this port can use the proxy and its credentials."
        )
    if settings.claude_base.startswith("http://"):
        lines.append(f"WARNING: ANTHROPIC_API_BASE is {settings.claude_base}: Claude credentials go there unencrypted.")
    count = len(settings.credentials)
    lines.append(f"Claude credentials in the pool: {count} ({settings.mode.value}).")
    for name, unset in config.unset_variables(loaded, os.environ).items():
        lines.append(f"Model {name} is not ready: {', '.join(unset)} not set.")
    person = out.isatty()
    lines.append("For Claude Code's settings.json (~/.claude/settings.json):")
    lines.append(settings_block(settings, loaded, show_token=person))
    if not person and settings.static_token:
        lines.append(
            "The token is not written into logs: `claude-proxy settings` (or `make settings`) prints this block with it."
        )
    print("\n".join(lines), file=out, flush=True)
