"""openai/chat_response.py: a whole chat completion as a message, by the rules for streams."""

import json

import pytest

from claude_proxy.anthropic.usage import Usage
from claude_proxy.openai.chat_response import NoMessage, message_of
from claude_proxy.openai.chat_stream import RequestContext
from claude_proxy.providers.compatibility import ROWS, STRICT

KIMI = next(row for row in ROWS if row.name == "moonshot")


def told(row=STRICT, ids=()):
    return RequestContext("glm", row, lambda: 77, frozenset(ids))


def completion(answer, finish="stop", **more):
    usage = {"prompt_tokens": 100, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 80}}
    return {
        "choices": [{"index": 0, "message": {"role": "assistant"} | answer, "finish_reason": finish}],
        "usage": usage,
    } | more


def call(given, name, arguments):
    return {"id": given, "type": "function", "function": {"name": name, "arguments": arguments}}


def test_a_message():
    """Text and calls keep their order; stop reason, counts and the requested model name are Anthropic's."""
    said = completion({"content": "one", "tool_calls": [call("c1", "Read", '{"a": 1}'), call("c2", "Look", "")]}, "tool_calls")
    made, counted = message_of(said, told())
    assert made["content"] == [
        {"type": "text", "text": "one"},
        {"type": "tool_use", "id": "c1", "name": "Read", "input": {"a": 1}},
        {"type": "tool_use", "id": "c2", "name": "Look", "input": {}},
    ]
    assert (made["model"], made["stop_reason"], made["role"]) == ("glm", "tool_use", "assistant")
    assert made["usage"]["input_tokens"] == 20
    assert counted == Usage(20, 7, 80, 0)


def test_ids_that_are_there_already():
    """A call whose id is already used, in the conversation or in the response, gets a new id."""
    said = completion(
        {"tool_calls": [call("c1", "Read", "{}"), call("c2", "Read", "{}"), call("c2", "Read", "{}")]}, "tool_calls"
    )
    ids = [block["id"] for block in message_of(said, told(ids=["c1"]))[0]["content"]]
    assert len({*ids, "c1"}) == 4


@pytest.mark.parametrize("answer", [{"reasoning_content": "hm", "content": "one"}, {"content": "<think>hm</think>\n\none"}])
def test_thinking(answer):
    """Thinking is removed unless the provider needs its own back."""
    assert [block["type"] for block in message_of(completion(answer), told())[0]["content"]] == ["text"]
    assert [block["type"] for block in message_of(completion(answer), told(KIMI))[0]["content"]] == ["thinking", "text"]


def test_without_counts():
    """Without counts there is an estimate, which is not reported as the provider's."""
    made, counted = message_of(completion({"content": "one"}, usage=None), told())
    assert (made["usage"]["input_tokens"], counted) == (77, None)


def test_no_reason():
    """A whole response without a finish reason is complete."""
    assert message_of(completion({"content": "one"}, None), told())[0]["stop_reason"] == "end_turn"
    calls = {"tool_calls": [call("c1", "Read", "{}")]}
    assert message_of(completion(calls, None), told())[0]["stop_reason"] == "tool_use"


def test_a_refusal_and_parts():
    """A refusal is text with its own stop reason; a list of parts is read as one text."""
    made, _ = message_of(completion({"content": None, "refusal": "I cannot"}, "content_filter"), told())
    assert (made["content"][0]["text"], made["stop_reason"]) == ("I cannot", "refusal")
    made, _ = message_of(completion({"content": [{"type": "text", "text": "o"}, {"type": "text", "text": "ne"}]}), told())
    assert made["content"] == [{"type": "text", "text": "one"}]


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ({}, "api_error"),
        ({"choices": []}, "api_error"),
        ({"error": {"message": "made up", "code": 429}}, "rate_limit_error"),
        (completion({"content": "half"}, "network_error"), "api_error"),
        (completion({"tool_calls": [call("c1", "Read", '{"a')]}, "tool_calls"), "api_error"),
    ],
)
def test_what_is_no_message(said, kind):
    """An invalid response is an error of the reported type."""
    with pytest.raises(NoMessage) as error:
        message_of(said, told())
    assert error.value.kind == kind


def test_a_call_that_was_cut():
    """A response at its length limit keeps its complete blocks."""
    made, _ = message_of(completion({"content": "one", "tool_calls": [call("c1", "Read", '{"a')]}, "length"), told())
    assert (json.dumps(made["content"]), made["stop_reason"]) == ('[{"type": "text", "text": "one"}]', "max_tokens")
