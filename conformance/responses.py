"""Checks of Claude's responses."""

import gzip
import json
import threading
from collections.abc import Callable, Iterable, Iterator

from conformance.target import CLAUDE_ALIAS, CLAUDE_MODEL, Response, Target, expect, history, question
from conformance.upstream import EVENTS, JSON, Reply, event, events, message

# How long the upstream holds the second event back if the client has not received the first one; only a failing proxy waits.
HOLD_SECONDS = 5.0

SUCCESS_HEADERS = {
    "request-id": "req_made_up",
    "anthropic-organization-id": "00000000-0000-4000-8000-000000000000",
    "anthropic-ratelimit-unified-status": "allowed_warning",
    "anthropic-ratelimit-unified-5h-utilization": "0.91",
    "anthropic-ratelimit-unified-reset": "4102444800",
    "anthropic-ratelimit-requests-remaining": "49",
    "retry-after": "7",
}
ERROR_HEADERS = {
    "request-id": "req_made_up_error",
    "retry-after": "1",
    "anthropic-ratelimit-unified-status": "rejected",
    "anthropic-ratelimit-unified-reset": "4102444800",
    "anthropic-ratelimit-unified-representative-claim": "five_hour",
}
# By status: Anthropic's error type and message.
ERRORS = {
    400: ("invalid_request_error", "max_tokens: 32000 > 8192, which is the maximum allowed number of output tokens"),
    401: ("authentication_error", "OAuth token has expired. Please obtain a new token or refresh your existing token."),
    403: ("permission_error", "OAuth authentication is currently not allowed for this organization."),
    404: ("not_found_error", f"model: {CLAUDE_MODEL}"),
    413: ("request_too_large", "Request exceeds the maximum size"),
    429: ("rate_limit_error", "This request would exceed your account's rate limit. Please try again later."),
    500: ("api_error", "Internal server error"),
    503: ("api_error", "Service unavailable"),
    529: ("overloaded_error", "Overloaded"),
}
# Error messages after which Claude Code changes the request and sends it again.
RECOVERABLE = {
    "signature": "messages.1.content.0: Invalid `signature` in `thinking` block",
    "signature-missing": "messages.1.content.0.thinking.signature: Field required",
    "thinking-modified": "messages.1.content.0: `thinking` or `redacted_thinking` blocks in the latest assistant message "
    "cannot be modified. These blocks must remain as they were in the original response.",
    "system-beta": "role 'system' in messages needs `mid-conversation-system-2026-04-07` in the `anthropic-beta` header",
    "system-role": "messages.1.role: Unexpected role \"system\". The input message role must be 'user' or 'assistant'",
    "system-unsupported": "messages.1: role 'system' is not supported on this model",
    "thinking-type": "thinking.type.enabled is not supported for this model. Use thinking.type.adaptive instead.",
    "adaptive": "adaptive thinking is not supported on this model",
    "context-limit": "input length and `max_tokens` exceed context limit: 180000 + 32000 > 200000, "
    "decrease input length or `max_tokens` and try again",
    "prompt-too-long": "prompt is too long: 210000 tokens > 200000 maximum",
}
# A quirk for everything that re-encoding would change: white space, escapes, numbers, unknown fields, a repeated type.
WHOLE = (
    b'{ "model":"claude-sonnet-5","id":"msg_01Quirk","type":"message","role":"assistant",\n "content":[{"type":"thinking",'
    b'"thinking":"","signature":"EqQBSIGNED=="},{"type":"text","text":"caf\\u00e9 \\/ \xf0\x9f\x99\x82","citations":null},'
    b'{"type":"block_of_tomorrow","a":1.0}],"stop_reason":"end_turn","stop_sequence":null,"stop_details":null,'
    b'"context_management":{"applied_edits":[]},"usage":{"input_tokens":10,"output_tokens":5,"service_tier":"standard",'
    b'"cache_creation":{"ephemeral_1h_input_tokens":0}},"field_of_tomorrow":{"b":1e3}}\n'
)
PING = b'event: ping\ndata: {"type": "ping"}\n\n'
ERROR_EVENT = (
    b"event: error\n"
    b'data: {"type":"error","error":{"details":null,"type":"overloaded_error","message":"Overloaded"},"request_id":"req_x"}\n\n'
)


