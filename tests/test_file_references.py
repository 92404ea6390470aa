"""anthropic/file_references.py: which files a request refers to, in every form in which Claude would read them."""

import json

import pytest

from claude_proxy.anthropic.file_references import files_named_by, files_named_in, may_name_files

MINE = {"type": "document", "source": {"type": "file", "file_id": "file_a"}}


def request(*content, **more):
    return {"model": "claude-x", "messages": [{"role": "user", "content": [*content]}], **more}


@pytest.mark.parametrize(
    ("body", "files"),
    [
        (request(MINE), {"file_a"}),
        (request({"type": "image", "source": {"type": "file", "file_id": "file_b"}}), {"file_b"}),
        (request({"type": "container_upload", "file_id": "file_c"}), {"file_c"}),
        (request({"type": "tool_result", "tool_use_id": "t", "content": [MINE]}), {"file_a"}),
        (request({"type": "document", "source": {"type": "content", "content": [MINE]}}), {"file_a"}),
        (request(MINE, {"type": "container_upload", "file_id": "file_c"}), {"file_a", "file_c"}),
        # What a model has written for a client's tool, and what Claude has written in a container.
        (request({"type": "tool_use", "id": "t", "name": "n", "input": {"type": "file", "file_id": "file_x"}}), set()),
        (request({"type": "tool_result", "content": [{"type": "code_execution_output", "file_id": "file_x"}]}), set()),
        (request({"type": "text", "text": json.dumps(MINE)}), set()),
        (request({"type": "document", "source": {"type": "file", "file_id": 7}}), set()),
        (request(MINE, tools=[{"name": "n", "input_schema": {"type": "file", "file_id": "file_x"}}]), {"file_a"}),
        ({"messages": "no list"}, set()),
    ],
)
def test_which_files(body, files):
    """Sources and uploads into a container name files; other objects with the same members do not."""
    raw = json.dumps(body).encode()
    assert files_named_in(raw) == files_named_by(body) == files
    assert may_name_files(raw) or not files


@pytest.mark.parametrize(
    "raw",
    [
        b'{"messages":[{"content":[{"type":"container_upload","\\u0066ile_id":"file_a"}]}]}',
        b'{"messages":[{"content":[{"type":"container_upload","fil\\u0065\\u005F\\u0069\\u0064":"file_a"}]}]}',
        b'{"messages":[{"content":[{"type":"text","type":"container_upload","file_id":"file_a"}]}]}',
        b'{"messages":[{"content":[{"type":"container_upload","file_id":"file_a","file_id":"file_a"}]}]}',
        b'{"messages":[{"content":[{"type":"container_upload","file_id":"file_a"}]}],"messages":[]}',
        b'{"messages":[{"content":[{"type":"container_upload","type":"text","file_id":"file_a"}]}]}',
    ],
)
def test_no_form_of_json_hides_a_file(raw):
    """Escaped letters and duplicate names hide no file from the check: Claude may read either value."""
    assert may_name_files(raw)
    assert files_named_in(raw) == {"file_a"}


def test_both_values_of_a_duplicate_name():
    """Of two ids in one object both count."""
    raw = b'{"messages":[{"content":[{"type":"container_upload","file_id":"file_a","file_id":"file_b"}]}]}'
    assert files_named_in(raw) == {"file_a", "file_b"}


def test_an_ordinary_request_is_not_parsed():
    """A text about files, and letters beyond ASCII, are no reason to parse a request."""
    assert not may_name_files(json.dumps(request({"type": "text", "text": "a file_id, \u00e9, and \u4e2d"})).encode())


@pytest.mark.parametrize("raw", [b"", b"{", b'"file_id"', b"[" * 100_000, b"\xff"])
def test_what_is_no_json_names_no_file(raw):
    """A body that Claude could not read either names no file, and raises nothing."""
    assert files_named_in(raw) == frozenset()
