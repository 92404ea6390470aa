"""proxy/outcome.py: what became of one attempt."""

import pytest

from claude_proxy.anthropic.errors import own_refusal
from claude_proxy.proxy.outcome import DONE, failed


def test_a_response_that_has_left_is_done():
    """An outcome without an error is done, and nothing else may answer."""
    assert DONE.done
    assert DONE.final
    assert DONE.retry_after is None
    assert not failed(529, own_refusal(529, "Overloaded")).done


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("7", 7.0), ("0", 0.0), ("", None), ("soon", None), ("-1", None), ("1.5", None), ("\u0663", None), ("9" * 9, None)],
)
def test_a_provider_says_when_to_ask_again(value, seconds):
    """A whole number of seconds is a time; a date, a text and a number beyond all measure are none."""
    assert failed(529, own_refusal(529, "Overloaded", [("Retry-After", value)])).retry_after == seconds


def test_the_pools_own_time_is_no_providers():
    """Who waits for the end of the pool's limits would ask the same pool again."""
    assert failed(429, own_refusal(429, "x", [("retry-after", "7")]), of_pool=True).retry_after is None
