"""Turns and blocks for the tests of what other providers are sent and what comes back from them."""

from claude_proxy.anthropic.messages import mark
from claude_proxy.providers.compatibility import ROWS
from claude_proxy.providers.history import NO_RESULT

ROW = {row.name: row for row in ROWS}
KIMI, BEDROCK, GEMINI, ZAI, OPENAI = (ROW[name] for name in ("kimi", "bedrock", "gemini", "zai", "openai"))

USER = {"role": "user", "content": "hi"}
TEXT = {"type": "text", "text": "hello"}
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aQ=="}}
SIGNED = {"type": "thinking", "thinking": "t", "signature": "EqSigned"}
REDACTED = {"type": "redacted_thinking", "data": "EmRedacted"}
OWN = {"type": "thinking", "thinking": "t", "signature": mark("kimi", "own")}
SEARCH = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "q"}}
FOUND = {
    "type": "web_search_tool_result",
    "tool_use_id": "srvtoolu_1",
    "content": [{"type": "web_search_result", "url": "http://x.invalid", "title": "T", "encrypted_content": "E"}],
}


def user(*blocks):
    return {"role": "user", "content": list(blocks)}


def turn(*blocks):
    return {"role": "assistant", "content": list(blocks)}


def system(content):
    return {"role": "system", "content": content}


def call(name="toolu_1", **more):
    return {"type": "tool_use", "id": name, "name": "Read", "input": {"a": 1}, **more}


def result(name="toolu_1", content="done", **more):
    return {"type": "tool_result", "tool_use_id": name, "content": content, **more}


def text(words):
    return {"type": "text", "text": words}


def reminder(words):
    return text(f"<system-reminder>\n{words}\n</system-reminder>")


def no_result(name):
    return {"type": "tool_result", "tool_use_id": name, "content": NO_RESULT, "is_error": True}


LONG_MARK = {"cache_control": {"type": "ephemeral", "ttl": "1h", "scope": "global"}}
PLAIN_MARK = {"cache_control": {"type": "ephemeral"}}
LOOP = [USER, turn(call()), user(result())]
