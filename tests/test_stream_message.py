"""anthropic/stream_message.py: the message of a stream, for a client that requested no stream."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy.anthropic.stream_message import body_of, message_of

BEGUN = {"id": "msg_1", "type": "message", "role": "assistant", "model": "glm", "content": [], "usage": {"input_tokens": 7}}
START = {"type": "message_start", "message": BEGUN}
STOP = {"type": "message_stop"}
ENDED = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 5}}


def sse(*events):
    return b"".join(b"event: %s\ndata: %s\n\n" % (e["type"].encode(), json.dumps(e).encode()) for e in events)


def block(index, begun, *deltas):
    start = {"type": "content_block_start", "index": index, "content_block": begun}
    middle = [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
    return [start, *middle, {"type": "content_block_stop", "index": index}]


def test_blocks_of_every_kind_are_put_together():
    """Text, thinking with its last signature, a call with its input, and citations are joined; usage is merged."""
    told = message_of(
        sse(
            START,
            *block(
                0,
                {"type": "thinking", "thinking": "", "signature": ""},
                {"type": "thinking_delta", "thinking": "a"},
                {"type": "thinking_delta", "thinking": "b"},
                {"type": "signature_delta", "signature": "one"},
                {"type": "signature_delta", "signature": "two"},
            ),
            *block(
                1,
                {"type": "text", "text": "x"},
                {"type": "text_delta", "text": "yz"},
                {"type": "citations_delta", "citation": {"type": "char_location"}},
            ),
            *block(
                2,
                {"type": "tool_use", "id": "toolu_1", "name": "Read", "input": {}},
                {"type": "input_json_delta", "partial_json": ""},
                {"type": "input_json_delta", "partial_json": '{"path":'},
                {"type": "input_json_delta", "partial_json": '"a"}'},
            ),
            *block(3, {"type": "tool_use", "id": "toolu_2", "name": "Stop", "input": {}}),
            ENDED,
            STOP,
        )
    )
    assert told == BEGUN | {
        "content": [
            {"type": "thinking", "thinking": "ab", "signature": "two"},
            {"type": "text", "text": "xyz", "citations": [{"type": "char_location"}]},
            {"type": "tool_use", "id": "toolu_1", "name": "Read", "input": {"path": "a"}},
            {"type": "tool_use", "id": "toolu_2", "name": "Stop", "input": {}},
        ],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 7, "output_tokens": 5},
    }


def test_an_error_event_is_what_the_stream_told():
    """An error event is returned unchanged, wherever it is."""
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    assert message_of(sse(START, error, STOP)) == error


@pytest.mark.parametrize("stream", [b"", b'{"type":"message"}', sse(START, ENDED), sse(STOP), sse(*block(0, {}))])
def test_a_stream_without_its_end_told_nothing(stream):
    """Anything but a complete stream has no message, and its bytes are unchanged."""
    assert message_of(stream) is None
    assert body_of(stream) == stream


JSON = st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))
KINDS = [
    "message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta", "message_stop",
    "text_delta", "signature_delta", "input_json_delta", "citations_delta",
]  # fmt: skip
FIELDS = ["message", "content_block", "delta", "index", "usage", "text", "signature", "partial_json", "citations", "input"]
PARTS = st.dictionaries(st.sampled_from(FIELDS), JSON | st.fixed_dictionaries({"type": st.sampled_from(KINDS)}))


@given(st.lists(st.tuples(st.sampled_from(KINDS), PARTS)))
def test_nothing_that_a_provider_sends_raises(parts):
    """Whatever a provider sends, the result is an object or None."""
    told = message_of(sse(START, *({**fields, "type": kind} for kind, fields in parts), STOP))
    assert told is None or isinstance(told, dict)
