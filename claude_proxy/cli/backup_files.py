"""Which files a backup holds, and what is taken out of them where it holds no secrets."""

import contextlib
import io
import os
import re
import sqlite3
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml
from dotenv import dotenv_values
from dotenv.parser import parse_stream

from claude_proxy.alerts.firing import KEY as SENT_ALERTS
from claude_proxy.cli.archive import MAX_BYTES, PROJECT, STATE, File
from claude_proxy.cli.console import CommandError
from claude_proxy.cli.project import MOUNTED_PROJECT, state_folder, users_path
from claude_proxy.config import backup, signing_keys, static_token
from claude_proxy.config.credentials_file import file_in_use, parse
from claude_proxy.config.settings import SECRET_NAMES, VARIABLES
from claude_proxy.credentials.credential import CLAUDE_PREFIX
from claude_proxy.history.database import NAME as HISTORY_FILE
from claude_proxy.state.rows import to_bytes

STATE_FILE = "pool.sqlite3"
# What LiteLLM keeps in its home, which is the proxy's own folder in a container: the login of GitHub Copilot.
LITELLM_HOME = ".config/litellm"
LEFT_OUT = "left-out-of-the-backup"
# Folders of a project that are never a file that a setting names.
NOT_NAMED = frozenset({".git", ".venv", "claude_proxy", "request_transformer.py", "custom_auth.py"})
_MODULE = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)\.[A-Za-z_]\w*")
_SECRET_KEY = re.compile(r"key|token|secret|password|credential|auth|header|cookie|database_url|private", re.IGNORECASE)
_SECRET_VALUE = re.compile(rf"{CLAUDE_PREFIX}|^sk-|://[^/\s]*@|-----BEGIN|[?&][^=]*(?:key|token|secret)[^=]*=", re.IGNORECASE)
# Keys of config.yaml that sound like a secret and name a function.
NOT_SECRET = frozenset({"custom_auth"})
_REFERENCE = re.compile(r"os\.environ/(\w+)")
_MAX_PATH = 1024


@dataclass
class Found:
    """The files of a backup by their names; ``missing`` are sentences, ``unreadable`` those of files that cannot be read."""

    files: dict[str, File] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Folders:
    """The folders of a proxy. ``state`` may lie in ``project``."""

    project: Path
    state: Path

    @classmethod
    def of(cls, project: Path, data: Path | None, environ: Mapping[str, str]) -> "Folders":
        """Return them; in a container the project's folder is where it is mounted."""
        mounted = Path(environ.get(MOUNTED_PROJECT) or project)
        return cls(mounted.absolute(), state_folder(project, data).absolute())

    def name_of(self, path: Path) -> str | None:
        """Return the name of a file in a backup; None for one outside of both folders."""
        path = Path(os.path.normpath(path.absolute()))
        for top, folder in ((STATE, self.state), (PROJECT, self.project)):
            if path.is_relative_to(folder) and path != folder:
                return f"{top}/{path.relative_to(folder).as_posix()}"
        return None


def gather(project: Path, data: Path | None, environ: Mapping[str, str], *, secrets: bool) -> Found:
    """Return everything that a new machine needs. ``environ`` is as a start has it."""
    folders, found = Folders.of(project, data, environ), Found()
    dotenvs = [folders.project / ".env", *([folders.state / ".env"] if data else [])]
    for path in dotenvs:
        _add(found, folders, path, None if secrets else _without_values)
    for path in (folders.project / "config.yaml", folders.state / backup.NAME):
        _add(found, folders, path, None if secrets else _without_secrets)
    private = [
        file_in_use(environ),
        users_path(project, data),
        folders.state / static_token.NAME,
        folders.state / signing_keys.NAME,
        *([Path(named)] if (named := environ.get(signing_keys.FILE_VARIABLE, "").strip()) else []),
        *_tree(folders.state / LITELLM_HOME),
    ]
    texts = {path: text for path in [*dotenvs, folders.project / "config.yaml", private[0]] if path and (text := _text(path))}
    private += _named(folders, texts, environ)
    for path in dict.fromkeys(path for path in private if path):
        if secrets:
            _add(found, folders, path)
        elif path.exists():
            found.missing.append(f"{path}: left out, because it holds secrets.")
    _add_state(found, folders, environ.get("CLAUDE_POOL_STATE_FILE", "").strip())
    found.missing += _logins(private[0], texts)
    found.missing += _elsewhere([*dotenvs, folders.state / static_token.NAME], environ)
    return found


