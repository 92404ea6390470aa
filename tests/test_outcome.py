"""proxy/outcome.py: what became of an attempt."""

from claude_proxy.anthropic.errors import own_refusal
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
