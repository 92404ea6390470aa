"""``claude-proxy pool``: the Claude credentials of ``credentials.yaml``, and what a running proxy knows of all of them."""

import asyncio
import getpass
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from claude_proxy.cli import terminal
from claude_proxy.cli.command import command, group
from claude_proxy.cli.console import stop, tell
from claude_proxy.cli.parsing import Options
from claude_proxy.cli.project import config_path, state_folder
from claude_proxy.config import credentials_edit, models
from claude_proxy.config.credentials_edit import NotEdited
from claude_proxy.config.credentials_file import FILE_VARIABLE, KINDS, file_in_use, files_of
from claude_proxy.config.settings import Settings, SettingsError, read_pool
from claude_proxy.config.stores import shared_store
from claude_proxy.credentials.credential import Credential
from claude_proxy.credentials.lifting import lift
from claude_proxy.secret import Secret
from claude_proxy.state.store import StoreUnavailable
from claude_proxy.usage.report import unusual

APPLIES = "A running proxy takes it up within seconds."


def add_credential(options: Options) -> None:
    """Write an entry with a secret that no list of processes has shown."""
    path, pool = _path(), _pool()
    terms = credentials_edit.assignments(options.terms)
    if options.secret_file and options.claude_home:
        raise NotEdited("a credential has one of --secret-file and --claude-home")
    if named := options.secret_file or options.claude_home:
        source, value = "secret_file" if options.secret_file else "claude_home", Secret(str(named.absolute()))
    else:
        source, value = "secret", Secret(_secret(options.label))
    credentials_edit.add(path, pool, options.label, source, value, terms=terms)
    tell(f"Added {options.label} to {path}. {APPLIES}")
    before = next((one for one in pool if source == "secret" and one.secret.matches(value)), None)
    if before is not None:
        tell(f"It was in {before.source} as {before.label}; take it out there: what {path.name} says of it counts.")


def change_terms(options: Options) -> None:
    """Change what the file says of a credential."""
    credentials_edit.change(_path(), _pool(), options.label, credentials_edit.assignments(options.terms))
    tell(f"Changed {options.label}. {APPLIES}")


def pause(options: Options) -> None:
    """Let a credential be asked no more."""
    credentials_edit.change(_path(), _pool(), options.label, {"paused": True})
    tell(f"Paused {options.label}; what is known of it stays. {APPLIES}")


def resume(options: Options) -> None:
    """Let a credential be asked again, whatever it rests for; one that is not paused, of a variable too, may rest."""
    pool = _pool()
    one = next((one for one in pool if one.label == options.label), None)
    if one is None or one.terms.paused:
        credentials_edit.change(_path(), pool, options.label, {"paused": None})
    lifted = one is not None and lifter(options)(one)
    tell(f"Resumed {options.label}{'; what it rests for is forgotten' if lifted else ''}. {APPLIES}")


def remove(options: Options) -> None:
    """Take a credential out."""
    credentials_edit.remove(_path(), _pool(), options.label)
    tell(f"Removed {options.label}; its sessions move at their next request. {APPLIES}")


def show_list(options: Options) -> None:
    """Print every credential with where it is from, its terms and its state; no secret."""
    found = read_pool(os.environ)
    states = _states(options.url)
    rows = [["label", "kind", "source", "terms", "state"], *(_row(one, states) for one in found.credentials)]
    print(terminal.aligned(rows), end="")  # noqa: T201 - what the command is for
    if not found.credentials:
        tell("There is no credential in the pool; `claude-proxy pool add LABEL` adds one.")
    for problem in found.problems:
        tell(problem)
    if found.mistakes:
        stop("The pool's files have mistakes:", found.mistakes)


def lifter(options: Options) -> Callable[[Credential], bool]:
    """Return what ends a credential's rests in the running proxy, and says whether there was one to tell.

    Without a store the proxy shares nothing, and nothing can be told to it.
    """

    def lifted(credential: Credential) -> bool:
        usual = state_folder(options.project, options.data) / "pool.sqlite3"
        try:
            settings = Settings.parse(os.environ, lenient=True)
            loaded = models.load(config_path(options.project, options.data))
        except (SettingsError, models.ConfigError):
            return False
        has_redis = settings.redis_url is not None or models.redis_url(loaded, os.environ) is not None
        if not has_redis and not Path(settings.state_file or usual).exists():
            return False

        async def told() -> bool:
            store = shared_store(settings, loaded, usual)
            if store is None:
                return False
            try:
                return await lift(store, credential)
            except StoreUnavailable as error:
                tell(f"What it rests for was not forgotten: {error}.")
                return False
            finally:
                await store.close()

        return asyncio.run(told())

    return lifted


