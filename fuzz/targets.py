"""The fuzzer's targets: how bytes become the input of a rule, and the seeds. All seeds are made up."""

import gzip
import json
from collections.abc import Callable
from typing import NamedTuple

from fuzz import rules

# Invalid UTF-8 becomes characters that no text contains, so that all bytes are valid inputs.
_ODD = "surrogateescape"


class Target(NamedTuple):
    """``run`` accepts any bytes and raises only for a broken rule."""

    run: Callable[[bytes], None]
    seeds: tuple[bytes, ...]


def _event(data: object) -> bytes:
    return b"event: x\ndata: " + json.dumps(data).encode() + b"\n\n"


def sse(data: bytes) -> None:
    """The first byte determines the sizes of the chunks."""
    rules.stream(data[1:], (1 + data[0] % 64, 1 + data[0] // 64) if data else (1,))


MESSAGE = {"type": "message", "model": rules.MODEL, "content": [], "usage": {"input_tokens": 3, "output_tokens": 1}}
THINKING = {"type": "thinking", "thinking": "", "signature": ""}
STREAM = b"".join(
    map(
        _event,
        (
            {"type": "message_start", "message": MESSAGE},
            {"type": "content_block_start", "index": 0, "content_block": THINKING},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "t"}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "s"}},
            {"type": "content_block_stop", "index": 0},
            {"type": "content_block_start", "index": 1, "content_block": {"type": "tool_use", "id": "t:1", "input": {}}},
            {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": "{}"}},
            {"type": "content_block_stop", "index": 1},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 9}},
            {"type": "message_stop"},
        ),
    )
)
STREAMS = (
    STREAM,
    STREAM.replace(b"\n", b"\r\n"),
    STREAM.replace(b"\n", b"\r"),
    b": comment\n\nevent: ping\ndata: {}\n\n" + _event({"type": "error", "error": {"type": "overloaded_error"}}),
    json.dumps(MESSAGE).encode(),
    b"data: [DONE]\n\nid: 1\nretry: x\ndata:{\ndata:}\n\n",
)


def header_lines(data: bytes) -> None:
    """One header per line, as a server reads them; a line without a colon is a request line."""
    sent = []
    for line in data.decode("latin-1").splitlines():
        name, colon, value = line.partition(":")
        if colon:
            sent.append((name.strip().lower(), value.strip()))
        else:
            method, _, target = line.partition(" ")
            path, _, query = target.partition("?")
            rules.route(method, path, query)
    rules.client_headers(sent)
    rules.page_of(sent)


HEADERS = (
    b"origin: http://[\nhost: [\nsec-fetch-site: same-origin\ncontent-type: application/json\nforwarded: host=evil",
    b"x-litellm-api-key: Bearer sk-x, x-claude-token-mode: passthrough\nauthorization: Bearer sk-ant-oat01-made-up\ncookie: a",
    b"anthropic-beta: a,oauth-2025-04-20\nAnthropic-Beta: b\nconnection: close, x-app\nx-app: cli\nx-forwarded-for: 1.2.3.4",
    b"x-litellm-timeout: 1\nx-mcp-servers: a\nx-claude-code-session-id: s\nuser-agent: sk-ant-api03-made-up-key\nhost: evil",
    b"GET /anthropic/v1/models?a=b\nPOST /v1/messages/\nGET /key/info\nPOST //key/generate\nGET /ui/../key/list",
)


def token_list(data: bytes) -> None:
    """A list of credentials."""
    rules.token_list(data.decode("utf-8", _ODD))


TOKEN_LISTS = (
    b"anna@2026-03-01=sk-ant-oat01-made-up-alpha, ben = sk-ant-oat01-made-up-bravo\nsk-ant-oat01-made-up-charlie",
    b"sk-ant-api03-made-up-delta,x=sk-ant-api03-made-up-echo;y=sk-ant-api03-made-up-golf",
    b"\"sk-ant-oat01-made-up-hotel\" a=a=sk-ant-oat01-made-up-india b='' \xc3\xa9=\xff a@2026-02-30=x",
)


def settings(data: bytes) -> None:
    """One variable or URL per line, without values that an environment cannot hold."""
    environ = {}
    for line in data.replace(b"\x00", b"").decode("utf-8", _ODD).split("\n"):
        name, equals, value = line.partition("=")
        if equals and not name.endswith("_FILE"):
            environ[name] = value
        else:
            rules.address(line)
    rules.settings(environ)


SETTINGS = (
    b"PROXY_STATIC_TOKEN=sk-made-up-static-0123456789\nLITELLM_MASTER_KEY=sk-made-up-static-0123456789\nPORT=1e3\nNUM_WORKERS=0",
    b"CLAUDE_OAUTH_TOKENS=a=sk-ant-oat01-made-up-alpha\nCLAUDE_API_KEYS=a=sk-ant-api03-made-up-delta\nCLAUDE_TOKEN_MODE=both",
    b"ANTHROPIC_API_BASE=https://user:secret@host:99999/\nREDIS_URL=redis://:a-password-made-up@h\nDATABASE_URL=mysql://x",
    b"PROXY_USER_TOKENS=anna=sk-made-up-token-of-anna\nCLAUDE_TOKEN_COOLDOWN_SECONDS=nan\nhttps://api.anthropic.com:443/v1",
    b"https://api.anthropic.com@evil\nhttps://API.anthropic.com.\nhttps://api.anthropic.com%2eevil\nhttps://api.anthropic.com\\@x",
)


def people(data: bytes) -> None:
    """A users file, and the same text as the variable."""
    rules.people(data, data.decode("utf-8", _ODD))


