"""openai/chat_request.py: a Messages request as a chat-completions request."""

import json

import pytest

from claude_proxy.openai.chat_request import FAILED, IN_RESULT, NO_FILE, chat_body, chosen_tools
from claude_proxy.openai.tool_names import names_by_sent, sent_name
from claude_proxy.providers.compatibility import ROWS, STRICT
from claude_proxy.providers.request_fields import translated

ROW = {row.name: row for row in ROWS}
OPENAI, AZURE, VLLM, KIMI, ROUTER, MISTRAL = (
    ROW[name] for name in ("openai", "azure", "vllm", "moonshot", "openrouter-chat", "mistral")
)
HELLO = [{"role": "user", "content": "hi"}]
PDF = {"type": "document", "title": "a b", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBE"}}
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aQ=="}}


def body(row=STRICT, **request):
    request = {"messages": HELLO, "max_tokens": 100} | request
    return chat_body(request, translated(request, row), row, "m")


def use(given="t1", name="Read", **value):
    return {"type": "tool_use", "id": given, "name": name, "input": value}


def result(content, given="t1", **more):
    return {"type": "tool_result", "tool_use_id": given, "content": content, **more}


def answered(*blocks, row=OPENAI):
    history = [*HELLO, {"role": "assistant", "content": [use(a=1)]}, {"role": "user", "content": list(blocks)}]
    return body(row, messages=history)["messages"][2:]


def test_a_conversation():
    """System prompt, text, calls and results each have their role; text alone is one string."""
    history = [*HELLO, {"role": "assistant", "content": [{"type": "text", "text": "one"}, use(a="é")]},
               {"role": "user", "content": [result("done"), {"type": "text", "text": "go on"}]}]  # fmt: skip
    made = body(OPENAI, system=[{"type": "text", "text": "be"}, {"type": "text", "text": "kind"}], messages=history)
    assert made["messages"] == [
        {"role": "system", "content": "be\n\nkind"},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "one", "tool_calls": [
            {"id": "t1", "type": "function", "function": {"name": "Read", "arguments": '{"a": "é"}'}}]},
        {"role": "tool", "tool_call_id": "t1", "content": "done"},
        {"role": "user", "content": "go on"},
    ]  # fmt: skip


def test_tools_that_the_conversation_changes():
    """The tools are those at the end of the conversation: loaded and added ones, without waiting and removed ones."""
    tools = [{"name": name, "input_schema": {"type": "object"}} for name in ("Read", "ToolSearch", "WebFetch", "WebSearch")]
    tools[2] |= {"defer_loading": True}
    tools[3] |= {"defer_loading": True}
    definition = {"type": "tool_definition", "definition": {"name": "Late", "input_schema": {"type": "object"}}}
    history = [
        *HELLO,
        {"role": "assistant", "content": [use(name="ToolSearch")]},
        {"role": "user", "content": [result([{"type": "tool_reference", "tool_name": "WebFetch"}])]},
        {"role": "system", "output_config": {"effort": "low"}, "content": [
            {"type": "tool_removal", "tool": {"type": "tool_reference", "name": "Read"}},
            {"type": "tool_addition", "tool": definition},
            {"type": "text", "text": "as you know"},
        ]},
    ]  # fmt: skip
    made = body(OPENAI, messages=history, tools=tools)
    assert [tool["function"]["name"] for tool in made["tools"]] == ["ToolSearch", "WebFetch", "Late"]
    assert [message["role"] for message in made["messages"]] == ["user", "assistant", "tool", "user"]
    assert made["messages"][2]["content"] == "The tool WebFetch is loaded."
    assert made["messages"][3]["content"] == "<system-reminder>\nas you know\n</system-reminder>"
    assert not {"output_config", "reasoning_effort"} & set(made)


