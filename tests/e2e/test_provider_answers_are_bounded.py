"""What a provider sends is bounded once it is decoded, whoever reads it, and others are served meanwhile."""

import functools
import json
import re
import resource
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import upstream as up
import yaml
from conftest import API_KEY, TOKENS
from dialects_upstream import event_stream_frame
from processes import STATIC_TOKEN, Proxy, question

MB = 1024 * 1024
# A response is refused at 64 MB and an event at 16 MB; copies of both, and what the first request of a kind loads.
GROWTH_MB = 300
ADDRESS_SPACE = 6 * 1024 * MB
# Far beyond every bound, so that a proxy that reads on does not end before its address space does.
ENDLESS_BYTES = 40 * 1024 * MB
RELAYED = ("claude-sonnet-5", "glm", "gpt", "deepseek-chat")
TRANSLATED = {
    "gpt": "openai/gpt-x",
    "groq": "groq/made-up",
    "mistral": "mistral/mistral-large-latest",
    "gemini": "gemini/gemini-2.5-pro",
    "ollama-chat": "ollama_chat/qwen3",
    "deepseek-chat": "deepseek/deepseek-chat",
    "bedrock-converse": "bedrock/converse/us.anthropic.claude-sonnet-4-5-20250929-v1:0",
    "bedrock-nova": "bedrock/amazon.nova-pro-v1:0",
    "claude-bedrock": "bedrock/us.anthropic.claude-sonnet-5-v1:0",
    "aiohttp": "aiohttp_openai/made-up",
}
MODELS = tuple(dict.fromkeys((*RELAYED, *TRANSLATED)))


# --- what a hostile provider sends -------------------------------------------------------------------------------------------


BEFORE = b'{"id":"x","type":"message","content":[{"type":"text","text":"'
# The header of a gzip file that says nothing of its origin.
GZIP = b"\x1f\x8b\x08" + bytes(6) + b"\xff"


@functools.cache
def packed(megabytes: int) -> bytes:
    """Gzip of a text of so many megabytes of zeros, of which one is packed and the others are copies of it."""
    zeros = b"0" * MB
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    begins = packer.compress(BEFORE) + packer.flush(zlib.Z_FULL_FLUSH)
    part = packer.compress(zeros) + packer.flush(zlib.Z_FULL_FLUSH)
    checksum = zlib.crc32(BEFORE)
    for _ in range(megabytes):
        checksum = zlib.crc32(zeros, checksum)
    size = len(BEFORE) + megabytes * MB
    return GZIP + begins + part * megabytes + packer.flush() + struct.pack("<II", checksum, size % (1 << 32))


def repeated(first: bytes, part: bytes) -> Iterator[bytes]:
    yield first + part  # an empty chunk would be the end
    for _ in range(ENDLESS_BYTES // len(part)):
        yield part


def bomb(content_type: str, status: int = 200) -> up.Reply:
    headers = {"content-type": content_type, "content-encoding": "gzip"}
    return up.Reply(status, headers, packed(2500))


def endless(content_type: str, first: bytes, part: bytes, status: int = 200) -> up.Reply:
    return up.Reply(status, {"content-type": content_type}, chunks=repeated(first, part))


# Not twice the same: LiteLLM ends a stream that repeats itself.
WORDS = [letter * 4000 for letter in "abcde"]


def endless_events(seen: up.Seen) -> up.Reply:
    """A good stream in the provider's own format, that never comes to its end."""
    path = seen.path
    if "gemini" in path:
        said = [{"candidates": [{"content": {"role": "model", "parts": [{"text": each}]}, "index": 0}]} for each in WORDS]
        return endless("text/event-stream", b"", b"".join(b"data: %s\n\n" % json.dumps(each).encode() for each in said))
    if "ollama" in path:
        made = {"model": "m", "created_at": "2026-01-01T00:00:00Z", "done": False}
        said = [made | {"message": {"role": "assistant", "content": each}} for each in WORDS]
        return endless("application/x-ndjson", b"", b"".join(b"%s\n" % json.dumps(each).encode() for each in said))
    if "converse" in path:
        said = [{"contentBlockIndex": 0, "delta": {"text": each}} for each in WORDS]
        frames = b"".join(event_stream_frame(each, "contentBlockDelta") for each in said)
        return endless("application/vnd.amazon.eventstream", b"", frames)
    deltas = [{"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": each}} for each in WORDS]
    if "bedrock" in path:
        return endless("application/vnd.amazon.eventstream", b"", b"".join(map(event_stream_frame, deltas)))
    if path.endswith("/messages"):
        start, begin, *_ = up.events_of(up.message(up.text("x")))
        return endless("text/event-stream", b"".join(up.sse(start, begin)), b"".join(up.sse(*deltas)) * 4)
    chunk = {"id": "c", "created": 1, "model": "m", "object": "chat.completion.chunk"}
    said = [chunk | {"choices": [{"index": 0, "delta": {"content": each}, "finish_reason": None}]} for each in WORDS]
    return endless("text/event-stream", b"", b"".join(b"data: %s\n\n" % json.dumps(each).encode() for each in said))


