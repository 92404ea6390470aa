"""A chat-completions stream as a Messages stream: a state machine over bytes, without I/O.

Seven rules:
  1. the output depends on the bytes, never on how they were cut;
  2. a message begins with the first piece of its content, or with its end: an error before that is the stream's first event;
  3. blocks follow ``open_blocks.py``: one is open, none is split, nothing is held back beyond that;
  4. the stream ends with a stop reason where the provider said why it ended, or ended it with ``[DONE]``; anything else is an
     error event, for half an answer is none;
  5. the arguments of every call are a JSON object when the message ends, unless it was cut by its length;
  6. each call has an id that the conversation does not have yet;
  7. the counts are the provider's, from wherever they stand; where there are none, an estimate.
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
# Of a response's calls, and of what waits behind one, so many characters are kept.
MAX_KEPT = 16 * 1024 * 1024
# How an answer ends that is whole.
BY_ITSELF = ("end_turn", "stop_sequence")


@dataclass(frozen=True)
class Told:
    """What is known of the request when its response is translated."""

    # The name that the client asked for.
    model: str
    row: Dialect
    # About how many tokens the request has, should the provider not say; counted only then.
    input_tokens: Callable[[], int]
    # The ids of calls that the conversation has, and the tools' names by what the provider was sent.
    ids: frozenset[str] = frozenset()
    names: Mapping[str, str] = field(default_factory=dict)
    # Whether the sources that the provider names may follow its text.
    lists_sources: bool = True
    # The search of the web that the proxy makes where the model calls it.
    search: SearchTool | None = None
    # A guess at the input's tokens that costs nothing, for the beginning of a stream: its end has a number that holds.
    guess: Callable[[], int] | None = None


class ChatStream:
    """``feed`` every chunk, then ``finish`` once. With a ``writer`` it goes on with a message that another stream has begun."""

    def __init__(self, told: Told, writer: StreamWriter | None = None) -> None:
        self._told = told
        self._writer = writer or StreamWriter(told.model)
        self._blocks = Blocks()
        self._ids = CallIds(told)
        self._tags = ThinkTags()
        self._template = TextTemplate()
        # The text of the last event, where that said nothing but a text.
        self._only_text = ""
        self._sources = Sources()
        # The beginning of an event, and how much of it is known to hold no end.
        self._held = bytearray()
        self._searched = 0
        self._usage: Usage | None = None
        self._reason: object = None
        self._matched: object = None
        self._done = False
        self._said = 0
        self._begun_telling = False

    def feed(self, chunk: bytes) -> bytes:
        """Return the events that are certain."""
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
        """Return what ends the stream, now that the provider's has ended."""
        held, self._held = bytes(self._held), bytearray()
        out = self._event(event_data(held)) if held else b""
        return out + self._end()

    @property
    def ended(self) -> bool:
        """Whether nothing more is read of the stream."""
        return self._writer.ended

    def _event(self, data: bytes) -> bytes:
        if self.ended or not data:
            return b""
        if data.strip() == DONE:
            self._done = True
            return self._end()
        if (text := self._template.text_in(data)) and self._tags.passes and self._blocks.continues(TEXT):
            self._said += len(text)
            return self._continued(text)
        said = json_object(data)
        if said is None:  # what is no object says nothing, but of half an object nobody knows what is lost
            return self._fail("api_error", "the provider sent an event that cannot be read") if data.startswith(b"{") else b""
        out = self._object(said, counts=b"usage" in data)
        if self._only_text:
            self._template.learn(data, self._only_text)
        return out

    def _object(self, said: Mapping[str, Any], *, counts: bool) -> bytes:
        choices = said.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
        if error := inner_error(said, choice):
            return self._fail(*error)
        if counts:
            self._usage = usage_in(said) or self._usage
        # A message says at once what deltas say in pieces; behind them it repeats it (MiniMax, Perplexity).
        self._sources.take(said, choice.get("delta") or choice.get("message"))
        delta = choice.get("delta") or (None if self._begun_telling else choice.get("message"))
        found = [*parts(delta)] if isinstance(delta, dict) else []
        out = b"".join([self._part(part) for part in found])
        self._only_text = found[0].text if len(found) == 1 and found[0].kind == TEXT else ""
        if choice.get("finish_reason") is not None and self._reason is None:
            self._reason, self._matched = choice["finish_reason"], choice.get("stop_reason") or choice.get("matched_stop")
        return out

    def _part(self, part: Part) -> bytes:
        if self.ended:
            return b""
        self._begun_telling = True
        self._said += len(part.text)
        if part.kind == TEXT and self._tags.passes and self._blocks.continues(TEXT):
            return self._continued(part.text)  # nearly every piece of a response
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
        return self._told.row.thinking is not Thinking.NONE

    def _continued(self, text: str) -> bytes:
        return self._writer.delta(text)

    def _steps(self, steps: Iterator[Step]) -> bytes:
        return b"".join([self._written(step) for step in steps])

    def _written(self, step: Step) -> bytes:
        if step.what == BEGIN:
            return self._start() + self._writer.open(self._begun(step.block))
        if step.what == MORE:
            return self._writer.delta(step.text)
        return self._writer.close(mark(self._told.row.name, "") if step.block.kind == THINKING else "")

    def _start(self) -> bytes:
        return b"" if self._writer.started else self._writer.start((self._told.guess or self._told.input_tokens)())

    def _begun(self, block: Block) -> dict[str, Any]:
        if block.kind == TEXT:
            return {"type": "text", "text": ""}
        if block.kind == THINKING:
            return {"type": "thinking", "thinking": "", "signature": ""}
        name = self._told.names.get(block.name, block.name)
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
        return out + (self._fail("api_error", ended.problem) if ended.problem else self._finished(ended))

    def _finished(self, ended: Ending) -> bytes:
        return self._start() + self._writer.end(ended.stop_reason, ended.stop_sequence, self.usage)

    def _must_parse(self, call: Block) -> bool:
        """Whether broken arguments of a call break the response."""
        return call.is_open

    @property
    def _lists_sources(self) -> bool:
        whole = not self._blocks.calls and self._ending().stop_reason in BY_ITSELF
        return whole and self._told.lists_sources and self._blocks.continues(TEXT)

    def _ending(self) -> Ending:
        reason = "stop" if self._reason is None else self._reason
        found = ending(reason, self._matched, calls=self._blocks.has_calls)
        if found.problem or found.stop_reason in CUT_SHORT:
            return found
        calls = filter(self._must_parse, self._blocks.calls)
        broken = next((call for call in calls if not is_object("".join(call.told))), None)
        return (
            found if broken is None else Ending(problem=f"the arguments of a call of {broken.name[:100]} are not a JSON object")
        )

    def fail(self, message: str) -> bytes:
        """End the stream with an error, for its upstream broke it off."""
        return b"" if self.ended else self._fail("api_error", message)

    def _fail(self, kind: str, message: str) -> bytes:
        return self._writer.fail(kind, message)

    @property
    def usage(self) -> Usage:
        """The tokens of the response as far as they are known."""
        return self._usage or Usage(self._told.input_tokens(), max(1, self._said // CHARACTERS_PER_TOKEN))

    @property
    def counted(self) -> Usage | None:
        """The provider's own counts; None where it gave none."""
        return self._usage


class CallIds:
    """The ids that the calls of one response get: the provider's own, unless the conversation has it already (rule 6)."""

    def __init__(self, told: Told) -> None:
        self._taken = set(told.ids)
        self._signs = told.row.signs_calls

    def of(self, block: Block) -> str:
        """Return the id of a call; of a signed one, the signature is in it."""
        # LiteLLM puts the signature behind the id by itself.
        said, _, signature = block.id.partition(THOUGHT) if self._signs else (block.id, "", "")
        given = said if said and safe_id(said) not in self._taken else new_id()
        call = safe_id(given)
        if self._signs and (signature := block.signature or signature):
            call = safe_id(f"{given}{THOUGHT}{signature}")
        self._taken |= {call, safe_id(given)}
        return call


def is_object(text: str) -> bool:
    """Whether a text is a JSON object, or nothing, which stands for an empty one."""
    return not text.strip() or json_object(text.encode("utf-8", "surrogatepass")) is not None
