"""When Claude fails, the real Claude Code does through the proxy what it does without it.

Each row of the table is run twice, on the upstream and on a proxy in front of it: what reaches the upstream and what the
user is shown have to be the same. A run is known to the upstream by its session, so that many of them go on together.
"""

import re
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import upstream as up
from claude_code import ClaudeCode, require
from conftest import CLIENT_TOKEN, TOKENS, module_proxy
from processes import STATIC_TOKEN, Proxy

NOW = int(time.time())
OAUTH_BETA = "oauth-2025-04-20"
# Two repetitions of the client's own tell as much as ten.
RETRIES = "2"
AT_ONCE = 5
# What LiteLLM asks for one request when Claude cannot answer, by the settings of the tests' proxies.
LITELLM_ASKS = 3

Script = Callable[[up.Seen, int], up.Reply | None]


# --- What the upstream does at the n-th request of a run, counted from 1; None is a good answer ------------------------------


def always(reply: up.Reply) -> Script:
    return lambda _seen, _count: reply


def once(reply: up.Reply) -> Script:
    return lambda _seen, count: reply if count == 1 else None


def to_streams(reply: up.Reply) -> Script:
    return lambda seen, _count: reply if seen.json.get("stream") else None


def in_a_tool_loop(reply: up.Reply) -> Script:
    """Answer with signed thinking and a tool, and refuse what comes back, once."""

    def script(seen: up.Seen, count: int) -> up.Reply | None:
        if count == 1:
            steps = [up.thinking("a thought", "c2lnbmVk"), up.tool("Bash", {"command": "echo ok", "description": "Say ok"})]
            return up.anthropic_reply(seen, *steps)
        return reply if count == 2 else None

    return script


def events(*, text: str = "half an answer", stop_after: str | None = None, drop: bool = False, error: str = "") -> up.Reply:
    """A stream that ends after the last event of a type, with an error event, with a dropped connection, or just so."""
    whole = up.events_of(up.message(up.text(text), model="claude-sonnet-5"))
    types = [event["type"] for event in whole]
    kept = whole[: types.index(stop_after) + 1] if stop_after else []
    if error:
        kept.append({"type": "error", "error": {"details": None, "type": error, "message": f"made up {error}"}})
    return up.Reply(headers={"content-type": "text/event-stream"}, chunks=up.sse(*kept), drop=drop)


def refused(words: str) -> up.Reply:
    return up.anthropic_error(400, "invalid_request_error", words)


def limited(**headers: str) -> up.Reply:
    return up.anthropic_error(429, "rate_limit_error", "This request would exceed your account's rate limit.", **headers)


def rejected(seconds: int, claim: str = "five_hour") -> up.Reply:
    reset = str(NOW + seconds)
    unified = {"status": "rejected", "reset": reset, "representative_claim": claim, "5h_status": "rejected", "5h_reset": reset}
    return limited(
        retry_after=str(seconds), **{f"anthropic_ratelimit_unified_{name}": value for name, value in unified.items()}
    )


@dataclass(frozen=True)
class Row:
    """``modes`` says whose credential it is: the pool's, the client's own. ``alone``: it takes the pool's only one away.

    ``asked_again``: LiteLLM asks so often for each request of the client's before the client hears of it.
    """

    script: Script
    modes: tuple[str, ...] = ("pool",)
    model: str = "claude-sonnet-5"
    asked_again: bool = False
    alone: bool = False


BOTH = ("pool", "own")
OVERLOADED = up.anthropic_error(529, "overloaded_error", "Overloaded")
BROKEN = up.anthropic_error(500, "api_error", "Internal server error")
HTML = up.Reply(502, {"content-type": "text/html"}, b"<html><h1>502 Bad Gateway</h1></html>")
CONTEXT = "input length and `max_tokens` exceed context limit: 180000 + 64000 > 200000, decrease input length or `max_tokens`"

