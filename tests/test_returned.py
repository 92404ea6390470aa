"""providers/returned.py: another provider's response as the client gets it."""

import copy

import pytest
from conversations import BEDROCK, KIMI, REDACTED, ROW, SIGNED, TEXT, USER, ZAI, call, turn

from claude_proxy.anthropic.messages import MARK, without_foreign_thinking
from claude_proxy.providers import returned
from claude_proxy.providers.call_ids import safe_id
from claude_proxy.providers.compatibility import ROWS, STRICT
from claude_proxy.providers.history import fitted_messages
from claude_proxy.providers.returned import returned_block, returned_response, stop_reason


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
        (STRICT, {"type": ["odd"]}, {"type": ["odd"]}),
    ],
)
def test_a_block_that_comes_back(monkeypatch, row, block, wanted):
    """Thinking is removed, or marked with its provider, and each call has an id that all providers accept."""
    monkeypatch.setattr(returned, "new_id", lambda: "toolu_new")
    before = copy.deepcopy(block)
    made = returned_block(block, row)
    assert made == wanted
    assert made is None or (made is block) == (made == before)
    assert block == before


@pytest.mark.parametrize("row", [KIMI, ROW["deepseek"], ROW["minimax"]], ids=lambda row: row.name)
@pytest.mark.parametrize("block", [SIGNED, REDACTED, SIGNED | {"signature": ""}], ids=["signed", "redacted", "unsigned"])
def test_kept_thinking_is_its_makers_alone(row, block):
    """Kept thinking is sent back unchanged to its provider, and to no other provider."""
    kept = returned_block(block, row)
    history = [USER, turn(kept, TEXT), USER]
    assert fitted_messages(history, row) == [USER, turn(block, TEXT), USER]
    for other in (STRICT, *ROWS):
        assert other is row or fitted_messages(history, other) == [USER, turn(TEXT), USER]
    assert without_foreign_thinking(history) == [USER, turn(TEXT), USER]


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
    """A message with calls has `tool_use` unless it is incomplete, one without never has, and every reason is a known one."""
    assert stop_reason(reason, calls=calls) == wanted


def test_a_whole_response():
    """A response loses foreign thinking and gets its stop reason; an unchanged one is the same object."""
    response = {"type": "message", "content": [SIGNED, TEXT, call()], "stop_reason": "end_turn"}
    assert returned_response(response, STRICT) == response | {"content": [TEXT, call()], "stop_reason": "tool_use"}
    for same in ({"content": [TEXT], "stop_reason": "end_turn"}, {"content": "words"}, {"type": "error", "error": {}}):
        assert returned_response(same, STRICT) is same


def test_an_id_that_the_conversation_has():
    """A call gets a new id if the conversation or the response already has its id, because some servers reuse ids."""
    said = {"content": [call("call_0"), call("call_0"), call("call_1")], "stop_reason": "tool_use"}
    ids = [block["id"] for block in returned_response(said, STRICT, ["call_0"])["content"]]
    assert len({*ids, "call_0"}) == 4
    assert ids[2] == "call_1"
