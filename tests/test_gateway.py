"""server/gateway.py: what LiteLLM's app and the lanes see of a request, and what the client sees of the response."""

import asyncio
import json
import weakref

import anyio
import httpx
import pytest
from lanes import Received
from starlette.responses import Response

from claude_proxy.access import revocation
from claude_proxy.access.routes import canonical_route
from claude_proxy.anthropic.errors import Refusal
from claude_proxy.anthropic.sse import KEEPALIVE
from claude_proxy.config.deployments import Lane
from claude_proxy.config.models import ActiveConfig
from claude_proxy.config.settings import Settings
from claude_proxy.config.sign_in import SignIn as SignInConfig
from claude_proxy.config.signing_keys import Place
from claude_proxy.config.users import SignedIn
from claude_proxy.credentials.redaction import Redactor
from claude_proxy.providers.endpoints import Provider
from claude_proxy.providers.meter import Meter
from claude_proxy.proxy.entrance import Entrance, current
from claude_proxy.proxy.lanes.litellm_lane import body_for_litellm
from claude_proxy.proxy.outcome import DONE, failed
from claude_proxy.proxy.request import Request
from claude_proxy.proxy.serving import Serving
from claude_proxy.server import bodies
from claude_proxy.server import gateway as gateway_module
from claude_proxy.server.assets import hash_of_all
from claude_proxy.server.gateway import Gateway
from claude_proxy.server.signin_routes import SignInRoutes
from claude_proxy.signin.sign_in import SignIn
from claude_proxy.usage.running_requests import RunningRequests

pytestmark = pytest.mark.anyio

TOKEN, MASTER = "sk-made-up-token", "sk-made-up-master"
OAUTH, KEY = "sk-ant-oat01-made-up-client", "sk-ant-api03-made-up-client"
POOLED = "sk-ant-oat01-made-up-pool"
SETTINGS = Settings.parse({"PROXY_STATIC_TOKEN": TOKEN, "LITELLM_MASTER_KEY": MASTER, "CLAUDE_OAUTH_TOKENS": POOLED})
OPEN = Settings.parse({"LITELLM_MASTER_KEY": MASTER})

