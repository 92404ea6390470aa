"""Responses of the models ``demo`` and ``claude-demo``, made inside the process in Anthropic's format. They need no key."""

import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any


def text(models: Sequence[str], missing: Mapping[str, Sequence[str]], pool_size: int) -> str:
    """Return the demo's text: the proxy works, the size of the pool, which keys are missing, and which models are ready.

    ``missing`` has the variables that each model lacks; none for a model of Claude that lacks a credential.
    """
    lines = ["The proxy works: it made this response itself and called no model.", ""]
    if pool_size:
        lines.append(f"Claude: {pool_size} credential{'s' if pool_size > 1 else ''} in the pool.")
    else:
        lines.append("Claude: no credential in the pool. Add one with claude-proxy pool add LABEL, or let clients use theirs.")
    lines += [f"{model}: not ready, set {' and '.join(missing[model])} in .env" for model in models if missing.get(model)]
    ready = [model for model in models if model not in missing]
    lines.append(f"Ready models: {', '.join(ready) or 'none'}.")
    return "\n".join(lines)


def response(model: str, size: int, text: str, *, streams: bool) -> bytes:
    """Return a response to a Messages request of ``size`` bytes, as events or whole. It calls no tools."""
    usage = {"input_tokens": max(1, size // 4), "output_tokens": max(1, len(text) // 4)}
    message = {
        "id": f"msg_demo_{uuid.uuid4().hex}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [{"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": usage,
    }
    return _events(message, text) if streams else json.dumps(message).encode()


def _events(message: dict[str, Any], text: str) -> bytes:
    started = message | {"content": [], "stop_reason": None, "usage": message["usage"] | {"output_tokens": 0}}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": started},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *(
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": line}}
            for line in text.splitlines(keepends=True)
        ),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": message["usage"]},
        {"type": "message_stop"},
    ]
    return b"".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events)
