"""config/picker_rows.py: which Claude model another model is treated as, by its window."""

import pytest

from claude_proxy.config.picker_rows import Row, larger_known, needs_compact_variable, smaller_known

SONNET, OPUS = "claude-sonnet-4-6", "claude-opus-4-8"


@pytest.mark.parametrize(
    ("size", "smaller", "larger", "compacts"),
    [
        (32_000, None, None, False),
        (99_999, None, None, False),
        (100_000, None, SONNET, True),
        (128_000, None, SONNET, True),
        (200_000, SONNET, SONNET, False),
        (200_001, SONNET, OPUS, True),
        (400_000, SONNET, OPUS, True),
        (1_000_000, OPUS, OPUS, False),
        (1_100_000, OPUS, OPUS, False),
    ],
)
def test_the_model_that_a_window_behaves_as(size, smaller, larger, compacts):
    """Only a block's own model behaves as a larger one, and then a variable keeps it within its window of 100,000 or more."""
    assert (smaller_known(size), larger_known(size), needs_compact_variable(size)) == (smaller, larger, compacts)


def test_a_row_as_claude_code_reads_it():
    """A row has `behavesAs` only for a model with a window that a Claude model can have."""
    shown = {"model": "glm", "label": "glm", "description": "Through claude-proxy, 200,000 tokens"}
    assert Row("glm", 200_000, SONNET).fields() == shown | {"behavesAs": SONNET}
    assert Row("glm", 200_000, None).fields() == shown
