"""How many input tokens a request has at a provider that does not say: an estimate, set right by what the provider said before.

A request's size in bytes tells its tokens well enough once a provider has counted some of its kind; before that, and where
pictures make the size say nothing, the texts are counted. No I/O.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from claude_proxy.anthropic import token_estimate

# Names that are remembered; clients choose some of them.
MAX_NAMES = 1000
# A smaller request says little of how many bytes a token has.
SMALLEST = 2000
# How much a new number counts beside those before.
WEIGHT = 0.3
# What stands in a body that has a picture or a file.
ENCODED = b'"base64"'
# What no tokenizer makes of texts; a number beyond is a provider's mistake.
LEAST, MOST = 0.02, 2.0


class Meter:
    """One for the process. ``count`` returns the tokens of a text."""

    def __init__(self, count: Callable[[str], int]) -> None:
        self._count = count
        self._rates: OrderedDict[str, float] = OrderedDict()

    def learn(self, served: str, raw: bytes, tokens: int) -> None:
        """Take in what a provider counted for a body of the client's."""
        if len(raw) < SMALLEST or ENCODED in raw or not LEAST <= tokens / len(raw) <= MOST:
            return
        rate = tokens / len(raw)
        before = self._rates.pop(served, rate)
        self._rates[served] = before + WEIGHT * (rate - before)
        if len(self._rates) > MAX_NAMES:
            self._rates.popitem(last=False)

    def tokens(self, served: str, raw: bytes, body: Callable[[], Mapping[str, Any]]) -> int:
        """Return about how many input tokens a body has."""
        rate = self._rates.get(served)
        if rate is not None and len(raw) >= SMALLEST and ENCODED not in raw:
            return max(1, round(rate * len(raw)))
        return token_estimate.input_tokens(body(), self._count)
