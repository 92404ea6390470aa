"""Claude sees through the proxy what it would see of the client directly, and the client sees Claude's answer.

The requests are Claude Code's own where a folder with captured ones lies beside the repository. A raw client sends each
twice, to the upstream and to the proxy, with its headers in the captured order.
"""

import gzip
import http.client
import json
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import upstream as up
from conftest import CONFIG, TOKENS, by_provider, proxy_environment
from processes import ROOT, STATIC_TOKEN, Proxy

FOLDER = ROOT.parent / "shared" / "fixtures"
CAPTURED = sorted(FOLDER.glob("*.json"))
OAUTH_BETA = "oauth-2025-04-20"
OWN_TOKEN = "sk-ant-oat01-made-up-own"

# What of a request's headers is not the same at Claude with the proxy between.
NOT_OF_THE_CLIENT = {
    "host": "names the other end of the connection",
    "connection": "is about one connection",
    "content-length": "is counted again; the body is compared as a whole",
    "accept-encoding": "names what the proxy can undo, which has to read errors",
    "authorization": "the credential is compared on its own",
    "x-api-key": "the credential is compared on its own",
    "x-litellm-api-key": "is the proxy's token",
    "x-claude-token-mode": "is meant for the proxy",
}
# What of an answer's headers is not the same at the client with the proxy between.
NOT_OF_CLAUDE = {
    "connection": "is about one connection",
    "transfer-encoding": "is about one connection",
    "keep-alive": "is about one connection",
    "date": "the proxy's server writes its own",
    "server": "the proxy's server writes its own",
    "set-cookie": "belongs to who holds the connection, not to the team behind it",
    "strict-transport-security": "is about Anthropic's host",
    "content-length": "is about one connection: some answers go on in chunks, and some no longer do",
}

# The captured name for a small model that its user chose.
MODELS = """
  - model_name: my-haiku
    litellm_params: {{model: anthropic/my-haiku, api_base: "{url}/glm", api_key: os.environ/ZAI_API_KEY}}
  - model_name: team-sonnet
    litellm_params: {{model: anthropic/claude-sonnet-4-5-20250929}}
router_settings:
"""


@dataclass(frozen=True)
class Asked:
    """A request, its headers in the order and the case in which they go on the wire."""

    method: str
    path: str
    query: str
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def has(self, name: str) -> bool:
        return any(key.lower() == name for key, _ in self.headers)

    def carrying(self, **credentials: str) -> "Asked":
        """Return the request with these headers in the place of the client's credentials, new ones at the end."""
        new = {name.replace("_", "-"): value for name, value in credentials.items()}
        headers = [
            (name, new.pop(name.lower(), value))
            for name, value in self.headers
            if name.lower() in new or name.lower() not in ("authorization", "x-api-key", "x-litellm-api-key")
        ]
        return Asked(self.method, self.path, self.query, [*headers, *new.items()], self.body)


@dataclass(frozen=True)
class Answered:
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def compared(self) -> list[tuple[str, str]]:
        return sorted((name.lower(), value) for name, value in self.headers if name.lower() not in NOT_OF_CLAUDE)


def captured(path: Path, model: str | None = None) -> Asked:
    """Read a captured request, perhaps for another model. Its body goes as compact JSON in UTF-8, as the client writes it."""
    kept = json.loads(path.read_text(encoding="utf-8"))
    empty = kept["body"] in (None, "")
    if model:
        kept["body"]["model"] = model
    body = b"" if empty else json.dumps(kept["body"], ensure_ascii=False, separators=(",", ":")).encode()
    headers = [(name, value) for name, value in kept["headers"] if name.lower() != "content-length"]
    headers += [] if empty else [("Content-Length", str(len(body)))]
    return Asked(kept["method"], kept["path"], kept["query"] or "", headers, body)


