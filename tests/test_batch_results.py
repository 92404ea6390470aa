"""anthropic/batch_results.py: results pass as they are, and are counted only if all of them could be read."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy.anthropic import batch_results
from claude_proxy.anthropic.batch_results import BatchResults


def succeeded(custom_id="a", model="claude-x", **usage):
    counts = {"input_tokens": 10, "output_tokens": 5} | usage
    message = {
        "id": "msg_1",
        "type": "message",
        "model": model,
        "content": [{"type": "text", "text": "\u00e9\n"}],
        "usage": counts,
    }
    return json.dumps({"custom_id": custom_id, "result": {"type": "succeeded", "message": message}}).encode()


ERRORED = b'{"custom_id":"b","result":{"type":"errored","error":{"type":"error","error":{"type":"x","message":"y"}}}}'
EXPIRED = b'{"custom_id": "c", "result": {"type": "expired"}}'
LINES = b"\n".join([succeeded(), ERRORED, EXPIRED, succeeded("d", "claude-y")]) + b"\n"


def passed(chunks, names=None):
    results = BatchResults(lambda model: (names or {}).get(model, model))
    out = b"".join([*map(results.feed, chunks), results.finish()])
    return out, results


@given(st.lists(st.integers(0, len(LINES)), max_size=8))
def test_the_cuts_do_not_matter(places):
    """Whatever the chunks, the bytes are the same, and so are the counts."""
    cuts = [0, *sorted(places), len(LINES)]
    out, results = passed(LINES[start:end] for start, end in pairwise(cuts))
    assert out == LINES
    assert (results.count, [model for model, _ in results.messages]) == (4, ["claude-x", "claude-y"])
    assert results.is_complete


def test_a_byte_at_a_time():
    """One byte at a time is a cut like any other."""
    out, results = passed(LINES[place : place + 1] for place in range(len(LINES)))
    assert (out, results.count, results.is_complete) == (LINES, 4, True)


def test_what_is_counted():
    """A message counts with its tokens; an error, an expired and a canceled request cost nothing."""
    _, results = passed([LINES])
    assert [(usage.input, usage.output) for _, usage in results.messages] == [(10, 5), (10, 5)]


def test_a_model_is_named_as_the_client_did():
    """A line with another name of its model gets that name, and keeps everything else; others keep their bytes."""
    out, _ = passed([LINES], {"claude-y": "mine"})
    *others, last = out.splitlines(keepends=True)
    assert b"".join(others) == LINES[: len(b"".join(others))]
    expected = json.loads(succeeded("d", "claude-y"))
    expected["result"]["message"]["model"] = "mine"
    assert json.loads(last) == expected


@pytest.mark.parametrize(
    "line",
    [
        b"no json",
        b"[]",
        b'{"custom_id":"a"}',
        b'{"result":7}',
        b'{"result":{"type":"succeeded"}}',
        b'{"result":{"type":"succeeded","message":[1]}}',
        b'{"result":{"type":"succeeded","message":{"model":7,"usage":{"input_tokens":1}}}}',
        b'{"result":{"type":"succeeded","message":{"model":"claude-x"}}}',
        b"[" * 100_000,
        b"\xff",
        LINES[:100],
    ],
)
def test_what_cannot_be_read_leaves_and_is_not_counted(line):
    """A line that is no result leaves in its own bytes, and the results are not complete: their cost is not known."""
    out, results = passed([LINES, line])
    assert out == LINES + line
    assert not results.is_complete


def test_results_that_end_in_the_middle():
    """A last line that is cut off is not complete; a last line that only lacks its line end is."""
    whole = LINES[:-1]
    assert not passed([whole[:-1]])[1].is_complete
    assert passed([whole])[1].is_complete


def test_a_line_that_is_too_long(monkeypatch):
    """A longer line than is held back leaves unread; the next line is read again."""
    monkeypatch.setattr(batch_results, "MAX_LINE", 50)
    long = b'{"x":"' + b"y" * 500 + b'"}\n'
    stream = long + EXPIRED[:40] + b"\n" + EXPIRED + b"\n"
    for size in (1, 7, 60, 1000):
        out, results = passed(stream[start : start + size] for start in range(0, len(stream), size))
        assert out == stream
        assert not results.is_complete
