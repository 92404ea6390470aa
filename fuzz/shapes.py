"""Request bodies that are large in one respect each: one function per shape, which makes a body of a given size.

``tests/test_growth.py`` and the end-to-end tests check that work grows at most linearly with a shape's size. A shape has the
fields of a Messages request without ``model`` and ``max_tokens``; its size is the number of repeated elements.
"""

from collections.abc import Callable
from typing import Any

Fields = dict[str, Any]

USER = {"role": "user", "content": "x"}
SCHEMA = {"type": "object", "properties": {"path": {"type": "string"}}}


def _turns_of_one_role(size: int) -> Fields:
    return {"messages": [USER] * size}


def _turns_of_one_assistant(size: int) -> Fields:
    return {"messages": [USER, *[{"role": "assistant", "content": [_text("x")]}] * size, USER]}


def _alternating_turns(size: int) -> Fields:
    return {"messages": [*[USER, {"role": "assistant", "content": "y"}] * (size // 2), USER]}


def _system_turns(size: int) -> Fields:
    return {"messages": [USER, *[{"role": "system", "content": "x"}] * size]}


def _blocks_in_one_turn(size: int) -> Fields:
    return {"messages": [{"role": "user", "content": [_text("x") for _ in range(size)]}]}


def _marked_blocks(size: int) -> Fields:
    marked = _text("x") | {"cache_control": {"type": "ephemeral"}}
    return {"messages": [{"role": "user", "content": [marked for _ in range(size)]}]}


def _images(size: int) -> Fields:
    source = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
    return {"messages": [{"role": "user", "content": [{"type": "image", "source": source} for _ in range(size)]}]}


def _calls_in_one_turn(size: int) -> Fields:
    return {"messages": [USER, *_called(range(size))], "tools": [_tool(0)]}


def _calls_without_results(size: int) -> Fields:
    return {"messages": [USER, _called(range(size))[0]], "tools": [_tool(0)]}


def _results_without_calls(size: int) -> Fields:
    return {"messages": [USER, {"role": "assistant", "content": "y"}, _called(range(size))[1]], "tools": [_tool(0)]}


def _turns_with_calls(size: int) -> Fields:
    return {"messages": [USER, *[turn for place in range(size) for turn in _called([place])]], "tools": [_tool(0)]}


def _parts_of_a_result(size: int) -> Fields:
    call, results = _called([0])
    results["content"][0]["content"] = [_text("x") for _ in range(size)]
    return {"messages": [USER, call, results], "tools": [_tool(0)]}


def _thinking_blocks(size: int) -> Fields:
    thought = {"type": "thinking", "thinking": "x", "signature": "c2ln"}
    return {"messages": [USER, {"role": "assistant", "content": [thought] * size + [_text("y")]}, USER]}


def _server_tool_pairs(size: int) -> Fields:
    pairs = [
        block
        for place in range(size)
        for block in (
            {"type": "server_tool_use", "id": f"srvtoolu_{place}", "name": "web_search", "input": {"query": "x"}},
            {"type": "web_search_tool_result", "tool_use_id": f"srvtoolu_{place}", "content": [{"title": "t", "url": "u"}]},
        )
    ]
    return {"messages": [USER, {"role": "assistant", "content": pairs}, USER]}


def _tools(size: int) -> Fields:
    return {"messages": [USER], "tools": [_tool(place) for place in range(size)]}


def _tools_with_long_names(size: int) -> Fields:
    return {"messages": [USER], "tools": [_tool(place) | {"name": f"{'n' * 100}{place}"} for place in range(size)]}


def _properties_of_a_tool(size: int) -> Fields:
    properties = {f"p{place}": {"anyOf": [{"type": "string"}, {"type": "null"}]} for place in range(size)}
    return {"messages": [USER], "tools": [_tool(0) | {"input_schema": {"type": "object", "properties": properties}}]}


def _changes_of_tools(size: int) -> Fields:
    changes = [
        {"role": "system", "content": [{"type": kind, "tool": {"type": "tool_definition", "definition": _tool(place % 1000)}}]}
        for place in range(size)
        for kind in ("tool_addition", "tool_removal")
    ]
    return {"messages": [USER, *changes], "tools": [_tool(0) | {"defer_loading": True}]}


def _system_blocks(size: int) -> Fields:
    return {"messages": [USER], "system": [_text("x") for _ in range(size)]}


def _stop_sequences(size: int) -> Fields:
    return {"messages": [USER], "stop_sequences": [f"stop {place}" for place in range(size)]}


def _metadata(size: int) -> Fields:
    return {"messages": [USER], "metadata": {"user_id": "u"} | {f"key{place}": "v" for place in range(size)}}


def _nested_lists(size: int) -> Fields:
    value: list[Any] = []
    for _ in range(60):
        value = [value]
    call, results = _called([0])
    call["content"][0]["input"] = {"x": [value] * (size // 60)}
    return {"messages": [USER, call, results], "tools": [_tool(0)]}


def _wide_input(size: int) -> Fields:
    call, results = _called([0])
    call["content"][0]["input"] = {"edits": [{"line": place, "new": "x"} for place in range(size)]}
    return {"messages": [USER, call, results], "tools": [_tool(0)]}


def _references(size: int) -> Fields:
    properties = {f"p{place}": {"$ref": "#/$defs/path"} for place in range(size)}
    schema = {"type": "object", "properties": properties, "$defs": {"path": {"type": "string", "description": "where"}}}
    return {"messages": [USER], "tools": [_tool(0) | {"input_schema": schema}]}


def _a_long_text(size: int) -> Fields:
    return {"messages": [{"role": "user", "content": "word " * size}]}


def _a_long_line(size: int) -> Fields:
    return {"messages": [{"role": "user", "content": "x" * size}]}


def _a_long_input(size: int) -> Fields:
    call, results = _called([0])
    call["content"][0]["input"] = {"content": 'a "line"\n' * size}
    return {"messages": [USER, call, results], "tools": [_tool(0)]}


def _text(words: str) -> Fields:
    return {"type": "text", "text": words}


def _tool(place: int) -> Fields:
    return {"name": f"tool_{place}", "description": "does", "input_schema": SCHEMA}


def _called(places: Any) -> tuple[Fields, Fields]:
    """Return a turn with a call for each of the places, and the turn with their results."""
    calls = [{"type": "tool_use", "id": f"toolu_{place}", "name": "tool_0", "input": {"path": "x"}} for place in places]
    results = [{"type": "tool_result", "tool_use_id": call["id"], "content": "x"} for call in calls]
    return {"role": "assistant", "content": calls}, {"role": "user", "content": results}


# The functions by the names of their shapes.
SHAPES: dict[str, Callable[[int], Fields]] = {
    made.__name__.removeprefix("_"): made
    for made in (
        _turns_of_one_role, _turns_of_one_assistant, _alternating_turns, _system_turns, _blocks_in_one_turn, _marked_blocks,
        _images, _calls_in_one_turn, _calls_without_results, _results_without_calls, _turns_with_calls, _parts_of_a_result,
        _thinking_blocks, _server_tool_pairs, _tools, _tools_with_long_names, _properties_of_a_tool, _changes_of_tools,
        _system_blocks,
        _stop_sequences, _metadata, _nested_lists, _wide_input, _references, _a_long_text, _a_long_line, _a_long_input,
    )
}  # fmt: skip
