"""What the checks look at, read once: .env, config.yaml, the users, the client's settings and the interpreter."""

import importlib.metadata
import io
import os
import re
import site
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from dotenv.parser import parse_stream

from claude_proxy.check.client_file import ClientFile, read_client_file
from claude_proxy.check.lines import Lines, lines_of
from claude_proxy.config import models as config
from claude_proxy.config.credentials_file import nearest_file
from claude_proxy.config.settings import OWN_USERS_FILE, Settings, SettingsError
from claude_proxy.config.users import FILE_VARIABLE, UnsafeFile, parse_lines, parse_list, parse_users, read_file

_NAME = re.compile(r"[A-Z][A-Z0-9_-]*|[a-z]+(?:_[a-z]+)*_(?:keys?|tokens?|url|base|port|host|mode)")


@dataclass(frozen=True)
class DotEnv:
    """A ``.env``: its values, the line of each, the names that are set twice, and the lines that are not ``NAME=value``."""

    path: Path
    values: Mapping[str, str] = field(default_factory=dict)
    lines: Mapping[str, int] = field(default_factory=dict)
    # The lines before the last one of a name that is set more than once.
    twice: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    unreadable: tuple[int, ...] = ()
    mode: int = 0
    text: str = ""

    def place(self, name: str) -> str:
        """Return where a variable is set, in the words of a finding."""
        line = self.lines.get(name)
        if line is None:
            return name
        # A name of another form may be a part of a token that stands in a line of its own.
        return f".env line {line}: {name}" if _NAME.fullmatch(name) else f".env line {line}"


@dataclass(frozen=True)
class KnownUsers:
    """The users with a token of their own, and the errors of the users file; ``complete`` is whether it could be read."""

    names: tuple[str, ...] = ()
    mistakes: tuple[str, ...] = ()
    complete: bool = True


@dataclass(frozen=True)
class Facts:
    """The input of every check. ``config`` is empty for a file that is not a mapping; ``mistakes`` prevent a start."""

    environ: Mapping[str, str]
    dotenv: DotEnv = field(default_factory=lambda: DotEnv(Path(".env")))
    config_path: Path = Path("config.yaml")
    config: Mapping[str, Any] = field(default_factory=dict)
    config_text: str = ""
    lines: Lines = field(default_factory=Lines)
    mistakes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    settings: Settings | None = None
    users: KnownUsers = field(default_factory=KnownUsers)
    # The settings.json of a client, where one is to be checked.
    client: ClientFile | None = None
    packages: tuple[Path, ...] = ()
    litellm_version: str | None = None

    @property
    def models(self) -> list[tuple[int, dict[str, Any]]]:
        """The entries of model_list that can be read, each with its place."""
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
        """Whether there is one model_list with an entry; without it every name of a model would seem wrong."""
        return bool(self.names) and all(path != ("model_list",) for path, _ in self.lines.twice)

    @property
    def client_values(self) -> Mapping[str, str]:
        """The variables of the client's settings.json; none without one."""
        return self.client.values if self.client else {}

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


def gather(
    config_path: Path,
    dotenv_path: Path,
    environ: Mapping[str, str],
    *,
    client_settings: Path | None = None,
    mistakes: tuple[str, ...] = (),
    notes: tuple[str, ...] = (),
) -> Facts:
    """Read everything; what cannot be read is among the mistakes. ``environ`` already holds the values of ``.env``."""
    loaded, lines, stops = read_config(config_path)
    settings, wrong = read_settings(environ)
    return Facts(
        environ=environ,
        dotenv=read_dotenv(dotenv_path),
        config_path=config_path,
        config=loaded,
        config_text=text_of(config_path),
        lines=lines,
        mistakes=(*mistakes, *stops, *wrong),
        notes=notes,
        settings=settings,
        users=read_users(environ, settings),
        client=read_client_file(client_settings) if client_settings else None,
        packages=site_packages(),
        litellm_version=installed_version("litellm"),
    )


def read_config(path: Path) -> tuple[dict[str, Any], Lines, tuple[str, ...]]:
    """Return what the file holds, its lines, and what keeps the proxy from starting."""
    mistakes: tuple[str, ...] = ()
    try:
        config.load(path)
    except config.ConfigError as error:
        mistakes = error.mistakes
    try:
        text = path.read_text(encoding="utf-8")
        loaded = config.parsed(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}, Lines(), mistakes
    return loaded if isinstance(loaded, dict) else {}, lines_of(text), mistakes


def text_of(path: Path) -> str:
    """Return a file's text with its line ends as they are; empty for one that cannot be read."""
    try:
        return path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def read_settings(environ: Mapping[str, str]) -> tuple[Settings | None, tuple[str, ...]]:
    """Return the settings, or None and what is wrong with them."""
    try:
        return Settings.parse(environ), ()
    except SettingsError as error:
        return None, error.mistakes


def read_users(environ: Mapping[str, str], settings: Settings | None) -> KnownUsers:
    """Read the users of the variable and of the file. A process has its own view of them, which logs."""
    forbidden = settings.users.forbidden if settings else {}
    fixed, _ = parse_users(parse_list(environ.get("PROXY_USER_TOKENS", "")), forbidden=forbidden)
    names = tuple(user.name for user in fixed)
    named = environ.get(FILE_VARIABLE, "").strip()
    path = Path(named or environ.get(OWN_USERS_FILE, ""))
    try:
        if path.exists() and not path.is_file():
            # A pipe would block its reader; the folder "." stands for no path at all.
            return KnownUsers(names, (f"{path}: is not a file",) if named else ())
        found = read_file(path)
        content = found[0] if found else b""
        entries = [(f"{path} {place}", text) for place, text in parse_lines(content)]
    except UnsafeFile as unsafe:
        return KnownUsers(names, (f"{FILE_VARIABLE}: {unsafe}",), complete=False)
    except FileNotFoundError:
        near = nearest_file(path)
        remedy = f"did you mean {near}, which is in the same folder?" if near else "`claude-proxy user add NAME` makes it"
        return KnownUsers(names, (f"{FILE_VARIABLE}: names a file that does not exist; {remedy}",) if named else ())
    except OSError as error:
        return KnownUsers(names, (f"{path}: cannot be read ({error.strerror})",), complete=False)
    filed, mistakes = parse_users(entries, fixed, forbidden)
    return KnownUsers((*names, *(user.name for user in filed)), mistakes)


def read_dotenv(path: Path) -> DotEnv:
    """Read a ``.env`` with its lines; an unreadable one is empty, because Docker may have passed its values."""
    try:
        text, mode = path.read_bytes().decode("utf-8"), path.stat().st_mode & 0o777
    except (OSError, UnicodeDecodeError):
        return DotEnv(path)
    values: dict[str, str] = {}
    lines: dict[str, int] = {}
    twice: dict[str, tuple[int, ...]] = {}
    unreadable: list[int] = []
    for binding in parse_stream(io.StringIO(text.removeprefix("\ufeff"))):
        # The parser counts the blank lines and comments before a variable to it.
        blank = len(binding.original.string) - len(binding.original.string.lstrip())
        line = binding.original.line + binding.original.string[:blank].count("\n")
        if binding.error or (binding.key and binding.value is None):
            unreadable.append(line)
        elif binding.key:
            if binding.key in values:
                twice[binding.key] = (*twice.get(binding.key, ()), lines[binding.key])
            values[binding.key], lines[binding.key] = binding.value or "", line
    return DotEnv(path, values, lines, twice, tuple(unreadable), mode, text)


def site_packages() -> tuple[Path, ...]:
    """Return the folders from which this interpreter runs code when it starts."""
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
