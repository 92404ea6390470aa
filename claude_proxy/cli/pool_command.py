"""``claude-proxy pool``: the Claude credentials of ``credentials.yaml``, and the state of every credential."""

import asyncio
import getpass
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from claude_proxy.check.tokens import SHORTEST_CREDENTIAL
from claude_proxy.cli import tables
from claude_proxy.cli.command import command, group
from claude_proxy.cli.console import stop, tell
from claude_proxy.cli.parsing import PATH, Options, json_option, url_option
from claude_proxy.cli.project import config_path, state_folder
from claude_proxy.cli.running_proxy import ProxyUnavailable, ask_json, unexpected, url_of
from claude_proxy.cli.tables import Column, Style
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

APPLIES = "A running proxy applies this within seconds."
NOTHING_GIVEN = (
    "No secret was given. Paste it at the terminal, or send it to the standard input, as in "
    "`claude-proxy pool add {label} < FILE`, or name its file with --secret-file FILE."
)
COLUMNS = ("label", "kind", "source", "terms", "state")


def add_credential(options: Options) -> None:
    """Add an entry. Its secret is never an argument, which `ps` would show."""
    path, pool = _path(), _pool()
    terms = credentials_edit.assignments(options.terms)
    if options.secret_file and options.claude_home:
        raise NotEdited("A credential takes one of --secret-file and --claude-home.")
    if named := options.secret_file or options.claude_home:
        source, value = "secret_file" if options.secret_file else "claude_home", Secret(str(named.absolute()))
    else:
        source, value = "secret", Secret(_secret(options.label))
    credentials_edit.add(path, pool, options.label, source, value, terms=terms)
    tell(f"Added {options.label} to {path}. {APPLIES}")
    if source == "secret" and len(value.reveal()) < SHORTEST_CREDENTIAL:
        tell(f"The secret has {len(value.reveal())} characters, and a credential of Anthropic has 108: was it copied whole?")
    before = next((one for one in pool if source == "secret" and one.secret.matches(value)), None)
    if before is not None:
        tell(f"{before.source} has it too, as {before.label}: remove it there. {path.name} takes precedence.")


def change_terms(options: Options) -> None:
    """Change the terms of a credential."""
    credentials_edit.change(_path(), _pool(), options.label, credentials_edit.assignments(options.terms))
    tell(f"Changed {options.label}. {APPLIES}")


def pause(options: Options) -> None:
    """Stop using credentials."""
    for label in options.labels:
        credentials_edit.pause(_path(), _pool(), label)
        tell(f"Paused {label}. Its rate limits and usage are kept. {APPLIES}")


def resume(options: Options) -> None:
    """Use credentials again, and end their cooldowns; also those that are not paused, or that are in a variable."""
    for label in options.labels:
        pool = _pool()
        one = next((one for one in pool if one.label == label), None)
        if one is None or one.terms.paused:
            credentials_edit.change(_path(), pool, label, {"paused": None})
        lifted = one is not None and lifter(options)(one)
        tell(f"Resumed {label}{' and ended its cooldowns' if lifted else ''}. {APPLIES}")


def remove(options: Options) -> None:
    """Remove credentials."""
    for label in options.labels:
        credentials_edit.remove(_path(), _pool(), label)
        if _pool():
            words = "Its sessions move to other credentials at their next request."
        else:
            words = "The pool has no more credentials; `claude-proxy pool add LABEL` adds one."
        tell(f"Removed {label}. {words} {APPLIES}")


def show_list(options: Options) -> None:
    """Print every credential with its source, its terms and its state; no secret."""
    found = read_pool(os.environ)
    states = _states(options.url)
    rows = [_row(one, states) for one in found.credentials]
    if options.json:
        print(json.dumps(rows, indent=2, default=str))  # noqa: T201 - the output
    else:
        style = Style.of(sys.stdout, lambda: shutil.get_terminal_size().columns)
        shown = [[row["label"], row["kind"], row["source"], " ".join(_terms(row["terms"])), row["state"] or ""] for row in rows]
        print(tables.text([Column(name) for name in COLUMNS], shown, style), end="")  # noqa: T201 - the output
    if not found.credentials:
        tell("The pool has no credentials. `claude-proxy pool add LABEL` adds one.")
    for problem in found.problems:
        tell(problem)
    if found.mistakes:
        stop("The files of the pool have errors:", found.mistakes)


