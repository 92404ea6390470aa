"""anthropic/usage.py: the tokens of a response, whole or as events."""

import json
import random

import pytest

from claude_proxy.anthropic.usage import StreamSummary, Usage, usage_of

STREAM = (
    b'event: message_start\ndata: {"type":"message_start","message":{"usage":{"input_tokens":10,"cache_read_input_tokens":7,'
    b'"cache_creation_input_tokens":2,"output_tokens":1}}}\n\n'
    b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"text":"\\"usage\\""}}\n\n'
    b'event: message_delta\ndata: {"type":"message_delta","usage":{"output_tokens":55}}\n\n'
)


@pytest.mark.parametrize(
    ("answer", "usage"),
    [
        (STREAM, Usage(10, 55, 7, 2)),
        (STREAM.replace(b"\n", b"\r\n"), Usage(10, 55, 7, 2)),
        (STREAM[:-70], Usage(10, 1, 7, 2)),
        (b' {"usage":{"input_tokens":1,"output_tokens":2,"cache_read_input_tokens":null}}', Usage(1, 2)),
        (
            b'{"usage":{"input_tokens":1,"output_tokens":2,"cache_read_input_tokens":3,"cache_creation_input_tokens":4}}',
            Usage(1, 2, 3, 4),
        ),
        (b'{"usage":{"input_tokens":1,"output_tokens":-2}}', Usage(1)),
        (b'{"usage":{"input_tokens":-1,"output_tokens":true,"x":"y"}}', Usage()),
        (b'{"usage":[]}', Usage()),
        (b"[1]", Usage()),
        (b"{", Usage()),
        (b"", Usage()),
    ],
)
def test_tokens_are_read_from_the_answer(answer, usage):
    """The last counts of a response apply, whole or streamed; an invalid count is ignored."""
    assert usage_of(answer) == usage


BILLED = {
    "input_tokens": 10,
    "output_tokens": 2,
    "cache_read_input_tokens": 3,
    "cache_creation_input_tokens": 4,
    "cache_creation": {"ephemeral_5m_input_tokens": 1, "ephemeral_1h_input_tokens": 3},
    "server_tool_use": {"web_search_requests": 5, "web_fetch_requests": 0},
    "service_tier": "priority",
    "speed": "fast",
    "inference_geo": "us",
    "cost": 0.0000123,
    "iterations": [
        {"type": "message", "input_tokens": 10, "output_tokens": 2},
        {"type": "compaction", "input_tokens": 90, "output_tokens": 9},
        {"type": "advisor_message", "model": "claude-x", "input_tokens": 7, "output_tokens": 1, "cache_read_input_tokens": 2},
        {"type": "of the future", "input_tokens": 5},
        "none",
    ],
}
FURTHER = (("", Usage(90, 9)), ("claude-x", Usage(7, 1, 2)))
WHOLE = Usage(10, 2, 3, 4, 3, 5, "priority", "fast", "us", 12, FURTHER)


def in_every_form(usage):
    """The same usage in a whole message, in one that is not parsed strictly, and in the events of a stream."""
    start = json.dumps({"type": "message_start", "message": {"usage": usage | {"output_tokens": 1}}}).encode()
    delta = json.dumps({"type": "message_delta", "usage": {"output_tokens": usage["output_tokens"]}}).encode()
    yield json.dumps({"usage": usage}).encode()
    yield json.dumps({"usage": usage | {"x": -1}}).encode()
    yield b"event: message_start\ndata: " + start + b"\n\nevent: message_delta\ndata: " + delta + b"\n\n"


def test_what_decides_the_price_is_read():
    """Cache writes for an hour, searches, tier, speed, region, a reported price and further parts are read in every form."""
    assert [usage_of(form) for form in in_every_form(BILLED)] == [WHOLE] * 3


@pytest.mark.parametrize(
    "odd",
    [
        {
            "cache_creation": None,
            "server_tool_use": None,
            "service_tier": None,
            "speed": None,
            "cost": None,
            "iterations": None,
        },
        {"cache_creation": [1], "server_tool_use": "x", "service_tier": 5, "speed": {}, "inference_geo": [], "cost": "1"},
        {"cache_creation": {"ephemeral_1h_input_tokens": -1}, "server_tool_use": {"web_search_requests": True}, "cost": -1},
        {"service_tier": "x" * 41, "cost": 1e9, "iterations": {"type": "compaction"}},
        {"cost": True, "iterations": [{"type": "message", "input_tokens": 1}, {}, None]},
    ],
)
def test_what_is_not_billed(odd):
    """Values that are missing or invalid are left out, and the counts beside them are read."""
    assert [usage_of(form) for form in in_every_form({"input_tokens": 1, "output_tokens": 2} | odd)] == [Usage(1, 2)] * 3