def _add(found: Found, folders: Folders, path: Path, change: Callable[[bytes], bytes] | None = None) -> None:
    """Add a file, if there is one; what is outside of both folders is named only."""
    name = folders.name_of(path)
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            return
        if name is None:
            found.missing.append(f"{path}: is outside of the project's folder. Copy it yourself.")
            return
        if path.stat().st_size > MAX_BYTES:
            raise CommandError(f"{path}: is too large for a backup.")
        content = path.read_bytes()
        found.files[name] = File(name, stat.S_IMODE(mode), change(content) if change else content)
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "its text has errors, and secrets cannot be found in it"
        found.unreadable.append(f"{path}: {reason}.")


def _add_state(found: Found, folders: Folders, named: str) -> None:
    """Add consistent copies of the state file and of the history beside it, which a running proxy may be writing."""
    if named == "none":
        return
    path = Path(named).absolute() if named else folders.state / STATE_FILE
    for one in (path, path.with_name(HISTORY_FILE)):
        _add_database(found, folders, one)


def _add_database(found: Found, folders: Folders, path: Path) -> None:
    name = folders.name_of(path)
    if not path.exists():
        return
    if name is None:
        found.missing.append(f"{path}: is outside of the project's folder. Copy it yourself while the proxy is stopped.")
        return
    try:
        found.files[name] = File(name, 0o600, copy_of(path))
    except (sqlite3.Error, OSError) as error:
        found.unreadable.append(f"{path}: {error}.")


def copy_of(path: Path) -> bytes:
    """Return an SQLite file as it is between two transactions; raise ``sqlite3.Error``.

    Which alerts were sent is left out of the state: a restored proxy notifies of what fires there, and of its end.
    """
    with (
        contextlib.closing(sqlite3.connect(f"file:{quote(str(path))}?mode=rw", uri=True, timeout=10)) as source,
        contextlib.closing(sqlite3.connect(":memory:")) as copy,
    ):
        source.backup(copy, pages=-1)
        if copy.execute("PRAGMA quick_check").fetchone() != ("ok",):
            raise sqlite3.DatabaseError("the file is corrupt")
        _forget_sent_alerts(copy)
        return copy.serialize()


def _forget_sent_alerts(copy: sqlite3.Connection) -> None:
    if copy.execute("SELECT 1 FROM pragma_table_info('rows') WHERE name = 'key'").fetchone():
        copy.execute("DELETE FROM rows WHERE key = ?", (to_bytes(SENT_ALERTS),))
        copy.commit()


def _named(folders: Folders, texts: Mapping[Path, str], environ: Mapping[str, str]) -> Iterator[Path]:
    """Yield the files that settings name, such as secrets, certificates and modules with callbacks.

    A path in ``credentials.yaml`` starts at its folder, every other one at the project's.
    """
    variables = {*SECRET_NAMES, *(name for text in texts.values() for name in _REFERENCE.findall(text))}
    words = [(folders.project, path) for name in sorted(variables) if (path := environ.get(f"{name}_FILE"))]
    for file, text in texts.items():
        start = file.parent if file == file_in_use(environ) else folders.project
        words += [(start, value) for value in _values(file, text)]
    for start, word in dict.fromkeys(words):
        for candidate in _candidates(word.strip()):
            with contextlib.suppress(OSError, ValueError, RuntimeError):
                place = Path(os.path.normpath(start / Path(candidate).expanduser()))
                inside = place.relative_to(folders.project).parts[:1] if place.is_relative_to(folders.project) else ()
                if place.is_file() and not NOT_NAMED.intersection(inside):
                    yield place


