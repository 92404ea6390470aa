"""openai/api_requests.py: which fields of a request pass, what is refused, and what its tokens are estimated by."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from claude_proxy.anthropic.errors import Refused
from claude_proxy.openai.api_requests import Api, as_messages, parsed, reduced, wants_usage, written
from claude_proxy.providers.fetching import FetchHosts

HOSTS = FetchHosts(frozenset({"images.example.org"}))
CHAT = {"model": "gpt", "messages": [{"role": "user", "content": "hello"}]}
RESPONSE = {"model": "gpt", "input": "hello"}
# What LiteLLM 1.106.2 acts on, and what a client must not choose.
OF_LITELLM = {
    "api_base": "a", "api_key": "a", "base_url": "a", "cache": {}, "callbacks": ["a"], "custom_llm_provider": "a",
    "drop_params": False, "extra_body": {}, "extra_headers": {}, "fallbacks": ["a"], "guardrails": ["a"],
    "litellm_metadata": {}, "litellm_session_id": "a", "metadata": {}, "mock_response": "a", "num_retries": 9, "prompt_id": "a",
    "store": True, "tags": ["a"], "timeout": 1, "user": "a", "user_config": {},
}  # fmt: skip
NAMES = st.sampled_from(
    [
        "model", "messages", "input", "tools", "type", "function", "mcp", "content", "text", "tool_calls", "image_url", "url",
        "file_data", "file_id", "source", "instructions", "stream", "api_base", "output", "arguments", "previous_response_id",
    ]
)  # fmt: skip
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | NAMES | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)
BODIES = st.dictionaries(NAMES, ANYTHING, max_size=5).map(lambda body: {"model": "gpt", "messages": ["a"], "input": "a"} | body)


def part(**content):
    return {"model": "gpt", "input": [{"role": "user", "content": [content]}]}


def chat_part(**content):
    return {"model": "gpt", "messages": [{"role": "user", "content": [content]}]}


@pytest.mark.parametrize(
    ("raw", "api", "words"),
    [
        (b"{", Api.CHAT, "not JSON"),
        (b"[]", Api.CHAT, "a JSON object"),
        (b'{"messages": []}', Api.CHAT, "model: should be"),
        (b'{"model": ""}', Api.CHAT, "model: should be"),
        (b'{"model": "a\\nb", "messages": [1]}', Api.CHAT, "model: should be"),
        (b'{"model": "a"}', Api.CHAT, "messages: should hold a list"),
        (b'{"model": "a", "messages": "b"}', Api.CHAT, "messages: should hold a list"),
        (b'{"model": "a", "input": []}', Api.RESPONSES, "input: should hold a list or a text"),
        (b'{"model": "a", "input": [NaN]}', Api.EMBEDDINGS, "not JSON"),
        (b'{"model": "a", "input": ' + b"[" * 500 + b"]" * 500 + b"}", Api.RESPONSES, "nested"),
    ],
)
def test_a_body_that_is_none(raw, api, words):
    """A body without a model and a conversation is refused in words."""
    with pytest.raises(Refused, match=words) as caught:
        parsed(raw, api)
    assert caught.value.status == 400


@pytest.mark.parametrize(("api", "body"), [(Api.CHAT, CHAT), (Api.RESPONSES, RESPONSE), (Api.EMBEDDINGS, RESPONSE)])
def test_no_field_of_litellm_passes(api, body):
    """Only fields of OpenAI's API pass; the model and the conversation do."""
    assert reduced({**body, **OF_LITELLM}, api, HOSTS) == body


