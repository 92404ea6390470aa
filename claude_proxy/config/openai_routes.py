"""Whether the routes of OpenAI's API are served: ``claude_proxy: openai_routes:`` in config.yaml. Plain values, no I/O."""

from collections.abc import Iterator, Mapping
from typing import Any

from claude_proxy.providers.endpoints import BLOCK, in_block

KEY = "openai_routes"


def openai_routes(config: Mapping[str, Any]) -> bool:
    """Return whether a configuration in which ``mistakes`` found no error serves these routes."""
    return in_block(config, KEY) is True


def mistakes(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield an error for a value that is neither true nor false; ``config`` is a mapping that is not validated yet."""
    if KEY in config:
        yield f"{KEY}: belongs under {BLOCK}; at the top level it has no effect"
    found = in_block(config, KEY)
    if found is not None and not isinstance(found, bool):
        yield f"{BLOCK}: {KEY}: should be true or false, without quotes"
