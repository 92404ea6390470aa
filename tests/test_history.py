"""providers/history.py: conversations adapted to each provider."""

import copy
import json
import re

import pytest
from conversations import (
    BEDROCK,
    FOUND,
    IMAGE,
    KIMI,
    LONG_MARK,
    LOOP,
    OPENAI,
    OWN,
    PLAIN_MARK,
    REDACTED,
    ROW,
    SEARCH,
    SIGNED,
    TEXT,
    USER,
    ZAI,
    call,
    no_result,
    reminder,
    result,
    system,
    text,
    turn,
    user,
)
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy.anthropic.messages import LONGEST_ID
from claude_proxy.anthropic.search_blocks import PREFIX, Page, call_block, result_block
from claude_proxy.providers.call_ids import safe_id
from claude_proxy.providers.compatibility import ROWS, STRICT, Dialect
from claude_proxy.providers.history import NO_IMAGE, NO_START, fitted_messages

ONCE = {"clear_at": "next_user_message"}
CHANGE = {"type": "tool_removal", "tool": {"type": "tool_reference", "name": "Read"}}
# A search that the proxy has made.
OWN_SEARCH = call_block(f"{PREFIX}1") | {"input": {"query": "q"}}
OWN_FOUND = result_block(f"{PREFIX}1", [Page("T", "http://x.invalid", "ripe", "today")])
OWN_FAILED = result_block(f"{PREFIX}1", "unavailable")


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
        (STRICT, [USER, system([]) | {"output_config": {"effort": "low"}}], [USER]),
        (STRICT, [USER, {"role": "system", "output_config": {"effort": "low"}}], [USER]),
        (STRICT, [USER, system("s") | ONCE], [user(text("hi"), reminder("s"))]),
        (STRICT, [USER, system("s") | ONCE, turn(TEXT), USER], [USER, turn(TEXT), USER]),
        (STRICT, [USER, system([CHANGE, text("s")])], [user(text("hi"), reminder("s"))]),
        (STRICT, [USER, system([CHANGE])], [USER]),
        # server tools
        (STRICT, [USER, turn(SEARCH, FOUND, TEXT)],
         [USER, turn(text('[web_search: {"query": "q"}]\n'), text("- T: http://x.invalid\n"), TEXT)]),
        (STRICT, [USER, turn(OWN_SEARCH, OWN_FOUND, TEXT)],
         [USER, turn(text('[web_search: {"query": "q"}]\n'), text("- T: http://x.invalid (today)\n  ripe\n"), TEXT)]),
        (STRICT, [USER, turn(OWN_SEARCH, OWN_FAILED, TEXT)],
         [USER, turn(text('[web_search: {"query": "q"}]\n'), text(f"{json.dumps(OWN_FAILED['content'])}\n"), TEXT)]),
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
        (STRICT, [turn(call()), user(result())], [{"role": "user", "content": NO_START}, *LOOP[1:]]),
        # empty things and unknown ones
        (STRICT, [USER, turn(text(" ")), USER], [user(text("hi"), text("hi"))]),
        (STRICT, [user(TEXT, {"type": "container_upload", "file_id": "x"}, "odd", None)], [user(TEXT)]),
        (STRICT, [USER, {"role": "tomorrow", "content": "x"}, "odd", None, {}], [USER]),
        (STRICT, [USER, turn(TEXT | {"citations": []})], [USER, turn(TEXT)]),
        (STRICT, [turn(SIGNED)], [{"role": "user", "content": NO_START}]),
        # ids
        (STRICT, [USER, turn(call("functions.Read:0")), user(result("functions.Read:0"))],
         [USER, turn(call(safe_id("functions.Read:0"))), user(result(safe_id("functions.Read:0")))]),
    ],
)  # fmt: skip
def test_a_history(row, given, wanted):
    """What a provider does not accept is removed or becomes text; inputs are not modified."""
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
    """Roles alternate from the user on, no turn is empty, and each call has exactly one result at the next turn's start."""
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
    """An adapted history is the same object after a second pass, except for kept thinking, which has lost its mark."""
    plain = Dialect(row.name, cache_control=row.cache_control, images=row.images)
    once = fitted_messages(history, plain)
    assert fitted_messages(once, plain) is once


@given(st.lists(st.text(min_size=1, max_size=60), min_size=1, max_size=8, unique=True), st.sampled_from([STRICT, OPENAI]))
def test_ids_stay_one_to_one(names, row):
    """Two calls have two ids, whatever their original ids; each id is plain and short enough and has its own result."""
    history = [USER, turn(*map(call, names)), user(*map(result, names))]
    _, calls, results = fitted_messages(history, row)
    made = [block["id"] for block in calls["content"]]
    assert len(set(made)) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]+", name) and len(name) <= LONGEST_ID for name in made)
    assert [block["tool_use_id"] for block in results["content"]] == made
