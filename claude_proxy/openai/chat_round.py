"""One chat completion of a response with web searches, which needs several. No I/O."""

from collections.abc import Mapping
from typing import Any

from claude_proxy.anthropic.messages import mark
from claude_proxy.anthropic.search_blocks import NAME
from claude_proxy.anthropic.sse import json_object
from claude_proxy.anthropic.stream_writer import StreamWriter
from claude_proxy.openai.chat_stream import ChatStream, RequestContext
from claude_proxy.openai.finish_reasons import Ending
from claude_proxy.openai.open_blocks import BEGIN, END, MORE, Block, Step
from claude_proxy.openai.parts import CALL, TEXT
from claude_proxy.providers.returned import NO_MESSAGE
from claude_proxy.providers.search_stream import Call, End


class ChatRound(ChatStream):
    """See ``Round``: a call of the search tool is not sent to the client, and the message stays open at the end."""

    def __init__(self, context: RequestContext, writer: StreamWriter) -> None:
        super().__init__(context, writer)
        # How the round ended; None while it runs, and after an error.
        self.end: End | None = None
        self._content: list[tuple[Block, list[str]]] = []
        self._calls: dict[int, str] = {}

    @property
    def ended(self) -> bool:
        return self._writer.ended or self.end is not None

    def feed_whole(self, completion: Mapping[str, Any]) -> bytes:
        """Add a whole chat completion. It needs no finish reason."""
        self._done = True
        choices = completion.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
        if not (completion.get("error") or choice.get("error") or isinstance(choice.get("message"), dict)):
            return self._fail("api_error", NO_MESSAGE)
        return self._object(completion, counts=True) + self._end()

    def start_message(self) -> bytes:
        """Start the message if it has not started."""
        return self._start()

    @property
    def searches(self) -> list[Call]:
        """The calls of the search tool, in order."""
        return [Call(self._calls[id(block)], _input(pieces)) for block, pieces in self._content if self._is_search(block)]

    @property
    def has_client_calls(self) -> bool:
        """Whether the model called one of the client's tools."""
        return any(block.kind == CALL and not self._is_search(block) for block, _ in self._content)

    def turn(self) -> list[dict[str, Any]]:
        """Return the model's output as a turn of the conversation with its provider."""
        return [self._block(block, pieces) for block, pieces in self._content]

    def _block(self, block: Block, pieces: list[str]) -> dict[str, Any]:
        if block.kind == CALL:
            return {"type": CALL, "id": self._calls[id(block)], "name": block.name, "input": _input(pieces) or {}}
        text = "".join(pieces)
        if block.kind == TEXT:
            return {"type": TEXT, "text": text}
        return {"type": "thinking", "thinking": text, "signature": mark(self._context.row.name, "")}

    def _is_search(self, block: Block) -> bool:
        return block.kind == CALL and block.name == NAME

    def _must_parse(self, call: Block) -> bool:
        return super()._must_parse(call) and not self._is_search(call)

    def _write(self, step: Step) -> bytes:
        if step.what == BEGIN:
            self._content.append((step.block, []))
        elif step.what == MORE:
            self._content[-1][1].append(step.text)
        if not self._is_search(step.block):
            return super()._write(step)
        if step.what == END:
            self._calls[id(step.block)] = self._ids.of(step.block)
        return b""

    def _write_text(self, text: str) -> bytes:
        self._content[-1][1].append(text)
        return super()._write_text(text)

    def _end_message(self, ended: Ending) -> bytes:
        self.end = End(ended.stop_reason, ended.stop_sequence)
        return b""


def _input(pieces: list[str]) -> dict[str, Any] | None:
    text = "".join(pieces)
    return json_object(text.encode("utf-8", "surrogatepass")) if text.strip() else {}