TABLE: Mapping[str, Row] = {
    # Limits.
    "429-bare": Row(always(limited()), ("own",)),
    "429-bare-once": Row(once(limited()), BOTH),
    "429-retry-after": Row(once(limited(retry_after="1")), ("own",)),
    "429-retry-after-long": Row(always(limited(retry_after="3600")), ("own",)),
    "429-rejected": Row(always(rejected(3600)), ("own",)),
    "429-rejected-week": Row(always(rejected(3600 * 50, "seven_day")), ("own",)),
    "429-not-recognised": Row(always(up.anthropic_error(429, "rate_limit_error", "Error")), BOTH),
    "429-extra-usage": Row(always(up.anthropic_error(429, "rate_limit_error", "Extra usage is required for long context requests."))),
    # Claude cannot answer.
    "529-once": Row(once(OVERLOADED), asked_again=True),
    "529": Row(always(OVERLOADED), BOTH, asked_again=True),
    "529-opus": Row(always(OVERLOADED), model="claude-opus-4-8", asked_again=True),
    "500": Row(always(BROKEN), asked_again=True),
    "500-never-again": Row(always(up.anthropic_error(500, "api_error", "no", x_should_retry="false")), asked_again=True),
    "502-html": Row(always(HTML), ("own",), asked_again=True),
    # About the request.
    "400": Row(always(refused("tools.0.name: String should match pattern")), BOTH),
    "400-again": Row(always(up.anthropic_error(400, "invalid_request_error", "once more", x_should_retry="true"))),
    "404": Row(always(up.anthropic_error(404, "not_found_error", "model: claude-sonnet-5"))),
    "413": Row(always(up.anthropic_error(413, "request_too_large", "Request exceeds the maximum size"))),
    "400-signature": Row(in_a_tool_loop(refused("messages.1.content.0: Invalid `signature` in `thinking` block")), BOTH),
    "400-signature-field": Row(in_a_tool_loop(refused("messages.1.content.0.thinking.signature: Field required"))),
    "400-cannot-be-modified": Row(
        in_a_tool_loop(refused("`thinking` or `redacted_thinking` blocks in the latest assistant message cannot be modified."))
    ),
    "400-system-role-beta": Row(once(refused("mid-conversation-system-2026-04-07 is no known value of anthropic-beta"))),
    "400-system-role": Row(once(refused('messages: Unexpected role "system". See `input message role`.'))),
    "400-system-role-words": Row(once(refused("messages.1: role 'system' is not supported on this model"))),
    "400-adaptive": Row(once(refused("adaptive thinking is not supported on this model"))),
    "400-thinking-enabled": Row(
        once(refused('"thinking.type.enabled" is not supported for this model. Use "thinking.type.adaptive".')),
        model="claude-sonnet-4-5",
    ),
    "400-context": Row(once(refused(CONTEXT))),
    "400-too-long": Row(always(refused("prompt is too long: 250000 tokens > 200000 maximum")), BOTH),
    # The client's own login.
    "401": Row(always(up.anthropic_error(401, "authentication_error", "OAuth token has expired.")), ("own",)),
    "403-revoked": Row(
        always(up.anthropic_error(403, "permission_error", "OAuth token has been revoked. Please obtain a new token.")), ("own",)
    ),
    # Streams.
    "error-first": Row(to_streams(events(error="api_error")), BOTH),
    "overloaded-first": Row(to_streams(events(error="overloaded_error"))),
    "error-after-start": Row(to_streams(events(stop_after="message_start", error="api_error"))),
    "error-in-a-block": Row(to_streams(events(stop_after="content_block_delta", error="api_error"))),
    "error-after-a-block": Row(always(events(stop_after="content_block_stop", error="api_error")), BOTH),
    "overloaded-after-a-block": Row(always(events(stop_after="content_block_stop", error="overloaded_error"))),
    "dropped-first": Row(once(events(drop=True)), BOTH),
    "dropped-always": Row(always(events(drop=True))),
    "dropped-after-start": Row(once(events(stop_after="message_start", drop=True))),
    "dropped-in-a-block": Row(once(events(stop_after="content_block_delta", drop=True))),
    "dropped-after-a-block": Row(always(events(stop_after="content_block_stop", drop=True)), BOTH),
    "ended-after-a-block": Row(always(events(stop_after="content_block_stop"))),
    "ended-in-a-block": Row(to_streams(events(stop_after="content_block_delta"))),
    "nothing-in-it": Row(once(up.Reply(200, {"content-type": "text/event-stream"}, b"")), BOTH),
    "nothing-at-all": Row(always(up.Reply(200, {"content-type": "application/json"}, b""))),
    "html": Row(to_streams(up.Reply(200, {"content-type": "text/html"}, b"<html>Hello</html>"))),
    # These rest the only credential of the pool, which answers for itself meanwhile.
    "429-retry-after-pool": Row(once(limited(retry_after="1")), alone=True),
    "429-rejected-pool": Row(always(rejected(3600)), alone=True),
}  # fmt: skip


class Request(NamedTuple):
    """What of a request shows how the client answers to a fault."""

    path: str
    stream: bool
    max_tokens: int | None
    thinking: str | None
    betas: tuple[str, ...]
    messages: tuple[tuple[str, tuple[str, ...]], ...]

    @classmethod
    def of(cls, seen: up.Seen) -> "Request":
        body = seen.json
        betas = tuple(beta for beta in (seen.header("anthropic-beta") or "").split(",") if beta != OAUTH_BETA)
        return cls(
            seen.path,
            bool(body.get("stream")),
            body.get("max_tokens"),
            (body.get("thinking") or {}).get("type"),
            betas,
            tuple((message["role"], _types(message["content"])) for message in body["messages"]),
        )


def _types(content: Any) -> tuple[str, ...]:
    return ("text",) if isinstance(content, str) else tuple(block["type"] for block in content)


