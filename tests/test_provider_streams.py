"""The stream of each provider, as provider_streams.py has them, as the same Messages stream, however it is cut."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from provider_streams import LOOK, OUTPUT, PROBLEM, PROMPT, READ, SHAPES, TEXT, THOUGHT
from stream_validator import read_message
from test_chat_stream import told, translated

from claude_proxy.providers.compatibility import ROWS, Thinking

ROW = {row.name: row for row in ROWS}
STREAMS = {f"{name}-{kind}": (shape, kind, raw) for name, shape in SHAPES.items() for kind, raw in shape.streams().items()}
# How each of them ends.
STOPS = {"text": "end_turn", "thought": "end_turn", "cut": "max_tokens", "call": "tool_use", "calls": "tool_use"}
ERRORS = {"error", "error-first"}


def skeleton(shape, kind):
    """Return what a stream is to become, a line for each block."""
    keeps = shape.thought is not None and ROW[shape.row].thinking is not Thinking.NONE
    lines = [f"thinking {''.join(THOUGHT)}"] if keeps and kind in ("thought", "call", "calls") else []
    sources = shape.sources if kind in ("text", "thought") else ""
    lines += [] if kind == "call" else [f"text {''.join(TEXT)}{sources}"]
    called = {"call": (READ,), "calls": (READ, LOOK)}.get(kind, ())
    return [*lines, *(f"tool_use {name} {json.loads(arguments)}" for name, arguments in called)]


def lines_of(message):
    found = []
    for block in message["content"]:
        said = {"thinking": "thinking", "text": "text"}.get(block["type"])
        found.append(f"{block['type']} {block[said] if said else '{name} {input}'.format(**block)}")
    return found


def read(shape, raw, cuts=()):
    return read_message(translated(raw, told(ROW[shape.row]), cuts=cuts))


@pytest.mark.parametrize("size", [1, 7, 1_000_000])
@pytest.mark.parametrize("name", [name for name, (_, kind, _) in STREAMS.items() if kind not in ERRORS])
def test_every_provider_tells_the_same(name, size):
    """Its text, thinking where it wants that back, calls, end and counts, whatever is peculiar to its stream."""
    shape, kind, raw = STREAMS[name]
    found = read(shape, raw, range(size, len(raw), size))
    assert lines_of(found) == skeleton(shape, kind)
    assert found["stop_reason"] == STOPS[kind]
    usage = found["usage"]
    counted = (usage["input_tokens"], usage["cache_read_input_tokens"], usage["output_tokens"])
    assert counted == (PROMPT - shape.cached, shape.cached, OUTPUT)


@pytest.mark.parametrize("name", [name for name, (_, kind, _) in STREAMS.items() if kind in ERRORS])
def test_every_provider_s_error_ends_the_stream(name):
    """In the provider's words, where something was said before as where nothing was."""
    shape, kind, raw = STREAMS[name]
    out = translated(raw, told(ROW[shape.row]))
    assert (b"message_start" in out) == (kind == "error")
    assert read_message(out)["error"]["message"] == PROBLEM


@given(st.sampled_from(sorted(STREAMS)), st.sets(st.integers(0, 8000), max_size=8))
@settings(max_examples=300)
def test_any_cut_tells_the_same(name, cuts):
    """The pieces in which a stream comes show in nothing."""
    shape, _, raw = STREAMS[name]
    whole, cut = read(shape, raw), read(shape, raw, [place for place in cuts if place < len(raw)])
    assert whole | {"id": ""} == cut | {"id": ""}


@pytest.mark.parametrize("name", SHAPES)
def test_an_end_that_is_missing(name):
    """Of a stream that breaks off before it says why it ends, nothing passes for a whole answer."""
    shape, _, raw = STREAMS[f"{name}-text"]
    place = raw.index(b'"finish_reason": "', raw.index(TEXT[1].encode()))
    half = raw[: raw.rindex(b"\n\n", 0, place) + 2]
    assert read(shape, half)["type"] == "error"
