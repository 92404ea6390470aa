"""What a limit is about: a family of models, an endpoint, a speed, or everything. No I/O."""

from typing import NamedTuple

MESSAGES, COUNT_TOKENS = "messages", "count_tokens"
STANDARD, FAST = "standard", "fast"
_WORDS = {MESSAGES: "", STANDARD: "", COUNT_TOKENS: "token counting", FAST: "fast mode"}


class Scope(NamedTuple):
    """Which requests a limit is for, or where one request belongs; an empty part stands for every one.

    ``family`` is a family of models such as ``opus``, ``endpoint`` is ``MESSAGES`` or ``COUNT_TOKENS``, ``speed`` is
    ``STANDARD`` or ``FAST``. Token counting and fast mode have limits of their own (Anthropic's reference, "Token
    counting" and "Fast mode"), and an API key has one for each model ("Rate limits").
    """

    family: str = ""
    endpoint: str = ""
    speed: str = ""

    @classmethod
    def read(cls, text: str) -> "Scope":
        """Read what ``str`` wrote; raise ``TypeError`` for more parts than there are."""
        return cls(*text.split("/"))

    def __str__(self) -> str:
        return "/".join(self).rstrip("/")

    def covers(self, asked: "Scope") -> bool:
        """Whether a limit with this scope is one for a request."""
        return all(not mine or mine == theirs for mine, theirs in zip(self, asked, strict=True))

    @property
    def words(self) -> str:
        """The scope for an operator; empty for everything."""
        return ", ".join(filter(None, (_WORDS.get(part, part.capitalize()) for part in self)))


EVERYTHING = Scope()
