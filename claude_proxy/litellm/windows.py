"""How many tokens a model takes, by the list of models that LiteLLM ships. Reads that file without importing LiteLLM."""

import functools
import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

LIST = "model_prices_and_context_window_backup.json"


def listed_window(model: str) -> int | None:
    """Return the window of a model, such as ``deepseek/deepseek-chat``, with or without its provider; None if not listed."""
    return window_in(_windows(), model)


def window_in(windows: Mapping[str, int], model: str) -> int | None:
    """Return the same by a list of windows."""
    parts = model.split("/")
    names = ("/".join(parts[place:]) for place in range(len(parts)))
    return next((found for name in names if (found := windows.get(name))), None)


def windows_of(entries: Mapping[str, Any]) -> Mapping[str, int]:
    """Return the windows in LiteLLM's list as it is in the file, or as LiteLLM has loaded it."""
    sizes = {name: entry.get("max_input_tokens") for name, entry in entries.items() if isinstance(entry, dict)}
    return {name: size for name, size in sizes.items() if type(size) is int and size > 0}


@functools.cache
def _windows() -> Mapping[str, int]:
    """Return the windows of the list; of none where the installed LiteLLM has no such file."""
    found = importlib.util.find_spec("litellm")
    path = Path(found.origin).with_name(LIST) if found and found.origin else None
    try:
        return windows_of(json.loads(path.read_bytes()) if path else {})
    except (OSError, ValueError):
        return {}