ATTACKS: dict[str, tuple[bool, Callable[[up.Seen], up.Reply]]] = {
    "gzip-whole": (False, lambda _: bomb("application/json")),
    "gzip-error": (False, lambda _: bomb("application/json", 400)),
    "gzip-stream": (True, lambda _: bomb("text/event-stream")),
    "endless-json": (False, lambda _: endless("application/json", b'{"content":["', b"0" * MB)),
    "endless-error": (False, lambda _: endless("application/json", b'{"error":{"message":"', b"0" * MB, 400)),
    "endless-stream-for-a-whole": (False, endless_events),
    "json-of-many-parts": (False, lambda _: endless("application/json", b"[", b"[]," * 300_000)),
    "endless-line": (True, lambda _: endless("text/event-stream", b"data: ", b"x" * MB)),
    "endless-event": (True, lambda _: endless("text/event-stream", b"", b"data: x\n" * 100_000)),
    "endless-line-of-no-type": (True, lambda _: endless("application/octet-stream", b"data: ", b"x" * MB)),
    "endless-stream": (True, endless_events),
}


# --- the proxy under attack --------------------------------------------------------------------------------------------------


def attacked(url: str) -> dict[str, Any]:
    models: list[dict[str, Any]] = [
        {"model_name": "claude-*", "litellm_params": {"model": "anthropic/claude-*"}},
        {"model_name": "glm", "litellm_params": {"model": "anthropic/glm-5", "api_base": f"{url}/glm", "api_key": "made-up"}},
    ]
    for name, model in TRANSLATED.items():
        params: dict[str, Any] = {"model": model, "api_key": "made-up", "api_base": f"{url}/{name}"}
        if model.startswith("bedrock/"):
            keys = {"aws_access_key_id": "AKIAMADEUP", "aws_secret_access_key": "made-up", "aws_region_name": "eu-central-1"}
            params = {"model": model, "aws_bedrock_runtime_endpoint": f"{url}/{name}", **keys}
        models.append({"model_name": name, "litellm_params": params})
    return {
        "model_list": models,
        "router_settings": {"num_retries": 0, "disable_cooldowns": True},
        "litellm_settings": {"callbacks": ["request_transformer.proxy_handler_instance"], "drop_params": True},
        "general_settings": {"custom_auth": "custom_auth.user_api_key_auth", "master_key": "os.environ/LITELLM_MASTER_KEY"},
    }


