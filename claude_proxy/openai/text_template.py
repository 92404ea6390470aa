"""Tells an event that differs from an earlier one in its text alone, without decoding it. No I/O.

Nearly every event of a stream is such a one: the id, the model and all that is around the text stay the same. Where the text
has neither a quotation mark nor a backslash, the event is the earlier one with another text, whatever else it holds.
"""

from claude_proxy.anthropic.messages import to_json
from claude_proxy.anthropic.sse import json_object
from claude_proxy.openai.parts import TEXT, Part, parts

# A provider whose events differ elsewhere too, such as by a number, is not learned from for ever.
MAX_LESSONS = 3


class TextTemplate:
    """``learn`` from an event that has been decoded, then ask for the ``text_in`` the next ones."""

    def __init__(self) -> None:
        self._before = self._after = b""
        self._lessons = 0

    def learn(self, data: bytes, text: str) -> None:
        """Take in the data of an event that said this text and nothing else that matters twice."""
        told = to_json(text)
        if self._lessons >= MAX_LESSONS or data.count(told) != 1:
            return
        self._lessons += 1
        begin = data.index(told)
        before, after = data[: begin + 1], data[begin + len(told) - 1 :]
        if _parts_of(before + b"x" + after) == [Part(TEXT, "x")]:  # what was found is the text, and no other field
            self._before, self._after = before, after

    def text_in(self, data: bytes) -> str:
        """Return the text of an event that is like the one before; empty for every other one."""
        before, after = self._before, self._after
        if not before or not data.startswith(before) or not data.endswith(after):
            return ""
        said = data[len(before) : len(data) - len(after)]
        if b'"' in said or b"\\" in said:
            return ""
        try:
            text = said.decode()
        except UnicodeDecodeError:
            return ""
        return text if text.isprintable() else ""  # JSON has no bare control characters


def _parts_of(data: bytes) -> list[Part]:
    choices = (json_object(data) or {}).get("choices")
    delta = choices[0].get("delta") if isinstance(choices, list) and choices and isinstance(choices[0], dict) else None
    return [*parts(delta)] if isinstance(delta, dict) else []
