"""openai/sources.py: a provider's sources as a list at the end of its response."""

import pytest
from chat_streams import CALLED, STOP, call, calls, chunk, sse
from hypothesis import given
from hypothesis import strategies as st
from stream_validator import read_message
from test_chat_stream import told, translated

from claude_proxy.openai.chat_response import message_of
from claude_proxy.openai.chat_stream import RequestContext
from claude_proxy.openai.sources import HEADING, MAX_SOURCES, Sources
from claude_proxy.providers.compatibility import STRICT

A, B = "https://one.example/a", "http://two.example/b?x=1"


def cited(address, title=None):
    return {"type": "url_citation", "url_citation": {"url": address, "title": title, "start_index": 0, "end_index": 1}}


def listed(said, answer=None):
    sources = Sources()
    sources.take(said, answer)
    return sources.text


@pytest.mark.parametrize(
    ("said", "answer", "lines"),
    [
        ({}, {"annotations": [cited(A, "One"), cited(B)]}, [f"1. One: {A}", f"2. {B}"]),
        ({}, {"annotations": [{"type": "url_citation", "url": A, "title": "One"}]}, [f"1. One: {A}"]),
        ({"citations": [A, B, A]}, {}, [f"1. {A}", f"2. {B}"]),
        ({"citations": [A, B], "search_results": [{"title": "One", "url": A}]}, {}, [f"1. One: {A}", f"2. {B}"]),
        ({"citations": [A]}, {"annotations": [cited(A, "One")]}, [f"1. One: {A}"]),
        ({"search_results": [{"url": A, "title": "One\n2. Two\x1b[0m"}]}, {}, [f"1. One\\n2. Two\\x1b[0m: {A}"]),
        ({"citations": [f"{A}\n3. x", "file:///etc", "javascript:x", 7, None, {"url": 7}, {}, ["x"]]}, {}, [f"1. {A}3.x"]),
        ({"citations": None, "search_results": "x"}, {"annotations": {}}, []),
        ({"citations": []}, None, []),
        ({}, {"annotations": [{"type": "file_citation", "file_citation": {"file_id": "x"}}, {"url_citation": 7}]}, []),
    ],
)
def test_the_list(said, answer, lines):
    """Each address is listed once with its title, in the provider's order, on one line."""
    assert listed(said, answer) == ("\n".join(["", "", HEADING, *lines]) if lines else "")


def test_the_list_is_bounded():
    """The list has a limited length."""
    text = listed({"citations": [f"https://one.example/{number}" for number in range(1000)] + ["https://x/" + "x" * 5000]})
    assert len(text.splitlines()) == MAX_SOURCES + 3


ANSWER = chunk({"content": "one [1]"})
NAMED = chunk({"annotations": [cited(A, "One")]})
LIST = f"\n\n{HEADING}\n1. One: {A}"


@pytest.mark.parametrize(
    ("chunks", "content"),
    [
        ([ANSWER, NAMED, STOP], "one [1]" + LIST),
        ([NAMED, ANSWER, STOP], "one [1]" + LIST),
        ([ANSWER, chunk({}, "stop", search_results=[{"url": A, "title": "One"}])], "one [1]" + LIST),
        ([ANSWER, STOP, chunk(choices=[], citations=[A])], f"one [1]\n\n{HEADING}\n1. {A}"),
        ([ANSWER, NAMED, chunk(finish="length")], "one [1]"),
        ([ANSWER, NAMED, chunk(finish="content_filter")], "one [1]"),
    ],
)
def test_they_follow_the_text(chunks, content):
    """The list is in the response's last text block; an incomplete response has none."""
    assert read_message(translated(sse(*chunks)))["content"] == [{"type": "text", "text": content}]


def test_no_text_and_no_end():
    """Without text, or with a later call, there is no list."""
    assert read_message(translated(sse(NAMED, STOP)))["content"] == []
    called = read_message(translated(sse(ANSWER, NAMED, calls(call(0, "{}", given="c", name="Read")), CALLED)))
    assert [block.get("text") for block in called["content"]] == ["one [1]", None]
    assert read_message(translated(sse(ANSWER, NAMED, done=False)))["type"] == "error"


def test_a_form_that_the_client_prescribes():
    """A response in a format that the client requested gets no list, which would break the format."""
    known = RequestContext("glm", STRICT, lambda: 1, lists_sources=False)
    assert read_message(translated(sse(ANSWER, NAMED, STOP), known))["content"] == [{"type": "text", "text": "one [1]"}]


@pytest.mark.parametrize(("finish", "has"), [("stop", True), ("length", False), ("tool_calls", False)])
@pytest.mark.parametrize("asked", [True, False])
def test_a_whole_answer(finish, has, asked):
    """A whole response follows the same rules."""
    answer = {"content": "one [1]", "annotations": [cited(A, "One")]}
    answer |= {"tool_calls": [call(given="c", name="Read", arguments="{}")]} if finish == "tool_calls" else {}
    said = {"choices": [{"message": answer, "finish_reason": finish}]}
    made, _ = message_of(said, RequestContext("glm", STRICT, lambda: 1, lists_sources=asked))
    assert made["content"][0]["text"] == "one [1]" + (LIST if has and asked else "")


ODD = st.recursive(
    st.none() | st.integers() | st.text(max_size=5) | st.sampled_from([A, B, "https://\n", "http://\ud83d"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["url", "title", "url_citation", "type"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(ODD, ODD, ODD, st.sets(st.integers(0, 600), max_size=4))
def test_whatever_stands_there(annotations, citations, results, cuts):
    """The stream is valid, its text comes first, and the list has one line for each source."""
    named = chunk({"annotations": annotations}, citations=citations, search_results=results)
    raw = sse(ANSWER, named, STOP)
    whole = read_message(translated(raw, told()))
    cut = read_message(translated(raw, told(), cuts=[place for place in cuts if place < len(raw)]))
    assert whole["content"] == cut["content"]
    (block,) = whole["content"]
    lines = block["text"].split("\n")
    assert lines[:3] in (["one [1]"], ["one [1]", "", HEADING])
    assert all(line.startswith(f"{number}. ") for number, line in enumerate(lines[3:], start=1))
