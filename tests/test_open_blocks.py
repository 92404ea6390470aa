"""openai/open_blocks.py: which block is open, and whether a call's arguments are complete."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_growth import assert_linear

from claude_proxy.openai.open_blocks import BEGIN, END, MORE, Arguments, Blocks
from claude_proxy.openai.parts import CALL, TEXT, Part

VALUES = st.recursive(
    st.none() | st.integers() | st.text('"\\{}[]é\n a', max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('"\\{}', max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=3), VALUES, max_size=3), st.integers(1, 9))
def test_arguments_are_whole_at_their_end(value, size):
    """Arguments are complete at their end and not before, whatever their strings contain and however they are cut."""
    text, arguments = json.dumps(value), Arguments()
    for start in range(0, len(text), size):
        assert not arguments.is_whole
        arguments.feed(text[start : start + size])
    assert arguments.is_whole
    arguments.feed("\n")
    assert arguments.is_whole


@pytest.mark.parametrize("piece", ["{", "[", "a", '\\"', "\\", '"', '"\\\\"'])
@pytest.mark.parametrize("size", [1, 1000])
def test_long_arguments(piece, size):
    """The scan is linear in the length of the arguments, in few or many pieces."""

    def work(count):
        text = piece * count
        pieces = [text[start : start + size] for start in range(0, len(text), size)]

        def look():
            arguments = Arguments()
            for one in ('{"a": "', *pieces):
                arguments.feed(one)

        return look

    assert_linear(work, 10_000)


@pytest.mark.parametrize(
    "part", [Part(TEXT, "x"), Part(CALL, "{", 0), Part(CALL, "{}", 1, "c1", "Look")], ids=["text", "call", "calls"]
)
def test_what_waits_behind_an_open_call(part):
    """Waiting parts are joined once, so the time is linear."""

    def work(count):
        def tell():
            blocks = Blocks()
            for one in (Part(CALL, "{", 0, "c0", "Read"), *[part] * count):
                list(blocks.add(one))
            list(blocks.finish())

        return tell

    assert_linear(work, 2500)


def test_the_steps_of_blocks():
    """One block is open; parts of a later block are written in one piece when it may start."""
    blocks = Blocks()
    parts = [
        Part(TEXT, "a"), Part(TEXT, "b"), Part(CALL, "{", 0, "c0", "Read"), Part(CALL, "{", 1, "c1", "Look"), Part(TEXT, "c"),
        Part(CALL, "}", 1), Part(CALL, "}", 0),
    ]  # fmt: skip
    steps = [[(step.what, step.block.kind, step.text) for step in blocks.add(part)] for part in parts]
    assert steps == [
        [(BEGIN, TEXT, ""), (MORE, TEXT, "a")],
        [(MORE, TEXT, "b")],
        [(END, TEXT, ""), (BEGIN, CALL, ""), (MORE, CALL, "{")],
        [],
        [],
        [],
        [
            (MORE, CALL, "}"),
            (END, CALL, ""),
            (BEGIN, CALL, ""),
            (MORE, CALL, "{}"),
            (END, CALL, ""),
            (BEGIN, TEXT, ""),
            (MORE, TEXT, "c"),
        ],
    ]
    assert [step.what for step in blocks.finish()] == [END]
    assert blocks.has_calls is True


def test_a_call_without_a_name():
    """A call without a name never starts."""
    blocks = Blocks()
    assert [*blocks.add(Part(CALL, "{}", 0, "c0")), *blocks.finish()] == []
    assert blocks.has_calls is False
