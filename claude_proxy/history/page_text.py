"""A page as text, for the rows that replicas share. What a row has is checked and cleaned: its numbers, its texts."""

from collections.abc import Iterable
from typing import Annotated

import msgspec

from claude_proxy.config.users import folded
from claude_proxy.history.page import MAX_CLOSED, MAX_ENTRIES, MAX_GROUPS, Page, bounded, total_of
from claude_proxy.text import clean
from claude_proxy.usage.numbers import COLUMNS, MAX_NUMBER, WIDTH, Listed, Names

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
    return msgspec.json.encode(_PageText([*places], usage, page.left)).decode()


def read(text: str, stamp: float, listed: Listed, *, is_closed: bool) -> Page:
    """Read a page within the bounds of one; raise ``InvalidPage``."""
    try:
        found = _DECODER.decode(text)
        texts = [clean(name, MAX_GROUPS) for name in found.names]
        entries = [_entry(entry, texts) for entry in found.usage]
    except (msgspec.MsgspecError, UnicodeError, RecursionError, IndexError, ValueError) as error:
        raise InvalidPage(type(error).__name__) from None
    page = bounded(total_of([entries]), listed, MAX_CLOSED if is_closed else MAX_ENTRIES)
    page.stamp = stamp
    add_left(page, found.left.items())
    return page


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