def test_fields_of_the_api_pass():
    """Parameters, tools and formats pass unchanged, and a stream of chat completions always reports its usage."""
    own = {"temperature": 0.5, "tools": [{"type": "function", "function": {"name": "a"}}], "response_format": {"type": "text"}}
    assert reduced(CHAT | own | {"stream": True, "seed": None}, Api.CHAT, HOSTS) == CHAT | own | {
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    more = {"instructions": "a", "reasoning": {"effort": "low"}, "stream": True, "tools": [{"type": "web_search"}]}
    assert reduced(RESPONSE | more, Api.RESPONSES, HOSTS) == RESPONSE | more


@pytest.mark.parametrize(
    "body",
    [
        RESPONSE | {"previous_response_id": "a"},
        RESPONSE | {"conversation": {"id": "a"}},
        RESPONSE | {"background": True},
        RESPONSE | {"prompt": {"id": "a"}},
        RESPONSE | {"tools": [{"type": "mcp", "server_url": "litellm_proxy"}]},
        RESPONSE | {"tools": [{"type": "namespace", "tools": [{"type": "mcp"}]}]},
        RESPONSE | {"tools": [{"name": "a"}]},
        {"model": "gpt", "input": [{"type": "item_reference", "id": "a"}]},
        {"model": "gpt", "input": [{"type": "additional_tools", "tools": [{"type": "mcp"}]}]},
        part(type="input_file", file_id="a"),
        part(type="input_file", file_url="https://elsewhere.example.org/a"),
        part(type="input_file", file_data="https://images.example.org/a"),
        part(type="input_image", image_url="http://images.example.org/a"),
        part(type="input_image", image_url="data:image/png;base64,http://127.0.0.1/"),
    ],
)
def test_what_a_response_may_not_name(body):
    """Nothing stored can be named, and no URL outside of the list is fetched."""
    with pytest.raises(Refused) as caught:
        reduced(body, Api.RESPONSES, HOSTS)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "body",
    [
        chat_part(type="image_url", image_url={"url": "http://127.0.0.1/"}),
        chat_part(type="image_url", image_url="file:///etc/passwd"),
        chat_part(type="file", file={"file_id": "a"}),
        chat_part(type="file", file={"file_data": "https://127.0.0.1/a"}),
        chat_part(type="input_audio", input_audio={"data": "http://127.0.0.1/a", "format": "wav"}),
        chat_part(type="image", source={"type": "url", "url": "http://127.0.0.1/"}),
        CHAT | {"tools": [{"type": "computer_20250124"}]},
    ],
)
def test_what_a_chat_completion_may_not_name(body):
    """The same for chat completions, in the forms that LiteLLM reads there."""
    with pytest.raises(Refused) as caught:
        reduced(body, Api.CHAT, HOSTS)
    assert caught.value.status == 400


@pytest.mark.parametrize("given", ["gs://bucket/a", ["hello", " GS://bucket/a"], "s3://bucket/a"])
def test_an_address_is_no_text(given):
    """An object of a bucket is not read for embeddings; a text with an address in it is a text."""
    with pytest.raises(Refused, match="not its address"):
        reduced({"model": "e", "input": given}, Api.EMBEDDINGS, HOSTS)
    assert reduced({"model": "e", "input": "see gs://bucket/a"}, Api.EMBEDDINGS, HOSTS)


@pytest.mark.parametrize(
    ("api", "body"),
    [
        (Api.RESPONSES, part(type="input_image", image_url="https://images.example.org/a")),
        (Api.RESPONSES, part(type="input_image", image_url="data:image/png;base64,AAAA")),
        (Api.RESPONSES, part(type="output_text", text="a", annotations=[{"type": "url_citation", "url": "http://a.example"}])),
        (Api.CHAT, chat_part(type="image_url", image_url={"url": "data:image/png;base64,AAAA"})),
        (Api.CHAT, chat_part(type="file", file={"file_data": "data:application/pdf;base64,AAAA"})),
    ],
)
def test_what_may_be_sent(api, body):
    """Contents in the request, and at a host of the list, pass."""
    assert reduced(body, api, HOSTS) == body


def test_tokens_are_estimated_by_the_texts():
    """The texts of instructions, turns, calls and results count; ids and files do not."""
    body = {
        "model": "gpt",
        "instructions": "one",
        "input": [
            {
                "role": "user",
                "content": [{"type": "input_text", "text": "two"}, {"type": "input_image", "image_url": "data:x"}],
            },
            {"type": "function_call", "call_id": "call_1", "arguments": "three"},
            {"type": "function_call_output", "call_id": "call_1", "output": "four"},
        ],
    }
    (turn,) = as_messages(body, Api.RESPONSES)["messages"]
    assert [block["text"] for block in turn["content"]] == ["one", "two", "three", "four"]
    (turn,) = as_messages({"model": "a", "input": [[1, 2, 3]]}, Api.EMBEDDINGS)["messages"]
    assert len(turn["content"][0]["text"]) == len("    " * 3)


@given(st.sampled_from(Api), BODIES)
@example(Api.CHAT, {"model": "a", "messages": [{"tool_calls": 5, "content": {"text": [1]}}]})
def test_any_body(api, body):
    """Whatever a client sends is either reduced to fields of the API or refused; its tokens can be estimated."""
    try:
        found = parsed(json.dumps(body).encode(), api)
        kept = reduced(found, api, HOSTS)
    except Refused:
        return
    assert {*kept} <= {"model", api.value.content, "stream_options", *api.value.fields}
    assert as_messages(found, api)["messages"]
    assert json.loads(written(kept))


def test_who_asks_for_usage():
    """Only ``include_usage`` asks for the usage of a stream."""
    assert wants_usage({"stream_options": {"include_usage": True}})
    assert not any(map(wants_usage, ({}, {"stream_options": None}, {"stream_options": {"include_usage": 1}})))


def test_half_an_emoji():
    """A lone surrogate becomes a question mark."""
    assert json.loads(written({"a": "\ud83d", "b": "é"})) == {"a": "?", "b": "é"}