def send(url: str, asked: Asked, on_bytes: Callable[[bytes], None] | None = None) -> Answered:
    """Send it as it is, and read the answer as it comes."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    try:
        target = f"{asked.path}?{asked.query}" if asked.query else asked.path
        connection.putrequest(asked.method, target, skip_host=True, skip_accept_encoding=True)
        for name, value in asked.headers:
            connection.putheader(name, value.encode("latin-1"))
        connection.endheaders(asked.body or None)
        response = connection.getresponse()
        body = b""
        while part := response.read1(65536):
            body += part
            if on_bytes:
                on_bytes(body)
        return Answered(response.status, response.getheaders(), body)
    finally:
        connection.close()


def ordered(value: Any) -> Any:
    """A JSON value in which the order of keys counts."""
    if isinstance(value, dict):
        return [(key, ordered(inner)) for key, inner in value.items()]
    return [ordered(inner) for inner in value] if isinstance(value, list) else value


def without_unsigned(body: dict[str, Any]) -> dict[str, Any]:
    """The body without thinking that has no signature: other providers made it, and Claude refuses it."""

    def kept(message: dict[str, Any]) -> dict[str, Any]:
        if message["role"] != "assistant" or not isinstance(message["content"], list):
            return message
        blocks = [block for block in message["content"] if block["type"] != "thinking" or block.get("signature")]
        return message | {"content": blocks}

    messages = [kept(message) for message in body["messages"]]
    return body | {"messages": [message for message in messages if message["content"]]}


def from_client(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The headers that have to arrive, names without case: the proxy's server hands them on in lower case."""
    return [(name.lower(), value) for name, value in headers if name.lower() not in NOT_OF_THE_CLIENT]


