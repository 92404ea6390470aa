"""anthropic/messages.py: the fields for other providers, and thinking blocks in histories and responses."""

import copy
import functools

import pytest

from claude_proxy.anthropic.messages import (
    LONGEST_ID,
    for_provider,
    is_deeper_than,
    repaired,
    response_without_thinking,
    short_id,
    without_foreign_thinking,
    without_thinking,
)
from claude_proxy.anthropic.search_blocks import PREFIX, Page, call_block, result_block

TEXT = {"type": "text", "text": "hello"}
TOOL = {"type": "tool_use", "id": "t", "name": "Read", "input": {}}
SIGNED = {"type": "thinking", "thinking": "made by Claude", "signature": "EqQB"}
SIGNED_EMPTY = {"type": "thinking", "thinking": "", "signature": "EqQB"}
UNSIGNED = {"type": "thinking", "thinking": "made by somebody else", "signature": ""}
NULL_SIGNED = {"type": "thinking", "thinking": "x", "signature": None}
NO_SIGNATURE = {"type": "thinking", "thinking": "x"}
REDACTED = {"type": "redacted_thinking", "data": "made-up"}
ODD = [{"type": ["thinking"]}, {"type": None}, {}, "thinking", None, 1]

USER = {"role": "user", "content": "hi"}


def turn(*blocks, **more):
    return {"role": "assistant", "content": list(blocks)} | more


# What the Messages API has and another provider, or LiteLLM, needs.
KNOWN = {
    "model": "glm", "messages": [USER], "system": "s", "tools": [{"name": "Read"}], "tool_choice": {"type": "auto"},
    "max_tokens": 1, "temperature": 0.5, "top_p": 1, "top_k": 1, "stop_sequences": ["x"], "stream": True,
    "thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}, "context_management": {"edits": []},
}  # fmt: skip
# LiteLLM's own switches, and everything that it would pass on without knowing it.
SWITCHES = {
    "api_key": "sk-made-up", "api_base": "http://evil.tld", "base_url": "http://evil.tld", "headers": {"a": "b"},
    "extra_headers": {"a": "b"}, "extra_body": {"a": "b"}, "fallbacks": ["x"], "context_window_fallbacks": [],
    "default_fallbacks": [],
    "mock_response": "x", "mock_testing_fallbacks": True, "custom_llm_provider": "openai", "litellm_metadata": {"a": "b"},
    "litellm_params": {}, "litellm_session_id": "x", "tags": ["a"], "guardrails": ["a"], "cache": {"no-cache": True}, "ttl": 1,
    "num_retries": 9, "timeout": 1, "max_retries": 9, "model_info": {}, "proxy_server_request": {}, "user": "x",
    "mcp_servers": [],
    "provider_specific_header": {"extra_headers": {"authorization": "x"}}, "client": "x", "specific_deployment": True,
    "model_list": [], "drop_params": False, "aws_access_key_id": "x", "vertex_credentials": "x", "service_tier": "x",
    "betas": ["x"],
    "prompt_id": "x", "vector_store_ids": [], "enable_cache": True, "no-log": True, "a_field_of_tomorrow": 1,
}  # fmt: skip


def test_for_provider_is_an_allow_list():
    """Another provider gets the Messages API's fields and none of LiteLLM's switches."""
    assert for_provider(KNOWN | SWITCHES) == KNOWN


@pytest.mark.parametrize("name", SWITCHES)
def test_a_switch_does_nothing(name):
    """Each of LiteLLM's switches alone is removed."""
    assert for_provider({"model": "glm", name: SWITCHES[name]}) == {"model": "glm"}


@pytest.mark.parametrize(
    ("metadata", "seen"),
    [
        ({"user_id": "u"}, {"metadata": {"user_id": "u"}}),
        ({"user_id": "u", "tags": ["a"], "guardrails": []}, {"metadata": {"user_id": "u"}}),
        ({"tags": ["a"]}, {}),
        ({"user_id": {"tags": []}}, {}),
        ("text", {}),
        (None, {}),
    ],
    ids=["user-id", "switches-beside-it", "switches-only", "object", "text", "null"],
)
def test_of_metadata_only_the_user_id(metadata, seen):
    """LiteLLM uses ``metadata`` for its own switches, so only Anthropic's field ``user_id`` is kept."""
    assert for_provider({"model": "m", "metadata": metadata}) == {"model": "m"} | seen


