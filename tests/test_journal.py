"""proxy/journal.py: what was tried for a request, in order."""

from claude_proxy.anthropic.usage import StreamSummary, Usage
from claude_proxy.providers.endpoints import Provider
from claude_proxy.proxy.journal import Journal


def test_a_request_that_nobody_was_asked_for():
    """Before the first attempt nobody is named and nothing was counted."""
    journal = Journal()
    assert (journal.provider, journal.first_provider, journal.served, journal.attempts) == (None, None, "", 0)
    assert (journal.usage, journal.error, journal.failovers, journal.labels) == (None, "", [], [])


def test_an_attempt_begins_without_the_counts_of_the_one_before():
    """What a failed attempt has reported does not belong to the next one's response."""
    journal = Journal()
    journal.begin(Provider.CLAUDE, "anthropic/claude-x")
    journal.usage, journal.summary, journal.reported, journal.of_client = Usage(1), StreamSummary(), Usage, True
    journal.begin(Provider.OPENAI, "openai/x")
    assert (journal.usage, journal.summary, journal.reported, journal.of_client) == (None, None, None, False)


def test_attempts_are_noted_in_order():
    """A failover names what was left and for what, or that the same was asked again; who was first stays first."""
    journal = Journal()
    for provider, served in (
        (Provider.CLAUDE, "anthropic/claude-x"),
        (Provider.CLAUDE, "anthropic/claude-x"),
        (Provider.ANTHROPIC_FORMAT, "anthropic/glm"),
        (Provider.OPENAI, "openai/x"),
    ):
        journal.begin(provider, served)
    assert journal.failovers == [
        "anthropic/claude-x: retried",
        "anthropic/claude-x: failed over to anthropic/glm",
        "anthropic/glm: failed over to openai/x",
    ]
    assert (journal.provider, journal.first_provider, journal.served) == (Provider.OPENAI, Provider.CLAUDE, "openai/x")
    assert journal.attempts == 4


def test_only_the_attempt_that_answered_is_counted():
    """What an attempt said that was left for another one is neither the response's usage nor its error."""
    journal = Journal(usage=Usage(1, 1), error="interrupted", labels=["one"])
    journal.begin(Provider.OPENAI, "openai/x")
    assert (journal.usage, journal.error, journal.labels) == (None, "", ["one"])
