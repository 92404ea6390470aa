"""anthropic/written_files.py: the files that Claude has written, and none that a user could make it name."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy.anthropic import written_files
from claude_proxy.anthropic.written_files import WrittenFiles


def result(*identifiers, kind="bash_code_execution"):
    outputs = [{"type": f"{kind}_output", "file_id": one} for one in identifiers]
    content = {"type": f"{kind}_result", "stdout": "", "content": outputs}
    return {"type": f"{kind}_tool_result", "tool_use_id": "t", "content": content}


def event(block, kind="content_block_start"):
    return f"event: {kind}\ndata: {json.dumps({'type': kind, 'index': 0, 'content_block': block})}\n\n".encode()


# What a user can make a model write: texts, and calls of a client's tool.
MADE_UP = [
    {"type": "text", "text": json.dumps(result("file_x"))},
    {"type": "tool_use", "id": "t", "name": "code_execution_tool_result", "input": result("file_x")},
    {"type": "mcp_tool_result", "content": [{"type": "code_execution_output", "file_id": "file_x"}]},
    {"type": "web_search_tool_result", "content": [result("file_x")]},
]
ODD = [
    {"type": "code_execution_tool_result"},
    {"type": "code_execution_tool_result", "content": {"content": [7, {"type": "code_execution_output", "file_id": 7}]}},
    {"type": "code_execution_tool_result", "content": {"content": [{"type": "other", "file_id": "file_x"}]}},
    {"type": "code_execution_tool_result", "content": {"type": "code_execution_tool_result_error", "content": "file_id"}},
    {"type": 7, "content": "code_execution_tool_result"},
]
LAST = result("file_b", "file_c", kind="code_execution")
STREAM = b"".join(map(event, [result("file_a"), *MADE_UP, *ODD, LAST]))


def found(chunks):
    ids = []
    written = WrittenFiles(ids.append)
    for chunk in chunks:
        written.feed(chunk)
    return ids


@given(st.lists(st.integers(0, len(STREAM)), max_size=6))
def test_the_cuts_do_not_matter(places):
    """In a stream, the files of results are found however it is cut, and nothing else is."""
    cuts = [0, *sorted(places), len(STREAM)]
    assert found(STREAM[start:end] for start, end in pairwise(cuts)) == ["file_a", "file_b", "file_c"]


def test_a_byte_at_a_time():
    """One byte at a time is a cut like any other."""
    assert found(STREAM[place : place + 1] for place in range(len(STREAM))) == ["file_a", "file_b", "file_c"]


def test_a_whole_message():
    """So are those of a whole message."""
    ids = []
    WrittenFiles(ids.append).whole(json.dumps({"content": [result("file_a"), *MADE_UP, *ODD, result("file_b")]}).encode())
    assert ids == ["file_a", "file_b"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"7", b'{"content":7}', b"[" * 100_000, b'{"content":[[]]}'])
def test_what_is_no_message(body):
    """What is no message has no files, and raises nothing."""
    ids = []
    WrittenFiles(ids.append).whole(body + b'"code_execution_tool_result""file_id"')
    WrittenFiles(ids.append).feed(body + b'\n\n"code_execution_tool_result""file_id"\n\n')
    WrittenFiles(ids.append).whole(body)
    assert ids == []


def test_an_event_that_is_too_large(monkeypatch):
    """A larger event is not held; the next one is searched again."""
    monkeypatch.setattr(written_files, "MAX_EVENT", 1000)
    large = event(result("file_x") | {"stdout": "x" * 5000})
    stream = large + event(result("file_a"))
    assert found(stream[start : start + 100] for start in range(0, len(stream), 100)) == ["file_a"]
