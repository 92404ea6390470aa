"""openai/chat_round.py: one chat completion as a part of a message; tests/test_search_stream.py has more."""

import pytest
from chat_streams import CALLED, STOP, USAGE, call, calls, chunk, sse

from claude_proxy.anthropic.stream_writer import StreamWriter
from claude_proxy.anthropic.usage import Usage
from claude_proxy.openai.chat_round import ChatRound
from claude_proxy.openai.chat_stream import RequestContext
from claude_proxy.providers.compatibility import STRICT
from claude_proxy.providers.search_stream import Call, End

SEARCH = call(0, '{"query": "a"}', given="c1", name="web_search")


def told(*chunks):
    """Return a round that was fed a stream, and its output."""
    one = ChatRound(RequestContext("asked", STRICT, lambda: 50), StreamWriter("asked"))
    return one, one.feed(sse(*chunks)) + one.finish()


def test_a_call_of_the_search():
    """The call is not sent to the client; the turn contains it with its id and input."""
    one, out = told(chunk({"content": "look"}), calls(SEARCH), CALLED, USAGE)
    assert (b"web_search" in out, b"message_stop" in out) == (False, False)
    assert (one.searches, one.has_client_calls, one.end) == ([Call("c1", {"query": "a"})], False, End("tool_use"))
    assert one.turn() == [
        {"type": "text", "text": "look"}, {"type": "tool_use", "id": "c1", "name": "web_search", "input": {"query": "a"}},
    ]  # fmt: skip
    assert (one.ended, one.usage, one.feed(sse(chunk({"content": "more"}))), one.finish()) == (True, Usage(100, 7), b"", b"")


def test_a_round_without_words():
    """The message starts with the first output, or when it is started explicitly."""
    one, out = told(calls(SEARCH), CALLED)
    assert out == b""
    assert b"message_start" in one.start_message()
    assert one.start_message() == b""


@pytest.mark.parametrize("arguments", ["{", "[1]"])
def test_broken_arguments(arguments):
    """A search call with invalid arguments has no input; a client's call makes the response invalid."""
    one, _ = told(calls(call(0, arguments, given="c1", name="web_search")), CALLED)
    assert one.searches == [Call("c1", None)]
    one, out = told(calls(call(0, arguments, given="c1", name="Read")), CALLED)
    assert (one.end, b"not a JSON object" in out) == (None, True)


def test_other_calls():
    """A call of a client's tool is written as usual."""
    one, out = told(calls(call(0, "{}", given="c1", name="Read")), CALLED)
    assert (one.has_client_calls, b'"tool_use"' in out) == (True, True)
    assert not told(chunk({"content": "x"}), STOP)[0].has_client_calls