WITH_TOKEN = {"x-litellm-api-key": TOKEN}
BODY = {"model": "glm", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
SUCCESS = (200, [(b"content-type", b"application/json")], [b'{"ok":true}'])


class Inner:
    """LiteLLM's place: keeps what it saw and answers what it was told to."""

    def __init__(self, answer=SUCCESS, during=None):
        self.answer = answer
        self.during = during
        self.scope = None
        self.entrance: Entrance | None = None
        self.request: Request | None = None
        self.body = b""

    async def __call__(self, scope, receive, send):
        self.scope = scope
        self.entrance = current.get()
        self.request = self.entrance and self.entrance.request
        more = True
        while more:
            message = await receive()
            self.body += message.get("body", b"")
            more = message.get("more_body", False)
        if self.during:
            self.during(self.entrance)
        status, headers, parts = self.answer
        await send({"type": "http.response.start", "status": status, "headers": headers})
        for part in parts:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    @property
    def headers(self):
        return [(name.decode(), value.decode()) for name, value in self.scope["headers"]]

    @property
    def everything(self):
        """All that the inner app could find in what it was given, as one text."""
        return f"{self.scope} {self.body!r}"


class OneLane:
    """Every lane: makes attempts by a function."""

    def __init__(self, work):
        self.work = work
        self.attempts = []

    async def attempt(self, attempt):
        self.attempts.append(attempt)
        return await self.work(attempt)


async def answers(attempt):
    """Answer an attempt with a success."""
    await attempt.outlet.begin(200, [("content-type", "application/json")])
    await attempt.outlet.end(b'{"lane":true}')
    return DONE


def on_a_lane(work=answers):
    """Return the parameters of a gateway whose requests for ``glm`` go to a lane."""
    params = [{"model": "anthropic/glm", "api_base": "https://glm.example"}]
    config = ActiveConfig({}, {}, lookup=lambda name: params if name == "glm" else ())
    lane = OneLane(work)
    return {"serving": Serving(dict.fromkeys(Lane, lane), config, meter=Meter(len)), "needs_litellm": lambda: False}, lane


async def ask(inner, method="POST", path="/v1/messages", *, settings=SETTINGS, headers=WITH_TOKEN, body=BODY, **more):
    """Send a request through the gateway. ``headers`` is a mapping or a list; ``body`` is JSON unless it is bytes or None."""
    app = Gateway(inner, settings, Redactor([*(each.secret for each in settings.credentials)]), **more)
    content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://proxy:4000") as client:
        return await client.request(method, path, headers=headers, content=None if method in ("GET", "HEAD") else content)


async def drive(app, scope, *messages, leaves_at=None):
    """Call an ASGI app with these messages to receive, and return what it sent; with an event the client leaves at it."""
    pending, sent = list(messages), []

    async def receive():
        if pending:
            return pending.pop(0)
        if leaves_at is None:
            return await anyio.sleep_forever()
        await leaves_at.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    await app(scope, receive, send)
    return sent


def scope():
    path, headers = "/v1/messages", [(b"x-litellm-api-key", TOKEN.encode())]
    return {"type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"", "headers": headers}


MANAGED = ("GET", "/managed/settings")


async def test_a_client_route_responds_by_itself():
    """What Claude Code reads for its user reaches neither LiteLLM's app nor a limit; the caller and the headers are passed."""
    seen = []

    def respond(caller, headers):
        seen.append((caller.name, dict(headers)["x-litellm-api-key"]))
        return Response(b"settings", 203)

    inner = Inner()
    for path in (MANAGED[1], f"/anthropic{MANAGED[1]}/"):
        response = await ask(inner, "GET", path, client_routes={MANAGED: respond})
        assert (response.status_code, response.content) == (203, b"settings")
    assert seen == [("static", TOKEN)] * 2
    assert inner.scope is None


@pytest.mark.parametrize(("headers", "status"), [({}, 401), ({"x-litellm-api-key": "wrong"}, 401), (WITH_TOKEN, 404)])
async def test_a_client_route_without_a_token_or_a_responder(headers, status):
    """A client route needs a token, and is an error in Anthropic's shape where nothing responds to it."""
    inner = Inner()
    response = await ask(inner, "GET", MANAGED[1], headers=headers)
    assert response.status_code == status
    assert response.json()["type"] == "error"
    assert inner.scope is None


async def test_who_is_refused_is_in_the_log(caplog):
    """A token that does not count leaves a line with the route and the address, on one line and without the token."""
    await ask(Inner(), path="/v1/messages", headers={"x-litellm-api-key": "made-up-wrong"})
    await ask(Inner(), path="/key/x%0Ay/regenerate", headers=WITH_TOKEN)
    await ask(Inner(), path="/v1/none", headers=WITH_TOKEN)
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [
        "refused POST '/v1/messages' from 127.0.0.1: HTTP 401",
        "refused POST '/key/x\\ny/regenerate' from 127.0.0.1: HTTP 403",
    ]


# What LiteLLM sees

CLIENTS_SECRETS = [
    ("Authorization", f"Bearer {OAUTH}"),
    ("x-api-key", KEY),
    ("api-key", KEY),
    ("x-goog-api-key", KEY),
    ("ocp-apim-subscription-key", KEY),
    ("proxy-authorization", f"Bearer {OAUTH}"),
    ("cookie", f"session={OAUTH}"),
    ("x-pass-authorization", f"Bearer {OAUTH}"),
    ("x-header-of-tomorrow", OAUTH),
]
LITELLM_HEADERS = [
    ("x-litellm-tags", "switch"),
    ("x-litellm-timeout", "switch"),
    ("x-litellm-num-retries", "switch"),
    ("x-litellm-customer-id", "switch"),
    ("X-LiteLLM-Model-Group", "switch"),
    ("litellm-changed-by", "switch"),
    ("x-mcp-servers", "switch"),
    ("x-claude-token-mode", "passthrough"),
]


@pytest.mark.parametrize("settings", [SETTINGS, OPEN], ids=["closed", "open"])
async def test_of_the_headers_an_allow_list_arrives(settings):
    """LiteLLM sees the few headers that it needs, the token that was checked, and a length that is right."""
    inner = Inner()
    genuine = [
        ("x-litellm-api-key", f"Bearer {TOKEN}"), ("User-Agent", "claude-cli/2.1.197"), ("anthropic-version", "2023-06-01"),
        ("anthropic-beta", "a,oauth-2025-04-20,b"), ("X-Claude-Code-Session-Id", "s"), ("Accept", "application/json"),
        ("Content-Type", "application/json"),
    ]  # fmt: skip
    await ask(inner, settings=settings, headers=[*genuine, *CLIENTS_SECRETS, *LITELLM_HEADERS])
    expected = {
        "host": "proxy:4000", "user-agent": "claude-cli/2.1.197", "anthropic-version": "2023-06-01", "anthropic-beta": "a,b",
        "x-claude-code-session-id": "s", "accept": "application/json", "content-type": "application/json",
        "content-length": str(len(inner.body)),
    }  # fmt: skip
    if settings is SETTINGS:
        expected["x-litellm-api-key"] = TOKEN
    assert dict(inner.headers) == expected
    assert len(inner.headers) == len(expected), "no header twice"
    assert "switch" not in inner.everything


ROUTES = [("POST", "/v1/messages"), ("POST", "/v1/messages/count_tokens"), ("GET", "/v1/models"), ("GET", "/models")]


@pytest.mark.parametrize(("method", "path"), [*ROUTES, ("GET", "/health/readiness"), ("POST", "/key/generate")])
async def test_no_claude_credential_arrives(method, path):
    """On no route that is open does LiteLLM see a Claude credential of the client's, whatever header it came in."""
    inner = Inner()
    response = await ask(inner, method, path, headers=[("x-litellm-api-key", MASTER), *CLIENTS_SECRETS])
    assert response.status_code == 200
    assert "sk-ant-" not in inner.everything


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
@pytest.mark.parametrize(
    "name",
    [
        "api_key", "api_base", "base_url", "headers", "extra_headers", "extra_body", "fallbacks", "context_window_fallbacks",
        "default_fallbacks", "mock_response", "mock_testing_fallbacks", "custom_llm_provider", "litellm_metadata", "tags",
        "guardrails", "num_retries", "timeout", "model_info", "provider_specific_header", "user", "cache", "mcp_servers",
        "proxy_server_request", "litellm_params", "specific_deployment", "drop_params", "a_field_of_tomorrow",
    ],
)  # fmt: skip
async def test_no_switch_in_a_body_arrives(path, name):
    """LiteLLM's own parameters in a client's body do nothing; Claude would get them all the same, in the client's bytes."""
    inner = Inner()
    await ask(inner, path=path, body=BODY | {name: "switch", "metadata": {"user_id": "u", name: "switch"}})
    assert json.loads(inner.body) == BODY | {"metadata": {"user_id": "u"}}
    assert inner.request.body[name] == "switch"


@pytest.mark.parametrize(("method", "path"), ROUTES[:2])
async def test_no_switch_in_a_query_arrives(method, path):
    """The query is kept for Claude and not shown to LiteLLM."""
    inner = Inner()
    await ask(inner, method, f"{path}?beta=true&api_base=switch")
    assert inner.scope["query_string"] == b""
    assert inner.request.query == "beta=true&api_base=switch"


@pytest.mark.parametrize(
    ("written", "text"),
    [
        (b'"\\ud800"', "?"),
        (b'"\\uD83D\\uDE00"', "\U0001f600"),
        ('"\U0001f600"'.encode(), "\U0001f600"),
        (b'"plain"', "plain"),
    ],
)
def test_half_a_character_does_not_arrive(written, text):
    """LiteLLM would refuse a request for it; a whole one stays, in any spelling."""
    raw = b'{"model":"asked","messages":[{"role":"user","content":%s}]}' % written
    reduced = json.loads(body_for_litellm(Received(raw).request, "served"))
    assert reduced == {"model": "served", "messages": [{"role": "user", "content": text}]}


async def test_the_request_holds_what_the_client_sent():
    """The hooks find the client's own headers, bytes and credential in the entrance, and nowhere when the request is over."""
    inner, raw = Inner(), b'{ "model":"glm", "messages":[1], "unknown":"\\u00e9" }'
    await ask(inner, headers=[("x-litellm-api-key", TOKEN), ("Authorization", f"Bearer {OAUTH}"), ("X-App", "cli")], body=raw)
    request = inner.request
    assert (request.raw, request.model) == (raw, "glm")
    assert request.client.credential.secret.reveal() == OAUTH
    assert {name.lower(): value for name, value in request.headers}["x-app"] == "cli"
    assert current.get() is None


async def test_commas_in_the_token_header():
    """A value such as ``TOKEN, x-claude-token-mode: passthrough`` is understood as the two headers that were meant."""
    inner = Inner()
    headers = {"x-litellm-api-key": f"{TOKEN}, x-claude-token-mode: passthrough", "authorization": f"Bearer {OAUTH}"}
    response = await ask(inner, headers=headers)
    assert (response.status_code, inner.request.client.mode) == (200, "passthrough")
    assert dict(inner.headers)["x-litellm-api-key"] == TOKEN


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/v1/messages", "/v1/messages"),
        ("/anthropic/v1/messages", "/v1/messages"),
        ("/v1/messages/", "/v1/messages"),
        ("/anthropic/v1/messages/count_tokens", "/v1/messages/count_tokens"),
        ("/anthropic", "/"),
        ("/anthropic/", "/"),
        ("/anthropicx/v1/messages", "/anthropicx/v1/messages"),
        ("/anthropic/anthropic/v1/messages", "/anthropic/v1/messages"),
        ("/", "/"),
        ("", "/"),
        ("//", "/"),
    ],
)
def test_canonical_route(path, route):
    """The prefix ``/anthropic`` and slashes at the end make no difference, and the prefix counts once."""
    assert canonical_route(path) == route


