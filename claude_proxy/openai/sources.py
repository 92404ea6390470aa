"""Appends the sources that a provider lists with its response to the response's text. Values in, values out, no I/O.

Anthropic's citations contain a text that only Anthropic can make, and Anthropic rejects any other. So sources become text,
which every model can read in a later request. Four rules:

  1. sources are `url_citation` annotations (OpenAI, OpenRouter), and `search_results` and `citations` at the top (Perplexity,
     xAI);
  2. each address is listed once, in the provider's order, because its text may refer to them by number: `[2]`;
  3. the list follows the text of a complete response without tool calls; other responses get no list;
  4. a response in a format that the client requested gets no list.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from claude_proxy.text import clean

HEADING = "Sources:"
MAX_SOURCES = 100
MAX_TITLE, MAX_ADDRESS = 200, 2000
SCHEMES = ("https://", "http://")


class Sources:
    """``take`` each chunk of a stream, or a whole response; then ``text`` is the list."""

    def __init__(self) -> None:
        self._titles: dict[str, str] = {}

    def take(self, completion: Mapping[str, Any], message: object) -> None:
        """Read the sources of a response or of one chunk; ``message`` is its message or delta."""
        if (
            "search_results" in completion
            or "citations" in completion
            or (isinstance(message, dict) and "annotations" in message)
        ):
            for address, title in _named(completion, message if isinstance(message, dict) else {}):
                if address in self._titles or len(self._titles) < MAX_SOURCES:
                    self._titles[address] = self._titles.get(address) or title

    @property
    def text(self) -> str:
        """The list to append to a response; empty without sources."""
        lines = [
            f"{number}. {title}: {address}" if title else f"{number}. {address}"
            for number, (address, title) in enumerate(self._titles.items(), start=1)
        ]
        return "\n".join(["", "", HEADING, *lines]) if lines else ""


def _named(completion: Mapping[str, Any], message: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for holder, name in ((completion, "search_results"), (completion, "citations"), (message, "annotations")):
        found = holder.get(name)
        for one in found if isinstance(found, list) else ():
            inner = one.get("url_citation", one) if isinstance(one, dict) else {"url": one}
            address = inner.get("url") if isinstance(inner, dict) else None
            if isinstance(address, str) and address.startswith(SCHEMES) and len(address) <= MAX_ADDRESS:
                title = inner.get("title")
                yield clean("".join(address.split()), MAX_ADDRESS), clean(title, MAX_TITLE) if isinstance(title, str) else ""
