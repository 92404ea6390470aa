"""providers/event_stream.py: AWS's frames, compared with botocore's own reader."""

import base64
import itertools
import json
import struct
import zlib

import pytest
from botocore.eventstream import EventStreamBuffer
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy.anthropic.sse import error_kind, event_object
from claude_proxy.providers.event_stream import Frame, FrameReader, NotAnEventStream, frame

EVENT = {":event-type": "chunk", ":content-type": "application/json", ":message-type": "event"}


def chunk(event):
    coded = base64.b64encode(json.dumps(event).encode()).decode()
    return frame(EVENT, json.dumps({"bytes": coded, "p": "abcdef"}).encode())


def exception(name, message):
    headers = {":exception-type": name, ":content-type": "application/json", ":message-type": "exception"}
    return frame(headers, json.dumps({"message": message}).encode())


def read(*parts):
    reader = FrameReader()
    return [one for part in parts for one in reader.feed(part)], reader.finish()


STREAM = chunk({"type": "message_start"}) + chunk({"type": "ping"}) + exception("throttlingException", "slow down")


def test_what_botocore_reads():
    """Frames written here are frames to botocore, and frames are read here as botocore reads them."""
    buffer = EventStreamBuffer()
    buffer.add_data(STREAM)
    theirs = [(one.headers, one.payload) for one in buffer]
    ours, rest = read(STREAM)
    assert [(one.headers, one.payload) for one in ours] == theirs
    assert not rest


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_any_parts(cuts):
    """The frames depend on the bytes and not on how they were cut, and leave in the bytes they came in."""
    places = sorted({0, len(STREAM), *cuts})
    found, rest = read(*(STREAM[a:b] for a, b in itertools.pairwise(places)))
    assert b"".join(one.raw for one in found) == STREAM
    assert [len(one.raw) for one in found] == [len(one.raw) for one in read(STREAM)[0]]
    assert not rest


def test_single_bytes():
    """Byte by byte is one of the ways."""
    found, rest = read(*(STREAM[place : place + 1] for place in range(len(STREAM))))
    assert len(found) == 3
    assert not rest


def test_a_stream_that_is_cut_off():
    """The beginning of a frame is what is left at the end."""
    found, rest = read(STREAM[:-1])
    assert len(found) == 2
    assert rest


def test_events_of_the_messages_api():
    """A frame has an event of the Messages API, under the event's own type."""
    found, _ = read(chunk({"type": "content_block_delta", "delta": {"text": "a\nb é"}}))
    assert found[0].event.startswith(b"event: content_block_delta\ndata: ")
    assert event_object(found[0].event) == {"type": "content_block_delta", "delta": {"text": "a\nb é"}}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("throttlingException", "rate_limit_error"),
        ("validationException", "invalid_request_error"),
        ("serviceUnavailableException", "overloaded_error"),
        ("modelTimeoutException", "timeout_error"),
        ("modelStreamErrorException", "api_error"),
        ("somethingNew", "api_error"),
    ],
)
def test_exceptions(name, kind):
    """An exception is an error of Anthropic's with the exception's message."""
    (found,), _ = read(exception(name, "made up"))
    assert found.exception == name
    assert error_kind(event_object(found.event)) == kind
    assert event_object(found.event)["error"]["message"] == "made up"


@pytest.mark.parametrize("payload", [b"", b"{}", b"not json", b'{"bytes": "%%%"}', b'{"bytes": 7}', b'{"bytes": "W10="}'])
def test_a_frame_without_an_event(payload):
    """A frame whose payload is something else is a comment to whoever reads events."""
    (found,), _ = read(frame(EVENT, payload))
    assert found.event == b": \n\n"


def test_an_event_with_an_odd_type():
    """A type that is no name cannot put a line into the events."""
    (found,), _ = read(chunk({"type": "a\ndata: {}"}))
    assert found.event.startswith(b"event: message\n")


DAMAGED = bytearray(STREAM)
DAMAGED[8] ^= 1


@pytest.mark.parametrize(
    "data",
    [
        b'{"message": "an error in JSON, and no frame"}',
        bytes(DAMAGED),
        b"\0" * 12,
        struct.pack(">II", 2**31, 0) + struct.pack(">I", zlib.crc32(struct.pack(">II", 2**31, 0))),
        struct.pack(">II", 16, 100) + struct.pack(">I", zlib.crc32(struct.pack(">II", 16, 100))),
        frame({}, b"")[:4] + frame({}, b"")[4:8] + b"\0\0\0\0" + b"\0" * 4,
    ],
)
def test_bytes_that_are_no_frames(data):
    """A damaged prelude, and a length that no frame has, are an error and are not waited for."""
    with pytest.raises(NotAnEventStream):
        read(data)


@given(st.binary(max_size=200))
def test_damaged_headers(headers):
    """Any bytes in the place of headers are read, or are the one error."""
    prelude = struct.pack(">II", 16 + len(headers), len(headers))
    crc = zlib.crc32
    whole = prelude + struct.pack(">I", crc(prelude)) + headers
    whole += struct.pack(">I", crc(whole))
    try:
        found, _ = read(whole)
    except NotAnEventStream:
        return
    assert isinstance(found[0], Frame)
    assert found[0].event