async def test_the_prefix_is_the_same_route():
    """LiteLLM sees a request under the prefix as the one without it, so that its own pass-through never runs."""
    inner = Inner()
    assert (await ask(inner, path="/anthropic/v1/messages?beta=true")).status_code == 200
    assert (inner.scope["path"], inner.scope["raw_path"]) == ("/v1/messages", b"/v1/messages")


# Refusals


def refusal(response):
    """Return status, error type and whether a repetition is said to be no use, of an answer in Anthropic's shape."""
    body = response.json()
    assert body == {"type": "error", "error": {"type": body["error"]["type"], "message": body["error"]["message"]}}
    assert response.headers["content-type"] == "application/json"
    return response.status_code, body["error"]["type"], response.headers.get("x-should-retry")


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "expected"),
    [
        ("POST", "/v1/messages", {}, BODY, (401, "authentication_error")),
        ("POST", "/v1/messages", {"x-litellm-api-key": "made-up-wrong"}, BODY, (401, "authentication_error")),
        ("POST", "/v1/messages", {"authorization": f"Bearer {OAUTH}"}, BODY, (401, "authentication_error")),
        ("GET", "/v1/models", {}, None, (401, "authentication_error")),
        ("POST", "/no/such/route", {}, BODY, (401, "authentication_error")),
        ("POST", "/key/generate", WITH_TOKEN, {}, (403, "permission_error")),
        ("GET", "/health", WITH_TOKEN, None, (403, "permission_error")),
        ("POST", "/v1/chat/completions", WITH_TOKEN, BODY, (404, "not_found_error")),
        ("POST", "/v1/responses", {"x-litellm-api-key": MASTER}, BODY, (404, "not_found_error")),
        ("GET", "/v1/messages", WITH_TOKEN, None, (404, "not_found_error")),
        ("POST", "/anthropic/anthropic/v1/messages", WITH_TOKEN, BODY, (404, "not_found_error")),
        ("POST", "/v1/messages", WITH_TOKEN, b"{", (400, "invalid_request_error")),
        ("POST", "/v1/messages", WITH_TOKEN, b"", (400, "invalid_request_error")),
        ("POST", "/v1/messages", WITH_TOKEN, b"\xff", (400, "invalid_request_error")),
        ("POST", "/v1/messages", WITH_TOKEN, b"[" * 100_000, (400, "invalid_request_error")),
        ("POST", "/v1/messages", WITH_TOKEN, [BODY], (400, "invalid_request_error")),
        ("POST", "/v1/messages", WITH_TOKEN, {"messages": []}, (400, "invalid_request_error")),
        ("POST", "/v1/messages", WITH_TOKEN, BODY | {"model": ""}, (400, "invalid_request_error")),
        ("POST", "/v1/messages", WITH_TOKEN, BODY | {"model": ["glm"]}, (400, "invalid_request_error")),
        ("POST", "/v1/messages/count_tokens", WITH_TOKEN, b"{", (400, "invalid_request_error")),
        ("POST", "/v1/messages", WITH_TOKEN | {"x-claude-token-mode": "both"}, BODY, (400, "invalid_request_error")),
    ],
    ids=[
        "no-token", "wrong-token", "only-a-claude-credential", "no-token-for-models", "no-token-and-no-route", "administration",
        "health-calls-every-model", "closed-route", "closed-route-with-master-key", "wrong-method", "prefix-twice", "half-json",
        "empty-body", "not-text", "nested-too-deep", "list", "no-model", "empty-model", "model-is-a-list",
        "count-tokens", "mode",
    ],
)  # fmt: skip
async def test_refusals(method, path, headers, body, expected):
    """A refusal of the proxy's own has Anthropic's shape, says that a repetition is no use, and never reaches LiteLLM."""
    inner = Inner()
    response = await ask(inner, method, path, headers=headers, body=body)
    assert refusal(response) == (*expected, "false")
    assert inner.scope is None
    assert "made-up" not in response.text


@pytest.mark.parametrize("path", ["/", "/health/readiness", "/v1/messages", "/key/generate"])
async def test_a_request_with_two_ends_is_refused(path):
    """A request that has a length and chunks is refused on every route, and the connection ends with it."""
    inner = Inner()
    response = await ask(inner, path=path, headers=WITH_TOKEN | {"transfer-encoding": "chunked", "content-length": "1"})
    assert refusal(response) == (400, "invalid_request_error", "false")
    assert response.headers["connection"] == "close"
    assert inner.scope is None


async def test_a_wrong_mode_names_the_two():
    """Another value for the mode is refused with the two that there are."""
    response = await ask(Inner(), headers=WITH_TOKEN | {"x-claude-token-mode": "both"})
    assert "rotate or passthrough" in response.json()["error"]["message"]


@pytest.mark.parametrize(("size", "status"), [(0, 200), (1, 413)], ids=["at-the-limit", "over-it"])
async def test_a_body_that_is_too_large(monkeypatch, size, status):
    """A body over the limit is refused, in Anthropic's words."""
    raw = json.dumps(BODY).encode()
    monkeypatch.setattr(bodies.read_body, "__defaults__", (len(raw),))
    response = await ask(Inner(), body=raw + b" " * size)
    assert response.status_code == status
    if status == 413:
        assert refusal(response) == (413, "request_too_large", "false")


@pytest.mark.parametrize(("more", "status"), [(0, 200), (1, 413)], ids=["at-the-limit", "over-it"])
@pytest.mark.parametrize("part", [b"[]", b"{}", b"1"])
async def test_a_body_out_of_proportion(monkeypatch, part, more, status):
    """A body of nothing but brackets and commas is refused before it is parsed."""
    raw = b'{"model":"glm","messages":[%s]}' % b",".join([part] * 50)
    monkeypatch.setattr(bodies, "ANY_SHAPE_BYTES", bodies.memory_of(raw) - more)
    monkeypatch.setattr(bodies, "MAX_RATIO", 0)
    assert (await ask(Inner(), body=raw)).status_code == status


async def test_a_body_over_the_budget_is_refused(monkeypatch):
    """A caller whose bodies take too much memory is told when to come back; what they took is free when they are answered."""
    raw = json.dumps(BODY).encode()
    monkeypatch.setattr(gateway_module, "memory_for_bodies", lambda _: 3 * bodies.memory_of(raw))
    answers = []

    class Asking(Inner):
        async def __call__(self, scope, receive, send):
            if not answers:
                answers.append(None)
                answers[0] = await send_through(app)
            await super().__call__(scope, receive, send)

    async def send_through(to):
        async with httpx.AsyncClient(transport=httpx.ASGITransport(to), base_url="http://proxy:4000") as client:
            return await client.post("/v1/messages", headers=WITH_TOKEN, content=raw)

    app = Gateway(Asking(), SETTINGS, Redactor([]))
    assert (await send_through(app)).status_code == 200
    assert refusal(answers[0])[:2] == (429, "rate_limit_error")
    assert answers[0].headers["retry-after"] == "5"
    assert (await send_through(app)).status_code == 200