def test_a_sum_of_usage():
    """Counts and reported prices of two rounds are added; how tokens are billed is that of the later one."""
    one, two = Usage(1, 2, 3, 4, 5, 6, "flex", cost=7), Usage(10, 20, service_tier="priority", further=FURTHER)
    assert one + two == Usage(11, 22, 3, 4, 5, 6, "priority", cost=7, further=FURTHER)
    assert (two + two).cost is None


def test_a_large_answer_is_not_parsed(monkeypatch):
    """Of a response that is too large to parse, the usage at its end is read."""
    monkeypatch.setattr("claude_proxy.anthropic.usage.MAX_READ_RESPONSE", 100)
    said = {
        "content": [{"text": '"usage": {"input_tokens": 1}'}] * 10,
        "usage": {"input_tokens": 3, "output_tokens": 4},
        "x": 1,
    }
    assert usage_of(json.dumps(said).encode()) == Usage(3, 4)
    assert usage_of(b"{" + b" " * 100 + b'"usage": [}') == usage_of(b"{" + b" " * 100) == Usage()


# What outlasts a stream

EVENTS = [
    b'data: {"usage":{"input_tokens":%d}}',
    b'event: x\ndata: {"text":"\\"usage\\": %d"}',
    b'data: {"type":"error","error":{"type":"e%d"}}',
    b'data: {"error":1,"usage":{"output_tokens":%d}}',
    b": comment %d",
    b'\ndata: {"usage":{"cache_read_input_tokens":%d},"usage ":1}',
    b'data: {"usage":%d',
]


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r"])
@pytest.mark.parametrize("seed", range(20))
def test_a_summary_reads_each_event_that_tells_something(seed, end):
    """Counts and errors are found wherever they are in a chunk, as if each event were read alone."""
    drawn = random.Random(seed)
    stream = [drawn.choice(EVENTS) % number + end for number in range(drawn.randrange(1, 30))]
    together, alone = StreamSummary(), StreamSummary()
    together.feed(b"".join(stream))
    together.finish()
    for event in stream:
        alone.feed(event)
    alone.finish()
    expected = Usage()
    for event in stream:
        found = usage_of(b"data: {}\n\n" + event)
        expected = Usage(
            found.input or expected.input, found.output or expected.output, found.cache_read or expected.cache_read
        )
    assert (together.usage, together.error) == (alone.usage, alone.error)
    assert together.usage == expected


COUNTED = (
    b'data: {"type":"message_start","message":{"usage":{"input_tokens":10,"output_tokens":1}}}\r\n\r\n'
    b': "usage"\n\nevent: ping\ndata: {"type":"ping"}\n\n'
    b'data: {"type":"message_delta","usage":{"output_tokens":55,"cache_read_input_tokens":7}}\r\r'
    b'data: {"type":"error","error":{"type":"overloaded_error"}}\n\ndata: {"type":"error","error":{"type":"api_error"}}\n\n'
    b'data: {"usage":{"input_tokens":11}}'
)


@pytest.mark.parametrize("size", [1, 2, 7, 64, 10_000])
def test_a_summary_does_not_depend_on_how_a_stream_is_cut(size):
    """Tokens, the first error and the size do not depend on the chunks, with the last event complete or cut off."""
    summary = StreamSummary()
    for at in range(0, len(COUNTED), size):
        summary.feed(COUNTED[at : at + size])
    summary.finish()
    assert (summary.usage, summary.error, summary.size) == (Usage(11, 55, 7), "overloaded_error", len(COUNTED))


@pytest.mark.parametrize(
    ("event", "is_final"),
    [
        (b'{"type":"message_start","message":{"usage":{"input_tokens":10,"output_tokens":1}}}', False),
        (b'{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":5}}', True),
        (b'{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"input_tokens":5}}', False),
        (b'{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":null}', False),
        (b'{"type":"content_block_delta","delta":{"text":"message_delta"},"usage":{"output_tokens":5}}', False),
        (b'["message_delta", {"usage": {"output_tokens": 5}}]', False),
    ],
)
def test_when_the_counts_of_a_stream_are_final(event, is_final):
    """The output of a ``message_delta`` is that of the whole response, as soon as the event is complete."""
    summary = StreamSummary()
    raw = b"data: " + event + b"\n\n"
    summary.feed(raw[:-1])
    assert not summary.is_final
    summary.feed(raw[-1:])
    assert summary.is_final is is_final


def test_a_summary_holds_one_event(monkeypatch):
    """An event that is too large is skipped, later events are read, and at most one event is held."""
    monkeypatch.setattr("claude_proxy.anthropic.usage.MAX_READ_EVENT", 100)
    summary = StreamSummary()
    for _ in range(100):
        summary.feed(b'data: {"usage":{"input_tokens":1}, "text": "' + b"x" * 50)
        assert len(summary._held) <= 200
    summary.feed(b'"}\n\ndata: {"usage":{"output_tokens":2}}\n\n')
    summary.finish()
    assert summary.usage == Usage(0, 2)
