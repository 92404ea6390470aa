"""One chat completion of a response that has several, with searches of the web between them. No I/O."""

from collections.abc import Mapping
from typing import Any

from claude_proxy.anthropic.messages import mark
from claude_proxy.anthropic.search_blocks import NAME
from claude_proxy.anthropic.sse import json_object
from claude_proxy.anthropic.stream_writer import StreamWriter
from claude_proxy.openai.chat_stream import ChatStream, Told
from claude_proxy.openai.finish_reasons import Ending
from claude_proxy.openai.open_blocks import BEGIN, END, MORE, Block, Step
from claude_proxy.openai.parts import CALL, TEXT
from claude_proxy.providers.returned import NO_MESSAGE
from claude_proxy.providers.search_stream import Call, End


class ChatRound(ChatStream):
    """See ``Round``: a call of the search is kept back, and the message has no end here."""

    def __init__(self, told: Told, writer: StreamWriter) -> None:
        super().__init__(told, writer)
        # How the round ended; None before, and where it broke.
        self.end: End | None = None
        self._content: list[tuple[Block, list[str]]] = []
        self._calls: dict[int, str] = {}

    @property
    def ended(self) -> bool:
        return self._writer.ended or self.end is not None

    def whole(self, said: Mapping[str, Any]) -> bytes:
        """Take in a whole chat completion, which is one also where nobody says why it ended."""
        self._done = True
        choices = said.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
        if not (said.get("error") or choice.get("error") or isinstance(choice.get("message"), dict)):
            return self._fail("api_error", NO_MESSAGE)
        return self._object(said, counts=True) + self._end()

    def begun(self) -> bytes:
        """Begin the message where nothing has yet."""
        return self._start()

    @property
    def searches(self) -> list[Call]:
        """The calls of the search, in their order."""
        return [Call(self._calls[id(block)], _input(told)) for block, told in self._content if self._is_search(block)]

    @property
    def has_others(self) -> bool:
        """Whether a tool of the client's is called."""
        return any(block.kind == CALL and not self._is_search(block) for block, _ in self._content)

    def turn(self) -> list[dict[str, Any]]:
        """Return what the model told, as a turn of the conversation with its provider."""
        return [self._block(block, told) for block, told in self._content]

    def _block(self, block: Block, told: list[str]) -> dict[str, Any]:
        if block.kind == CALL:
            return {"type": CALL, "id": self._calls[id(block)], "name": block.name, "input": _input(told) or {}}
        said = "".join(told)
        if block.kind == TEXT:
            return {"type": TEXT, "text": said}
        return {"type": "thinking", "thinking": said, "signature": mark(self._told.row.name, "")}

    def _is_search(self, block: Block) -> bool:
        return block.kind == CALL and block.name == NAME

    def _must_parse(self, call: Block) -> bool:
        return super()._must_parse(call) and not self._is_search(call)

    def _written(self, step: Step) -> bytes:
        if step.what == BEGIN:
            self._content.append((step.block, []))
        elif step.what == MORE:
            self._content[-1][1].append(step.text)
        if not self._is_search(step.block):
            return super()._written(step)
        if step.what == END:
            self._calls[id(step.block)] = self._ids.of(step.block)
        return b""

    def _continued(self, text: str) -> bytes:
        self._content[-1][1].append(text)
        return super()._continued(text)

    def _finished(self, ended: Ending) -> bytes:
        self.end = End(ended.stop_reason, ended.stop_sequence)
        return b""


def _input(told: list[str]) -> dict[str, Any] | None:
    said = "".join(told)
    return json_object(said.encode("utf-8", "surrogatepass")) if said.strip() else {}
