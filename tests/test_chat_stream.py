"""openai/chat_stream.py: a chat-completions stream as a Messages stream, checked by stream_validator.py."""

import dataclasses
import json

import pytest
from chat_streams import CALLED, SIDE_BY_SIDE, STOP, USAGE, A, B, call, calls, chunk, sse
from hypothesis import given
from hypothesis import strategies as st
from stream_validator import read_events, read_message
from test_growth import assert_linear

from claude_proxy.anthropic.messages import LONGEST_ID, mark, without_foreign_thinking
from claude_proxy.openai.chat_stream import ChatStream, RequestContext
from claude_proxy.providers.call_ids import THOUGHT, original_id
from claude_proxy.providers.compatibility import ROWS, STRICT
from claude_proxy.providers.history import fitted_messages

KIMI = next(row for row in ROWS if row.name == "moonshot")
GEMINI = next(row for row in ROWS if row.name == "gemini")


def told(row=STRICT, *, ids=(), names=None, tokens=77):
    return RequestContext("glm", row, lambda: tokens, frozenset(ids), names or {})


def translated(raw, known=None, *, cuts=()):
    """Return the translation of a stream that arrives in these pieces."""
    stream, out, start = ChatStream(known or told()), b"", 0
    for cut in (*sorted(cuts), len(raw)):
        if cut > start:
            out += stream.feed(raw[start:cut])
            start = cut
    return out + stream.finish()


def message(*chunks, known=None, done=True):
    return read_message(translated(sse(*chunks, done=done), known))


def test_words():
    """Text becomes one block, with the requested model name, the stop reason and the provider's counts."""
    found = message(chunk({"role": "assistant", "content": "one "}), chunk({"content": "two"}), STOP, USAGE)
    assert found["content"] == [{"type": "text", "text": "one two"}]
    assert (found["model"], found["stop_reason"]) == ("glm", "end_turn")
    assert (found["usage"]["input_tokens"], found["usage"]["output_tokens"]) == (100, 7)


@pytest.mark.parametrize("chunks", SIDE_BY_SIDE.values(), ids=SIDE_BY_SIDE)
@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_calls_side_by_side(chunks, size):
    """Each call has its own arguments, in the order of their starts, however the stream is cut."""
    raw = sse(*chunks, CALLED, USAGE)
    found = read_message(translated(raw, cuts=range(size, len(raw), size)))
    assert [(one["name"], one["input"]) for one in found["content"]] == [("Read", json.loads(A)), ("Look", json.loads(B))]
    assert {one["id"] for one in found["content"]} == {"c1", "c2"} or "id" not in str(chunks[0]["choices"][0]["delta"])
    assert found["stop_reason"] == "tool_use"


def test_a_second_call_streams_once_the_first_is_whole():
    """A part that does not have to wait is written immediately."""
    stream = ChatStream(told())
    stream.feed(sse(calls(call(0, A, given="c1", name="Read")), calls(call(1, "", given="c2", name="Look")), done=False))
    out = stream.feed(sse(calls(call(1, '{"x"')), done=False))
    assert [event["delta"]["partial_json"] for event in read_events(out)] == ['{"x"']


@pytest.mark.parametrize("given", ["call_0", "functions.Bash:0", "", "toolu_1"])
def test_an_id_that_the_conversation_has(given):
    """A call whose id is already used gets a new one, like a call without an id."""
    before = message(calls(call(0, "{}", given="functions.Bash:0", name="Bash")), CALLED)["content"][0]["id"]
    known = told(ids=["call_0", "toolu_1", before])
    found = message(calls(call(0, "{}", given=given, name="Bash")), CALLED, known=known)
    assert found["content"][0]["id"] not in known.ids
    assert found["content"][0]["id"]


@pytest.mark.parametrize("apart", [True, False])
def test_geminis_signature_goes_there_and_back(apart):
    """A call's thought signature is in its id, and a long id is shortened for Claude."""
    signature = "s+/=" * 40
    fields = {"provider_specific_fields": {"thought_signature": signature}} if apart else {}
    # LiteLLM puts it behind the id, and says it apart as well, or not.
    given = f"c1{THOUGHT}{signature}"
    found = message(calls(call(0, "{}", given=given, name="Bash", **fields)), CALLED, known=told(GEMINI))["content"][0]
    result = {"type": "tool_result", "tool_use_id": found["id"], "content": "done"}
    history = [
        {"role": "user", "content": "look"}, {"role": "assistant", "content": [found]}, {"role": "user", "content": [result]}
    ]  # fmt: skip
    back = fitted_messages(history, GEMINI)
    assert (back[1]["content"][0]["id"], back[2]["content"][0]["tool_use_id"]) == ("c1", "c1")
    assert back[1]["content"][0]["provider_specific_fields"] == {"signature": signature}
    for made in (fitted_messages(history, STRICT), without_foreign_thinking(history)):
        assert len(made[1]["content"][0]["id"]) <= LONGEST_ID
        assert made[1]["content"][0]["id"] == made[2]["content"][0]["tool_use_id"]


