"""Settings of Claude Code as JSON, and their checksum as Claude Code 2.1.332 computes it. Plain values, no I/O.

The client parses the settings, sorts the keys at every level and writes them as JavaScript does, without blanks. A few rules of
JavaScript differ from Python's:

1. Keys are sorted by their UTF-16 code units, but keys that are whole numbers come first, by their value.
2. Each number is a double: ``1.0`` is ``1``, and only very large and very small ones have an exponent (``1e+21``, ``1e-7``).
3. No character is escaped but quotes, backslashes and control characters.
"""

import hashlib
import json
import sys
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

# The largest key that JavaScript counts as a place in an array.
LARGEST_INDEX = 2**32 - 2
# JavaScript writes a number with an exponent from these powers of ten on.
LARGE, SMALL = 21, -6
# In the client's copy this key would replace an object's prototype.
FORBIDDEN_KEY = "__proto__"


def checksum(settings: Mapping[str, Any]) -> str:
    """Return the checksum of settings."""
    return f"sha256:{hashlib.sha256(canonical(settings).encode()).hexdigest()}"


def canonical(value: Any) -> str:
    """Return the JSON of a value in which ``problem`` found nothing."""
    if isinstance(value, dict):
        pairs = (f"{_text(key)}:{canonical(value[key])}" for key in sorted(value, key=_place))
        return f"{{{','.join(pairs)}}}"
    if isinstance(value, list):
        return f"[{','.join(map(canonical, value))}]"
    if isinstance(value, str):
        return _text(value)
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return number(value)


def problem(value: Any) -> str:
    """Return why a value of config.yaml is not JSON that the client reads as it is, in words; empty if it is."""
    found = ""
    if isinstance(value, dict):
        found = next((words for key, inner in value.items() if (words := _key_problem(key) or _below(key, inner))), "")
    elif isinstance(value, list):
        found = next((words for place, one in enumerate(value, 1) if (words := _below(f"entry {place}", one))), "")
    elif isinstance(value, float | int) and not abs(value) <= sys.float_info.max:
        found = "should be a number that JSON has"
    elif value is not None and not isinstance(value, str | int | float):
        found = "should be a text; write it in quotes"
    return found


def _key_problem(key: object) -> str:
    if not isinstance(key, str):
        return f"{str(key)[:100]} should be a text; write it in quotes"
    return f"{key} is no key that Claude Code can read" if key == FORBIDDEN_KEY else ""


def _below(key: object, value: Any) -> str:
    found = problem(value)
    return f"{key}: {found}" if found else ""


def number(value: float) -> str:
    """Return a number as JavaScript writes it."""
    sign, digits, exponent = Decimal(repr(float(value))).normalize().as_tuple()
    text = "".join(map(str, digits))
    point = len(text) + int(exponent)
    minus = "-" if sign and text != "0" else ""
    if text == "0":
        return "0"
    if len(text) <= point <= LARGE:
        return f"{minus}{text}{'0' * (point - len(text))}"
    if 0 < point <= LARGE:
        return f"{minus}{text[:point]}.{text[point:]}"
    if SMALL < point <= 0:
        return f"{minus}0.{'0' * -point}{text}"
    rest = f".{text[1:]}" if text[1:] else ""
    return f"{minus}{text[0]}{rest}e{point - 1:+d}"


def _place(key: str) -> tuple[bool, int, bytes]:
    is_index = key.isascii() and key.isdecimal() and str(int(key)) == key and int(key) <= LARGEST_INDEX
    return not is_index, int(key) if is_index else 0, key.encode("utf-16-be", "surrogatepass")


def _text(value: str) -> str:
    return json.dumps(value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace"), ensure_ascii=False)
