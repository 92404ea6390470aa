"""anthropic/request_view.py: the partly decoded view agrees with the whole body."""

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from claude_proxy.anthropic.messages import ID_PREFIX, MARK, without_foreign_thinking
from claude_proxy.anthropic.request_view import MAX_DEPTH, SMALL_BYTES, RequestView, view
from claude_proxy.anthropic.search_blocks import PREFIX
from claude_proxy.proxy.request import read_view

MANY = settings(max_examples=300)
HELLO = '"messages":[{"role":"user","content":"hi"}]'


def body(**more):
    return {"model": "claude-x", "messages": [{"role": "user", "content": "hi"}]} | more


def dumped(value, **more):
    return json.dumps(value, **more).encode("utf-8", "surrogatepass")


# --- ordinary requests -------------------------------------------------------------------------------------------------------

SIGNATURES = st.sampled_from(["EqQB", "", None, MARK, f"{MARK}glm:s", MARK[:-1], f" {MARK}"])
IDS = st.sampled_from(["toolu_1", "", ID_PREFIX, f"{ID_PREFIX}1", ID_PREFIX + "x" * 60, ID_PREFIX[:-1], f"x{ID_PREFIX}"])
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
BLOCKS = st.one_of(
    st.builds(lambda text: {"type": "text", "text": text}, TEXTS),
    st.builds(lambda text: {"text": text}, TEXTS),
    st.builds(lambda made: {"type": "thinking", "thinking": "t", "signature": made}, SIGNATURES),
    st.just({"type": "thinking", "thinking": "t"}),
    st.builds(lambda data: {"type": "redacted_thinking", "data": data}, SIGNATURES),
    st.just({"type": "redacted_thinking"}),
    st.builds(lambda call: {"type": "tool_use", "id": call, "name": "n", "input": {"id": f"{ID_PREFIX}x"}}, IDS),
    st.builds(lambda call: {"type": "tool_result", "tool_use_id": call, "content": [{"type": "text", "text": "t"}]}, IDS),
    st.builds(lambda call, other: {"type": "tool_result", "tool_use_id": call, "id": other}, IDS, IDS),
    st.builds(lambda call, other: {"type": "tool_use", "tool_use_id": call, "id": other}, IDS, IDS),
)
TURNS = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["user", "assistant", "system"]),
        "content": st.one_of(TEXTS, st.lists(BLOCKS, max_size=4)),
    }
)
SIMPLE = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=5,
)
BODIES = st.fixed_dictionaries(
    {"model": TEXTS.filter(bool), "messages": st.lists(TURNS, min_size=1, max_size=4)},
    optional={
        "stream": st.booleans(),
        "metadata": st.fixed_dictionaries({}, optional={"user_id": st.one_of(st.none(), TEXTS), "more": SIMPLE}),
        "system": SIMPLE,
        "tools": SIMPLE,
        "temperature": st.one_of(st.none(), st.floats(0, 1), st.integers(0, 1)),
        "thinking": SIMPLE,
    },
)
SPELLINGS = st.sampled_from(
    [
        {},
        {"ensure_ascii": False},
        {"separators": (",", ":")},
        {"indent": 1, "sort_keys": True},
        {"separators": (" ,\n", "\t: ")},
    ]
)


def by_json(raw):
    """Return model, stream and user id of the whole body."""
    whole = json.loads(raw)
    user_id = (whole.get("metadata") or {}).get("user_id")
    return whole["model"], whole.get("stream") is True, user_id


@MANY
@given(BODIES, SPELLINGS)
def test_an_ordinary_body_is_read_as_json_reads_it(whole, spelling):
    """Whatever else a body contains and however it is encoded, the view agrees with it."""
    raw = dumped(whole, **spelling)
    found = view(raw)
    assert found is not None
    assert (found.model, found.streams, found.user_id) == by_json(raw)


@MANY
@given(BODIES)
@example(
    {"model": "m", "messages": [{"role": "user", "content": [{"type": "tool_result", "id": "x", "tool_use_id": "cpx_" * 20}]}]}
)
def test_what_needs_no_mending_is_not_changed(whole):
    """A view that needs no rewriting belongs to a history that would not change, and parsing happens only for a reason."""
    found = view(dumped(whole))
    mended = without_foreign_thinking(whole["messages"])
    if not found.needs_rewrite:
        assert mended is whole["messages"]
    elif mended is whole["messages"]:
        # An id that the proxy has spelled, and that is short.
        assert f'"{ID_PREFIX}'.encode() in dumped(whole)


