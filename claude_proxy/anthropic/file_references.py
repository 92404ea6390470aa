"""The files that a Messages request refers to by their ids. Values in, values out, no I/O."""

import json
import re
from collections.abc import Iterator
from typing import Any

from claude_proxy.byte_search import contains

FILE_ID = "file_id"
# Objects that name a file for Claude to read: a source of an image or a document, and an upload into a container. What Claude
# has written in a container is named in results of tools, by other types.
NAMING = frozenset({"file", "container_upload"})
# Members in which such an object may be; not ``input``, which a model has written for a client's tool.
HOLDERS = ("messages", "content", "source")
_NAMED = f'"{FILE_ID}"'.encode()
# JSON may write any letter of a member's name in this form, which starts with one of these.
_ESCAPED_LETTER = re.compile(rb"\\u00(?:6[4569cC]|5[fF])")
_ESCAPE, _ESCAPES = b"\\u00", (b"\\u005", b"\\u006")


class _Pairs(list[tuple[str, Any]]):
    """A JSON object as a list of its pairs, because Claude may read either value of a duplicate name."""


def may_name_files(raw: bytes) -> bool:
    """Whether a request may refer to a file; without parsing it, and never False for one that does."""
    if contains(raw, _NAMED):
        return True
    escapes = contains(raw, _ESCAPE) and any(contains(raw, one) for one in _ESCAPES)
    return escapes and _ESCAPED_LETTER.search(raw) is not None


def files_named_in(raw: bytes) -> frozenset[str]:
    """Return the ids of the files that a request refers to; none for what is not JSON."""
    try:
        body = json.loads(raw, object_pairs_hook=_Pairs)
    except (ValueError, RecursionError):
        return frozenset()
    return frozenset(_ids(body))


def files_named_by(params: dict[str, Any]) -> frozenset[str]:
    """Return the ids of the files that a parsed request refers to."""
    return frozenset(_ids(params))


def _ids(body: Any) -> Iterator[str]:
    """Yield the ids, without recursion, because the client decides how deep its content is nested."""
    waiting = [body]
    while waiting:
        one = waiting.pop()
        if isinstance(one, _Pairs | dict):
            pairs = one.items() if isinstance(one, dict) else one
            if any(name == "type" and isinstance(value, str) and value in NAMING for name, value in pairs):
                yield from (value for name, value in pairs if name == FILE_ID and isinstance(value, str))
            waiting += [value for name, value in pairs if name in HOLDERS]
        elif isinstance(one, list):
            waiting += one
