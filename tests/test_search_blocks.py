"""anthropic/search_blocks.py: the blocks of the proxy's own searches, and their text."""

import pytest
from stream_validator import check_result

from claude_proxy.anthropic import search_blocks
from claude_proxy.anthropic.search_blocks import (
    Page,
    as_text,
    call_block,
    excerpt_of,
    found_words,
    is_own,
    new_id,
    result_block,
)

PAGE = Page("Pears", "https://pears.invalid/a", "ripe: é\n", "2026-11-01")


def test_a_result_and_its_words():
    """A page's fields, including its excerpt, are read back from the block."""
    block = result_block("srvtoolu_cpx_1", [PAGE, PAGE._replace(age="")])
    check_result(block["content"])
    first, second = block["content"]
    assert (first["page_age"], second["page_age"]) == ("2026-11-01", None)
    assert excerpt_of(first) == PAGE.excerpt
    assert found_words(first) == "- Pears: https://pears.invalid/a (2026-11-01)\n  ripe: é\n"


@pytest.mark.parametrize("content", [None, 7, "EqQBSIGNED==", "cpx_", ""])
def test_what_only_anthropic_can_read(content):
    """Of Anthropic's own and of invalid results, title and address are shown."""
    result = {"title": "T", "url": "http://x.invalid", "encrypted_content": content}
    assert excerpt_of(result) == ""
    assert found_words(result) == "- T: http://x.invalid"


def test_an_error():
    """An error is an object with Anthropic's error code."""
    block = result_block("srvtoolu_cpx_1", search_blocks.UNAVAILABLE)
    check_result(block["content"])
    assert block["content"] == {"type": "web_search_tool_result_error", "error_code": "unavailable"}


def test_ids():
    """Each id is unique and recognised as the proxy's."""
    one, two = call_block(new_id()), call_block(new_id())
    assert one["id"] != two["id"]
    assert is_own(one)
    assert is_own(result_block(one["id"], []))


@pytest.mark.parametrize(
    "block",
    [
        {"type": "server_tool_use", "id": "srvtoolu_01", "name": "web_search"},
        {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_01", "content": []},
        {"type": "web_search_tool_result"},
        {"type": "server_tool_use", "id": 7},
        {"type": "tool_use", "id": "srvtoolu_cpx_1"},
        {"type": ["odd"]},
    ],
)
def test_blocks_of_others(block):
    """Anthropic's own searches, and other blocks, are not the proxy's."""
    assert not is_own(block)


@pytest.mark.parametrize(
    ("block", "words"),
    [
        (call_block("srvtoolu_cpx_1") | {"input": {"query": "é"}}, '[web_search: {"query": "é"}]'),
        (result_block("srvtoolu_cpx_1", [Page("A", "http://a.invalid", "ripe")]), "- A: http://a.invalid\n  ripe"),
        (result_block("srvtoolu_cpx_1", []), "(no result)"),
        (result_block("srvtoolu_cpx_1", "unavailable"), "(no result: unavailable)"),
        ({"type": "web_search_tool_result", "tool_use_id": "srvtoolu_cpx_1", "content": [7]}, "(no result)"),
        ({"type": "web_search_tool_result", "tool_use_id": "srvtoolu_cpx_1"}, "(no result)"),
    ],
)
def test_as_text(block, words):
    """A block becomes a text block that is never empty, because Claude rejects an empty one."""
    assert as_text(block) == {"type": "text", "text": words}
