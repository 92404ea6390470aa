"""providers/compatibility.py: the table of providers, requests made to fit them, and what comes back from them."""

import copy
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy.anthropic.messages import LONGEST_ID, MARK, mark, without_foreign_thinking
from claude_proxy.providers import compatibility
from claude_proxy.providers.compatibility import (
    NO_BEGINNING,
    NO_IMAGE,
    NO_RESULT,
    ROWS,
    STRICT,
    Dialect,
    Thinking,
    allowed_betas,
    dialect,
    fitted_messages,
    fitted_system,
    fitted_tools,
    original_id,
    returned_block,
    returned_response,
    safe_id,
    stop_reason,
    translated,
)

ROW = {row.name: row for row in ROWS}
KIMI, BEDROCK, GEMINI, ZAI, OPENAI = (ROW[name] for name in ("kimi", "bedrock", "gemini", "zai", "openai"))
EVERY_ROW = pytest.mark.parametrize("row", [STRICT, *ROWS], ids=lambda row: row.name)


# --- the table ---


@pytest.mark.parametrize(
    ("model", "provider", "base", "name"),
    [
        ("anthropic/glm-5", None, "https://api.z.ai/api/anthropic", "zai"),
        ("anthropic/glm-5", "anthropic", "https://open.bigmodel.cn/api/anthropic", "zai"),
        ("anthropic/kimi-for-coding", None, "https://api.kimi.com/coding", "kimi"),
        ("anthropic/kimi-k3", None, "https://api.moonshot.ai:443/anthropic", "kimi"),
        ("anthropic/deepseek-chat", None, "https://API.DeepSeek.com/anthropic", "deepseek"),
        ("anthropic/MiniMax-M3", None, "https://api.minimax.io/anthropic", "minimax"),
        ("anthropic/anthropic/claude-opus-4-8", None, "https://openrouter.ai/api", "openrouter"),
        ("anthropic/kimi-for-coding", None, "https://api.kimi.com.evil.tld", "unknown"),
        ("anthropic/kimi-for-coding", None, "https://evil.tld/api.kimi.com", "unknown"),
        ("anthropic/claude-opus-4-8", None, "https://gateway.invalid", "unknown"),
        ("anthropic/us.anthropic.claude-x", None, "https://gateway.invalid", "unknown"),
        ("bedrock/us.anthropic.claude-sonnet-5-v1:0", None, None, "bedrock"),
        ("bedrock/invoke/anthropic.claude-opus-4-8", "bedrock", None, "bedrock"),
        ("bedrock/us.amazon.nova-pro", None, None, "unknown"),
        ("bedrock/arn:aws:bedrock:eu-central-1:1:application-inference-profile/x", None, None, "unknown"),
        ("vertex_ai/claude-sonnet-5", None, None, "vertex"),
        ("vertex_ai/claude-opus-4-5@20251101", None, None, "vertex"),
        ("vertex_ai/gemini-3.1-pro", None, None, "gemini-on-vertex"),
        ("vertex_ai/not-claude", None, None, "gemini-on-vertex"),
        ("gemini/gemini-3.1-pro", None, None, "gemini"),
        ("openai/gpt-5.2", None, None, "openai"),
        ("openai/gpt-5.2", None, "https://api.openai.com/v1", "openai"),
        ("openai/qwen3-coder", None, "http://127.0.0.1:11434/v1", "openai-compatible"),
        ("azure/my-deployment", None, "https://x.openai.azure.com", "azure"),
        ("openrouter/qwen/qwen3", None, None, "openrouter-chat"),
        ("groq/openai/gpt-oss-120b", None, None, "unknown"),
        ("tomorrow/claude-opus-4-8", None, None, "unknown"),
    ],
)
def test_which_row_a_deployment_has(model, provider, base, name):
    """The provider's prefix and the parsed host decide, and who is in no row gets the strictest one."""
    assert dialect(model, provider, base).name == name


@EVERY_ROW
def test_the_default_is_the_strictest(row):
    """No row understands less than the one for unknown providers."""
    assert (STRICT.cache_control, STRICT.thinking, STRICT.effort) == (False, Thinking.NONE, False)
    assert (STRICT.betas, STRICT.server_tools) == (frozenset(), ())
    assert row.name == STRICT.name or row.prefix or row.hosts


