"""A strict reader of what answers a Messages request, streamed or whole: events, indices, blocks and the end, as documented."""

import json
import re

STOPS = {
    "end_turn", "max_tokens", "stop_sequence", "tool_use", "pause_turn", "refusal", "model_context_window_exceeded",
}  # fmt: skip
CUT = {"max_tokens", "model_context_window_exceeded", "refusal"}
DELTAS = {
    "text_delta": ("text", "text"), "thinking_delta": ("thinking", "thinking"), "signature_delta": ("thinking", "signature"),
    "input_json_delta": ("tool_use", "partial_json"), "citations_delta": ("text", "citation"),
}  # fmt: skip
# Calls that Anthropic runs itself; their input comes as that of a tool's does.
SERVER_CALLS = {"server_tool_use", "mcp_tool_use"}
# What each kind of block has to have, and of which type; one of another kind is only known to have a type.
FIELDS = {
    "text": {"text": str}, "thinking": {"thinking": str, "signature": str}, "redacted_thinking": {"data": str},
    "tool_use": {"id": str, "name": str, "input": dict}, "server_tool_use": {"id": str, "name": str, "input": dict},
    "web_search_tool_result": {"tool_use_id": str},
}  # fmt: skip
# What the proxy sends while a provider is silent, as an event of the name "message": Claude Code reads it and does nothing.
KEEPALIVE = "gateway_keepalive"
COUNTS = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")


def read_events(stream):
    """Return the events' data; each event has a name, which is its type, and one line of data."""
    found = []
    for raw in stream.split(b"\n\n"):
        if not raw:
            continue
        name, data = raw.split(b"\n")
        said = json.loads(data.removeprefix(b"data: "))
        assert name == b"event: " + said["type"].encode(), raw
        found.append(said)
    return found


def read_sse(stream):
    """Return the same of a stream that somebody else wrote: with comments, its own line ends, and data on several lines."""
    found, name, data = [], b"", []
    for line in [*stream.splitlines(), b""]:
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"event":
            name = value
        elif field == b"data":
            data.append(value)
        elif not line and data:
            said = json.loads(b"\n".join(data))
            assert name in (b"", said["type"].encode(), b"message" if said["type"] == KEEPALIVE else b""), (name, data)
            found.append(said)
        if not line:
            name, data = b"", []
    return found


def read_message(stream, events=read_events):
    """Return the message of a stream, or its error; raise for whatever is out of order."""
    reader = Reader()
    for event in events(stream):
        reader.read(event)
    return reader.result()


def read_whole(message):
    """Return a message that did not stream; raise for whatever it lacks."""
    assert (message["type"], message["role"]) == ("message", "assistant"), message
    assert isinstance(message["id"], str), message
    assert isinstance(message["model"], str), message
    assert message["stop_reason"] in STOPS, message
    assert isinstance(message["stop_sequence"], str) == (message["stop_reason"] == "stop_sequence"), message
    check_usage(message["usage"])
    for block in message["content"]:
        for name, kind in FIELDS.get(block["type"], {}).items():
            assert isinstance(block[name], kind), block
        assert block["type"] != "text" or block["text"].strip(), "a block of nothing"
    check_calls(message["content"], message["stop_reason"])
    return message


def check_usage(usage):
    """Raise for counts that are none."""
    assert "input_tokens" in usage, usage
    assert "output_tokens" in usage, usage
    for name in COUNTS:
        counted = usage.get(name) or 0
        assert isinstance(counted, int), usage
        assert counted >= 0, usage


def check_calls(blocks, reason):
    """Raise for two calls of one id, and for calls that the reason of the end does not tell of."""
    ids = [block["id"] for block in blocks if block["type"] == "tool_use"]
    assert len(ids) == len(set(ids)), "two calls of one id"
    assert (reason == "tool_use") == (bool(ids) and reason not in CUT), reason


