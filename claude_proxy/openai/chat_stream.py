"""Translates a chat-completions stream to a Messages stream: a state machine over bytes, without I/O.

Seven rules:
  1. the output depends only on the bytes, not on how they are cut into chunks;
  2. a message starts with the first piece of its content, or at its end; an error before that is the stream's first event;
  3. blocks follow ``open_blocks.py``: one is open, none is split, and nothing else is held back;
  4. the stream ends with a stop reason if the provider sent a finish reason or ``[DONE]``; any other end is an error event,
     because the response is incomplete;
  5. the arguments of every call are a JSON object when the message ends, unless the message reached its length limit;
  6. each call has an id that is new in the conversation;
  7. the token counts are the provider's, from any of their places; without them, an estimate.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from claude_proxy.anthropic.messages import mark
from claude_proxy.anthropic.sse import event_data, first_event_end, json_object, last_event_end, only_data, whole_events
from claude_proxy.anthropic.stream_writer import StreamWriter
from claude_proxy.anthropic.token_estimate import CHARACTERS_PER_TOKEN
from claude_proxy.anthropic.usage import Usage
from claude_proxy.openai.finish_reasons import Ending, ending
from claude_proxy.openai.inner_errors import inner_error
from claude_proxy.openai.open_blocks import BEGIN, MORE, Block, Blocks, Step
from claude_proxy.openai.parts import CALL, TEXT, THINKING, Part, parts
from claude_proxy.openai.sources import Sources
from claude_proxy.openai.text_template import TextTemplate
from claude_proxy.openai.think_tags import ThinkTags
from claude_proxy.openai.token_counts import usage_in
from claude_proxy.providers.call_ids import THOUGHT, new_id, safe_id
from claude_proxy.providers.compatibility import Dialect, Thinking
from claude_proxy.providers.returned import BROKEN_OFF, CUT_SHORT
from claude_proxy.providers.search_tool import SearchTool

DONE = b"[DONE]"
# The limit, in characters, for a response's calls and for what waits behind one.
MAX_KEPT = 16 * 1024 * 1024
# The stop reasons of a complete response without calls.
COMPLETE_REASONS = ("end_turn", "stop_sequence")


@dataclass(frozen=True)
class RequestContext:
    """What the translation of a response needs to know about its request."""

    # The model name of the client's request.
    model: str
    row: Dialect
    # Estimates the request's tokens; called only if the provider sends no counts.
    input_tokens: Callable[[], int]
    # The call ids of the conversation, and the tools' original names by the names sent to the provider.
    ids: frozenset[str] = frozenset()
    names: Mapping[str, str] = field(default_factory=dict)
    # Whether a list of the provider's sources may follow the text.
    lists_sources: bool = True
    # The web search that the proxy makes when the model calls it.
    search: SearchTool | None = None
    # A cheap estimate of the input tokens for the start of a stream; the end of the stream has the exact number.
    guess: Callable[[], int] | None = None


class ChatStream:
    """``feed`` every chunk, then ``finish`` once. With a ``writer`` it continues a message that another stream has started."""

    def __init__(self, context: RequestContext, writer: StreamWriter | None = None) -> None:
        self._context = context
        self._writer = writer or StreamWriter(context.model)
        self._blocks = Blocks()
        self._ids = CallIds(context)
        self._tags = ThinkTags()
        self._template = TextTemplate()
        # The text of the last event, if the event had no other content.
        self._only_text = ""
        self._sources = Sources()
        # The start of an event, and how many of its bytes are known to contain no event end.
        self._held = bytearray()
        self._searched = 0
        self._usage: Usage | None = None
        self._reason: object = None
        self._matched: object = None
        self._done = False
        self._characters = 0
        self._has_content = False

    def feed(self, chunk: bytes) -> bytes:
        """Return the events that can be written now."""
        if not self._held and (data := only_data(chunk)):
            return self._event(data)
        if self._held:
            self._held += chunk
            if not first_event_end(self._held, self._searched):
                self._searched = len(self._held)
                return b""
            chunk = bytes(self._held)
        end = last_event_end(chunk)
        self._held, self._searched = bytearray(chunk[end:]), len(chunk) - end
        return b"".join([self._event(event_data(raw)) for raw in whole_events(chunk[:end])])

    def finish(self) -> bytes:
        """Return the end of the stream, after the provider's stream has ended."""
        held, self._held = bytes(self._held), bytearray()
        out = self._event(event_data(held)) if held else b""
        return out + self._end()

    @property
    def ended(self) -> bool:
        """Whether the rest of the stream is ignored."""
        return self._writer.ended

    def _event(self, data: bytes) -> bytes:
        if self.ended or not data:
            return b""
        if data.strip() == DONE:
            self._done = True
            return self._end()
        if (text := self._template.text_in(data)) and self._tags.passes and self._blocks.continues(TEXT):
            self._characters += len(text)
            return self._write_text(text)
        event = json_object(data)
        if event is None:  # anything but an object is ignored, but a broken object may have lost content
            return (
                self._fail("api_error", "the provider sent an event that is not valid JSON") if data.startswith(b"{") else b""
            )
        out = self._object(event, counts=b"usage" in data)
        if self._only_text:
            self._template.learn(data, self._only_text)
        return out

    def _object(self, event: Mapping[str, Any], *, counts: bool) -> bytes:
        choices = event.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
        if error := inner_error(event, choice):
            return self._fail(*error)
        if counts:
            self._usage = usage_in(event) or self._usage
        # A `message` contains the whole content. After deltas it only repeats them (MiniMax, Perplexity).
        self._sources.take(event, choice.get("delta") or choice.get("message"))
        delta = choice.get("delta") or (None if self._has_content else choice.get("message"))
        found = [*parts(delta)] if isinstance(delta, dict) else []
        out = b"".join([self._part(part) for part in found])
        self._only_text = found[0].text if len(found) == 1 and found[0].kind == TEXT else ""
        if choice.get("finish_reason") is not None and self._reason is None:
            self._reason, self._matched = choice["finish_reason"], choice.get("stop_reason") or choice.get("matched_stop")
        return out

    def _part(self, part: Part) -> bytes:
        if self.ended:
            return b""
        self._has_content = True
        self._characters += len(part.text)
        if part.kind == TEXT and self._tags.passes and self._blocks.continues(TEXT):
            return self._write_text(part.text)  # the most frequent case
        if part.kind == TEXT:
            found = [Part(kind, text) for kind, text in self._tags.feed(part.text)]
        elif part.kind == CALL:
            found = [*(Part(kind, text) for kind, text in self._tags.finish()), part]
        else:
            found = [part]
        out = b"".join([self._steps(self._blocks.add(one)) for one in found if one.kind != THINKING or self._keeps_thinking])
        return out if self._blocks.kept <= MAX_KEPT else out + self._fail("api_error", "the provider's calls are too large")

    @property
    def _keeps_thinking(self) -> bool:
        return self._context.row.thinking is not Thinking.NONE

    def _write_text(self, text: str) -> bytes:
        return self._writer.delta(text)

    def _steps(self, steps: Iterator[Step]) -> bytes:
        return b"".join([self._write(step) for step in steps])

    def _write(self, step: Step) -> bytes:
        if step.what == BEGIN:
            return self._start() + self._writer.open(self._block_start(step.block))
        if step.what == MORE:
            return self._writer.delta(step.text)
        return self._writer.close(mark(self._context.row.name, "") if step.block.kind == THINKING else "")

    def _start(self) -> bytes:
        return b"" if self._writer.started else self._writer.start((self._context.guess or self._context.input_tokens)())

    def _block_start(self, block: Block) -> dict[str, Any]:
        if block.kind == TEXT:
            return {"type": "text", "text": ""}
        if block.kind == THINKING:
            return {"type": "thinking", "thinking": "", "signature": ""}
        name = self._context.names.get(block.name, block.name)
        return {"type": "tool_use", "id": self._ids.of(block), "name": name, "input": {}}

    def _end(self) -> bytes:
        if self.ended:
            return b""
        rest = [Part(kind, text) for kind, text in self._tags.finish()]
        out = b"".join([self._steps(self._blocks.add(one)) for one in rest if one.kind != THINKING or self._keeps_thinking])
        if self._reason is None and not self._done:
            return out + self._fail("api_error", BROKEN_OFF)
        if self._lists_sources:
            out += self._steps(self._blocks.add(Part(TEXT, self._sources.text)))
        out += self._steps(self._blocks.finish())
        ended = self._ending()
        return out + (self._fail("api_error", ended.problem) if ended.problem else self._end_message(ended))

    def _end_message(self, ended: Ending) -> bytes:
        return self._start() + self._writer.end(ended.stop_reason, ended.stop_sequence, self.usage)

    def _must_parse(self, call: Block) -> bool:
        """Whether invalid arguments of this call make the response invalid."""
        return call.is_open

    @property
    def _lists_sources(self) -> bool:
        whole = not self._blocks.calls and self._ending().stop_reason in COMPLETE_REASONS
        return whole and self._context.lists_sources and self._blocks.continues(TEXT)

    def _ending(self) -> Ending:
        reason = "stop" if self._reason is None else self._reason
        found = ending(reason, self._matched, calls=self._blocks.has_calls)
        if found.problem or found.stop_reason in CUT_SHORT:
            return found
        calls = filter(self._must_parse, self._blocks.calls)
        broken = next((call for call in calls if not is_object("".join(call.pieces))), None)
        return (
            found if broken is None else Ending(problem=f"the arguments of a call of {broken.name[:100]} are not a JSON object")
        )

    def fail(self, message: str) -> bytes:
        """End the stream with an error, because the upstream broke it off."""
        return b"" if self.ended else self._fail("api_error", message)

    def _fail(self, kind: str, message: str) -> bytes:
        return self._writer.fail(kind, message)

    @property
    def usage(self) -> Usage:
        """The token counts of the response so far, estimated if the provider sent none."""
        return self._usage or Usage(self._context.input_tokens(), max(1, self._characters // CHARACTERS_PER_TOKEN))

    @property
    def counted(self) -> Usage | None:
        """The provider's own counts; None if it sent none."""
        return self._usage


class CallIds:
    """Chooses the ids of a response's calls: the provider's own, unless the conversation already has it (rule 6)."""

    def __init__(self, context: RequestContext) -> None:
        self._taken = set(context.ids)
        self._signs = context.row.signs_calls

    def of(self, block: Block) -> str:
        """Return the id of a call. It contains the call's signature, if there is one."""
        # LiteLLM appends the signature to the id.
        own, _, signature = block.id.partition(THOUGHT) if self._signs else (block.id, "", "")
        given = own if own and safe_id(own) not in self._taken else new_id()
        call = safe_id(given)
        if self._signs and (signature := block.signature or signature):
            call = safe_id(f"{given}{THOUGHT}{signature}")
        self._taken |= {call, safe_id(given)}
        return call


def is_object(text: str) -> bool:
    """Whether a text is a JSON object; an empty text is an empty object."""
    return not text.strip() or json_object(text.encode("utf-8", "surrogatepass")) is not None
