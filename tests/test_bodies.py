"""server/bodies.py: how much memory bodies under way may take, in all and per caller."""

import asyncio
import json
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_proxy.anthropic.errors import Refused
from claude_proxy.server import bodies
from claude_proxy.server.bodies import (
    ANY_SHAPE_BYTES,
    LEAST_BYTES,
    MAX_RATIO,
    MOST_BYTES,
    BodyBudget,
    memory_for_bodies,
    memory_of,
    read_body,
    weigh,
)

SHAPES = [
    b"[],", b"{},", b"1,", b"12345,", b'"ab",', b'"\xf0\x9f\x98\x80",', b'{"a":1},', b'{"a":[]},', b"[[[]]],", b"1.5,",
    b"true,", b'{"type":"text","text":"a"},', b'"\\u0041",', b'{"a":{"b":{"c":[]}}},', b'"' + b"x" * 1000 + b'",',
    b'"' + b"x" * 1000 + "😀".encode() + b'",', b'"' + b"x" * 1000 + b'\\ud83d\\ude00",',
]  # fmt: skip


def taken(raw):
    """The bytes that Python takes for a body that it parses, and for the body."""
    tracemalloc.start()
    value = json.loads(raw)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert value is not None
    return size + len(raw)


@pytest.mark.parametrize("part", SHAPES, ids=range(len(SHAPES)))
def test_the_estimate_is_no_less_than_what_is_taken(part):
    """Whatever a body is made of, it takes no more memory than was estimated before it was parsed."""
    raw = b"[%s1]" % (part * (200_000 // len(part)))
    assert taken(raw) <= memory_of(raw)


VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=20)),
    lambda inner: st.one_of(st.lists(inner, max_size=6), st.dictionaries(st.text(max_size=8), inner, max_size=6)),
    max_leaves=30,
)


@settings(max_examples=50)
@given(VALUES, st.booleans())
def test_the_estimate_holds_for_any_value(value, escaped):
    """So it is for values of any kind inside each other, with their characters as they are or escaped."""
    raw = json.dumps([value] * 200, ensure_ascii=escaped).encode("utf-8", "surrogatepass")
    assert taken(raw) <= memory_of(raw) + 20_000


@pytest.mark.parametrize(
    "text", ["1,2,3,4," * 60_000, "[[{},{}]]" * 50_000, '{\\"a\\":[1]},' * 40_000], ids=["csv", "marks", "json"]
)
def test_brackets_in_a_text_are_no_lists(text):
    """A body that quotes a table or JSON in a text counts as its text."""
    raw = b'{"model":"glm","messages":[{"role":"user","content":"%s"}]}' % text.encode()
    assert memory_of(raw) < 3 * len(raw)


def test_a_text_without_an_end_is_read_once():
    """Half a text costs as much as a whole one, also with quotes escaped in it."""
    assert memory_of(b'{"a":"' + b'\\",[{' * 50_000) > 0


def refusal(budget, caller, amount):
    with pytest.raises(Refused) as refused:
        budget.open(caller).add(amount)
    return refused.value.status, dict(refused.value.headers)


def test_one_caller_takes_half():
    """A caller gets half of the budget at the most, all of them together get it all; who gets none learns when to come back."""
    budget = BodyBudget(100)
    anna, ben = budget.open("anna"), budget.open("ben")
    anna.add(30)
    anna.add(20)
    assert refusal(budget, "anna", 1) == (429, {"retry-after": "5", "connection": "close"})
    ben.add(50)
    assert refusal(budget, "carl", 1)[0] == 429
    with anna:
        pass
    budget.open("carl").add(50)
    assert budget.held == 100


def test_what_is_refused_is_not_taken():
    """A refused body leaves the budget as it was, and a body gives back what it took and no more."""
    budget = BodyBudget(100)
    with budget.open("anna") as body:
        body.add(40)
        with pytest.raises(Refused):
            body.add(20)
        assert budget.held == 40
        body.add(10)
    assert budget.held == 0