@pytest.mark.parametrize(
    ("header", "row", "kept"),
    [
        (
            "context-1m-2025-08-07, claude-code-20250219,effort-2025-11-24",
            BEDROCK,
            ["context-1m-2025-08-07", "effort-2025-11-24"],
        ),
        ("context-1m-2025-08-07,effort-2025-11-24,context-1m-2025-08-07", ROW["vertex"], ["context-1m-2025-08-07"]),
        ("context-1m-2025-08-07", ZAI, []),
        ("context-1m-2025-08-07", STRICT, []),
        ("", BEDROCK, []),
        (None, BEDROCK, []),
    ],
    ids=["bedrock", "vertex", "anthropic-format", "unknown", "empty", "none"],
)
def test_betas(header, row, kept):
    """A beta goes only to a provider whose row names it."""
    assert allowed_betas(header, row) == kept


# --- histories ---

USER = {"role": "user", "content": "hi"}
TEXT = {"type": "text", "text": "hello"}
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aQ=="}}
SIGNED = {"type": "thinking", "thinking": "t", "signature": "EqSigned"}
REDACTED = {"type": "redacted_thinking", "data": "EmRedacted"}
OWN = {"type": "thinking", "thinking": "t", "signature": mark("kimi", "own")}
SEARCH = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "q"}}
FOUND = {
    "type": "web_search_tool_result",
    "tool_use_id": "srvtoolu_1",
    "content": [{"type": "web_search_result", "url": "http://x.invalid", "title": "T", "encrypted_content": "E"}],
}


def user(*blocks):
    return {"role": "user", "content": list(blocks)}


def turn(*blocks):
    return {"role": "assistant", "content": list(blocks)}


def system(content):
    return {"role": "system", "content": content}


def call(name="toolu_1", **more):
    return {"type": "tool_use", "id": name, "name": "Read", "input": {"a": 1}, **more}


def result(name="toolu_1", content="done", **more):
    return {"type": "tool_result", "tool_use_id": name, "content": content, **more}


def text(words):
    return {"type": "text", "text": words}


def reminder(words):
    return text(f"<system-reminder>\n{words}\n</system-reminder>")


def no_result(name):
    return {"type": "tool_result", "tool_use_id": name, "content": NO_RESULT, "is_error": True}


LONG_MARK = {"cache_control": {"type": "ephemeral", "ttl": "1h", "scope": "global"}}
PLAIN_MARK = {"cache_control": {"type": "ephemeral"}}
LOOP = [USER, turn(call()), user(result())]