def _path() -> Path:
    path = file_in_use(os.environ)
    if path is None:
        raise NotEdited(f"{FILE_VARIABLE} names no file")
    return path


def _pool() -> tuple[Credential, ...]:
    """Return what there is, whatever is wrong with some of it."""
    return read_pool(os.environ).credentials


def _secret(label: str) -> str:
    try:
        typed = getpass.getpass(f"The secret of {label} (it is not shown): ") if sys.stdin.isatty() else sys.stdin.readline()
    except (EOFError, KeyboardInterrupt):
        typed = ""
    if not typed.strip():
        raise NotEdited("no secret was given")
    return typed.strip()


def _states(url: str | None) -> Mapping[str, Any]:
    """Return what the running proxy knows of each label; nothing when none answers."""
    try:
        settings = Settings.parse(os.environ, lenient=True)
        answer = terminal.ask(url or terminal.url_of(settings), "/pool", settings.master_key or settings.static_token)
        return {one["label"]: one["state"] for one in answer.json()["credentials"]}
    except (terminal.Unanswered, SettingsError) as error:
        tell(str(error))
    except (ValueError, LookupError, TypeError):
        tell("What answers there is no claude-proxy of this version.")
    return {}


def _row(one: Credential, states: Mapping[str, Any]) -> list[str]:
    kind = next(name for name, kind in KINDS.items() if kind is one.kind)
    source = Path(one.source).name if Path(one.source) in files_of(os.environ) else one.source
    state = states.get(one.label, {})
    return [
        one.label,
        kind,
        f"{source} (login)" if one.renewed else source,
        " ".join(_terms(one)),
        str(state.get("words", "-")),
    ]


def _terms(one: Credential) -> Iterator[str]:
    for name, value in {"made": one.made, **unusual(one.terms)}.items():
        if value is not None:
            shown = ",".join(value) if isinstance(value, list) else str(value)  # a date's text is as it is written
            yield f"{name}={shown.lower() if isinstance(value, bool) else shown}"


def _label() -> click.Argument:
    return click.Argument(["label"], metavar="LABEL")


def _path_option(name: str, metavar: str, about: str) -> click.Option:
    return click.Option([name], type=click.Path(path_type=Path), metavar=metavar, help=about)


POOL = group(
    "pool",
    [
        command(
            "list",
            show_list,
            [click.Option(["--url"], help="The address of the proxy. Default: HOST and PORT of .env.")],
            about="List the credentials, their terms, and their state if the proxy is running.",
        ),
        command(
            "add",
            add_credential,
            [
                _label(),
                click.Argument(["terms"], nargs=-1, metavar="[NAME=VALUE]..."),
                _path_option("--secret-file", "FILE", "A file that holds the secret."),
                _path_option("--claude-home", "FOLDER", "The home folder of a Claude Code that is logged in."),
            ],
            about="Add a credential. Its secret is read from the terminal or the standard input. "
            f"NAME is one of {', '.join(credentials_edit.SETTABLE[1:])}.",
            examples=("claude-proxy pool add anna priority=2", "claude-proxy pool add ben --claude-home ~ben/.claude"),
        ),
        command("pause", pause, [_label()], about="Stop using a credential. Its rate limits stay known."),
        command("resume", resume, [_label()], about="Use a credential again, and end its cooldowns."),
        command("remove", remove, [_label()], about="Remove a credential from the pool."),
        command(
            "set",
            change_terms,
            [_label(), click.Argument(["terms"], nargs=-1, required=True, metavar="NAME=VALUE...")],
            about=f"Change the terms of a credential. NAME is one of {', '.join(credentials_edit.SETTABLE)}. "
            "An empty value removes the term.",
            examples=("claude-proxy pool set anna priority=2 groups=team-a,team-b", "claude-proxy pool set anna groups="),
        ),
    ],
    about="Add, change and list the Claude credentials of the pool.",
)