async def test_a_body_that_takes_too_long_is_refused(monkeypatch):
    """A body that is not whole in time is refused, and its connection ends, however often a byte of it comes."""
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0)
    sent = await drive(
        Gateway(Inner(), SETTINGS, Redactor([])), scope(), {"type": "http.request", "body": b"{", "more_body": True}
    )
    assert (sent[0]["status"], dict(sent[0]["headers"])[b"connection"]) == (408, b"close")
    assert b"did not arrive within 0 seconds" in sent[1]["body"]


async def test_a_body_that_is_too_large_is_not_collected(monkeypatch):
    """A body that comes in many parts is refused at the one that passes the limit, and no more of it is read."""
    monkeypatch.setattr(bodies.read_body, "__defaults__", (10,))
    parts = [{"type": "http.request", "body": b"x" * 6, "more_body": True}] * 2
    sent = await drive(Gateway(Inner(), SETTINGS, Redactor([])), scope(), *parts)
    assert sent[0]["status"] == 413


# An open proxy and web pages


@pytest.mark.parametrize(
    ("settings", "headers", "status"),
    [
        (OPEN, {"content-type": "text/plain"}, 415),
        (OPEN, {"origin": "https://evil.example"}, 403),
        (OPEN, {"host": "evil.example:4000"}, 403),
        (OPEN, {}, 200),
        (SETTINGS, {"content-type": "text/plain", "origin": "https://evil.example", "host": "evil.example"}, 200),
    ],
    ids=["form", "another-site", "rebinding", "no-page", "closed"],
)
async def test_a_web_page_does_not_use_an_open_proxy(settings, headers, status):
    """Nothing that a page can send reaches LiteLLM through an open proxy; a proxy with a token looks at the token."""
    inner = Inner()
    response = await ask(inner, settings=settings, headers={"content-type": "application/json"} | WITH_TOKEN | headers)
    assert response.status_code == status
    assert (inner.scope is None) == (status != 200)


# Routes without a token


@pytest.mark.parametrize("path", ["/", "/anthropic", "/anthropic/"])
@pytest.mark.parametrize("method", ["HEAD", "GET"])
async def test_the_first_thing_that_claude_code_asks(method, path):
    """``HEAD /`` needs no token and is answered without LiteLLM; a HEAD has no body."""
    inner = Inner()
    response = await ask(inner, method, path, headers={})
    assert (response.status_code, inner.scope) == (200, None)
    assert response.content == (b"" if method == "HEAD" else b"claude-proxy\n")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("HEAD", "/api/hello", 200),
        ("GET", "/anthropic/api/hello", 200),
        ("HEAD", "/some/base", 401),
        ("GET", "/.well-known/oauth-authorization-server", 401),
        ("POST", "/oauth/device_authorization", 401),
    ],
)
async def test_a_probe_of_claude_code_is_no_failed_login(caplog, method, path, status):
    """What Claude Code sends before a login, without a token, is not logged; the next wrong token is, in a line of its own."""
    inner = Inner()
    response = await ask(inner, method, path, headers={})
    assert (response.status_code, inner.scope, caplog.records) == (status, None, [])
    await ask(inner, method, "/v1/models", headers={"x-litellm-api-key": "made-up-wrong"})
    assert [record.getMessage() for record in caplog.records] == [f"refused {method} '/v1/models' from 127.0.0.1: HTTP 401"]


@pytest.mark.parametrize("prefix", ["", "/anthropic"])
async def test_the_files_of_the_page(prefix):
    """A browser gets the files of the page without a token and without LiteLLM; nothing else below them is there."""
    inner = Inner()
    found = await ask(inner, "GET", f"{prefix}/pool/assets/{hash_of_all()}/main.js", headers={"accept-encoding": "gzip"})
    assert (found.status_code, found.headers["content-encoding"], inner.scope) == (200, "gzip", None)
    for path in ("pool.html", "..%2Fpool.html", "../../../pages.py", ""):
        missing = await ask(inner, "GET", f"{prefix}/pool/assets/x/{path}", headers={})
        assert (missing.status_code in (401, 404), inner.scope) == (True, None)
    posted = await ask(inner, "POST", f"{prefix}/pool/assets/x/main.js", headers={})
    assert (posted.status_code, inner.scope) == (401, None)


@pytest.mark.parametrize(("accept", "status"), [("text/html", 308), ("*/*", 401)])
async def test_the_path_of_the_page_has_no_slash_at_its_end(accept, status):
    """The addresses in the page are relative to a path without a slash, so a browser is sent there; data needs a token."""
    inner = Inner()
    response = await ask(inner, "GET", "/pool/", headers={"accept": accept})
    assert (response.status_code, response.headers.get("location"), inner.scope) == (
        status, "../pool" if status == 308 else None, None,
    )  # fmt: skip


@pytest.mark.parametrize("path", ["/health/liveliness", "/health/liveness", "/health/readiness", "/health/readiness/"])
async def test_health_without_a_token(path):
    """Load balancers ask without a token, and LiteLLM answers."""
    inner = Inner()
    response = await ask(inner, "GET", path, headers=[("x-litellm-tags", "switch"), *CLIENTS_SECRETS])
    assert (response.status_code, inner.scope["path"]) == (200, path.rstrip("/"))
    assert "switch" not in inner.everything


async def test_administration_gets_its_body_and_query():
    """With the master key an administration route arrives with its body, length and query."""
    inner = Inner()
    await ask(inner, path="/key/generate?x=1", headers={"x-litellm-api-key": MASTER}, body={"models": ["glm"]})
    assert json.loads(inner.body) == {"models": ["glm"]}
    assert inner.scope["query_string"] == b"x=1"
    assert dict(inner.headers)["content-length"] == str(len(inner.body))
    assert dict(inner.headers)["x-litellm-api-key"] == MASTER


async def test_a_web_socket_is_closed():
    """No route is a WebSocket, so each is closed before LiteLLM sees it."""
    inner = Inner()
    sent = await drive(Gateway(inner, SETTINGS, Redactor([])), {"type": "websocket", "path": "/v1/realtime", "headers": []})
    assert [message["type"] for message in sent] == ["websocket.close"]
    assert inner.scope is None


async def test_lifespan_goes_through():
    """LiteLLM's own start and stop are not touched."""
    seen = []

    async def inner(scope, receive, send):
        seen.append((scope["type"], receive, send))

    async def receive(): ...

    async def send(message): ...

    await Gateway(inner, SETTINGS, Redactor([]))({"type": "lifespan"}, receive, send)
    assert seen == [("lifespan", receive, send)]


# Clients that leave


async def test_a_client_that_leaves_while_it_sends():
    """A client that hangs up in the middle of its body gets no answer, and LiteLLM never hears of it."""
    inner = Inner()
    parts = [{"type": "http.request", "body": b'{"model":', "more_body": True}, {"type": "http.disconnect"}]
    assert await drive(Gateway(inner, SETTINGS, Redactor([])), scope(), *parts) == []
    assert inner.scope is None
    assert current.get() is None