def with_oauth_beta(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The headers as they are on a pooled OAuth token: it needs its beta, which comes last where it is missing."""
    if not any(name == "anthropic-beta" for name, _ in headers):
        return [*headers, ("anthropic-beta", OAUTH_BETA)]
    return [
        (name, value if name != "anthropic-beta" or OAUTH_BETA in value else f"{value},{OAUTH_BETA}") for name, value in headers
    ]


@pytest.fixture(scope="module")
def proxy(shared_upstream: up.Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """A proxy with a pool, in front of the upstream that is also asked directly."""
    home = tmp_path_factory.mktemp("glass")
    config = CONFIG.replace("\nrouter_settings:\n", MODELS).format(url=shared_upstream.other_url)
    running = Proxy(home, config, **proxy_environment(shared_upstream)).wait_ready()
    yield running
    running.stop()


def both(proxy: Proxy, upstream: up.Upstream, asked: Asked) -> tuple[up.Seen, up.Seen]:
    """What the upstream sees of a request directly, and through the proxy."""
    for url in (upstream.url, proxy.url):
        answer = send(url, asked)
        assert answer.status == 200, answer.body
    direct, *through = [seen for seen in upstream.seen if seen.method == asked.method]
    assert len(through) == 1
    return direct, through[0]


def is_claude(path: Path) -> bool:
    body = json.loads(path.read_text(encoding="utf-8"))["body"]
    return isinstance(body, dict) and body["model"].startswith("claude-")


def is_oauth(path: Path) -> bool:
    return "Bearer sk-ant-oat" in path.read_text(encoding="utf-8")


def named(paths: Iterable[Path]) -> Any:
    """Parametrise over captured requests; one skipped case says so where there are none."""
    found = list(paths)
    if not found:
        return pytest.mark.parametrize("path", [pytest.param(None, marks=pytest.mark.skip("no captured requests here"))])
    return pytest.mark.parametrize("path", found, ids=[path.stem for path in found])


@named(filter(is_claude, CAPTURED))
def test_claude_sees_a_captured_request_as_it_was_sent(proxy, upstream, path):
    """On the pool's credential a request of Claude Code's arrives with its body, its headers, their order, and its query."""
    original = captured(path)
    tokens = {"x_litellm_api_key": STATIC_TOKEN}
    if is_oauth(path):
        tokens["authorization"] = f"Bearer {OWN_TOKEN}"
    elif original.has("authorization"):
        tokens = {"authorization": f"Bearer {STATIC_TOKEN}"}
    else:
        tokens = {"x_api_key": STATIC_TOKEN}
    asked = original.carrying(**tokens)
    direct, through = both(proxy, upstream, asked)
    assert from_client(direct.headers) == from_client(asked.headers)
    assert from_client(through.headers) == with_oauth_beta(from_client(direct.headers))
    assert (through.method, through.path, through.query) == (direct.method, direct.path, direct.query)
    assert ordered(through.json) == ordered(without_unsigned(direct.json))
    if without_unsigned(direct.json) == direct.json:
        assert through.body == direct.body
    assert through.credential in TOKENS.values()
    assert STATIC_TOKEN not in through.everything
    assert OWN_TOKEN not in through.everything


@named(path for path in CAPTURED if is_claude(path) and is_oauth(path))
def test_claude_sees_a_passed_through_request_as_it_was_sent(proxy, upstream, path):
    """In passthrough a login's request arrives with its own token and with nothing added at all."""
    own = {"authorization": f"Bearer {OWN_TOKEN}"}
    asked = captured(path).carrying(**own, x_litellm_api_key=STATIC_TOKEN, x_claude_token_mode="passthrough")
    direct, through = both(proxy, upstream, asked)
    assert from_client(through.headers) == from_client(direct.headers)
    assert (through.path, through.query, through.body) == (direct.path, direct.query, direct.body)
    assert through.header("authorization") == direct.header("authorization")
    names = {name.lower() for name, _ in direct.headers} - {"x-litellm-api-key", "x-claude-token-mode", "connection"}
    assert {name.lower() for name, _ in through.headers} - {"connection"} == names


def is_question(path: Path) -> bool:
    return json.loads(path.read_text(encoding="utf-8"))["path"] == "/v1/messages"


@pytest.mark.parametrize("model", [None, "glm", "gpt"], ids=["as-captured", "glm", "gpt"])
@named(filter(is_question, CAPTURED))
def test_a_captured_request_is_answered_by_every_provider(proxy, upstream, path, model):
    """Each dialect that Claude Code speaks, the side requests' as well, is answered whatever model it is for."""
    asked = captured(path, model).carrying(authorization=f"Bearer {STATIC_TOKEN}")
    answer = send(proxy.url, asked)
    assert answer.status == 200, answer.body
    said = b"".join(re.findall(rb'"text": ?"([^"]*)"', answer.body))
    assert said == f"from {model or ('claude' if is_claude(path) else 'glm')}".encode()
    (seen,) = upstream.seen
    assert seen.is_claude == (model is None and is_claude(path))


@named(path for path in CAPTURED if path.stem == "head_probe")
def test_the_probe_of_every_start_is_answered(proxy, path):
    """Claude Code's first request carries no token and is answered with no body."""
    answer = send(proxy.url, captured(path))
    assert (answer.status, answer.body) == (200, b"")


@named(path for path in CAPTURED if path.stem == "models_discovery")
def test_the_models_are_listed_as_claude_code_reads_them(proxy, path):
    """The list for the client's model menu holds ids, among them those that it takes, with no credential of Claude's."""
    answer = send(proxy.url, captured(path).carrying(authorization=f"Bearer {STATIC_TOKEN}"))
    assert answer.status == 200
    ids = [model["id"] for model in json.loads(answer.body)["data"]]
    assert "claude-demo" in ids


# Bytes that a JSON library would not write again in the same way.
ODD_BODY = (
    '{ "stream":true,"model" : "claude-sonnet-5","messages":[{"role":"user","content":"\\u00e9 \u00e9 \\ud83d\\ude00 '
    '\U0001f600 \\/"}],'
    '\t"max_tokens": 1e2,"temperature":1.0,"big":12345678901234567890,"tiny":1E-7,"api_key":"not-a-key","fallbacks":["x"],\r\n'
    '"future_field":{"b":null,"a":[ ]},"metadata":{"user_id":"u","team":"t"},"twice":1,"twice":2} '
).encode()
ODD_HEADERS = [
    ("X-Future-Header", "kept, with  two spaces; and=signs"),
    ("anthropic-future", "1"),
    ("x-repeated", "one"),
    ("X-Between", "\xe9"),
    ("x-repeated", "two"),
    ("x-empty", ""),
]


def plain(body: bytes, *headers: tuple[str, str], path: str = "/v1/messages") -> Asked:
    """A request in passthrough, so that Claude's refusals are the client's own."""
    usual = [
        ("Content-Type", "application/json"),
        ("Authorization", f"Bearer {OWN_TOKEN}"),
        ("x-litellm-api-key", STATIC_TOKEN),
        ("x-claude-token-mode", "passthrough"),
        ("anthropic-version", "2023-06-01"),
        ("anthropic-beta", f"claude-code-20250219,made-up-2099-01-01,{OAUTH_BETA}"),
        ("Content-Length", str(len(body))),
        ("Host", "localhost"),
    ]
    return Asked("POST", path, "beta=true&x=%20y", [*headers, *usual], body)


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
def test_claude_sees_the_clients_own_bytes(proxy, upstream, path):
    """Numbers, escapes, whitespace, repeated and unknown fields and headers arrive in the bytes in which they were sent."""
    direct, through = both(proxy, upstream, plain(ODD_BODY, *ODD_HEADERS, path=path))
    assert through.body == direct.body == ODD_BODY
    assert from_client(through.headers) == from_client(direct.headers)
    assert (through.path, through.query) == (direct.path, direct.query)


def test_only_the_name_of_a_mapped_model_changes(proxy, upstream):
    """A model that config.yaml names otherwise is asked for by that name, and the rest of the body stays in its order."""
    asked = plain(ODD_BODY.replace(b"claude-sonnet-5", b"team-sonnet"))
    direct, through = both(proxy, upstream, asked)
    assert ordered(through.json) == ordered(direct.json | {"model": "claude-sonnet-4-5-20250929"})
    assert from_client(through.headers) == from_client(direct.headers)


# --- Answers -----------------------------------------------------------------------------------------------------------------

HEADERS = {
    "request-id": "req_011made",
    "anthropic-organization-id": "00000000-0000-4000-8000-00000000000f",
    "anthropic-ratelimit-unified-status": "allowed_warning",
    "anthropic-ratelimit-unified-5h-utilization": "0.51",
    "anthropic-ratelimit-unified-5h-reset": "4102444800",
    "anthropic-ratelimit-unified-7d_future-utilization": "0.1",
    "anthropic-ratelimit-unified-representative-claim": "five_hour",
    "anthropic-ratelimit-requests-remaining": "11",
    "anthropic-future": "kept",
    "x-envoy-upstream-service-time": "42",
    "cf-ray": "made-up-FRA",
    "strict-transport-security": "max-age=31536000; includeSubDomains; preload",
    "set-cookie": "__cf_bm=made-up; path=/; HttpOnly",
    "x-future-header": "kept, too",
    "vary": "Accept-Encoding",
}
STREAM = (
    b'event: message_start\ndata: {"type":"message_start","message":{"model":"claude-sonnet-5","id":"msg_011made",'
    b'"type":"message","role":"assistant","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":3,'
    b'"cache_creation":{"ephemeral_5m_input_tokens":0,"ephemeral_1h_input_tokens":9},"output_tokens":1,'
    b'"service_tier":"standard"},"future":{"b":1.50,"a":[ ]}}  }\n\n'
    b'event: content_block_start\ndata: {"type":"content_block_start","index":0,"content_block":'
    b'{"type":"thinking","thinking":"","signature":""}   }\n\n'
    b'event: ping\ndata: {"type": "ping"}\n\n'
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta",'
    b'"thinking":"\\u00e9 \xc3\xa9 \\ud83d\\ude00 \xf0\x9f\x98\x80 \xe2\x80\xa8"}}\n\n'
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"signature_delta",'
    b'"signature":"bWFkZSB1cA=="}}\n\n'
    b'event: content_block_stop\ndata: {"type":"content_block_stop","index":0 }\n\n'
    b'event: content_block_start\ndata: {"type":"content_block_start","index":1,"content_block":{"type":"redacted_thinking",'
    b'"data":"bWFkZSB1cA=="}}\n\n'
    b'event: content_block_stop\ndata: {"index":1,"type":"content_block_stop"}\n\n'
    b": a comment\n\n"
    b'event: content_block_start\ndata: {"type":"content_block_start","index":2,"content_block":{"type":"text","text":""}}\n\n'
    b'event: content_block_delta\ndata:{"type":"content_block_delta","index":2,"delta":{"type":"text_delta",'
    b'"text":"Hi \\/ there"}}\n\n'
    b'event: future_event\nid: 7\nretry: 10\ndata: {"type":"future_event",\ndata: "x":1}\n\n'
    b'event: content_block_delta\r\ndata: {"type":"content_block_delta","index":2,"delta":{"type":"future_delta",'
    b'"x":1e2}}\r\n\r\n'
    b'event: content_block_stop\ndata: {"type":"content_block_stop","index":2}\n\n'
    b'event: content_block_start\ndata: {"type":"content_block_start","index":3,"content_block":{"type":"tool_use",'
    b'"id":"toolu_011made","name":"Read","input":{}}}\n\n'
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta",'
    b'"partial_json":""}}\n\n'
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta",'
    b'"partial_json":"{\\"file_path\\": \\"/a\\"}"}}\n\n'
    b'event: content_block_stop\ndata: {"type":"content_block_stop","index":3}\n\n'
    b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},'
    b'"usage":{"output_tokens":89},"context_management":{"applied_edits":[]}}\n\n'
    b'event: message_stop\ndata: {"type":"message_stop"      }\n\n'
)
WHOLE = (
    b'{ "model":"claude-sonnet-5","id":"msg_011made","type":"message","role":"assistant","content":[{"type":"thinking",'
    b'"thinking":"\\u00e9 \xc3\xa9 \\ud83d\\ude00","signature":"bWFkZSB1cA=="},'
    b'{"type":"redacted_thinking","data":"bWFkZSB1cA=="},\n'
    b'{"type":"text","text":"Hi \\/ there","citations":null},{"type":"tool_use","id":"toolu_011made","name":"Read","input":'
    b'{"z":1.50,"a":[ ]}},{"type":"future_block","x":1e2}],"stop_reason":"tool_use","stop_sequence":null,"usage":'
    b'{"input_tokens":3,"output_tokens":89,"service_tier":"standard","future":null},"context_management":{"applied_edits":[]},'
    b'"container":null,"twice":1,"twice":2}\n'
)
SSE, JSON, HTML = "text/event-stream; charset=utf-8", "application/json", "text/html; charset=UTF-8"