def _candidates(word: str) -> Iterator[str]:
    if 0 < len(word) <= _MAX_PATH and word.isprintable():
        yield word
        if match := _MODULE.fullmatch(word):
            yield f"{match[1].replace('.', '/')}.py"


def _values(path: Path, text: str) -> list[str]:
    """Return every text value of a ``.env`` or a YAML file; of one with errors none."""
    if path.name == ".env":
        return [value for value in dotenv_values(stream=io.StringIO(text), interpolate=False).values() if value]
    try:
        return [*_strings(yaml.safe_load(text))]
    except (yaml.YAMLError, ValueError, RecursionError):
        return []


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _strings(inner)


def _tree(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink())


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError):
        return ""


def _logins(path: Path | None, texts: Mapping[Path, str]) -> Iterator[str]:
    """Yield the logins of Claude Code, which renew themselves: a copy would end the first one."""
    for entry in parse(texts[path], path.name).entries if path in texts and path else ():
        if entry.source == "claude_home":
            yield f"the login of {entry.label} ({entry.value.reveal()}). Log in with Claude Code on the new machine."


def _elsewhere(files: Iterable[Path], environ: Mapping[str, str]) -> Iterator[str]:
    """Yield what no file of the proxy's holds: secrets that the environment alone has, and the database."""
    known: set[str] = set()
    for path in files:
        text = _text(path)
        values = dotenv_values(
            stream=io.StringIO(text if path.name == ".env" else f"{static_token.VARIABLE}={text}"), interpolate=False
        )
        known |= {name for name, value in values.items() if value and value == environ.get(name)}
    for name in sorted({*SECRET_NAMES} - known):
        if environ.get(name) and name not in ("DATABASE_URL", "REDIS_URL"):
            yield f"{name}: is set in the environment and not in .env. Set it on the new machine."
    if environ.get("DATABASE_URL") or environ.get("DATABASE_URL_FILE"):
        yield "The database with virtual keys and budgets. Save it with pg_dump."


def _without_values(content: bytes) -> bytes:
    """Return a ``.env`` whose secrets are empty, without comments. Only a variable known to hold no secret keeps its value."""
    lines = []
    for binding in parse_stream(io.StringIO(content.decode("utf-8-sig"))):
        public = binding.key in VARIABLES and binding.key not in SECRET_NAMES and not _SECRET_VALUE.search(binding.value or "")
        if binding.key:
            lines.append(f"{binding.original.string.strip()}\n" if public else f"{binding.key}=\n")
    return "".join(lines).encode()


def _without_secrets(content: bytes) -> bytes:
    """Return a YAML file with ``LEFT_OUT`` in place of values that may be secrets, and without comments.

    Raises ``ValueError`` for a file with errors.
    """
    try:
        root = yaml.compose(content.decode("utf-8-sig"), Loader=yaml.SafeLoader)
        for node in _secret_nodes(root, "", secret=False):
            node.value = LEFT_OUT
        return yaml.serialize(root, Dumper=yaml.SafeDumper, encoding="utf-8", allow_unicode=True) if root else b""
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError("no YAML") from error


def _secret_nodes(node: yaml.Node | None, key: str, *, secret: bool) -> Iterator[yaml.ScalarNode]:
    """Yield the texts under a key that sounds like a secret, and those that look like one; references stay."""
    secret = secret or (bool(_SECRET_KEY.search(key)) and key not in NOT_SECRET)
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            yield from _secret_nodes(value, str(name.value), secret=secret)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from _secret_nodes(value, "", secret=secret)
    elif isinstance(node, yaml.ScalarNode) and node.tag.endswith(":str"):
        reference = node.value.startswith("os.environ/")
        if not reference and (secret or _SECRET_VALUE.search(node.value)):
            yield node
