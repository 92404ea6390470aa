"""providers/request_fields.py: a provider's system prompt, tools and thinking parameters."""

import copy

import pytest
from conversations import (
    BEDROCK,
    GEMINI,
    KIMI,
    LONG_MARK,
    LOOP,
    OPENAI,
    OWN,
    PLAIN_MARK,
    ROW,
    SIGNED,
    TEXT,
    USER,
    ZAI,
    call,
    result,
    text,
    turn,
    user,
)

from claude_proxy.providers.bounds import TOOLS, TooLarge
from claude_proxy.providers.compatibility import STRICT
from claude_proxy.providers.request_fields import fitted_system, fitted_tools, translated
from claude_proxy.providers.search_tool import NO_SEARCH


@pytest.mark.parametrize(
    ("row", "given", "wanted"),
    [
        (STRICT, "words", "words"),
        (STRICT, None, None),
        (STRICT, [text("x-anthropic-billing-header: cc_version=2;")], []),
        (STRICT, "x-anthropic-billing-header: cc_version=2;", ""),
        (ZAI, [text("x-anthropic-billing-header: a"), TEXT | LONG_MARK], [TEXT | PLAIN_MARK]),
        (STRICT, [TEXT | LONG_MARK, text(""), {"type": "odd"}, 1], [TEXT]),
        (ZAI, [TEXT | PLAIN_MARK], [TEXT | PLAIN_MARK]),
    ],
)
def test_a_system_prompt(row, given, wanted):
    """The billing line is removed, cache marks become plain or are removed, and an unchanged prompt is the same object."""
    made = fitted_system(given, row)
    assert made == wanted
    assert made is given or made != given


READ = {"name": "Read", "description": "d", "input_schema": {"type": "object"}}
WEB_SEARCH = {"type": "web_search_20250305", "name": "web_search", "max_uses": 8}
EXTRAS = {"defer_loading": True, "eager_input_streaming": True, "strict": True, "allowed_callers": []}


@pytest.mark.parametrize(
    ("row", "given", "wanted"),
    [
        (STRICT, [READ], [READ]),
        (STRICT, [READ | EXTRAS | LONG_MARK], [READ]),
        (ZAI, [READ | EXTRAS | LONG_MARK], [READ | PLAIN_MARK]),
        (STRICT, [WEB_SEARCH, READ], [READ]),
        (ROW["vertex"], [WEB_SEARCH, READ], [WEB_SEARCH, READ]),
        (BEDROCK, [WEB_SEARCH], []),
        (STRICT, [READ | {"type": "custom"}], [READ | {"type": "custom"}]),
        (STRICT, ["odd", {}, {"type": []}], []),
        (STRICT, None, []),
    ],
)
def test_tools(row, given, wanted):
    """The client's own tools keep the fields that every provider knows; server tools stay only if the provider runs them."""
    before = copy.deepcopy(given)
    assert fitted_tools(given, row) == wanted
    assert given == before


@pytest.mark.parametrize(
    ("row", "tools", "choice", "kept"),
    [
        (STRICT, [READ], {"type": "tool", "name": "Read"}, True),
        (STRICT, [READ, WEB_SEARCH], {"type": "tool", "name": "web_search"}, False),
        (STRICT, [WEB_SEARCH], {"type": "any"}, False),
        (STRICT, [READ], {"type": "any"}, True),
        (ROW["vertex"], [WEB_SEARCH], {"type": "tool", "name": "web_search"}, True),
        (STRICT, [READ], "odd", False),
    ],
)
def test_a_choice_of_a_tool(row, tools, choice, kept):
    """A tool choice is removed with its tool."""
    made = translated({"messages": [USER], "tools": tools, "tool_choice": choice}, row)
    assert ("tool_choice" in made) == kept


@pytest.mark.parametrize(
    ("row", "tools", "system", "wanted"),
    [
        (STRICT, [WEB_SEARCH, READ], "s", f"s\n\n{NO_SEARCH}"),
        (STRICT, [WEB_SEARCH], None, NO_SEARCH),
        (STRICT, [WEB_SEARCH], [TEXT], [TEXT, {"type": "text", "text": NO_SEARCH}]),
        (STRICT, [READ], "s", "s"),
        (ROW["vertex"], [WEB_SEARCH], "s", "s"),
        (STRICT, [{"type": "web_fetch_20250910", "name": "web_fetch"}], "s", "s"),
    ],
)
def test_a_search_that_is_left_out(row, tools, system, wanted):
    """A sentence after the system prompt says that there is no search; the prompt is otherwise unchanged."""
    assert translated({"messages": [USER], "tools": tools, "system": system}, row)["system"] == wanted


ASKING = {
    "messages": [USER], "thinking": {"type": "adaptive"}, "output_config": {"effort": "high", "format": {}},
    "max_tokens": 32000, "context_management": {"edits": []}, "metadata": {"user_id": "x"}, "container": "c",
    "mcp_servers": [], "system": "s",
}  # fmt: skip
SHOWN, LOWER = {"type": "adaptive"}, {"role": "system", "content": [], "output_config": {"effort": "low"}}
ENABLED, DISABLED = {"type": "enabled", "budget_tokens": 31999}, {"type": "disabled"}
OWN_LOOP = [USER, turn(OWN, call()), user(result())]
MIXED = [*OWN_LOOP, turn(call("toolu_2")), user(result("toolu_2"))]


