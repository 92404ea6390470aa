"""providers/thinking.py: thinking removed from an SSE stream, by properties and examples."""

import json
import re
from itertools import cycle

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from claude_proxy.anthropic.sse import KEEPALIVE
from claude_proxy.providers import compatibility, returned
from claude_proxy.providers import thinking as stream
from claude_proxy.providers.call_ids import safe_id
from claude_proxy.providers.thinking import ThinkingFilter


@pytest.fixture(autouse=True, scope="module")
def _one_new_id():
    """Make every new id the same, so that outputs can be compared."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(returned, "new_id", lambda: "toolu_new")
        yield


LINE_ENDS = ["\n", "\r\n", "\r"]
# The end of a line and the empty line after it. CR and then LF would be one line end, and no end of an event.
ENDS = [(line, empty) for line in LINE_ENDS for empty in LINE_ENDS if (line, empty) != ("\r", "\n")]


def event(data, *, name=None, ends=("\n", "\n")):
    """Return an event as Anthropic writes it."""
    text = data if isinstance(data, str) else json.dumps(data, separators=(",", ":"), ensure_ascii=False)
    name = name or (data["type"] if isinstance(data, dict) else "message")
    line, empty = ends
    return f"event: {name}{line}data: {text}{line}{empty}".encode()


def start(index, kind, **more):
    return {"type": "content_block_start", "index": index, "content_block": {"type": kind, **more}}


def delta(index, kind, **more):
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **more}}


def stop(index):
    return {"type": "content_block_stop", "index": index}


MESSAGE_START = {"type": "message_start", "message": {"id": "msg_1", "model": "glm-5.3", "content": [], "usage": {}}}
CONTENT = {
    "text": ("text_delta", "text"),
    "tool_use": ("input_json_delta", "partial_json"),
    "server_tool_use": ("input_json_delta", "partial_json"),
    "thinking": ("thinking_delta", "thinking"),
    "redacted_thinking": (None, None),
}
THINKING = ("thinking", "redacted_thinking")


def block(index, kind, *texts):
    """Return the events of one block."""
    name, field = CONTENT[kind]
    deltas = [delta(index, name, **{field: text}) for text in texts] if name else []
    if kind == "thinking":
        deltas.append(delta(index, "signature_delta", signature=""))
    named = {"id": f"toolu_{index}"} if kind == "tool_use" else {}
    return [start(index, kind, **named), *deltas, stop(index)]


def message_end(*kinds):
    """Return the end of a message with blocks of these kinds."""
    reason = "tool_use" if "tool_use" in kinds else "end_turn"
    return [{"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {}}, {"type": "message_stop"}]


def message(*kinds):
    """Return the events of a message with blocks of these kinds, each with its place as text."""
    blocks = [block(place, kind, f"{kind} {place}") for place, kind in enumerate(kinds)]
    return [MESSAGE_START, *(each for events in blocks for each in events), *message_end(*kinds)]


def raw(events):
    return b"".join(event(each) for each in events)


def filtered(data, sizes=(), model=None):
    """Return the filter's output for the bytes, cut into chunks of these sizes in turn; in one piece without sizes."""
    thinking = ThinkingFilter(model)
    out = b""
    position = 0
    for size in cycle(sizes) if sizes else [len(data)]:
        out += thinking.feed(data[position : position + size])
        position += size
        if position >= len(data):
            return out + thinking.finish()
    return out + thinking.finish()


def skeleton(data):
    """Return a stream as a few words per event."""
    words = []
    for text in re.split(r"\r\n\r\n|\n\n|\r\r", data.decode()):
        lines = [line.removeprefix("data: ") for line in re.split(r"\r\n|\n|\r", text) if line.startswith("data:")]
        if not lines:
            words += [text] if text else []
            continue
        found = json.loads("\n".join(lines))
        match found["type"]:
            case "message_start":
                words.append(f"message {found['message']['model']}")
            case "content_block_start":
                words.append(f"{found['index']} {found['content_block']['type']}")
            case "content_block_delta":
                _, said = found["delta"].items()
                words.append(f"{found['index']} +{said[1]}")
            case "content_block_stop":
                words.append(f"{found['index']} stop")
            case "message_delta":
                words.append(found["delta"]["stop_reason"])
            case other:
                words.append(other)
    return words


