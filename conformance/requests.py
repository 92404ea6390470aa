"""Checks of the requests that Claude gets."""

import json
from collections.abc import Callable
from typing import Any

from conformance.target import (
    BETAS,
    CLAUDE_MODEL,
    CLIENT_HEADERS,
    CLIENT_TOKEN,
    SESSION,
    Target,
    expect,
    history,
    question,
)  # fmt: skip

THINKING = (
    {"type": "adaptive"},
    {"type": "enabled", "budget_tokens": 31999},
    {"type": "disabled"},
    {"type": "adaptive", "display": "summarized"},
    {"type": "of_tomorrow", "depth": [1, None]},
)
# Body fields that Claude Code sends or that Anthropic documents, each with a value that a selective copy would lose.
FIELDS: dict[str, Any] = {
    "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}, {"type": "edit_of_tomorrow"}]},
    "output_config": {"effort": "high", "task_budget": {"type": "tokens", "total": 20000}, "of_tomorrow": 1},
    "betas": ["zeta-2026-01-01", "alpha-2025-01-01"],
    "fallbacks": [{"model": "claude-haiku-4-5"}],
    "mcp_servers": [{"type": "url", "url": "https://mcp.invalid/sse", "name": "made-up", "of_tomorrow": True}],
    "container": {"id": "container_made_up", "skills": [{"type": "anthropic", "skill_id": "xlsx", "version": "latest"}]},
    "service_tier": "standard_only",
    "metadata": {"user_id": json.dumps({"device_id": "0" * 64, "session_id": SESSION}), "team": "made-up"},
    "inference_geo": "us",
    "speed": "fast",
    "field_of_tomorrow": {"a": [1, None, 1.50, "é"], "b": {}},
}  # fmt: skip
TOOLS = [
    {
        "name": "Read", "description": "reads", "strict": True, "defer_loading": True, "eager_input_streaming": True,
        "input_schema": {"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object", "properties": {}},
        "cache_control": {"type": "ephemeral"}, "field_of_tomorrow": {"a": 1},
    },
    {"type": "web_search_20250305", "name": "web_search", "max_uses": 8, "of_tomorrow": None},
    {"type": "tool_of_tomorrow_20270101", "name": "later"},
]  # fmt: skip
INTRUDER = b"made up by the client"
# Body fields that LiteLLM interprets, besides addresses.
SWITCHES: dict[str, Any] = {
    "api_key": "sk-made-up-intruder",
    "extra_headers": {"authorization": "Bearer sk-made-up-intruder", "x-api-key": "sk-made-up-intruder"},
    "custom_llm_provider": "vertex_ai",
    "mock_response": INTRUDER.decode(),
    "user_config": {"model_list": []},
}
HEADERS = {
    "user-agent": "claude-cli/2.1.197 (external, cli)",
    "x-app": "cli",
    "x-claude-code-session-id": SESSION,
    "x-claude-code-agent-id": "agent-made-up",
    "x-claude-code-parent-agent-id": "agent-made-up-parent",
}
TOMORROW = {
    "anthropic-capability-of-tomorrow": "Some, Value; q=1",
    "x-claude-code-of-tomorrow": "yes",
    "x-made-up-trace": "trace/1",
    "made-up-tracestate": "a=1",
}


def ordered(raw: bytes) -> Any:
    """Return JSON in which objects are lists of pairs, so that a comparison includes their order."""
    return json.loads(raw, object_pairs_hook=lambda pairs: [("object", *pairs)])


def same_value(target: Target) -> None:
    """The whole body except the model."""
    body = question(thinking={"type": "adaptive"}, **FIELDS)
    got = target.forwarded(body).json
    changed = sorted(name for name in body.keys() | got.keys() if body.get(name, "-") != got.get(name, "-"))
    expect(not changed, f"lost, added or changed: {', '.join(changed)}")


def same_order(target: Target) -> None:
    """Keys at every depth, blocks and messages."""
    raw = json.dumps(
        question(messages=history({"type": "text", "text": "b", "citations": None}), temperature=1), ensure_ascii=False
    ).encode()
    expect(ordered(target.forwarded(raw).body) == ordered(raw), "different order")


def same_bytes(target: Target) -> None:
    """White space, escapes and numbers."""
    raw = json.dumps(question(temperature=1.0), indent=1).encode().replace(b'"hello, ', b'"\\u0068ello\\/ ')
    expect(target.forwarded(raw).body == raw, "different bytes")


def system(target: Target) -> None:
    """The attribution block is first, and every text is unchanged."""
    body = question()
    expect(target.forwarded(body).json.get("system") == body["system"], "changed")


def string_system(target: Target) -> None:
    """A string as the system prompt is not changed to a list."""
    expect(target.forwarded(question(system="one string")).json.get("system") == "one string", "changed")


def field(name: str) -> Callable[[Target], None]:
    """Return the check of one field of the body."""

    def check(target: Target) -> None:
        got = target.forwarded(question(**{name: FIELDS[name]})).json
        expect(name in got, "dropped")
        expect(got[name] == FIELDS[name], "changed")

    return check


def thinking(target: Target) -> None:
    """Every type, with and without effort."""
    changed = []
    efforts: tuple[dict[str, Any], ...] = ({}, {"output_config": {"effort": "high"}})
    for value in THINKING:
        for more in efforts:
            target.upstream.seen.clear()
            target.ask(question(thinking=value, **more))
            received = target.upstream.received(claude=True)
            if not received or received[-1].json.get("thinking") != value:
                changed.append(str(value["type"]))
    expect(not changed, f"changed: {', '.join(dict.fromkeys(changed))}")


