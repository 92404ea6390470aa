"""anthropic/token_estimate.py: the estimate of a request's input tokens."""

import pytest

from claude_proxy.anthropic.token_estimate import FRAME_TOKENS, IMAGE_TOKENS, input_tokens

IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "x" * 100_000}}


def words(text):
    return len(text.split())


def user(content):
    return {"messages": [{"role": "user", "content": content}]}


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        ({}, 1),
        (user("one two"), 2 + FRAME_TOKENS),
        (user([{"type": "text", "text": "one two"}, {"type": "text", "text": "three"}]), 3 + 2 * FRAME_TOKENS),
        (user("one") | {"system": "two three"}, 3 + 2 * FRAME_TOKENS),
        (user("one") | {"system": [{"type": "text", "text": "two"}]}, 2 + 2 * FRAME_TOKENS),
        (user([{"type": "tool_result", "tool_use_id": "x", "content": "one"}]), 1 + FRAME_TOKENS),
        (user([{"type": "tool_result", "content": [{"type": "text", "text": "one"}, IMAGE]}]), 1 + FRAME_TOKENS + IMAGE_TOKENS),
        (user([{"type": "tool_use", "input": {"a": "b"}}]), 2 + FRAME_TOKENS),
        (user([{"type": "thinking", "thinking": "one two", "signature": "x"}]), 2 + FRAME_TOKENS),
        (user([IMAGE, IMAGE]), 2 * IMAGE_TOKENS),
        (user([{"type": "document", "source": {"data": "x"}}]), IMAGE_TOKENS),
        (user("one") | {"tools": [{"name": "Read"}]}, 3 + 2 * FRAME_TOKENS),
        (user([None, 1, {"type": "text"}]), 1),
        ({"messages": "one", "system": 7, "tools": "x"}, 1 + FRAME_TOKENS),
    ],
    ids=[
        "nothing", "text", "blocks", "system", "system-blocks", "tool-result", "tool-result-with-image", "tool-use", "thinking",
        "images", "document", "tools", "odd-blocks", "odd-shapes",
    ],
)  # fmt: skip
def test_input_tokens(body, tokens):
    """Texts are counted wherever they are, an image is a fixed number of tokens, and an empty request is no error."""
    assert input_tokens(body, words) == tokens


def test_nesting_is_counted_and_breaks_nothing():
    """Deeply nested content is counted like any other."""
    content = "one two"
    for _ in range(5000):
        content = [{"type": "tool_result", "content": content}]
    assert input_tokens(user(content), words) == 2 + FRAME_TOKENS
