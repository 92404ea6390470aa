"""Rows, the unit that processes share. Of two rows with one key, the one with the larger stamp wins."""

import json
import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

logger = logging.getLogger(__name__)

# A salt has 32 characters, and the largest page of usage a few hundred kilobytes.
MAX_SALT = 200
MAX_VALUE_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Row:
    """One fact. ``stamp`` is finite, usually Unix seconds; ``value`` is JSON text, which the store does not parse."""

    key: str
    stamp: float
    value: str


@contextmanager
def skipping_unreadable(row: Row) -> Iterator[None]:
    """Skip the rest of the block if it cannot read the row's value, which another version, or somebody else, has written."""
    try:
        yield
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        logger.debug("skipped a store row that this version cannot read: %.200r", row.key)


def read_salt(row: Row) -> str:
    """Return the salt in a row; raise ValueError for an invalid one."""
    salt = json.loads(row.value)
    if not isinstance(salt, str) or not 0 < len(salt) <= MAX_SALT or not salt.isprintable():
        raise ValueError("not a salt")
    return salt


def read_row(key: object, stamp: object, value: object) -> Row | None:
    """Return a row from a store's values; None for invalid values, which no process can have written."""
    if not isinstance(key, bytes) or not isinstance(stamp, int | float) or not isinstance(value, bytes):
        return None
    if len(value) > MAX_VALUE_BYTES or not math.isfinite(stamp):
        return None
    try:
        return Row(to_text(key), float(stamp), to_text(value))
    except (UnicodeError, OverflowError):
        return None


def to_bytes(text: str) -> bytes:
    """Encode any text, including unpaired surrogates."""
    return text.encode("utf-8", "surrogatepass")


def to_text(data: bytes) -> str:
    """Decode the result of ``to_bytes``; raise UnicodeError for other bytes."""
    return data.decode("utf-8", "surrogatepass")
