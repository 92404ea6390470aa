"""providers/blocks.py: the text of blocks, and the cache marks that they keep."""

import json

import pytest

from claude_proxy.providers import blocks
from claude_proxy.providers.compatibility import STRICT, Dialect

MARK = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
TEXT = blocks.text_block("words")


@pytest.mark.parametrize(
    ("row", "given", "wanted"),
    [(STRICT, MARK, {}), (Dialect("marks", cache_control=True), MARK, {"cache_control": blocks.EPHEMERAL}), (STRICT, {}, {})],
)
def test_a_cache_mark(row, given, wanted):
    """A cache mark is kept in its plain form, and only for a provider that reads it."""
    assert blocks.with_cache_mark(TEXT, TEXT | given, row) == TEXT | wanted


@pytest.mark.parametrize(
    ("content", "words"),
    [(" words ", "words"), ([TEXT, {"type": "image"}, "odd", TEXT], "words\nwords"), (None, ""), ([], "")],
)
def test_plain_text(content, words):
    """Text is a string or the text of blocks, one line each; anything else is empty."""
    assert blocks.plain_text(content) == words


def test_what_only_anthropic_can_read_is_not_shown():
    """A part as JSON has no encrypted field and no cache mark."""
    assert json.loads(blocks.public_json({"type": "x", "encrypted_content": "E", **MARK})) == {"type": "x"}


def test_the_blocks_of_a_turn():
    """String content is one text block, and results are found among other blocks."""
    result = {"type": "tool_result", "tool_use_id": "a"}
    assert blocks.blocks_of({"content": "words"}) == [TEXT]
    assert blocks.results_of(blocks.blocks_of({"content": [TEXT, result]})) == [result]
