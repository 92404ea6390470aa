"""Reads the text of a stream event without decoding it, if the event differs from an earlier one only in its text. No I/O.

Nearly all events of a stream do: the id, the model and everything around the text stay the same. If the text has no quotation
mark and no backslash, the rest of the event is equal to the earlier one.
"""

from claude_proxy.anthropic.messages import to_json
from claude_proxy.anthropic.sse import json_object
from claude_proxy.openai.parts import TEXT, Part, parts

# The number of attempts to learn, for a provider whose events also differ elsewhere, such as in a number.
MAX_LESSONS = 3


class TextTemplate:
    """``learn`` from a decoded event; then ``text_in`` reads the text of similar events."""

    def __init__(self) -> None:
        self._before = self._after = b""
        self._lessons = 0

    def learn(self, data: bytes, text: str) -> None:
        """Learn from an event whose only content is this text, once in its data."""
        encoded = to_json(text)
        if self._lessons >= MAX_LESSONS or data.count(encoded) != 1:
            return
        self._lessons += 1
        begin = data.index(encoded)
        before, after = data[: begin + 1], data[begin + len(encoded) - 1 :]
        if _parts_of(before + b"x" + after) == [Part(TEXT, "x")]:  # the match is the text and no other field
            self._before, self._after = before, after

    def text_in(self, data: bytes) -> str:
        """Return the text of an event like the learned one; empty for any other event."""
        before, after = self._before, self._after
        if not before or not data.startswith(before) or not data.endswith(after):
            return ""
        raw = data[len(before) : len(data) - len(after)]
        if b'"' in raw or b"\\" in raw:
            return ""
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            return ""
        return text if text.isprintable() else ""  # JSON has no bare control characters


def _parts_of(data: bytes) -> list[Part]:
    choices = (json_object(data) or {}).get("choices")
    delta = choices[0].get("delta") if isinstance(choices, list) and choices and isinstance(choices[0], dict) else None
    return [*parts(delta)] if isinstance(delta, dict) else []
