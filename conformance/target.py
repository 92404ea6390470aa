"""The proxy under test: sends requests like Claude Code, and reads whole responses."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from conformance.upstream import Reply, Seen, Upstream

MESSAGES = "/v1/messages?beta=true"
COUNT_TOKENS = "/v1/messages/count_tokens?beta=true"
# The models that the tested proxy should have: the first two at Claude, the others at the upstream's second port.
CLAUDE_MODEL = "claude-sonnet-5"
CLAUDE_ALIAS = "anthropic/claude-sonnet-5"
OPENAI_MODEL = "conformance-openai"
THIRD_MODEL = "conformance-third-party"
CLIENT_TOKEN = "sk-ant-oat01-made-up-conformance-client"  # noqa: S105 - made up
SESSION = "5d1f0c0e-0000-4000-8000-00000000c0de"
BETAS = "zeta-2026-01-01,claude-code-20250219,oauth-2025-04-20,alpha-2025-01-01,capability-of-tomorrow-2027-01-01"
# The headers of Claude Code 2.1.197 with its own login (names in lower case), besides the proxy's token.
CLIENT_HEADERS = {
    "accept": "application/json",
    "accept-encoding": "gzip, deflate",
    "authorization": f"Bearer {CLIENT_TOKEN}",
    "content-type": "application/json",
    "user-agent": "claude-cli/2.1.197 (external, cli)",
    "x-claude-code-session-id": SESSION,
    "x-stainless-arch": "x64",
    "x-stainless-lang": "js",
    "x-stainless-os": "Linux",
    "x-stainless-package-version": "0.94.0",
    "x-stainless-retry-count": "0",
    "x-stainless-runtime": "node",
    "x-stainless-runtime-version": "v26.3.0",
    "x-stainless-timeout": "600",
    "anthropic-beta": BETAS,
    "anthropic-dangerous-direct-browser-access": "true",
    "anthropic-version": "2023-06-01",
    "x-app": "cli",
}


class Differs(Exception):
    """The expectation is not met; the message says briefly what was found, without anything that varies between runs."""


@dataclass(frozen=True)
class Response:
    """A response, decoded and read to its end; ``whole`` is False if the connection broke off."""

    status: int
    headers: httpx.Headers
    body: bytes
    whole: bool = True

    @property
    def json(self) -> Any:
        """The decoded body; None if it is not JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    @property
    def events(self) -> list[dict[str, Any]]:
        """The data of a stream's events."""
        lines = self.body.decode("utf-8", "replace").splitlines()
        return [json.loads(line[5:]) for line in lines if line.startswith("data:") and line[5:].strip() != "[DONE]"]

    @property
    def text(self) -> str:
        """The text of the response, streamed or not."""
        if isinstance(self.json, dict):
            return "".join(block.get("text", "") for block in self.json.get("content") or [])
        return "".join(each["delta"].get("text", "") for each in self.events if each.get("type") == "content_block_delta")

    @property
    def model(self) -> object:
        """The model name in the response."""
        if isinstance(self.json, dict):
            return self.json.get("model")
        return next((each["message"].get("model") for each in self.events if each.get("type") == "message_start"), None)