# Examples


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        (["thinking", "text"], ["0 text", "0 +text 1", "0 stop"]),
        (["redacted_thinking", "text"], ["0 text", "0 +text 1", "0 stop"]),
        (["text", "thinking"], ["0 text", "0 +text 0", "0 stop"]),
        (
            ["text", "thinking", "tool_use"],
            ["0 text", "0 +text 0", "0 stop", "1 tool_use", "1 +tool_use 2", "1 stop"],
        ),
        (
            ["thinking", "text", "redacted_thinking", "thinking", "tool_use", "tool_use"],
            [
                "0 text", "0 +text 1", "0 stop", "1 tool_use", "1 +tool_use 4", "1 stop", "2 tool_use",
                "2 +tool_use 5", "2 stop",
            ],
        ),
        (["thinking"], []),
        (["thinking", "redacted_thinking"], []),
        (["text"], ["0 text", "0 +text 0", "0 stop"]),
        ([], []),
    ],
    ids=["first", "redacted", "last", "middle", "many", "only-thinking", "only-both-kinds", "none", "no-block"],
)  # fmt: skip
@pytest.mark.parametrize("sizes", [(), (1,)], ids=["whole", "byte-by-byte"])
def test_thinking_leaves(kinds, expected, sizes):
    """Thinking is removed anywhere, the other blocks are numbered from 0, and the message keeps its start and end."""
    expected = ["message glm-5.3", *expected, "tool_use" if "tool_use" in kinds else "end_turn", "message_stop"]
    assert skeleton(filtered(raw(message(*kinds)), sizes)) == expected


def test_blocks_that_interleave():
    """Events of blocks that are open at the same time belong to their own blocks."""
    events = [
        start(0, "text"), start(1, "thinking"), delta(0, "text_delta", text="a"), start(2, "tool_use"),
        delta(1, "thinking_delta", thinking="x"), delta(2, "input_json_delta", partial_json="{}"), stop(0), stop(2), stop(1),
    ]  # fmt: skip
    assert skeleton(filtered(raw(events))) == ["0 text", "0 +a", "1 tool_use", "1 +{}", "0 stop", "1 stop"]


def test_an_upstream_that_does_not_count_from_0():
    """A block keeps the index of its start, and no two blocks share an index after thinking was removed."""
    events = [
        start(1, "text"), delta(1, "text_delta", text="a"), start(2, "thinking"), delta(1, "text_delta", text="b"), stop(1),
        stop(2), *block(3, "tool_use", "{}"),
    ]  # fmt: skip
    assert skeleton(filtered(raw(events))) == ["1 text", "1 +a", "1 +b", "1 stop", "2 tool_use", "2 +{}", "2 stop"]


def test_an_upstream_that_calls_every_block_0():
    """Duplicate indices of an upstream become unique after thinking was removed."""
    events = [*block(0, "thinking", "x"), *block(0, "text", "a"), *block(0, "tool_use", "{}")]
    expected = ["0 text", "0 +a", "0 stop", "1 tool_use", "1 +{}", "1 stop"]
    assert skeleton(filtered(raw(events))) == expected


def test_a_signature_without_a_thinking_block():
    """A signature on a text block is removed, because a client would report a broken stream."""
    events = [start(0, "text"), delta(0, "signature_delta", signature="s"), delta(0, "text_delta", text="a"), stop(0)]
    assert skeleton(filtered(raw(events))) == ["0 text", "0 +a", "0 stop"]


def test_thinking_in_message_start():
    """Content in ``message_start`` loses its thinking too."""
    found = {"type": "message_start", "message": {"model": "m", "content": [{"type": "thinking"}, {"type": "text"}]}}
    wanted = {"type": "message_start", "message": {"model": "m", "content": [{"type": "text"}]}}
    assert filtered(event(found)) == event(wanted)


