"""litellm/native_ends.py: a provider's own stop reason, read on the way to LiteLLM."""

import json

import httpx
import pytest
from lanes import Received

from claude_proxy.litellm.native_ends import FORMATS, LONGEST
from claude_proxy.litellm.transport import AsyncGuard, ChatTransport
from claude_proxy.proxy.entrance import Entrance, current

pytestmark = pytest.mark.anyio

GEMINI = "/v1beta/models/gemini-x:streamGenerateContent"
CONVERSE = "/model/amazon.nova-x/converse-stream"
OLLAMA, CHAT, RESPONSES = "/api/chat", "/chat/completions", "/v1/responses"
EVENTS = {"content-type": "text/event-stream"}


async def seen(path, *chunks, streams=True, transport=AsyncGuard, headers=None, status=200):
    """Send a client's request, and return its entrance after the response was read."""
    client = Received(json.dumps({"model": "m", "messages": [1], "stream": streams}).encode())
    entrance = Entrance(client.request, client.outlet, client.journal)

    async def streamed():
        for chunk in chunks:
            yield chunk

    token = current.set(entrance)
    try:
        inner = httpx.MockTransport(lambda _: httpx.Response(status, headers=headers, content=streamed()))
        async with httpx.AsyncClient(transport=transport(inner)) as http:
            response = await http.post(f"https://provider.invalid{path}")
            assert response.content == b"".join(chunks)
    finally:
        current.reset(token)
    return entrance


@pytest.mark.parametrize(
    ("path", "chunks", "end", "is_good"),
    [
        (GEMINI, [b'{"finishReason": "STOP"}'], "STOP", True),
        (GEMINI, [b'{"finishRea', b'son" : "MALFORMED_FUNCTION_CALL"}'], "MALFORMED_FUNCTION_CALL", False),
        (GEMINI, [b'{"finishReason":"STOP"}', b'{"finishReason":"SAFETY"}'], "SAFETY", True),
        (GEMINI, [b"{}"], "", False),
        (GEMINI, [json.dumps({"text": '"finishReason":"STOP"'}).encode()], "", False),
        (CONVERSE, [b'\x00\x0b:event-type{"stopReason":"tool_use"}\x00'], "tool_use", True),
        (CONVERSE, [b'{"stopReason":"malformed_tool_use"}'], "malformed_tool_use", False),
        (CONVERSE, [b'{"contentBlockIndex":0}'], "", False),
        (OLLAMA, [b'{"done":false}\n{"done":', b"true}"], "done", True),
        (OLLAMA, [b'{"done":false}\n'], "", False),
        (CHAT, [b'data: {"choices":[{"finish_reason":"stop"}]}\n\n'], "stop", True),
        (CHAT, [b'data: {"choices":[{"finish_reason":null}]}\n\n', b"data: [DONE]\n\n"], "DONE", True),
        (CHAT, [b'data: {"choices":[{"finish_reason":null}]}\n\n'], "", False),
        (RESPONSES, [b'data: {"type":"response.incomplete"}\n\n'], "incomplete", True),
        (RESPONSES, [b'data: {"type":"response.created"}\n\n'], "", False),
    ],
)
async def test_why_a_stream_ended(path, chunks, end, is_good):
    """The format's stop reason is found wherever the chunks are cut; a model's text never matches."""
    entrance = await seen(path, *chunks)
    assert (entrance.native_end, entrance.end_problem() == "") == (end, is_good)


async def test_the_package_of_openai_is_watched_too():
    """The streams of the package ``openai`` have a transport of their own, which is watched too."""
    entrance = await seen(CHAT, b'data: {"choices":[]}\n\n', transport=ChatTransport, headers=EVENTS)
    assert entrance.native_end == ""


@pytest.mark.parametrize(
    ("path", "end"), [(GEMINI.replace("stream", "").replace("G", "g", 1), ""), ("/model/x/converse", ""), (OLLAMA, None)]
)
async def test_a_whole_response(path, end):
    """A whole response is watched only in formats whose stop reasons LiteLLM may not know."""
    assert (await seen(path, b"{}", streams=False)).native_end == end


async def test_who_is_not_watched():
    """Unknown formats and errors are not watched."""
    assert (await seen("/v1/messages", b"{}")).native_end is None
    assert (await seen(GEMINI, b"{}", status=500)).native_end is None


def test_no_word_is_longer_than_what_is_kept():
    """A stop reason that is split between chunks is found."""
    assert all(len(word) < LONGEST // 2 for one in FORMATS for word in one.good)
