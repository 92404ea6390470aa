"""The sources that a provider names beside its answer, as a list at the end of the answer. Values in, values out, no I/O.

Anthropic's own citations refer to results of its search by a text that only Anthropic can make, and refuses any other; so a
source is words for the reader, which every model can read when they come back. Four rules:

  1. sources are `url_citation` annotations (OpenAI, OpenRouter), and `search_results` and `citations` at the top (Perplexity,
     xAI);
  2. each address stands there once, in the order in which the provider names them first, for its text may count them: `[2]`;
  3. they follow the text of an answer that ended by itself and calls no tool; another one is no end to put them at;
  4. an answer in a form that the client prescribes stays in that form.
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

    def take(self, said: Mapping[str, Any], answer: object) -> None:
        """Take in what a response, or a chunk of one, names; ``answer`` is its message or its delta."""
        if "search_results" in said or "citations" in said or (isinstance(answer, dict) and "annotations" in answer):
            for address, title in _named(said, answer if isinstance(answer, dict) else {}):
                if address in self._titles or len(self._titles) < MAX_SOURCES:
                    self._titles[address] = self._titles.get(address) or title

    @property
    def text(self) -> str:
        """The list, to be put behind an answer; nothing without sources."""
        lines = [
            f"{number}. {title}: {address}" if title else f"{number}. {address}"
            for number, (address, title) in enumerate(self._titles.items(), start=1)
        ]
        return "\n".join(["", "", HEADING, *lines]) if lines else ""


def _named(said: Mapping[str, Any], answer: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for holder, name in ((said, "search_results"), (said, "citations"), (answer, "annotations")):
        found = holder.get(name)
        for one in found if isinstance(found, list) else ():
            inner = one.get("url_citation", one) if isinstance(one, dict) else {"url": one}
            address = inner.get("url") if isinstance(inner, dict) else None
            if isinstance(address, str) and address.startswith(SCHEMES) and len(address) <= MAX_ADDRESS:
                title = inner.get("title")
                yield clean("".join(address.split()), MAX_ADDRESS), clean(title, MAX_TITLE) if isinstance(title, str) else ""