@pytest.mark.parametrize("ends", ENDS, ids=repr)
def test_a_rewritten_event_keeps_its_other_lines(ends):
    """Renumbering changes only an event's data: its name, comments, id and line ends stay."""
    line, empty = ends
    thinking = event(start(0, "thinking"), ends=ends)
    lines = json.dumps(stop(1), indent=1).replace("\n", f"{line}data: ")
    before = f": note{line}id: 7{line}event: x{line}data:{lines}{line}retry: 1{line}{empty}"
    opened = event(start(1, "text"), ends=ends)
    after = f': note{line}id: 7{line}event: x{line}data: {{"type":"content_block_stop","index":0}}{line}retry: 1{line}{empty}'
    assert filtered(thinking + opened + before.encode()) == event(start(0, "text"), ends=ends) + after.encode()


UNTOUCHED = [
    b": a comment\n\n",
    b"\n\n\n\n",
    b'event: ping\ndata: {"type": "ping"}\n\n',
    b"event: ping\n\n",
    b"data: [DONE]\n\n",
    b"data:\n\n",
    b"data\n\n",
    b"data: [1,2]\n\n",
    b"data: null\n\n",
    b'data: "thinking"\n\n',
    b"data: {\n\n",
    b'event: error\r\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\r\n\r\n',
    b'data: {"type":"content_block_start"}\n\n',
    b'data: {"type":"content_block_delta","index":"0","delta":null}\n\n',
    b'data: {"type":"content_block_stop","index":99}\n\n',
    b'data: {"type":"message_start","message":null}\n\n',
    b'data: {"type":["content_block_start"],"index":0}\n\n',
    b'data: {"type":"future_event","index":0,"content_block":{"type":"thinking"}}\n\n',
    b"nonsense\n\n",
    b"\xff\xfe\x00\n\n",
    KEEPALIVE,
]  # fmt: skip


@pytest.mark.parametrize("odd", UNTOUCHED, ids=repr)
@pytest.mark.parametrize("sizes", [(), (1,)], ids=["whole", "byte-by-byte"])
def test_events_that_pass(odd, sizes):
    """Comments, pings, ``[DONE]``, errors, unknown events and garbage keep their bytes, between any two events."""
    first, second = event(start(0, "thinking")) + event(stop(0)), raw(message_end())
    assert filtered(odd + first + odd + second + odd, sizes) == odd + odd + second + odd


@pytest.mark.parametrize(
    "odd",
    [
        b'data: {"type":"content_block_start","index":0,"content_block":{"type":[]}}\n\n',
        b'data: {"type":"content_block_delta","index":0,"delta":{"type":{}}}\n\n',
        b'data: {"type":"message_start","message":{"content":[{"type":{}}]}}\n\n',
        b"data: " + b"[" * 100_000 + b"\n\n",
        b"data: 1" + b"0" * 5000 + b"\n\n",
    ],
    ids=["block-type", "delta-type", "content-type", "nested-too-deep", "number-too-long"],
)
def test_garbage_that_once_raised(odd):
    """Unhashable types and JSON that Python rejects are unchanged."""
    assert filtered(odd) == odd


def test_multi_line_data_is_understood():
    """Several ``data:`` lines are one value, so thinking in them is removed as well."""
    lines = json.dumps(start(0, "thinking"), indent=1).split("\n")
    split = "".join(f"data: {line}\n" for line in lines) + "\n"
    assert filtered(split.encode() + event(stop(0)) + raw(message_end())) == raw(message_end())


def test_without_a_space_after_the_colon():
    """The space after ``data:`` is optional."""
    assert filtered(event(start(0, "thinking")).replace(b"data: ", b"data:")) == b""


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x0b", "\x0c", "\x85", "\x1e"], ids=ascii)
def test_characters_that_end_no_line(separator):
    """Only CR, LF and CRLF end a line; Unicode's other separators are text, in unchanged and in rewritten events."""
    said = delta(1, "text_delta", text=f"a{separator}{separator}b")
    out = filtered(raw([*block(0, "thinking", "x"), start(1, "text"), said]))
    assert json.loads(out.rpartition(b"data: ")[2])["delta"]["text"] == f"a{separator}{separator}b"
    if separator > "\x1f":
        assert filtered(event(said)) == event(said)
        assert separator.encode() in out


