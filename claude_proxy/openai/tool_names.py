"""Encodes and decodes tool names for providers that accept 64 letters, digits, ``_`` and ``-`` (OpenAI's reference)."""

import hashlib
import re
from collections.abc import Iterable

LONGEST = 64
_TAKEN = re.compile(r"[A-Za-z0-9_-]{1,64}")
_OTHERS = re.compile(r"[^A-Za-z0-9_-]")
_DIGEST = 8


def sent_name(name: str) -> str:
    """Return the name sent to the provider: unchanged if it is accepted, else a unique replacement."""
    if _TAKEN.fullmatch(name):
        return name
    digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=_DIGEST // 2).hexdigest()
    return f"{_OTHERS.sub('_', name)[: LONGEST - _DIGEST - 1]}_{digest}"


def names_by_sent(names: Iterable[str]) -> dict[str, str]:
    """Return the original name of each name that was replaced."""
    return {sent: name for name in names if (sent := sent_name(name)) != name}