def test_tools_that_litellm_would_run_itself():
    """A tool of type ``mcp`` is removed, because LiteLLM would call the client's server; all other tools stay."""
    custom, server_side = {"name": "Read", "input_schema": {}}, {"type": "web_search_20250305", "name": "web_search"}
    mcp = {"type": "mcp", "server_url": "http://evil.tld"}
    assert for_provider({"tools": [custom, mcp, server_side]}) == {"tools": [custom, server_side]}


@pytest.mark.parametrize("tools", [None, "text", {"type": "mcp"}], ids=["null", "text", "object"])
def test_tools_that_are_no_list(tools):
    """A ``tools`` of another shape is passed on, and LiteLLM rejects it."""
    assert for_provider({"tools": tools}) == {"tools": tools}


@pytest.mark.parametrize(
    ("blocks", "for_claude", "for_others"),
    [
        ([SIGNED, TEXT], [SIGNED, TEXT], [TEXT]),
        ([SIGNED_EMPTY, TOOL], [SIGNED_EMPTY, TOOL], [TOOL]),
        ([REDACTED, TEXT], [REDACTED, TEXT], [TEXT]),
        ([UNSIGNED, TEXT], [TEXT], [TEXT]),
        ([NULL_SIGNED, TEXT], [TEXT], [TEXT]),
        ([NO_SIGNATURE, TEXT], [TEXT], [TEXT]),
        ([TEXT, UNSIGNED], [TEXT], [TEXT]),
        ([SIGNED, TEXT, UNSIGNED, TOOL, REDACTED], [SIGNED, TEXT, TOOL, REDACTED], [TEXT, TOOL]),
        ([UNSIGNED], None, None),
        ([SIGNED, REDACTED], [SIGNED, REDACTED], None),
        ([], [], []),
        (ODD, ODD, ODD),
    ],
    ids=[
        "signed", "signed-with-empty-text", "redacted", "unsigned", "null-signature", "no-signature", "last", "mixed",
        "only-unsigned", "only-signed", "empty-turn", "odd-blocks",
    ],
)  # fmt: skip
def test_thinking_in_a_history(blocks, for_claude, for_others):
    """Claude keeps signed and redacted thinking, other providers keep none, and an empty turn is removed."""
    history = [USER, turn(*blocks), USER]
    before = copy.deepcopy(history)
    for change, kept in ((without_foreign_thinking, for_claude), (without_thinking, for_others)):
        changed = change(history)
        assert changed == [USER, USER] if kept is None else [USER, turn(*kept), USER]
        assert (changed is history) == (kept == blocks), "the very same object where there is nothing to change"
    assert history == before


def test_a_search_that_the_proxy_made_for_another_model():
    """Claude gets the proxy's search as text, because Anthropic has not encrypted it; Claude's own searches are unchanged."""
    own = [
        call_block(f"{PREFIX}1") | {"input": {"query": "q"}},
        result_block(f"{PREFIX}1", [Page("T", "http://x.invalid", "ripe")]),
    ]
    theirs = [call_block("srvtoolu_1"), result_block("srvtoolu_1", [])]
    texts = [
        {"type": "text", "text": '[web_search: {"query": "q"}]'},
        {"type": "text", "text": "- T: http://x.invalid\n  ripe"},
    ]
    history = [USER, turn(*own, *theirs, TEXT), USER]
    assert without_foreign_thinking(history) == [USER, turn(*texts, *theirs, TEXT), USER]
    history = [USER, turn(*theirs, TEXT)]
    assert without_foreign_thinking(history) is history


@pytest.mark.parametrize(
    "message",
    [
        {"role": "assistant", "content": "text"},
        {"role": "assistant"},
        {"role": "assistant", "content": None},
        {"role": "user", "content": [UNSIGNED]},
        {"role": "system", "content": [UNSIGNED]},
        "text",
        None,
        [],
    ],
    ids=["text", "no-content", "null-content", "user", "system", "a-string", "null", "a-list"],
)
def test_messages_that_are_left_alone(message):
    """Only block lists of assistant turns are searched; every other message stays the same object."""
    history = [message]
    assert without_thinking(history) is history
    assert without_foreign_thinking(history) is history


