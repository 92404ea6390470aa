"""Stand-ins for providers whose format LiteLLM alone knows: Gemini, Ollama's own API, Bedrock Converse, OpenAI's Responses.

Each makes a response of blocks, whole, as a stream, or as half of one, and reads pictures and files out of a request.
"""

import json
from abc import ABC, abstractmethod
from typing import Any

import upstream as up
from dialects_upstream import event_stream_frame

Block = dict[str, Any]
JSON = {"content-type": "application/json"}
EVENTS = {"content-type": "text/event-stream"}
# Of a hundred tokens that were read, sixty came from a cache, where the format has one.
INPUT, CACHED, OUTPUT = 100, 60, 7


def sse(*said: Any) -> list[bytes]:
    return [b"data: %s\n\n" % json.dumps(one).encode() for one in said]


class Native(ABC):
    """One format. ``ends`` has its words for an end, for the limit and for a refusal, ``failure`` one of a failure's."""

    name: str
    params: str
    ends: tuple[str, str, str | None]
    failure: str | None = None
    caches = True
    # Whether a picture and a PDF are in its requests.
    files = True

    @abstractmethod
    def is_stream(self, seen: up.Seen) -> bool: ...

    @abstractmethod
    def whole(self, blocks: list[Block], end: str | None) -> Any: ...

    @abstractmethod
    def chunks(self, blocks: list[Block], end: str | None) -> list[bytes]:
        """A stream; without an end it is half of one."""

    def reply(self, seen: up.Seen, *blocks: Block, end: str | None = "") -> up.Reply:
        end = self.ends[0] if end == "" else end
        if self.is_stream(seen):
            return up.Reply(headers=self.events, chunks=self.chunks([*blocks], end))
        return up.Reply(headers=JSON, body=json.dumps(self.whole([*blocks], end)).encode())

    def error(self, status: int, message: str, **headers: str) -> up.Reply:
        return up.Reply(status, JSON | headers, json.dumps({"error": {"code": status, "message": message}}).encode())

    events = EVENTS


class Gemini(Native):
    name = "gemini"
    params = '{model: gemini/gemini-3.1-pro, api_base: "URL/gemini", api_key: made-up}'
    ends = ("STOP", "MAX_TOKENS", "SAFETY")
    failure = "MALFORMED_FUNCTION_CALL"

    def is_stream(self, seen: up.Seen) -> bool:
        return seen.query == "alt=sse"

    def whole(self, blocks: list[Block], end: str | None) -> Any:
        parts = [self._part(block) for block in blocks]
        ended = {"finishReason": end} if end else {}
        usage = {"promptTokenCount": INPUT, "candidatesTokenCount": OUTPUT, "cachedContentTokenCount": CACHED}
        return {
            "candidates": [{"content": {"role": "model", "parts": parts}, "index": 0} | ended],
            "usageMetadata": usage | {"totalTokenCount": INPUT + OUTPUT},
        }

    def chunks(self, blocks: list[Block], end: str | None) -> list[bytes]:
        texts = [[block] for block in blocks if block["type"] != "tool_use"]
        calls = [block for block in blocks if block["type"] == "tool_use"]  # which come in one chunk
        return sse(*(self.whole(some, None) for some in [*texts, calls] if some), *([self.whole([], end)] if end else []))

    def _part(self, block: Block) -> Block:
        if block["type"] == "tool_use":
            return {"functionCall": {"name": block["name"], "args": block["input"]}}
        return {"text": block["thinking"], "thought": True} if block["type"] == "thinking" else {"text": block["text"]}


class Ollama(Native):
    name = "ollama"
    params = '{model: ollama_chat/qwen3-coder, api_base: "URL/ollama"}'
    ends = ("stop", "length", None)
    caches = files = False
    events = {"content-type": "application/x-ndjson"}  # noqa: RUF012 - never written to

    def is_stream(self, seen: up.Seen) -> bool:
        return seen.json.get("stream") is True

    def whole(self, blocks: list[Block], end: str | None) -> Any:
        calls = [
            {"function": {"name": block["name"], "arguments": block["input"]}}
            for block in blocks
            if block["type"] == "tool_use"
        ]
        said = {
            "role": "assistant",
            "content": "".join(block["text"] for block in blocks if block["type"] == "text"),
            "thinking": "".join(block["thinking"] for block in blocks if block["type"] == "thinking"),
        }
        ended = {"done_reason": end, "prompt_eval_count": INPUT, "eval_count": OUTPUT} if end else {}
        message = {name: value for name, value in said.items() if value or name != "thinking"}
        message |= {"tool_calls": calls} if calls else {}
        return {"model": "q", "created_at": "2026-01-01T00:00:00Z", "message": message, "done": bool(end)} | ended

    def chunks(self, blocks: list[Block], end: str | None) -> list[bytes]:
        texts = [[block] for block in blocks if block["type"] != "tool_use"]
        calls = [block for block in blocks if block["type"] == "tool_use"]
        said = [*(self.whole(some, None) for some in [*texts, calls] if some), *([self.whole([], end)] if end else [])]
        return [json.dumps(one).encode() + b"\n" for one in said]