async def test_litellm_ends_with_a_client_that_leaves():
    """While LiteLLM answers it is not asked to look for the client: it has its body once, and is cancelled when it leaves."""
    received, ended = [], []

    async def inner(_scope, receive, send):
        received.append(await receive())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            received.append(await receive())
        finally:
            ended.append(True)

    body = {"type": "http.request", "body": json.dumps(BODY).encode(), "more_body": False}
    await drive(Gateway(inner, SETTINGS, Redactor([])), scope(), body, {"type": "http.disconnect"})
    assert [message["type"] for message in received] == ["http.request"]
    assert json.loads(received[0]["body"]) == BODY
    assert ended == [True]


async def test_an_attempt_on_a_lane_ends_with_its_client():
    """A client that leaves ends what is under way for it upstream, and the request is recorded as one that was left."""
    ended, records, begun = [], [], asyncio.Event()

    async def work(attempt):
        await attempt.outlet.begin(200, [])
        begun.set()
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(True)

    more, _ = on_a_lane(work)
    body = {"type": "http.request", "body": json.dumps(BODY).encode(), "more_body": False}
    app = Gateway(Inner(), SETTINGS, Redactor([]), records.append, **more)
    await drive(app, scope(), body, leaves_at=begun)
    assert (ended, [record.status for record in records]) == ([True], [499])


async def test_litellm_books_what_a_client_heard_that_left():
    """An attempt that LiteLLM has begun ends with the client; LiteLLM goes on to its end, so that it can book the request."""
    order, begun = [], asyncio.Event()

    async def inner(_scope, _receive, _send):
        entrance = current.get()

        async def work():
            await entrance.outlet.begin(200, [])
            begun.set()
            try:
                await anyio.sleep_forever()
            finally:
                order.append("attempt")

        assert await entrance.run(work()) is None
        assert asyncio.current_task().cancelling() == 0
        await asyncio.sleep(0)
        order.append("books")

    body = {"type": "http.request", "body": json.dumps(BODY).encode(), "more_body": False}
    await drive(Gateway(inner, SETTINGS, Redactor([])), scope(), body, leaves_at=begun)
    assert order == ["attempt", "books"]


async def test_nobody_watches_a_client_whose_request_is_over():
    """Nothing of a request runs on when it has been answered."""
    before = asyncio.all_tasks()
    body = {"type": "http.request", "body": json.dumps(BODY | {"stream": True}).encode(), "more_body": False}
    await drive(Gateway(Inner(), SETTINGS, Redactor([])), scope(), body)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert asyncio.all_tasks() <= before


async def test_the_end_of_the_process_is_no_client_that_leaves():
    """A request that the server cancels is cancelled."""
    begun = asyncio.Event()

    async def work(_):
        begun.set()
        await anyio.sleep_forever()

    more, _ = on_a_lane(work)
    body = {"type": "http.request", "body": json.dumps(BODY).encode(), "more_body": False}
    request = asyncio.ensure_future(drive(Gateway(Inner(), SETTINGS, Redactor([]), **more), scope(), body))
    await begun.wait()
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request


async def test_what_litellm_opened_is_closed():
    """What LiteLLM was given and dropped is closed at the request's end."""
    closed = []

    async def close():
        closed.append(True)

    await ask(Inner(during=lambda entrance: entrance.opened.append(close)))
    assert closed == [True]


async def test_a_client_that_leaves_before_its_answer_ends_the_request():
    """Nobody waits for an upstream on behalf of a client that has left: what is under way is cancelled and remembered."""
    ended, records = [], []

    async def inner(_scope, receive, _send):
        await receive()
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(True)

    body = {"type": "http.request", "body": json.dumps(BODY).encode(), "more_body": False}
    sent = await drive(Gateway(inner, SETTINGS, Redactor([]), records.append), scope(), body, {"type": "http.disconnect"})
    assert (ended, sent, [record.status for record in records]) == ([True], [], [499])


async def test_what_broke_inside_is_not_hidden():
    """An exception of the app's reaches the server, which logs it; the client gets an error in Anthropic's shape."""
    sent = []

    async def inner(_scope, _receive, _send):
        raise LookupError("broken")

    async def receive():
        return {"type": "http.request", "body": json.dumps(BODY).encode(), "more_body": False}

    async def send(message):
        sent.append(message)

    with pytest.raises(LookupError):
        await Gateway(inner, SETTINGS, Redactor([]))(scope(), receive, send)
    assert sent[0]["status"] == 500
    assert json.loads(sent[1]["body"])["error"]["type"] == "api_error"
    assert b"broken" not in sent[1]["body"]


async def test_a_silent_provider_is_bridged(monkeypatch):
    """While another provider says nothing for long, the client's stream is kept alive, and then its answer follows."""
    monkeypatch.setattr("claude_proxy.proxy.response.EARLY_SECONDS", 0.0)
    monkeypatch.setattr("claude_proxy.proxy.response.KEEPALIVE_SECONDS", 0.0)
    sent, twice = [], anyio.Event()

    async def inner(scope, receive, send):
        current.get().journal.begin(Provider.OPENAI, "openai/x")
        await twice.wait()
        await Inner((200, [(b"content-type", b"text/event-stream")], [b"data: 1\n\n"]))(scope, receive, send)

    async def receive():
        return pending.pop(0) if pending else await anyio.sleep_forever()

    async def send(message):
        sent.append(message)
        if len(sent) == 3:
            twice.set()

    pending = [{"type": "http.request", "body": json.dumps(BODY | {"stream": True}).encode(), "more_body": False}]
    await Gateway(inner, SETTINGS, Redactor([]))(scope(), receive, send)
    bodies = [message["body"] for message in sent if message["type"] == "http.response.body"]
    assert bodies[:2] == [KEEPALIVE, KEEPALIVE]
    assert [body for body in bodies if body != KEEPALIVE] == [b"data: 1\n\n", b""]


async def test_every_request_is_remembered_once():
    """After its answer a request is remembered, a refused one of LiteLLM's included, and nothing is remembered of others."""
    records = []
    for answer, path in ((SUCCESS, "/v1/messages"), ((500, [], [b"{}"]), "/v1/messages/count_tokens"), (SUCCESS, "/v1/none")):
        app = Gateway(Inner(answer), SETTINGS, Redactor([]), records.append)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://proxy:4000") as client:
            await client.post(path, headers=WITH_TOKEN, json=BODY)
    assert [(record.requested, record.status, record.error, record.counts_tokens) for record in records] == [
        ("glm", 200, "", False),
        ("glm", 500, "api_error", True),
    ]


# Answers


async def test_a_success_passes():
    """A success passes part by part as it comes, without LiteLLM's own headers."""
    headers = [
        (b"content-type", b"text/event-stream"), (b"x-litellm-model-api-base", b"hidden"), (b"X-LiteLLM-Call-Id", b"hidden"),
        (b"llm_provider-retry-after", b"hidden"), (b"x-request-id", b"kept"),
    ]  # fmt: skip
    body = {"type": "http.request", "body": json.dumps(BODY).encode(), "more_body": False}
    inner = Inner((200, headers, [b"one", b"two"]))
    sent = await drive(Gateway(inner, SETTINGS, Redactor([])), scope(), body)
    assert sent[0]["headers"] == [(b"content-type", b"text/event-stream"), (b"x-request-id", b"kept")]
    assert [message["body"] for message in sent[1:]] == [b"one", b"two", b""]


