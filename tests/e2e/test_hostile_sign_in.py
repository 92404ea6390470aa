"""Harmful requests to sign-in, managed settings, budgets and telemetry, through the real proxy with two workers.

Each group prints how many requests it sent. After each group the workers are the same processes, nothing secret is in the log,
and no request has failed with a status of 500.
"""

import contextlib
import gzip
import itertools
import json
import socket
import threading
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
import upstream as up
from conftest import CONFIG, by_provider, proxy_environment
from processes import MASTER_KEY, STATIC_TOKEN, Proxy, new_question, question
from test_hostile_through_the_proxy import exchange
from test_sign_in_through_the_proxy import Client, Tokens, personal_token

from claude_proxy.config.users import digest_of
from claude_proxy.secret import Secret
from claude_proxy.signin.identity import Identity

MARK = "injected-by-the-client"
USERS = ("anna", "ben", "carl", "dora", "emil", "fred")
SECTION = """
claude_proxy:
  users:
    ben: {{budget: {{day: 0.01}}}}
    carl: {{budget: {{day: 100}}}}
    fred: {{requests_per_minute: 3}}
  prices:
    glm: {{input: 1000, output: 2000}}
  managed_settings:
    users: {{anna: {{language: of-anna}}, dora: {{language: of-dora}}}}
  telemetry: {{collector: "{url}/collector"}}
"""
FORMS = ("/oauth/device_authorization", "/oauth/token", "/oauth/revoke")
PAGES = ("/signin", "/signin/token", "/signin/provider", "/signin/callback", "/signin/confirm")
DISCOVERY = "/.well-known/oauth-authorization-server"
BEARER = ("/managed/settings", "/api/oauth/usage", "/v1/metrics", "/v1/logs", "/v1/traces", "/budget")
ROUTES = (DISCOVERY, *FORMS, *PAGES, *BEARER)
STREAMED: tuple[dict[str, Any], ...] = ({}, {"stream": True})
addresses = itertools.count(1)


