"""Checks of requests to other providers and of their responses, and that they get no Claude credential."""

import json
from collections.abc import Callable
from typing import Any

from conformance import requests
from conformance.target import (
    BILLING,
    CACHED,
    CLIENT_TOKEN,
    OPENAI_MODEL,
    THIRD_MODEL,
    Target,
    expect,
    history,
    question,
)  # fmt: skip
from conformance.upstream import OPENAI_WORDS, THIRD_WORDS, Reply, Seen, claude_reply

SIGNED = {"type": "thinking", "thinking": "signed thought", "signature": "EqQBSIGNED=="}
REDACTED = {"type": "redacted_thinking", "data": "EmREDACTED=="}
FOREIGN = {"type": "thinking", "thinking": "foreign thought", "signature": ""}
# Every way in which Claude Code requests thinking.
THINKING = ({"type": "adaptive"}, {"type": "enabled", "budget_tokens": 4000}, {"type": "disabled"})
REASONING_FIELDS = {"thinking", "output_config", "reasoning", "reasoning_effort", "thinking_blocks", "reasoning_content"}
TOOL_CALL = {"type": "tool_use", "id": "toolu_made_up_1", "name": "Read", "input": {"path": "/a"}}
# The headers in which a client may send its login or key.
LOGINS: tuple[dict[str, str | None], ...] = (
    {"authorization": f"Bearer {CLIENT_TOKEN}"},
    {"authorization": f"bearer {CLIENT_TOKEN}"},
    {"authorization": None, "x-api-key": CLIENT_TOKEN},
)


def chat_completions(*, stream: bool) -> Callable[[Target], None]:
    """Return the check of the path, with every kind of thinking, and of the response's text."""

    def check(target: Target) -> None:
        for more in ({}, *({"thinking": value} for value in THINKING)):
            response = target.ask(question(OPENAI_MODEL, stream=stream, **more))
            paths = {seen.path.removeprefix("/openai") for seen in target.upstream.received(claude=False)}
            expect(bool(paths), f"HTTP {response.status}, and the provider received no request")
            strays = sorted(paths - {"/v1/chat/completions"})
            kind = more["thinking"]["type"] if more else "not set"
            expect(not strays, f"sent to {', '.join(strays)} if thinking is {kind}")
            expect(response.text == OPENAI_WORDS, f"HTTP {response.status}, without the text")

    return check


def no_thinking(target: Target) -> None:
    """Neither the parameters nor blocks of the history."""
    found: set[str] = set()
    for value in THINKING:
        body = question(OPENAI_MODEL, messages=history(SIGNED, REDACTED), thinking=value, output_config={"effort": "high"})
        seen = target.forwarded_elsewhere(body)
        found |= _keys(seen.json) & REASONING_FIELDS
        found |= {"blocks"} if "thought" in seen.everything or "REDACTED" in seen.everything else set()
    expect(not found, f"sent: {', '.join(sorted(found))}")


def _keys(value: Any) -> set[str]:
    """Return all keys at every depth."""
    if isinstance(value, dict):
        return set(value).union(*map(_keys, value.values()))
    return set().union(*map(_keys, value)) if isinstance(value, list) else set()


def no_cache_control(target: Target) -> None:
    """In system, messages and tools."""
    tools = [{"name": "Read", "description": "reads", "input_schema": {"type": "object", "properties": {}}, **CACHED}]
    seen = target.forwarded_elsewhere(question(OPENAI_MODEL, tools=tools))
    expect("cache_control" not in _keys(seen.json), "sent")


def no_billing(target: Target) -> None:
    """The attribution block is removed, and the rest of the system prompt is kept."""
    seen = target.forwarded_elsewhere(question(OPENAI_MODEL))
    expect(BILLING not in seen.everything, "sent")
    expect("You are Claude Code" in seen.everything, "the whole system prompt is missing")


def tool_pairs(target: Target) -> None:
    """A tool's call and its result have the same id."""
    messages = [
        *history(TOOL_CALL)[:1],
        {"role": "assistant", "content": [TOOL_CALL]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_made_up_1", "content": "made-up result"}]},
    ]
    seen = target.forwarded_elsewhere(question(OPENAI_MODEL, messages=messages))
    expect("made-up result" in seen.everything, "the result is missing")
    expect(json.dumps(seen.json).count("toolu_made_up_1") == 2, "different id")


def no_reasoning_back(*, stream: bool) -> Callable[[Target], None]:
    """Return the check that the provider's reasoning does not become Claude's thinking."""

    def check(target: Target) -> None:
        response = target.ask(question(OPENAI_MODEL, stream=stream))
        expect(response.text == OPENAI_WORDS, f"HTTP {response.status}, without the text")
        expect(b'"thinking"' not in response.body, "arrives as a thinking block without a signature")

    return check


def model_name(model: str) -> Callable[[Target], None]:
    """Return the check of a response's model name, streamed and not."""

    def check(target: Target) -> None:
        for stream in (False, True):
            response = target.ask(question(model, stream=stream))
            expect(response.status == 200, f"HTTP {response.status}")
            expect(response.model == model, "different name" if response.model else "no name")

    return check


def third_party(target: Target) -> None:
    """The text arrives, with the provider's own key."""
    response = target.ask(question(THIRD_MODEL))
    expect(response.text == THIRD_WORDS, f"HTTP {response.status}, without the text")


def foreign_thinking(target: Target) -> None:
    """Claude rejects thinking that it did not sign; the client's request succeeds nevertheless."""

    def picky(seen: Seen) -> Reply:
        if b"foreign thought" in seen.body:
            words = "messages.1.content.0: Invalid `signature` in `thinking` block"
            error = {"type": "error", "error": {"type": "invalid_request_error", "message": words}}
            return Reply(400, body=json.dumps(error).encode())
        return claude_reply(seen)

    target.upstream.claude = picky
    response = target.ask(question(messages=history(FOREIGN), thinking={"type": "adaptive"}))
    expect(response.status == 200, f"HTTP {response.status}")


def signed_thinking(target: Target) -> None:
    """Thinking that Claude signed keeps its place."""
    messages = history(SIGNED, REDACTED)
    got = target.forwarded(question(messages=messages, thinking={"type": "adaptive"})).json
    expect(got.get("messages") == messages, "changed")


def no_login(model: str) -> Callable[[Target], None]:
    """Return the check that another provider never gets the client's Claude login, in whichever header it is sent."""

    def check(target: Target) -> None:
        for login in LOGINS:
            for stream in (False, True):
                target.ask(question(model, stream=stream), headers=login)
        received = target.upstream.received(claude=False)
        expect(bool(received), "the provider received no request")
        expect(not any(CLIENT_TOKEN in seen.everything for seen in received), "the login is sent to the other provider")
        expect(not any(target.token in seen.everything for seen in received), "the proxy's token is sent to the other provider")

    return check


def no_rekeying(target: Target) -> None:
    """Each of LiteLLM's parameters alone, in the body of a request for an ``openai/`` model."""
    requests.expect_no_effect(target, OPENAI_MODEL, target.upstream.url)
