"""providers/call_ids.py: call ids that every provider accepts, and their originals."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy.providers.call_ids import original_id, safe_id


@given(st.text())
def test_a_spelled_id_can_be_read_back(name):
    """An encoded id contains the whole original; a plain id is unchanged."""
    assert original_id(safe_id(name)) == name
    assert safe_id(safe_id(name)) in (safe_id(name), safe_id(safe_id(name)))


@pytest.mark.parametrize("odd", ["cpx_!", "cpx_a", "cpx_/w", "cpx_dG9vbHVfMQ"])
def test_an_id_that_only_looks_spelled(odd):
    """An id that only looks encoded is unchanged."""
    assert original_id(odd) == odd