@pytest.mark.parametrize(
    ("role", "block", "needs"),
    [
        ("assistant", {"type": "text", "text": MARK}, False),
        ("assistant", {"type": "thinking", "thinking": "", "signature": "EqQB"}, False),
        ("assistant", {"type": "thinking", "thinking": "t", "signature": ""}, True),
        ("assistant", {"type": "thinking", "thinking": "t"}, True),
        ("assistant", {"type": "thinking", "thinking": "t", "signature": f"{MARK}glm:s"}, True),
        ("user", {"type": "thinking", "thinking": "t"}, False),
        ("assistant", {"type": "redacted_thinking", "data": "EqQB"}, False),
        ("assistant", {"type": "redacted_thinking", "data": f"{MARK}glm:s"}, True),
        ("user", {"type": "redacted_thinking", "data": f"{MARK}glm:s"}, False),
        ("assistant", {"type": "tool_use", "id": "toolu_1", "name": "n", "input": {}}, False),
        ("assistant", {"type": "tool_use", "id": f"{ID_PREFIX}1", "name": "n", "input": {}}, True),
        ("assistant", {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}, False),
        ("assistant", {"type": "server_tool_use", "id": f"{PREFIX}1", "name": "web_search", "input": {}}, True),
        ("assistant", {"type": "web_search_tool_result", "tool_use_id": f"{PREFIX}1", "content": []}, True),
        ("user", {"type": "tool_result", "tool_use_id": f"{ID_PREFIX}1"}, True),
    ],
)
def test_what_needs_rewriting(role, block, needs):
    """Foreign thinking in an assistant turn, and an id of the proxy in any block, need rewriting."""
    history = [{"role": "user", "content": "hi"}, {"role": role, "content": [{"type": "text", "text": "x"}, block]}]
    assert view(dumped(body(messages=history))).needs_rewrite is needs


@pytest.mark.parametrize(
    ("tags", "found"),
    [
        ({}, {}),
        ({"project": "payments", "a": "b"}, {"project": "payments", "a": "b"}),
        (None, {}),
        ({"project": 1}, {}),
        (["project"], {}),
        ([[[[]]]] * 100, {}),
    ],
)
def test_tags(tags, found):
    """Tags are texts by name; whatever else is there counts as tags without a project."""
    assert view(dumped(body(tags=tags))).tags == found
    assert read_view(dumped(body(tags=tags))).tags == found
    assert view(dumped(body())).tags is None


def test_a_view_of_nothing_known_needs_rewriting():
    """A view without information needs rewriting, so the whole body is parsed."""
    assert RequestView("m", streams=False).needs_rewrite


# --- unusual ones ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"{", b"null", b"[]", b'""', b"{}", b"\x00", b"\xff\xfe",
        dumped({"model": "m"}), dumped(body(model="")), dumped(body(model=None)), dumped(body(model=["m"])),
        dumped(body(messages=[])), dumped(body(messages=None)), dumped(body(messages={})), dumped(body(messages="hi")),
        dumped(body(messages=[None])), dumped(body(messages=["hi"])), dumped(body(messages=[{"role": "user"}])),
        dumped(body(messages=[{"content": "hi"}])), dumped(body(messages=[{"role": 1, "content": "hi"}])),
        dumped(body(messages=[{"role": "user", "content": None}])), dumped(body(messages=[{"role": "user", "content": {}}])),
        dumped(body(messages=[{"role": "user", "content": ["hi"]}])),
        dumped(body(messages=[{"role": "assistant", "content": [{"type": ["thinking"]}]}])),
        dumped(body(messages=[{"role": "assistant", "content": [{"type": None}]}])),
        dumped(body(messages=[{"role": "assistant", "content": [{"type": "thinking", "signature": 1}]}])),
        dumped(body(messages=[{"role": "assistant", "content": [{"type": "tool_use", "id": 1}]}])),
        dumped(body(stream="true")), dumped(body(stream=1)), dumped(body(stream=None)),
        dumped(body(metadata="x")), dumped(body(metadata=[])), dumped(body(metadata={"user_id": {}})),
        dumped(body(temperature=float("nan"))), dumped(body(temperature=float("inf"))), dumped(body(x=float("nan"))),
        b'{"model":"m","temperature":1e999,%s}' % HELLO.encode(), b'{"model":"m","top_p":-1e999,%s}' % HELLO.encode(),
        b'{"model":"m","u":%s,%s}' % (b"9" * 4301, HELLO.encode()), b'{"model":"m","u":-%s,%s}' % (b"9" * 9000, HELLO.encode()),
        b'\xef\xbb\xbf{"model":"m",%s}' % HELLO.encode(), dumped(body()).decode().encode("utf-16"),
        dumped(body()).decode().encode("utf-32"), dumped(body()) + b"{}", dumped(body()) + b"\x00", dumped(body())[:-1],
        b'{"model":"m","u":"\xff",%s}' % HELLO.encode(), b'{"model":"m","u":"\xed\xa0\x80",%s}' % HELLO.encode(),
    ],
)  # fmt: skip
def test_an_unusual_body_has_no_view(raw):
    """A member of an unexpected type, invalid JSON, and an unreadable text or number need the whole body."""
    assert view(raw) is None


