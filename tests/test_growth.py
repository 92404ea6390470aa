"""Work on a body is at most linear in its size, measured by ``fuzz.growth``."""

import contextlib
import json
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from claude_proxy.anthropic import messages, token_estimate
from claude_proxy.anthropic.opening import opening_of
from claude_proxy.anthropic.sse import error_of
from claude_proxy.anthropic.usage import usage_of
from claude_proxy.config.model_access import Limits
from claude_proxy.providers import bounds, compatibility, request_fields
from claude_proxy.providers.compatibility import ROWS, STRICT
from claude_proxy.providers.history import fitted_messages
from claude_proxy.providers.returned import returned_response
from claude_proxy.providers.thinking import ThinkingFilter
from claude_proxy.proxy.lanes.claude_lane import renamed
from claude_proxy.proxy.lanes.litellm_lane import body_for_litellm
from claude_proxy.proxy.relay import Renaming
from claude_proxy.proxy.request import Request, parse_body, read_view
from claude_proxy.proxy.rotation import body_for_claude
from claude_proxy.upstream.headers import read, session_of
from fuzz.growth import measured
from fuzz.shapes import SHAPES

NOBODY = read([])
LIMITS = Limits.of({"claude_proxy": {"users": {"anna": {"models": ["m", *(f"glm-{place}" for place in range(20))]}}}})


def assert_linear(of_size: Callable[[int], Callable[[], object]], size: int) -> None:
    """Fail if the work on a larger body is more than linear."""
    found = measured(lambda work: work(), of_size, size)
    assert found.is_linear, found


def on_the_way_in(body: dict[str, Any], raw: bytes) -> None:
    """Do all that the proxy does with a request's body before LiteLLM or an upstream gets it, for any lane."""
    request = Request(NOBODY, [], raw, read_view(raw))
    parsed = parse_body(raw)
    body_for_litellm(request, "m")
    for model in ("m", "other"):
        body_for_claude(request, model)
    messages.without_foreign_thinking(body["messages"])
    messages.repaired(body)
    session_of(NOBODY, request.view.user_id)
    assert opening_of(raw, "anna")
    LIMITS.forbidden("anna", "m", raw)
    token_estimate.input_tokens(parsed, len)
    with contextlib.suppress(bounds.TooLarge):
        bounds.check(body)


def body_of(shape: str, size: int) -> tuple[dict[str, Any], bytes]:
    body = {"model": "m", "max_tokens": 9} | SHAPES[shape](size)
    return body, json.dumps(body).encode()


SIZE = 750
# Rows of which no two are treated alike.
DIFFERENT = ("bedrock", "openai", "gemini", "kimi", "deepseek")


@pytest.mark.parametrize("shape", SHAPES)
def test_reading_a_body(shape):
    """Parsing, counting, checking and reducing a body of each shape is linear."""
    assert_linear(lambda size: partial(on_the_way_in, *body_of(shape, size)), SIZE)


@pytest.mark.parametrize("row", [STRICT, *(row for row in ROWS if row.name in DIFFERENT)], ids=lambda row: row.name)
@pytest.mark.parametrize("shape", SHAPES)
def test_translating_a_body(shape, row):
    """Adapting a history and its tools to a provider is linear for each shape and each row."""

    def translation(size: int) -> Callable[[], object]:
        body, _ = body_of(shape, size)

        def translate() -> None:
            history = fitted_messages(body["messages"], row)
            request_fields.fitted_tools(body.get("tools"), row)
            request_fields.fitted_system(body.get("system"), row)
            request_fields.thinking_parameters(body, history, row)

        return translate

    assert_linear(translation, SIZE)


def answer(size: int, block: dict[str, Any]) -> bytes:
    return json.dumps(
        {"type": "message", "content": [block] * size, "usage": {"output_tokens": size}, "model": "sent"}
    ).encode()


BLOCKS = {
    "calls-that-name-the-model": {"type": "tool_use", "id": "x", "name": "n", "input": {"model": "sent"}},
    "texts": {"type": "text", "text": 'a "model": "sent"'},
    "thinking": {"type": "thinking", "thinking": "x", "signature": "x"},
}


@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
def test_a_whole_answer(block):
    """Renaming a whole response, removing its thinking and counting its tokens is linear."""

    def work(size: int) -> Callable[[], object]:
        raw = answer(size, block)
        whole = json.loads(raw)

        def on_the_way_out() -> None:
            assert b'"model": "asked"' in Renaming(*renamed("asked", "sent")).whole(raw)
            usage_of(raw)
            error_of(raw)
            for row in (STRICT, *ROWS):
                returned_response(whole, row)

        return on_the_way_out

    assert_linear(work, SIZE)


def delta(kind: str, field: str) -> bytes:
    data = {"type": "content_block_delta", "index": 0, "delta": {"type": kind, field: "abcdefgh" * 8}}
    return b"event: content_block_delta\ndata: " + json.dumps(data).encode() + b"\n\n"


START = b'data: {"type":"content_block_start","index":0,"content_block":{"type":"thinking","signature":""}}\n\n'
STREAMS = {
    "signatures": (START, delta("signature_delta", "signature")),
    "texts": (START, delta("text_delta", "text")),
    "lines-of-one-event": (b"", b"data: x\n"),
    "one-line": (b"data: ", b"x" * 64),
    "comments": (b"", b":\n"),
}


@pytest.mark.parametrize(("first", "piece"), STREAMS.values(), ids=STREAMS)
def test_a_stream(first, piece):
    """Events in small pieces take time in proportion to their length, however long one event or block is."""

    def work(size: int) -> Callable[[], object]:
        def pass_on() -> None:
            for editor in (
                ThinkingFilter("m", compatibility.ROWS[-1]),
                ThinkingFilter("m"),
                Renaming(*renamed("asked", "sent")),
            ):
                for chunk in (first, *[piece] * size):
                    editor.feed(chunk)
                editor.finish()

        return pass_on

    assert_linear(work, 1500)
