"""Streams in Anthropic's format as another provider sends them: for the tests of what is made of them."""

import json


def event(kind, **more):
    return f"event: {kind}\ndata: {json.dumps({'type': kind} | more)}\n\n".encode()


def delta_of(block):
    """Return a block's beginning, and what its deltas tell."""
    match block["type"]:
        case "text":
            return block | {"text": ""}, [
                {"type": "text_delta", "text": part} for part in (block["text"][:2], block["text"][2:])
            ]
        case "thinking":
            signature = {"type": "signature_delta", "signature": block["signature"]}
            return block | {"thinking": "", "signature": ""}, [
                {"type": "thinking_delta", "thinking": block["thinking"]},
                signature,
            ]
        case "tool_use":
            said = json.dumps(block["input"])
            return block | {"input": {}}, [{"type": "input_json_delta", "partial_json": part} for part in (said[:3], said[3:])]
    return block, []


def stream(*blocks, reason=None, usage=(100, 7), done=True):
    """Return the events of a message with these blocks."""
    reason = reason or ("tool_use" if any(block["type"] == "tool_use" for block in blocks) else "end_turn")
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "glm-5", "content": [], "stop_reason": None}
    out = event("message_start", message=message | {"usage": {"input_tokens": usage[0], "output_tokens": 1}})
    for index, block in enumerate(blocks):
        begun, deltas = delta_of(block)
        out += event("content_block_start", index=index, content_block=begun)
        out += b"".join([event("content_block_delta", index=index, delta=delta) for delta in deltas])
        out += event("content_block_stop", index=index)
    if not done:
        return out
    out += event("message_delta", delta={"stop_reason": reason, "stop_sequence": None}, usage={"output_tokens": usage[1]})
    return out + event("message_stop")


def whole(*blocks, reason=None, usage=(100, 7)):
    """Return a message with these blocks."""
    reason = reason or ("tool_use" if any(block["type"] == "tool_use" for block in blocks) else "end_turn")
    counts = {"input_tokens": usage[0], "output_tokens": usage[1]}
    made = {"id": "msg_1", "type": "message", "role": "assistant", "model": "glm-5", "content": [*blocks]}
    return made | {"stop_reason": reason, "stop_sequence": None, "usage": counts}
