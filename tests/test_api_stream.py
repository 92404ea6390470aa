"""openai/api_stream.py: streams and whole responses in OpenAI's format, with their usage, errors and ends."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy.anthropic.usage import Usage
from claude_proxy.openai.api_requests import Api
from claude_proxy.openai.api_stream import INTERRUPTED, ClientStream, whole


def event(**data):
    return b"data: " + json.dumps(data).encode() + b"\n\n"


def chunk(content=None, finish=None, **more):
    choice = {"index": 0, "delta": {"content": content} if content else {}, "finish_reason": finish}
    return event(**({"id": "a", "model": "gpt-x", "choices": [choice]} | more))


USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 4}}
LAST = event(id="a", model="gpt-x", choices=[{"index": 0, "delta": {}}], usage=USAGE)
DONE = b"data: [DONE]\n\n"
CHAT = chunk("hel") + chunk("lo") + chunk(finish="stop") + LAST + DONE
COUNTED = Usage(6, 5, 4)
COMPLETED = {
    "id": "resp_1",
    "model": "gpt-x",
    "usage": {"input_tokens": 10, "output_tokens": 5, "input_tokens_details": {"cached_tokens": 4}},
}
RESPONSE = (
    event(type="response.created", sequence_number=0, response={"id": "resp_1", "model": "gpt-x"})
    + event(type="response.output_text.delta", sequence_number=1, delta="hello")
    + event(type="response.completed", sequence_number=2, response=COMPLETED)
    + DONE
)


def read(stream, data, size=None):
    cuts = range(0, len(data), size or len(data) or 1)
    return b"".join(stream.feed(data[cut : cut + (size or len(data))]) for cut in cuts) + stream.finish()


def events(data):
    return [json.loads(one[6:]) for one in data.split(b"\n\n") if one.startswith(b"data: {")]


@pytest.mark.parametrize("size", [1, 7, None])
@pytest.mark.parametrize("shows", [False, True])
def test_a_chat_completion(shows, size):
    """Every event has the requested name; the usage is read, and shown to who asked for it. Cuts make no difference."""
    stream = ClientStream(Api.CHAT, "gpt", shows_usage=shows)
    found = read(stream, CHAT, size)
    assert {one["model"] for one in events(found)} == {"gpt"}
    assert "".join(one["choices"][0]["delta"].get("content", "") for one in events(found)[:2]) == "hello"
    assert [(one["usage"], one["choices"]) for one in events(found) if "usage" in one] == ([(USAGE, [])] if shows else [])
    assert found.endswith(DONE)
    assert (stream.usage, stream.is_final, stream.error) == (COUNTED, True, "")


@pytest.mark.parametrize("size", [1, None])
def test_a_response(size):
    """The events of a response pass with the requested name, and the last one has its usage."""
    stream = ClientStream(Api.RESPONSES, "gpt", shows_usage=False)
    found = events(read(stream, RESPONSE, size))
    assert [one["response"]["model"] for one in found if "response" in one] == ["gpt", "gpt"]
    assert (stream.usage, stream.is_final, stream.error) == (COUNTED, True, "")


@pytest.mark.parametrize("cut", [len(chunk("hel")), len(chunk("hel") + chunk("lo")) + 9, len(CHAT) - len(DONE)])
def test_a_chat_completion_without_an_end(cut):
    """A stream that ends early ends with an error."""
    stream = ClientStream(Api.CHAT, "gpt", shows_usage=False)
    found = read(stream, CHAT[:cut])
    assert "broke off" in events(found)[-1]["error"]["message"]
    assert stream.error


def test_a_response_without_an_end():
    """A response that ends early fails, under its id and the next number."""
    stream = ClientStream(Api.RESPONSES, "gpt", shows_usage=False)
    found = events(read(stream, RESPONSE[: RESPONSE.index(b'data: {"type": "response.completed"')]))
    assert (found[-1]["type"], found[-1]["sequence_number"], found[-1]["response"]["id"]) == ("response.failed", 2, "resp_1")
    assert stream.error == INTERRUPTED


@pytest.mark.parametrize(("api", "data"), [(Api.CHAT, CHAT), (Api.RESPONSES, RESPONSE)])
def test_an_abnormal_stop_reason(api, data):
    """A stream whose provider ended it for no normal reason ends with an error instead of its end."""
    stream = ClientStream(api, "gpt", shows_usage=False, problem=lambda: "the provider ended its response with WRONG")
    found = events(read(stream, data))
    last = found[-1].get("response") or found[-1]
    assert last["error"]["message"] == "the provider ended its response with WRONG"
    assert "response.completed" not in [one.get("type") for one in found]


@pytest.mark.parametrize(
    ("api", "failure"),
    [
        (Api.CHAT, event(error={"message": "litellm.APIError: APIError: slow", "code": "429"})),
        (Api.RESPONSES, event(type="error", message="slow", code="429", error={"message": "slow", "code": "429"})),
        (Api.RESPONSES, event(type="response.failed", response={"error": {"message": "slow", "code": "429"}})),
    ],
)
def test_an_error(api, failure):
    """An error passes in the words of the provider, its status is known, and nothing follows it."""
    stream = ClientStream(api, "gpt", shows_usage=False)
    found = events(read(stream, failure + chunk("more") + DONE))
    assert len(found) == 1
    assert (found[0].get("response") or found[0])["error"]["message"] == "slow"
    assert (stream.error, stream.status, stream.words, stream.has_content) == ("api_error", 429, "slow", False)


PIECES = st.sampled_from([CHAT, RESPONSE, DONE, LAST, b"data: {}\n\n", b"data: [1]\n\n", b": a\n\n", b"data: ", b"\n"])


def joined(pieces):
    """Return a stream whose lines end as LiteLLM's do."""
    return b"".join(pieces).replace(b"\r", b"")


@given(st.sampled_from([Api.CHAT, Api.RESPONSES]), st.lists(PIECES | st.binary(max_size=20), max_size=6).map(joined))
def test_any_stream(api, data):
    """Whatever comes ends with its own end or with an error, and cuts make no difference."""
    streams = [ClientStream(api, "gpt", shows_usage=False) for _ in range(2)]
    one, other = read(streams[0], data), read(streams[1], data, 1)
    assert one.split() == other.split()
    assert streams[0].error or DONE in one or b"response.completed" in one


@pytest.mark.parametrize(
    ("api", "body", "usage"),
    [
        (Api.CHAT, {"model": "gpt-x", "usage": USAGE | {"cost": 7}}, COUNTED),
        (Api.RESPONSES, COMPLETED, COUNTED),
        (Api.EMBEDDINGS, {"model": "e", "usage": {"prompt_tokens": 3, "total_tokens": 3}}, Usage(3)),
        (Api.RESPONSES, {"usage": None}, Usage()),
    ],
)
def test_a_whole_response(api, body, usage):
    """A whole response has the requested name, and its usage is read in the names of its format."""
    found, counted = whole(body, api, "gpt")
    stored = {"store": False} if api is Api.RESPONSES else {}
    assert (json.loads(found), counted) == ({**body, "model": "gpt"} | stored, usage)
