"""proxy/outcome.py: what became of an attempt."""

import pytest

from claude_proxy.anthropic.errors import Refusal, own_refusal
from claude_proxy.proxy.outcome import DONE, Outcome, failed

REFUSAL = own_refusal(503, "no luck")


def test_a_response_that_has_left():
    """Who has a response gets no other: the attempt is done, and nothing follows it."""
    assert (DONE.done, DONE.final, DONE.status, DONE.refusal) == (True, True, 200, None)


def test_an_attempt_that_has_sent_nothing():
    """A failed attempt has an error that another target may spare the client, unless it is said to be final."""
    assert failed(503, REFUSAL) == Outcome(503, REFUSAL, final=False)
    assert failed(503, REFUSAL, final=True) == Outcome(503, REFUSAL, final=True)
    assert not failed(503, REFUSAL, final=True).done
    assert failed(429, REFUSAL, of_pool=True).of_pool


def test_the_status_is_the_attempt_s():
    """Retries go by what happened, which need not be what the client is sent."""
    assert (failed(502, REFUSAL).status, failed(502, REFUSAL).refusal.status) == (502, 503)


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


@pytest.mark.parametrize(
    ("outcome", "why"),
    [
        (DONE, ""),
        (failed(503, REFUSAL), "HTTP 503 overloaded_error"),
        (failed(502, REFUSAL, cause="no response in time"), "no response in time"),
        (failed(429, REFUSAL, of_pool=True), "no usable credential"),
        (failed(502, Refusal(200, [], b"", whole=False)), "the response broke off"),
        (failed(404, own_refusal(404, "secret words", reason="unknown_model")), "HTTP 404 unknown_model"),
    ],
)
def test_why_an_attempt_failed(outcome, why):
    """The log has the status and the kind of an error, or the proxy's own words; never the error's message."""
    assert outcome.why == why