@pytest.mark.parametrize(
    ("row", "given", "wanted"),
    [
        (STRICT, [USER, turn(TEXT), USER], None),
        (STRICT, LOOP, None),
        (STRICT, [], None),
        (ZAI, [user(TEXT | PLAIN_MARK)], None),
        # cache marks
        (ZAI, [user(TEXT | LONG_MARK)], [user(TEXT | PLAIN_MARK)]),
        (STRICT, [user(TEXT | PLAIN_MARK)], [user(TEXT)]),
        (ZAI, [*LOOP[:2], user(result(content=[TEXT | LONG_MARK]))], [*LOOP[:2], user(result(content=[TEXT | PLAIN_MARK]))]),
        # thinking
        (STRICT, [USER, turn(SIGNED, REDACTED, TEXT), USER], [USER, turn(TEXT), USER]),
        (STRICT, [USER, turn(SIGNED), USER], [user(text("hi"), text("hi"))]),
        (BEDROCK, [USER, turn(SIGNED, REDACTED, TEXT), USER], None),
        (BEDROCK, [USER, turn(OWN, SIGNED | {"signature": ""}, TEXT), USER], [USER, turn(TEXT), USER]),
        (KIMI, [USER, turn(OWN, SIGNED, REDACTED, TEXT), USER], [USER, turn(OWN | {"signature": "own"}, TEXT), USER]),
        (ROW["deepseek"], [USER, turn(OWN, TEXT), USER], [USER, turn(TEXT), USER]),
        # system turns
        (STRICT, [USER, system("s")], [user(text("hi"), reminder("s"))]),
        (STRICT, [USER, turn(TEXT), system([text("s")])], [USER, turn(TEXT), user(reminder("s"))]),
        (
            STRICT,
            [USER, turn(call()), system("s"), user(result(), TEXT)],
            [USER, turn(call()), user(result(), reminder("s"), TEXT)],
        ),
        (STRICT, [USER, system("")], [USER]),
        # server tools
        (STRICT, [USER, turn(SEARCH, FOUND, TEXT)],
         [USER, turn(text('[web_search: {"query": "q"}]\n'), text("- T: http://x.invalid\n"), TEXT)]),
        (STRICT, [USER, turn(SEARCH, TEXT)], [USER, turn(TEXT)]),
        (STRICT, [USER, turn(FOUND, TEXT)], [USER, turn(TEXT)]),
        # results that say which tool was found, and images
        (
            STRICT,
            [*LOOP[:2], user(result(content=[{"type": "tool_reference", "tool_name": "WebFetch"}]))],
            [*LOOP[:2], user(result(content=[text("The tool WebFetch is loaded.")]))],
        ),
        (ROW["deepseek"], [*LOOP[:2], user(result(content=[IMAGE]))], [*LOOP[:2], user(result(content=[text(NO_IMAGE)]))]),
        # pairs
        (STRICT, [USER, turn(call()), USER], [USER, turn(call()), user(no_result("toolu_1"), text("hi"))]),
        (STRICT, [USER, turn(call())], [USER, turn(call()), user(no_result("toolu_1"))]),
        (STRICT, [USER, turn(TEXT), user(result(), TEXT)], [USER, turn(TEXT), user(TEXT)]),
        (STRICT, [*LOOP, turn(TEXT), user(result())], [*LOOP, turn(TEXT)]),
        (STRICT, [USER, turn(call()), user(TEXT, result())], [USER, turn(call()), user(result(), TEXT)]),
        (STRICT, [USER, turn(call(), call()), user(result(), result(content="twice"))], LOOP),
        (STRICT, [USER, turn(call("a")), turn(call("b")), user(result("b"), result("a"))],
         [USER, turn(call("a"), call("b")), user(result("b"), result("a"))]),
        (STRICT, [turn(call()), user(result())], [{"role": "user", "content": NO_BEGINNING}, *LOOP[1:]]),
        # empty things and unknown ones
        (STRICT, [USER, turn(text(" ")), USER], [user(text("hi"), text("hi"))]),
        (STRICT, [user(TEXT, {"type": "container_upload", "file_id": "x"}, "odd", None)], [user(TEXT)]),
        (STRICT, [USER, {"role": "tomorrow", "content": "x"}, "odd", None, {}], [USER]),
        (STRICT, [USER, turn(TEXT | {"citations": []})], [USER, turn(TEXT)]),
        (STRICT, [turn(SIGNED)], [{"role": "user", "content": NO_BEGINNING}]),
        # ids
        (STRICT, [USER, turn(call("functions.Read:0")), user(result("functions.Read:0"))],
         [USER, turn(call(safe_id("functions.Read:0"))), user(result(safe_id("functions.Read:0")))]),
    ],
)  # fmt: skip
def test_a_history(row, given, wanted):
    """What a provider does not understand leaves a history or becomes words; nothing is changed in place."""
    before = copy.deepcopy(given)
    made = fitted_messages(given, row)
    assert made == (given if wanted is None else wanted)
    assert (made is given) == (wanted is None), "the very same object where there is nothing to change"
    assert given == before


NAMES = st.sampled_from(["a", "b", "toolu_1", "functions.Read:0", "x" * 80, ""])
BLOCKS = st.one_of(
    st.sampled_from([TEXT, IMAGE, SIGNED, REDACTED, OWN, SEARCH, FOUND, text(""), {"type": None}, {"type": []}, "odd", 1]),
    NAMES.map(call),
    NAMES.map(result),
    NAMES.map(lambda name: result(name, content=[IMAGE, {"type": "tool_reference", "tool_name": "T"}, "odd"])),
)
TURNS = st.builds(
    lambda role, content: {"role": role, "content": content},
    st.sampled_from(["user", "assistant", "system"]),
    st.one_of(st.lists(BLOCKS, max_size=5), st.sampled_from(["words", "", None])),
)
HISTORIES = st.lists(TURNS, max_size=8)
ANY_ROW = st.sampled_from([STRICT, *ROWS])


def blocks_of(message):
    return message["content"] if isinstance(message["content"], list) else []


@given(HISTORIES, ANY_ROW)
def test_any_history_becomes_a_strict_one(history, row):
    """Roles alternate from the user on, no turn is empty, and each call has its result, alone, at the next turn's beginning."""
    before = copy.deepcopy(history)
    made = fitted_messages(history, row)
    assert history == before
    assert [message["role"] for message in made] == [["user", "assistant"][place % 2] for place in range(len(made))]
    calls = []
    for message in [*made, user()]:
        results = [block["tool_use_id"] for block in blocks_of(message) if block["type"] == "tool_result"]
        assert sorted(results) == sorted(calls)
        assert all(block["type"] == "tool_result" for block in blocks_of(message)[: len(results)])
        calls = [block["id"] for block in blocks_of(message) if block["type"] == "tool_use"]
        assert len(calls) == len(set(calls))
    assert all(message["content"] for message in made)


