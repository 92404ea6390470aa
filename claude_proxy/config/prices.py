"""Prices of models: ``prices`` under ``claude_proxy:`` in config.yaml, and the form of LiteLLM's price list. No I/O.

A rate is a whole number of pico-USD per token: 1 USD per million tokens is 1,000,000 of them. So sums of tokens are exact.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, NamedTuple

from claude_proxy.config.money import amount
from claude_proxy.config.spelling import unknown
from claude_proxy.providers.endpoints import BLOCK, matches

KEY = "prices"
LONG, ABOVE = "long_context", "above"
RATES = ("input", "output", "cache_read", "cache_write", "cache_write_1h")
NEEDED = ("input", "output")
EXAMPLE = "{input: 0.6, output: 2.2}"
PICO_PER_USD = 10**12
# A million tokens, the unit of prices in config.yaml.
MILLION = 10**6
# More than this for a million tokens is a typing error.
MOST = Decimal(100_000)


class Rates(NamedTuple):
    """Pico-USD per token."""

    input: int
    output: int
    cache_read: int
    cache_write: int
    cache_write_1h: int

    def times(self, numerator: int, denominator: int) -> "Rates":
        """Return the rates multiplied by a fraction."""
        return Rates(*(rate * numerator // denominator for rate in self))


# The rates from a number of input tokens on, in ascending order; the first one applies from 0.
Steps = tuple[tuple[int, Rates], ...]


@dataclass(frozen=True)
class Price:
    """The price of a model. ``tiers`` has the steps of each service tier that has rates of its own; "" is the standard one."""

    tiers: Mapping[str, Steps]
    # Pico-USD of a web search.
    search: int = 0
    # Factors in thousandths: of the fast mode, and of a response that is processed in one region.
    fast: int = 1000
    regions: Mapping[str, int] | None = None

    def rates(self, tier: str, input_tokens: int) -> Rates:
        """Return the rates of a request with a number of input tokens."""
        steps = self.tiers.get(tier) or self.tiers[""]
        found = steps[0][1]
        for above, rates in steps[1:]:
            if input_tokens > above:
                found = rates
        return found


FREE = Price({"": ((0, Rates(0, 0, 0, 0, 0)),)})

# Anthropic's rates for its cache and for batches, relative to input, for a model whose list entry lacks them: in thousandths.
CLAUDE_CACHE = {"cache_read": 100, "cache_write": 1250, "cache_write_1h": 2000}
BATCH = 500
# Anthropic's price of a web search, in pico-USD.
CLAUDE_SEARCH = PICO_PER_USD // 100
# The names in LiteLLM's list.
LIST_NAMES = {
    "input": "input_cost_per_token", "output": "output_cost_per_token", "cache_read": "cache_read_input_token_cost",
    "cache_write": "cache_creation_input_token_cost", "cache_write_1h": "cache_creation_input_token_cost_above_1hr",
}  # fmt: skip
# Our names of service tiers, which are those in responses, and the endings of LiteLLM's names.
TIERS = {"priority": "_priority", "flex": "_flex", "batch": "_batches"}
_STEP = re.compile(r"input_cost_per_token_above_([0-9]{1,6})k_tokens")
SEARCH = "search_context_cost_per_query"
TIERED, RANGE = "tiered_pricing", "range"
THOUSAND = 1000


def pico(value: object, unit: int = 1) -> int | None:
    """Return an amount of USD for ``unit`` tokens as pico-USD per token; None for what is not an amount."""
    usd = amount(value)
    return None if usd is None else int((usd * PICO_PER_USD / unit).to_integral_value())


def listed_price(entry: Mapping[str, Any], *, is_claude: bool) -> Price | None:
    """Return the price of an entry of LiteLLM's list; None for one without rates of tokens."""
    steps = _listed_steps(entry, "", None, is_claude=is_claude)
    if not steps:
        return None
    tiers = {"": steps}
    for tier, suffix in TIERS.items():
        if pico(entry.get(LIST_NAMES["input"] + suffix)) is not None:
            tiers[tier] = _listed_steps(entry, suffix, steps[0][1], is_claude=is_claude)
        elif tier == "batch" and is_claude:
            tiers[tier] = tuple((above, rates.times(BATCH, THOUSAND)) for above, rates in steps)
    search, factors = entry.get(SEARCH), entry.get("provider_specific_entry")
    per_search = search.get("search_context_size_medium") if isinstance(search, dict) else None
    factors = factors if isinstance(factors, dict) else {}
    searches = pico(per_search) or (CLAUDE_SEARCH if is_claude else 0)
    return Price(tiers, searches, _thousandths(factors.get("fast")), {"us": _thousandths(factors.get("us"))})


