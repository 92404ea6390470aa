"""openai/think_tags.py: thinking in a text between tags."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_growth import assert_linear

from claude_proxy.openai.think_tags import TEXT, THINKING, ThinkTags

PIECES = st.lists(st.sampled_from(["<think>", "</think>", "<th", "ink>", "</", "a", " ", "\n", "<", ""]), max_size=8)


def told_apart(pieces):
    tags = ThinkTags()
    found = [*(part for piece in pieces for part in tags.feed(piece)), *tags.finish()]
    assert all(text for _, text in found)
    return {kind: "".join(text for each, text in found if each == kind) for kind in (THINKING, TEXT)}


@pytest.mark.parametrize(
    ("text", "thought", "said"),
    [
        ("<think>a</think>b", "a", "b"),
        ("\n <think>a</think>\n\nb\n", "a", "b\n"),
        ("<think>a</think", "a</think", ""),
        ("<think></think>\n", "", ""),
        ("<think>a</think>b<think>c</think>", "a", "b<think>c</think>"),
        (" b", "", " b"),
        ("  <thi", "", "  <thi"),
        ("   ", "", "   "),
        ("", "", ""),
    ],
)
@pytest.mark.parametrize("size", [1, 3, 100])
def test_what_is_thinking(text, thought, said, size):
    """Thinking is between the tags at the start; whitespace around the tags is removed."""
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    assert told_apart(pieces) == {THINKING: thought, TEXT: said}


@given(PIECES)
def test_how_a_text_is_cut_does_not_show(pieces):
    """The result does not depend on the pieces."""
    assert told_apart(pieces) == told_apart(["".join(pieces)])


@pytest.mark.parametrize("first", ["", "<think>", "<think></think>", "x"])
@pytest.mark.parametrize("piece", ["\n", "</think", "a", "<"])
def test_a_long_text(first, piece):
    """The time is linear in the length."""
    assert_linear(lambda count: lambda: told_apart([first, *[piece] * count]), 5000)