def error(kind: str, words: str) -> bytes:
    return (
        b'{"type":"error", "error":{"details":null,"type":"%s","message":"%s \\u00e9"},"request_id":"req_011made" }\n'
        % (kind.encode(), words.encode())
    )  # fmt: skip


@dataclass(frozen=True)
class Case:
    """An answer of Claude's."""

    status: int
    kind: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    path: str = "/v1/messages"

    def reply(self, cut: int = 0) -> up.Reply:
        """The answer, in chunks of ``cut`` bytes; at once with its length for 0."""
        headers = {"content-type": self.kind} | HEADERS | self.headers
        if not cut:
            return up.Reply(self.status, headers, self.body)
        chunks = [self.body[start : start + cut] for start in range(0, len(self.body), cut)]
        return up.Reply(self.status, headers, chunks=chunks)


STARTED, SOME_BLOCKS = (STREAM[: STREAM.index(part)] for part in (b"event: content", b": a comment"))
BROKEN_OFF = b'event: error\ndata: {"type":"error","error":{"details":null,"type":"api_error","message":"no" }}\n\n'
OVERLOADED = b'event: error\ndata: {"error":{"message":"Overloaded","type":"overloaded_error"},"type":"error"}\n\n'
STREAMS = {
    "message": Case(200, SSE, STREAM),
    "no-last-blank-line": Case(200, SSE, STREAM[:-2]),
    "half": Case(200, SSE, STREAM[:1500]),
    "error-first": Case(200, SSE, BROKEN_OFF),
    "overloaded-first": Case(200, SSE, OVERLOADED),
    "error-after-start": Case(200, SSE, STARTED + BROKEN_OFF),
    "error-in-the-middle": Case(200, SSE, SOME_BLOCKS + OVERLOADED),
    "only-pings": Case(200, SSE, b'event: ping\ndata: {"type": "ping"}\n\n' * 3),
    "not-a-stream": Case(200, JSON, WHOLE),
    "empty": Case(200, SSE, b""),
}
WHOLES = {
    "message": Case(200, JSON, WHOLE),
    "not-json": Case(200, HTML, b"<html>\n<h1>Hello \xff</h1></html>"),
    "empty": Case(200, JSON, b""),
    "count": Case(200, JSON, b'{ "input_tokens":14711,"future":[1.50] }\n', path="/v1/messages/count_tokens"),
    "stream-unasked": Case(200, SSE, STREAM),
}
LIMITED = {"anthropic-ratelimit-unified-status": "rejected", "retry-after": "3600", "x-should-retry": "true"}
ERRORS = {
    "400": Case(400, JSON, error("invalid_request_error", "max_tokens: 99999 > 64000")),
    "400-prompt": Case(400, JSON, error("invalid_request_error", "prompt is too long: 250000 tokens > 200000 maximum")),
    "401": Case(401, JSON, error("authentication_error", "OAuth token has expired."), {"x-should-retry": "false"}),
    "403": Case(403, JSON, error("permission_error", "OAuth token has been revoked. Please obtain a new token.")),
    "404": Case(404, JSON, error("not_found_error", "model: claude-sonnet-5")),
    "413": Case(413, HTML, b"<html>\r\n<h1>413 Request Entity Too Large \xff</h1></html>\r\n"),
    "429": Case(429, JSON, error("rate_limit_error", "limit"), LIMITED),
    "429-bare": Case(429, JSON, error("rate_limit_error", "Error")),
}
# LiteLLM asks again after these, with pauses.
BROKEN = {
    "500": Case(500, JSON, error("api_error", "Internal server error")),
    "502": Case(502, HTML, b"<html>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n</html>\r\n"),
    "503-empty": Case(503, JSON, b""),
    "529": Case(529, JSON, error("overloaded_error", "Overloaded"), {"x-should-retry": "true"}),
}