def cache_control(target: Target) -> None:
    """On system, messages and the body itself."""
    marked = {"type": "ephemeral", "ttl": "1h", "scope": "global"}
    body = question(
        system=[{"type": "text", "text": "s", "cache_control": marked}],
        messages=[{"role": "user", "content": [{"type": "text", "text": "m", "cache_control": marked}]}],
        cache_control=marked,
    )
    got = target.forwarded(body).json
    expect(all(got.get(name) == body[name] for name in ("system", "messages", "cache_control")), "changed")


def tools(target: Target) -> None:
    """Unknown fields and types of tools."""
    expect(target.forwarded(question(tools=TOOLS)).json.get("tools") == TOOLS, "changed")


def blocks(target: Target) -> None:
    """Signed thinking, redacted thinking, a system message in the middle, and unknown block types."""
    messages = [
        *history(
            {"type": "thinking", "thinking": "", "signature": "EqQBSIGNED=="},
            {"type": "redacted_thinking", "data": "EmREDACTED=="},
            {"type": "block_of_tomorrow", "a": 1},
        ),
        {"role": "system", "content": "in the middle"},
        {"role": "user", "content": "third"},
    ]
    got = target.forwarded(question(messages=messages, thinking={"type": "adaptive"})).json
    expect(got.get("messages") == messages, "changed")


def betas(target: Target) -> None:
    """The header to the byte."""
    got = target.forwarded(question()).header("anthropic-beta")
    expect(got is not None, "dropped")
    expect(got == BETAS, "sorted" if sorted((got or "").split(",")) == sorted(BETAS.split(",")) else "changed")


def long_context(target: Target) -> None:
    """The beta of the million-token context, and the model without a suffix."""
    seen = target.forwarded(question(), headers={"anthropic-beta": f"{BETAS},context-1m-2025-08-07"})
    expect("context-1m-2025-08-07" in (seen.header("anthropic-beta") or ""), "dropped")
    expect(seen.json["model"] == CLAUDE_MODEL, "different model")


def version(target: Target) -> None:
    """A version that is no proxy's default."""
    seen = target.forwarded(question(), headers={"anthropic-version": "2024-02-29"})
    expect(seen.header("anthropic-version") == "2024-02-29", "replaced")


def header(name: str) -> Callable[[Target], None]:
    """Return the check of one header."""

    def check(target: Target) -> None:
        got = target.forwarded(question(), headers=HEADERS).header(name)
        expect(got is not None, "dropped")
        expect(got == HEADERS[name], "replaced")

    return check


def stainless(target: Target) -> None:
    """All of the SDK's headers."""
    seen = target.forwarded(question())
    names = [name for name in CLIENT_HEADERS if name.startswith("x-stainless-")]
    lost = [name for name in names if seen.header(name) != CLIENT_HEADERS[name]]
    expect(not lost, "dropped" if len(lost) == len(names) else f"dropped: {', '.join(lost)}")


def unknown_headers(target: Target) -> None:
    """Headers that no proxy knows."""
    seen = target.forwarded(question(), headers=TOMORROW)
    lost = [name for name, value in TOMORROW.items() if seen.header(name) != value]
    expect(not lost, f"dropped: {', '.join(lost)}")


def hop_by_hop(target: Target) -> None:
    """Headers that describe the connection between client and proxy."""
    private = {
        "connection": "keep-alive, x-made-up-hop",
        "x-made-up-hop": "1",
        "te": "trailers",
        "proxy-authorization": "Basic bWFkZTp1cA==",
    }
    seen = target.forwarded(question(), headers=private)
    kept = [name for name in ("x-made-up-hop", "te", "proxy-authorization") if seen.header(name) is not None]
    expect(not kept, f"forwarded: {', '.join(kept)}")


def switches_of_litellm(target: Target) -> None:
    """LiteLLM's own headers."""
    seen = target.forwarded(question(), headers={"x-litellm-tags": "made-up", "x-litellm-trace-id": "made-up"})
    kept = sorted({name.lower() for name, _ in seen.headers if name.lower().startswith("x-litellm-")})
    expect(not kept, f"forwarded: {', '.join(kept)}")


def proxy_token(target: Target) -> None:
    """The token is in no part of the request."""
    expect(target.token not in target.forwarded(question()).everything, "forwarded")


def own_login(target: Target) -> None:
    """The client's Claude login, sent beside the proxy's token."""
    seen = target.forwarded(question())
    expect(seen.header("authorization") == f"Bearer {CLIENT_TOKEN}", "different credential")
    expect(seen.header("x-api-key") is None, "sent as x-api-key")


def query(target: Target) -> None:
    """``?beta=true``."""
    expect(target.forwarded(question()).query == "beta=true", "dropped")


def no_rekeying(target: Target) -> None:
    """Each of LiteLLM's parameters alone, in the body of a request for Claude."""
    expect_no_effect(target, CLAUDE_MODEL, target.upstream.other_url)


def expect_no_effect(target: Target, model: str, elsewhere: str) -> None:
    """Expect that no body field sends a request to another provider: ``elsewhere`` is where it would be sent."""
    addresses = dict.fromkeys(("api_base", "base_url"), f"{elsewhere}/intruder")
    effective = []
    for name, value in {**addresses, **SWITCHES}.items():
        target.upstream.reset()
        response = target.ask(question(model, **{name: value}))
        received = target.upstream.received(claude=model == CLAUDE_MODEL)
        strayed = target.upstream.received(claude=model != CLAUDE_MODEL)
        keyed = any("intruder" in str(seen.headers) for seen in received)
        if strayed or keyed or not received or INTRUDER in response.body:
            effective.append(name)
    expect(not effective, f"takes effect: {', '.join(effective)}")