class Reader:
    """``read`` each event, then ``result`` once."""

    def __init__(self):
        self.message = self.current = self.reason = self.error = None
        self.blocks = []
        self.ended = False

    def read(self, event):
        kind = event["type"]
        if kind in ("ping", KEEPALIVE):
            assert not self.ended, f"a {kind} after the end"
            return
        assert not self.ended, f"{kind} after the end"
        assert self.error is None, f"{kind} after an error"
        assert self.message is not None or kind in ("error", "message_start"), f"{kind} before message_start"
        known = self.KINDS.get(kind)
        assert known is not None, f"an event {kind}"
        known(self, event)

    def read_error(self, event):
        assert event["error"]["type"], event
        assert isinstance(event["error"]["message"], str)
        self.error = event

    def start(self, event):
        assert self.message is None
        self.message = event["message"]
        assert (self.message["type"], self.message["role"], self.message["content"]) == ("message", "assistant", [])
        check_usage(self.message["usage"])

    def begin_block(self, event):
        assert self.reason is None, "a block after the stop reason"
        assert self.current is None, "a block inside of a block"
        assert event["index"] == len(self.blocks)
        self.current = {**event["content_block"], "told": "", "signature": ""}
        self.blocks.append(self.current)

    def continue_block(self, event):
        of, field = DELTAS[event["delta"]["type"]]
        assert self.current is not None
        kind = "tool_use" if self.current["type"] in SERVER_CALLS else self.current["type"]
        assert (event["index"], kind) == (len(self.blocks) - 1, of)
        if field == "citation":
            self.current["citations"] = [*(self.current.get("citations") or ()), event["delta"][field]]
        else:
            self.current["signature" if field == "signature" else "told"] += event["delta"][field]

    def end_block(self, event):
        assert self.current is not None
        assert event["index"] == len(self.blocks) - 1
        self.current = None

    def end(self, event):
        assert self.current is None, "the end inside of a block"
        assert self.reason is None, "two ends"
        self.reason = event["delta"]["stop_reason"]
        assert self.reason in STOPS
        self.message["usage"] |= event["usage"]
        check_usage(self.message["usage"])

    def stop(self, _):
        assert self.reason is not None
        self.ended = True

    KINDS = {  # noqa: RUF012 - nobody changes it
        "error": read_error, "message_start": start, "content_block_start": begin_block, "content_block_delta": continue_block,
        "content_block_stop": end_block, "message_delta": end, "message_stop": stop,
    }  # fmt: skip

    def result(self):
        if self.error is not None:
            return self.error
        assert self.ended, "no end"
        check_calls(self.blocks, self.reason)
        check_searches(self.blocks, self.message["usage"])
        return self.message | {"content": [whole(block, self.reason) for block in self.blocks], "stop_reason": self.reason}


def check_searches(blocks, usage):
    """Each search has its result right behind it, in Anthropic's shape, and those that found are counted."""
    found = 0
    for place, block in enumerate(blocks):
        before = blocks[place - 1] if place else {}
        if block["type"] == "web_search_tool_result":
            assert before["type"] == "server_tool_use", "a result without its search"
            assert block["tool_use_id"] == before["id"]
            found += isinstance(block["content"], list)
            check_result(block["content"])
        else:
            assert before.get("type") != "server_tool_use", "a search without its result"
        if block["type"] == "server_tool_use":
            assert re.fullmatch(r"srvtoolu_\w+", block["id"])
            assert block["name"] == "web_search"
    searches = [block["id"] for block in blocks if block["type"] == "server_tool_use"]
    assert len(searches) == len(set(searches)), "two searches of one id"
    assert not blocks or blocks[-1]["type"] != "server_tool_use", "a search without its result"
    if searches or "server_tool_use" in usage:
        assert usage["server_tool_use"] == {"web_search_requests": found}


def check_result(content):
    if isinstance(content, dict):
        assert content["type"] == "web_search_tool_result_error"
        assert re.fullmatch(r"\w{1,64}", content["error_code"])
        return
    for page in content:
        assert page.keys() == {"type", "title", "url", "encrypted_content", "page_age"}
        assert page["type"] == "web_search_result"
        assert page["title"]
        assert page["url"].startswith(("http://", "https://"))


def whole(block, reason):
    """Return a block with what its deltas told."""
    told, signature = block.pop("told"), block.pop("signature")
    if block["type"] == "web_search_tool_result":
        return block
    if block["type"] == "tool_use" or block["type"] in SERVER_CALLS:
        return block | {"input": parsed(told, reason)}
    if block["type"] == "text":
        assert told.strip(), "a block of nothing"
        return block | {"text": told}
    if block["type"] == "thinking":
        return block | {"thinking": told, "signature": signature}
    return block


def parsed(told, reason):
    try:
        made = json.loads(told or "{}")
    except ValueError:
        assert reason in CUT, "half a call"
        return told
    assert isinstance(made, dict) or reason in CUT
    return made
