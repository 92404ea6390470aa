"""Lets aiohttp send header values in the bytes that the client sent."""

import functools
import re
from typing import Any

from aiohttp import http_writer

# Offset of private-use characters that stand for the raw bytes 0x80 to 0xFF, because aiohttp writes headers as UTF-8.
_RAW = 0xF700
_RAW_BYTES = re.compile(rb"\xef[\x9e\x9f][\x80-\xbf]")


@functools.cache
def keep_bytes_of_headers() -> None:
    """Make aiohttp (3.14.5) write header values in the bytes that the client sent; by itself it writes UTF-8."""
    serialize = http_writer._serialize_headers  # noqa: SLF001 - no other seam before the bytes

    def serialized(status_line: str, headers: Any) -> bytes:
        written = serialize(status_line, headers)
        if written.isascii():
            return written
        return _RAW_BYTES.sub(lambda found: bytes([ord(found[0].decode()) & 0xFF]), written)

    http_writer._serialize_headers = serialized  # noqa: SLF001


def raw_bytes(value: str) -> str:
    """Return a header value, read as Latin-1, in the characters that are later replaced by its raw bytes."""
    return "".join(one if one.isascii() else chr(_RAW + (ord(one) & 0xFF)) for one in value)
