"""A search by the C library finds what Python's own search finds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy import byte_search
from claude_proxy.byte_search import contains

PADDING = st.sampled_from([0, 1, 4095, 4096, 5000])


@pytest.fixture(params=["C library", "Python"])
def _either(request, monkeypatch):
    if request.param == "Python":
        monkeypatch.setattr(byte_search, "_MEMMEM", None)


@pytest.mark.usefixtures("_either")
@pytest.mark.parametrize("size", [0, 10, 4095, 4096, 100_000])
@pytest.mark.parametrize("word", [b'"file_id"', b"\\u00", b"\x00\x00", b"x", b""])
def test_a_word_is_found_wherever_it_stands(word, size):
    """At the start, in the middle, over a NUL byte, at the end; and not where only a part of it stands."""
    rest = b"\x00" + b"-" * size
    for data in (word + rest, rest + word + rest, rest + word, rest, word[:-1], rest + word[:-1]):
        assert contains(data, word) is (word in data)


@given(st.binary(max_size=50), st.binary(max_size=4), PADDING, PADDING)
def test_any_bytes(data, word, before, after):
    """For any bytes, both searches agree."""
    whole = b"a" * before + data + b"b" * after
    assert contains(whole, word) is (word in whole)


def test_this_machine_has_the_c_library():
    """On Linux the fast search is used."""
    assert byte_search._MEMMEM is not None
