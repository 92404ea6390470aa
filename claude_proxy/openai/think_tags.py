"""Separates thinking from text, where a text starts with ``<think>`` and ``</think>`` ends the thinking. No I/O."""

from collections.abc import Iterator

BEGIN, END = "<think>", "</think>"
THINKING, TEXT = "thinking", "text"


class ThinkTags:
    """``feed`` each piece of a text, then ``finish`` once; both yield pieces with their kind."""

    def __init__(self) -> None:
        self._held = ""
        # The leading whitespace, in pieces.
        self._space: list[str] = []
        # The position in the text: at the start, inside the tags, right after them, or in the text that follows.
        self._state = "begin"

    @property
    def passes(self) -> bool:
        """Whether all following pieces are text."""
        return self._state == "end"

    def feed(self, text: str) -> Iterator[tuple[str, str]]:
        """Yield the pieces whose kind is known."""
        if self._state == "begin":
            yield from self._at_start(text)
        elif self._state == "inside":
            yield from self._thought(text)
        elif text := text.lstrip() if self._state == "behind" else text:
            self._state = "end"
            yield TEXT, text

    def finish(self) -> Iterator[tuple[str, str]]:
        """Yield what was held back."""
        held, self._held, self._space = "".join([*self._space, self._held]), "", []
        kind, self._state = THINKING if self._state == "inside" else TEXT, "end"
        if held:
            yield kind, held

    def _at_start(self, text: str) -> Iterator[tuple[str, str]]:
        if not self._held:
            space = text[: len(text) - len(text.lstrip())]
            self._space.append(space)
            text = text.removeprefix(space)
        self._held += text
        if self._held.startswith(BEGIN):
            after, self._held, self._space, self._state = self._held.removeprefix(BEGIN), "", [], "inside"
            yield from self._thought(after)
        elif not BEGIN.startswith(self._held):
            yield from self.finish()

    def _thought(self, text: str) -> Iterator[tuple[str, str]]:
        inside, tag, after = (self._held + text).partition(END)
        keep = 0 if tag else next((size for size in range(len(END) - 1, 0, -1) if inside.endswith(END[:size])), 0)
        self._held = inside[len(inside) - keep :]
        if len(inside) > keep:
            yield THINKING, inside[: len(inside) - keep]
        if tag:
            self._state = "behind"
            yield from self.feed(after)