@pytest.fixture(scope="module")
def proxy(shared_upstream: up.Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    home = tmp_path_factory.mktemp("hostile-sign-in")
    (home / ".state").mkdir(mode=0o700)
    (home / ".state" / "users").write_text("".join(f"{name}={personal_token(name)}\n" for name in USERS))
    config = (CONFIG + SECTION).format(url=shared_upstream.other_url)
    running = Proxy(home, config, NUM_WORKERS="2", **proxy_environment(shared_upstream)).wait_ready()
    yield running
    running.stop()


@pytest.fixture
def client(proxy: Proxy) -> Client:
    return Client(proxy)


@pytest.fixture(autouse=True)
def nothing_breaks(proxy: Proxy, upstream: up.Upstream) -> Iterator[None]:
    models = by_provider()
    upstream.answer = lambda seen: up.Reply(200) if seen.path.startswith("/collector") else models(seen)
    before = workers(proxy)
    yield
    assert workers(proxy) == before
    assert proxy.ask(new_question("demo")).status_code == 200
    for text in ("Traceback", STATIC_TOKEN, MASTER_KEY, *map(personal_token, USERS)):
        assert text not in proxy.output


def workers(proxy: Proxy) -> list[str]:
    """The processes that the proxy has started."""
    return Path(f"/proc/{proxy.process.pid}/task/{proxy.process.pid}/children").read_text().split()


def memory(proxy: Proxy) -> int:
    """The bytes of memory that the processes of the proxy hold."""
    status = [Path(f"/proc/{one}/status").read_text() for one in workers(proxy)]
    return sum(1024 * int(one.partition("VmRSS:")[2].split()[0]) for one in status)


def source() -> dict[str, str]:
    """A header with another address each time: one address is soon limited."""
    return {"x-forwarded-for": f"192.0.2.{next(addresses) % 200 + 1}"}


def send(proxy: Proxy, method: str, path: str, content: bytes = b"", token: str | None = None, **named: str) -> httpx.Response:
    headers = source() | ({"authorization": f"Bearer {token}"} if token else {})
    headers |= {name.replace("_", "-"): value for name, value in named.items()}
    return httpx.request(method, f"{proxy.url}{path}", content=content, headers=headers, trust_env=False, timeout=60)


def check(response: httpx.Response, what: object) -> None:
    """No error of the server, and nothing of the request in the response."""
    assert response.status_code < 500, (what, response.status_code, response.text[:300])
    everything = f"{response.headers}{response.text}"
    assert MARK not in everything, (what, everything)
    assert "Traceback" not in everything


def bodies() -> list[tuple[str, bytes]]:
    """Bodies by content type, with a text that no response may contain."""
    form, mark = "application/x-www-form-urlencoded", MARK.encode()
    deep = b'{"x":' * 5000 + b"1" + b"}" * 5000
    return [
        (form, b""),
        (form, b"grant_type=refresh_token&refresh_token=" + mark + b"&token=" + mark + b"&user_code=" + mark),
        (form, b"grant_type=urn:ietf:params:oauth:grant-type:device_code&device_code=" + mark),
        (form, b"grant_type=refresh_token&refresh_token=%00%ff%f0&token=%ed%a0%80&device_code=%0d%0aX:" + mark),
        (form, b"&".join(b"f%d=%s" % (number, mark) for number in range(700))),
        (form, b"token=" + b"\xf0\x9f" * 8000),
        (form, b"token=" + mark * 800),
        ("application/json", b'{"grant_type": "refresh_token", "refresh_token": "' + mark + b'", "scope": "' + mark + b'"}'),
        ("application/json", b'{"scope": "user:anna", "limits": {"' + mark + b'": NaN}}'),
        ("application/json", deep),
        ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="token"\r\n\r\n' + mark),
        ("application/x-protobuf", b"\x0a\xff\xff\xff\xff\x0f" + mark),
        ("text/html; charset=" + MARK, mark),
    ]


def test_every_endpoint_takes_every_request(proxy):
    """Whatever method, type and body a request has: no endpoint fails, and none repeats a part of the request."""
    tried, statuses = 0, dict[int, int]()
    methods = ("GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "TRACE", "post", "X")
    for path, method in itertools.product(ROUTES, methods):
        for media, body in bodies() if method in ("POST", "PUT") else [("text/plain", MARK.encode())]:
            for token in (None, STATIC_TOKEN, MASTER_KEY) if path in BEARER else (None,):
                response = send(proxy, method, f"{path}?x={MARK}&user_code={MARK}", body, token, content_type=media)
                tried += 1
                statuses[response.status_code] = statuses.get(response.status_code, 0) + 1
                check(response, (method, path, media, body[:80]))
                if method == "HEAD":
                    assert not response.content
    print(f"{tried} requests: {statuses}")


def test_odd_heads(proxy):
    """A head with an odd host, origin, cookie or forwarding header is no error, and decides no address in a response."""
    odd = [
        "[",
        "[x]",
        "http://[",
        "x:99999",
        "a@b",
        "é",
        "x y",
        "%0d%0aX: y",
        "evil.invalid/..",
        "\x7f",
        "a" * 5000,
        ",",
        "null",
    ]
    names = (
        "host", "origin", "referer", "cookie", "sec-fetch-site", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-port",
        "x-forwarded-for", "x-forwarded-prefix", "forwarded", "if-none-match", "content-encoding", "content-type", "accept",
        "accept-language", "x-original-url", "user-agent", "authorization", "x-http-method-override", "expect",
    )  # fmt: skip
    tried = 0
    for path, name, value in itertools.product(ROUTES, names, odd):
        method = "GET" if path in (DISCOVERY, *BEARER[:2]) else "POST"
        token = b"x-litellm-api-key: %s\r\n" % MASTER_KEY.encode() if path in BEARER else b""
        host = b"" if name == "host" else b"Host: localhost\r\n"
        origin = b"" if name == "origin" or path != "/budget" else b"Origin: http://[\r\n"
        media = b"" if name == "content-type" else b"Content-Type: application/json\r\n"
        address = b"" if name == "x-forwarded-for" else b"x-forwarded-for: %s\r\n" % source()["x-forwarded-for"].encode()
        line = name.encode() + b": " + value.encode()
        head = b"%s %s HTTP/1.1\r\n%s\r\nConnection: close\r\n" % (method.encode(), path.encode(), line)
        codes, came = exchange(proxy, head + host + token + origin + media + address + b"Content-Length: 7\r\n\r\ntoken=x")
        tried += 1
        assert len(codes) <= 2, (line, codes)
        assert not [code for code in codes if code >= 500], (path, line, came[:300])
        assert b"evil.invalid/" not in came, (path, line)
        if name.startswith("x-forwarded-") or name == "forwarded":
            assert value.encode() not in came.lower() or len(value) < 5, (path, line, came)
    print(f"{tried} heads")


def test_the_metadata_trusts_no_header(proxy):
    """Another host that a client names is only in its own response, which nothing may store; a forwarded host is nowhere."""
    for name in ("x-forwarded-host", "x-host", "forwarded", "x-original-host", "x-forwarded-server"):
        response = send(proxy, "GET", DISCOVERY, **{name: "evil.invalid"})
        assert response.json()["issuer"] == proxy.url
        assert "evil" not in response.text
    named = send(proxy, "GET", DISCOVERY, host="evil.invalid")
    assert named.headers["cache-control"] == "no-store"
    assert named.json()["issuer"] == "http://evil.invalid"
    for host in ("evil.invalid/x", "evil.invalid?x", "evil.invalid#x", "a@evil.invalid", "evil.invalid\\x", "evil.invalid:x"):
        assert "evil" not in send(proxy, "GET", DISCOVERY, host=host).text


def test_odd_paths(proxy):
    """A path that only resembles an endpoint is none: it needs a token, and then it is not served."""
    ways = (
        "//{0}", "/anthropic//{0}", "/./{0}", "/x/../{0}", "/%2e/{0}", "/%2e%2e/{0}", "/{0}%00", "/{0}%20", "/{0};x", "/{0}/x",
        "/{0}%2f..%2fx", "/{0}/../../key/generate", "/{0}\\..\\x", "/{0}//x", "/v1/../{0}",
    )  # fmt: skip
    tried = 0
    for route, way, method in itertools.product(ROUTES, ways, (b"GET", b"POST")):
        target = way.format(route[1:])
        for token in (None, STATIC_TOKEN):
            named = b"x-litellm-api-key: %s\r\n" % token.encode() if token else b""
            named += b"x-forwarded-for: %s\r\n" % source()["x-forwarded-for"].encode()
            head = b"%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%s" % (method, target.encode(), named)
            codes, came = exchange(proxy, head + b"Content-Length: 0\r\n\r\n")
            tried += 1
            assert codes, (target, came)
            assert codes[0] in (400, 401, 403, 404, 405), (method, target, came[:300])
    for route in (*FORMS, "/signin"):  # the alias and slashes at the end change nothing
        for target in (f"{route}/", f"/anthropic{route}", f"/anthropic{route}//"):
            response = send(proxy, "POST", target, b"x=1", content_type="application/x-www-form-urlencoded")
            assert response.status_code in (200, 400, 403), target
    print(f"{tried} paths")


def test_large_bodies(proxy, client):
    """Large, compressed and many-part bodies are refused, in bounded memory, also many at the same time."""
    before = memory(proxy)
    size = 20_000_000
    form = b"&".join(b"f%d=x" % number for number in range(10_000))
    for path, body in itertools.product((*FORMS, *PAGES), (b"token=" + b"x" * size, form)):
        assert send(proxy, "POST", path, body).status_code == 413, path
    anna = personal_token("anna")
    parts = b'{"resourceMetrics":[' + b"{}," * 1_300_000 + b"{}]}"
    floods = [
        ("application/json", "", parts),
        ("application/json", "gzip", gzip.compress(parts)),
        ("application/json", "gzip", gzip.compress(b" " * 100_000_000)),
        ("application/json", "deflate, gzip", b"x"),
        ("application/json", "", b'{"resourceMetrics":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
        ("application/x-protobuf", "", b"\x0a\x00" * 2_000_000),
        ("application/x-protobuf", "gzip", gzip.compress(b"\x0a\x00" * 2_000_000)),
    ]

    def flood(one: tuple[str, str, bytes]) -> int:
        media, coding, body = one
        named = {"content_encoding": coding} if coding else {}
        return send(proxy, "POST", "/v1/metrics", body, anna, content_type=media, **named).status_code

    with ThreadPoolExecutor(4) as pool:
        assert {*pool.map(flood, floods * 2)} <= {400, 413}
    for body in (b'{"x":' * 100_000, b'{"scope":"' + b"x" * 2_000_000 + b'"}', b"9" * 1_000_000):
        response = send(proxy, "POST", "/budget", body, MASTER_KEY, content_type="application/json")
        assert 400 <= response.status_code < 500
    grown = memory(proxy) - before
    print(f"memory of both workers: {grown / 1e6:+.0f} MB")
    assert grown < 1_000_000_000


def test_slow_bodies(proxy, client):
    """Bodies that do not end hold up no other client."""
    held = []
    for path, _ in itertools.product((*FORMS, *PAGES, "/v1/metrics", "/budget"), range(8)):
        connection = socket.create_connection(("127.0.0.1", proxy.port), timeout=10)
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nx-litellm-api-key: {MASTER_KEY}\r\nContent-Length: 99\r\n\r\ntoken="
        connection.sendall(head.encode())
        held.append(connection)
    assert client.start()["user_code"]
    assert send(proxy, "GET", "/managed/settings", token=personal_token("anna")).status_code == 200
    for connection in held:
        connection.close()


def test_two_lengths(proxy):
    """A form with two lengths is refused, and its second part is no request."""
    for path in (*FORMS, *PAGES, *BEARER):
        shape = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        codes, came = exchange(proxy, shape.encode() + b"GET /health/liveliness HTTP/1.1\r\nHost: x\r\n\r\n")
        assert codes == [400], (path, came)


# --- Tokens ------------------------------------------------------------------------------------------------------------------


def test_an_access_token_is_a_user_s_and_no_more(proxy, client, upstream):
    """It is valid in each header of a token, opens nothing of the operator's, and is sent to no upstream."""
    token = client.sign_in("anna").access
    for header in ("authorization", "x-api-key", "x-litellm-api-key"):
        value = f"Bearer {token}" if header == "authorization" else token
        answer = proxy.ask(new_question("glm"), token=None, **{header: value})
        assert answer.status_code == 200, header
        assert proxy.ask(new_question("claude-sonnet-5"), token=None, **{header: value}).status_code == 200
        passed = proxy.ask(new_question("claude-sonnet-5"), token=None, x_claude_token_mode="passthrough", **{header: value})
        assert passed.status_code in (400, 401)
    assert [seen for seen in upstream.seen if seen.method == "POST"]
    assert not [seen for seen in upstream.seen if token in seen.everything]
    for method, path in (
        ("POST", "/budget"), ("POST", "/pool/add"), ("POST", "/pool/remove"), ("POST", "/key/generate"), ("GET", "/key/list"),
        ("GET", "/config/yaml"), ("GET", "/model/info"),
    ):  # fmt: skip
        response = send(proxy, method, path, b'{"scope":"user:anna","limits":{}}', token, content_type="application/json")
        assert response.status_code in (403, 404), path
    for path in ("/pool", "/metrics", "/api/oauth/usage"):
        response = send(proxy, "GET", path, token=token)
        assert response.status_code == 200
        assert not [name for name in ("ben", "dora") if f'"{name}"' in response.text], path
    assert token not in proxy.output


def forgeries(token: str) -> Iterator[str]:
    """Texts that resemble a valid token."""
    head, body, signature = token.split(".")
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    kid = jwt.get_unverified_header(token)["kid"]
    other = b"a key that the proxy does not have"

    def part(found: object) -> str:
        return urlsafe_b64encode(json.dumps(found).encode()).rstrip(b"=").decode()

    for algorithm in ("none", "None", "NONE", "nOnE", "HS256", "RS256", "ES256", "EdDSA", "", None, 1, ["HS256"], {}):
        for end in ("", signature):
            yield f"{part({'alg': algorithm, 'kid': kid, 'typ': 'JWT'})}.{body if end == '' else part(claims)}.{end}x"
            yield f"{part({'alg': algorithm, 'kid': kid})}.{part(claims | {'sub': 'dora'})}.{end}"
    for change in ({"sub": "dora"}, {"aud": "x"}, {"iss": "x"}, {"exp": 9e18}, {"groups": ["team-a"]}):
        yield jwt.encode(claims | change, other, "HS256", {"kid": kid})
        yield f"{head}.{part(claims | change)}.{signature}"
    for odd in ({"kid": "x"}, {"kid": None}, {"kid": ["x"]}, {"kid": "../x"}, {"jku": "http://evil.invalid"}, {"crit": ["x"]}):
        yield f"{part({'alg': 'HS256', 'kid': kid} | odd)}.{part(claims)}.{signature}"
    yield from (f"{head}.{body}.", f"{head}..{signature}", f"..{signature}", f"eyJ.{body}.{signature}", token[:-1], token + "x")
    yield f"{head}.{body}.{signature[:-1]}{'A' if signature[-1] != 'A' else 'B'}="
    yield "eyJ" + "A" * 4000 + "." + "A" * 20 + ".A"
    yield part({"alg": "HS256", "kid": kid, "x": [[]] * 200}) + f".{body}.{signature}"


def test_forged_tokens(proxy, client):
    """No changed, unsigned or otherwise signed token is valid."""
    token = client.sign_in("anna").access
    tried = 0
    for forged in forgeries(token):
        response = send(proxy, "GET", "/managed/settings", token=forged)
        tried += 1
        assert response.status_code in (401, 431), forged
        check(response, forged)
    print(f"{tried} forged tokens")


def test_a_device_code_at_both_workers_at_the_same_moment(client):
    """However many clients redeem a code at the same moment, there is one sign-in with one refresh token."""
    started = client.start()
    client.approve(started["user_code"], Identity("dora", token_digest=digest_of(Secret(personal_token("dora")))))
    with ThreadPoolExecutor(12) as pool:
        found = [Tokens.of(one) for one in pool.map(client.redeem, [started["device_code"]] * 24)]
    assert len({tokens.refresh for tokens in found}) == 1
    sessions = {jwt.decode(tokens.access, options={"verify_signature": False})["sid"] for tokens in found}
    assert len(sessions) == 1


def test_a_removed_user_at_the_same_moment(proxy, client):
    """The first request after a user's line is gone is refused, by each worker, and so is a refresh."""
    tokens = client.sign_in("emil")
    assert client.status(tokens.access) == 200
    users = proxy.home / ".state" / "users"
    users.write_text("".join(line for line in users.read_text().splitlines(keepends=True) if not line.startswith("emil=")))
    assert client.status(tokens.access) == 401
    assert client.refresh(tokens.refresh).status_code == 401


def test_settings_of_another_user(client, proxy):
    """No header, query or tag gives a user the settings of another, not even the knowledge that they have not changed."""
    anna, dora = (client.sign_in(name).access for name in ("anna", "dora"))
    other = send(proxy, "GET", "/managed/settings", token=dora)
    assert "of-dora" in other.text
    for headers in (
        {"if-none-match": other.headers["etag"]}, {"if-none-match": "*"}, {"if-none-match": "W/*"}, {"x-user": "dora"},
        {"if-none-match": f'"x", {other.headers["etag"]}'}, {"range": "bytes=0-5"}, {"cookie": "user=dora"},
    ):  # fmt: skip
        response = send(proxy, "GET", "/managed/settings?user=dora", token=anna, **headers)
        assert response.status_code == 200
        assert "of-anna" in response.text
        assert "private" in response.headers["cache-control"]


# --- Budgets and limits ------------------------------------------------------------------------------------------------------


def test_a_spent_budget_stays_spent(proxy, upstream):
    """No other name of the model, header, token header, route or parallel request gets past a spent budget."""
    ben = personal_token("ben")
    assert proxy.ask(new_question("glm"), token=ben).status_code == 200
    upstream.seen.clear()
    names = ("glm", "claude-proxy/glm", "glm[1m]", "GLM", " glm", "glm-fast", "claude-sonnet-5", "claude-sonnet-5[1m]", "gpt")
    tried = 0
    for name, more in itertools.product(names, STREAMED):
        for path in ("/v1/messages", "/anthropic/v1/messages", "/v1/messages/", "/v1/messages?user=anna"):
            headers = {"x-user-id": "anna", "x-forwarded-user": "anna", "x-litellm-end-user-id": "anna"}
            lies = {"user": "anna", "metadata": {"user_id": "anna"}, "tags": {"x": "anna"}}
            response = proxy.ask(new_question(name, **more, **lies), path, ben, **headers)
            tried += 1
            assert response.status_code in (400, 404, 429), (name, path, response.text)
    with ThreadPoolExecutor(8) as pool:
        assert {one.status_code for one in pool.map(lambda _: proxy.ask(new_question("glm"), token=ben), range(24))} == {429}
    assert not [seen for seen in upstream.seen if seen.method == "POST"]
    print(f"{tried} requests beyond a budget")


def test_a_stream_that_ends_before_its_counts_costs_its_input(proxy, upstream):
    """Where a provider reports the input only at the end of a stream, disconnecting before that does not make it free."""
    carl = personal_token("carl")
    start = up.message(model="glm-5") | {"usage": {"input_tokens": 0, "output_tokens": 0}}
    chunks = up.sse(*up.events_of(up.message(up.text("x" * 40), model="glm-5")))
    chunks = [*up.sse({"type": "message_start", "message": start}), *chunks[1:3]]
    upstream.answer = lambda _: up.Reply(headers={"content-type": "text/event-stream"}, chunks=chunks, drop=True)
    asked = question("glm", "hello " * 10_000, stream=True)
    with contextlib.suppress(httpx.TransportError):
        proxy.ask(asked, token=carl, relayed=True)
    proxy.logged("user=carl")
    found = {send(proxy, "GET", "/api/oauth/usage", token=carl).json()["extra_usage"]["used_credits"] for _ in range(6)}
    assert found
    assert min(found) >= 1000, "ten thousand tokens at 1000 USD for a million are 10 USD"


def test_changes_of_a_budget(proxy):
    """Only an amount above 0, or null, is taken; an odd amount, period or scope changes nothing."""
    amounts = (
        "NaN",
        "Infinity",
        "-Infinity",
        "-1",
        "0",
        "1e400",
        "-0.0",
        "true",
        "[]",
        "{}",
        '"x"',
        '"NaN"',
        "1e-9",
        "9" * 500,
    )
    tried = 0
    for amount in amounts:
        body = b'{"scope":"user:ben","limits":{"day":%s}}' % amount.encode()
        response = send(proxy, "POST", "/budget", body, MASTER_KEY, content_type="application/json")
        tried += 1
        assert response.status_code == 400, (amount, response.text)
    for scope in (
        "",
        "user",
        "user:",
        "user: x",
        "all:x",
        "group::",
        "ALL",
        "user:a\nb",
        "user:\u2028x",
        "x:y",
        "user:" + "a" * 300,
    ):
        body = json.dumps({"scope": scope, "limits": {"day": 1}}).encode()
        response = send(proxy, "POST", "/budget", body, MASTER_KEY, content_type="application/json")
        tried += 1
        assert response.status_code == 400, (scope, response.text)
    for origin in ("http://evil.invalid", "null", "http://["):
        body = b'{"scope":"user:ben","limits":{"day":100}}'
        response = send(proxy, "POST", "/budget", body, MASTER_KEY, content_type="application/json", origin=origin)
        tried += 1
        assert response.status_code == 403, origin
    assert proxy.ask(new_question("glm"), token=personal_token("ben")).status_code == 429
    print(f"{tried} changes of a budget")


def test_requests_that_do_not_arrive_use_up_no_limit(proxy, upstream):
    """A HEAD, a count of tokens and a body that breaks off count for no limit of requests; whole requests do."""
    fred = personal_token("fred")
    for _ in range(5):
        send(proxy, "HEAD", "/v1/messages", token=fred)
        assert proxy.ask(new_question("glm"), "/v1/messages/count_tokens", fred).status_code == 200
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as connection:
            head = f"POST /v1/messages HTTP/1.1\r\nHost: x\r\nx-litellm-api-key: {fred}\r\nContent-Length: 999\r\n\r\n{{"
            connection.sendall(head.encode())
    gate = threading.Barrier(6)

    def ask(_: int) -> int:
        gate.wait(60)
        return proxy.ask(new_question("glm"), token=fred).status_code

    with ThreadPoolExecutor(6) as pool:
        found = sorted(pool.map(ask, range(6)))
    assert found[:3] == [200] * 3
    # Each of two workers admits three, before it knows of the other's.
    assert 429 in [*found, *(proxy.ask(new_question("glm"), token=fred).status_code for _ in range(4))]