async def test_an_error_of_claudes_is_replayed():
    """Anthropic's error reaches the client in its own status, headers and bytes, whatever LiteLLM made of it."""
    raw = b'{ "type":"error", "error":{"type":"rate_limit_error","message":"Slow \\u00e9"} }'
    kept = [("content-type", "application/json"), ("retry-after", "7"), ("anthropic-ratelimit-unified-status", "rejected")]

    def during(entrance):
        entrance.journal.begin(Provider.CLAUDE, "anthropic/claude-x")
        entrance.last = failed(429, Refusal(429, kept, raw))

    response = await ask(Inner((500, [(b"x-litellm-x", b"y")], [b'{"error":', b'"litellm"}']), during))
    assert (response.status_code, response.content) == (429, raw)
    assert sorted(response.headers.items()) == sorted([*kept, ("content-length", str(len(raw)))])


async def test_a_refusal_does_not_replace_an_answer():
    """When a fallback has answered in the end, the error before it is forgotten."""

    def during(entrance):
        entrance.journal.begin(Provider.CLAUDE, "anthropic/claude-x")
        entrance.last = failed(429, Refusal(429, [], b"{}"))
        entrance.journal.begin(Provider.OPENAI, "openai/x")

    assert (await ask(Inner(during=during))).json() == {"ok": True}


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        (400, [], (400, "invalid_request_error", "false")),
        (401, [], (401, "authentication_error", "false")),
        (403, [], (403, "permission_error", "false")),
        (404, [], (404, "not_found_error", "false")),
        (422, [], (422, "invalid_request_error", "false")),
        (400, [(b"X-Should-Retry", b"true")], (400, "invalid_request_error", "true")),
        (408, [], (408, "invalid_request_error", None)),
        (429, [(b"retry-after", b"7")], (429, "rate_limit_error", None)),
        (500, [], (500, "api_error", None)),
        (503, [], (503, "overloaded_error", None)),
        (529, [], (529, "overloaded_error", None)),
    ],
    ids=lambda value: str(value) if isinstance(value, int) else "",
)
async def test_an_error_of_litellms(status, headers, expected):
    """An error of LiteLLM's leaves in Anthropic's shape, without its headers, and says when a repetition is no use."""
    inner = Inner((status, [(b"x-litellm-model-api-base", b"hidden"), *headers], [b'{"error":{"message":"m', b'","code":1}}']))
    response = await ask(inner)
    assert refusal(response) == expected
    assert response.json()["error"]["message"] == "m"
    assert "hidden" not in str(response.headers)
    assert response.headers.get("retry-after") == ("7" if status == 429 else None)


SECRETS = [TOKEN, OAUTH, POOLED]


async def test_no_secret_leaves_in_an_error_of_litellms():
    """An error of LiteLLM's that quotes secrets, the pool's or the client's, leaves without them."""
    inner = Inner((500, [], [json.dumps({"error": {"message": f"sent {' '.join(SECRETS)} away"}}).encode()]))
    headers = WITH_TOKEN | {"authorization": f"Bearer {OAUTH}"}
    response = await ask(inner, headers=headers)
    assert response.json()["error"]["message"] == "sent *** *** *** away"


async def test_no_secret_leaves_in_an_error_of_anthropics():
    """An error of Anthropic's that quotes secrets leaves without them, and otherwise in its own bytes."""

    def during(entrance):
        entrance.journal.begin(Provider.CLAUDE, "anthropic/claude-x")
        entrance.last = failed(400, Refusal(400, [], b"\xff " + " ".join(SECRETS).encode() + b" \xc3\xa9"))

    response = await ask(Inner((400, [], []), during), headers=WITH_TOKEN | {"authorization": f"Bearer {OAUTH}"})
    assert response.content == b"\xff *** *** *** \xc3\xa9"


async def test_requests_at_the_same_time_do_not_mix():
    """Each of two requests that are under way together finds its own entrance, before and after it waited."""
    both, found = anyio.Event(), []

    async def inner(scope, receive, send):
        before = current.get()
        found.append(before.request.model)
        if len(found) == 2:
            both.set()
        await both.wait()
        assert current.get() is before
        await Inner()(scope, receive, send)

    async with anyio.create_task_group() as tasks:
        for name in ("one", "two"):
            tasks.start_soon(lambda name=name: ask(inner, body=BODY | {"model": name}))
    assert sorted(found) == ["one", "two"]


# --- with a database -------------------------------------------------------------------------------------------------------

WITH_KEYS = Settings.parse({"PROXY_STATIC_TOKEN": TOKEN, "LITELLM_MASTER_KEY": MASTER, "DATABASE_URL": "postgresql://made-up"})
VIRTUAL = {"authorization": "Bearer sk-made-up-virtual"}


async def test_a_virtual_key_reaches_litellm_s_own_check():
    """LiteLLM gets the key in the one header for it, and the model by the name that the key's list has."""
    inner = Inner()
    answer = await ask(inner, settings=WITH_KEYS, headers=VIRTUAL, body=BODY | {"model": "claude-proxy/glm"})
    assert answer.status_code == 200
    assert ("x-litellm-api-key", "sk-made-up-virtual") in inner.headers
    assert json.loads(inner.body)["model"] == "glm"
    assert (inner.request.model, inner.entrance.model) == ("claude-proxy/glm", "glm")


@pytest.mark.parametrize("signed_in", [True, False])
async def test_of_virtual_keys_a_session_s_alone_administrates(signed_in):
    """Who has signed in to LiteLLM's pages administrates; any other key does not get as far as LiteLLM."""

    async def is_session(token):
        return signed_in and token.reveal() == "sk-made-up-virtual"

    inner = Inner()
    answer = await ask(inner, "GET", "/key/list", settings=WITH_KEYS, headers=VIRTUAL, is_session=is_session)
    assert (answer.status_code, inner.scope is not None) == ((200, True) if signed_in else (403, False))


async def test_a_page_s_folder_keeps_its_slash():
    """LiteLLM sends a page's address without its slash to the one with it."""
    inner = Inner()
    await ask(inner, "GET", "/ui/", settings=WITH_KEYS, headers={})
    assert inner.scope["path"] == "/ui/"


async def test_a_refused_key_leaves_no_trace_in_the_words():
    """LiteLLM's 401 names the end of the key and its hash; the client's does not."""
    said = "Authentication Error, Invalid proxy server token passed. Received API Key = sk-...tual, Key Hash (Token) =0123abcd"
    body = json.dumps({"error": {"message": said}}).encode()
    inner = Inner((401, [(b"content-type", b"application/json")], [body]))
    answer = await ask(inner, settings=WITH_KEYS, headers=VIRTUAL)
    assert answer.json()["error"]["message"] == "Authentication Error, Invalid proxy server token passed."
    assert answer.headers["x-should-retry"] == "false"


# What a lane serves