def answers(proxy: Proxy, upstream: up.Upstream, case: Case, cut: int, *, stream: bool) -> tuple[Answered, Answered]:
    """An answer directly, and through the proxy; each of them is asked for once."""
    upstream.answer = lambda _: case.reply(cut)
    body = json.dumps(
        {"model": "claude-sonnet-5", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}], "stream": stream}
    ).encode()
    direct, through = (send(url, plain(body, path=case.path)) for url in (upstream.url, proxy.url))
    assert len(upstream.seen) == 2
    return direct, through


def assert_same(direct: Answered, through: Answered) -> None:
    assert through.status == direct.status
    assert through.body == direct.body
    assert through.compared() == direct.compared()


@pytest.mark.parametrize("cut", [1, 7, 64, 1000, 0])
def test_a_stream_arrives_in_its_bytes_however_it_was_cut(proxy, upstream, cut):
    """Each byte of a stream of Claude's and all its headers reach the client, whatever the sizes of the chunks."""
    direct, through = answers(proxy, upstream, STREAMS["message"], cut, stream=True)
    assert direct.body == STREAM
    assert_same(direct, through)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_mapped_model_answers_under_the_name_that_was_asked_for(proxy, upstream, stream):
    """Claude Code drops signed thinking that comes under another name; every other byte is Claude's."""
    kind, raw = (SSE, STREAM) if stream else (JSON, WHOLE)
    theirs, asked = b'"model":"claude-sonnet-4-5-20250929"', b'"model":"team-sonnet"'
    upstream.answer = lambda _: Case(200, kind, raw.replace(b'"model":"claude-sonnet-5"', theirs)).reply(7 if stream else 0)
    body = json.dumps(
        {"model": "team-sonnet", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}], "stream": stream}
    ).encode()
    assert send(proxy.url, plain(body)).body == raw.replace(b'"model":"claude-sonnet-5"', asked)


