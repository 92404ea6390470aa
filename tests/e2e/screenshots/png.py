"""Smaller pictures: a screenshot as a PNG with a palette of 256 colours."""

import struct
import zlib
from collections import Counter
from itertools import pairwise
from pathlib import Path

SIGNATURE = b"\x89PNG\r\n\x1a\n"
COLOURS = 256


def reduce_colours(path: Path) -> None:
    """Write the picture anew with its most frequent colours; each other colour becomes the nearest of them."""
    width, height, pixels = _pixels(path.read_bytes())
    counted = Counter(pixels[place : place + 3] for place in range(0, len(pixels), 3))
    palette = [colour for colour, _ in counted.most_common(COLOURS)]
    number = {colour: place for place, colour in enumerate(palette)}
    for colour in counted:
        if colour not in number:
            number[colour] = min(range(len(palette)), key=lambda place: _distance(palette[place], colour))
    indices = bytes(number[pixels[place : place + 3]] for place in range(0, len(pixels), 3))
    rows = b"".join(b"\0" + indices[start:end] for start, end in pairwise(range(0, len(indices) + 1, width)))
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"PLTE", b"".join(palette)), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
    path.write_bytes(SIGNATURE + b"".join(_chunk(name, data) for name, data in chunks))


def _distance(one: bytes, other: bytes) -> int:
    return sum((a - b) ** 2 for a, b in zip(one, other, strict=True))


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _pixels(picture: bytes) -> tuple[int, int, bytes]:
    """Return the size and the colours of a picture as Chromium writes it: 8 bits, RGB or RGBA, opaque, not interlaced."""
    place, compressed = len(SIGNATURE), b""
    while place < len(picture):
        (length,) = struct.unpack_from(">I", picture, place)
        name, data = picture[place + 4 : place + 8], picture[place + 8 : place + 8 + length]
        if name == b"IHDR":
            width, height, depth, kind, _, _, interlaced = struct.unpack(">IIBBBBB", data)
            assert (depth, interlaced) == (8, 0)
            assert kind in (2, 6)
        compressed += data if name == b"IDAT" else b""
        place += 12 + length
    size = 3 if kind == 2 else 4
    raw, above, rows = zlib.decompress(compressed), bytearray(width * size), []
    for start in range(0, len(raw), 1 + width * size):
        above = _unfiltered(raw[start], bytearray(raw[start + 1 : start + 1 + width * size]), above, size)
        rows.append(above)
    pixels = b"".join(rows)
    if size == 4:
        kept = bytearray(width * height * 3)
        for channel in range(3):
            kept[channel::3] = pixels[channel::4]
        pixels = bytes(kept)
    return width, height, pixels


def _unfiltered(kind: int, row: bytearray, above: bytearray, size: int) -> bytearray:
    """Undo the filter of a row, by the PNG specification."""
    for place in range(len(row)):
        left, up = row[place - size] if place >= size else 0, above[place]
        corner = above[place - size] if place >= size else 0
        match kind:
            case 1:
                row[place] = (row[place] + left) & 255
            case 2:
                row[place] = (row[place] + up) & 255
            case 3:
                row[place] = (row[place] + (left + up) // 2) & 255
            case 4:
                guess = left + up - corner
                nearest = min((left, up, corner), key=lambda value: abs(guess - value))
                row[place] = (row[place] + nearest) & 255
    return row