class Converse(Native):
    name = "nova"
    params = (
        "{model: bedrock/converse/us.amazon.nova-pro-v1:0, aws_access_key_id: AKIAMADEUP, aws_secret_access_key: made-up, "
        'aws_region_name: eu-central-1, aws_bedrock_runtime_endpoint: "URL/nova"}'
    )
    ends = ("end_turn", "max_tokens", "content_filtered")
    failure = "malformed_tool_use"
    events = {"content-type": "application/vnd.amazon.eventstream"}  # noqa: RUF012 - never written to
    usage = {  # noqa: RUF012 - never written to
        "inputTokens": INPUT - CACHED, "outputTokens": OUTPUT, "totalTokens": INPUT + OUTPUT, "cacheReadInputTokens": CACHED,
        "cacheWriteInputTokens": 0,
    }  # fmt: skip

    def is_stream(self, seen: up.Seen) -> bool:
        return seen.path.endswith("/converse-stream")

    def whole(self, blocks: list[Block], end: str | None) -> Any:
        content = [self._block(place, block) for place, block in enumerate(blocks)]
        output = {"message": {"role": "assistant", "content": content}}
        return {"output": output, "usage": self.usage} | ({"stopReason": end} if end else {})

    def chunks(self, blocks: list[Block], end: str | None) -> list[bytes]:
        said: list[tuple[str, Block]] = [("messageStart", {"role": "assistant"})]
        for place, block in enumerate(blocks):
            at = {"contentBlockIndex": place}
            if block["type"] == "tool_use":
                call = self._block(place, block)["toolUse"]
                arguments = json.dumps(call.pop("input"))
                said.append(("contentBlockStart", at | {"start": {"toolUse": call}}))
                deltas: list[Block] = [{"toolUse": {"input": piece}} for piece in (arguments[:3], arguments[3:])]
            elif block["type"] == "thinking":
                deltas = [{"reasoningContent": {"text": block["thinking"]}}]
            else:
                deltas = [{"text": block["text"]}]
            said += [("contentBlockDelta", at | {"delta": delta}) for delta in deltas]
            if end:
                said.append(("contentBlockStop", at))
        if end:
            said += [("messageStop", {"stopReason": end}), ("metadata", {"usage": self.usage, "metrics": {"latencyMs": 1}})]
        return [event_stream_frame(data, kind) for kind, data in said]

    def error(self, status: int, message: str, **headers: str) -> up.Reply:
        return up.Reply(status, JSON | headers, json.dumps({"message": message}).encode())

    def _block(self, place: int, block: Block) -> Block:
        if block["type"] == "tool_use":
            return {"toolUse": {"toolUseId": f"tooluse_{place}", "name": block["name"], "input": block["input"]}}
        if block["type"] == "thinking":
            return {"reasoningContent": {"reasoningText": {"text": block["thinking"]}}}
        return {"text": block["text"]}


class Responses(Native):
    name = "codex"
    params = '{model: openai/gpt-5.2-codex, api_base: "http://api.openai.com/v1", api_key: made-up}'
    ends = ("completed", "incomplete", None)

    def is_stream(self, seen: up.Seen) -> bool:
        return seen.json.get("stream") is True

    def whole(self, blocks: list[Block], end: str | None) -> Any:
        usage = {"input_tokens": INPUT, "output_tokens": OUTPUT, "input_tokens_details": {"cached_tokens": CACHED}}
        usage |= {"total_tokens": INPUT + OUTPUT, "output_tokens_details": {"reasoning_tokens": 0}}
        cut = {"incomplete_details": {"reason": "max_output_tokens"}} if end == "incomplete" else {}
        items = [self._item(place, block) for place, block in enumerate(blocks)]
        made = {
            "id": "resp_1",
            "object": "response",
            "created_at": 1,
            "status": end,
            "model": "m",
            "output": items,
            "usage": usage,
        }
        return made | {"parallel_tool_calls": True, "tools": [], "tool_choice": "auto"} | cut

    def chunks(self, blocks: list[Block], end: str | None) -> list[bytes]:
        begun = self.whole([], "in_progress") | {"usage": None}
        said: list[Block] = [{"type": "response.created", "response": begun}]
        for place, block in enumerate(blocks):
            item, at = self._item(place, block), {"output_index": place, "item_id": f"item_{place}"}
            if block["type"] == "tool_use":
                empty = item | {"arguments": ""}
                delta = {"type": "response.function_call_arguments.delta", "delta": item["arguments"]}
            elif block["type"] == "thinking":
                empty = item | {"summary": []}
                delta = {"type": "response.reasoning_summary_text.delta", "summary_index": 0, "delta": block["thinking"]}
            else:
                empty = item | {"content": []}
                delta = {"type": "response.output_text.delta", "content_index": 0, "delta": block["text"]}
            said += [{"type": "response.output_item.added", "output_index": place, "item": empty}, delta | at]
            if end:
                said.append({"type": "response.output_item.done", "output_index": place, "item": item})
        if end:
            said.append({"type": f"response.{end}", "response": self.whole(blocks, end)})
        return sse(*(one | {"sequence_number": place} for place, one in enumerate(said)))

    def _item(self, place: int, block: Block) -> Block:
        made = {"id": f"item_{place}", "status": "completed"}
        if block["type"] == "tool_use":
            call = {"type": "function_call", "call_id": f"call_{place}", "name": block["name"]}
            return made | call | {"arguments": json.dumps(block["input"])}
        if block["type"] == "thinking":
            return made | {"type": "reasoning", "summary": [{"type": "summary_text", "text": block["thinking"]}]}
        content = [{"type": "output_text", "text": block["text"], "annotations": []}]
        return made | {"type": "message", "role": "assistant", "content": content}


FORMATS: dict[str, Native] = {one.name: one for one in (Gemini(), Ollama(), Converse(), Responses())}