def test_half_a_character_in_a_rewritten_event():
    """A surrogate pair split between events is forwarded: the output is valid UTF-8 and the same text."""
    halves = [r"\ud83d", r"\ude00"]
    events = [event(each) for each in (*block(0, "thinking", "x"), start(1, "text"))]
    events += [event(json.dumps(delta(1, "text_delta", text="HALF")).replace("HALF", half)) for half in halves]
    out = filtered(b"".join(events)).decode("utf-8")
    texts = [json.loads(line[6:])["delta"]["text"] for line in out.split("\n") if "text_delta" in line]
    assert "".join(texts).encode("utf-16", "surrogatepass").decode("utf-16") == "\N{GRINNING FACE}"


@pytest.mark.parametrize(
    ("model", "named"),
    [("glm", "glm"), ("glm-5.3", "glm-5.3"), (None, "glm-5.3"), ("anthropic/glm", "anthropic/glm")],
    ids=["another", "the-same", "none-asked", "with-a-prefix"],
)
def test_the_model_is_the_one_that_was_asked_for(model, named):
    """``message_start`` gets the client's model name, and is unchanged if it already has it."""
    out = filtered(raw(message("text")), model=model)
    assert skeleton(out)[0] == f"message {named}"
    assert out.partition(b"\n\n")[2] == raw(message("text")).partition(b"\n\n")[2]
    assert (out == raw(message("text"))) == (named == "glm-5.3")


def test_nothing_waits_that_could_be_sent():
    """Every whole event is forwarded with the chunk that ends it."""
    thinking = ThinkingFilter()
    for each in message("text", "tool_use"):
        assert thinking.feed(event(each)) == event(each)
    assert thinking.finish() == b""


@pytest.mark.parametrize(
    ("rest", "out"),
    [
        (b"", b""),
        (b"data: {", b"data: {"),
        (b": note", b": note"),
        (event(delta(1, "text_delta", text="a"))[:-1], event(delta(0, "text_delta", text="a"))[:-1]),
        (event(delta(1, "text_delta", text="a"))[:-2], event(delta(0, "text_delta", text="a"))[:-2]),
        (event(delta(0, "thinking_delta", thinking="x"))[:-2], b""),
        (event(delta(1, "text_delta", text="a"))[:-4], event(delta(1, "text_delta", text="a"))[:-4]),
    ],
    ids=["nothing", "half-json", "comment", "without-empty-line", "without-line-end", "thinking", "half-event"],
)
def test_an_upstream_that_breaks_off(rest, out):
    """What is left when the upstream ends is unchanged, unless it is complete thinking or needs a new index."""
    opened = raw([*block(0, "thinking", "x"), start(1, "text")])
    assert filtered(opened + rest) == event(start(0, "text")) + out


# Thinking that is kept

KIMI = next(row for row in compatibility.ROWS if row.name == "kimi")
BEDROCK = next(row for row in compatibility.ROWS if row.name == "bedrock")


def kept(data, row, sizes=()):
    thinking = ThinkingFilter("glm-5.3", row)
    cut = [data[place : place + 7] for place in range(0, len(data), 7)] if sizes else [data]
    return b"".join(map(thinking.feed, cut)) + thinking.finish()


@pytest.mark.parametrize("sizes", [(), (7,)], ids=["whole", "sevens"])
@pytest.mark.parametrize(
    ("deltas", "signature"),
    [([], ""), (["sig"], "sig"), (["s", "i", "g"], "sig"), ([None], "")],
    ids=["none", "one", "pieces", "null"],
)
def test_kept_thinking_is_signed_before_it_ends(sizes, deltas, signature):
    """The client gets one signature per block, complete and marked, as the block's last delta."""
    said = [start(0, "thinking", thinking="", signature=""), delta(0, "thinking_delta", thinking="hm")]
    signed = [delta(0, "signature_delta", signature=piece) for piece in deltas]
    rest = [stop(0), *block(1, "text", "a"), *message_end()]
    wanted = delta(0, "signature_delta", signature=f"claude-proxy:kimi:{signature}")
    data = raw([MESSAGE_START, *said, *signed, *rest])
    assert kept(data, KIMI, sizes) == raw([MESSAGE_START, *said, wanted, *rest])


def test_kept_redacted_thinking_is_marked():
    """A provider's redacted thinking is marked with the provider, too."""
    found = raw([start(0, "redacted_thinking", data="x"), stop(0)])
    assert kept(found, KIMI) == raw([start(0, "redacted_thinking", data="claude-proxy:kimi:x"), stop(0)])


