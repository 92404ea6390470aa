"""The responses of the soak test's models. Both ends compute them from the request's text, so every byte can be checked.

The last message of a request contains a ``Plan``. Each piece of the response has the request's number, its own place and the
moment at which it was sent; two equal responses differ only in these moments.
"""

import json
import re
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

# The moment of a piece, in microseconds of the monotonic clock, which all processes of a machine share.
BLANK = b"@0000000000000"
_STAMP = re.compile(rb"@\d{13}")
PIECE = re.compile(rb"(\d+)\.(\d+)@(\d{13})")
_PLAN = re.compile(rb"\[soak (\d+) (\d+) ([\d.]+) ([01]) (\d{13})\]")
TOOL = "Write"


class Plan(NamedTuple):
    """A request's plan: the number of pieces and seconds; with ``tool`` the last quarter is a tool's input."""

    number: int
    pieces: int
    seconds: float
    tool: bool
    sent: int = 0

    @property
    def texts(self) -> int:
        """The number of text pieces."""
        return self.pieces - self.pieces // 4 if self.tool else self.pieces

    def words(self) -> str:
        """Return the plan as the text of a message."""
        return f"[soak {self.number} {self.pieces} {self.seconds:.2f} {int(self.tool)} {self.sent:013d}]"


def now() -> int:
    """Return the current moment in microseconds."""
    return time.monotonic_ns() // 1000


def plan_in(body: bytes) -> Plan | None:
    """Return a request's plan, in any format; None if it is not a request of the soak test."""
    found = _PLAN.search(body)
    if found is None:
        return None
    number, pieces, seconds, tool, sent = found.groups()
    return Plan(int(number), int(pieces), float(seconds), tool == b"1", int(sent))


def stamped(template: bytes, moment: int) -> bytes:
    """Return a part of a response with its moment."""
    return template.replace(BLANK, b"@%013d" % moment)


def unstamped(response: bytes) -> bytes:
    """Return a response without its moments, so that equal responses are equal."""
    return _STAMP.sub(BLANK, response)


def piece(plan: Plan, place: int) -> str:
    """Return a piece without a moment."""
    return f"{plan.number}.{place}{BLANK.decode()} "


def claude(plan: Plan, model: str, *, thinks: bool = False) -> list[bytes]:
    """Return a stream in Anthropic's format, in the parts in which it is sent: one piece per part."""
    message = _message(plan, model) | {"content": [], "stop_reason": None}
    start = _event({"type": "message_start", "message": message}) + _event({"type": "ping"})
    index = 0
    if thinks:
        start += _block(index, {"type": "thinking", "thinking": "", "signature": ""})
        start += _delta(index, {"type": "thinking_delta", "thinking": f"a thought about {plan.number}"}) + _stop(index)
        index += 1
    start += _block(index, {"type": "text", "text": ""})
    parts = [_delta(index, {"type": "text_delta", "text": piece(plan, place)}) for place in range(plan.texts)]
    parts[0] = start + parts[0]
    if plan.tool:
        block = {"type": "tool_use", "id": f"toolu_{plan.number}", "name": TOOL, "input": {}}
        parts[-1] += _stop(index) + _block(index := index + 1, block)
        parts += [_delta(index, {"type": "input_json_delta", "partial_json": text}) for text in _tool_input(plan)]
    end = {"stop_reason": "tool_use" if plan.tool else "end_turn", "stop_sequence": None}
    usage = {"output_tokens": plan.pieces}
    parts[-1] += _stop(index) + _event({"type": "message_delta", "delta": end, "usage": usage})
    parts[-1] += _event({"type": "message_stop"})
    return parts


def whole(plan: Plan, model: str) -> dict[str, Any]:
    """Return the same message as a whole."""
    content: list[dict[str, Any]] = [{"type": "text", "text": "".join(piece(plan, place) for place in range(plan.texts))}]
    if plan.tool:
        text = json.loads("".join(_tool_input(plan)))
        content.append({"type": "tool_use", "id": f"toolu_{plan.number}", "name": TOOL, "input": text})
    return _message(plan, model) | {"content": content, "stop_reason": "tool_use" if plan.tool else "end_turn"}


def openai(plan: Plan, model: str) -> list[bytes]:
    """Return the stream in OpenAI's format, in the same parts."""
    head = {"id": f"chatcmpl-{plan.number}", "object": "chat.completion.chunk", "created": 1, "model": model}

    def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
        return _data(head | {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})

    parts = [chunk({"content": piece(plan, place)}) for place in range(plan.texts)]
    parts[0] = chunk({"role": "assistant", "content": ""}) + parts[0]
    if plan.tool:
        call = {"index": 0, "id": f"call_{plan.number}", "type": "function", "function": {"name": TOOL, "arguments": ""}}
        parts[-1] += chunk({"tool_calls": [call]})
        parts += [chunk({"tool_calls": [{"index": 0, "function": {"arguments": text}}]}) for text in _tool_input(plan)]
    usage = {"prompt_tokens": 10, "completion_tokens": plan.pieces, "total_tokens": 10 + plan.pieces}
    parts[-1] += chunk({}, "tool_calls" if plan.tool else "stop") + _data(head | {"choices": [], "usage": usage})
    parts[-1] += b"data: [DONE]\n\n"
    return parts