class Outcome(NamedTuple):
    """What a run of the client came to: what was asked, and what the user was shown."""

    asked: list[Request]
    shown: list[str]
    code: int
    retries: int


class Scripted:
    """An upstream on which each session meets its own script."""

    def __init__(self) -> None:
        self.scripts: dict[str, Script] = {}
        self.asked: dict[str, list[up.Seen]] = defaultdict(list)
        self.server = up.Upstream(self.answer)

    def answer(self, seen: up.Seen) -> up.Reply:
        session = seen.header("x-claude-code-session-id")
        if seen.method != "POST" or session is None:
            return up.Reply(404)
        self.asked[session].append(seen)
        reply = self.scripts[session](seen, len(self.asked[session]))
        return reply or up.anthropic_reply(seen, up.text("served"))

    def run(self, folder: Path, url: str, row: Row, mode: str) -> Outcome:
        """Run the client once; ``mode`` says how it shows who it is."""
        session = str(uuid.uuid4())
        self.scripts[session] = row.script
        folder.mkdir()
        user = ClaudeCode(folder, url)
        environment = {"CLAUDE_CODE_MAX_RETRIES": RETRIES}
        if mode == "own":
            del user.environment["ANTHROPIC_AUTH_TOKEN"]
            environment["CLAUDE_CODE_OAUTH_TOKEN"] = CLIENT_TOKEN
            environment["ANTHROPIC_CUSTOM_HEADERS"] = f"x-litellm-api-key: {STATIC_TOKEN}"
        run = user.run("Hello", "--session-id", session, "--allowedTools", "Bash", model=row.model, **environment)
        shown = [
            block["text"]
            for event in run.events
            if event.get("type") == "assistant"
            for block in event["message"]["content"]
            if block["type"] == "text"
        ]
        asked = [Request.of(seen) for seen in self.asked[session]]
        return Outcome(asked, [_without_port(text) for text in [*shown, run.result]], run.code, run.retries)


def _without_port(text: str) -> str:
    return re.sub(r"127\.0\.0\.1:\d+", "HOST", text)


@pytest.fixture(scope="module")
def scripted() -> Iterator[Scripted]:
    upstream = Scripted()
    yield upstream
    upstream.server.close()


@pytest.fixture(scope="module")
def one_credential(scripted: Scripted, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """A proxy whose pool holds one credential."""
    home = tmp_path_factory.mktemp("one")
    yield from module_proxy(scripted.server, home, CLAUDE_OAUTH_TOKENS=TOKENS["a"])


@pytest.fixture(scope="module")
def passthrough(scripted: Scripted, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """A proxy on which Claude is asked on the client's own login."""
    home = tmp_path_factory.mktemp("passthrough")
    yield from module_proxy(scripted.server, home, CLAUDE_TOKEN_MODE="passthrough")


Pair = tuple[Outcome, Outcome]
CASES = [(name, mode) for name, row in TABLE.items() for mode in row.modes]


@pytest.fixture(scope="module")
def pairs(
    request: pytest.FixtureRequest,
    scripted: Scripted,
    one_credential: Proxy,
    passthrough: Proxy,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[[str, str], Pair]]:
    """Run all chosen rows together, directly and through the proxy; those that take the credential away come last."""
    require()
    folder = tmp_path_factory.mktemp("users")
    urls = {"pool": one_credential.url, "own": passthrough.url}
    chosen = {getattr(item, "callspec", None) and item.callspec.id for item in request.session.items}
    runs: dict[tuple[str, str, str], Future[Outcome]] = {}
    with ThreadPoolExecutor(AT_ONCE) as together, ThreadPoolExecutor(1) as one_by_one:

        def start(name: str, mode: str, after: list[Future[Outcome]]) -> None:
            for side, url in (("direct", scripted.server.url), ("proxied", urls[mode])):

                def run(side: str = side, url: str = url) -> Outcome:
                    for each in after:
                        each.exception()
                    return scripted.run(folder / f"{name}-{mode}-{side}", url, TABLE[name], mode)

                runs[name, mode, side] = (one_by_one if TABLE[name].alone else together).submit(run)

        wanted = [case for case in CASES if "-".join(case) in chosen]
        for name, mode in sorted(wanted, key=lambda case: TABLE[case[0]].alone):
            start(name, mode, [] if not TABLE[name].alone else [*runs.values()])
        yield lambda name, mode: (runs[name, mode, "direct"].result(), runs[name, mode, "proxied"].result())


@pytest.mark.parametrize(("name", "mode"), CASES, ids=["-".join(case) for case in CASES])
def test_the_client_does_what_it_does_without_the_proxy(pairs, name, mode):
    """The same requests reach Claude, and the user is shown the same."""
    direct, proxied = pairs(name, mode)
    asked = proxied.asked
    print(direct, proxied, sep="\n")
    assert proxied._replace(asked=[]) == direct._replace(asked=[])
    assert asked == direct.asked
