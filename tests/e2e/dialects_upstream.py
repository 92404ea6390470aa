"""Upstreams that are as strict as the real providers, each by a table of what it refuses, and answers in their formats."""

import base64
import binascii
import itertools
import json
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import upstream as up

Block = dict[str, Any]
HOSTS = {"api.z.ai": "zai", "api.kimi.com": "kimi", "api.deepseek.com": "deepseek", "openrouter.ai": "openrouter"}
CHAT_PROVIDERS = ("azure", "gpt", "groq", "together", "hugging-face", "vllm", "ollama")
CLAUDE_SIGNATURE = "EqMadeUpClaude"


@dataclass(frozen=True)
class Sent(up.Seen):
    """A request with its provider: told by the host, or by the first part of the path of those that have no host here."""

    @property
    def provider(self) -> str:
        if self.is_claude:
            return "claude"
        return HOSTS.get((self.header("host") or "").split(":")[0]) or self.path.split("/")[1].split(":")[0]

    @property
    def names(self) -> set[str]:
        return {name.lower() for name, _ in self.headers}

    @property
    def more_fields(self) -> set[str]:
        return {"prompt_cache_key"} if self.provider == "azure" else set()


class Refusal(NamedTuple):
    """What an endpoint answers 400 to: its words, when, and where that is known from."""

    words: str
    when: Callable[[Sent], bool]
    source: str


def refused(seen: Sent) -> str | None:
    """Return the words and the source of the first refusal of the request's provider."""
    found = next((one for one in REFUSALS[seen.provider] if one.when(seen)), None)
    return f"{seen.provider}: {found.words} ({found.source})" if found else None


# --- what a request holds ----------------------------------------------------------------------------------------------------


def blocks(seen: Sent, *roles: str) -> Iterator[Block]:
    for message in seen.json["messages"]:
        if isinstance(message["content"], list) and message["role"] in (roles or ("user", "assistant")):
            yield from message["content"]


def parts(seen: Sent) -> Iterator[Block]:
    """Every block, those inside of results too."""
    for block in blocks(seen):
        yield block
        if isinstance(block.get("content"), list):
            yield from block["content"]


def marks(seen: Sent) -> list[Any]:
    system = seen.json.get("system")
    holders = [*parts(seen), *(system if isinstance(system, list) else []), *seen.json.get("tools", [])]
    return [holder["cache_control"] for holder in holders if "cache_control" in holder]


def ids(seen: Sent) -> list[str]:
    return [block["id"] for block in blocks(seen, "assistant") if block["type"] == "tool_use"]


def roles_alternate(seen: Sent) -> bool:
    roles = [message["role"] for message in seen.json["messages"]]
    return roles[0] == "user" and all(first != second for first, second in itertools.pairwise(roles))


def is_paired(seen: Sent) -> bool:
    """Each turn's calls have their results at the beginning of the next turn, and there are no other results."""
    messages = [*seen.json["messages"], {"role": "user", "content": []}]
    before: list[str] = []
    for message in messages:
        content = message["content"] if isinstance(message["content"], list) else []
        found = [block["tool_use_id"] for block in content if block["type"] == "tool_result"]
        if sorted(found) != sorted(before) or any(block["type"] != "tool_result" for block in content[: len(found)]):
            return False
        before = [block["id"] for block in content if block["type"] == "tool_use"]
    return True


def system_text(seen: Sent) -> str:
    return json.dumps(seen.json.get("system"))


def own_tools(seen: Sent) -> list[Block]:
    """The tools without the web search where the provider has it."""
    has_search = seen.provider == "claude-vertex"
    return [tool for tool in seen.json.get("tools", []) if not (has_search and tool.get("type") == "web_search_20250305")]


def chosen_tool(seen: Sent) -> str | None:
    choice = seen.json.get("tool_choice") or {}
    return choice.get("name") or (choice.get("function") or {}).get("name") if isinstance(choice, dict) else None


