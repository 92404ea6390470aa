"""upstream/response_bounds.py: the limits for reading a response."""

import gzip
import zlib

import httpx
import pytest

from claude_proxy.upstream.response_bounds import (
    STEP_BYTES,
    STEP_LINES,
    Bounds,
    ResponseTooLarge,
    named_codings,
    unreadable,
)

TEXT = b"".join(b"%d, " % number for number in range(200_000))


def raw_deflate(text):
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(text) + packer.flush()


CODED = {"": bytes, "gzip": gzip.compress, "deflate": zlib.compress, "deflate, raw": raw_deflate}


@pytest.mark.parametrize("size", [1, 1000, 10_000_000])
@pytest.mark.parametrize("coding", CODED)
def test_what_is_decoded_does_not_depend_on_how_it_was_cut(coding, size):
    """A coded body is decoded completely, however it arrives, in steps of limited size."""
    text = TEXT[:2000] if size == 1 else TEXT
    coded, bounds = CODED[coding](text), Bounds(coding.split(",")[0])
    pieces = [piece for at in range(0, len(coded), size) for piece in bounds.feed(coded[at : at + size])] + [*bounds.finish()]
    assert b"".join(pieces) == text
    assert not coding or max(map(len, pieces)) <= STEP_BYTES


def test_a_bomb_is_not_decoded_beyond_the_bound(monkeypatch):
    """A chunk that expands a thousand times is decoded only up to the response's limit."""
    monkeypatch.setattr("claude_proxy.upstream.response_bounds.MAX_RESPONSE_BYTES", 3 * STEP_BYTES)
    pieces = Bounds("gzip").feed(gzip.compress(bytes(100 * STEP_BYTES)))
    assert sum(len(next(pieces)) for _ in range(3)) == 3 * STEP_BYTES
    with pytest.raises(ResponseTooLarge):
        next(pieces)


@pytest.mark.parametrize("end", [b"\n\n", b"\r\r", b"\r\n\r\n", b"\n\r\n"])
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_events_are_bounded_and_streams_are_not(monkeypatch, end, size):
    """A relayed stream has no limit, but each of its events has, however it is cut."""
    monkeypatch.setattr("claude_proxy.upstream.response_bounds.MAX_RESPONSE_BYTES", 10)
    monkeypatch.setattr("claude_proxy.upstream.response_bounds.MAX_EVENT_SIZE", 100)
    bounds = Bounds()
    bounds.endless = True
    stream = (b"data: x\ndata: " + b"x" * 50 + end) * 20
    for at in range(0, len(stream), size):
        assert b"".join(bounds.feed(stream[at : at + size])) or size == 1
    with pytest.raises(ResponseTooLarge, match="event"):
        [*bounds.feed(b"data: x\n" * 20)]


def test_many_lines_have_steps_and_a_bound(monkeypatch):
    """A reader by line gets few lines per step; a response and an event have a limit of lines."""
    lines = b'{"a": 1}\n' * 5000
    pieces = [*Bounds().feed(lines)]
    assert b"".join(pieces) == lines
    assert max(piece.count(b"\n") for piece in pieces) <= STEP_LINES + 1
    with pytest.raises(ResponseTooLarge, match="event"):
        [*Bounds(events=True).feed(b"data: x\n" * 5000)]
    assert b"".join(Bounds(events=True).feed(b"data: x\n\n" * 5000)) == b"data: x\n\n" * 5000
    monkeypatch.setattr("claude_proxy.upstream.response_bounds.MAX_RESPONSE_LINES", 4999)
    with pytest.raises(ResponseTooLarge, match="lines"):
        [*Bounds().feed(lines)]


def test_a_response_that_is_large_on_the_way(monkeypatch):
    """The encoded size has the same limit as the decoded size, because empty blocks decode to nothing."""
    monkeypatch.setattr("claude_proxy.upstream.response_bounds.MAX_RESPONSE_BYTES", 1000)
    nothing = gzip.compress(b"")[:10] + b"\x00\x00\x00\xff\xff" * 100
    bounds = Bounds("gzip")
    assert b"".join(bounds.feed(nothing)) == b""
    with pytest.raises(ResponseTooLarge, match="more than"):
        [*bounds.feed(b"\x00\x00\x00\xff\xff" * 200)]


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize("coding", ["", "gzip"])
def test_a_body_that_is_cut(coding, size):
    """With ``cut_at`` a body ends there to the byte; a shorter one is complete."""
    text = b"0123456789" * 3
    coded = CODED[coding](text)
    for cut_at in (1, 10, 29, 30, 31):
        bounds, pieces = Bounds(coding, cut_at=cut_at), []
        for at in range(0, len(coded), size):
            if not bounds.full:
                pieces += bounds.feed(coded[at : at + size])
        pieces += bounds.finish()
        assert (b"".join(pieces), bounds.full) == (text[:cut_at], cut_at <= len(text))


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_what_cannot_be_decoded(coding):
    """A body that cannot be decoded is an error, or ends there with ``lenient``."""
    with pytest.raises(httpx.DecodingError):
        [*Bounds(coding).feed(b"no such thing")]
    bounds = Bounds(coding, lenient=True)
    assert [*bounds.feed(b"no such thing"), *bounds.finish()] == []
    assert bounds.full


def test_a_coded_body_that_was_cut_off():
    """A coded body that was cut off ends where it was cut."""
    coded, bounds = gzip.compress(TEXT), Bounds("gzip")
    assert TEXT.startswith(b"".join([*bounds.feed(coded[: len(coded) // 2]), *bounds.finish()]))


@pytest.mark.parametrize(
    ("header", "codings", "fits"),
    [
        ("", [], True), ("identity", [], True), ("gzip", ["gzip"], True), (" GZip ", ["gzip"], True),
        ("deflate, identity", ["deflate"], True), ("br", ["br"], False), ("gzip, br", ["gzip", "br"], False),
        ("gzip, gzip", ["gzip", "gzip"], False), (",", [], True),
    ],
)  # fmt: skip
def test_which_codings_can_be_undone(header, codings, fits):
    """A requested coding is accepted in any case; several codings are rejected, because they could hide a huge size."""
    assert named_codings(header) == codings
    assert unreadable(codings) is not fits
