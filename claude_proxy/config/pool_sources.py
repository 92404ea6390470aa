"""Combines the sources of the pool's credentials: the variables, ``credentials.yaml``, and the files that it names.

1. All sources are added. The same secret twice is one credential, with the terms of ``credentials.yaml``.
2. Two secrets with the same label are an error, and so is a secret file that cannot be read.
3. Claude Code's login is read, never written. If it cannot be read now, the last value is kept; a login that was never read, or
   that has expired, is in the pool but not used.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from claude_proxy.config.credentials_file import (
    Entry,
    MalformedEntry,
    check_secret,
    nearest_file,
    parse,
    read_text,
)
from claude_proxy.credentials.credential import Credential, Kind
from claude_proxy.secret import Secret

LOGIN_FILE = ".credentials.json"
# Relative to a named folder, which is Claude Code's own folder or the home folder that contains it.
LOGIN_PLACES = (LOGIN_FILE, f".claude/{LOGIN_FILE}")


class Pooled(NamedTuple):
    """The credentials, and one message per error; with any error the pool stays unchanged. ``paths`` are all files involved.

    ``problems`` keep single credentials from being used; they are not errors.
    """

    credentials: tuple[Credential, ...] = ()
    mistakes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    paths: tuple[Path, ...] = ()


class _Sources:
    """Collects errors and paths while it reads."""

    def __init__(self, before: Iterable[Credential]) -> None:
        self.before = {one.source: one for one in before if one.renewed}
        self.mistakes: list[str] = []
        self.problems: list[str] = []
        self.paths: list[Path] = []

    def entries(self, path: Path) -> tuple[Entry, ...]:
        try:
            text = read_text(path)
        except (OSError, ValueError) as error:
            self.mistakes.append(f"{path}: cannot be read ({_reason(error)})")
            return ()
        found = parse(text, path.name)
        self.mistakes += found.mistakes
        return found.entries

    def credential(self, entry: Entry, file: Path) -> Credential | None:
        """Return the credential of an entry; None for an entry with an error, which is then in ``mistakes``."""
        called = f"{file.name} line {entry.line}, {entry.label}"
        if entry.source == "claude_home":
            return self.login(entry, file.resolve().parent, called)
        value, source = entry.value.reveal(), str(file)
        try:
            if entry.source == "secret_file":
                path = file.resolve().parent / Path(value).expanduser()
                self.paths.append(path)
                value, source = read_text(path).strip(), value
            kind = check_secret(value, entry.kind)
        except MalformedEntry as error:
            self.mistakes.append(f"{called}: the value of {entry.source} {error}")
            return None
        except (OSError, ValueError, RuntimeError) as error:
            # The path is not shown, because it may be a misplaced secret.
            near = nearest_file(self.paths[-1]) if isinstance(error, FileNotFoundError) else ""
            meant = f"; did you mean {near}, which is in the same folder?" if near else ""
            self.mistakes.append(f"{called}: secret_file names a file that cannot be read ({_reason(error)}){meant}")
            return None
        if entry.made is not None and kind is Kind.API_KEY:
            self.mistakes.append(f"{called}: made is only for setup tokens, which expire after a year")
        return Credential(entry.label, kind, Secret(value), entry.made, entry.terms, source)

    def login(self, entry: Entry, folder: Path, called: str) -> Credential:
        """Return Claude Code's login of a home folder; if it cannot be read, the last known one, or an expired one."""
        named = entry.value.reveal()
        try:
            token, expires = self.token(folder / Path(named).expanduser())
        except (OSError, ValueError, RuntimeError) as error:
            self.problems.append(
                f"{called}: the login of claude_home cannot be read ({_reason(error)}): start Claude Code in that home"
            )
            known = self.before.get(named)
            if known is not None:
                return replace(known, label=entry.label, terms=entry.terms)
            token, expires = "", 0.0  # in the pool, but not used
        return Credential(entry.label, Kind.OAUTH, Secret(token), None, entry.terms, named, renewed=True, expires=expires)

    def token(self, home: Path) -> tuple[str, float | None]:
        """Return a home folder's access token and its expiry in Unix seconds; raise ``OSError`` or ``ValueError``."""
        places = [home / place for place in LOGIN_PLACES] if home.is_dir() else [home]
        self.paths += places
        path = next((place for place in places if place.exists()), places[0])
        try:
            login = json.loads(read_text(path))["claudeAiOauth"]
            token, expires = login["accessToken"].strip(), login.get("expiresAt")
            check_secret(token, Kind.OAUTH)
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError, RecursionError, MalformedEntry):
            raise ValueError("it contains no login") from None
        if expires is None:
            return token, None
        if isinstance(expires, bool) or not isinstance(expires, int | float) or not 0 <= expires < 1e15:
            raise ValueError("its expiresAt is not a time")
        return token, expires / 1000


def pooled(
    fixed: Sequence[Credential], files: Sequence[Path], before: Iterable[Credential] = (), *, required: bool = False
) -> Pooled:
    """Return the pool of the variables' credentials and of the first file that exists.

    ``before`` is the current pool. ``required`` says that a file existed before, so a missing file is an error.
    """
    sources = _Sources(before)
    path = next((one for one in files if one.exists()), None)
    found: list[Credential] = []
    lines: dict[str, int] = {}
    if path is not None:
        for entry in sources.entries(path):
            lines[entry.label] = entry.line
            credential = sources.credential(entry, path)
            if credential is not None and not _has(found, credential):
                found.append(credential)
    elif required:
        sources.mistakes.append(f"{files[0].name if files else 'the file'} is missing")
    for credential in fixed:
        if _has(found, credential):
            continue
        label = credential.label
        if path is not None and any(one.label == label for one in found):
            problem = f"has the label of a credential in {credential.source}; give each its own"
            sources.mistakes.append(f"{path.name} line {lines[label]}, {label}: {problem}")
        found.append(credential)
    paths = dict.fromkeys([*files, *sources.paths])
    return Pooled(tuple(found), tuple(sources.mistakes), tuple(sources.problems), tuple(paths))


def _has(found: Iterable[Credential], credential: Credential) -> bool:
    """Whether the same credential is already there; an unreadable login has no secret to compare."""
    return any(
        one.identity == credential.identity or (bool(credential.secret.reveal()) and one.secret.matches(credential.secret))
        for one in found
    )


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return str(error)


def mistakes_of(entry: Entry, file: Path) -> tuple[str, ...]:
    """Return the errors and problems of one entry of the file, such as a missing file."""
    sources = _Sources(())
    sources.credential(entry, file)
    return (*sources.mistakes, *sources.problems)