def test_a_body_counts_as_what_it_becomes():
    """Once it is whole, a body counts as its estimate."""
    raw = json.dumps({"a": [1] * 1000}).encode()
    budget = BodyBudget(10 * memory_of(raw))
    with budget.open("anna") as body:
        body.add(len(raw))
        body.becomes(memory_of(raw), len(raw))
        assert budget.held == memory_of(raw)


def read_whole(raw, body):
    """Read a body that comes in two parts."""
    parts = [{"body": raw[:9], "more_body": True}, {"body": raw[9:]}]

    async def receive():
        return {"type": "http.request", **parts.pop(0)}

    assert asyncio.run(read_body(receive, body)) == raw


def test_a_small_body_counts_as_its_bytes_until_it_is_parsed():
    """A body that nobody parses takes no memory for its values; it is weighed before they are made, and once."""
    raw = json.dumps({"a": [1] * 1000}).encode()
    budget = BodyBudget(10 * memory_of(raw))
    with budget.open("anna") as body:
        read_whole(raw, body)
        assert budget.held == len(raw)
        weigh(body, raw)
        weigh(body, raw)
        assert budget.held == memory_of(raw)
    assert budget.held == 0


def test_a_large_body_is_weighed_when_it_is_whole(monkeypatch):
    """A body that is searched in a thread counts as its estimate from the beginning, and is not searched again."""
    raw = json.dumps({"a": [1] * 1000}).encode()
    monkeypatch.setattr(bodies, "LARGE", len(raw))
    budget = BodyBudget(10 * memory_of(raw))
    with budget.open("anna") as body:
        read_whole(raw, body)
        assert budget.held == memory_of(raw)
        monkeypatch.setattr(bodies, "memory_of", None)
        weigh(body, raw)
        assert budget.held == memory_of(raw)


def test_what_is_weighed_may_be_refused():
    """A small body whose values the budget does not have is refused before they are made."""
    raw = json.dumps({"a": [1] * 1000}).encode()
    budget = BodyBudget(2 * (memory_of(raw) - 1))
    with budget.open("anna") as body:
        read_whole(raw, body)
        with pytest.raises(Refused) as refused:
            weigh(body, raw)
    assert (refused.value.status, budget.held) == (429, 0)


def test_a_large_body_out_of_proportion_is_refused():
    """A body that would become more than eight times its size is refused once that is much memory, and not before."""
    budget = BodyBudget(1 << 40)
    small, large = b"[%s1]" % (b"[]," * 100_000), b"[%s1]" % (b"[]," * 1_000_000)
    assert memory_of(small) > MAX_RATIO * len(small)
    budget.open("anna").becomes(memory_of(small), len(small))
    assert memory_of(large) > ANY_SHAPE_BYTES
    with pytest.raises(Refused) as refused:
        budget.open("anna").becomes(memory_of(large), len(large))
    assert refused.value.status == 413


@pytest.mark.parametrize(
    ("written", "workers", "expected"),
    [
        ("2147483648", 1, 2147483648 // 4),
        ("2147483648", 4, LEAST_BYTES),
        ("536870912", 1, LEAST_BYTES),
        ("max", 1, None),
        (None, 1, None),
        ("9223372036854771712", 1, None),
    ],
    ids=["two gigabytes", "workers", "little", "no limit", "no file", "no limit in the first version"],
)
def test_the_budget_is_a_share_of_the_memory(tmp_path, written, workers, expected):
    """The budget is a quarter of what the container or the machine has, shared by the workers, within bounds."""
    path = tmp_path / "memory.max"
    if written is not None:
        path.write_text(f"{written}\n", encoding="ascii")
    found = memory_for_bodies(workers, (str(path),))
    assert found == (expected or memory_for_bodies(1, ()))
    assert LEAST_BYTES <= found <= MOST_BYTES
