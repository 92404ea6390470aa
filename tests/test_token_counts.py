"""openai/token_counts.py: a provider's counts in Anthropic's accounting."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy.anthropic.usage import Usage
from claude_proxy.openai.token_counts import usage_in


@pytest.mark.parametrize(
    ("usage", "counted"),
    [
        ({"prompt_tokens": 10, "completion_tokens": 2}, Usage(10, 2)),
        ({"prompt_tokens": 10, "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 3}}, Usage(3, 0, 4, 3)),
        ({"prompt_tokens": 10, "cached_tokens": 4, "cache_creation_input_tokens": 3}, Usage(3, 0, 4, 3)),
        ({"prompt_tokens": 10, "prompt_cache_hit_tokens": 40}, Usage(0, 0, 10)),
        ({"prompt_tokens": 10, "prompt_tokens_details": None, "completion_tokens": None}, Usage(10)),
        ({"prompt_tokens": True, "completion_tokens": 2.5, "cached_tokens": "4"}, None),
        ({"prompt_tokens": -1, "completion_tokens": 0}, None),
        ([], None),
    ],
)
def test_counts(usage, counted):
    """Cached tokens are not part of the input and never exceed it; an invalid number is 0."""
    assert usage_in({"usage": usage}) == counted


@pytest.mark.parametrize(
    ("more", "terms"),
    [
        ({"service_tier": "flex"}, {"service_tier": "flex"}),
        ({"service_tier": None, "usage": {"cost": 0.5}}, {"cost": 500_000}),
        ({"service_tier": 1, "usage": {"cost": {"total": 1}}}, {}),
        ({"service_tier": "x" * 41, "usage": {"cost": -1}}, {}),
        ({"usage": {"cost": True}}, {}),
    ],
)
def test_what_decides_the_price(more, terms):
    """The service tier of a response and the price that OpenRouter reports are read; invalid ones are left out."""
    usage = {"prompt_tokens": 10, "completion_tokens": 2} | more.pop("usage", {})
    assert usage_in(more | {"usage": usage}) == Usage(10, 2, **terms)


ODD = st.none() | st.booleans() | st.integers(-3, 30) | st.text(max_size=2) | st.floats() | st.lists(st.none(), max_size=1)
NAMES = st.sampled_from(
    ["prompt_tokens", "completion_tokens", "cached_tokens", "prompt_cache_hit_tokens", "cache_creation_input_tokens"]
)


@given(st.dictionaries(NAMES, ODD), ODD | st.dictionaries(st.sampled_from(["cached_tokens", "cache_write_tokens"]), ODD))
def test_whatever_a_provider_says(usage, details):
    """No count is negative, and the input counts add up to the provider's."""
    counted = usage_in({"usage": usage | {"prompt_tokens_details": details}, "choices": usage, "x_groq": details}) or Usage()
    said = usage.get("prompt_tokens")
    assert min(counted.input, counted.output, counted.cache_read, counted.cache_write) >= 0
    assert counted.input + counted.cache_read + counted.cache_write == (max(0, said) if type(said) is int else 0)
