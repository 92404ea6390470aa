"""Puts the files of a backup where a new machine's proxy reads them: all of them, or none where one cannot be written."""

import contextlib
import io
import os
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dotenv import dotenv_values

from claude_proxy.cli.archive import PROJECT, STATE, Backup, File
from claude_proxy.cli.backup_files import NOT_NAMED, STATE_FILE, Folders
from claude_proxy.cli.console import CommandError
from claude_proxy.history.database import NAME as HISTORY_FILE

# What SQLite keeps beside a file: it belongs to the file that is replaced.
SQLITE_FILES = ("-wal", "-shm")
OWNER_ONLY = 0o700


@dataclass(frozen=True)
class Target:
    """A file, and where it is written."""

    path: Path
    file: File


def targets(backup: Backup, folders: Folders, *, has_data: bool, only: str | None) -> list[Target]:
    """Return where each file is written; ``only`` is ``PROJECT`` or ``STATE``.

    Without a folder for data a proxy reads ``.env`` and ``credentials.yaml`` in its project alone: those of a container's
    data go there, and the tokens that the project's ``.env`` leaves empty are added to it.
    """
    files = {file.name: file for file in backup.files}
    if not has_data:
        files = _without_data(files)
    roots = {PROJECT: folders.project, STATE: folders.state}
    found = []
    for name, file in files.items():
        top, _, rest = name.partition("/")
        if rest.partition("/")[0] in NOT_NAMED:
            raise CommandError(f"The backup holds a file with a forbidden name: {name}. Nothing was restored.")
        if only in (None, top):
            found.append(Target(roots[top] / rest, file))
    return found


def _without_data(files: dict[str, File]) -> dict[str, File]:
    moved = dict(files)
    for name in (".env", "credentials.yaml"):
        file = moved.pop(f"{STATE}/{name}", None)
        there = moved.get(f"{PROJECT}/{name}")
        if file and there is None:
            moved[f"{PROJECT}/{name}"] = File(f"{PROJECT}/{name}", file.mode, file.content)
        elif file and there and name == ".env":
            moved[there.name] = File(there.name, there.mode & file.mode, _filled(there.content, file.content))
    return moved


def _filled(content: bytes, other: bytes) -> bytes:
    """Return a ``.env`` with the values of another one that it leaves empty."""
    own, more = (dotenv_values(stream=io.StringIO(one.decode()), interpolate=False) for one in (content, other))
    lines = [f"{name}='{value}'" for name, value in more.items() if value and not own.get(name) and "'" not in value]
    return b"\n".join([content.rstrip(b"\n"), *(line.encode() for line in lines), b""])


def write(found: Sequence[Target], folders: Folders, *, force: bool) -> None:
    """Write the files; raise ``CommandError`` before the first one where a file is there or cannot be written."""
    if not force and (there := [target.path for target in found if os.path.lexists(target.path)]):
        raise CommandError(
            *(f"{path} exists." for path in there),
            f"Nothing was restored. These are the files of the proxy in {folders.project.absolute()}: to replace them, stop "
            "that proxy, and add --force. --project names another folder.",
        )
    for target in found:
        _check(target, folders)
    try:
        for target in found:
            _write(target)
    except OSError as error:
        raise CommandError(f"{error.filename}: {error.strerror}. The files before it are restored.") from None


def _check(target: Target, folders: Folders) -> None:
    """Raise ``CommandError`` where a file cannot be written, or where a link leads out of the folders."""
    root = folders.state if target.file.name.startswith(f"{STATE}/") else folders.project
    parent = next(folder for folder in target.path.parents if folder.exists())
    inside = parent.resolve().is_relative_to(root.resolve()) or root.is_relative_to(parent)
    if not inside or not parent.is_dir() or target.path.is_dir():
        raise CommandError(f"{target.path}: a link or a folder is in the way. Nothing was restored.")
    if not os.access(parent, os.W_OK | os.X_OK):
        only = STATE if target.file.name.startswith(f"{PROJECT}/") else PROJECT
        raise CommandError(
            f"{parent}: this user cannot write into this folder. Nothing was restored. "
            f"With --only {only} the files of the other folder are restored."
        )


def _write(target: Target) -> None:
    """Write one file whole: half of it is never in its place, and it is never readable for others than its mode says."""
    private = target.file.name.startswith(f"{STATE}/")
    target.path.parent.mkdir(mode=OWNER_ONLY if private else 0o755, parents=True, exist_ok=True)
    part = target.path.with_name(f"{target.path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(target.file.content)
            os.fchmod(file.fileno(), target.file.mode)
        if target.path.name in (STATE_FILE, HISTORY_FILE):
            _forget(target.path.with_name(f"{target.path.name}{end}") for end in SQLITE_FILES)
        part.replace(target.path)
    finally:
        _forget([part])


def _forget(paths: Iterable[Path]) -> None:
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
