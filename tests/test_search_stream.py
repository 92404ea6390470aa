"""providers/search_stream.py: one message of several responses, here chat completions, with searches between them."""

import json
import random

import pytest
from chat_streams import CALLED, STOP, USAGE, call, calls, chunk, sse
from stream_validator import read_message

from claude_proxy.anthropic.search_blocks import Page, excerpt_of
from claude_proxy.anthropic.stream_writer import StreamWriter
from claude_proxy.openai.chat_round import ChatRound
from claude_proxy.openai.chat_stream import RequestContext
from claude_proxy.providers.compatibility import ROWS, STRICT
from claude_proxy.providers.search_stream import ERRORS, FOUND, NOTHING, SearchStream, State
from claude_proxy.providers.search_tool import SearchTool

KEEPS = next(row for row in ROWS if row.name == "deepseek-chat")
PAGES = [Page("Pears", "https://pears.invalid/", "ripe"), Page("More", "https://more.invalid/")]
ANSWER = sse(chunk({"content": "pears"}), STOP, USAGE)


def told(row=STRICT, ids=frozenset(), tokens=50):
    return RequestContext("asked", row, lambda: tokens, ids)


def searching(*queries, index=0, words=""):
    """Return a round that calls the search."""
    made = [
        call(place, json.dumps({"query": query}), given=f"c{place}", name="web_search")
        for place, query in enumerate(queries, start=index)
    ]
    return sse(*([chunk({"content": words})] if words else []), calls(*made), CALLED, USAGE)


def stream_of(row=STRICT, tool=None):
    writer = StreamWriter("asked")
    return SearchStream(writer, tool or SearchTool(3), ChatRound(told(row), writer))


class Run:
    """The output of rounds that are given as streams or whole completions."""

    def __init__(self, *rounds, tool=None, row=STRICT, find=lambda _: PAGES, size=None):
        self.rounds, self.find, self.size, self.row = [*rounds], find, size, row
        self.stream = stream_of(row, tool)
        self.queries, self.out, self.left = [], b"", []

    def message(self):
        while self.stream.state is not State.ENDED:
            match self.stream.state:
                case State.RESPONDING:
                    self.tell(self.rounds.pop(0))
                case State.SEARCHING:
                    self.search()
                case State.REQUESTING:
                    ids = frozenset(block["id"] for turn in self.stream.turns for block in turn["content"] if "id" in block)
                    self.stream.begin_round(ChatRound(told(self.row, ids, tokens=60), self.stream.writer))
        return read_message(self.out)

    def tell(self, one):
        if isinstance(one, dict):
            self.out += self.stream.feed_whole(one)
            return
        size = self.size or len(one) or 1
        for start in range(0, len(one), size):
            self.out += self.stream.feed(one[start : start + size])
        self.out += self.stream.finish()

    def search(self):
        self.out += self.stream.begin_search()
        query = self.stream.query
        if query is not None:
            self.queries.append(query)
        self.out += self.stream.found(self.stream.problem if query is None else self.find(query))


def kinds(message):
    return [block["type"] for block in message["content"]]


SEARCHED = ["server_tool_use", "web_search_tool_result"]


def test_a_search_and_its_answer():
    """The client gets one message: the text before, the search, its results, the text after, and the sum of all counts."""
    run = Run(searching("ripe pears", words="let me look"), ANSWER)
    message = run.message()
    assert kinds(message) == ["text", *SEARCHED, "text"]
    search, result = message["content"][1:3]
    assert (search["input"], run.queries) == ({"query": "ripe pears"}, ["ripe pears"])
    assert [page["url"] for page in result["content"]] == [page.url for page in PAGES]
    assert excerpt_of(result["content"][0]) == "ripe"
    assert (message["stop_reason"], message["content"][3]["text"]) == ("end_turn", "pears")
    assert (message["usage"]["input_tokens"], message["usage"]["output_tokens"]) == (200, 14)
    assert message["usage"]["server_tool_use"] == {"web_search_requests": 1}
    assert run.stream.counted.input == 100


