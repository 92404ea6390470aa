"""Everything that the checks look at, read once: the two files, the environment, the clock and the interpreter."""

import importlib.metadata
import io
import json
import os
import site
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from dotenv.parser import parse_stream

from claude_proxy.check.lines import Lines, lines_of
from claude_proxy.config import models as config
from claude_proxy.config.settings import OWN_USERS_FILE, Settings, SettingsError
from claude_proxy.config.users import FILE_VARIABLE, UnsafeFile, parse_lines, parse_list, parse_users, read_file


@dataclass(frozen=True)
class DotEnv:
    """A ``.env``: its values, the line of each, the names that are in it twice, and the lines that are no ``NAME=value``."""

    path: Path
    values: Mapping[str, str] = field(default_factory=dict)
    lines: Mapping[str, int] = field(default_factory=dict)
    twice: tuple[str, ...] = ()
    unreadable: tuple[int, ...] = ()
    mode: int = 0

    def place(self, name: str) -> str:
        """Return where a variable comes from, as a person looks for it."""
        line = self.lines.get(name)
        return f".env line {line}: {name}" if line else name


@dataclass(frozen=True)
class People:
    """Who has a token of their own, and what is wrong with the file of users; ``complete`` is whether it could be read."""

    names: tuple[str, ...] = ()
    mistakes: tuple[str, ...] = ()
    complete: bool = True


@dataclass(frozen=True)
class Facts:
    """What there is to check. ``config`` is empty when the file is no mapping; ``mistakes`` are what stops a start."""

    environ: Mapping[str, str]
    dotenv: DotEnv = field(default_factory=lambda: DotEnv(Path(".env")))
    config_path: Path = Path("config.yaml")
    config: Mapping[str, Any] = field(default_factory=dict)
    lines: Lines = field(default_factory=Lines)
    mistakes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    settings: Settings | None = None
    people: People = field(default_factory=People)
    client_settings: Mapping[str, str] = field(default_factory=dict)
    packages: tuple[Path, ...] = ()
    litellm_version: str | None = None

    @property
    def models(self) -> list[tuple[int, dict[str, Any]]]:
        """The entries of model_list that can be looked at, each with its place."""
        entries = self.config.get("model_list")
        return [
            (place, entry)
            for place, entry in enumerate(entries if isinstance(entries, list) else ())
            if isinstance(entry, dict) and isinstance(entry.get("litellm_params"), dict)
            if isinstance(entry.get("model_name"), str)
        ]

    @property
    def names(self) -> list[str]:
        """The models that are served."""
        return list(dict.fromkeys(str(entry["model_name"]) for _, entry in self.models))

    @property
    def has_models(self) -> bool:
        """Whether there is one model_list with something in it; without it whatever names a model would seem wrong."""
        return bool(self.names) and all(path != ("model_list",) for path, _ in self.lines.twice)

    def section(self, name: str) -> dict[str, Any]:
        """Return a section of config.yaml; empty when it is missing or no mapping."""
        found = self.config.get(name)
        return found if isinstance(found, dict) else {}

    def listed(self, section: str, name: str) -> list[Any]:
        """Return a list out of a section; empty when it is missing or no list."""
        found = self.section(section).get(name)
        return found if isinstance(found, list) else []

    def at(self, *path: str | int) -> str:
        """Return a place in config.yaml, with its line."""
        return " ".join(filter(None, (self.config_path.name, self.lines.at(*path))))


class Unreadable(Exception):
    """The settings.json of a client's that is to be checked cannot be read; the message says why."""


def gather(
    config_path: Path,
    dotenv_path: Path,
    environ: Mapping[str, str],
    *,
    client_settings: Path | None = None,
    mistakes: tuple[str, ...] = (),
    notes: tuple[str, ...] = (),
) -> Facts:
    """Read everything; what cannot be read is among the mistakes. ``environ`` holds what ``.env`` says already."""
    loaded, lines, stops = read_config(config_path)
    settings, wrong = read_settings(environ)
    return Facts(
        environ=environ,
        dotenv=read_dotenv(dotenv_path),
        config_path=config_path,
        config=loaded,
        lines=lines,
        mistakes=(*mistakes, *stops, *wrong),
        notes=notes,
        settings=settings,
        people=read_people(environ, settings),
        client_settings=read_client_settings(client_settings) if client_settings else {},
        packages=site_packages(),
        litellm_version=installed_version("litellm"),
    )