@given(HISTORIES, ANY_ROW)
def test_fitting_twice_changes_nothing(history, row):
    """A history that fits is the same object afterwards; kept thinking has lost its mark, so it is left out of this."""
    plain = Dialect(row.name, cache_control=row.cache_control, images=row.images)
    once = fitted_messages(history, plain)
    assert fitted_messages(once, plain) is once


@given(st.lists(st.text(min_size=1, max_size=60), min_size=1, max_size=8, unique=True), st.sampled_from([STRICT, OPENAI]))
def test_ids_stay_one_to_one(names, row):
    """Two calls have two ids, whatever they were called, each of them plain and short enough, and each with its own result."""
    history = [USER, turn(*map(call, names)), user(*map(result, names))]
    _, calls, results = fitted_messages(history, row)
    made = [block["id"] for block in calls["content"]]
    assert len(set(made)) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]+", name) and len(name) <= LONGEST_ID for name in made)
    assert [block["tool_use_id"] for block in results["content"]] == made


@given(st.text())
def test_a_spelled_id_can_be_read_back(name):
    """What is spelled plainly holds the whole id; a plain one stays as it is."""
    assert original_id(safe_id(name)) == name
    assert safe_id(safe_id(name)) in (safe_id(name), safe_id(safe_id(name)))


@pytest.mark.parametrize("odd", ["cpx_!", "cpx_a", "cpx_/w", "cpx_dG9vbHVfMQ"])
def test_an_id_that_only_looks_spelled(odd):
    """An id that the proxy did not spell is nobody's spelling."""
    assert original_id(odd) == odd


# --- the rest of a request ---


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
    """The billing line leaves the system prompt, marks become plain or go, and the same object stays where nothing does."""
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
    """The client's own tools stay with the fields that everybody knows; server tools only where the provider runs them."""
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
    """A choice goes with the tool that it names."""
    made = translated({"messages": [USER], "tools": tools, "tool_choice": choice}, row)
    assert ("tool_choice" in made) == kept


ASKING = {
    "messages": [USER], "thinking": {"type": "adaptive"}, "output_config": {"effort": "high", "format": {}},
    "max_tokens": 32000, "context_management": {"edits": []}, "metadata": {"user_id": "x"}, "container": "c",
    "mcp_servers": [], "system": "s",
}  # fmt: skip
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
        (KIMI, {"messages": OWN_LOOP}, {"thinking": ENABLED}),
        (KIMI, {"messages": LOOP}, {"thinking": DISABLED}),
        (KIMI, {"messages": MIXED}, {"thinking": DISABLED}),
        (KIMI, {"messages": [USER, turn(SIGNED, call()), user(result())]}, {"thinking": DISABLED}),
        (KIMI, {"messages": LOOP, "thinking": None}, {"thinking": DISABLED}),
        (ROW["minimax"], {"messages": LOOP}, {"thinking": ENABLED}),
        (BEDROCK, {}, {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}}),
        (BEDROCK, {"messages": LOOP}, {}),
        (BEDROCK, {"messages": [USER, turn(SIGNED, call()), user(result())]},
         {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}}),
        (BEDROCK, {"messages": [*LOOP, turn(TEXT), USER]},
         {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}}),
    ],
)  # fmt: skip
def test_parameters(row, more, wanted):
    """Thinking is asked for where it can be kept, and where the history allows it; nothing else of Claude's own goes."""
    made = translated(ASKING | more, row)
    assert {name: made[name] for name in set(made) - {"messages", "system"}} == wanted


def test_a_request_without_anything():
    """Odd values raise nothing and go nowhere."""
    assert translated({}, STRICT) == {"messages": None}
    assert translated({"messages": "odd", "system": 1, "tools": 1, "thinking": 1}, KIMI) == {"messages": "odd"}


# --- what comes back ---


