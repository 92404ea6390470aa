"""A file that several processes change: whole in one step, and one of them at a time."""

import contextlib
import fcntl
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path


def rewrite(path: Path, change: Callable[[bytes], bytes]) -> None:
    """Put the changed content in the file's place, in one step, while no other process does so.

    A new file, and a new folder, is its owner's alone; a file's is the folder's, for root may run the command for a proxy that
    runs as somebody else. A file that is there keeps its owner and its mode. Raises ``OSError``, and what ``change`` raises,
    with nothing changed.
    """
    target = path.resolve()  # through a link, which stays one
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _locked(target.with_name(f"{target.name}.lock")):
        before, status = b"", None
        with contextlib.suppress(FileNotFoundError):
            before, status = target.read_bytes(), target.stat()
        part = target.with_name(f"{target.name}.{os.getpid()}.{secrets.token_hex(4)}")
        content = change(before)
        try:
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                if status:
                    os.fchmod(descriptor, status.st_mode & 0o777)
                _give(descriptor, status or target.parent.stat())
                file.write(content)
                file.flush()
                os.fsync(descriptor)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)


def _give(descriptor: int, like: os.stat_result) -> None:
    with contextlib.suppress(PermissionError):  # only root gives files away
        os.fchown(descriptor, like.st_uid, like.st_gid)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _give(descriptor, path.parent.stat())
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