def unthought_calls(seen: Sent) -> bool:
    """Whether thinking is on, while a turn with calls has none."""
    if seen.json.get("thinking", {"type": "enabled"}).get("type") == "disabled":
        return False
    turns = [message["content"] for message in seen.json["messages"] if message["role"] == "assistant"]
    kinds = [[block["type"] for block in turn] for turn in turns if isinstance(turn, list)]
    return any("tool_use" in turn and "thinking" not in turn for turn in kinds)


# --- what the endpoints refuse -----------------------------------------------------------------------------------------------

ANTHROPIC = "the Messages API's schema: https://docs.anthropic.com/en/api/messages"
FIELDS = {
    "model", "messages", "max_tokens", "system", "tools", "tool_choice", "stream", "temperature", "top_p", "top_k",
    "stop_sequences",
}  # fmt: skip
MESSAGES = (
    Refusal("messages: roles must alternate between user and assistant", lambda s: not roles_alternate(s), ANTHROPIC),
    Refusal("tool_use ids were found without tool_result blocks immediately after", lambda s: not is_paired(s), ANTHROPIC),
    Refusal("tool_use ids must be unique", lambda s: len(set(ids(s))) != len(ids(s)), ANTHROPIC),
    Refusal(
        "tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'",
        lambda s: any(not re.fullmatch(r"[a-zA-Z0-9_-]+", call) for call in ids(s)),
        "langchain-ai/langchain pull request 37756",
    ),
    Refusal(
        "text content blocks must be non-empty",
        lambda s: any(b["type"] == "text" and not b["text"].strip() for b in blocks(s)),
        ANTHROPIC,
    ),
    Refusal(
        "tool_choice: Tool not found in provided tools",
        lambda s: chosen_tool(s) not in [None, *(tool["name"] for tool in s.json.get("tools", []))],
        ANTHROPIC,
    ),
)
FOREIGN = (
    *MESSAGES,
    Refusal(
        "Extra inputs are not permitted", lambda s: bool(set(s.json) - FIELDS - {"thinking", "output_config"}), "LiteLLM 26240"
    ),
    Refusal("Unexpected value(s) for the anthropic-beta header", lambda s: "anthropic-beta" in s.names, "LiteLLM 15299"),
    Refusal(
        "cache_control.ttl: Extra inputs are not permitted", lambda s: any(m != {"type": "ephemeral"} for m in marks(s)),
        "LiteLLM 17250, 26320",
    ),
    Refusal(
        "unknown variant of content", lambda s: not {b["type"] for b in parts(s)} <= {
            "text", "image", "tool_use", "tool_result", "thinking"
        }, "https://api-docs.deepseek.com/guides/anthropic_api",
    ),
    Refusal(
        "tools: Extra inputs are not permitted",
        lambda s: any(set(t) - {"name", "description", "input_schema", "cache_control"} for t in own_tools(s)),
        "Claude Code's fields of tools; LiteLLM 17250",
    ),
    Refusal("the prompt cache is never hit", lambda s: "x-anthropic-billing-header" in system_text(s), "Claude Code 68900"),
    Refusal("not this provider's thinking", lambda s: any(
        not b.get("signature", "").startswith(s.provider) for b in blocks(s) if b["type"] == "thinking"
    ), "each verifies its own signatures, or should"),
)  # fmt: skip
# An endpoint of Anthropic's format that reads documents too, such as a gateway of somebody's.
GATEWAY = (
    *(refusal for refusal in FOREIGN if refusal.words != "unknown variant of content"),
    Refusal("unknown variant of content", lambda s: not {b["type"] for b in parts(s)} <= {
        "text", "image", "document", "tool_use", "tool_result"
    }, ANTHROPIC),
)  # fmt: skip
MISSING_THINKING = Refusal(
    "thinking is enabled but reasoning_content is missing in assistant tool call message", unthought_calls,
    "QuantumNous/new-api 3121, OEvortex/aether 31",
)  # fmt: skip
NO_THINKING = Refusal(
    "thinking is not supported",
    lambda s: bool({"thinking", "output_config"} & set(s.json)) or any(b["type"] == "thinking" for b in blocks(s)),
    "what the proxy promises for everybody whose own thinking is not kept",
)
CLOUD_FIELDS = (FIELDS - {"model", "stream"}) | {"anthropic_version", "anthropic_beta", "thinking", "output_config"}
CLOUD = (
    *MESSAGES,
    *(refusal for refusal in FOREIGN if refusal.words.startswith(("cache_control", "tools:", "the prompt"))),
    Refusal("Invalid `signature` in `thinking` block", lambda s: any(
        not b["signature"].startswith(CLAUDE_SIGNATURE) for b in blocks(s) if b["type"] == "thinking"
    ), ANTHROPIC),
    Refusal("unknown block", lambda s: not {b["type"] for b in parts(s)} <= {
        "text", "image", "tool_use", "tool_result", "thinking", "redacted_thinking"
    }, "Bedrock's and Vertex's pages on server tools"),
)  # fmt: skip
BEDROCK = (
    *CLOUD,
    Refusal("Extra inputs are not permitted", lambda s: bool(set(s.json) - CLOUD_FIELDS), "LiteLLM 27532"),
    Refusal(
        "invalid beta flag",
        lambda s: not set(s.json.get("anthropic_beta", ())) <= {"context-1m-2025-08-07", "effort-2025-11-24"},
        "LiteLLM 15299, 16711",
    ),
    Refusal("the security token is invalid", lambda s: not re.match(
        r"AWS4-HMAC-SHA256 Credential=AKIAMADEUP/\d{8}/eu-central-1/bedrock/aws4_request, ", s.header("authorization") or ""
    ), "AWS Signature Version 4"),
    Refusal("anthropic_version", lambda s: s.json.get("anthropic_version") != "bedrock-2023-05-31", "AWS's page on Claude"),
)  # fmt: skip
VERTEX = (
    *CLOUD,
    Refusal("Extra inputs are not permitted", lambda s: bool(set(s.json) - CLOUD_FIELDS - {"stream"}), "LiteLLM 26240"),
    Refusal("Unexpected value(s) for the anthropic-beta header", lambda s: "anthropic-beta" in s.names, "LiteLLM 31607"),
    Refusal("invalid beta", lambda s: not set(s.json.get("anthropic_beta", ())) <= {
        "context-1m-2025-08-07", "interleaved-thinking-2025-05-14", "web-search-2025-03-05"
    }, "LiteLLM 31607, Claude Code 34802"),
    Refusal("UNAUTHENTICATED", lambda s: s.header("authorization") != "Bearer made-up-access", "Google's OAuth"),
    Refusal("anthropic_version", lambda s: s.json.get("anthropic_version") != "vertex-2023-10-16", "Google's page on Claude"),
)  # fmt: skip
CHAT_FIELDS = {
    "model", "messages", "max_tokens", "max_completion_tokens", "tools", "tool_choice", "stream", "stream_options",
    "temperature", "top_p", "stop", "parallel_tool_calls", "response_format",
}  # fmt: skip


