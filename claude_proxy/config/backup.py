"""A copy of the last ``config.yaml`` that the proxy served with, for a start at which the file itself is broken.

It is only ever what was in force before: written once LiteLLM serves with it, readable for its owner alone, and checked
again before it is used, so that a rule which the proxy insists on holds for it as well. Settings in ``.env`` have no copy.
"""

import contextlib
import os
import secrets
from pathlib import Path

from claude_proxy.config import models

NAME = "config.last-good.yaml"
# Where serve tells its workers to keep the copy, and which file to watch.
VARIABLE = "CLAUDE_PROXY_LAST_GOOD"
WATCHED = "CLAUDE_PROXY_CONFIG"


def choose(path: Path, copy: Path) -> tuple[Path, tuple[str, ...]]:
    """Return the file to start with, and what is wrong with ``path`` when that is the copy.

    Without a usable copy the answer is ``path``, whose mistakes then stop the start.
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
    """Write the copy whole, so that no process reads half of it. Raises ``OSError`` where that cannot be done."""
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