def read_config(path: Path) -> tuple[dict[str, Any], Lines, tuple[str, ...]]:
    """Return what the file holds, its lines, and what stops a start; what can be looked at comes back in spite of mistakes."""
    mistakes: tuple[str, ...] = ()
    try:
        config.load(path)
    except config.ConfigError as error:
        mistakes = error.mistakes
    try:
        text = path.read_text(encoding="utf-8")
        loaded = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}, Lines(), mistakes
    return loaded if isinstance(loaded, dict) else {}, lines_of(text), mistakes


def read_settings(environ: Mapping[str, str]) -> tuple[Settings | None, tuple[str, ...]]:
    """Return the settings, or None and what is wrong with them."""
    try:
        return Settings.parse(environ), ()
    except SettingsError as error:
        return None, error.mistakes


def read_people(environ: Mapping[str, str], settings: Settings | None) -> People:
    """Read the users of the variable and of the file, as they are now; not the book of a process, which tells its log."""
    forbidden = settings.users.forbidden if settings else {}
    fixed, _ = parse_users(parse_list(environ.get("PROXY_USER_TOKENS", "")), forbidden=forbidden)
    names = tuple(user.name for user in fixed)
    named = environ.get(FILE_VARIABLE, "").strip()
    path = Path(named or environ.get(OWN_USERS_FILE, ""))
    try:
        if path.exists() and not path.is_file():
            # A pipe would keep whoever reads it waiting; the folder "." stands for no path at all.
            return People(names, (f"{path}: is not a file",) if named else ())
        found = read_file(path)
        content = found[0] if found else b""
        entries = [(f"{path} {place}:", text) for place, text in parse_lines(content)]
    except UnsafeFile as unsafe:
        return People(names, (f"{FILE_VARIABLE}: {unsafe}",), complete=False)
    except FileNotFoundError:
        return People(names, (f"{FILE_VARIABLE}: names a file that is not there; nobody is in it",) if named else ())
    except OSError as error:
        return People(names, (f"{path}: cannot be read ({error.strerror})",), complete=False)
    filed, mistakes = parse_users(entries, fixed, forbidden)
    return People((*names, *(user.name for user in filed)), mistakes)


def read_dotenv(path: Path) -> DotEnv:
    """Read a ``.env`` with its lines. One that cannot be read has nothing in it: Docker may have handed its values over."""
    try:
        text, mode = path.read_text(encoding="utf-8"), path.stat().st_mode & 0o777
    except (OSError, UnicodeDecodeError):
        return DotEnv(path)
    values: dict[str, str] = {}
    lines: dict[str, int] = {}
    twice: list[str] = []
    unreadable: list[int] = []
    for binding in parse_stream(io.StringIO(text)):
        # The parser counts the blank lines and comments before a variable to it.
        blank = len(binding.original.string) - len(binding.original.string.lstrip())
        line = binding.original.line + binding.original.string[:blank].count("\n")
        if binding.error or (binding.key and binding.value is None):
            unreadable.append(line)
        elif binding.key:
            if binding.key in values:
                twice.append(binding.key)
            values[binding.key], lines[binding.key] = binding.value or "", line
    return DotEnv(path, values, lines, tuple(dict.fromkeys(twice)), tuple(unreadable), mode)


def read_client_settings(path: Path) -> dict[str, str]:
    """Return the variables of a settings.json of Claude Code's."""
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Unreadable(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        # Not the error's own text: a token may be in it.
        line = f" (line {error.lineno})" if isinstance(error, json.JSONDecodeError) else ""
        raise Unreadable(f"{path}: is not JSON{line}") from None
    env = loaded.get("env") if isinstance(loaded, dict) else None
    return {str(name): str(value) for name, value in env.items()} if isinstance(env, dict) else {}


def site_packages() -> tuple[Path, ...]:
    """Return the folders from which this interpreter runs code at its start."""
    found = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    if site.ENABLE_USER_SITE:
        found.append(site.getusersitepackages())
    inside = [entry for entry in sys.path if entry.startswith(sys.prefix) and entry.endswith("-packages")]
    return tuple(dict.fromkeys(Path(os.path.realpath(folder)) for folder in [*found, *inside] if Path(folder).is_dir()))


def installed_version(name: str) -> str | None:
    """Return a distribution's version without importing it; None when it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
