"""openai/finish_reasons.py: a chat completion's finish reason as Anthropic's stop reason."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stream_validator import CUT, STOPS

from claude_proxy.openai.finish_reasons import CUT_SHORT, STOP_REASONS, Ending, ending


@pytest.mark.parametrize("word", STOP_REASONS)
@pytest.mark.parametrize("calls", [False, True])
def test_known_words(word, calls):
    """With calls the reason is `tool_use` unless the response is incomplete; without calls it never is. Case is ignored."""
    found = ending(word.upper(), None, calls=calls)
    assert found == ending(word, None, calls=calls)
    assert found.stop_reason in STOPS
    assert (found.stop_reason == "tool_use") == (calls and found.stop_reason not in CUT)


def test_what_cuts_a_response_short():
    """The reasons for an incomplete response are the same everywhere."""
    assert set(CUT_SHORT) == CUT


@pytest.mark.parametrize(
    ("word", "matched", "expected"),
    [
        ("stop", "END", Ending("stop_sequence", "END")),
        ("stop_sequence", None, Ending("stop_sequence")),
        ("stop", "", Ending("end_turn")),
        ("stop", 151645, Ending("end_turn")),
        ("length", "END", Ending("max_tokens")),
    ],
)
def test_a_stop_sequence(word, matched, expected):
    """A stop sequence is reported if the provider names a text, not a token's number."""
    assert ending(word, matched, calls=False) == expected


@given(st.none() | st.integers() | st.lists(st.none()) | st.text(max_size=300))
def test_other_words(word):
    """Any other finish reason is an error with a message of limited length."""
    found = ending(word, None, calls=True)
    if not isinstance(word, str) or word.lower() not in STOP_REASONS:
        assert found.stop_reason == ""
        assert 0 < len(found.problem) < 1200