def test_results():
    """The texts of a result stay separate, an error is marked, and images follow in a user message."""
    two = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert answered(result(two)) == [{"role": "tool", "tool_call_id": "t1", "content": "a\n\nb"}]
    assert answered(result("no", is_error=True))[0]["content"] == FAILED + "no"
    tool, user = answered(result([{"type": "text", "text": "a"}, IMAGE]))
    assert (tool["content"], user["role"]) == ("a", "user")
    assert user["content"] == [
        {"type": "text", "text": IN_RESULT}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,aQ=="}},
    ]  # fmt: skip


@pytest.mark.parametrize("place", ["beside", "inside"])
def test_a_pdf(place):
    """A provider that accepts files gets a PDF as a file; any other provider gets a note."""
    blocks = [result("x"), PDF] if place == "beside" else [result([{"type": "text", "text": "x"}, PDF])]
    for row in (OPENAI, AZURE, ROUTER):
        parts = answered(*blocks, row=row)[1]["content"]
        assert parts[-1] == {"type": "file", "file": {"filename": "a b.pdf", "file_data": "data:application/pdf;base64,JVBE"}}
    for row in (STRICT, VLLM):
        assert NO_FILE in json.dumps(answered(*blocks, row=row))


def test_a_text_document():
    """A text document becomes text for every provider."""
    plain = {"type": "document", "title": "notes", "source": {"type": "text", "media_type": "text/plain", "data": "PLAIN"}}
    assert answered(result("x"), plain, row=STRICT)[1]["content"] == "notes:\nPLAIN"


def test_the_limits():
    """Each provider gets its own field name, and no unknown field."""
    asked = {"max_tokens": 9, "temperature": 1, "top_p": 0.5, "top_k": 4, "stop_sequences": ["a", "b", "c", "d", "e"]}
    made = body(OPENAI, **asked)
    assert {name: made.get(name) for name in ("max_completion_tokens", "max_tokens", "temperature", "top_p", "top_k")} == {
        "max_completion_tokens": 9, "max_tokens": None, "temperature": None, "top_p": 0.5, "top_k": None,
    }  # fmt: skip
    assert made["stop"] == ["a", "b", "c", "d"]
    made = body(VLLM, **asked)
    assert (made["max_tokens"], made["top_k"], len(made["stop"])) == (9, 4, 5)


def test_streams():
    """Token counts are requested if the provider supports the field."""
    assert body(OPENAI, stream=True)["stream_options"] == {"include_usage": True}
    assert "stream_options" not in body(MISTRAL, stream=True)
    assert "stream" not in body(OPENAI)


TOOL = {"name": "Read", "description": "reads", "input_schema": {"type": "object", "properties": {"a": {"type": "string"}}}}


@pytest.mark.parametrize(
    ("choice", "made"),
    [
        ({"type": "auto"}, {"tool_choice": "auto"}),
        ({"type": "any"}, {"tool_choice": "required"}),
        ({"type": "none"}, {"tool_choice": "none"}),
        ({"type": "tool", "name": "Read"}, {"tool_choice": {"type": "function", "function": {"name": "Read"}}}),
        ({"type": "auto", "disable_parallel_tool_use": True}, {"tool_choice": "auto", "parallel_tool_calls": False}),
    ],
)
def test_the_choice_of_a_tool(choice, made):
    """Each kind of choice has its keyword, and one call at a time is a separate field."""
    found = body(OPENAI, tools=[TOOL], tool_choice=choice)
    assert {name: found[name] for name in found if name in ("tool_choice", "parallel_tool_calls")} == made


@pytest.mark.parametrize("name", ["llama-cpp", "llamafile", "lm-studio", "ollama"])
def test_a_choice_that_may_not_name_a_tool(name):
    """Only the named tool is sent and a call is required; an unknown name changes nothing else."""
    named = {"tools": [TOOL, TOOL | {"name": "Look"}], "tool_choice": {"type": "tool", "name": "Look"}}
    found = body(ROW[name], **named)
    assert found["tool_choice"] == "required"
    assert [tool["function"]["name"] for tool in found["tools"]] == ["Look"]
    assert "tool_choice" not in body(ROW[name], **named | {"tool_choice": {"type": "tool", "name": "Other"}})
    assert len(body(ROW[name], **named | {"tool_choice": {"type": "any"}})["tools"]) == 2