def _stream(identity: str = "msg_01Quirk") -> list[bytes]:
    """Return a stream with all kinds of quirks, in chunks that end inside lines and characters."""
    first, *rest = events(message(CLAUDE_MODEL, "caf\u00e9 \U0001f642", identity))
    signed = {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": "", "signature": ""}}
    whole = b"".join(
        [
            first,
            PING,
            b": a comment\n\n",
            event(signed),
            event({"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "EqQB=="}}),
            event({"type": "content_block_stop", "index": 0}),
            b'event: event_of_tomorrow\ndata:{"type":"event_of_tomorrow", "a": 1.0}\n\n',
            *(part.replace(b'"index": 0', b'"index": 1') for part in rest),
        ]
    )
    return [whole[start : start + 97] for start in range(0, len(whole), 97)]


def _says(
    body: bytes | Iterable[bytes], headers: dict[str, str] | None = None, *, cut: bool = False, status: int = 200
) -> Reply:
    kind = JSON if isinstance(body, bytes) else EVENTS
    return Reply(status, (*kind, *(headers or {}).items()), body, cut)


def _whole_or_stream(*, stream: bool) -> bytes | list[bytes]:
    return _stream() if stream else WHOLE


def same_body(target: Target) -> None:
    """A response that does not stream."""
    response = target.ask_with_reply(lambda _: _says(WHOLE), stream=False)
    expect(response.status == 200, f"HTTP {response.status}")
    expect(response.body == WHOLE, "different bytes, same value" if response.json == json.loads(WHOLE) else "different content")


def same_stream(target: Target) -> None:
    """A stream with pings, comments and unknown events, cut anywhere."""
    response = target.ask_with_reply(lambda _: _says(_stream()), stream=True)
    expect(response.body == b"".join(_stream()), f"HTTP {response.status}" if response.status != 200 else "different bytes")


def success_headers(*, stream: bool) -> Callable[[Target], None]:
    """Return the check of a successful response's headers."""

    def check(target: Target) -> None:
        response = target.ask_with_reply(lambda _: _says(_whole_or_stream(stream=stream), SUCCESS_HEADERS), stream=stream)
        _expect_headers(response, SUCCESS_HEADERS)

    return check


def _expect_headers(response: Response, wanted: dict[str, str]) -> None:
    lost = [name for name, value in wanted.items() if response.headers.get(name) != value]
    expect(not lost, "all dropped" if len(lost) == len(wanted) else f"dropped: {', '.join(lost)}")


def error(status: int) -> Callable[[Target], None]:
    """Return the check of one error: status, body and headers."""
    kind, words = ERRORS[status]
    body = b'{"type":"error", "error":{"type":"%s","message":"%s"},"request_id":"req_x"}\n' % (kind.encode(), words.encode())
    headers = ERROR_HEADERS | {"x-should-retry": "true" if status in (429, 500, 503, 529) else "false"}

    def check(target: Target) -> None:
        response = target.ask_with_reply(lambda _: _says(body, headers, status=status), stream=True)
        differs = [] if response.status == status else [f"HTTP {response.status}"]
        differs += [] if response.body == body else ["different body"]
        lost = [name for name, value in headers.items() if response.headers.get(name) != value]
        differs += [f"{len(lost)} of {len(headers)} headers dropped"] if lost else []
        expect(not differs, ", ".join(differs))

    return check


def recovery(name: str) -> Callable[[Target], None]:
    """Return the check of one error message: it arrives, after one request to Claude."""
    words = {"type": "error", "error": {"type": "invalid_request_error", "message": RECOVERABLE[name]}, "request_id": "req_x"}
    body = json.dumps(words).encode()

    def check(target: Target) -> None:
        signed = {"type": "thinking", "thinking": "thought", "signature": "EqQBSIGNED=="}
        response = target.ask_with_reply(
            lambda _: _says(body, status=400), stream=True, messages=history(signed), thinking={"type": "adaptive"}
        )
        expect(response.status == 400, f"HTTP {response.status}")
        expect(response.body == body, "different body")
        received = len(target.upstream.received(claude=True))
        expect(received == 1, f"Claude received {received} requests")

    return check


def error_in_the_stream(target: Target) -> None:
    """An error event after some text."""
    sent = [*events(message(CLAUDE_MODEL, "some"))[:3], ERROR_EVENT]
    response = target.ask_with_reply(lambda _: _says(sent), stream=True)
    expect(response.body == b"".join(sent), "lost" if b'"error"' not in response.body else "different bytes")


def drop(target: Target) -> None:
    """A connection that breaks off after some text."""
    sent = events(message(CLAUDE_MODEL, "some"))[:3]
    response = target.ask_with_reply(lambda _: _says(sent, cut=True), stream=True)
    expect(b"".join(sent) in response.body, "the events before the break are lost")
    expect(b"message_stop" not in response.body, "a message_stop is added")
    expect(b"message_delta" not in response.body, "a message_delta is added")
    expect(not response.whole or b'"error"' in response.body, "ends like a complete response")


def first_event(target: Target) -> None:
    """The second event is held back until the client has received the first one."""
    seen, late = threading.Event(), threading.Event()
    first, *rest = events(message(CLAUDE_MODEL, "some"))

    def held() -> Iterator[bytes]:
        yield first
        if not seen.wait(HOLD_SECONDS):
            late.set()
        yield from rest

    def look(received: bytes) -> None:
        if first.strip() in received:
            seen.set()

    target.upstream.claude = lambda _: _says(held())
    target.ask(question(stream=True), on_bytes=look)
    expect(not late.is_set(), "held back until the next event")


def pings(target: Target) -> None:
    """Pings before and after text keep their places."""
    first, *rest = events(message(CLAUDE_MODEL, "some"))
    sent = [first, PING, *rest[:2], PING, *rest[2:]]
    response = target.ask_with_reply(lambda _: _says(sent), stream=True)
    kinds = [each.get("type") for each in response.events]
    wanted = [line[7:].decode() for line in b"".join(sent).splitlines() if line.startswith(b"event: ")]
    expect(kinds == wanted, "dropped" if "ping" not in kinds else "moved")


def compressed(*, stream: bool) -> Callable[[Target], None]:
    """Return the check of a response that Claude has compressed."""

    def check(target: Target) -> None:
        plain = b"".join(_stream()) if stream else WHOLE
        packed: bytes | list[bytes] = [gzip.compress(plain)] if stream else gzip.compress(plain)
        response = target.ask_with_reply(lambda _: _says(packed, {"content-encoding": "gzip"}), stream=stream)
        expect(response.status == 200, f"HTTP {response.status}")
        same = response.body == plain or (not stream and response.json == json.loads(plain))
        expect(same or (stream and b"msg_01Quirk" in response.body), "cannot be read")

    return check


def message_ids(target: Target) -> None:
    """Two responses with different ids, streamed and not."""
    first, second = (message(CLAUDE_MODEL, "some", identity) for identity in ("msg_01First", "msg_01Second"))
    plain = target.ask_with_reply(lambda _: _says(json.dumps(first).encode()), stream=False)
    streamed = target.ask_with_reply(lambda _: _says(events(second)), stream=True)
    expect(b"msg_01First" in plain.body and b"msg_01Second" in streamed.body, "different id")


def model_name(*, stream: bool) -> Callable[[Target], None]:
    """Return the check of a response's model name, if the requested name is an alias of the gateway."""

    def check(target: Target) -> None:
        response = target.ask(question(CLAUDE_ALIAS, stream=stream))
        expect(response.status == 200, f"HTTP {response.status}")
        expect(response.model == CLAUDE_ALIAS, "different name")

    return check
