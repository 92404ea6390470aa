"""anthropic/stream_writer.py: the events of a Messages stream, checked by stream_validator.py."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stream_validator import read_events, read_message

from claude_proxy.anthropic.stream_writer import StreamWriter, counts, empty_message
from claude_proxy.anthropic.usage import StreamSummary, Usage

USAGE = Usage(3, 4, 5, 6)
TEXTS = st.text(min_size=1).filter(str.strip)
CALL = {"type": "tool_use", "id": "c1", "name": "Read", "input": {}}


@given(TEXTS, TEXTS, st.sampled_from(["end_turn", "max_tokens"]))
def test_a_message(thought, words, reason):
    """Every kind of block, with any characters, gives a valid stream with the counts of its end."""
    writer = StreamWriter("asked")
    out = writer.start(7)
    out += writer.open({"type": "thinking", "thinking": "", "signature": ""}) + writer.delta(thought) + writer.close("signed")
    out += writer.open({"type": "text", "text": ""}) + writer.delta(words) + writer.close()
    out += writer.end(reason, None, USAGE)
    message = read_message(out)
    assert message["content"] == [
        {"type": "thinking", "thinking": thought, "signature": "signed"}, {"type": "text", "text": words},
    ]  # fmt: skip
    assert (message["model"], message["stop_reason"], message["usage"]) == ("asked", reason, counts(USAGE))
    assert (writer.started, writer.ended) == (True, True)
    summary = StreamSummary()
    summary.feed(out)
    assert summary.usage == USAGE


def test_a_call_and_half_a_character():
    """Arguments are the text of their deltas; a lone surrogate is escaped."""
    writer = StreamWriter("asked")
    out = writer.start(7) + writer.open(CALL) + writer.delta('{"a": "') + writer.delta("\ud83d") + writer.delta('"}')
    out += writer.close() + writer.end("tool_use", None, USAGE)
    assert read_message(out)["content"] == [CALL | {"input": {"a": "\ud83d"}}]


@pytest.mark.parametrize("searches", [0, 2])
def test_searches_are_counted(searches):
    """If searches are possible, their number is reported beside the tokens."""
    writer = StreamWriter("asked")
    (ended, _) = read_events(writer.start(7) + writer.end("end_turn", None, USAGE, searches))[1:]
    assert ended["usage"] == counts(USAGE) | {"server_tool_use": {"web_search_requests": searches}}


def test_a_failure():
    """A failure ends the stream at any point, also before its start."""
    for begin in (lambda writer: b"", lambda writer: writer.start(7) + writer.open(CALL) + writer.delta("{")):
        writer = StreamWriter("asked")
        out = begin(writer) + writer.fail("api_error", "made\nup")
        assert read_message(out) == {"type": "error", "error": {"type": "api_error", "message": "made\nup"}}
        assert (read_events(out)[-1]["type"], writer.ended) == ("error", True)


def test_two_messages_are_two():
    """Each message has its own id."""
    one, other = empty_message("asked", USAGE), empty_message("asked", USAGE)
    assert one["id"] != other["id"]
    assert one | {"id": ""} == other | {"id": ""}