def test_thinking_of_claude_elsewhere_passes():
    """Signed thinking of Claude on a cloud keeps its bytes."""
    signed = [start(0, "thinking", thinking="", signature=""), delta(0, "signature_delta", signature="EqSigned"), stop(0)]
    data = raw([MESSAGE_START, *signed, start(1, "redacted_thinking", data="Em"), stop(1), *message_end()])
    assert kept(data, BEDROCK) == data


@pytest.mark.parametrize(
    ("kind", "reason", "wanted"),
    [
        ("tool_use", "end_turn", "tool_use"),
        ("tool_use", None, "tool_use"),
        ("text", "tool_use", "end_turn"),
        ("text", "stop", "end_turn"),
    ],
)
def test_the_reason_to_stop_fits_what_was_said(kind, reason, wanted):
    """A stream with a call has `tool_use`, one without never has, and every reason is one of Anthropic's."""
    end = {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}, "usage": {"output_tokens": 1}}
    out = kept(raw([MESSAGE_START, *block(0, kind, "{}"), end]), compatibility.STRICT)
    last = json.loads(out.rpartition(b"data: ")[2])
    assert last == end | {"delta": end["delta"] | {"stop_reason": wanted}}


def test_an_id_that_not_every_provider_takes():
    """A call's id is encoded so that every provider accepts it."""
    out = kept(raw([start(0, "tool_use", id="functions.Read:0", name="Read", input={})]), compatibility.STRICT)
    assert json.loads(out.rpartition(b"data: ")[2])["content_block"]["id"] == safe_id("functions.Read:0")


# Properties

KINDS = st.sampled_from(sorted(CONTENT))
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
NOISE = st.sampled_from(UNTOUCHED)


@st.composite
def streams(draw, kinds=KINDS):
    """Return a well-formed message with noise in it, and the same message without its thinking."""
    whole, without = [], []
    kept = 0
    calls = ()

    def add(found, wanted):
        ends = draw(st.sampled_from(ENDS))
        whole.append(event(found, ends=ends))
        if wanted is not None:
            without.append(event(wanted, ends=ends))
        if draw(st.integers(0, 3)) == 0:
            # Noise that begins with a line end would become a part of a CR before it.
            noise = b": noise\n\n" + draw(NOISE)
            whole.append(noise)
            without.append(noise)

    add(MESSAGE_START, MESSAGE_START)
    for place, (kind, texts) in enumerate(draw(st.lists(st.tuples(kinds, st.lists(TEXTS, max_size=3)), max_size=6))):
        stays = kind not in THINKING
        calls += (kind,)
        for found in block(place, kind, *texts):
            add(found, found | {"index": kept} if stays else None)
        kept += stays
    for each in message_end(*calls):
        add(each, each)
    return b"".join(whole), b"".join(without)


# Pieces from which a generator soon builds what is almost an event.
PIECES = [
    b"\r", b"\n", b"\r\n", b"data:", b"data: ", b"event: x", b":", b"{", b"}", b'"type":', b'"index":', b"0", b"1",
    b",", b"\xff", b"\x00",
    *(event(each)[:-1] for each in message("text", "thinking", "tool_use")),
    *UNTOUCHED,
]  # fmt: skip
GARBAGE = st.one_of(st.binary(max_size=200), st.lists(st.sampled_from(PIECES), max_size=20).map(b"".join))
SIZES = st.lists(st.integers(1, 60), max_size=8)


@given(streams(), SIZES)
def test_any_chunking_gives_the_same_bytes(both, sizes):
    """The output depends on the bytes, not on the chunks, even byte by byte."""
    data, _ = both
    assert filtered(data, sizes) == filtered(data) == filtered(data, (1,))


@given(GARBAGE, SIZES)
@example(b"a\n\r\nb", [3])
@example(b"a\r\r\n\nb", [3])
@example(b"a\r\n\r\ndata: [DONE]\r\n\r\n", [2, 1])
def test_garbage_never_raises(data, sizes):
    """No bytes of an upstream raise, and the chunks do not matter."""
    assert filtered(data, sizes) == filtered(data) == filtered(data, (1,))