def nested(depth, wrap=("[", "]"), padding=0):
    return f'{{"model":"m",{HELLO},"u":{wrap[0] * depth}1{wrap[1] * depth},"p":"{"x" * padding}"}}'.encode()


@pytest.mark.parametrize("wrap", [("[", "]"), ('{"a":', "}")])
def test_what_may_be_too_deep_has_no_view(wrap):
    """A small body with few brackets cannot be too deep; a large one is read by a parser with its own limit."""
    # The body, the history and its turn have brackets, too.
    assert view(nested(MAX_DEPTH - 3, wrap)) is not None
    assert view(nested(MAX_DEPTH - 2, wrap)) is None
    assert view(nested(MAX_DEPTH, wrap, SMALL_BYTES)) is not None
    assert view(nested(2_000, wrap, SMALL_BYTES)) is None
    assert view(nested(200_000, wrap)) is None


def test_brackets_in_texts_cost_a_whole_reading_only():
    """Brackets in texts count too, so they may cause a full parse with the same result."""
    assert view(dumped(body(system="[" * (MAX_DEPTH + 1)))) is None


@pytest.mark.parametrize(
    ("raw", "model"),
    [
        (b'{"model":"a","model":"b",%s}', "b"),
        (b'{"model":"a","mode\\u006c":"b",%s}', "b"),
        (b'{"model":"\\u0061\\/\\ud83d\\ude00",%s}', "a/\N{GRINNING FACE}"),
        (b' \r\n\t{"model":"a",%s} \n', "a"),
        (b'{"__proto__":{},"Model":"b","model":"a",%s}', "a"),
    ],
)
def test_a_name_is_read_as_json_reads_it(raw, model):
    """Of a duplicate model name the last one applies in any encoding, because a user's limits are checked by it."""
    whole = raw % HELLO.encode()
    assert json.loads(whole)["model"] == model
    assert view(whole).model == model


@MANY
@given(BODIES, SPELLINGS, st.data())
def test_what_is_changed_at_random_does_not_raise(whole, spelling, data):
    """After random changes there is either a view that agrees with json, or none."""
    raw = bytearray(dumped(whole, **spelling))
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(raw)))
        end = min(len(raw), start + data.draw(st.integers(0, 4)))
        raw[start:end] = data.draw(
            st.one_of(st.binary(max_size=3), st.sampled_from([b'"', b'",', b"{}", b"[", b"}", b":", b"\\"]))
        )
    found = view(bytes(raw))
    if found is None:
        return
    try:
        said = by_json(bytes(raw))
    except ValueError:
        return  # an upstream says so: nothing of it is read here
    assert (found.model, found.streams, found.user_id) == said


@pytest.mark.parametrize(("more", "asks"), [({}, False), ({"safeguards": {"a": [1]}}, True), ({"safeguards": None}, True)])
def test_safeguards(more, asks):
    """A client's request for safeguards is detected, whatever its value."""
    assert view(dumped(body(**more))).safeguards is asks
