"""config/prices.py: prices of models, in config.yaml and in the form of LiteLLM's list."""

import pytest

from claude_proxy.check import price_list
from claude_proxy.config.prices import LIST_NAMES, TIERS, Overrides, Rates, listed_price, mistakes

USD = 1_000_000
BASE = {"input_cost_per_token": 1e-06, "output_cost_per_token": 5e-06}


def config(prices):
    return {"claude_proxy": {"prices": prices}}


@pytest.mark.parametrize(
    ("entry", "is_claude", "rates"),
    [
        (BASE, False, Rates(USD, 5 * USD, USD, USD, USD)),
        (BASE, True, Rates(USD, 5 * USD, USD // 10, USD * 5 // 4, 2 * USD)),
        (BASE | {"cache_creation_input_token_cost": 3e-06}, False, Rates(USD, 5 * USD, USD, 3 * USD, 3 * USD)),
        ({"input_cost_per_token": "0.000001"}, False, Rates(USD, 0, USD, USD, USD)),
    ],
)
def test_the_rates_of_an_entry(entry, is_claude, rates):
    """What an entry lacks about its cache is Anthropic's proportion for Claude, and the input rate for another model."""
    assert listed_price(entry, is_claude=is_claude).rates("", 10**6) == rates


@pytest.mark.parametrize(
    "entry", [{}, {"output_cost_per_image": 1}, {"input_cost_per_token": None}, {"tiered_pricing": [1, {}]}]
)
def test_an_entry_without_rates(entry):
    """An entry without rates of tokens is no price."""
    assert listed_price(entry, is_claude=False) is None


def test_the_rates_of_tiers():
    """A tier with rates of its own keeps the standard proportions where it has none; another tier costs the standard rates."""
    cache = {"cache_read_input_token_cost": 1e-07}
    price = listed_price(
        BASE | cache | {"input_cost_per_token_priority": 2e-06, "output_cost_per_token_priority": 8e-06}, is_claude=False
    )
    assert price.rates("priority", 1) == Rates(2 * USD, 8 * USD, USD // 5, 2 * USD, 2 * USD)
    assert price.rates("flex", 1) == price.rates("standard", 1) == price.rates("", 1)


def test_the_rates_of_a_long_context():
    """From each number of input tokens on, other rates apply to all tokens; ranges of a list mean the same."""
    entry = BASE | {"input_cost_per_token_above_128k_tokens": 2e-06, "input_cost_per_token_above_200k_tokens": 3e-06}
    ranges = {
        "tiered_pricing": [
            {**BASE, "range": [0, 1000.0]},
            {"input_cost_per_token": 7e-06, "output_cost_per_token": 0, "range": [1000.0, 2000.0]},
        ]
    }
    price, tiered = listed_price(entry, is_claude=False), listed_price(ranges, is_claude=False)
    assert [price.rates("", count).input // USD for count in (128_000, 128_001, 200_000, 200_001)] == [1, 2, 2, 3]
    assert [tiered.rates("", count).input // USD for count in (1000, 1001, 99_999)] == [1, 7, 7]


def test_the_shipped_list():
    """LiteLLM's list has every name that is read, each of its entries is read, and all of Anthropic's models have a price."""
    entries = price_list._entries()
    names = {name for entry in entries.values() for name in entry}
    assert {*LIST_NAMES.values(), *(LIST_NAMES["input"] + suffix for suffix in TIERS.values())} <= names
    found = {name: listed_price(entry, is_claude="claude" in name) for name, entry in entries.items()}
    assert len(found) > 1000
    claude = [price for name, price in found.items() if entries[name].get("litellm_provider") == "anthropic"]
    assert all(price and min(price.rates("", 1)) > 0 and price.search > 0 for price in claude)
    assert all(min(rates) >= 0 for price in found.values() if price for steps in price.tiers.values() for _, rates in steps)


def test_the_most_specific_pattern():
    """Of several patterns the one with the most characters applies; a name that matches none has no price here."""
    overrides = Overrides.of(
        config(
            {"*-5": {"input": 3, "output": 3}, "claude-*": {"input": 2, "output": 2}, "claude-x-5": {"input": 1, "output": 1}}
        )
    )
    found = [overrides.price((name,), None, is_claude=False) for name in ("claude-x-5", "claude-y-5", "gpt-5", "glm")]
    assert [price and price.rates("", 1).input // USD for price in found] == [1, 2, 3, None]


def test_a_batch_of_claude_costs_half():
    """A Claude model whose price is only in config.yaml costs half in a batch, a long input too; others have no such price."""
    long = {"above": 200000, "input": 4, "output": 8}
    overrides = Overrides.of(config({"*": {"input": 2, "output": 6, "long_context": long}}))
    claude, other = (overrides.price(("m",), None, is_claude=is_claude) for is_claude in (True, False))
    assert claude.rates("batch", 1)[:2] == (USD, 3 * USD)
    assert claude.rates("batch", 300_000)[:2] == (2 * USD, 4 * USD)
    assert claude.rates("", 1)[:2] == other.rates("batch", 1)[:2] == (2 * USD, 6 * USD)


RIGHT = {
    "glm": {"input": 0.6, "output": 2.2, "cache_read": 0.11, "cache_write": 0.6, "cache_write_1h": "0.7"},
    "claude-*": {"input": 0, "output": 0},
    "gemini": {"input": 1, "output": 2, "long_context": {"above": 200000, "input": 2, "cache_read": 1}},
}


@pytest.mark.parametrize("given", [{}, {"claude_proxy": None}, {"claude_proxy": ["x"]}, config({}), config(RIGHT)])
def test_what_is_right_or_another_checks_matter(given):
    """A configuration without prices, and one with valid prices, has no errors."""
    assert list(mistakes(given)) == []


@pytest.mark.parametrize(
    ("prices", "says"),
    [
        (None, "prices: should hold names or patterns of models"),
        (["glm"], "write glm: {input: 0.6, output: 2.2}"),
        ({"glm": 0.6}, "prices: glm: should have input and output in USD per million tokens; write glm: {"),
        ({1: {"input": 1, "output": 1}}, 'prices: 1: should have input and output in USD per million tokens; write "1": {'),
        ({"glm": {"input": 1}}, "prices: glm: lacks output, in USD per million tokens"),
        ({"glm": {}}, "prices: glm: lacks input and output"),
        (
            {"glm": {"input": 1, "output": "2 USD"}},
            "prices: glm: output: should be a number of USD per million tokens, 0 or more; write output: 0.6",
        ),
        ({"glm": {"input": -1, "output": 2}}, "prices: glm: input: should be a number"),
        ({"glm": {"input": 1, "output": 10**6}}, "prices: glm: output: should be a number"),
        ({"glm": {"input": 1, "output": 2, "cached": 1}}, "prices: glm: cached is not known; did you mean cache_read?"),
        ({"glm": {"input": 1, "output": 2, "x": 1}}, "prices: glm: x is not known; the keys are input, output, cache_read"),
        (
            {"glm": {"input": 1, "output": 2, "long_context": 200000}},
            "long_context: should be a mapping; write {above: 200000, ",
        ),
        ({"glm": {"input": 1, "output": 2, "long_context": {"input": 2}}}, "above: should be the number of input tokens"),
        ({"glm": {"input": 1, "output": 2, "long_context": {"above": 200000}}}, "long_context: lacks input or output"),
        (
            {"glm": {"input": 1, "output": 2, "long_context": {"above": 1, "inputs": 2, "output": 1}}},
            "inputs is not known; did you mean input?",
        ),
    ],
)
def test_a_mistake_in_the_block(prices, says):
    """An invalid price is an error that says what to write, because the model would cost something else."""
    (mistake,) = mistakes(config(prices))
    assert says in mistake


def test_prices_without_their_block():
    """Prices at the top level would change nothing, so the file is rejected."""
    (mistake,) = mistakes({"prices": RIGHT})
    assert mistake.startswith("prices: belongs under claude_proxy")