async def test_a_lane_serves_without_litellm():
    """Where no setting needs LiteLLM, a request goes to the lane in the client's bytes, and LiteLLM does not hear of it."""
    more, lane = on_a_lane()
    inner, records, raw = Inner(), [], b'{ "model":"claude-proxy/glm", "messages":[{"role":"user","content":"hi"}] }'
    response = await ask(inner, path="/v1/messages?beta=true", body=raw, record=records.append, **more)
    assert (response.status_code, response.json(), inner.scope) == (200, {"lane": True}, None)
    (attempt,) = lane.attempts
    assert (attempt.request.raw, attempt.request.query, attempt.deployment.model) == (raw, "beta=true", "glm")
    assert [(record.requested, record.served, record.status) for record in records] == [("glm", "anthropic/glm", 200)]
    assert current.get() is None


async def test_a_setting_sends_requests_through_litellm():
    """Where a setting needs LiteLLM it gets the conversation, under the name that the client asked for."""
    more, lane = on_a_lane()
    inner, body = Inner(), BODY | {"model": "claude-proxy/glm"}
    await ask(inner, body=body, **more | {"needs_litellm": lambda: True})
    assert (json.loads(inner.body), lane.attempts) == (body, [])
    assert (inner.entrance.planned, inner.entrance.model) == (False, "glm")


async def test_a_virtual_key_is_for_litellm_to_check():
    """Whoever comes with a virtual key enters LiteLLM, whatever the settings need."""
    more, lane = on_a_lane()
    inner = Inner()
    await ask(inner, settings=WITH_KEYS, headers=VIRTUAL, **more)
    assert (inner.scope is None, lane.attempts) == (False, [])


async def test_a_step_of_the_plan_in_litellm():
    """A target that LiteLLM has to ask is asked under its own name; the body keeps the client's, with which it is stamped."""
    models = {"glm": {"model": "anthropic/glm", "api_base": "https://glm.example"}, "gpt": {"model": "openai/gpt", "rpm": 5}}
    router = {"router_settings": {"fallbacks": [{"glm": ["gpt"]}], "num_retries": 0}}
    config = ActiveConfig(router, {}, lookup=lambda name: [models[name]])

    async def fails(_):
        return failed(500, Refusal(500, [], b"{}"))

    inner = Inner()
    serving = Serving(dict.fromkeys(Lane, OneLane(fails)), config, meter=Meter(len))
    answer = await ask(inner, serving=serving, needs_litellm=lambda: False)
    assert answer.json() == {"ok": True}
    assert (inner.entrance.planned, inner.entrance.model, json.loads(inner.body)["model"]) == (True, "gpt", "glm")
    assert inner.entrance.journal.first_provider is Provider.ANTHROPIC_FORMAT


async def test_a_lane_s_error_is_the_client_s():
    """An attempt that failed is answered with its error, and recorded."""

    async def fails(_):
        return failed(429, Refusal(429, [("retry-after", "7")], b'{"error":{"type":"rate_limit_error"}}'), final=True)

    records = []
    more, _ = on_a_lane(fails)
    answer = await ask(Inner(), record=records.append, **more)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")
    assert [(record.status, record.error) for record in records] == [(429, "rate_limit_error")]


async def test_a_model_that_nobody_serves_is_refused():
    """What the plan refuses is the client's error, and its record has the reason, not only the error's type."""
    records = []
    more, _ = on_a_lane()
    answer = await ask(Inner(), body=BODY | {"model": "none"}, record=records.append, **more)
    assert refusal(answer) == (404, "not_found_error", "false")
    assert [(record.requested, record.status, record.error) for record in records] == [("none", 404, "unknown_model")]


@pytest.mark.parametrize("parses", [False, True])
async def test_a_small_body_is_weighed_where_it_is_parsed(monkeypatch, parses):
    """The memory of a body's values is counted before they are made; a lane that passes bytes on makes none."""
    monkeypatch.setattr(bodies, "ANY_SHAPE_BYTES", 0)
    monkeypatch.setattr(bodies, "MAX_RATIO", 0)

    async def work(attempt):
        if parses:
            assert attempt.request.body
        return await answers(attempt)

    more, _ = on_a_lane(work)
    assert (await ask(Inner(), **more)).status_code == (413 if parses else 200)


async def test_what_a_request_held_is_let_go():
    """LiteLLM's tasks may keep a request's context: neither the body nor the client stays in it."""
    over, found, tasks = asyncio.Event(), [], []

    async def stays():
        found.append(current.get() is not None)
        await over.wait()
        found.append(current.get() is not None)

    async def inner(scope, receive, send):
        tasks.append(asyncio.ensure_future(stays()))
        await asyncio.sleep(0)
        await Inner()(scope, receive, send)

    await ask(inner)
    over.set()
    await tasks[0]
    assert found == [True, False]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.usefixtures("no_garbage_search")
async def test_what_a_cancelled_request_held_needs_no_search_for_garbage(stream):
    """LiteLLM's frames, futures and the exception refer to each other in a ring; a request's end breaks it."""

    class Held:
        """Something large."""

    held, begun = [], asyncio.Event()

    async def app(*_):
        large = Held()
        held.append(weakref.ref(large))
        begun.set()
        both = asyncio.gather(asyncio.sleep(60))
        await both

    body = {"type": "http.request", "body": json.dumps(BODY | {"stream": stream}).encode(), "more_body": False}
    await drive(Gateway(app, SETTINGS, Redactor([])), scope(), body, leaves_at=begun)
    assert [reference() for reference in held] == [None]


# A user who is removed while an answer is under way


@pytest.fixture
def removable(tmp_path, monkeypatch):
    """Settings with anna in a file, and what removes her; running requests are looked at all the time."""
    monkeypatch.setattr(revocation, "LOOK_SECONDS", 0.0)
    path = tmp_path / "users"
    path.write_text(f"anna={TOKEN}\nben={MASTER}\n")
    settings = Settings.parse({"PROXY_USER_TOKENS_FILE": str(path)})
    return settings, lambda: path.write_text(f"ben={MASTER}\n")