@pytest.fixture(scope="module")
def proxy(shared_upstream: up.Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """One proxy with a limited address space, which has served a request of every kind."""
    home = tmp_path_factory.mktemp("attacked")
    shared_upstream.answer = lambda _: up.Reply(404)
    environment = {
        "ANTHROPIC_API_BASE": shared_upstream.url,
        "CLAUDE_OAUTH_TOKENS": f"a={TOKENS['a']}",
        "CLAUDE_API_KEYS": f"k={API_KEY}",
    }
    running = Proxy(home / "proxy", yaml.safe_dump(attacked(shared_upstream.other_url)), **environment).wait_ready()
    resource.prlimit(running.process.pid, resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    for model in MODELS:
        for stream in (False, True):
            running.ask(question(model, stream=stream))
    yield running
    running.stop()


def memory_mb(proxy: Proxy) -> int:
    status = Path(f"/proc/{proxy.process.pid}/status").read_text(encoding="utf-8")
    return int(re.findall(r"VmRSS:\s*(\d+)", status)[0]) // 1024


class Attack:
    """One request during which others are asked and memory is watched; it ends by itself or when it has shown enough."""

    def __init__(self, proxy: Proxy, body: dict[str, Any], enough: int) -> None:
        self.status = 0
        self.size = 0
        self.begins = self.ends = b""
        self.broken = False
        self._stop = False
        before = memory_mb(proxy)
        self.grown = self.others = 0
        thread = threading.Thread(target=self._ask, args=(proxy, body, enough), daemon=True)
        thread.start()
        under_way = True
        while under_way and self.grown < 2 * GROWTH_MB:
            under_way = thread.is_alive()  # one that is over at once has not kept the first question from its answer
            answer = httpx.get(f"{proxy.url}/health/liveliness", trust_env=False, timeout=60)
            self.others += answer.status_code == 200
            self.grown = max(self.grown, memory_mb(proxy) - before)
        self._stop = True
        thread.join(60)
        self.over = not thread.is_alive()

    def _ask(self, proxy: Proxy, body: dict[str, Any], enough: int) -> None:
        headers = {"x-litellm-api-key": STATIC_TOKEN}
        try:
            with (
                httpx.Client(trust_env=False, timeout=60) as client,
                client.stream("POST", f"{proxy.url}/v1/messages", headers=headers, json=body) as answer,
            ):
                self.status = answer.status_code
                for part in answer.iter_raw():
                    self.size += len(part)
                    self.begins = (self.begins + part)[:MB] if len(self.begins) < MB else self.begins
                    self.ends = (self.ends + part)[-4000:]
                    if self._stop or self.size > enough:
                        return
        except httpx.TransportError:
            self.broken = True


ENOUGH = 100 * MB


# LiteLLM takes ten seconds and more to translate what it may read of an endless stream: one model for each of its ways.
LONG = ("ollama-chat", "claude-bedrock")
SHOWN = [
    pytest.param(attack, model, id=f"{attack}-{model}")
    for attack in ATTACKS
    for model in ((*RELAYED, *LONG) if attack == "endless-stream" else MODELS)
]


@pytest.mark.parametrize(("attack", "model"), SHOWN)
def test_no_answer_takes_the_proxy_s_memory(proxy, upstream, attack, model):
    """Memory stays flat, others are served, and the client gets an error in Anthropic's shape, or a stream that ends."""
    stream, upstream.answer = ATTACKS[attack]
    shown = Attack(proxy, question(model, stream=stream), ENOUGH)
    assert proxy.process.poll() is None
    assert shown.over
    assert shown.grown < GROWTH_MB, f"{shown.grown} MB"
    assert shown.others
    if stream and shown.status == 200:
        ends = shown.broken or b"event: error" in shown.ends or b"message_stop" in shown.ends
        assert ends or (model in RELAYED and shown.size > ENOUGH), shown.ends
        return
    assert shown.status >= 400, shown.begins
    if model == "claude-sonnet-5" and "error" in attack:
        return  # Claude's errors pass unmodified
    assert json.loads(shown.begins)["type"] == "error"
    assert shown.size < 20_000


@pytest.mark.parametrize("model", RELAYED)
def test_a_relayed_stream_has_no_end(proxy, upstream, model):
    """A stream that passes goes on for as long as both ends want it, in as much memory as one of half its length."""
    upstream.answer = endless_events
    for size in (ENOUGH, 2 * ENOUGH):
        shown = Attack(proxy, question(model, stream=True), size)
        assert (shown.broken, shown.size > size) == (False, True)
        assert shown.grown < GROWTH_MB / 2