def test_what_the_model_gets():
    """The model gets its own turn and the results as text, with an error for a failed search."""
    run = Run(searching("a", "b", words="both"), ANSWER, find=lambda query: PAGES if query == "a" else "unavailable")
    run.message()
    asked, answered = run.stream.turns
    assert [block["type"] for block in asked["content"]] == ["text", "tool_use", "tool_use"]
    assert [block.get("input") for block in asked["content"]] == [None, {"query": "a"}, {"query": "b"}]
    first, second = answered["content"]
    assert [first["tool_use_id"], second["tool_use_id"]] == [block["id"] for block in asked["content"][1:]]
    assert first["content"].startswith(FOUND)
    assert "- Pears: https://pears.invalid/\n  ripe" in first["content"]
    assert (second["content"], second["is_error"]) == (ERRORS["unavailable"], True)


def test_nothing_was_found():
    """A search without results is no error, and the model is told."""
    run = Run(searching("a"), ANSWER, find=lambda _: [])
    message = run.message()
    assert (message["content"][1]["content"], run.stream.turns[1]["content"][0]["content"]) == ([], NOTHING)
    assert message["usage"]["server_tool_use"] == {"web_search_requests": 1}


def test_several_rounds():
    """Each round may search; repeated ids of the provider stay separate."""
    run = Run(searching("a"), searching("b", "c"), ANSWER)
    message = run.message()
    assert kinds(message) == [*SEARCHED * 3, "text"]
    assert run.queries == ["a", "b", "c"]
    ids = [block["id"] for turn in run.stream.turns for block in turn["content"] if block["type"] == "tool_use"]
    assert len(ids) == len({*ids}) == 3


def test_no_search_is_called():
    """The message is the same as without the tool, with a count of 0 searches."""
    message = Run(ANSWER).message()
    assert (kinds(message), message["stop_reason"]) == (["text"], "end_turn")
    assert message["usage"]["server_tool_use"] == {"web_search_requests": 0}


@pytest.mark.parametrize("first", [0, 1])
def test_a_tool_of_the_clients_ends_the_response(first):
    """Searches beside a client's tool call are in the message, and the client continues it."""
    read = call(first, "{}", given="c9", name="Read")
    search = call(1 - first, '{"query": "a"}', given="c1", name="web_search")
    run = Run(sse(calls(*sorted((read, search), key=lambda one: one["index"])), CALLED, USAGE))
    message = run.message()
    assert sorted(kinds(message)) == sorted(["tool_use", *SEARCHED])
    assert (message["stop_reason"], run.queries, run.rounds) == ("tool_use", ["a"], [])


@pytest.mark.parametrize("bad", ["{", "[]", "{}", '{"query": 7}', '{"query": " "}', '{"other": "x"}', ""])
def test_a_call_that_is_none(bad):
    """An invalid input gives an error result without a search, and the model continues."""
    run = Run(sse(calls(call(0, bad, given="c1", name="web_search")), CALLED, USAGE), ANSWER)
    message = run.message()
    assert kinds(message) == [*SEARCHED, "text"]
    assert message["content"][1]["content"]["error_code"] == "invalid_tool_input"
    assert (run.queries, message["usage"]["server_tool_use"]) == ([], {"web_search_requests": 0})
    assert isinstance(run.stream.turns[0]["content"][0]["input"], dict)


def test_more_searches_than_there_may_be():
    """Each call beyond the limit gets an error; a model that continues to call gets no further round."""
    run = Run(*[searching("a", "b")] * 9, tool=SearchTool(3))
    message = run.message()
    codes = [
        block["content"]["error_code"] if isinstance(block["content"], dict) else len(block["content"])
        for block in message["content"]
        if block["type"] == "web_search_tool_result"
    ]
    assert codes == [2, 2, 2, "max_uses_exceeded", *["max_uses_exceeded"] * 4]
    assert (len(run.queries), len(run.rounds), message["stop_reason"]) == (3, 5, "end_turn")
    run = Run(searching("a"), searching("b"), ANSWER, tool=SearchTool(1))
    assert kinds(run.message()) == [*SEARCHED * 2, "text"]