def chat_is_paired(seen: Sent) -> bool:
    missing: list[str] = []
    for message in [*seen.json["messages"], {"role": "end"}]:
        if message["role"] == "tool":
            if message["tool_call_id"] not in missing:
                return False
            missing.remove(message["tool_call_id"])
        elif missing:
            return False
        missing += [call["id"] for call in message.get("tool_calls") or ()]
    return True


def chat_ids(seen: Sent) -> list[str]:
    return [call["id"] for message in seen.json["messages"] for call in message.get("tool_calls") or ()]


CHAT = (
    Refusal("unknown parameter", lambda s: bool(set(s.json) - CHAT_FIELDS - s.more_fields), "OpenAI's reference"),
    Refusal("unknown field of a message", lambda s: any(
        set(message) - {"role", "content", "tool_calls", "tool_call_id", "name"} for message in s.json["messages"]
    ), "Groq: property 'reasoning_content' is unsupported"),
    Refusal("an assistant message with 'tool_calls' must be followed by tool messages", lambda s: not chat_is_paired(s),
            "OpenAI's reference"),
    Refusal("string too long. Expected a string with maximum length 40", lambda s: any(len(i) > 40 for i in chat_ids(s)),
            "vercel/ai 5171, LiteLLM 17343"),
    Refusal("system messages must come first", lambda s: any(
        message["role"] == "system" for message in s.json["messages"][1:]
    ), "chat templates of vLLM's models"),
    Refusal("the prompt cache is never hit", lambda s: "x-anthropic-billing-header" in s.everything, "vllm 36829"),
    Refusal("content of a tool message must not be empty", lambda s: any(
        message["role"] == "tool" and not message["content"] for message in s.json["messages"]
    ), "strict compatible servers"),
    Refusal("tool_choice: no such tool", lambda s: chosen_tool(s) not in [
        None, *(tool["function"]["name"] for tool in s.json.get("tools", []))
    ], "OpenAI's reference"),
    Refusal("tools: unknown field", lambda s: any(
        set(tool["function"]) - {"name", "description", "parameters"} or "defer_loading" in tool["function"]["parameters"]
        for tool in s.json.get("tools", [])
    ), "OpenAI's reference"),
)  # fmt: skip


