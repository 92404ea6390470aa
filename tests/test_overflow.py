"""providers/overflow.py: providers' errors for a conversation that is too long, as messages that Claude Code knows."""

import pytest

from claude_proxy.providers.overflow import Overflow, has_no_room, overflow_in

EXCEED = "input length and `max_tokens` exceed context limit: {} + {} > {}, decrease input length or `max_tokens` and try again"
LONG = "prompt is too long: {} tokens > {} maximum"
REQUESTED = (
    "This model's maximum context length is 40960 tokens. However, you requested 44345 tokens (12345 in the messages, "
    "32000 in the completion). Please reduce the length of the messages or completion."
)
ABOUT = (
    "This endpoint's maximum context length is 131072 tokens. However, you requested about 150000 tokens "
    "(100000 of text input, 18000 of tool input, 32000 in the output)."
)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("This model's maximum context length is 40960 tokens and your request has 12345 input tokens (32000 > 40960 - 12345).",
         EXCEED.format(12345, 32000, 40960)),
        (REQUESTED, EXCEED.format(12345, 32000, 40960)),
        ("This model's maximum context length is 128000 tokens. However, your messages resulted in 140000 tokens.",
         LONG.format(140000, 128000)),
        ("request (24071 tokens) exceeds the available context size (8192 tokens), try increasing it",
         LONG.format(24071, 8192)),
        ("prompt token count of 74490 exceeds the limit of 72000", LONG.format(74490, 72000)),
        ("The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
         LONG.format(1200000, 1048576)),
        ("Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length",
         LONG.format(40000, 32768)),
        ("This model's maximum prompt length is 131072 but the request contains 537812 tokens.", LONG.format(537812, 131072)),
        (ABOUT, EXCEED.format(99073, 32000, 131072)),
        ("prompt is too long: 210000 tokens > 200000 maximum", LONG.format(210000, 200000)),
        ("input length and `max_tokens` exceed context limit: 12345 + 32000 > 40960, decrease",
         EXCEED.format(12345, 32000, 40960)),
        ("Your input exceeds the context window of this model.", LONG.format(5000, 4999)),
        ("x\ncontext_length_exceeded invalid_request_error", LONG.format(5000, 4999)),
        ("Input is too long for requested model.", LONG.format(5000, 4999)),
    ],
)  # fmt: skip
def test_words(words, sentence):
    """Anthropic's message has the provider's numbers, and an estimate if there are none."""
    assert overflow_in(words).sentence(lambda: 5000, 4000) == sentence


@pytest.mark.parametrize("words", ["made up", "max_tokens: must be at least 1", "the maximum number of tools is 128", ""])
def test_other_errors(words):
    """Other errors are not recognised."""
    assert overflow_in(words) is None


def test_an_estimate_never_says_that_it_fits():
    """The numbers in the message exceed the window, because the provider has rejected the request."""
    assert Overflow(window=8192).sentence(lambda: 100, 4000) == EXCEED.format(4193, 4000, 8192)
    assert Overflow(window=8192).sentence(lambda: 100, None) == LONG.format(8193, 8192)


def test_long_messages_take_no_time():
    """Only the start of a message is searched, because the rest quotes the request."""
    assert overflow_in("maximum context length " * 100_000) is not None
    assert overflow_in("1" * 1_000_000) is None


def test_no_room_for_a_word():
    """OpenAI's reasoning models report this in their own words."""
    assert has_no_room("Could not finish the message because max_tokens or model output limit was reached. Please try again")
    assert not has_no_room("Could not finish")
