"""providers/tool_changes.py: the tools and the effort at the end of a conversation."""

import copy

import pytest

from claude_proxy.providers.tool_changes import PLACEHOLDER, last_effort, offered_tools


def tool(name, **more):
    return {"name": name, "description": f"does {name}", "input_schema": {"type": "object"}} | more


def change(kind, name):
    return {"type": kind, "tool": {"type": "tool_reference", "name": name}}


def definition(made):
    return {"type": "tool_addition", "tool": {"type": "tool_definition", "definition": made}}


def system(*blocks, **more):
    return {"role": "system", "content": [*blocks]} | more


def found(*names):
    content = [{"type": "tool_reference", "tool_name": name} for name in names]
    return {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": content}]}


def calling(name):
    return {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1", "name": name, "input": {}}]}


USER, ANSWER = {"role": "user", "content": "hi"}, {"role": "assistant", "content": [{"type": "text", "text": "hello"}]}
RESULT = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "seen"}]}
READ, FETCH, SEARCH, LATE = tool("Read"), tool("WebFetch", defer_loading=True), tool("ToolSearch"), tool("Late")
HOLDER = tool(PLACEHOLDER, defer_loading=True)
DECLARED = [READ, FETCH, SEARCH, HOLDER]
REGEX = {"type": "tool_search_tool_regex_20251119", "name": "tool_search_tool_regex"}
SERVER_FOUND = {
    "type": "tool_search_tool_result", "tool_use_id": "srvtoolu_1",
    "content": {
        "type": "tool_search_tool_search_result", "tool_references": [{"type": "tool_reference", "tool_name": "WebFetch"}],
    },
}  # fmt: skip
MCP = {"type": "tool_addition", "tool": {"type": "mcp_tool_reference", "server_name": "s", "name": "WebFetch"}}


@pytest.mark.parametrize(
    ("messages", "wanted"),
    [
        ([USER], "Read ToolSearch"),
        ([USER, calling("ToolSearch"), found("WebFetch")], "Read WebFetch ToolSearch"),
        ([USER, calling("ToolSearch"), found("Unknown")], "Read ToolSearch"),
        ([USER, {"role": "assistant", "content": [SERVER_FOUND]}], "Read WebFetch ToolSearch"),
        ([USER, system(change("tool_addition", "WebFetch"))], "Read WebFetch ToolSearch"),
        ([USER, calling("WebFetch"), RESULT], "Read WebFetch ToolSearch"),
        ([USER, system(MCP)], "Read ToolSearch"),
        ([USER, system(change("tool_removal", "Read"))], "ToolSearch"),
        ([USER, system(change("tool_removal", "Unknown"))], "Read ToolSearch"),
        ([USER, calling("ToolSearch"), found("WebFetch"), system(change("tool_removal", "WebFetch"))], "Read ToolSearch"),
        ([USER, system(change("tool_removal", "Read")), calling("Read"), RESULT], "ToolSearch"),
        ([USER, system(change("tool_removal", "Read")), USER, system(change("tool_addition", "Read"))], "Read ToolSearch"),
        ([USER, system(definition(LATE))], "Read ToolSearch Late"),
        ([USER, system(definition(tool("Read", description="new")))], "ToolSearch Read"),
        ([USER, system(definition(LATE)), ANSWER, system(change("tool_removal", "Late"))], "Read ToolSearch"),
        ([USER, {"role": "user", "content": [change("tool_removal", "Read")]}], "Read ToolSearch"),
    ],
)  # fmt: skip
def test_tools_that_are_offered(messages, wanted):
    """A deferred tool is offered once loaded, an added one after the others; a removed one and the placeholder are not."""
    before = copy.deepcopy((DECLARED, messages))
    made = offered_tools(DECLARED, messages)
    assert [one["name"] for one in made] == wanted.split()
    assert (DECLARED, messages) == before


def test_a_definition_of_a_turn():
    """A definition in a system turn replaces the tool with that name, unchanged."""
    newer = tool("Read", description="newer")
    assert offered_tools([READ, SEARCH], [USER, system(definition(newer))]) == [SEARCH, newer]
    assert offered_tools(None, [USER, system(definition(newer))]) == [newer]


@pytest.mark.parametrize(("searches", "wanted"), [(False, [READ, FETCH, REGEX]), (True, [READ, REGEX])])
def test_a_search_that_the_provider_lacks(searches, wanted):
    """If the provider does not run Anthropic's tool search, every deferred tool is offered."""
    assert offered_tools([READ, FETCH, HOLDER, REGEX], [USER], searches=searches) == wanted


@pytest.mark.parametrize(
    ("tools", "messages"),
    [
        ([READ, SEARCH], [USER, calling("Read"), RESULT, system({"type": "text", "text": "s"})]),
        ([READ], [USER, system(change("tool_addition", "Read"))]),
        ([], []),
        (None, [USER]),
        ("odd", "odd"),
        ([READ, "odd", {}], [None, {"role": "system"}, {"role": "system", "content": [None, {"type": "tool_addition"}]}]),
        ([READ], [system({"type": "tool_addition", "tool": {"type": "tool_definition", "definition": {"name": 1}}})]),
        ([READ], [system({"type": "tool_addition", "tool": {"type": [], "name": "Read"}}), found(["odd"])]),
    ],
)
def test_nothing_changes(tools, messages):
    """Without a change, and for an invalid value, the same object is returned."""
    assert offered_tools(tools, messages) is tools


def effort(level):
    return system(output_config={"effort": level})


@pytest.mark.parametrize(
    ("messages", "wanted"),
    [
        ([USER], "high"),
        ([USER, effort("low")], "low"),
        ([USER, effort("low"), ANSWER, USER], "low"),
        ([USER, ANSWER, effort("low"), USER], "low"),
        ([USER, ANSWER, effort("low")], "high"),
        ([USER, calling("Read"), RESULT, effort("low")], "high"),
        ([USER, calling("Read"), RESULT, effort("low"), ANSWER, USER], "low"),
        ([USER, effort("low"), ANSWER, USER, effort("max")], "max"),
        ([USER, system({"type": "text", "text": "s"}), effort("low")], "low"),
        ([USER, {"role": "system", "output_config": {"effort": 1}}], "high"),
        ([USER, {"role": "system", "output_config": 1}, "odd"], "high"),
        ("odd", "high"),
    ],
)  # fmt: skip
def test_the_effort(messages, wanted):
    """An effort in a system turn applies to the user's text directly before it, or from the next user's text on."""
    assert last_effort(messages, "high") == wanted
