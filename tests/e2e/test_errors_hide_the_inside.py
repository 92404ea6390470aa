"""Errors and headers that quote a key, and LiteLLM's own failures, through the real proxy: no secret and no inside is shown."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import upstream as up
from conftest import API_KEY, CONFIG, PROVIDER_KEYS, TOKENS, by_provider, proxy_environment
from processes import ROOT, Proxy, answer_text, question

INLINE = "made-up-inline-key-in-config-4711"
MODELS = """  - model_name: inline
    litellm_params: {{model: anthropic/glm-5, api_base: "{url}/glm", api_key: KEY}}
  - model_name: inline-gpt
    litellm_params: {{model: openai/gpt-x, api_base: "{url}/openai/v1", api_key: KEY}}
  - model_name: gemini
    litellm_params: {{model: gemini/gemini-2.5-pro, api_base: "{url}/openai/gemini", api_key: KEY}}
  - model_name: nova
    litellm_params:
      model: bedrock/amazon.nova-pro-v1:0
      api_base: "{url}/openai/bedrock"
      aws_access_key_id: AKIAMADEUP0123456789
      aws_secret_access_key: KEY
      aws_region_name: us-east-1
router_settings:"""
LANES = ("claude-sonnet-5", "glm", "gpt", "inline", "inline-gpt", "gemini", "nova")
SECRETS = (*TOKENS.values(), API_KEY, *PROVIDER_KEYS.values(), INLINE)


@pytest.fixture(scope="module")
def proxy(shared_upstream: up.Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    config = CONFIG.replace("router_settings:", MODELS.replace("KEY", INLINE)).format(url=shared_upstream.other_url)
    # What is repeated here says the same each time.
    config = (
        config.replace("num_retries: 2", "num_retries: 0")
        .replace("Retries: 2", "Retries: 0")
        .replace("Retries: 1", "Retries: 0")
    )
    variables = proxy_environment(shared_upstream) | {"CLAUDE_API_KEYS": API_KEY}
    running = Proxy(tmp_path_factory.mktemp("inside"), config, **variables).wait_ready()
    yield running
    running.stop()


def quoting(words: Callable[[str], up.Reply]) -> Callable[[up.Seen], up.Reply]:
    """An upstream that quotes what it was sent as a key."""

    def answer(seen: up.Seen) -> up.Reply:
        return words(seen.credential or seen.header("x-goog-api-key") or INLINE) if seen.method == "POST" else up.Reply(404)

    return by_provider(claude=answer, glm=answer, gpt=answer)


def in_pieces(text: bytes) -> list[bytes]:
    return [text[place : place + 7] for place in range(0, len(text), 7)]


def stream(key: str, *, begun: bool, openai: bool) -> up.Reply:
    """A stream that ends with an error that quotes a key, cut anywhere."""
    words = f"bad header x-api-key: {key}"
    if openai:
        delta = {"index": 0, "delta": {"role": "assistant", "content": "hi"}, "finish_reason": None}
        chunk = {"id": "c", "created": 1, "model": "m", "object": "chat.completion.chunk", "choices": [delta]}
        lines = [chunk] * begun + [{"error": {"message": words, "type": "server_error", "code": 500}}]
        text = b"".join(b"data: " + json.dumps(line).encode() + b"\n\n" for line in lines)
    else:
        events = up.events_of(up.message(up.text("hi")))[:3] if begun else []
        text = b"".join(up.sse(*events, {"type": "error", "error": {"type": "api_error", "message": words}}))
    return up.Reply(headers={"content-type": "text/event-stream", "x-echo": key}, chunks=in_pieces(text))


ERRORS: dict[str, Callable[[str], up.Reply]] = {
    "400": lambda key: up.anthropic_error(400, "invalid_request_error", f"bad header x-api-key: {key}", x_echo=key),
    "500": lambda key: up.anthropic_error(500, "api_error", f"bad header x-api-key: {key}", x_echo=key),
    "escaped": lambda key: up.Reply(
        400,
        {"content-type": "application/json"},
        b'{"type":"error","error":{"type":"invalid_request_error","message":"%s"}}'
        % "".join(f"\\u{ord(one):04x}" for one in key).encode(),
    ),
    "first event": lambda key: stream(key, begun=False, openai=False),
    "later event": lambda key: stream(key, begun=True, openai=False),
    "first chunk": lambda key: stream(key, begun=False, openai=True),
    "later chunk": lambda key: stream(key, begun=True, openai=True),
    # The last one: it takes Claude's credentials out.
    "401": lambda key: up.anthropic_error(401, "authentication_error", f"bad header x-api-key: {key}", x_echo=key),
}


def test_a_message_that_quotes_a_key(proxy, upstream):
    """Claude's own words stay as they are, also with a key in them; those of others lose it, and nothing else."""

    def quoted(seen: up.Seen) -> up.Reply:
        reply = up.openai_reply if seen.path.startswith("/openai/v1") else up.anthropic_reply
        return reply(seen, up.text(f"ab <{PROVIDER_KEYS['ZAI_API_KEY']}>"))

    upstream.answer = by_provider(claude=quoted, glm=quoted, gpt=quoted)
    for streams in (False, True):
        assert answer_text(proxy.ask(question("claude-sonnet-5", stream=streams))) == f"ab <{PROVIDER_KEYS['ZAI_API_KEY']}>"
        for model in ("glm", "gpt"):
            text = answer_text(proxy.ask(question(model, stream=streams)))
            assert PROVIDER_KEYS["ZAI_API_KEY"] not in text
            assert text.startswith("ab <")
            assert text.endswith(">")


