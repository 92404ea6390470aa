"""Chooses where the processes of a proxy keep what they share, by the settings."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from claude_proxy.config import models
from claude_proxy.config.settings import Settings
from claude_proxy.state.redis import RedisStore
from claude_proxy.state.sqlite import SqliteStore
from claude_proxy.state.store import Store


def shared_store(settings: Settings, loaded: Mapping[str, Any], usual: Path | None = None) -> Store | None:
    """Return Redis, the state file, or None for no store; ``usual`` is the file if the settings name none."""
    url = settings.redis_url.reveal() if settings.redis_url else models.redis_url(loaded, os.environ)
    if url:
        return RedisStore(url)
    if settings.state_file == "none":
        return None
    path = Path(settings.state_file) if settings.state_file else usual
    return SqliteStore(path) if path else None


def history_file(settings: Settings, name: str) -> Path | None:
    """Return the file of the history, which is beside the state file; None for none.

    ``serve`` names a state file for every start, also beside a Redis. Replicas without a folder to write to have none.
    """
    if settings.state_file in ("", "none"):
        return None
    folder = Path(settings.state_file).absolute().parent
    there = next(one for one in (folder, *folder.parents) if one.exists())
    return folder / name if os.access(there, os.W_OK) else None
