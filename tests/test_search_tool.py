"""providers/search_tool.py: a request's web search settings, and the tool that replaces it."""

import pytest

from claude_proxy.providers.compatibility import ROWS, STRICT
from claude_proxy.providers.search_tool import (
    DEFAULT_USES,
    MOST_USES,
    SearchTool,
    lacks_search,
    with_search_tool,
    with_search_turns,
)

VERTEX = next(row for row in ROWS if row.name == "vertex")
SEARCH = {"type": "web_search_20250305", "name": "web_search", "max_uses": 3}
READ = {"name": "Read", "input_schema": {"type": "object"}}


def test_the_tool_that_is_offered():
    """The tool replaces Anthropic's, names the domains, and does not change other tools."""
    domains = {"allowed_domains": ["Example.com"], "blocked_domains": ["bad.example.com"]}
    fields = {"model": "m", "tools": [SEARCH | domains, READ]}
    made, tool = with_search_tool(fields, STRICT)
    assert tool == SearchTool(3, ("example.com",), ("bad.example.com",))
    assert made["tools"][0] == READ
    (one,) = made["tools"][1:]
    assert one.keys() == {"name", "description", "input_schema"}
    assert one["name"] == "web_search"
    assert "example.com" in one["description"]
    assert "bad.example.com" in one["description"]
    assert (fields["tools"][0], made["model"]) == (SEARCH | domains, "m")


@pytest.mark.parametrize(
    ("tools", "row"),
    [
        (None, STRICT), ([], STRICT), ([READ], STRICT), (["odd", {"type": []}], STRICT), ([SEARCH], VERTEX),
        ([SEARCH, READ | {"name": "web_search"}], STRICT), ([{"type": "web_fetch_20250910", "name": "web_fetch"}], STRICT),
    ],
)  # fmt: skip
def test_no_search_is_offered(tools, row):
    """Nothing is replaced without a search tool, if the provider has a search, or if the client has a tool with that name."""
    assert with_search_tool({"tools": tools}, row) is None


@pytest.mark.parametrize("kind", ["web_search_20250305", "web_search_20260209"])
@pytest.mark.parametrize(
    ("uses", "wanted"),
    [(1, 1), (8, 8), (10_000, MOST_USES), *((odd, DEFAULT_USES) for odd in (0, -1, None, True, "3", 2.5))],
)
def test_how_often(kind, uses, wanted):
    """The client sets the number of searches, within a limit; every version of Anthropic's tool is recognised."""
    assert with_search_tool({"tools": [SEARCH | {"type": kind, "max_uses": uses}]}, STRICT)[1].uses == wanted


@pytest.mark.parametrize(
    ("allowed", "blocked", "url", "passes"),
    [
        ((), (), "https://a.example.com/", True),
        (("example.com",), (), "https://example.com", True),
        (("example.com",), (), "https://a.EXAMPLE.com/x", True),
        (("example.com",), (), "https://notexample.com/", False),
        (("example.com",), (), "https://example.com.evil.invalid/", False),
        (("a.example.com",), (), "https://example.com/", False),
        (("example.com/blog",), (), "https://example.com/blog/1", True),
        (("example.com/blog",), (), "https://example.com/other", False),
        (("https://example.com",), (), "https://example.com/", True),
        ((), ("example.com",), "https://a.example.com/", False),
        ((), ("example.com",), "https://other.invalid/", True),
        (("example.com",), ("a.example.com",), "https://a.example.com/", False),
    ],
)
def test_domains(allowed, blocked, url, passes):
    """A domain includes its subdomains, a path all paths below it; a blocked domain is blocked even if it is allowed."""
    assert SearchTool(1, allowed, blocked).allows(url) == passes


@pytest.mark.parametrize("value", ["example.com", [7, None, "", " ", "a b", 'a"b', "a\x1bb"], {}])
def test_domains_that_are_none(value):
    """An invalid domain filters nothing and is in no description."""
    assert with_search_tool({"tools": [SEARCH | {"allowed_domains": value}]}, STRICT)[1].allowed == ()


def test_a_search_that_nobody_makes():
    """A search tool that the provider runs is not replaced."""
    assert lacks_search([READ, SEARCH], STRICT)
    assert not lacks_search([SEARCH], VERTEX)
    assert not lacks_search("odd", STRICT)


@pytest.mark.parametrize(
    ("choice", "then"),
    [
        ({"type": "tool", "name": "web_search"}, {"type": "auto"}),
        ({"type": "any", "disable_parallel_tool_use": True}, {"type": "auto", "disable_parallel_tool_use": True}),
        ({"type": "none"}, {"type": "none"}),
        ("odd", "odd"),
    ],
)
def test_a_call_is_demanded_once(choice, then):
    """A forced call has been made when the next round starts; before that the request is unchanged."""
    fields = {"messages": [{"role": "user", "content": "hi"}], "tool_choice": choice}
    turn = {"role": "assistant", "content": []}
    assert with_search_turns(fields, []) is fields
    assert with_search_turns(fields, [turn]) == {"messages": [*fields["messages"], turn], "tool_choice": then}
