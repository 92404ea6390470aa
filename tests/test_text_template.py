"""openai/text_template.py: events that differ from an earlier one only in their text."""

import json
from types import SimpleNamespace

import pytest
from provider_streams import SHAPES

from claude_proxy.anthropic.sse import whole_events
from claude_proxy.openai.chat_stream import ChatStream, RequestContext
from claude_proxy.openai.text_template import MAX_LESSONS, TextTemplate
from claude_proxy.providers.compatibility import STRICT


def event(text, **more):
    chunk = {"id": "c1", "model": "m", "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}], **more}
    return json.dumps(chunk, ensure_ascii=False).encode()


def learned(data, text):
    template = TextTemplate()
    template.learn(data, text)
    return template


@pytest.mark.parametrize("text", ["b", "two words", "größer", "日本", "x" * 10_000, "{}", "/"])
def test_another_text_is_read(text):
    """The text of a similar event is read without decoding the event."""
    assert learned(event("a text"), "a text").text_in(event(text)) == text


@pytest.mark.parametrize(
    "data",
    [
        event('quoted "x"'), event("a\\b"), event("a\nb"), event("\U0001f600\x7f"), event(""),
        event("b", id="c2"), event("b", usage=1),
        event("b")[:-1], event("b") + b" ", event("bar").replace(b"bar", b"b\tr"), event("bar").replace(b"bar", b"b\xffr"),
        event("bar").replace(b"bar", b'b","x":"r'), b"", b"[DONE]", b"{}",
    ],
)  # fmt: skip
def test_every_other_event_is_decoded(data):
    """An event that differs elsewhere, has escapes or is not JSON is not read here."""
    assert learned(event("a text"), "a text").text_in(data) == ""


def test_nothing_is_read_before_something_is_learned():
    """The first event is decoded."""
    assert TextTemplate().text_in(event("a")) == ""


@pytest.mark.parametrize(
    ("data", "text"),
    [
        # The same string twice.
        (event("m"), "m"),
        # A text in escapes, and the same string in another field.
        (event("A").replace(b'"A"', b'"\\u0041"').replace(b'"m"', b'"A"'), "A"),
        # A call beside the text.
        (event("a text").replace(b'"content"', b'"tool_calls":[{"index":0,"id":"x"}],"content"'), "a text"),
    ],
)  # fmt: skip
def test_what_is_not_certain_is_not_learned(data, text):
    """If the match may be another field, or there is more than a text, every event is decoded."""
    assert learned(data, text).text_in(data) == ""


def test_events_that_always_differ_are_not_learned_from_for_ever():
    """A provider that numbers its events is decoded, without further attempts to learn."""
    template = TextTemplate()
    for number in range(MAX_LESSONS + 1):
        template.learn(event("a text", number=number), "a text")
    assert template.text_in(event("b", number=MAX_LESSONS - 1)) == "b"
    assert template.text_in(event("b", number=MAX_LESSONS)) == ""


TEXTS = ("one ", "two", 'a "word"', "x\\n", "größer", " ", "日本", "last")


@pytest.mark.parametrize("size", [0, 7])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_stream_reads_the_same_with_every_event_decoded(monkeypatch, shape, size):
    """The output is the same as if every event were decoded."""
    monkeypatch.setattr("claude_proxy.anthropic.stream_writer.uuid", SimpleNamespace(uuid4=lambda: SimpleNamespace(hex="1")))
    texts = [shape.chunk(shape.text(text)) for text in TEXTS]
    stream = shape.stream(*shape.begun(), *texts, *shape.ended("stop", "".join(TEXTS)))
    # Each event by itself, or cut anywhere.
    pieces = [stream[at : at + size] for at in range(0, len(stream), size)] if size else [*whole_events(stream)]

    def translated():
        made = ChatStream(RequestContext("m", STRICT, lambda: 1))
        return b"".join(map(made.feed, pieces)) + made.finish()

    quick = translated()
    monkeypatch.setattr(TextTemplate, "text_in", lambda *_: "")
    assert quick == translated()
