"""When Claude fails, the real Claude Code does through the proxy what it does without it.

Each row of the table is run twice, on the upstream and on a proxy in front of it: what reaches the upstream and what the
user is shown have to be the same. A run is known to the upstream by its session, so that many of them go on together.
"""

import re
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
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
# A connection that breaks does so some time after the last event, in seconds: the client has read that one.
BEFORE_A_BREAK = 0.4

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
    headers = {"content-type": "text/event-stream"}
    return up.Reply(headers=headers, chunks=Broken(up.sse(*kept)) if drop else up.sse(*kept), drop=drop)


class Broken(list[bytes]):
    """Events after which the connection breaks; a silence lies between."""

    def __iter__(self) -> Iterator[bytes]:
        yield from super().__iter__()
        time.sleep(BEFORE_A_BREAK)


def refused(words: str) -> up.Reply:
    return up.anthropic_error(400, "invalid_request_error", words)


def limited(**headers: str) -> up.Reply:
    words = "This request would exceed your account's rate limit. Please try again later."
    return up.anthropic_error(429, "rate_limit_error", words, **headers)


def rejected(seconds: int, claim: str = "five_hour") -> up.Reply:
    reset = str((NOW + seconds) // 60 * 60 + 30)  # the user is told the minute, and the pool rounds up to the next second
    unified = {"status": "rejected", "reset": reset, "representative_claim": claim, "5h_status": "rejected", "5h_reset": reset}
    return limited(
        retry_after=str(seconds), **{f"anthropic_ratelimit_unified_{name}": value for name, value in unified.items()}
    )


@dataclass(frozen=True)
class Row:
    """``modes`` are of ``MODES``. ``rests``: the pool's only credential rests by it, and the pool answers for itself."""

    script: Script
    modes: tuple[str, ...] = ("pool",)
    model: str = "claude-sonnet-5"
    cooldowns: bool = False


# Whose token the client sends, and whose credential goes to Claude.
MODES = {
    "pool": "the proxy's token; the pool's credential",
    "login": "its own login beside the proxy's token; the pool's credential",
    "own": "its own login beside the proxy's token; its own",
}
OVERLOADED = up.anthropic_error(529, "overloaded_error", "Overloaded")
BROKEN = up.anthropic_error(500, "api_error", "Internal server error")
REVOKED = "OAuth token has been revoked. Please obtain a new token."
CONTEXT = "input length and `max_tokens` exceed context limit: 180000 + 64000 > 200000, decrease input length or `max_tokens`"

TABLE: Mapping[str, Row] = {
    # Limits.
    "429-bare": Row(always(limited()), ("own",)),
    "429-bare-once": Row(once(limited())),
    "429-retry-after": Row(once(limited(retry_after="1")), ("own",)),
    "429-retry-after-long": Row(always(limited(retry_after="3600")), ("own",)),
    "429-rejected": Row(always(rejected(3600)), ("own",)),
    "429-not-recognised": Row(always(up.anthropic_error(429, "rate_limit_error", "Error")), ("own",)),
    "429-extra-usage": Row(
        always(up.anthropic_error(429, "rate_limit_error", "Extra usage is required for long context requests."))
    ),
    # Claude cannot answer.
    "529": Row(always(OVERLOADED)),
    "529-opus": Row(always(OVERLOADED), model="claude-opus-4-8"),
    "500": Row(always(BROKEN)),
    # About the request.
    "400": Row(always(refused("tools.0.name: String should match pattern"))),
    "400-again": Row(always(up.anthropic_error(400, "invalid_request_error", "once more", x_should_retry="true"))),
    "404": Row(always(up.anthropic_error(404, "not_found_error", "model: claude-sonnet-5"))),
    "413": Row(always(up.anthropic_error(413, "request_too_large", "Request exceeds the maximum size"))),
    "400-signature": Row(in_a_tool_loop(refused("messages.1.content.0: Invalid `signature` in `thinking` block"))),
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
    "400-too-long": Row(always(refused("prompt is too long: 250000 tokens > 200000 maximum"))),
    # The client's own login.
    "401": Row(always(up.anthropic_error(401, "authentication_error", "OAuth token has expired.")), ("own",)),
    "403-revoked": Row(always(up.anthropic_error(403, "permission_error", REVOKED)), ("own",)),
    # Streams.
    "error-first": Row(to_streams(events(error="api_error"))),
    "overloaded-first": Row(to_streams(events(error="overloaded_error"))),
    "error-after-start": Row(to_streams(events(stop_after="message_start", error="api_error"))),
    "error-in-a-block": Row(to_streams(events(stop_after="content_block_delta", error="api_error"))),
    "error-after-a-block": Row(always(events(stop_after="content_block_stop", error="api_error"))),
    "dropped-first": Row(once(events(drop=True))),
    "dropped-always": Row(always(events(drop=True))),
    "dropped-in-a-block": Row(once(events(stop_after="content_block_delta", drop=True))),
    "dropped-after-a-block": Row(always(events(stop_after="content_block_stop", drop=True))),
    "ended-after-a-block": Row(always(events(stop_after="content_block_stop"))),
    "nothing-in-it": Row(once(up.Reply(200, {"content-type": "text/event-stream"}, b""))),
    "nothing-at-all": Row(always(up.Reply(200, {"content-type": "application/json"}, b""))),
    "html": Row(to_streams(up.Reply(200, {"content-type": "text/html"}, b"<html>Hello</html>"))),
    # These rest the only credential of the pool, which answers for itself meanwhile.
    "429-retry-after-rests": Row(once(limited(retry_after="1")), cooldowns=True),
    "429-rejected-rests": Row(always(rejected(3600)), ("pool", "login"), cooldowns=True),
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
        if mode != "pool":
            del user.environment["ANTHROPIC_AUTH_TOKEN"]
            wish = "passthrough" if mode == "own" else "rotate"
            environment["CLAUDE_CODE_OAUTH_TOKEN"] = CLIENT_TOKEN
            environment["ANTHROPIC_CUSTOM_HEADERS"] = f"x-litellm-api-key: {STATIC_TOKEN}\nx-claude-token-mode: {wish}"
        run = user.run("Hello", "--session-id", session, "--allowedTools", "Bash", model=row.model, **environment)
        shown = [
            block["text"]
            for event in run.events
            if event.get("type") == "assistant"
            for block in event["message"]["content"]
            if block["type"] == "text"
        ]
        asked = [Request.of(seen) for seen in self.asked[session]]
        return Outcome(asked, [_comparable(text) for text in [*shown, run.result]], run.code, run.retries)


def _comparable(text: str) -> str:
    """A text without the port, and without what it says of the header ``server``: each server writes its own."""
    return re.sub(r"127\.0\.0\.1:\d+", "HOST", text).replace(", server other", "")


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


Pair = tuple[Outcome, Outcome]
CASES = [(name, mode) for name, row in TABLE.items() for mode in row.modes]


@pytest.fixture(scope="module")
def pairs(
    request: pytest.FixtureRequest, scripted: Scripted, one_credential: Proxy, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str, str], Pair]]:
    """Run all chosen rows together, directly and through the proxy; those after which the credential rests come last."""
    require()
    folder = tmp_path_factory.mktemp("users")
    urls = {"direct": scripted.server.url, "proxied": one_credential.url}
    chosen = {item.callspec.id for item in request.session.items if hasattr(item, "callspec")}
    wanted = [case for case in CASES if "-".join(case) in chosen]
    runs: dict[tuple[str, str, str], Future[Outcome]] = {}
    with ThreadPoolExecutor(AT_ONCE) as together, ThreadPoolExecutor(1) as one_by_one:

        def run(name: str, mode: str, side: str, before: list[Future[Outcome]]) -> Outcome:
            wait(before)
            return scripted.run(folder / f"{name}-{mode}-{side}", urls[side], TABLE[name], mode)

        for name, mode in sorted(wanted, key=lambda case: TABLE[case[0]].cooldowns):
            for side in urls:
                last = TABLE[name].cooldowns and side == "proxied"
                runner, before = (one_by_one, [*runs.values()]) if last else (together, [])
                runs[name, mode, side] = runner.submit(run, name, mode, side, before)
        yield lambda name, mode: (runs[name, mode, "direct"].result(), runs[name, mode, "proxied"].result())


@pytest.mark.parametrize(("name", "mode"), CASES, ids=["-".join(case) for case in CASES])
def test_the_client_does_what_it_does_without_the_proxy(pairs, name, mode):
    """The same requests reach Claude, and the user is shown the same; while the pool rests, Claude is not asked."""
    direct, proxied = pairs(name, mode)
    print(direct, proxied, sep="\n")
    own_words = [text for text in proxied.shown if "claude-proxy: the only Claude credential is rate-limited until" in text]
    if TABLE[name].cooldowns and own_words:  # with the proxy's token alone the client shows the words, which are the proxy's
        proxied, direct = proxied._replace(shown=[]), direct._replace(shown=[])
    assert proxied._replace(asked=[]) == direct._replace(asked=[])
    if TABLE[name].cooldowns:
        assert len(proxied.asked) <= len(direct.asked)
    else:
        assert proxied.asked == direct.asked