async def revoked(removable, inner, body=BODY, **more):
    """Send anna's request through a gateway, and return what she got and what was remembered."""
    settings, _ = removable
    records, content = [], {"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}
    with anyio.fail_after(10):
        sent = await drive(Gateway(inner, settings, Redactor([]), records.append, **more), scope(), content)
    return sent, records


async def test_a_removed_user_whose_answer_has_not_begun_gets_a_refusal(removable):
    """What is under way upstream is cancelled, and the client gets a 401 that says so."""
    ended = []

    async def inner(_scope, receive, _send):
        await receive()
        removable[1]()
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(True)

    (start, body), (record,) = await revoked(removable, inner)
    assert (ended, start["status"]) == ([True], 401)
    assert json.loads(body["body"])["error"]["type"] == "authentication_error"
    assert (record.user, record.status, record.error) == ("anna", 401, "authentication_error")


STREAM = (200, [(b"content-type", b"text/event-stream")])


@pytest.mark.parametrize("way", ["lane", "relayed", "litellm"])
@pytest.mark.parametrize(
    ("last", "ends"), [(b"data: 1\n\n", True), (b"data: 1\n", False)], ids=["between-events", "within-one"]
)
async def test_a_removed_users_stream_ends(removable, way, last, ends):
    """The upstream is cancelled; the stream ends with an error event, or with its connection where it stands in an event."""
    cancelled = []

    async def work(outlet):
        await outlet.begin(200, [("content-type", "text/event-stream")])
        await outlet.write(last)
        removable[1]()
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.append(True)

    async def relaying(_scope, _receive, _send):
        entrance = current.get()
        assert await entrance.run(work(entrance.outlet)) is None
        await entrance.outlet.write(b"data: too late\n\n")

    async def litellm(_scope, receive, send):
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": STREAM[1]})
        await send({"type": "http.response.body", "body": last, "more_body": True})
        removable[1]()
        try:
            await receive()
        finally:
            cancelled.append(True)
            await send({"type": "http.response.body", "body": b"data: too late\n\n", "more_body": False})

    inner, more = {
        "lane": (Inner(), on_a_lane(lambda attempt: work(attempt.outlet))[0]),
        "relayed": (relaying, {}),
        "litellm": (litellm, {}),
    }[way]
    sent, (record,) = await revoked(removable, inner, BODY | {"stream": True}, **more)
    bodies = [message["body"] for message in sent[1:]]
    assert (cancelled, bodies[0]) == ([True], last)
    assert (record.status, record.error) == (200, "authentication_error")
    if not ends:
        assert len(bodies) == 1
        assert sent[-1]["more_body"]
        return
    assert bodies[1].startswith(b"event: error\ndata: ")
    assert json.loads(bodies[1].split(b"data: ")[1])["error"]["type"] == "authentication_error"
    assert (len(bodies), sent[-1]["more_body"]) == (2, False)


async def test_the_others_go_on(removable):
    """A user who is still there keeps the answer that is under way when another one is removed."""
    settings, remove = removable
    both = anyio.Event()

    async def inner(scope, receive, send):
        if current.get().request.user == "anna":
            await anyio.sleep_forever()
        remove()
        await both.wait()
        await Inner()(scope, receive, send)

    app = Gateway(inner, settings, Redactor([]))
    found = {}

    async def asked(name, token):
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://proxy:4000") as client:
            found[name] = (await client.post("/v1/messages", json=BODY, headers={"x-litellm-api-key": token})).status_code
        if name == "anna":
            both.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(asked, "anna", TOKEN)
        tasks.start_soon(asked, "ben", MASTER)
    assert found == {"anna": 401, "ben": 200}


class SignIns:
    """Access tokens of a test: valid as long as the test says so."""

    ready = True

    def __init__(self):
        self.valid = True

    def find(self, token):
        return SignedIn("ben", (), "s1", "") if self.valid and token.reveal().startswith("eyJ") else None

    def stands(self, _):
        return self.valid


@pytest.fixture
def signing_in(tmp_path):
    """A gateway's settings and sign-in, with a user, and a token that is valid."""
    settings = Settings.parse({"PROXY_USER_TOKENS": f"anna={TOKEN}-of-anna", "LITELLM_MASTER_KEY": MASTER})
    sign_in = SignIn(None, Place(tmp_path / "signing-keys"), settings.users, SignInConfig)
    settings.users.sign_ins = SignIns()
    return settings, SignInRoutes(sign_in, settings)


ACCESS = {"authorization": "Bearer eyJhbGciOiJI.eyJzdWIiOiJh.c2lnbmF0dXJl"}


async def test_routes_of_sign_in_need_no_token(signing_in):
    """They respond to everybody, at any address of the proxy, and LiteLLM sees nothing of them."""
    settings, routes = signing_in
    for prefix, end in (("", ""), ("/anthropic", "/")):
        inner = Inner()
        path = f"{prefix}/oauth/device_authorization{end}"
        started = await ask(inner, path=path, settings=settings, headers={}, body=b"surface=claude_code", sign_in=routes)
        assert started.status_code == 200
        assert started.json()["verification_uri"] == "http://proxy:4000/signin"
        metadata = await ask(
            inner, "GET", f"{prefix}/.well-known/oauth-authorization-server{end}", settings=settings, headers={}, sign_in=routes
        )
        assert metadata.status_code == 200
        assert inner.scope is None


async def test_bodies_of_sign_in_are_bounded(signing_in):
    """More than a form could hold is a 413."""
    settings, routes = signing_in
    body = b"x" * (gateway_module.MAX_FORM_BYTES + 1)
    response = await ask(Inner(), path="/oauth/token", settings=settings, headers={}, body=body, sign_in=routes)
    assert response.status_code == 413


async def test_without_users_there_is_no_sign_in(tmp_path):
    """Discovery is then a 404 in Anthropic's words, and every other route is what it was."""
    settings = Settings.parse({"PROXY_STATIC_TOKEN": TOKEN})
    routes = SignInRoutes(SignIn(None, Place(tmp_path / "signing-keys"), settings.users, SignInConfig), settings)
    path = "/.well-known/oauth-authorization-server"
    metadata = await ask(Inner(), "GET", path, headers={}, sign_in=routes)
    assert (metadata.status_code, metadata.json()["error"]["type"]) == (404, "not_found_error")
    assert (await ask(Inner(), path="/oauth/token", headers={}, sign_in=routes)).status_code == 401
    assert (await ask(Inner(), "GET", path, headers={})).status_code == 401


async def test_a_request_with_an_access_token(signing_in):
    """It is served as its user's, and its token is not learned: each user gets another one every hour."""
    settings, routes = signing_in
    more, lane = on_a_lane()
    redactor = Redactor([])
    app = Gateway(Inner(), settings, redactor, sign_in=routes, **more)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://proxy:4000") as client:
        assert (await client.post("/v1/messages", json=BODY, headers=ACCESS)).status_code == 200
    assert lane.attempts[0].request.user == "ben"
    assert redactor.forms() == []


async def test_a_sign_in_that_ended_before_a_start(signing_in):
    """The first requests after a start wait until the process knows which sign-ins have ended."""
    settings, routes = signing_in

    async def loaded():
        settings.users.sign_ins.valid = False

    more, lane = on_a_lane()
    response = await ask(Inner(), settings=settings, headers=ACCESS, sign_in=routes, loaded=loaded, **more)
    assert response.status_code == 401
    assert response.headers["x-should-retry"] == "false"
    assert lane.attempts == []


async def test_requests_in_progress_are_counted():
    """A request for a model is in progress until its end, however it ends; a count of tokens and other requests are not."""
    running, seen = RunningRequests(), []

    async def work(attempt):
        seen.append(running.users())
        if attempt.request.counts_tokens:
            return await answers(attempt)
        raise ConnectionError

    more, _ = on_a_lane(work)
    with pytest.raises(ConnectionError):
        await ask(Inner(), running=running, **more)
    await ask(Inner(), path="/v1/messages/count_tokens", running=running, **more)
    await ask(Inner(during=lambda _: seen.append(running.users())), "GET", "/v1/models", running=running)
    assert (seen[0], running.users()) == ({"static": 1}, {})
    assert not any(seen[1:])
