"""The tag by which Claude Code names a project for reports of usage: ``claude_proxy: project_tag:`` in config.yaml.

Claude Code (2.1.332) sends its setting ``attributionProject`` under this tag after it has signed in at the proxy.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from claude_proxy.providers.endpoints import BLOCK, in_block

KEY = "project_tag"
# The client's own limits.
_TAG = re.compile(r"(?!anthropic)[A-Za-z0-9_.:/=+@-]{1,64}", re.IGNORECASE)
MAX_PROJECT = 64


def project_tag(config: Mapping[str, Any]) -> str:
    """Return the tag of a configuration in which ``mistakes`` found no error; empty if there is none."""
    return in_block(config, KEY) or ""


def project_in(tags: Mapping[str, str] | None, tag: str) -> str:
    """Return the project in a request's tags; empty if there is none. A client chooses it, so it is cut and cleaned."""
    if not tag or not tags or not (found := tags.get(tag, "")):
        return ""
    return "".join(character for character in found if character.isprintable()).strip()[:MAX_PROJECT]


def mistakes(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield an error for a tag that Claude Code does not accept; ``config`` is a mapping that is not validated yet."""
    tag = in_block(config, KEY)
    if tag is not None and (not isinstance(tag, str) or not _TAG.fullmatch(tag)):
        yield (
            f"{BLOCK}: {KEY}: should have 1 to 64 letters, digits or _ . : / = + - @, and not start with anthropic; "
            f"write {KEY}: project"
        )