def lifter(options: Options) -> Callable[[Credential], bool]:
    """Return a function that ends a credential's cooldowns in the running proxy, and returns whether it did.

    It writes into the proxy's store, so without a store it does nothing.
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
                tell(f"The cooldowns of {credential.label} were not ended: {error}.")
                return False
            finally:
                await store.close()

        return asyncio.run(told())

    return lifted


def _path() -> Path:
    path = file_in_use(os.environ)
    if path is None:
        raise NotEdited(f"{FILE_VARIABLE} names no file.")
    return path


def _pool() -> tuple[Credential, ...]:
    """Return the credentials that are valid, whatever errors others have."""
    return read_pool(os.environ).credentials


def _secret(label: str) -> str:
    try:
        typed = getpass.getpass(f"Secret of {label} (not shown): ") if sys.stdin.isatty() else sys.stdin.readline()
    except EOFError:
        typed = ""
    if not typed.strip():
        raise NotEdited(NOTHING_GIVEN.format(label=label))
    return typed.strip()


def _states(url: str | None) -> Mapping[str, Any]:
    """Return what the running proxy knows of each label; nothing if none responds."""
    try:
        settings = Settings.parse(os.environ, lenient=True)
        address = url or url_of(settings)
        found = ask_json(address, "/pool", settings.master_key or settings.static_token)
        try:
            return {one["label"]: one["state"] for one in found["credentials"]}
        except (LookupError, TypeError):
            raise unexpected(address) from None
    except (ProxyUnavailable, SettingsError) as error:
        tell(str(error))
    return {}


def _row(one: Credential, states: Mapping[str, Any]) -> dict[str, Any]:
    """Return a credential by ``COLUMNS``; ``state`` is None if it is not known."""
    kind = next(name for name, kind in KINDS.items() if kind is one.kind)
    source = Path(one.source).name if Path(one.source) in files_of(os.environ) else one.source
    state = states.get(one.label)
    return {
        "label": one.label,
        "kind": kind,
        "source": f"{source} (login)" if one.renewed else source,
        "terms": {name: value for name, value in {"made": one.made, **unusual(one.terms)}.items() if value is not None},
        "state": str(state.get("words")) if isinstance(state, dict) else None,
    }


def _terms(terms: Mapping[str, Any]) -> Iterator[str]:
    for name, value in terms.items():
        shown = ",".join(value) if isinstance(value, list) else str(value)  # a date's text is as it is written
        yield f"{name}={shown.lower() if isinstance(value, bool) else shown}"


def _label() -> click.Argument:
    return click.Argument(["label"], metavar="LABEL")


def _labels() -> click.Argument:
    return click.Argument(["labels"], nargs=-1, required=True, metavar="LABEL...")


def _path_option(name: str, metavar: str, about: str) -> click.Option:
    return click.Option([name], type=PATH, metavar=metavar, help=about)


POOL = group(
    "pool",
    [
        command(
            "list",
            show_list,
            [json_option(), url_option()],
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
            writes=True,
        ),
        command("pause", pause, [_labels()], about="Stop using credentials. Their rate limits stay known.", writes=True),
        command("resume", resume, [_labels()], about="Use credentials again, and end their cooldowns.", writes=True),
        command("remove", remove, [_labels()], about="Remove credentials from the pool.", writes=True),
        command(
            "set",
            change_terms,
            [_label(), click.Argument(["terms"], nargs=-1, required=True, metavar="NAME=VALUE...")],
            about=f"Change the terms of a credential. NAME is one of {', '.join(credentials_edit.SETTABLE)}. "
            "An empty value removes the term.",
            examples=("claude-proxy pool set anna priority=2 groups=team-a,team-b", "claude-proxy pool set anna groups="),
            writes=True,
        ),
    ],
    about="Add, change and list the Claude credentials of the pool.",
)