@pytest.mark.parametrize(
    ("row", "block", "wanted"),
    [
        (STRICT, TEXT, TEXT),
        (STRICT, SIGNED, None),
        (ZAI, REDACTED, None),
        (BEDROCK, SIGNED, SIGNED),
        (KIMI, SIGNED, SIGNED | {"signature": f"{MARK}kimi:EqSigned"}),
        (KIMI, {"type": "thinking", "thinking": "t"}, {"type": "thinking", "thinking": "t", "signature": f"{MARK}kimi:"}),
        (KIMI, REDACTED, REDACTED | {"data": f"{MARK}kimi:EmRedacted"}),
        (STRICT, call(), call()),
        (STRICT, call("call_1:2"), call(safe_id("call_1:2"))),
        (STRICT, call(""), call("toolu_new")),
        (STRICT, call(None), call("toolu_new")),
        (STRICT, call(provider_specific_fields={"signature": "s"}), call()),
        (GEMINI, call(provider_specific_fields={"signature": "s+/="}), call(safe_id("toolu_1__thought__s+/="))),
        (STRICT, {"type": ["odd"]}, {"type": ["odd"]}),
    ],
)
def test_a_block_that_comes_back(monkeypatch, row, block, wanted):
    """Thinking that nobody can use goes, kept thinking says whose it is, and each call has an id that all providers take."""
    monkeypatch.setattr(compatibility, "new_id", lambda: "toolu_new")
    before = copy.deepcopy(block)
    made = returned_block(block, row)
    assert made == wanted
    assert made is None or (made is block) == (made == before)
    assert block == before


@pytest.mark.parametrize("row", [KIMI, ROW["deepseek"], ROW["minimax"]], ids=lambda row: row.name)
@pytest.mark.parametrize("block", [SIGNED, REDACTED, SIGNED | {"signature": ""}], ids=["signed", "redacted", "unsigned"])
def test_kept_thinking_is_its_makers_alone(row, block):
    """What a provider thought comes back to it as it was, and to nobody else: neither to another one nor to Claude."""
    kept = returned_block(block, row)
    history = [USER, turn(kept, TEXT), USER]
    assert fitted_messages(history, row) == [USER, turn(block, TEXT), USER]
    for other in (STRICT, *ROWS):
        assert other is row or fitted_messages(history, other) == [USER, turn(TEXT), USER]
    assert without_foreign_thinking(history) == [USER, turn(TEXT), USER]


def test_geminis_signature_goes_there_and_back():
    """A call's thought signature is in its id, for Gemini alone, and an id that has become long is short for Claude."""
    returned = returned_block(call(provider_specific_fields={"signature": "s+/=" * 40}), GEMINI)
    history = [USER, turn(returned), user(result(returned["id"]))]
    signed = call(provider_specific_fields={"signature": "s+/=" * 40})
    assert fitted_messages(history, GEMINI) == [USER, turn(signed), user(result())]
    for made in (fitted_messages(history, STRICT), without_foreign_thinking(history)):
        assert len(made[1]["content"][0]["id"]) <= LONGEST_ID
        assert made[1]["content"][0]["id"] == made[2]["content"][0]["tool_use_id"]


@pytest.mark.parametrize(
    ("reason", "calls", "wanted"),
    [
        ("end_turn", False, "end_turn"), ("end_turn", True, "tool_use"), ("tool_use", True, "tool_use"),
        ("tool_use", False, "end_turn"), ("stop", False, "end_turn"), ("stop", True, "tool_use"), (None, False, "end_turn"),
        (None, True, "tool_use"), (["odd"], False, "end_turn"), ("max_tokens", True, "max_tokens"),
        ("max_tokens", False, "max_tokens"), ("refusal", True, "refusal"), ("stop_sequence", False, "stop_sequence"),
        ("stop_sequence", True, "tool_use"), ("pause_turn", False, "pause_turn"),
    ],
)  # fmt: skip
def test_a_reason_to_stop(reason, calls, wanted):
    """A message with calls stops for them unless it was cut short, one without never does, and every reason is a known one."""
    assert stop_reason(reason, calls=calls) == wanted


def test_a_whole_response():
    """A response loses foreign thinking and gets its reason; the same object stays where nothing is to change."""
    response = {"type": "message", "content": [SIGNED, TEXT, call()], "stop_reason": "end_turn"}
    assert returned_response(response, STRICT) == response | {"content": [TEXT, call()], "stop_reason": "tool_use"}
    for same in ({"content": [TEXT], "stop_reason": "end_turn"}, {"content": "words"}, {"type": "error", "error": {}}):
        assert returned_response(same, STRICT) is same


def test_a_row_is_plain():
    """A row can be written into an issue: its values are names, numbers and flags."""
    assert all(json.dumps([row.name, row.prefix, row.hosts, row.vendor, sorted(row.betas)]) for row in ROWS)
    assert len({row.name for row in ROWS}) == len(ROWS)