def gemini_is_paired(seen: Sent) -> bool:
    missing: list[str] = []
    for content in [*seen.json["contents"], {"role": "model", "parts": [{"text": "end"}]}]:
        found = [part["function_response"]["name"] for part in content["parts"] if "function_response" in part]
        for name in found:
            if name not in missing:
                return False
            missing.remove(name)
        if content["role"] == "model" and missing:
            return False
        missing += [part["function_call"]["name"] for part in content["parts"] if "function_call" in part]
    return True


GEMINI = (
    Refusal("the number of function response parts should be equal to that of the function call parts",
            lambda s: not gemini_is_paired(s), "Gemini's page on function calling"),
    Refusal("Unknown name in parameters", lambda s: bool(re.search(
        r'"(\$schema|additionalProperties|defer_loading|cache_control)"', json.dumps(s.json.get("tools"))
    )), "Gemini's Schema type"),
    Refusal("allowed_function_names", lambda s: "toolConfig" in s.json and "tools" not in s.json, "Gemini's ToolConfig"),
    Refusal("tool use with function calling is unsupported", lambda s: "googleSearch" in s.everything, "LiteLLM 3646"),
    Refusal("the prompt cache is never hit", lambda s: "x-anthropic-billing-header" in s.everything, "Claude Code 68900"),
    Refusal("Function call is missing a thought_signature in functionCall parts", lambda s: any(
        not calls[0].get("thoughtSignature")
        for content in s.json["contents"]
        if (calls := [part for part in content["parts"] if "function_call" in part])
    ), "Gemini's page on thought signatures"),
)  # fmt: skip
GEMINI_SIGNATURE = base64.b64encode(b"made-up thought signature+/=").decode()
CLAUDE = (
    *MESSAGES,
    Refusal("Invalid `signature` in `thinking` block", lambda s: any(
        not b["signature"].startswith(CLAUDE_SIGNATURE) for b in blocks(s) if b["type"] == "thinking"
    ), ANTHROPIC),
    Refusal("Invalid `data` in `redacted_thinking` block", lambda s: any(
        not b["data"].startswith(CLAUDE_SIGNATURE) for b in blocks(s) if b["type"] == "redacted_thinking"
    ), ANTHROPIC),
)  # fmt: skip

