"""providers/demo.py: the answer that is made inside the process."""

import json

import httpx
import pytest

from claude_proxy.providers import demo

ANSWER = demo.text(["demo", "glm"], {"glm": ("ZAI_API_KEY",)}, 0)


def respond(**body):
    request = httpx.Request("POST", "http://demo.invalid/v1/messages", json={"model": "demo", "messages": []} | body)
    return demo.respond(request, ANSWER)


def events(response):
    """Return an SSE body's events as pairs of name and data."""
    parts = [part.split("\n") for part in response.text.removesuffix("\n\n").split("\n\n")]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in parts]


@pytest.mark.parametrize(
    ("missing", "size", "says", "says_not"),
    [
        ({"glm": ("A",)}, 0, ["glm: not ready, set A in", "CLAUDE_OAUTH_TOKENS", "No key is missing for: demo."], []),
        ({"glm": ("A", "B")}, 1, ["set A and B", "1 credential in the pool"], ["CLAUDE_OAUTH_TOKENS"]),
        ({}, 3, ["3 credentials in the pool", "No key is missing for: demo, glm."], ["not ready"]),
        ({"glm": ("A",), "demo": ("B",)}, 0, ["demo: not ready", "No model is ready."], []),
    ],
    ids=["no-credential", "one-credential", "nothing-missing", "nothing-ready"],
)  # fmt: skip
def test_text(missing, size, says, says_not):
    """The answer says that the proxy works, how large the pool is, and for each model which variable it lacks."""
    text = demo.text(["demo", "glm"], missing, size)
    assert text.startswith("The proxy works")
    assert all(part in text for part in says)
    assert not any(part in text for part in says_not)


def test_whole():
    """Without ``stream`` the answer is a whole message that names the model that was asked for."""
    message = respond(model="demo").json()
    assert message["content"] == [{"type": "text", "text": ANSWER}]
    assert (message["type"], message["role"], message["model"]) == ("message", "assistant", "demo")
    assert (message["stop_reason"], message["stop_sequence"]) == ("end_turn", None)
    assert min(message["usage"]["input_tokens"], message["usage"]["output_tokens"]) > 0


def test_streaming():
    """With ``stream`` the same text comes as the events that Claude Code needs, in their order."""
    response = respond(stream=True)
    assert response.headers["content-type"] == "text/event-stream"
    found = events(response)
    assert all(name == data["type"] for name, data in found)
    names = [name for name, _ in found]
    assert names == ["message_start", "content_block_start", *["content_block_delta"] * (len(names) - 5), *names[-3:]]
    assert names[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert "".join(data["delta"]["text"] for name, data in found if name == "content_block_delta") == ANSWER
    assert found[0][1]["message"]["content"] == []
    assert found[0][1]["message"]["model"] == "demo"
    assert found[-2][1]["delta"]["stop_reason"] == "end_turn"


def test_ids_are_unique():
    """Every message has an id of its own: Claude Code merges turns that share one."""
    assert respond().json()["id"] != respond().json()["id"]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streaming"])
def test_tools_are_untouched(stream):
    """With tools in the request the answer is still text, and no tool is used."""
    response = respond(stream=stream, tools=[{"name": "Read", "input_schema": {}}])
    assert response.status_code == 200
    assert "tool_use" not in response.text