@pytest.mark.parametrize(
    ("row", "more", "wanted"),
    [
        (STRICT, {}, {}),
        (ZAI, {}, {}),
        (OPENAI, {"thinking": DISABLED}, {}),
        (KIMI, {}, {"thinking": ENABLED}),
        (KIMI, {"thinking": ENABLED}, {"thinking": ENABLED}),
        (KIMI, {"thinking": DISABLED}, {"thinking": DISABLED}),
        (KIMI, {"thinking": None}, {}),
        (KIMI, {"max_tokens": 100}, {"thinking": {"type": "adaptive"}}),
        (KIMI, {"thinking": SHOWN | {"display": "updates"}}, {"thinking": ENABLED}),
        (KIMI, {"thinking": ENABLED | {"display": "omitted"}}, {"thinking": ENABLED}),
        (KIMI, {"messages": OWN_LOOP}, {"thinking": ENABLED}),
        (KIMI, {"messages": LOOP}, {"thinking": DISABLED}),
        (KIMI, {"messages": MIXED}, {"thinking": DISABLED}),
        (KIMI, {"messages": [USER, turn(SIGNED, call()), user(result())]}, {"thinking": DISABLED}),
        (KIMI, {"messages": LOOP, "thinking": None}, {"thinking": DISABLED}),
        (ROW["minimax"], {"messages": LOOP}, {"thinking": ENABLED}),
        (BEDROCK, {}, {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}}),
        (BEDROCK, {"messages": LOOP}, {}),
        (BEDROCK, {"thinking": SHOWN | {"display": "updates"}}, {"thinking": SHOWN, "output_config": {"effort": "high"}}),
        (BEDROCK, {"thinking": SHOWN | {"display": "omitted"}},
         {"thinking": SHOWN | {"display": "omitted"}, "output_config": {"effort": "high"}}),
        (BEDROCK, {"messages": [USER, LOWER]}, {"thinking": SHOWN, "output_config": {"effort": "low"}}),
        (BEDROCK, {"messages": [USER, LOWER], "output_config": None},
         {"thinking": SHOWN, "output_config": {"effort": "low"}}),
        (ZAI, {"messages": [USER, LOWER]}, {}),
        (BEDROCK, {"messages": [USER, turn(SIGNED, call()), user(result())]},
         {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}}),
        (BEDROCK, {"messages": [*LOOP, turn(TEXT), USER]},
         {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}}),
    ],
)  # fmt: skip
def test_parameters(row, more, wanted):
    """Thinking is requested if it can be kept and the history allows it; Claude's other parameters are not sent."""
    made = translated(ASKING | more, row)
    assert {name: made[name] for name in set(made) - {"messages", "system"}} == wanted


def test_tools_that_the_conversation_changes():
    """A deferred tool is sent once it is loaded, an added one with the others, a removed one and its choice not."""
    deferred = READ | {"name": "WebFetch", "defer_loading": True}
    added = {"type": "tool_addition", "tool": {"type": "tool_definition", "definition": READ | EXTRAS | {"name": "Late"}}}
    removed = {"type": "tool_removal", "tool": {"type": "tool_reference", "name": "Read"}}
    asked = {"messages": [USER], "tools": [READ, deferred], "tool_choice": {"type": "tool", "name": "Read"}}
    assert translated(asked, STRICT)["tools"] == [READ]
    loaded = user(result(content=[{"type": "tool_reference", "tool_name": "WebFetch"}]))
    changed = asked | {"messages": [USER, turn(call()), loaded, {"role": "system", "content": [added, removed]}]}
    made = translated(changed, STRICT)
    assert made["tools"] == [READ | {"name": "WebFetch"}, READ | {"name": "Late"}]
    assert "tool_choice" not in made
    assert not [message for message in made["messages"] if "tool_addition" in str(message) or "tool_removal" in str(message)]


def test_tools_that_the_conversation_defines_are_bounded():
    """Tools that turns define count towards the limits like those of the request."""
    many = [
        {"type": "tool_addition", "tool": {"type": "tool_definition", "definition": {"name": f"t{number}"}}}
        for number in range(TOOLS)
    ]
    with pytest.raises(TooLarge, match="tools: 2001 entries"):
        translated({"messages": [USER, {"role": "system", "content": many}], "tools": [READ]}, STRICT)


def test_a_request_without_anything():
    """Invalid values raise nothing and are not sent."""
    assert translated({}, STRICT) == {"messages": None}
    assert translated({"messages": "odd", "system": 1, "tools": 1, "thinking": 1}, KIMI) == {"messages": "odd"}


def test_the_form_of_an_answer():
    """The requested response format stays if LiteLLM translates it."""
    wanted = {"type": "json_schema", "schema": {"type": "object"}}
    request = {"messages": [USER], "output_config": {"effort": "high", "format": wanted}}
    assert translated(request, GEMINI)["output_config"] == {"format": wanted}
    assert "output_config" not in translated(request, GEMINI, relayed=True)
