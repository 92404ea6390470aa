"""providers/bounds.py: the limits for a request to a provider other than Claude."""

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
    """A request at a limit is accepted; one more is rejected, with the field, the number and the limit."""
    check(SHAPES[shape](most))
    with pytest.raises(TooLarge, match=rf"^{where}: \d+ .*at most \d+"):
        check(SHAPES[shape](most + 1))


def test_calls_of_all_turns_are_counted():
    """The limit for calls applies to the conversation, however they are spread over its turns."""
    (_, calling, results), more = (
        SHAPES["calls_in_one_turn"](bounds.CALLS_IN_A_TURN)["messages"],
        SHAPES["calls_in_one_turn"](1),
    )
    turns = bounds.CALLS // bounds.CALLS_IN_A_TURN
    check({"messages": [calling, results] * turns})
    with pytest.raises(TooLarge, match=r"tool calls"):
        check({"messages": [calling, results] * turns + more["messages"]})


def test_a_name_of_a_tool_has_a_length():
    """A tool's name has a maximum length, and the error names the tool."""
    check({"tools": [{"name": "n" * bounds.TOOL_NAME_LENGTH}]})
    with pytest.raises(TooLarge, match=r"^tools.1.name: 257 characters"):
        check({"tools": [{"name": "n"}, {"name": "n" * (bounds.TOOL_NAME_LENGTH + 1)}]})


@pytest.mark.parametrize(
    "odd", [{}, {"messages": "x"}, {"messages": [1, {"content": 1}, {"content": [1, {}]}], "tools": [1, {}]}]
)
def test_odd_shapes_are_not_counted(odd):
    """Fields of another shape are not counted and raise nothing."""
    check(odd)
