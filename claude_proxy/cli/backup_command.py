"""``claude-proxy backup`` and ``claude-proxy restore``: everything that a new machine needs, in one file."""

import contextlib
import getpass
import os
import secrets
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import click

from claude_proxy import __version__
from claude_proxy.cli import archive, backup_files, encryption, restoring
from claude_proxy.cli.archive import MAX_BYTES, PROJECT, STATE, Backup
from claude_proxy.cli.backup_files import Folders
from claude_proxy.cli.command import command
from claude_proxy.cli.console import CommandError, tell
from claude_proxy.cli.parsing import Options
from claude_proxy.cli.progress import doing
from claude_proxy.cli.project import MOUNTED_PROJECT

# In a container: as root with the right to read every file, because .env may be readable for its owner alone.
IN_DOCKER = (
    "docker compose run --rm -T --no-deps -u 0 --cap-add DAC_READ_SEARCH proxy backup - --passphrase-file - < PASSPHRASE > FILE"
)
SHORTEST = 12
STREAM = "-"


def back_up(options: Options) -> None:
    """Write a backup, encrypted or without secrets."""
    if options.without_secrets and options.passphrase_file:
        raise click.UsageError("--without-secrets and --passphrase-file exclude each other.")
    if options.file == STREAM and sys.stdout.isatty():
        raise CommandError("A backup is not text: send it into a file, as in `claude-proxy backup - > FILE`.")
    _require_stream(options.file, IN_DOCKER)
    if options.file != STREAM and os.path.lexists(options.file) and not options.force:
        raise CommandError(f"{options.file} exists. Choose another name, or add --force to replace it.")
    with doing("Reading the files ..."):
        found = backup_files.gather(options.project, options.data, os.environ, secrets=not options.without_secrets)
    if found.unreadable and not options.skip_unreadable:
        way = f"Run `{IN_DOCKER}`" if os.environ.get(MOUNTED_PROJECT) else "Run the command as the owner of these files"
        raise CommandError(*found.unreadable, f"Nothing was written. {way}, or add --skip-unreadable.")
    if not found.files:
        raise CommandError(f"{options.project}: has no .env, no config.yaml and no state. --project names another folder.")
    missing = (*found.missing, *(f"{one} It cannot be read: copy it yourself." for one in found.unreadable))
    created = datetime.now(tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    backup = Backup(__version__, created, not options.without_secrets, tuple(found.files.values()), missing)
    content = archive.pack(backup)
    if not options.without_secrets:
        passphrase = _passphrase(options.passphrase_file, sys.stdin.buffer, new=True)
        with doing("Encrypting ..."):
            content = encryption.encrypt(content, passphrase)
    _write(options.file, content)
    _report(backup, options.file)


def _require_stream(file: str, instead: str) -> None:
    """Raise ``CommandError`` for a relative path in a container, where it is not the path of the user's folder."""
    if os.environ.get(MOUNTED_PROJECT) and file != STREAM and not Path(file).is_absolute():
        raise CommandError(f"{file}: a container has no such folder. Use the standard streams: `{instead}`.")


def _write(name: str, content: bytes) -> None:
    """Write a file that its owner alone can read, whole, or the standard output."""
    if name == STREAM:
        sys.stdout.buffer.write(content)
        return
    path = Path(name)
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        part.replace(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            part.unlink()


def _report(backup: Backup, name: str) -> None:
    kind = "encrypted" if backup.secrets else "without secrets"
    tell(f"Wrote {'the backup' if name == STREAM else name}: {_counted(backup)}, {kind}.")
    for file in backup.files:
        tell(f"  {file.name}")
    for one in backup.missing:
        tell(f"Not in the backup: {one}")
    if backup.secrets:
        tell("Keep the passphrase in another place: without it nobody can read the backup.")


def _counted(backup: Backup) -> str:
    return f"{len(backup.files)} file{'' if len(backup.files) == 1 else 's'}"


def restore(options: Options) -> None:
    """Write the files of a backup."""
    _require_stream(
        options.file, "cat PASSPHRASE FILE | docker compose run --rm -T proxy restore - --only state --passphrase-file -"
    )
    with contextlib.ExitStack() as stack:
        file: IO[bytes] = sys.stdin.buffer if options.file == STREAM else stack.enter_context(Path(options.file).open("rb"))
        passphrase = None
        if options.passphrase_file == STREAM:  # the first line of the standard input, before a backup that comes after it
            passphrase = _passphrase(STREAM, sys.stdin.buffer, new=False)
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise CommandError(f"{options.file}: is too large for a backup.")
    if encryption.is_encrypted(content):
        passphrase = passphrase or _passphrase(options.passphrase_file, sys.stdin.buffer, new=False)
        with doing("Decrypting ..."):
            try:
                content = encryption.decrypt(content, passphrase)
            except encryption.DecryptionError as error:
                raise CommandError(str(error)) from None
    backup = archive.unpack(content)
    folders = Folders.of(options.project, options.data, os.environ)
    found = restoring.targets(backup, folders, has_data=options.data is not None, only=options.only)
    restoring.write(found, folders, force=options.force)
    _next_steps(backup, found)


def _next_steps(backup: Backup, found: list[restoring.Target]) -> None:
    tell(f"Restored {len(found)} of {_counted(backup)} of the backup of {backup.created} (claude-proxy {backup.version}):")
    for target in found:
        tell(f"  {target.path}")
    for one in backup.missing:
        tell(f"Not in the backup: {one}")
    if not backup.secrets:
        tell("The backup has no secrets: set the empty values in .env, and the values left-out-of-the-backup in config.yaml.")
    tell(
        "Next: run `claude-proxy check`, which finds what is missing. Then run `claude-proxy serve` or `docker compose up -d`."
    )


def _passphrase(file: str | None, stdin: IO[bytes], *, new: bool) -> str:
    """Return the passphrase: the first line of a file, or what is typed, twice for a new one."""
    if file is not None:
        line = stdin.readline() if file == STREAM else Path(file).read_bytes().split(b"\n", 1)[0]
        try:
            given = line.decode().rstrip("\r\n")
        except UnicodeDecodeError:
            raise CommandError("The passphrase is not UTF-8 text.") from None
    elif not _has_terminal():
        raise CommandError(
            "There is no terminal to ask for the passphrase: use --passphrase-file FILE, or - for the first line."
        )
    else:
        given = getpass.getpass("Passphrase of the backup (not shown): ")
        if new and given != getpass.getpass("The same passphrase again: "):
            raise CommandError("The two passphrases differ.")
    if new and len(given) < SHORTEST:
        raise CommandError(f"The passphrase is too short: it needs {SHORTEST} characters or more.")
    return given


def _has_terminal() -> bool:
    """Whether ``getpass`` can ask without showing what is typed."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _passphrase_option() -> click.Option:
    return click.Option(
        ["--passphrase-file"], metavar="FILE",
        help="Read the passphrase from the first line of FILE, or with - of the standard input. Default: ask for it.",
    )  # fmt: skip


BACKUP = command(
    "backup",
    back_up,
    [
        click.Argument(["file"], metavar="FILE"),
        click.Option(["--without-secrets"], is_flag=True, help="Leave out tokens, keys and users; do not encrypt."),
        _passphrase_option(),
        click.Option(["--skip-unreadable"], is_flag=True, help="Leave out files that cannot be read, and name them."),
        click.Option(["--force"], is_flag=True, help="Replace FILE if it exists."),
    ],
    about="Write .env, config.yaml, credentials, users, rate limits and usage into FILE, encrypted with a passphrase. "
    "With - the backup goes to the standard output. The proxy may be running.",
    examples=(
        "claude-proxy backup claude-proxy.backup",
        "claude-proxy backup --without-secrets settings.tar.gz",
        "claude-proxy backup - --passphrase-file passphrase > claude-proxy.backup",
    ),
    writes=True,
)
RESTORE = command(
    "restore",
    restore,
    [
        click.Argument(["file"], metavar="FILE"),
        click.Option(["--only"], type=click.Choice([PROJECT, STATE]), help="Restore the files of this folder only."),
        _passphrase_option(),
        click.Option(["--force"], is_flag=True, help="Replace files that exist."),
    ],
    about="Write the files of a backup into the project's folder and the folder for data. "
    "With - the backup is read from the standard input. Stop the proxy first.",
    examples=("claude-proxy restore claude-proxy.backup", "claude-proxy restore --force claude-proxy.backup"),
    loads=False,
    writes=True,
)
