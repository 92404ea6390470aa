"""How many input tokens a request has at a provider that does not say: an estimate, set right by what the provider said before.

The size of the texts that a provider is sent tells their tokens well once it has counted some; before that, and where there is
so little text that its kind makes the difference, the texts are counted. No I/O.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, NamedTuple

import msgspec

from claude_proxy.anthropic import token_estimate
from claude_proxy.anthropic.messages import THINKING_TYPES, to_json
from claude_proxy.providers.compatibility import Dialect, Thinking
from claude_proxy.providers.request_fields import BILLING, TOOL_FIELDS

# Names that are remembered; clients choose some of them.
MAX_NAMES = 1000
# Less text says little of how many bytes a token has.
SMALLEST = 2000
# How much a new number counts beside those before.
WEIGHT = 0.3
# Tokens to a byte of text, before a provider has counted any.
USUAL = 1 / token_estimate.CHARACTERS_PER_TOKEN
# What no tokenizer makes of texts; a number beyond is a provider's mistake.
LEAST, MOST = 0.02, 2.0


class Sent:
    """What of a request a provider counts: without thinking, server tools and Anthropic's own line, if it is not sent them."""

    def __init__(self, body: Mapping[str, Any], row: Dialect) -> None:
        self._body = body
        self._row = row

    @cached_property
    def _measured(self) -> tuple[list[str], int]:
        left_out = THINKING_TYPES if self._row.thinking is Thinking.NONE else ()
        texts, pictures = token_estimate.texts_of(self._body.get("messages"), left_out)
        system, more = token_estimate.texts_of(self._body.get("system"))
        texts += [text for text in system if not text.startswith(BILLING)]
        tools = self._body.get("tools")
        for tool in tools if isinstance(tools, list) else ():
            if isinstance(tool, dict) and (tool.get("type") or "custom") in ("custom", *self._row.server_tools):
                described = {name: tool[name] for name in TOOL_FIELDS if name in tool}
                texts.append(_json(described))
        return texts, pictures + more

    @cached_property
    def size(self) -> int:
        """Bytes of text."""
        return sum(len(text) if text.isascii() else len(text.encode("utf-8", "replace")) for text in self._measured[0])

    @property
    def pictures(self) -> int:
        """Pictures and files, which have tokens that no text tells."""
        return self._measured[1]

    def counted(self, count: Callable[[str], int]) -> int:
        """Return the tokens of the texts, as somebody else's tokenizer counts them."""
        return token_estimate.tokens_of(self._measured[0], count)


def _json(value: object) -> str:
    try:
        return msgspec.json.encode(value).decode()
    except UnicodeEncodeError:  # half a character
        return to_json(value).decode()


class Rates(NamedTuple):
    """What a provider's numbers say: tokens to a byte of text, and to a token of the tokenizer that is here."""

    by_size: float
    by_count: float


class Meter:
    """One for the process. ``count`` returns the tokens of a text."""

    def __init__(self, count: Callable[[str], int]) -> None:
        self._count = count
        self._rates: OrderedDict[str, Rates] = OrderedDict()

    def learn(self, served: str, sent: Sent, tokens: int) -> None:
        """Take in what a provider counted for a request."""
        if sent.size < SMALLEST or sent.pictures or not LEAST <= tokens / sent.size <= MOST:
            return
        rate = tokens / sent.size
        before = self._rates.pop(served, None)
        # Counting takes time; the first number is enough to know how the two tokenizers differ.
        before = before or Rates(rate, tokens / sent.counted(self._count))
        self._rates[served] = before._replace(by_size=before.by_size + WEIGHT * (rate - before.by_size))
        if len(self._rates) > MAX_NAMES:
            self._rates.popitem(last=False)

    def guess(self, served: str, sent: Sent) -> int:
        """Return roughly how many input tokens a request has, without counting: a tokenizer takes 30 ms for 440 kB."""
        rates = self._rates.get(served)
        by_size = rates.by_size if rates else USUAL
        return max(1, round(by_size * sent.size) + token_estimate.IMAGE_TOKENS * sent.pictures)

    def tokens(self, served: str, sent: Sent) -> int:
        """Return about how many input tokens a request has."""
        rates = self._rates.get(served)
        if rates is not None and sent.size >= SMALLEST:
            texts = rates.by_size * sent.size
        else:
            texts = sent.counted(self._count) * (rates.by_count if rates else 1)
        return max(1, round(texts) + token_estimate.IMAGE_TOKENS * sent.pictures)