@pytest.mark.parametrize("kind", ERRORS)
def test_a_quoted_key_does_not_come_back(proxy, upstream, kind):
    """Whatever quotes the key that it was sent, in an error, an event or a header: it reaches no client and no log."""
    upstream.answer = quoting(ERRORS[kind])
    for model in LANES:
        for streams in (False, True):
            # Chunks are no events of Anthropic's format, whose providers' streams are relayed.
            relayed = kind.endswith("chunk") and model in ("claude-sonnet-5", "glm", "inline")
            answer = proxy.ask(question(model, stream=streams), relayed=relayed)
            seen = f"{answer.headers} {answer.text} {json.dumps(answer.text)}"
            assert not [secret for secret in SECRETS if secret in seen], (model, streams)
    assert not [secret for secret in SECRETS if secret in proxy.output]


SCHEMAS: tuple[Any, ...] = (
    True,
    "x",
    5,
    [],
    {"properties": True},
    {"properties": {"a": True}},
    {"items": [1]},
    {"anyOf": True},
)
ODD: list[dict[str, Any]] = [
    *({"tools": [{"name": "n", "description": "d", "input_schema": schema}]} for schema in SCHEMAS),
    {"tools": [{"name": {}, "input_schema": {}}]},
    {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "base64", "media_type": 5, "data": 7}}]}]},
    {"messages": [{"role": "user", "content": [{"type": "image", "source": "x"}]}]},
    {"messages": [{"role": "user", "content": [{"type": "document", "source": {"type": "base64", "data": "?"}}]}]},
    {
        "messages": [
            {"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": {}, "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": [{"type": "text"}]}]},
        ]
    },
    {"max_tokens": "x"}, {"temperature": []}, {"stop_sequences": 5}, {"tool_choice": {"type": "tool", "name": 5}},
    {"system": [{"type": "text", "text": 5}]}, {"thinking": 5}, {"output_config": 7},
]  # fmt: skip


@pytest.mark.parametrize("model", LANES)
def test_no_traceback_and_no_path_reaches_a_client(proxy, upstream, model):
    """What LiteLLM cannot translate is an error in words: no traceback, and no file of the proxy's."""
    upstream.answer = lambda seen: (
        up.Reply(404)
        if seen.method == "GET"
        else up.anthropic_reply(seen, up.text("x"))
        if seen.path.startswith(("/glm", "/v1/messages"))
        else up.openai_reply(seen, up.text("x"))
        if seen.path.startswith("/openai/v1")
        else up.Reply(400, {"content-type": "application/json"}, b'{"message": "bad"}')
    )
    inside = ("Traceback", "site-packages", sys.prefix, str(ROOT), str(Path.home()), "litellm/")
    for odd in ODD:
        for streams in (False, True):
            answer = proxy.ask(question(model) | odd | {"stream": streams})
            assert not [words for words in inside if words in answer.text], (odd, answer.text[:500])