@pytest.mark.parametrize("name", [name for name in STREAMS if name != "message"])
def test_a_strange_stream_arrives_in_its_bytes(proxy, upstream, name):
    """Streams that fail, stop short or are none reach the client as they are: it knows what to do with each."""
    assert_same(*answers(proxy, upstream, STREAMS[name], 100, stream=True))


@pytest.mark.parametrize("name", WHOLES)
def test_a_whole_answer_arrives_in_its_bytes(proxy, upstream, name):
    """An answer that does not stream reaches the client with its order, whitespace, numbers, unknown blocks and headers."""
    assert_same(*answers(proxy, upstream, WHOLES[name], 0, stream=False))


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("name", ERRORS)
def test_an_error_arrives_in_its_bytes(proxy, upstream, name, stream):
    """Claude's refusals reach the client with status, body and headers: it acts on their wording."""
    assert_same(*answers(proxy, upstream, ERRORS[name], 0, stream=stream))


def test_a_failure_of_claudes_arrives_in_its_bytes(proxy, upstream):
    """When Claude could not answer after some repetitions, the client gets its last answer as it came."""
    upstream.answer = lambda seen: BROKEN[seen.json["model"].removeprefix("claude-made-up-")].reply()

    def ask(name: str) -> tuple[Answered, Answered]:
        body = json.dumps(
            {"model": f"claude-made-up-{name}", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}], "stream": True}
        ).encode()
        return send(upstream.url, plain(body)), send(proxy.url, plain(body))

    with ThreadPoolExecutor(len(BROKEN)) as pool:
        for direct, through in pool.map(ask, BROKEN):
            assert_same(direct, through)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_compressed_answer_is_the_same_once_it_is_unpacked(proxy, upstream, stream):
    """Whoever unpacks it, the client can read an answer that Claude compressed, and it says truly how it is packed."""
    raw, kind = (STREAM, SSE) if stream else (WHOLE, JSON)
    case = Case(200, kind, gzip.compress(raw), {"content-encoding": "gzip"})
    for answer in answers(proxy, upstream, case, 50 if stream else 0, stream=stream):
        packed = dict(answer.compared()).get("content-encoding") == "gzip"
        assert (gzip.decompress(answer.body) if packed else answer.body) == raw


def test_no_event_waits_for_the_next(proxy, upstream):
    """Each event is at the client before Claude sends the one after it, from the very first on."""
    events = [part + b"\n\n" for part in STREAM.split(b"\n\n") if part]
    arrived = [threading.Event() for _ in events]
    waited: list[bool] = []

    def patient(_: up.Seen) -> up.Reply:
        def chunks() -> Iterator[bytes]:
            for event, reached in zip(events, arrived, strict=True):
                yield event
                waited.append(reached.wait(5))

        return up.Reply(200, {"content-type": SSE}, chunks=chunks())

    def note(body: bytes) -> None:
        for count in range(len(events)):
            if len(body) >= sum(map(len, events[: count + 1])):
                arrived[count].set()

    upstream.answer = by_provider(claude=patient)
    body = b'{"model":"claude-sonnet-5","max_tokens":9,"messages":[{"role":"user","content":"x"}],"stream":true}'
    assert send(proxy.url, plain(body), note).body == STREAM
    assert waited == [True] * len(events)
