"""providers/demo.py: the response that is made inside the process."""

import json

import pytest

from claude_proxy.providers import demo

ANSWER = demo.text(["demo", "glm"], {"glm": ("ZAI_API_KEY",)}, 0)


def whole(model="demo"):
    return json.loads(demo.response(model, 100, ANSWER, streams=False))


def events(body):
    """Return an SSE body's events as pairs of name and data."""
    parts = [part.split("\n") for part in body.decode().removesuffix("\n\n").split("\n\n")]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in parts]


@pytest.mark.parametrize(
    ("missing", "size", "says", "says_not"),
    [
        ({"glm": ("A",)}, 0, ["glm: not ready, set A in", "claude-proxy pool add", "Ready models: demo."], []),
        ({"glm": ()}, 0, ["Claude: no credential in the pool.", "Ready models: demo."], ["glm"]),
        ({"glm": ("A", "B")}, 1, ["set A and B", "1 credential in the pool"], ["pool add"]),
        ({}, 3, ["3 credentials in the pool", "Ready models: demo, glm."], ["not ready"]),
        ({"glm": ("A",), "demo": ("B",)}, 0, ["demo: not ready", "Ready models: none."], []),
    ],
    ids=["no-credential", "of-claude", "one-credential", "nothing-missing", "nothing-ready"],
)  # fmt: skip
def test_text(missing, size, says, says_not):
    """The text says that the proxy works, the size of the pool, what each model lacks, and which models are ready."""
    text = demo.text(["demo", "glm"], missing, size)
    assert text.startswith("The proxy works")
    assert all(part in text for part in says)
    assert not any(part in text for part in says_not)


def test_whole():
    """Without ``streams`` the response is a whole message with the requested model name."""
    message = whole("claude-proxy/demo")
    assert message["content"] == [{"type": "text", "text": ANSWER}]
    assert (message["type"], message["role"], message["model"]) == ("message", "assistant", "claude-proxy/demo")
    assert (message["stop_reason"], message["stop_sequence"]) == ("end_turn", None)
    assert min(message["usage"]["input_tokens"], message["usage"]["output_tokens"]) > 0


@pytest.mark.parametrize("size", [0, 4, 4000])
def test_usage_follows_the_sizes(size):
    """Four bytes are one token, and there is at least one."""
    message = json.loads(demo.response("demo", size, ANSWER, streams=False))
    assert message["usage"] == {"input_tokens": max(1, size // 4), "output_tokens": len(ANSWER) // 4}


def test_streaming():
    """With ``streams`` the same text is sent as the events that Claude Code needs, in order."""
    found = events(demo.response("demo", 100, ANSWER, streams=True))
    assert all(name == data["type"] for name, data in found)
    names = [name for name, _ in found]
    assert names == ["message_start", "content_block_start", *["content_block_delta"] * (len(names) - 5), *names[-3:]]
    assert names[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert "".join(data["delta"]["text"] for name, data in found if name == "content_block_delta") == ANSWER
    assert found[0][1]["message"]["content"] == []
    assert found[0][1]["message"]["model"] == "demo"
    assert found[-2][1]["delta"]["stop_reason"] == "end_turn"


def test_ids_are_unique():
    """Every message has its own id, because Claude Code merges turns with the same id."""
    assert whole()["id"] != whole()["id"]


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "streaming"])
def test_no_tool_is_used(streams):
    """The response is text, whatever the request."""
    assert b"tool_use" not in demo.response("demo", 100, ANSWER, streams=streams)
