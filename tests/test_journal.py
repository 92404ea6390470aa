"""proxy/journal.py: what was tried for a request, in order."""

from claude_proxy.anthropic.usage import StreamSummary, Usage
from claude_proxy.config.deployments import Lane
from claude_proxy.providers.endpoints import Provider
from claude_proxy.proxy.journal import MAX_ATTEMPTS, Journal
from claude_proxy.usage.record import AttemptRecord


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


def test_a_failover_has_its_cause():
    """It has the reason of the attempt before it, once, in parentheses."""
    journal = Journal()
    journal.begin(Provider.CLAUDE, "anthropic/claude-x")
    for served in ("anthropic/claude-x", "anthropic/glm"):
        journal.cause = "HTTP 529 overloaded_error"
        journal.begin(Provider.CLAUDE, served)
    journal.begin(Provider.OPENAI, "openai/x")
    assert journal.failovers == [
        "anthropic/claude-x: retried (HTTP 529 overloaded_error)",
        "anthropic/claude-x: failed over to anthropic/glm (HTTP 529 overloaded_error)",
        "anthropic/glm: failed over to openai/x",
    ]


def test_only_the_attempt_that_answered_is_counted():
    """What an attempt said that was left for another one is neither the response's usage nor its error."""
    journal = Journal(usage=Usage(1, 1), error="interrupted", labels=["one"])
    journal.begin(Provider.OPENAI, "openai/x")
    assert (journal.usage, journal.error, journal.labels) == (None, "", ["one"])


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def test_attempts_have_targets_reasons_and_times():
    """Each credential and each deployment that was tried is an attempt, with why it failed and how long it took."""
    clock = Clock()
    journal = Journal(clock)
    journal.begin(Provider.CLAUDE, "anthropic/claude-x", "claude-x", Lane.CLAUDE)
    clock.now += 1  # the wait for a credential is a part of the attempt with it
    journal.use("anna")
    clock.now += 2
    journal.leave("anna", "limit reached: 5h (HTTP 429)")
    journal.use("berta")
    clock.now += 4
    journal.fail("overloaded (HTTP 529)")
    journal.end("HTTP 529 overloaded_error")
    clock.now += 8  # a pause between two attempts belongs to none
    journal.begin(Provider.OPENAI, "openai/x", "x", Lane.CHAT)
    clock.now += 16
    assert journal.attempts_made("") == (
        AttemptRecord("anna", "limit reached: 5h (HTTP 429)", 3),
        AttemptRecord("berta", "overloaded (HTTP 529)", 4),
        AttemptRecord("openai/x", "", 16),
    )
    assert (journal.lane, journal.labels, journal.failovers) == (
        Lane.CHAT,
        ["anna", "berta"],
        ["anna: limit reached: 5h (HTTP 429)", "anthropic/claude-x: failed over to openai/x (HTTP 529 overloaded_error)"],
    )


def test_an_attempt_without_a_credential():
    """Where no credential can be used, the attempt has the model as its target; what was tried before stays."""
    journal = Journal(Clock())
    journal.begin(Provider.CLAUDE, "anthropic/claude-x")
    journal.use("anna")
    journal.leave("anna", "rejected (HTTP 401)")
    journal.end("no usable credential")
    assert [one[:2] for one in journal.attempts_made("")] == [
        ("anna", "rejected (HTTP 401)"), ("anthropic/claude-x", "no usable credential"),
    ]  # fmt: skip


def test_an_attempt_in_progress_ends_with_the_request():
    """An attempt that nobody ended, such as LiteLLM's own, ends with the next one, or with the request and its reason."""
    journal = Journal(Clock())
    journal.begin(Provider.CLAUDE, "bedrock/claude-x", "claude-x", Lane.LITELLM)
    journal.begin(Provider.CLAUDE, "vertex_ai/claude-x", "claude-x", Lane.LITELLM)
    made = journal.attempts_made("the client disconnected")
    assert [one[:2] for one in made] == [("bedrock/claude-x", ""), ("vertex_ai/claude-x", "the client disconnected")]
    assert journal.attempts_made("again") == made


def test_a_response_that_broke_off_is_a_failed_attempt():
    """An attempt whose response failed after a success status has the response's error."""
    journal = Journal(Clock())
    journal.begin(Provider.OPENAI, "openai/x")
    journal.error = "interrupted"
    journal.end("")
    assert [one[:2] for one in journal.attempts_made("")] == [("openai/x", "interrupted")]


def test_the_number_of_attempts_is_bounded():
    """Of very many attempts the first ones and the last one are kept."""
    journal = Journal(Clock())
    for number in range(3 * MAX_ATTEMPTS):
        journal.begin(Provider.OPENAI, f"openai/{number}")
        journal.end("HTTP 500")
    assert [one.target for one in journal.attempts_made("")] == [
        *(f"openai/{number}" for number in range(MAX_ATTEMPTS - 1)), f"openai/{3 * MAX_ATTEMPTS - 1}",
    ]  # fmt: skip


def test_the_id_of_the_last_response():
    """The id is that of the last provider that responded: Anthropic's header, or the one that most others send."""
    journal = Journal()
    journal.begin(Provider.CLAUDE, "anthropic/claude-x")
    journal.learn_request_id({"x-request-id": "other", "request-id": "req_1"})
    assert journal.request_id == "req_1"
    journal.learn_request_id({"x-amzn-requestid": "of-aws"})
    assert journal.request_id == "of-aws"
    journal.learn_request_id({"x-request-id": "other"})
    assert journal.request_id == "other"
    journal.begin(Provider.OPENAI, "openai/x")
    assert journal.request_id == ""
