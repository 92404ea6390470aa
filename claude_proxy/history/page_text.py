"""A page as text, for the rows that replicas share. What a row has is checked and cleaned: its numbers, its texts.

The text is JSON, compressed: a new replica reads a year of pages at once. It is written on the event loop, so quickly.
"""

import base64
import zlib
from collections.abc import Iterable
from typing import Annotated

import msgspec

from claude_proxy.config.users import folded
from claude_proxy.history.page import MAX_CLOSED, MAX_ENTRIES, MAX_GROUPS, Page, bounded, total_of
from claude_proxy.text import clean
from claude_proxy.usage.numbers import COLUMNS, MAX_NUMBER, WIDTH, Listed, Names

# The largest page has a few thousand entries of some hundred bytes.
MAX_BYTES = 8 * 2**20
_Number = Annotated[int, msgspec.Meta(ge=0, le=MAX_NUMBER)]
_Texts = Annotated[list[str], msgspec.Meta(max_length=8 * MAX_CLOSED)]


class _PageText(msgspec.Struct):
    """``names`` has each text once. A list of ``usage`` has the places of its six names, then pairs of column and number."""

    names: _Texts
    usage: Annotated[list[list[_Number]], msgspec.Meta(max_length=2 * MAX_CLOSED)]
    left: dict[str, _Number]


_DECODER = msgspec.json.Decoder(_PageText)


class InvalidPage(ValueError):
    """The text is not a page of this version."""


def written(page: Page) -> str:
    """Return a page as text."""
    places: dict[str, int] = {}
    usage = []
    for names, numbers in page.entries.items():
        entry = [places.setdefault(name, len(places)) for name in names]
        for column, number in enumerate(numbers):
            if number:
                entry += (column, number)
        usage.append(entry)
    text = msgspec.json.encode(_PageText([*places], usage, page.left))
    return base64.b64encode(zlib.compress(text, level=1)).decode()


def read(text: str, stamp: float, listed: Listed, *, is_closed: bool) -> Page:
    """Read a page within the bounds of one; raise ``InvalidPage``."""
    try:
        found = _DECODER.decode(_decompressed(text))
        texts = [clean(name, MAX_GROUPS) for name in found.names]
        entries = [_entry(entry, texts) for entry in found.usage]
    except (msgspec.MsgspecError, zlib.error, UnicodeError, RecursionError, IndexError, ValueError) as error:
        raise InvalidPage(type(error).__name__) from None
    page = bounded(total_of([entries]), listed, MAX_CLOSED if is_closed else MAX_ENTRIES)
    page.stamp = stamp
    add_left(page, found.left.items())
    return page


def _decompressed(text: str) -> bytes:
    """Return the JSON; raise ValueError or ``zlib.error`` for what is none or is larger than any page."""
    if text.startswith("{"):  # as tests and people write it
        return text.encode()
    found = zlib.decompressobj().decompress(base64.b64decode(text, validate=True), MAX_BYTES + 1)
    if len(found) > MAX_BYTES:
        raise ValueError("larger than a page")
    return found


def add_left(page: Page, left: Iterable[tuple[str, int]]) -> None:
    """Add how often credentials or models were left; the most frequent ones keep their names."""
    for name, count in sorted(left, key=lambda item: (-item[1], item[0])):
        page.add_left(clean(name), count)


def _entry(entry: list[int], texts: list[str]) -> tuple[Names, list[int]]:
    width = len(Names._fields)
    user, groups, *others = (texts[place] for place in entry[:width])
    numbers = [0] * WIDTH
    pairs = entry[width:]
    if len(others) != width - 2 or len(pairs) % 2 or any(column >= len(COLUMNS) for column in pairs[::2]):
        raise ValueError("not an entry")
    for column, number in zip(pairs[::2], pairs[1::2], strict=True):
        numbers[column] = number
    return Names(clean(folded(user)), groups, *(clean(name) for name in others)), numbers