def _thousandths(factor: object) -> int:
    found = amount(factor)
    return int(found * THOUSAND) if found else THOUSAND


def _listed_steps(entry: Mapping[str, Any], suffix: str, standard: Rates | None, *, is_claude: bool) -> Steps:
    """Return the steps of a service tier, which keeps the proportions of the ``standard`` one where it has no rate."""
    if isinstance(entry.get(TIERED), list) and LIST_NAMES["input"] not in entry:
        return _tiered(entry[TIERED], is_claude=is_claude)
    base = _rates(entry, suffix, standard, is_claude=is_claude)
    if base is None:
        return ()
    steps = [(0, base)]
    for above in sorted(int(found[1]) for name in entry if (found := _STEP.fullmatch(str(name)))):
        rates = _rates(entry, f"_above_{above}k_tokens{suffix}", steps[-1][1], is_claude=is_claude)
        if rates is not None:
            steps.append((above * THOUSAND, rates))
    return tuple(steps)


def _rates(entry: Mapping[str, Any], suffix: str, below: Rates | None, *, is_claude: bool) -> Rates | None:
    """Return the rates with a suffix; those that are missing follow from the rates ``below`` or from the input rate."""
    return completed(
        {name: pico(entry.get(listed + suffix)) for name, listed in LIST_NAMES.items()}, below, is_claude=is_claude
    )


def completed(found: Mapping[str, int | None], below: Rates | None, *, is_claude: bool) -> Rates | None:
    """Return rates of which some may be missing; None without a rate of input and output.

    A missing rate of the cache keeps its proportion to the input ``below``. Without that, it is Anthropic's for Claude; for
    another model reading and writing cost as much as input.
    """
    taken, made = found.get("input"), found.get("output")
    if taken is None and made is None:
        return None
    if taken is None:
        taken = below.input if below else 0
    if made is None:
        made = below.output if below else 0
    rates = {"input": taken, "output": made}
    for name, factor in CLAUDE_CACHE.items():
        rate = found.get(name)
        if rate is None and below is not None and below.input:
            rate = getattr(below, name) * taken // below.input
        elif rate is None and is_claude:
            rate = taken * factor // THOUSAND
        elif rate is None:
            rate = rates["cache_write"] if name == "cache_write_1h" else taken
        rates[name] = rate
    return Rates(**rates)


def _tiered(tiers: list[Any], *, is_claude: bool) -> Steps:
    steps = []
    for tier in tiers:
        bounds = tier.get(RANGE) if isinstance(tier, dict) else None
        if isinstance(bounds, list) and bounds and isinstance(bounds[0], int | float):
            rates = _rates(tier, "", None, is_claude=is_claude)
            if rates is not None:
                steps.append((int(bounds[0]), rates))
    return tuple(sorted(steps))