PEOPLE = (
    b"# people\nanna+x@made-up.example=sk-made-up-token-of-anna  # since 2026-01-02\nben=sha256:"
    + b"0f" * 32
    + b"\r\nadmin=sk-made-up-token-of-x",
    b"\xef\xbb\xbfcarl = sk-made-up-token-of-carl,dora=sk-made-up-token-of-dora\nsk-a=short\n\xff=x\nanna\n=\n#\n x #y",
)


def request_body(data: bytes) -> None:
    """A request's body."""
    rules.request_body(data)


SHAPED = tuple(
    json.dumps(body).encode()
    for body in (
        {"model": "glm", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1, "stream": True, "api_base": "x"},
        {
            "model": rules.MODEL,
            "system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
            "messages": [
                {
                    "role": "assistant",
                    "content": [THINKING, {"type": "tool_use", "id": "cpx_" + "a" * 50, "name": "n", "input": {}}],
                },
                {
                    "role": "user",
                    "content": [{"type": "tool_result", "tool_use_id": "cpx_" + "a" * 50, "content": [{"type": "image"}]}],
                },
                {
                    "role": "assistant",
                    "content": [{"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"q": 1}}],
                },
                {
                    "role": "user",
                    "content": [{"type": "web_search_tool_result", "tool_use_id": "s", "content": [{"title": "t"}]}],
                },
            ],
            "tools": [
                {"name": "n", "input_schema": {}},
                {"type": "mcp", "server_url": "x"},
                {"type": "advisor", "model": "gpt"},
            ],
            "thinking": {"type": "enabled", "budget_tokens": 9},
            "context_management": {"edits": [{"type": "clear_thinking_1"}]},
            "metadata": {"user_id": '{"session_id":"s"}', "tags": ["x"]},
            "fallbacks": [{"model": "gpt", "api_base": "x"}],
        },
    )
)
BODIES = (
    *SHAPED,
    b'{"model":"gpt","model":"glm","messages":["x"],"tools":[{"model":"gpt"}],"tools":[],"max_tokens":1e308,"temperature":9}',
    b'\xef\xbb\xbf{"model":"claude-proxy/glm","messages":[{"role":"user","content":"\\udfff"}]}',
    '{"model":"glm","messages":["x"]}'.encode("utf-16"),
)


def texts(data: bytes) -> None:
    """The first line is a secret, the other lines are the text."""
    secret, _, text = data.decode("utf-8", _ODD).partition("\n")
    rules.redacted(text, [secret] if secret else [])


TEXTS = (
    b"made-up-secret\nan error with made-up-secret in it, and sk-ant-oat01-made-up-alpha",
    b"sk-ant-oat01-made-up\nsk-ant-oat01-made-up-up",
)


def quotation(data: bytes) -> None:
    """A client's words in an error of Anthropic that quotes them."""
    rules.quotation(data.decode("utf-8", _ODD))


QUOTATIONS = (
    b"has been revoked",
    b"This organization has been disabled.",
    b"Your credit balance is too low. x",
    b"messages.1.content.0: each thinking block must contain thinking. y",
    b"' identity verification is required",
)


def sign_in(data: bytes) -> None:
    """The first line is the host of the request and a token, the rest a form of sign-in."""
    host, _, form = data.partition(b"\n")
    rules.access_token(host.decode("utf-8", _ODD))
    rules.sign_in_form(form, host.decode("utf-8", "replace"))


SIGN_INS = (
    b"proxy.test:4000\ngrant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Adevice_code&device_code=made-up-device-code",
    b"BCDF-GHJK\ngrant_type=refresh_token&refresh_token=" + b"A" * 64 + b"&client_id=made-up-client-id&token=eyJ.eyJ.made-up",
    b"[::1]\ntoken=eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbm5hIn0.&token_type_hint=refresh_token&surface=claude_code",
    b"user@evil\ngrant_type=refresh_token&grant_type=refresh_token&refresh_token=\xff&&&=%00",
)


def gateway(data: bytes) -> None:
    """The first byte determines the coding of telemetry; the rest is also a change of a budget."""
    rules.telemetry(data[1:], ("", "gzip", "deflate")[data[0] % 3] if data else "")
    rules.budget_change(data[1:])


RESOURCES = [{"resource": {"attributes": [{"key": "user.id", "value": {"stringValue": "x"}}]}, "scopeMetrics": [{}]}]
GATEWAY = (
    b"\x00" + json.dumps({"resourceMetrics": RESOURCES, "resource_logs": RESOURCES}).encode(),
    b"\x00\x0a\x10\x0a\x0e\x0a\x0c\x0a\x07user.id\x12\x01x",
    b"\x01" + gzip.compress(b'{"resourceLogs":[{},{}]}', mtime=0),
    b'\x00{"scope":"user:anna","limits":{"day":1e2,"week":null,"month":NaN}}',
    b'\x00{"scope":"group:\xc3\x9f","limits":{"day":"0.5"}}',
)

TARGETS = {
    "sse": Target(sse, tuple(b"\x07" + data for data in STREAMS)),
    "headers": Target(header_lines, HEADERS),
    "tokens": Target(token_list, TOKEN_LISTS),
    "settings": Target(settings, SETTINGS),
    "people": Target(people, PEOPLE),
    "body": Target(request_body, BODIES),
    "sign-in": Target(sign_in, SIGN_INS),
    "gateway": Target(gateway, GATEWAY),
    "redaction": Target(texts, TEXTS),
    "quotation": Target(quotation, QUOTATIONS),
}
