"""providers/summary.py: the table of providers for the documents."""

from claude_proxy.providers.compatibility import ROWS
from claude_proxy.providers.summary import HEADINGS, table


def test_every_row_is_a_line_of_its_own():
    """Each provider has a line, and each line has a cell for each heading."""
    lines = table().splitlines()
    assert len(lines) == len(ROWS) + 3
    assert len({line.split("|")[1] for line in lines}) == len(lines)
    assert {line.count("|") for line in lines} == {len(HEADINGS) + 1}
