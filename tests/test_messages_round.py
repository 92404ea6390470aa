"""providers/messages_round.py: one response in Anthropic's format as a part of a message."""

import pytest
from conversations import ROW, call, text
from messages_streams import event, stream, whole
from stream_validator import read_message

from claude_proxy.anthropic.messages import mark
from claude_proxy.anthropic.stream_writer import StreamWriter
from claude_proxy.anthropic.usage import Usage
from claude_proxy.providers.compatibility import STRICT
from claude_proxy.providers.messages_round import MessagesRound
from claude_proxy.providers.search_stream import Call, End

SEARCH = {"type": "tool_use", "id": "toolu_s", "name": "web_search", "input": {"query": "é"}}
THOUGHT = {"type": "thinking", "thinking": "hm", "signature": "own"}
REDACTED = {"type": "redacted_thinking", "data": "own"}
KIMI = ROW["kimi"]


def round_of(row=STRICT, ids=()):
    writer = StreamWriter("glm")
    return MessagesRound(writer, row, ids, lambda: 50), writer


def told(said, row=STRICT, size=None, ids=()):
    """Return a round that was fed a stream or a message, and the message that its output is."""
    one, writer = round_of(row, ids)
    if isinstance(said, dict):
        out = one.feed_whole(said)
    else:
        size = size or len(said) or 1
        out = b"".join([one.feed(said[start : start + size]) for start in range(0, len(said), size)]) + one.finish()
    if one.end is not None:
        out += one.start_message() + writer.end(*one.end, one.usage)
    return one, read_message(out)


FORMS = pytest.mark.parametrize("form", [stream, whole])


@FORMS
def test_a_response(form):
    """Everything except search calls is written, with the client's model name and ids."""
    one, message = told(form(text("one two"), call("functions.Read:0")))
    assert [block["type"] for block in message["content"]] == ["text", "tool_use"]
    assert (message["content"][0]["text"], message["content"][1]["input"]) == ("one two", {"a": 1})
    assert message["content"][1]["id"].startswith("cpx_")
    assert (message["model"], one.end, one.usage, one.searches, one.has_client_calls) == (
        "glm", End("tool_use"), Usage(100, 7), [], True,
    )  # fmt: skip


@FORMS
def test_a_call_of_the_search(form):
    """The search call is not written; the turn contains it with its input."""
    one, writer = round_of(ids=("toolu_x",))
    said = form(text("look"), SEARCH)
    out = one.feed_whole(said) if isinstance(said, dict) else one.feed(said) + one.finish()
    (call_,) = one.searches
    assert (call_, one.has_client_calls, one.end.stop_reason) == (Call("toolu_s", {"query": "é"}), False, "tool_use")
    assert (b"web_search" in out, writer.ended) == (False, False)
    assert one.turn() == [text("look"), SEARCH]


@FORMS
@pytest.mark.parametrize(("row", "kept"), [(STRICT, False), (KIMI, True)])
def test_thinking(form, row, kept):
    """Thinking is removed, or is the provider's own with the proxy's mark, in message and turn."""
    one, message = told(form(THOUGHT, REDACTED, text("x y")), row)
    blocks = [
        THOUGHT | {"signature": mark("kimi", "own")}, REDACTED | {"data": mark("kimi", "own")}, text("x y"),
    ][0 if kept else 2 :]  # fmt: skip
    assert one.turn() == blocks
    assert [block["type"] for block in message["content"]] == [block["type"] for block in blocks]
    if kept:
        assert message["content"][0] == blocks[0]


def test_any_cut_gives_the_same():
    """The message depends on the bytes, not on the chunks."""
    said = stream(THOUGHT, text("one two"), call(), SEARCH | {"name": "web_searches"})
    messages = [told(said, KIMI, size)[1] | {"id": ""} for size in (1, 3, 50, None)]
    assert all(message == messages[-1] for message in messages)


@pytest.mark.parametrize(
    "broken",
    [
        b"", stream(text("half"), done=False), stream(text("x y"))[:-200], {}, {"content": "x"},
        event("error", error={"type": "overloaded_error", "message": "busy"}), stream(text("x y"), done=False) + event("error"),
        {"type": "error", "error": {"type": "rate_limit_error", "message": "slow"}},
    ],
)  # fmt: skip
def test_what_is_no_whole_response(broken):
    """An incomplete response ends the message with an error, and the round has no end."""
    one, message = told(broken)
    assert (message["type"], one.end, one.ended, one.feed(stream(text("more"))), one.finish()) == (
        "error",
        None,
        True,
        b"",
        b"",
    )


@pytest.mark.parametrize("reason", ["max_tokens", "refusal", "pause_turn", "stop_sequence"])
def test_the_end(reason):
    """The stop reason is the provider's; an unknown one becomes an ordinary end."""
    assert told(stream(text("x y"), reason=reason))[0].end == End(reason)
    assert told(whole(text("x y"), reason="odd"))[0].end == End("end_turn")
    assert told(whole(text("x y")) | {"stop_reason": "stop_sequence", "stop_sequence": "S"})[0].end == End("stop_sequence", "S")


def test_odd_events():
    """Unexpected events are ignored, an unfinished block ends with the next one, and nothing raises."""
    odd = [
        event("ping"), b": comment\n\n", b"data: [1]\n\n", event("content_block_stop", index=0),
        event("content_block_delta", index=0, delta={"type": "text_delta", "text": "x"}), event("content_block_start", index=0),
        event("content_block_start", index=0, content_block={"type": "text", "text": "at once"}),
        event("content_block_delta", index=0, delta={"type": "input_json_delta", "partial_json": "{"}),
        event("content_block_delta", index=0, delta={"type": "citations_delta"}), event("content_block_delta", index=0),
        event("content_block_start", index=1, content_block=call() | {"input": {"b": 2}}),
        event("message_delta", delta={"stop_reason": "tool_use"}), event("message_stop"), event("message_stop"),
    ]  # fmt: skip
    one, message = told(b"".join(odd))
    assert [block.get("text") or block.get("input") for block in message["content"]] == ["at once", {"b": 2}]
    assert (one.counted, one.usage) == (None, Usage(50, 3))
