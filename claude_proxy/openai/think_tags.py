"""Tells thinking that stands in a text, between ``<think>`` and ``</think>`` at its beginning, from the text. No I/O."""

from collections.abc import Iterator

BEGIN, END = "<think>", "</think>"
THINKING, TEXT = "thinking", "text"


class ThinkTags:
    """``feed`` each piece of a text, then ``finish`` once; both yield pieces with what they are."""

    def __init__(self) -> None:
        self._held = ""
        # Where the text stands: before anything was said, inside the tags, or behind them.
        self._state = "begin"

    def feed(self, text: str) -> Iterator[tuple[str, str]]:
        """Yield what is certain."""
        if self._state == "end":
            yield TEXT, text
            return
        self._held += text
        if self._state == "begin":
            begun = self._held.lstrip()
            if BEGIN.startswith(begun) and begun != BEGIN:  # nothing but space is a beginning, too
                return
            if not begun.startswith(BEGIN):
                yield from self._rest(TEXT, "end")
                return
            self._state, self._held = "inside", begun.removeprefix(BEGIN)
        inside, tag, after = self._held.partition(END)
        if tag:
            self._held = after.lstrip()
            if inside:
                yield THINKING, inside
            yield from self._rest(TEXT, "end")
            return
        keep = next((size for size in range(len(END) - 1, 0, -1) if inside.endswith(END[:size])), 0)
        self._held = inside[len(inside) - keep :]
        if len(inside) > keep:
            yield THINKING, inside[: len(inside) - keep]

    def finish(self) -> Iterator[tuple[str, str]]:
        """Yield what was held back."""
        yield from self._rest(THINKING if self._state == "inside" else TEXT, "end")

    def _rest(self, kind: str, state: str) -> Iterator[tuple[str, str]]:
        held, self._held, self._state = self._held, "", state
        if held:
            yield kind, held
