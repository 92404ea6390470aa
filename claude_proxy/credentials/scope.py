"""The scope of a limit: a model family, an endpoint, a speed, or everything. No I/O."""

from typing import NamedTuple

MESSAGES, COUNT_TOKENS = "messages", "count_tokens"
STANDARD, FAST = "standard", "fast"
_WORDS = {MESSAGES: "", STANDARD: "", COUNT_TOKENS: "token counting", FAST: "fast mode"}


class Scope(NamedTuple):
    """The requests that a limit covers, or the scope of one request; an empty part covers everything.

    ``family`` is a family of models such as ``opus``, ``endpoint`` is ``MESSAGES`` or ``COUNT_TOKENS``, ``speed`` is
    ``STANDARD`` or ``FAST``. Token counting and fast mode have limits of their own (Anthropic's reference, "Token
    counting" and "Fast mode"), and an API key has one for each model ("Rate limits").
    """

    family: str = ""
    endpoint: str = ""
    speed: str = ""

    @classmethod
    def read(cls, text: str) -> "Scope":
        """Parse the result of ``str``; raise ``TypeError`` for too many parts."""
        return cls(*text.split("/"))

    def __str__(self) -> str:
        return "/".join(self).rstrip("/")

    def covers(self, requested: "Scope") -> bool:
        """Return whether a limit with this scope covers such a request."""
        return all(not mine or mine == theirs for mine, theirs in zip(self, requested, strict=True))

    @property
    def words(self) -> str:
        """The scope in words for the operator; empty for everything."""
        return ", ".join(filter(None, (_WORDS.get(part, part.capitalize()) for part in self)))


EVERYTHING = Scope()
