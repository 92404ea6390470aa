"""Estimates a request's input tokens at a provider, corrected by the counts that the provider reported before. No I/O.

After the first reported count, the size of the text gives a good estimate. Before that, and for a short text, where the kind of
text matters, a tokenizer counts the tokens.
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

# The limit for kept names, because clients choose some of them.
MAX_NAMES = 1000
# A shorter text says little about the number of bytes per token.
SMALLEST = 2000
# The weight of a new count in the running average.
WEIGHT = 0.3
# Tokens per byte of text, before a provider has reported any count.
USUAL = 1 / token_estimate.CHARACTERS_PER_TOKEN
# The plausible range of tokens per byte; a count outside it is a provider's error.
LEAST, MOST = 0.02, 2.0


class Sent:
    """The part of a request that a provider gets and counts, without the billing line."""

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
        """The bytes of text."""
        return sum(len(text) if text.isascii() else len(text.encode("utf-8", "replace")) for text in self._measured[0])

    @property
    def pictures(self) -> int:
        """The number of images and files, whose tokens do not depend on text."""
        return self._measured[1]

    def counted(self, count: Callable[[str], int]) -> int:
        """Return the tokens of the texts, counted by another provider's tokenizer."""
        return token_estimate.tokens_of(self._measured[0], count)


def _json(value: object) -> str:
    try:
        return msgspec.json.encode(value).decode()
    except UnicodeEncodeError:  # a lone surrogate
        return to_json(value).decode()


class Rates(NamedTuple):
    """A provider's tokens per byte of text, and per token of the local tokenizer."""

    by_size: float
    by_count: float


class Meter:
    """One per process. ``count`` returns the tokens of a text."""

    def __init__(self, count: Callable[[str], int]) -> None:
        self._count = count
        self._rates: OrderedDict[str, Rates] = OrderedDict()

    def learn(self, served: str, sent: Sent, tokens: int) -> None:
        """Learn from the token count that a provider reported for a request."""
        if sent.size < SMALLEST or sent.pictures or not LEAST <= tokens / sent.size <= MOST:
            return
        rate = tokens / sent.size
        before = self._rates.pop(served, None)
        # Counting is slow, and the first count is enough to know the ratio of the two tokenizers.
        before = before or Rates(rate, tokens / sent.counted(self._count))
        self._rates[served] = before._replace(by_size=before.by_size + WEIGHT * (rate - before.by_size))
        if len(self._rates) > MAX_NAMES:
            self._rates.popitem(last=False)

    def guess(self, served: str, sent: Sent) -> int:
        """Return a rough estimate of a request's input tokens, without a tokenizer, which takes 30 ms for 440 kB."""
        rates = self._rates.get(served)
        by_size = rates.by_size if rates else USUAL
        return max(1, round(by_size * sent.size) + token_estimate.IMAGE_TOKENS * sent.pictures)

    def tokens(self, served: str, sent: Sent) -> int:
        """Return an estimate of a request's input tokens."""
        rates = self._rates.get(served)
        if rates is not None and sent.size >= SMALLEST:
            texts = rates.by_size * sent.size
        else:
            texts = sent.counted(self._count) * (rates.by_count if rates else 1)
        return max(1, round(texts) + token_estimate.IMAGE_TOKENS * sent.pictures)
