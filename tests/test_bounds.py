"""providers/bounds.py: how much of each thing a request to a provider other than Claude may hold."""

import pytest

from claude_proxy.providers import bounds
from claude_proxy.providers.bounds import TooLarge, check
from fuzz.shapes import SHAPES


@pytest.mark.parametrize(
    ("shape", "most", "where"),
    [
        ("turns_of_one_role", bounds.TURNS, "messages"),
        ("blocks_in_one_turn", bounds.BLOCKS, "messages"),
        ("parts_of_a_result", bounds.BLOCKS - 2, "messages"),
        ("calls_in_one_turn", bounds.CALLS_IN_A_TURN, "messages.1"),
        ("turns_with_calls", bounds.CALLS, "messages"),
        ("a_long_line", bounds.TEXT, "messages"),
        ("tools", bounds.TOOLS, "tools"),
        ("system_blocks", bounds.SYSTEM_BLOCKS, "system"),
        ("stop_sequences", bounds.STOP_SEQUENCES, "stop_sequences"),
    ],
)
def test_a_bound_holds_for_what_is_one_over_it(shape, most, where):
    """What is at its bound passes; one more is refused in words that name the field, the count and the bound."""
    check(SHAPES[shape](most))
    with pytest.raises(TooLarge, match=rf"^{where}: \d+ .*at most \d+"):
        check(SHAPES[shape](most + 1))


def test_calls_of_all_turns_are_counted():
    """A conversation may hold so many calls in all, however they are spread over its turns."""
    (_, calling, results), more = (
        SHAPES["calls_in_one_turn"](bounds.CALLS_IN_A_TURN)["messages"],
        SHAPES["calls_in_one_turn"](1),
    )
    turns = bounds.CALLS // bounds.CALLS_IN_A_TURN
    check({"messages": [calling, results] * turns})
    with pytest.raises(TooLarge, match=r"tool calls"):
        check({"messages": [calling, results] * turns + more["messages"]})


def test_a_name_of_a_tool_has_a_length():
    """The name of a tool may have so many characters, and the refusal says which tool it is."""
    check({"tools": [{"name": "n" * bounds.TOOL_NAME_LENGTH}]})
    with pytest.raises(TooLarge, match=r"^tools.1.name: 257 characters"):
        check({"tools": [{"name": "n"}, {"name": "n" * (bounds.TOOL_NAME_LENGTH + 1)}]})


@pytest.mark.parametrize(
    "odd", [{}, {"messages": "x"}, {"messages": [1, {"content": 1}, {"content": [1, {}]}], "tools": [1, {}]}]
)
def test_odd_shapes_are_not_counted(odd):
    """What has another shape than the field should have is for others to find."""
    check(odd)