NO_IMAGES = Refusal(
    "unknown variant `image`", lambda s: any(b["type"] == "image" for b in parts(s)),
    "https://api-docs.deepseek.com/guides/anthropic_api",
)  # fmt: skip
NO_USER_ID = Refusal("user_id: between 6 and 128 characters", lambda s: "metadata" in s.json, "looplj/axonhub 1669")
REFUSALS: dict[str, tuple[Refusal, ...]] = {
    "claude": CLAUDE,
    "zai": (*FOREIGN, NO_THINKING, NO_USER_ID),
    "openrouter": (*FOREIGN, NO_THINKING),
    "messages": (*GATEWAY, NO_THINKING, NO_USER_ID),
    "kimi": (*FOREIGN, MISSING_THINKING),
    "deepseek": (*FOREIGN, MISSING_THINKING, NO_IMAGES),
    "claude-bedrock": BEDROCK,
    "claude-vertex": VERTEX,
    "gemini": GEMINI,
    **dict.fromkeys(CHAT_PROVIDERS, CHAT),
}


# --- answers in other formats ------------------------------------------------------------------------------------------------


def reply(sent: Sent, *content: Block) -> up.Reply:
    """Answer with these blocks in the provider's own format."""
    if sent.provider in CHAT_PROVIDERS:
        return openai_reply(sent, *content)
    if sent.provider == "claude-vertex":  # which has the model in its path
        sent = replace(sent, body=json.dumps(sent.json | {"model": "claude"}).encode())
    made = {"gemini": gemini_reply, "claude-bedrock": bedrock_reply}.get(sent.provider, up.anthropic_reply)
    return made(sent, *content)


def openai_reply(sent: Sent, *content: Block) -> up.Reply:
    answer = up.openai_reply(sent, *content, reasoning="foreign thought")
    if answer.chunks is not None:
        return answer
    # Groq says this in each answer, and LiteLLM needs it of Groq.
    return replace(answer, body=json.dumps(json.loads(answer.body) | {"service_tier": "on_demand"}).encode())


def gemini_reply(seen: Sent, *content: Block) -> up.Reply:
    made: list[Block] = []
    for block in content:
        if block["type"] == "text":
            made.append({"text": block["text"]})
        elif block["type"] == "tool_use":
            made.append({"functionCall": {"name": block["name"], "args": block["input"]}, "thoughtSignature": GEMINI_SIGNATURE})
        else:
            made.append({"text": block["thinking"], "thought": True})
    usage = {"promptTokenCount": 10, "candidatesTokenCount": 5, "totalTokenCount": 15}
    answer = {
        "candidates": [{"content": {"role": "model", "parts": made}, "finishReason": "STOP", "index": 0}],
        "usageMetadata": usage,
        "modelVersion": "gemini",
    }
    if seen.query == "alt=sse":
        return up.Reply(headers={"content-type": "text/event-stream"}, chunks=[b"data: %s\n\n" % json.dumps(answer).encode()])
    return up.Reply(headers={"content-type": "application/json"}, body=json.dumps(answer).encode())


def bedrock_reply(seen: Sent, *content: Block) -> up.Reply:
    whole = up.message(*content, model="claude")
    if not seen.path.endswith("-with-response-stream"):
        return up.Reply(headers={"content-type": "application/json"}, body=json.dumps(whole).encode())
    frames = [event_stream_frame(event) for event in up.events_of(whole)]
    return up.Reply(headers={"content-type": "application/vnd.amazon.eventstream"}, chunks=frames)


def event_stream_frame(event: Block, kind: str = "chunk") -> bytes:
    """One message of ``application/vnd.amazon.eventstream``: prelude, headers, payload, each with its checksum."""
    held = {"bytes": base64.b64encode(json.dumps(event).encode()).decode()} if kind == "chunk" else event
    payload = json.dumps(held).encode()
    named = {":event-type": kind, ":content-type": "application/json", ":message-type": "event"}
    headers = b"".join(
        struct.pack("!B", len(name)) + name.encode() + struct.pack("!BH", 7, len(value)) + value.encode()
        for name, value in named.items()
    )
    prelude = struct.pack("!II", len(headers) + len(payload) + 16, len(headers))
    start = prelude + struct.pack("!I", binascii.crc32(prelude)) + headers + payload
    return start + struct.pack("!I", binascii.crc32(start))