class Target:
    """A running proxy. Without ``upstream`` its requests cannot be seen."""

    def __init__(self, url: str, token: str, upstream: Upstream | None = None) -> None:
        self.url = url.rstrip("/")
        self.token = token
        self._upstream = upstream
        self._client = httpx.Client(trust_env=False, timeout=60, follow_redirects=False)

    @property
    def has_upstream(self) -> bool:
        """Whether the proxy's requests can be seen."""
        return self._upstream is not None

    @property
    def upstream(self) -> Upstream:
        """The suite's upstream, which receives the proxy's requests."""
        if self._upstream is None:
            raise RuntimeError("the row needs the suite's upstream")
        return self._upstream

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def reaches_upstream(self) -> bool:
        """Whether a request through the proxy arrives at the upstream."""
        self.ask(question())
        return bool(self.upstream.received(claude=True))

    def ask(
        self,
        body: Mapping[str, Any] | bytes | None,
        path: str = MESSAGES,
        method: str = "POST",
        headers: Mapping[str, str | None] | None = None,
        on_bytes: Callable[[bytes], None] = lambda _: None,
    ) -> Response:
        """Send a request like Claude Code. A header with None is left out. ``on_bytes`` gets all bytes received so far."""
        named = {"x-litellm-api-key": self.token, **CLIENT_HEADERS, **(headers or {})}
        sent = [(name, value) for name, value in named.items() if value is not None]
        content = (
            body
            if isinstance(body, bytes) or body is None
            else json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
        )
        received = bytearray()
        try:
            with self._client.stream(method, f"{self.url}{path}", content=content, headers=sent) as response:
                try:
                    for chunk in response.iter_bytes():
                        received += chunk
                        on_bytes(bytes(received))
                except httpx.TransportError:
                    return Response(response.status_code, response.headers, bytes(received), whole=False)
                return Response(response.status_code, response.headers, bytes(received))
        except httpx.TransportError as error:
            raise Differs(f"no response ({type(error).__name__})") from error
        except httpx.DecodingError as error:
            raise Differs("the response cannot be decoded") from error

    def forwarded(
        self, body: Mapping[str, Any] | bytes, headers: Mapping[str, str | None] | None = None, path: str = MESSAGES
    ) -> Seen:
        """Send a request for Claude and return it as Claude received it."""
        return self._arrived(self.ask(body, path, headers=headers), claude=True)

    def forwarded_elsewhere(self, body: Mapping[str, Any], headers: Mapping[str, str | None] | None = None) -> Seen:
        """Send a request for another provider and return it as the provider received it."""
        return self._arrived(self.ask(body, headers=headers), claude=False)

    def ask_with_reply(self, reply: Callable[[Seen], Reply], *, stream: bool, **more: Any) -> Response:
        """Send a request to which Claude responds with ``reply``."""
        self.upstream.claude = reply
        return self.ask(question(stream=stream, **more))

    def _arrived(self, response: Response, *, claude: bool) -> Seen:
        received = self.upstream.received(claude=claude)
        expect(bool(received), f"HTTP {response.status}, and the provider received no request")
        return received[-1]


def expect(met: bool, seen: str) -> None:  # noqa: FBT001 - reads as an assertion
    """Raise ``Differs`` with ``seen`` if the expectation is not met."""
    if not met:
        raise Differs(seen)


BILLING = "x-anthropic-billing-header: cc_version=2.1.197.abc; cc_entrypoint=cli;"
CACHED = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}


def question(model: str = CLAUDE_MODEL, *, stream: bool = False, **more: Any) -> dict[str, Any]:
    """Return a request in Claude Code's shape."""
    return {
        "model": model,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hello, wörld", **CACHED}]}],
        "system": [
            {"type": "text", "text": BILLING},
            {"type": "text", "text": "You are Claude Code, Anthropic's official CLI for Claude.", **CACHED},
            {"type": "text", "text": 'Line one\n\n  line two \u2028 \U0001f642 "quoted" \\ end ', **CACHED},
        ],
        "tools": [
            {"name": "Read", "description": "reads", "input_schema": {"type": "object", "properties": {"path": {}}}}
        ],
        "metadata": {"user_id": json.dumps({"device_id": "0" * 64, "account_uuid": "", "session_id": SESSION})},
        "max_tokens": 32000,
        **more,
        **({"stream": True} if stream else {}),
    }  # fmt: skip


def history(*blocks: dict[str, Any]) -> list[dict[str, Any]]:
    """Return messages in which the assistant's turn has these blocks."""
    return [
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": [*blocks, {"type": "text", "text": "answered"}]},
        {"role": "user", "content": "second"},
    ]