def test_other_fields_and_other_turns_stay():
    """A turn that loses a block keeps its other fields, and unchanged turns stay the same objects."""
    untouched = turn(TEXT)
    changed = without_thinking([untouched, turn(SIGNED, TEXT, id="x")])
    assert changed == [untouched, turn(TEXT, id="x")]
    assert changed[0] is untouched


def clearing(*types, **more):
    return {"context_management": {"edits": [{"type": name} for name in types]} | more}


@pytest.mark.parametrize(
    ("more", "kept"),
    [
        ({}, {}),
        ({"thinking": {"type": "enabled"}}, {}),
        (clearing("clear_thinking_20251015"), {}),
        (clearing("clear_thinking_20251015", "clear_tool_uses_20250919"), clearing("clear_tool_uses_20250919")),
        (clearing("clear_tool_uses_20250919", x=1), clearing("clear_tool_uses_20250919", x=1)),
        ({"context_management": "text"}, {"context_management": "text"}),
        ({"context_management": {"edits": ["odd", {}]}}, {"context_management": {"edits": ["odd", {}]}}),
        ({"system": "s", "output_config": {"effort": "high"}}, {"system": "s", "output_config": {"effort": "high"}}),
    ],
    ids=["plain", "thinking", "only-clearing", "clearing-and-more", "other-edits", "text", "odd-edits", "everything-else"],
)
def test_repaired(more, kept):
    """The retry has no thinking block and nothing that needs one; everything else is unchanged."""
    body = {"model": "m", "messages": [USER, turn(SIGNED, TEXT), turn(REDACTED), USER]} | more
    before = copy.deepcopy(body)
    assert repaired(body) == {"model": "m", "messages": [USER, turn(TEXT), USER]} | kept
    assert body == before


@pytest.mark.parametrize(
    "body",
    [{}, {"messages": "text"}, {"messages": []}, {"messages": [USER, turn(TEXT)], "thinking": {"type": "enabled"}}],
    ids=["nothing", "text", "empty", "no-thinking-in-it"],
)
def test_nothing_to_repair(body):
    """A history without thinking blocks gets no retry, because the request would be the same."""
    assert repaired(body) is None


@pytest.mark.parametrize(
    ("content", "kept"),
    [
        ([SIGNED, TEXT], [TEXT]),
        ([TEXT, UNSIGNED, TOOL, REDACTED], [TEXT, TOOL]),
        ([NULL_SIGNED], []),
        ([TEXT, TOOL], [TEXT, TOOL]),
        ([], []),
        (ODD, ODD),
        ("text", "text"),
        (None, None),
    ],
    ids=["first", "several", "only-thinking", "none", "empty", "odd-blocks", "text", "null"],
)
def test_a_whole_response(content, kept):
    """Thinking is removed; a response of thinking only stays a message, and one without thinking is the same object."""
    response = {"type": "message", "role": "assistant", "content": content, "usage": {}}
    clean = response_without_thinking(response)
    assert clean == response | {"content": kept}
    assert (clean is response) == (kept == content)


def test_a_response_without_content():
    """A response of another shape, such as an error, is unchanged."""
    error = {"type": "error", "error": {}}
    assert response_without_thinking(error) is error


@pytest.mark.parametrize("depth", [0, 1, 2, 50])
@pytest.mark.parametrize("wrap", [lambda inner: [1, inner], lambda inner: {"a": 1, "b": inner}], ids=["lists", "objects"])
def test_is_deeper_than(wrap, depth):
    """A value with so many levels is not deeper than that number, but deeper than one less."""
    value = functools.reduce(lambda inner, _: wrap(inner), range(depth), "text")
    assert not is_deeper_than(value, depth)
    assert depth == 0 or is_deeper_than(value, depth - 1)


def test_is_deeper_than_needs_no_stack():
    """The check does not raise, however deep a value is."""
    value = functools.reduce(lambda inner, _: [inner], range(100_000), "text")
    assert is_deeper_than(value, 400)
    while isinstance(value, list):  # taken apart by hand: the interpreter would do it by recursion
        (value,) = value


def test_what_is_no_tool_is_not_shown():
    """A tool that is not an object is removed, because LiteLLM fails on it."""
    assert for_provider({"model": "m", "tools": [None, 1, "x", [], {"name": "n"}]})["tools"] == [{"name": "n"}]


def test_half_a_character_in_a_long_id():
    """A long id with a lone surrogate is shortened."""
    assert len(short_id("cpx_" + "\ud83d" * 50)) <= LONGEST_ID
