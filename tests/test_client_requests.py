"""check/client_requests.py: what a server's response means for a client; a running proxy is in tests/e2e."""

import http.server
import json
import threading
from dataclasses import replace

import pytest
from test_check import STATIC, facts, only

from claude_proxy.check import client_requests, models
from claude_proxy.check.client_file import ClientFile
from claude_proxy.providers.model_names import listing

OWN_LIST = json.dumps(listing(["glm", "claude-*"])).encode()
KNOWN = json.dumps({"input_tokens": 1}).encode()


def error_of(message):
    return json.dumps({"type": "error", "error": {"type": "x", "message": message}}).encode()


@pytest.fixture
def serve():
    """Start a server with one response for GET and one for POST; what it was sent is in ``seen``."""
    started = []

    def start(get, post=(200, {}, KNOWN)):
        seen = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.respond(*get)

            def do_POST(self):
                self.rfile.read(int(self.headers["content-length"]))
                self.respond(*post)

            def respond(self, status, headers, body):
                seen.append((self.path, dict(self.headers)))
                self.send_response_only(status)
                for name, value in {"content-length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        started.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}", seen

    yield start
    for server in started:
        server.shutdown()
        server.server_close()


def found(url, *, has_helper=False, **values):
    """What the requests of a client find; the token is not in it."""
    values = {"ANTHROPIC_BASE_URL": url, "ANTHROPIC_AUTH_TOKEN": STATIC, **values}
    client = ClientFile(values={name: value for name, value in values.items() if value}, has_helper=has_helper)
    given = facts()
    findings = [*client_requests.client_requests(type(given)(**{**vars(given), "client": client}))]
    assert STATIC not in str(findings)
    return findings


@pytest.mark.parametrize(
    ("response", "says"),
    [
        (
            (301, {"location": "https://proxy.example.org/v1/models"}, b""),
            ["error", "redirects to https://proxy.example.org:443"],
        ),
        ((308, {"location": "/login"}, b""), ["error", "redirects to another path"]),
        (
            (400, {}, b"Client sent an HTTP request to an HTTPS server."),
            ["error", "starts with http://", "speaks TLS; write https://127.0.0.1:"],
        ),
        ((200, {}, b"<html>hello</html>"), ["error", "is not claude-proxy", "write the address of the proxy"]),
        ((200, {}, b'{"data": [{"id": "gpt", "owned_by": "openai"}]}'), ["error", "is not claude-proxy"]),
        ((500, {}, b"oops"), ["error", "responds to /v1/models with HTTP 500 and is not claude-proxy"]),
        ((503, {}, error_of("claude-proxy: stops")), ["error", "claude-proxy is not ready (HTTP 503: claude-proxy: stops)"]),
        (
            (401, {}, error_of(f"no such key: {STATIC}")),
            ["error", "not claude-proxy rejects the token (HTTP 401)"],
        ),
        (
            (400, {}, error_of("a header is wrong")),
            ["error", "the server responds to /v1/models with HTTP 400: a header is wrong"],
        ),
    ],
    ids=["redirect", "redirect-within", "tls", "a-page", "another-api", "broken", "not-ready", "another-401", "a-message"],
)
def test_what_a_response_means(serve, response, says):
    """Each response that is not claude-proxy's list is one error at the address or at the token."""
    only(found(serve(response)[0]), *says)


def test_what_is_sent(serve):
    """The requests have the client's headers, and a redirect is not followed with them."""
    url, seen = serve((200, {}, OWN_LIST))
    headers = f"x-litellm-api-key: {STATIC}\nx-team: red\nnot a header"
    first, model = found(url, ANTHROPIC_AUTH_TOKEN="", ANTHROPIC_CUSTOM_HEADERS=headers, ANTHROPIC_MODEL="sonnet")[:2]
    assert "claude-proxy responds there and lists 5 models" in first.problem
    assert "claude-sonnet-5-5 is served" in str(model)
    assert [path for path, _ in seen] == ["/v1/models", "/v1/messages/count_tokens"]
    for _, sent in seen:
        assert (sent["x-litellm-api-key"], sent["x-team"]) == (STATIC, "red")
        assert "authorization" not in sent


@pytest.mark.parametrize(
    ("response", "says"),
    [
        ((404, {}, error_of("model: gml is not served")), ["error", "gml is not served by this proxy; did you mean glm?"]),
        ((403, {}, error_of("model: anna may not use gml")), ["error", "may not use gml (model: anna may not use gml)"]),
        ((400, {}, error_of("model: anna may not use gml")), ["error", "may not use gml (model: anna may not use gml)"]),
        ((400, {}, error_of("gml is not ready: set A")), ["error", "gml cannot be used (gml is not ready: set A)"]),
        ((429, {}, error_of("busy")), ["warning", "gml could not be checked (HTTP 429: busy)"]),
    ],
    ids=["unknown", "forbidden", "forbidden-as-the-client-reads-it", "keyless", "busy"],
)
def test_what_a_model_s_response_means(serve, response, says):
    """A model that cannot be used is an error at the variable that names it."""
    url, _ = serve((200, {}, OWN_LIST), response)
    findings = [one for one in found(url, ANTHROPIC_MODEL="gml") if "ANTHROPIC_MODEL" in one.place]
    only(findings, "settings.json: ANTHROPIC_MODEL: ", *says)


def test_a_model_that_is_not_served_is_one_error(serve):
    """Where the folder's config.yaml shows that a model is not served, the same response is not reported."""
    url, seen = serve((200, {}, OWN_LIST), (404, {}, error_of("model: gml is not served")))
    values = {"ANTHROPIC_BASE_URL": url, "ANTHROPIC_AUTH_TOKEN": STATIC, "ANTHROPIC_MODEL": "gml"}
    given = replace(facts(), client=ClientFile(values=values))
    assert len([one for one in models.claude_code_names(given) if "ANTHROPIC_MODEL" in one.place]) == 1
    online = [*client_requests.unreported_requests(given)]
    assert not [one for one in online if "ANTHROPIC_MODEL" in one.place]
    assert "claude-proxy responds there" in online[0].problem
    assert len(seen) == 2


def test_a_token_that_a_program_prints(serve):
    """Check does not run apiKeyHelper, so a rejection without a token is no error."""
    url, _ = serve((401, {}, error_of("send it as ANTHROPIC_AUTH_TOKEN in Claude Code.")))
    only(found(url, ANTHROPIC_AUTH_TOKEN="", has_helper=True), "info", "the token of apiKeyHelper is not checked")


def test_a_token_in_a_misspelt_header(serve):
    """The error names the header that the proxy does not read, and does not report that there is no token."""
    url, _ = serve((401, {}, error_of("send it as ANTHROPIC_AUTH_TOKEN in Claude Code.")))
    headers = f"x-litellm-apikey: {STATIC}"
    findings = found(url, ANTHROPIC_AUTH_TOKEN="", ANTHROPIC_CUSTOM_HEADERS=headers)
    only(findings, "error", "ANTHROPIC_CUSTOM_HEADERS: the proxy does not read the token in x-litellm-apikey")


@pytest.mark.parametrize("url", ["", "127.0.0.1:4000", "http://"])
def test_without_an_address_nothing_is_sent(url):
    """An address that cannot be used is reported by the checks of the file."""
    assert found(url) == []
