"""A strict reader of a Messages stream: the order of its events, its indices, its blocks and its end, as Anthropic documents them."""

import json

STOPS = {
    "end_turn", "max_tokens", "stop_sequence", "tool_use", "pause_turn", "refusal", "model_context_window_exceeded",
}  # fmt: skip
CUT = {"max_tokens", "model_context_window_exceeded", "refusal"}
DELTAS = {
    "text_delta": ("text", "text"), "thinking_delta": ("thinking", "thinking"), "signature_delta": ("thinking", "signature"),
    "input_json_delta": ("tool_use", "partial_json"),
}  # fmt: skip


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


def read_message(stream):
    """Return the message of a stream, or its error; raise for whatever is out of order."""
    message, blocks, current, ended, reason = None, [], None, False, None
    for event in read_events(stream):
        kind = event["type"]
        assert not ended, f"{kind} after the end"
        if kind == "error":
            assert event["error"]["type"], event
            assert isinstance(event["error"]["message"], str)
            return event
        if kind == "message_start":
            assert message is None
            message = event["message"]
            assert (message["type"], message["role"], message["content"]) == ("message", "assistant", [])
            assert message["usage"]["input_tokens"] >= 0
            continue
        assert message is not None, f"{kind} before message_start"
        if kind == "content_block_start":
            assert current is None, "a block inside of a block"
            assert event["index"] == len(blocks)
            current = {**event["content_block"], "told": "", "signature": ""}
            blocks.append(current)
        elif kind == "content_block_delta":
            of, field = DELTAS[event["delta"]["type"]]
            assert current is not None
            assert (event["index"], current["type"]) == (len(blocks) - 1, of)
            if field == "signature":
                current["signature"] = event["delta"][field]
            else:
                current["told"] += event["delta"][field]
        elif kind == "content_block_stop":
            assert current is not None
            assert event["index"] == len(blocks) - 1
            current = None
        elif kind == "message_delta":
            assert current is None, "the end inside of a block"
            assert reason is None, "two ends"
            reason = event["delta"]["stop_reason"]
            assert reason in STOPS
            message["usage"] |= event["usage"]
        elif kind == "message_stop":
            assert reason is not None
            ended = True
    assert ended, "no end"
    ids = [block["id"] for block in blocks if block["type"] == "tool_use"]
    assert len(ids) == len(set(ids)), "two calls of one id"
    for block in blocks:
        told = block.pop("told")
        signature = block.pop("signature")
        if block["type"] == "tool_use":
            block["input"] = parsed(told, reason)
        elif block["type"] == "text":
            block["text"] = told
            assert told.strip(), "a block of nothing"
        else:
            block |= {"thinking": told, "signature": signature}
    assert (reason == "tool_use") == (bool(ids) and reason not in CUT)
    return message | {"content": blocks, "stop_reason": reason}


def parsed(told, reason):
    try:
        made = json.loads(told or "{}")
    except ValueError:
        assert reason in CUT, "half a call"
        return told
    assert isinstance(made, dict) or reason in CUT
    return made
