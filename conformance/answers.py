"""Checks of what comes back from Claude."""

import gzip
import json
import threading
from collections.abc import Callable, Iterable, Iterator

from conformance.target import CLAUDE_ALIAS, CLAUDE_MODEL, Answer, Target, expect, history, question
from conformance.upstream import EVENTS, JSON, Reply, event, events, message

# How long the upstream holds the second event back for a client that has not seen the first; only a proxy that fails waits.
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
# Status: the type and the words, as Anthropic has them.
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
# By these words Claude Code heals a request and sends it again.
HEALED = {
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
# A quirk for every way in which a copy by hand differs: white space, escapes, numbers, unknown fields, a repeated type.
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
    """Return a stream with quirks of every kind, in chunks that end in the middle of lines and of characters."""
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
    """An answer that does not stream."""
    answer = target.answered(lambda _: _says(WHOLE), stream=False)
    expect(answer.status == 200, f"HTTP {answer.status}")
    expect(answer.body == WHOLE, "other bytes, same value" if answer.json == json.loads(WHOLE) else "other content")


def same_stream(target: Target) -> None:
    """A stream with pings, comments, unknown events, cut anywhere."""
    answer = target.answered(lambda _: _says(_stream()), stream=True)
    expect(answer.body == b"".join(_stream()), f"HTTP {answer.status}" if answer.status != 200 else "other bytes")


def success_headers(*, stream: bool) -> Callable[[Target], None]:
    """Return the check of a good answer's headers."""

    def check(target: Target) -> None:
        answer = target.answered(lambda _: _says(_whole_or_stream(stream=stream), SUCCESS_HEADERS), stream=stream)
        _expect_headers(answer, SUCCESS_HEADERS)

    return check


def _expect_headers(answer: Answer, wanted: dict[str, str]) -> None:
    lost = [name for name, value in wanted.items() if answer.headers.get(name) != value]
    expect(not lost, "all dropped" if len(lost) == len(wanted) else f"dropped: {', '.join(lost)}")


def error(status: int) -> Callable[[Target], None]:
    """Return the check of one error: status, body and headers."""
    kind, words = ERRORS[status]
    body = b'{"type":"error", "error":{"type":"%s","message":"%s"},"request_id":"req_x"}\n' % (kind.encode(), words.encode())
    headers = ERROR_HEADERS | {"x-should-retry": "true" if status in (429, 500, 503, 529) else "false"}

    def check(target: Target) -> None:
        answer = target.answered(lambda _: _says(body, headers, status=status), stream=True)
        differs = [] if answer.status == status else [f"HTTP {answer.status}"]
        differs += [] if answer.body == body else ["another body"]
        lost = [name for name, value in headers.items() if answer.headers.get(name) != value]
        differs += [f"{len(lost)} of {len(headers)} headers dropped"] if lost else []
        expect(not differs, ", ".join(differs))

    return check


def healed(name: str) -> Callable[[Target], None]:
    """Return the check of one wording: it arrives, and Claude was asked once."""
    words = {"type": "error", "error": {"type": "invalid_request_error", "message": HEALED[name]}, "request_id": "req_x"}
    body = json.dumps(words).encode()

    def check(target: Target) -> None:
        signed = {"type": "thinking", "thinking": "thought", "signature": "EqQBSIGNED=="}
        answer = target.answered(
            lambda _: _says(body, status=400), stream=True, messages=history(signed), thinking={"type": "adaptive"}
        )
        expect(answer.status == 400, f"HTTP {answer.status}")
        expect(answer.body == body, "another body")
        asked = len(target.upstream.asked(claude=True))
        expect(asked == 1, f"Claude was asked {asked} times")

    return check


def error_in_the_stream(target: Target) -> None:
    """An error event after some text."""
    sent = [*events(message(CLAUDE_MODEL, "some"))[:3], ERROR_EVENT]
    answer = target.answered(lambda _: _says(sent), stream=True)
    expect(answer.body == b"".join(sent), "lost" if b'"error"' not in answer.body else "other bytes")


def drop(target: Target) -> None:
    """A connection that breaks after some text."""
    sent = events(message(CLAUDE_MODEL, "some"))[:3]
    answer = target.answered(lambda _: _says(sent, cut=True), stream=True)
    expect(b"".join(sent) in answer.body, "what came before is lost")
    expect(b"message_stop" not in answer.body, "a message_stop is made up")
    expect(b"message_delta" not in answer.body, "a message_delta is made up")
    expect(not answer.whole or b'"error"' in answer.body, "a clean end")


def first_event(target: Target) -> None:
    """The second event is held back until the client has the first."""
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
    expect(not late.is_set(), "held back until more came")


def pings(target: Target) -> None:
    """A ping before and after text arrive where they were."""
    first, *rest = events(message(CLAUDE_MODEL, "some"))
    sent = [first, PING, *rest[:2], PING, *rest[2:]]
    answer = target.answered(lambda _: _says(sent), stream=True)
    kinds = [each.get("type") for each in answer.events]
    wanted = [line[7:].decode() for line in b"".join(sent).splitlines() if line.startswith(b"event: ")]
    expect(kinds == wanted, "dropped" if "ping" not in kinds else "moved")


def compressed(*, stream: bool) -> Callable[[Target], None]:
    """Return the check of an answer that Claude has compressed."""

    def check(target: Target) -> None:
        plain = b"".join(_stream()) if stream else WHOLE
        packed: bytes | list[bytes] = [gzip.compress(plain)] if stream else gzip.compress(plain)
        answer = target.answered(lambda _: _says(packed, {"content-encoding": "gzip"}), stream=stream)
        expect(answer.status == 200, f"HTTP {answer.status}")
        same = answer.body == plain or (not stream and answer.json == json.loads(plain))
        expect(same or (stream and b"msg_01Quirk" in answer.body), "cannot be read")

    return check


def message_ids(target: Target) -> None:
    """Two answers with ids of their own, streamed and not."""
    first, second = (message(CLAUDE_MODEL, "some", identity) for identity in ("msg_01First", "msg_01Second"))
    plain = target.answered(lambda _: _says(json.dumps(first).encode()), stream=False)
    streamed = target.answered(lambda _: _says(events(second)), stream=True)
    expect(b"msg_01First" in plain.body and b"msg_01Second" in streamed.body, "another id")


def model_name(*, stream: bool) -> Callable[[Target], None]:
    """Return the check of an answer's model under a name that is the gateway's own."""

    def check(target: Target) -> None:
        answer = target.ask(question(CLAUDE_ALIAS, stream=stream))
        expect(answer.status == 200, f"HTTP {answer.status}")
        expect(answer.model == CLAUDE_ALIAS, "another name")

    return check