def test_an_id_that_is_taken_keeps_its_signature():
    """The call gets a new id and keeps its signature."""
    known = told(GEMINI, ids=("c1",))
    found = message(calls(call(0, "{}", given=f"c1{THOUGHT}EqSigned", name="Bash")), CALLED, known=known)["content"][0]
    said, _, signature = original_id(found["id"]).partition(THOUGHT)
    assert (said != "c1", signature) == (True, "EqSigned")


def test_a_signed_call():
    """A call's id carries its thought signature, for providers that need it back."""
    signed = {"extra_content": {"google": {"thought_signature": "EqSigned=="}}}
    found = message(calls(call(0, "{}", given="c1", name="Bash", **signed)), CALLED, known=told(GEMINI))
    assert found["content"][0]["id"].startswith("cpx_")


def test_a_name_that_was_spelled_for_the_provider():
    """The original tool name is restored."""
    known = told(names={"mcp__x_1a2b": "mcp__x.with a dot"})
    assert (
        message(calls(call(0, "{}", given="c", name="mcp__x_1a2b")), CALLED, known=known)["content"][0]["name"]
        == "mcp__x.with a dot"
    )


@pytest.mark.parametrize(
    ("reason", "stop"),
    [
        ("stop", "end_turn"), ("eos", "end_turn"), ("length", "max_tokens"), ("content_filter", "refusal"),
        ("sensitive", "refusal"),
        ("model_context_window_exceeded", "model_context_window_exceeded"), ("tool_calls", "end_turn"), ("STOP", "end_turn"),
    ],
)  # fmt: skip
def test_why_it_ended(reason, stop):
    """A known finish reason becomes Anthropic's stop reason."""
    assert message(chunk({"content": "x"}), chunk(finish=reason))["stop_reason"] == stop


@pytest.mark.parametrize(
    "reason", ["network_error", "abort", "insufficient_system_resource", "error", "MALFORMED_FUNCTION_CALL", 7]
)
def test_an_end_that_is_a_failure(reason):
    """An unknown finish reason is an error, so that an incomplete response is not reported as complete."""
    assert message(chunk({"content": "I will now wri"}), chunk(finish=reason))["type"] == "error"


def test_a_stop_sequence():
    """The stop sequence is reported if the provider names it."""
    last = chunk({}, "stop")
    last["choices"][0]["stop_reason"] = "END"
    events = read_events(translated(sse(chunk({"content": "x"}), last)))
    assert events[-2]["delta"] == {"stop_reason": "stop_sequence", "stop_sequence": "END"}


@pytest.mark.parametrize("part", [chunk({"content": "I will now wri"}), calls(call(0, '{"pa', given="c", name="Read"))])
def test_a_stream_without_an_end(part):
    """A stream without a finish reason and [DONE] is an error, whether it has started or not."""
    assert message(part, done=False)["type"] == "error"
    assert message(done=False)["type"] == "error"


def test_done_without_a_reason():
    """[DONE] without a finish reason is a normal end, because some servers send no reason."""
    assert message(chunk({"content": "x"}))["stop_reason"] == "end_turn"


@pytest.mark.parametrize("arguments", ['{"a": 1', '{"a": 1}}', "[1]", "null", '{"a": b}'])
def test_arguments_that_are_no_object(arguments):
    """Invalid arguments end the stream with an error, unless the length limit was reached."""
    assert message(calls(call(0, arguments, given="c", name="Read")), CALLED)["type"] == "error"
    raw = sse(calls(call(0, '{"a": 1', given="c", name="Read")), chunk(finish="length"))
    assert read_message(translated(raw))["stop_reason"] == "max_tokens"


IN_A_CHOICE = {"index": 0, "delta": {}, "finish_reason": "error", "error": {"code": 400, "message": "made up"}}
ERRORS = [
    ({"error": {"message": "made up", "code": 429}}, "rate_limit_error"),
    (chunk({"content": ""}, "error", error={"code": "502", "message": "made up"}), "api_error"),
    ({"error": "made up"}, "api_error"),
    ({"choices": [IN_A_CHOICE]}, "invalid_request_error"),
]