def test_a_tool():
    """A tool's schema is one that every provider reads: an object, without `$schema` and boolean schemas."""
    odd = {"$schema": "x", "properties": {"a": True, "b": False, "c": {"items": True, "anyOf": [True, {"const": 1}]}},
           "additionalProperties": False}  # fmt: skip
    made = body(OPENAI, tools=[TOOL | {"input_schema": odd}])["tools"][0]
    assert made["function"]["parameters"] == {
        "type": "object", "additionalProperties": False,
        "properties": {"a": {}, "b": {"not": {}}, "c": {"items": {}, "anyOf": [{}, {"const": 1}]}},
    }  # fmt: skip
    assert made["type"] == "function"


def test_too_many_tools():
    """Tools that the conversation has called are kept."""
    tools = [TOOL | {"name": f"t{number}"} for number in range(200)]
    history = [*HELLO, {"role": "assistant", "content": [use(name="t199")]}, {"role": "user", "content": [result("x")]}]
    made = body(OPENAI, tools=tools, messages=history)["tools"]
    assert len(made) == 128
    assert made[-1]["function"]["name"] == "t199"
    assert chosen_tools(tools, history, 0) is tools


@pytest.mark.parametrize("name", ["Read", "mcp__a-b_c", "x" * 65, "with.dot", "ü", "a b"])
def test_names(name):
    """A name is encoded as the provider accepts it, and names stay unique."""
    sent = sent_name(name)
    assert len(sent) <= 64
    assert sent.replace("_", "").replace("-", "").isalnum()
    assert names_by_sent([name]).get(sent, sent) == name
    assert sent_name(name + "!") != sent


def test_structured_outputs():
    """The schema is sent in OpenAI's field."""
    schema = {"type": "object", "properties": {"title": {"type": "string"}}}
    made = body(OPENAI, output_config={"format": {"type": "json_schema", "schema": schema}})
    assert made["response_format"] == {"type": "json_schema", "json_schema": {"name": "response", "schema": schema}}


def test_calls_are_numbered_for_kimi():
    """Ids are numbered through the whole conversation, including results."""
    history = [*HELLO,
               {"role": "assistant", "content": [use("a"), use("b", "Look")]},
               {"role": "user", "content": [result("1", "a"), result("2", "b")]},
               {"role": "assistant", "content": [use("c")]}, {"role": "user", "content": [result("3", "c")]}]  # fmt: skip
    made = body(KIMI, messages=history)["messages"]
    calls = [one["id"] for turn in made for one in turn.get("tool_calls", ())]
    assert calls == ["functions.Read:0", "functions.Look:1", "functions.Read:2"]
    assert [turn["tool_call_id"] for turn in made if turn["role"] == "tool"] == calls


def test_own_thinking_goes_back():
    """Thinking is sent back only to the provider that made it."""
    thought = {"type": "thinking", "thinking": "hm", "signature": "claude-proxy:moonshot:"}
    history = [*HELLO, {"role": "assistant", "content": [thought, use()]}, {"role": "user", "content": [result("x")]}]
    assert body(KIMI, messages=history)["messages"][1]["reasoning_content"] == "hm"
    assert "reasoning_content" not in body(OPENAI, messages=history)["messages"][1]


def test_cache_marks():
    """Cache marks stay if the provider reads them; the content is then a list."""
    marked = [{"type": "text", "text": "be", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]
    assert body(ROUTER, system=marked)["messages"][0]["content"] == [
        {"type": "text", "text": "be", "cache_control": {"type": "ephemeral"}}
    ]
    assert body(OPENAI, system=marked)["messages"][0]["content"] == "be"