@pytest.mark.parametrize(
    ("finish", "reason"),
    [("length", "max_tokens"), ("content_filter", "refusal"), ("model_length", "model_context_window_exceeded")],
)
def test_a_round_that_was_cut(finish, reason):
    """An incomplete round is the last, and its call makes no search."""
    run = Run(
        sse(chunk({"content": "so"}), calls(call(0, '{"que', given="c1", name="web_search")), chunk(finish=finish), USAGE)
    )
    message = run.message()
    assert (kinds(message), message["stop_reason"], run.queries) == (["text"], reason, [])
    message = Run(sse(calls(call(0, '{"que', given="c1", name="web_search")), chunk(finish=finish), USAGE)).message()
    assert (message["content"], message["stop_reason"]) == ([], reason)


def test_thinking_of_each_round():
    """Thinking is sent to the client, and back to a provider that needs its own, together with the calls."""
    thought = chunk({"reasoning_content": "hm"})
    search = calls(call(0, '{"query": "a"}', given="c1", name="web_search"))
    run = Run(sse(thought, search, CALLED), sse(thought, chunk({"content": "x"}), STOP), row=KEEPS)
    message = run.message()
    assert kinds(message) == ["thinking", *SEARCHED, "thinking", "text"]
    assert [block["type"] for block in run.stream.turns[0]["content"]] == ["thinking", "tool_use"]
    assert run.stream.turns[0]["content"][0]["signature"] == message["content"][0]["signature"] != ""


def test_counts_that_nobody_gave():
    """Missing counts are estimated from each round's request and response."""
    search = sse(calls(call(0, '{"query": "a"}', given="c1", name="web_search")), CALLED)
    message = Run(search, sse(chunk({"content": "x" * 40}), STOP)).message()
    assert (message["usage"]["input_tokens"], message["usage"]["output_tokens"]) == (50 + 60, 3 + 10)


def completion(finish="tool_calls", **answer):
    counts = {"prompt_tokens": 100, "completion_tokens": 7}
    return {"choices": [{"message": {"role": "assistant", **answer}, "finish_reason": finish}], "usage": counts}


def test_whole_completions():
    """Whole completions give the same message as streams."""
    search = {"id": "c1", "type": "function", "function": {"name": "web_search", "arguments": '{"query": "a"}'}}
    run = Run(completion(content="look", tool_calls=[search]), completion(None, content="pears"))
    message = run.message()
    assert kinds(message) == ["text", *SEARCHED, "text"]
    assert (message["stop_reason"], message["usage"]["input_tokens"]) == ("end_turn", 200)


@pytest.mark.parametrize(
    "bad", [{}, {"choices": []}, {"choices": [{"message": "x"}]}, {"error": {"message": "m", "code": 429}}]
)
@pytest.mark.parametrize("before", [[], [searching("a")]])
def test_what_is_no_completion(bad, before):
    """An invalid completion ends the message with an error, in any round."""
    assert Run(*before, bad).message()["error"]["type"] in ("api_error", "rate_limit_error")


@pytest.mark.parametrize(
    "bad", [b"", sse(chunk({"content": "half"}), done=False), sse({"error": {"message": "m", "code": 503}})]
)
def test_a_round_that_breaks_off(bad):
    """A round that breaks off is an error, after a search as before one."""
    assert Run(searching("a"), bad).message()["type"] == "error"


def test_an_error_from_outside():
    """An error from outside ends the message once, at any point."""
    body = b'{"type":"error","error":{"type":"overloaded_error","message":"busy"}}'
    for end, kind in ((lambda one: one.refuse(body), "overloaded_error"), (lambda one: one.fail("gone"), "api_error")):
        stream = stream_of()
        out = stream.feed(searching("a")) + stream.begin_search() + stream.found(PAGES) + end(stream)
        assert read_message(out)["error"]["type"] == kind
        assert (stream.state, end(stream), stream.feed(ANSWER), stream.finish()) == (State.ENDED, b"", b"", b"")


def test_any_cut_gives_the_same():
    """The output depends on the bytes, not on the chunks, except for the ids of the searches."""
    rounds = (searching("a", "b", words="so"), searching("c"), ANSWER)

    def said(size):
        message = Run(*rounds, size=size).message()
        return [block | {"id": "", "tool_use_id": ""} for block in message["content"]], message["usage"]

    whole = said(None)
    assert all(said(size) == whole for size in (1, 2, 7, random.Random(1).randrange(8, 200)))
