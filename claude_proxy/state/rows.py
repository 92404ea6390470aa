"""What the processes of a proxy share: rows under keys, of which the one with the larger stamp wins."""

import json
import math
from dataclasses import dataclass

# A salt has 32 characters, and the largest page of usage some hundred kilobytes.
MAX_SALT = 200
MAX_VALUE_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Row:
    """One fact. ``stamp`` is finite, mostly Unix seconds; ``value`` is JSON text, which the store does not look into."""

    key: str
    stamp: float
    value: str


def read_salt(row: Row) -> str:
    """Return the salt that a row holds; raise ValueError for one that holds none."""
    salt = json.loads(row.value)
    if not isinstance(salt, str) or not 0 < len(salt) <= MAX_SALT or not salt.isprintable():
        raise ValueError("no salt")
    return salt


def read_row(key: object, stamp: object, value: object) -> Row | None:
    """Return a row as it was found in a store; None for what no process can have written, which is passed over."""
    if not isinstance(key, bytes) or not isinstance(stamp, int | float) or not isinstance(value, bytes):
        return None
    if len(value) > MAX_VALUE_BYTES or not math.isfinite(stamp):
        return None
    try:
        return Row(to_text(key), float(stamp), to_text(value))
    except (UnicodeError, OverflowError):
        return None


def to_bytes(text: str) -> bytes:
    """Return the bytes of any text, half a surrogate pair included."""
    return text.encode("utf-8", "surrogatepass")


def to_text(data: bytes) -> str:
    """Return the text that ``to_bytes`` made these bytes of; raise UnicodeError for others."""
    return data.decode("utf-8", "surrogatepass")