@dataclass(frozen=True)
class Overrides:
    """The prices in config.yaml, by name or pattern of models."""

    patterns: Mapping[str, Mapping[str, Any]]

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Overrides":
        """Read a configuration in which ``mistakes`` found no error."""
        return cls((config.get(BLOCK) or {}).get(KEY) or {})

    def __bool__(self) -> bool:
        return bool(self.patterns)

    def price(self, names: tuple[str, ...], listed: Price | None, *, is_claude: bool) -> Price | None:
        """Return the price of a model by its names; the most specific pattern applies. None without one.

        Service tiers, the fast mode, regions and web searches cost what they do by ``listed``, in proportion to the input.
        """
        found = [pattern for pattern in self.patterns if any(matches(pattern, name) for name in names)]
        if not found:
            return None
        entry = self.patterns[max(found, key=lambda pattern: len(pattern.replace("*", "")))]
        base = _written(entry, None, is_claude=is_claude)
        if base is None:
            return None
        steps: Steps = ((0, base),)
        long = entry.get(LONG)
        if long and (rates := _written(long, base, is_claude=is_claude)):
            steps = (*steps, (long[ABOVE], rates))
        if listed is None:
            batch = {"batch": tuple((above, rates.times(BATCH, THOUSAND)) for above, rates in steps)} if is_claude else {}
            return Price({"": steps, **batch})
        standard = listed.tiers[""][0][1].input
        tiers = {
            tier: tuple((above, rates.times(of_tier[0][1].input, standard)) for above, rates in steps) if standard else steps
            for tier, of_tier in listed.tiers.items()
        }
        return replace(listed, tiers=tiers)


def _written(entry: Mapping[str, Any], below: Rates | None, *, is_claude: bool) -> Rates | None:
    return completed({name: pico(entry.get(name), MILLION) for name in RATES}, below, is_claude=is_claude)


def mistakes(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield one message per error about prices; ``config`` is a mapping that is not validated yet."""
    if KEY in config:
        yield f"{KEY}: belongs under {BLOCK}; at the beginning of a line it changes no price"
    block = config.get(BLOCK)
    if not isinstance(block, dict) or KEY not in block:
        return
    prices, at = block[KEY], f"{BLOCK}: {KEY}"
    if not isinstance(prices, dict):
        yield f"{at}: should hold names or patterns of models, with USD per million tokens under each; write glm: {EXAMPLE}"
        return
    for model, entry in prices.items():
        if not isinstance(model, str) or not model or not isinstance(entry, dict):
            name = model if isinstance(model, str) and model else f'"{model}"'
            yield f"{at}: {model}: should have input and output in USD per million tokens; write {name}: {EXAMPLE}"
            continue
        yield from _mistakes_of_rates(f"{at}: {model}", entry, (*RATES, LONG), NEEDED)
        if LONG in entry:
            yield from _mistakes_of_long_context(f"{at}: {model}: {LONG}", entry[LONG])


def _mistakes_of_rates(at: str, entry: Mapping[Any, Any], keys: tuple[str, ...], needed: tuple[str, ...]) -> Iterator[str]:
    for key, value in entry.items():
        if key in RATES:
            usd = amount(value)
            if usd is None or usd > MOST:
                yield f"{at}: {key}: should be a number of USD per million tokens, 0 or more; write {key}: 0.6"
        elif key not in keys:
            yield f"{at}: {unknown(key, keys)}"
    if missing := [name for name in needed if name not in entry]:
        yield f"{at}: lacks {' and '.join(missing)}, in USD per million tokens"


def _mistakes_of_long_context(at: str, entry: object) -> Iterator[str]:
    if not isinstance(entry, dict):
        yield f"{at}: should be a mapping; write {{above: 200000, input: 1.2, output: 4.4}}"
        return
    yield from _mistakes_of_rates(at, entry, (*RATES, ABOVE), ())
    above = entry.get(ABOVE)
    if isinstance(above, bool) or not isinstance(above, int) or above < 1:
        yield f"{at}: {ABOVE}: should be the number of input tokens above which these prices apply; write {ABOVE}: 200000"
    if not any(name in entry for name in NEEDED):
        yield f"{at}: lacks input or output, in USD per million tokens"
