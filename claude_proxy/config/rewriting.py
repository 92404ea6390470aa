"""Rewrites a file that several processes change: in one step, and one process at a time."""

import contextlib
import fcntl
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path


def rewrite(path: Path, change: Callable[[bytes], bytes]) -> None:
    """Replace the file with its changed content in one step, while other processes wait.

    Only the owner can read a new file or folder. A new file gets its folder's owner, because root may run the command for a
    proxy that runs as another user. An existing file keeps its owner and its mode. Raises ``OSError`` and the exceptions of
    ``change``; the file is then unchanged.
    """
    target = path.resolve()  # a symbolic link stays a link
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
    with contextlib.suppress(PermissionError):  # only root can change the owner
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