@pytest.mark.parametrize(("error", "kind"), ERRORS)
def test_an_error_inside_a_good_stream(error, kind):
    """The error is the stream's first event, or its last one after content."""
    for before in ([], [chunk({"role": "assistant", "content": ""})], [chunk({"content": "one"})]):
        events = read_events(translated(sse(*before, error, STOP)))
        assert events[-1] == {"type": "error", "error": {"type": kind, "message": "made up"}}
        assert len(events) == 1 or before[-1]["choices"][0]["delta"]["content"]


COUNTED = {"prompt_tokens": 100, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 80}}


@pytest.mark.parametrize(
    "chunks",
    [
        [STOP, chunk(choices=[], usage=COUNTED)],
        [chunk(finish="stop", usage=COUNTED)],
        [{"choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "usage": COUNTED}]}],
        [STOP, {"choices": [], "x_groq": {"usage": COUNTED}}],
        [STOP, chunk(choices=[], usage={"prompt_tokens": 100, "completion_tokens": 7, "prompt_cache_hit_tokens": 80})],
        [STOP, chunk(choices=[], usage={"prompt_tokens": 100, "completion_tokens": 7, "cached_tokens": 80})],
        [STOP, chunk(choices=[], usage=COUNTED), chunk(choices=[], usage={"prompt_tokens": 0, "completion_tokens": 0})],
    ],
)
def test_the_counts(chunks):
    """The counts are the provider's, from any place; cached tokens are not part of the input."""
    usage = message(chunk({"content": "x"}), *chunks)["usage"]
    assert (usage["input_tokens"], usage["cache_read_input_tokens"], usage["output_tokens"]) == (20, 80, 7)


def test_the_first_event_has_a_guess():
    """With a guess, nothing is counted before the end, which has the provider's number or an estimate."""
    known = dataclasses.replace(told(), guess=lambda: 5)
    events = read_events(translated(sse(chunk({"content": "x" * 40}), STOP), known))
    assert [events[0]["message"]["usage"]["input_tokens"], events[-2]["usage"]["input_tokens"]] == [5, 77]


def test_without_counts():
    """Without counts the first and the last event have an estimate."""
    events = read_events(translated(sse(chunk({"content": "x" * 40}), STOP)))
    assert events[0]["message"]["usage"]["input_tokens"] == 77
    assert events[-2]["usage"] == {
        "input_tokens": 77, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 10,
    }  # fmt: skip


THOUGHTS = [
    [chunk({"reasoning_content": "hm"}), chunk({"reasoning_content": "m"}), chunk({"content": "one"})],
    [chunk({"reasoning": "hmm", "content": "one"})],
    [chunk({"content": "<think>hmm</think>\n\none"})],
    [chunk({"content": "\n<th"}), chunk({"content": "ink>hm"}), chunk({"content": "m</thi"}), chunk({"content": "nk>one"})],
]


@pytest.mark.parametrize("chunks", THOUGHTS)
def test_thinking(chunks):
    """Thinking is removed unless the provider needs its own back; then it is marked."""
    assert message(*chunks, STOP)["content"] == [{"type": "text", "text": "one"}]
    thought, text = message(*chunks, STOP, known=told(KIMI))["content"]
    assert thought == {"type": "thinking", "thinking": "hmm", "signature": mark("moonshot", "")}
    assert text == {"type": "text", "text": "one"}


@pytest.mark.parametrize("words", ["<", "<thi", "a <think>b</think>", "</think>x", "<think", "< think>"])
def test_what_is_no_thinking(words):
    """Tags are recognised only at the start and only complete."""
    assert message(chunk({"content": words}), STOP)["content"] == [{"type": "text", "text": words}]


def test_an_answer_of_nothing():
    """An empty response is a valid message."""
    assert message(chunk({"reasoning_content": "hm"}), STOP)["content"] == []
    assert message(chunk({"content": "\n\n"}), STOP)["content"] == []


def test_half_characters():
    """Two halves of a surrogate pair, in two deltas, are unchanged."""
    halves = (b'data: {"choices":[{"delta":{"content":"%b"}}]}\n\n' % half for half in (b"a\\ud83d", b"\\ude00b"))
    assert read_message(translated(sse(*halves, STOP)))["content"][0]["text"] == "a\ud83d\ude00b"


@pytest.mark.parametrize("end", ["\r\n", "\r", "\n"])
def test_lines_of_any_end(end):
    """All line ends, comments and lines that are not JSON are accepted."""
    raw = sse(
        b": OPENROUTER PROCESSING\n\n", chunk({"content": "x"}), b"data: nothing\n\n", b"event: x\ndata: []\n\n", STOP, USAGE
    )
    assert read_message(translated(raw.replace(b"\n", end.encode())))["content"] == [{"type": "text", "text": "x"}]


@pytest.mark.parametrize("end", ["\r\n", "\r", "\n"])
@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_lines_that_are_cut(end, size):
    """A line end may be split between two chunks."""
    raw = sse(b": wait\n\n", chunk({"content": "x"}), STOP, USAGE).replace(b"\n", end.encode())
    assert read_message(translated(raw, cuts=range(size, len(raw), size)))["content"] == [{"type": "text", "text": "x"}]


@pytest.mark.parametrize(
    ("first", "piece"),
    [
        (b"data: ", b"x" * 64),
        (b"", b"data: x\n"),
        (b"", b":\n"),
        (b"", sse(chunk({"content": "x"}), done=False)),
        (b"x", b"\r"),
    ],
    ids=["one-line", "lines-of-one-event", "comments", "words", "returns"],
)
def test_a_long_stream(first, piece):
    """The time is linear in the size, however long one event is."""
    assert_linear(lambda count: lambda: translated_in([first, *[piece] * count]), 2000)


def translated_in(pieces):
    stream = ChatStream(told())
    return b"".join([*(stream.feed(piece) for piece in pieces), stream.finish()])


TEXTS = st.sampled_from(["", " ", "\n", "one", "<think>", "</think>", "tw o", "é", "\ud83d"])
PIECES = st.sampled_from(["", "{", "}", '"a"', ":", "1", "{}", A, B, A[:5], A[5:], "null", "\\"])
DELTAS = st.one_of(
    st.builds(lambda text: chunk({"content": text}), TEXTS),
    st.builds(lambda text: chunk({"reasoning_content": text, "content": None}), TEXTS),
    st.builds(
        lambda each: calls(*each),
        st.lists(
            st.builds(
                lambda index, piece, given, name: call(index, piece, given=given, name=name),
                st.sampled_from([None, 0, 0, 1, 2]),
                PIECES,
                st.sampled_from([None, "c1", "c2", "c 3", ""]),
                st.sampled_from([None, "Read", "Look", ""]),
            ),
            max_size=3,
        ),
    ),
    st.sampled_from([STOP, CALLED, USAGE, chunk(finish="length"), chunk(finish="odd"), {"choices": None}, {"choices": [3]}]),
    st.sampled_from(
        [b": comment\n\n", b"data: [DONE]\n\n", b"data: {\n\n", b"\n\n", b"event: x\n", {"error": {"message": "m"}}]
    ),
)


@given(st.lists(DELTAS, max_size=12), st.booleans(), st.sets(st.integers(0, 2000), max_size=6), st.booleans())
def test_every_stream_is_a_valid_one(chunks, done, cuts, keeps):
    """Whatever a provider sends, the output is a message or ends with an error, and is the same for every cut."""
    raw = sse(*chunks, done=done)
    known = told(KIMI if keeps else STRICT, ids=["c1"])
    whole, cut = translated(raw, known), translated(raw, known, cuts=[place for place in cuts if place < len(raw)])
    read_message(whole)
    assert read_message(cut) is not None
    assert [_without_ids(one) for one in _joined(read_events(whole))] == [
        _without_ids(one) for one in _joined(read_events(cut))
    ]


def _joined(events):
    """Join neighbouring deltas of one block, because only they depend on the chunks."""
    made = []
    for event in events:
        if event["type"] == "content_block_delta" and made and made[-1]["type"] == "content_block_delta":
            kind = next(name for name in event["delta"] if name != "type")
            if event["delta"]["type"] == made[-1]["delta"]["type"]:
                made[-1]["delta"][kind] += event["delta"][kind]
                continue
        made.append(event)
    return made


def _without_ids(event):
    event = json.loads(json.dumps(event))
    if event["type"] == "message_start":
        event["message"]["id"] = ""
    if event.get("content_block", {}).get("type") == "tool_use":
        event["content_block"]["id"] = ""
    return event


def test_calls_are_bounded(monkeypatch):
    """An endless call ends with an error; an endless text continues, because nothing of it is kept."""
    monkeypatch.setattr("claude_proxy.openai.chat_stream.MAX_KEPT", 1000)
    begun, more = calls(call(0, '{"a": "', given="c", name="Read")), calls(call(0, "x" * 200))
    assert message(begun, *[more] * 6)["error"]["message"] == "the provider's calls are too large"
    assert message(begun, *[chunk({"content": "x" * 200})] * 6)["type"] == "error"
    assert len(message(*[chunk({"content": "x" * 200})] * 6, STOP)["content"][0]["text"]) == 1200


@pytest.mark.parametrize("data", [b"{", b'{"choices": [', b'{"choices": "\xff"}'])
def test_half_an_event(data):
    """A broken event is an error, because content may be lost."""
    assert message(chunk({"content": "x"}), b"data: " + data + b"\n\n", STOP)["type"] == "error"