def openai_whole(plan: Plan, model: str) -> dict[str, Any]:
    """Return the same response as a whole."""
    response: dict[str, Any] = {"role": "assistant", "content": "".join(piece(plan, place) for place in range(plan.texts))}
    if plan.tool:
        function = {"name": TOOL, "arguments": "".join(_tool_input(plan))}
        response["tool_calls"] = [{"id": f"call_{plan.number}", "type": "function", "function": function}]
    choice = {"index": 0, "message": response, "finish_reason": "tool_calls" if plan.tool else "stop"}
    usage = {"prompt_tokens": 10, "completion_tokens": plan.pieces, "total_tokens": 10 + plan.pieces}
    head = {"id": f"chatcmpl-{plan.number}", "object": "chat.completion", "created": 1, "model": model}
    return head | {"choices": [choice], "usage": usage}


def mistake(plan: Plan, model: str, response: bytes, *, streams: bool, to_the_byte: bool) -> str | None:
    """Return what is wrong with a model's whole response; None if nothing is.

    Claude's stream is compared byte by byte; of a translated one everything that a client would use is compared.
    """
    if streams and to_the_byte:
        return None if unstamped(response) == b"".join(claude(plan, model)) else "bytes differ"
    try:
        if streams:
            return _stream_mistake(plan, model, list(_events(unstamped(response))))
        return _message_mistake(plan, model, json.loads(unstamped(response)))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        return f"cannot be read: {error!r}"


def _message_mistake(plan: Plan, model: str, found: dict[str, Any]) -> str | None:
    if (found.get("model"), found.get("role")) != (model, "assistant"):
        return "another message"
    return _content_mistake(plan, found["content"])


def _stream_mistake(plan: Plan, model: str, events: list[dict[str, Any]]) -> str | None:
    kinds = [event["type"] for event in events if event["type"] != "ping"]
    if kinds[:1] != ["message_start"] or kinds[-2:] != ["message_delta", "message_stop"]:
        return f"wrong start or end: {kinds[:1]}, {kinds[-2:]}"
    if events[0]["message"]["model"] != model:
        return "wrong model"
    reason = next(event["delta"]["stop_reason"] for event in events if event["type"] == "message_delta")
    if reason != ("tool_use" if plan.tool else "end_turn"):
        return f"wrong stop reason: {reason}"
    return _content_mistake(plan, _gathered(events))


def _content_mistake(plan: Plan, found: list[dict[str, Any]]) -> str | None:
    expected: list[dict[str, Any]] = whole(plan, "")["content"]
    found = [block for block in found if block != {"type": "text", "text": ""}]
    if [block["type"] for block in found] != [block["type"] for block in expected]:
        return f"blocks are {[block['type'] for block in found]}"
    if found[0]["text"] != expected[0]["text"]:
        return "the text differs"
    if plan.tool and (found[1]["name"], found[1]["input"]) != (TOOL, expected[1]["input"]):
        return "the tool's input differs"
    return None


def _gathered(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a stream's blocks as they are in the whole message."""
    blocks: list[dict[str, Any]] = []
    inputs: dict[int, str] = {}
    for event in events:
        match event:
            case {"type": "content_block_start", "index": index, "content_block": block} if index == len(blocks):
                blocks.append(dict(block))
            case {"type": "content_block_delta", "index": index, "delta": {"text": text}}:
                blocks[index]["text"] += text
            case {"type": "content_block_delta", "index": index, "delta": {"partial_json": text}}:
                inputs[index] = inputs.get(index, "") + text
    for index, text in inputs.items():
        blocks[index]["input"] = json.loads(text)
    return blocks


def _events(stream: bytes) -> Iterator[dict[str, Any]]:
    return (json.loads(line[5:]) for line in stream.split(b"\n") if line.startswith(b"data:"))


def _tool_input(plan: Plan) -> list[str]:
    """Return a tool's input in pieces: an object with one text, which contains the last pieces."""
    pieces = [piece(plan, place) for place in range(plan.texts, plan.pieces)]
    return ['{"content": "' + pieces[0], *pieces[1:-1], pieces[-1] + '"}'] if len(pieces) > 1 else []


def _message(plan: Plan, model: str) -> dict[str, Any]:
    head = {"id": f"msg_{plan.number}", "type": "message", "role": "assistant", "model": model, "stop_sequence": None}
    usage = {
        "input_tokens": 10,
        "cache_creation_input_tokens": 900,
        "cache_read_input_tokens": 5000,
        "output_tokens": plan.pieces,
    }
    return head | {"usage": usage}


def _block(index: int, block: dict[str, Any]) -> bytes:
    return _event({"type": "content_block_start", "index": index, "content_block": block})


def _delta(index: int, delta: dict[str, Any]) -> bytes:
    return _event({"type": "content_block_delta", "index": index, "delta": delta})


def _stop(index: int) -> bytes:
    return _event({"type": "content_block_stop", "index": index})


def _event(event: dict[str, Any]) -> bytes:
    return b"event: %s\n" % event["type"].encode() + _data(event)


def _data(value: dict[str, Any]) -> bytes:
    return b"data: %s\n\n" % json.dumps(value).encode()