@given(streams(st.sampled_from([kind for kind in CONTENT if kind not in THINKING])), SIZES)
def test_no_thinking_means_identical_bytes(both, sizes):
    """A stream without thinking is unchanged."""
    data, _ = both
    assert filtered(data, sizes) == data


@given(streams())
def test_what_stays_is_the_message_without_its_thinking(both):
    """The output is the upstream's message without thinking: indices without gaps, all other bytes unchanged."""
    data, without = both
    assert filtered(data) == without


@given(streams())
def test_filtering_twice_changes_nothing(both):
    """A second pass changes nothing."""
    once = filtered(both[0])
    assert filtered(once) == once


@given(st.one_of(GARBAGE, streams().map(lambda both: both[0])), SIZES, st.integers(4, 80))
def test_memory_is_bounded(data, sizes, limit):
    """At most one event's limit is held back, and the limit does not depend on the chunks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream, "MAX_EVENT_SIZE", limit)
        thinking = ThinkingFilter()
        position = 0
        for size in cycle(sizes or [1]):
            thinking.feed(data[position : position + size])
            assert len(thinking._held) <= limit
            position += size
            if position >= len(data):
                break
        assert filtered(data, sizes) == filtered(data) == filtered(data, (1,))


@pytest.mark.parametrize("sizes", [(), (1,), (7,)], ids=["whole", "byte-by-byte", "sevens"])
def test_an_event_over_the_limit_passes(monkeypatch, sizes):
    """An event that is too large is unchanged, and later events are filtered again."""
    monkeypatch.setattr(stream, "MAX_EVENT_SIZE", 120)
    large = event(delta(0, "thinking_delta", thinking="x" * 200))
    data = event(start(0, "thinking")) + large + event(stop(0)) + event(start(1, "text"))
    assert filtered(data, sizes) == large + event(start(0, "text"))


@pytest.mark.parametrize("ends", ENDS, ids=repr)
@pytest.mark.parametrize("over", range(-2, 7))
def test_an_event_that_ends_at_the_limit(monkeypatch, ends, over):
    """Whether an event is too large depends only on its size, wherever its end and the limit are."""
    monkeypatch.setattr(stream, "MAX_EVENT_SIZE", 150)
    size = len(event(delta(0, "thinking_delta", thinking=""), ends=ends))
    large = event(delta(0, "thinking_delta", thinking="x" * (150 + over - size)), ends=ends)
    data = event(start(0, "thinking"), ends=ends) + large + event(start(1, "text"), ends=ends)
    expected = (large if over > 0 else b"") + event(start(0, "text"), ends=ends)
    assert filtered(data) == filtered(data, (1,)) == filtered(data, (149, 3)) == expected


def test_the_rest_of_a_large_event_is_no_event(monkeypatch):
    """The last lines of an event that is too large belong to that event and are forwarded with it."""
    monkeypatch.setattr(stream, "MAX_EVENT_SIZE", 200)
    large = b": " + b"x" * 210 + b"\n" + event(delta(0, "thinking_delta", thinking="x"))
    assert filtered(large) == filtered(large, (1,)) == filtered(large, (150, 1)) == large


def test_without_an_end_nothing_is_kept_back_for_long(monkeypatch):
    """A stream without an event end is forwarded, except for its last few bytes."""
    monkeypatch.setattr(stream, "MAX_EVENT_SIZE", 100)
    thinking = ThinkingFilter()
    sent = b"".join(thinking.feed(b"x" * 50) for _ in range(100))
    assert 5000 - 100 <= len(sent) <= 5000
    assert sent + thinking.finish() == b"x" * 5000


def test_a_keepalive_is_an_event_of_its_own():
    """A keepalive is one whole event whose type is no content."""
    assert KEEPALIVE.endswith(b"\n\n")
    assert skeleton(KEEPALIVE) == ["gateway_keepalive"]


def test_an_end_that_is_none():
    """If the provider's end is a failure, an error event replaces it, and nothing follows."""
    end = b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"}}\n\n'
    end += b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
    thinking = ThinkingFilter("m", problem=lambda: "it failed")
    out = thinking.feed(end) + thinking.finish()
    assert out.count(b"event: ") == 1
    assert b'"message":"it failed"' in out.replace(b": ", b":")
