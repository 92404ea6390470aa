"""A copy of the last ``config.yaml`` with which the proxy served, used at a start if the file itself has errors.

The copy is written only after LiteLLM serves with the configuration, and only its owner can read it. It is checked again before
it is used, so the proxy's rules apply to it as well. Settings in ``.env`` have no copy.
"""

import contextlib
import os
import secrets
from pathlib import Path

from claude_proxy.config import models

NAME = "config.last-good.yaml"
# The variables by which ``serve`` tells its workers where the copy is, and which file to watch.
VARIABLE = "CLAUDE_PROXY_LAST_GOOD"
WATCHED = "CLAUDE_PROXY_CONFIG"


def choose(path: Path, copy: Path) -> tuple[Path, tuple[str, ...]]:
    """Return the file to start with; if that is the copy, also the errors of ``path``.

    Without a usable copy it is ``path``, whose errors then stop the start.
    """
    try:
        models.load(path)
    except models.ConfigError as broken:
        try:
            models.load(copy)
        except models.ConfigError:
            return path, ()
        return copy, broken.mistakes
    return path, ()


def keep(text: str, copy: Path) -> None:
    """Write the copy in one step, so that no process reads a partial file. Raises ``OSError``."""
    copy.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = copy.with_name(f"{copy.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        part.replace(copy)
    finally:
        with contextlib.suppress(FileNotFoundError):
            part.unlink()
