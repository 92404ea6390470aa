"""`claude-proxy check` as a command beside a running proxy: `--live`, and `--client-settings` with requests of a client."""

import http.server
import json
import ssl
import subprocess
import sys
import threading
import time

import certificates
import pytest
import upstream as up
from conftest import CLIENT_TOKEN, CONFIG, TOKENS, by_credential, proxy_environment
from processes import MASTER_KEY, ROOT, STATIC_TOKEN, Proxy, clean_environment, free_port

ANNA = "sk-made-up-token-of-anna-0123456789"
USERS = """
claude_proxy:
  users:
    anna: {models: [glm, claude-*]}
"""
CONTENT = "a client with this settings.json reaches the proxy"
FILE = (
    "settings.json is complete",
    "Claude Code's variables have the form that it reads",
    "the models that Claude Code requests are served",
)


@pytest.fixture(scope="module")
def running(shared_upstream: up.Upstream, tmp_path_factory: pytest.TempPathFactory):
    """A proxy with a user whose models are limited, and with a fallback for glm."""
    config = CONFIG.format(url=shared_upstream.other_url).replace("  fallbacks:\n", "  fallbacks:\n    - glm: [gpt]\n") + USERS
    environment = proxy_environment(shared_upstream) | {"PROXY_USER_TOKENS": f"anna={ANNA}"}
    proxy = Proxy(tmp_path_factory.mktemp("checked"), config, **environment).wait_ready()
    yield proxy
    proxy.stop()


@pytest.fixture
def check(running: Proxy, upstream: up.Upstream):
    """Run the command beside the proxy, with the proxy's own settings."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = proxy_environment(upstream) | {
            "PROXY_STATIC_TOKEN": STATIC_TOKEN,
            "LITELLM_MASTER_KEY": MASTER_KEY,
            "PROXY_USER_TOKENS": f"anna={ANNA}",
            "PORT": str(running.port),
        }
        command = [sys.executable, "-m", "claude_proxy", "--project", str(running.home), "check", *arguments]
        return subprocess.run(
            command, cwd=ROOT, env=clean_environment(running.home, **environment), capture_output=True, text=True, check=False,
            timeout=120,
        )  # fmt: skip

    return run


def answer(seen: up.Seen) -> up.Reply:
    reset = str(int(time.time()) + 3600)
    rejected = {"anthropic-ratelimit-unified-status": "rejected", "anthropic-ratelimit-unified-5h-status": "rejected"}
    replies = {
        "a": lambda seen: up.anthropic_reply(seen, up.text("yes")),
        "b": lambda _: up.anthropic_error(401, "authentication_error", "OAuth access token is invalid."),
        "c": lambda _: up.anthropic_error(
            429, "rate_limit_error", "limit", **rejected, **{"anthropic-ratelimit-unified-5h-reset": reset}
        ),
    }
    return by_credential(**replies)(seen)


def test_models_and_credentials_are_asked(check, upstream):
    """Each model that is ready responds through the proxy, each credential is named by its label, without a guise."""
    upstream.answer = answer
    done = check("--live")
    lines = done.stdout.splitlines()
    for name in ("demo", "glm", "gpt", "claude-haiku-5-5"):
        assert [line for line in lines if line.startswith(f"i {name}: responds, ")], done.stdout
    assert [line for line in lines if line.startswith("i a: accepted, ")]
    said = "OAuth access token is invalid."
    assert f'✗ b: rejected by Anthropic: the credential was rejected (HTTP 401): "{said}"; replace it' in lines
    assert [line for line in lines if line.startswith("! c: rate-limited until ") and line.endswith(": limit reached: 5h")]
    assert [line for line in lines if "model keyless is not ready; set NEVER_SET_API_KEY in .env" in line]
    assert done.returncode == 1

    assert not [seen for seen in upstream.seen if seen.is_claude and seen.json["model"] != "claude-haiku-5-5"]
    assert not [seen for seen in upstream.seen if "claude-cli" in seen.everything or "Claude Code" in seen.everything]
    secrets = (*TOKENS.values(), STATIC_TOKEN, MASTER_KEY, CLIENT_TOKEN)
    assert not [secret for secret in secrets if secret in done.stdout + done.stderr]
    assert not [seen for seen in upstream.seen if not seen.is_claude and any(secret in seen.everything for secret in secrets)]


def test_a_model_whose_key_is_rejected(check, upstream):
    """A provider that rejects its key is an error of that model, with the host and the variable, although a fallback works."""
    upstream.answer = lambda seen: (
        up.anthropic_error(401, "authentication_error", "invalid api key")
        if seen.path.startswith("/glm")
        else by_credential()(seen)
    )
    checks = {check["check"]: check for check in json.loads(check("--live", "--json").stdout)["checks"]}
    found = checks["every model responds"]["findings"]
    failed = {finding["place"]: finding for finding in found if finding["level"] == "error"}
    assert {"glm", "glm-fast"} <= {*failed}
    assert "gpt" not in failed
    host = "127.0.0.1"
    assert failed["glm"]["problem"].startswith(f"{host} rejects the key of glm (HTTP 401"), failed["glm"]
    assert failed["glm"]["remedy"] == "replace the key: ZAI_API_KEY"
    assert checks["Anthropic accepts every Claude credential"]["ok"]
    assert checks["every host can be reached"]["ok"]


def test_offline_no_request_is_sent(check, upstream):
    """Offline no host sees a request, with --live or without."""
    check("--offline", "--live")
    assert upstream.seen == []


# --- as a client -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def client(check, tmp_path):
    """Return what the command finds of a settings.json; neither of the tokens is in it."""

    def found(url: str, *arguments: str, token: str | None = STATIC_TOKEN, **variables: str) -> list[str]:
        env = {"ANTHROPIC_BASE_URL": url, **({"ANTHROPIC_AUTH_TOKEN": token} if token else {}), **variables}
        path = tmp_path / "settings.json"
        path.write_text(json.dumps({"env": env}, indent=2))
        done = check("--client-settings", str(path), "--json", *arguments)
        assert not [secret for secret in (STATIC_TOKEN, ANNA, MASTER_KEY, "made-up") if secret in done.stdout + done.stderr]
        checks = {one["check"]: one["findings"] for one in json.loads(done.stdout)["checks"]}
        of_file = [one for title in FILE for one in checks[title] if one["level"] == "error" and one["file"] == path.name]
        found = [*of_file, *checks.get(CONTENT, ()), *checks.get("the models of settings.json respond", ())]
        return [f"{one['level']} {one['message']}; {one['remedy']}" for one in found]

    return found


def test_a_client_that_is_right(client, running, upstream):
    """The address responds as claude-proxy, the model is served, and no provider gets a request; with --live one does."""
    first, model = client(running.url, ANTHROPIC_MODEL="glm", ANTHROPIC_DEFAULT_HAIKU_MODEL="glm-fast")[:2]
    assert first.startswith("info settings.json line 3: ANTHROPIC_BASE_URL: claude-proxy responds there and lists ")
    assert model == "info settings.json line 5: ANTHROPIC_MODEL: glm is served; "
    assert [seen.path for seen in upstream.seen if seen.method == "POST"] == []
    found = client(running.url, "--live", ANTHROPIC_MODEL="glm")
    assert "info settings.json line 5: ANTHROPIC_MODEL: glm responds to this token; " in found
    assert [seen for seen in upstream.seen if seen.path.startswith("/glm") and seen.json["max_tokens"] == 1]


def test_what_a_client_is_told_of_its_address(client, running, upstream):
    """A port on which nothing listens, TLS where there is none, a path, and another server are told apart."""
    port = free_port()
    (refused,) = client(f"http://127.0.0.1:{port}")
    assert f"ANTHROPIC_BASE_URL: connection refused: nothing listens on 127.0.0.1 port {port}; " in refused
    assert refused.endswith(f"listens on port {running.port} (PORT); write http://127.0.0.1:{running.port}")
    (secure,) = client(running.url.replace("http:", "https:"))
    assert (
        f"starts with https://, and the server at 127.0.0.1:{running.port} speaks HTTP without TLS; write {running.url}"
        in secure
    )
    (path,) = client(f"{running.url}/proxy")
    assert path.endswith(f"has the path /proxy, which the proxy does not serve (HTTP 404); write {running.url}")
    (other,) = client(upstream.url)
    assert "leads to a server that responds to /v1/models with HTTP 404 and is not claude-proxy" in other
    (unknown,) = client("http://no-such-host.invalid:4000")
    assert "host not found: no-such-host.invalid" in unknown


def test_a_server_that_speaks_tls(client, tmp_path):
    """http:// at a port for TLS is told, and a certificate of no authority; neither gets the token."""
    seen: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append(self.path)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.self_signed(tmp_path))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        port = server.server_address[1]
        (plain,) = client(f"http://127.0.0.1:{port}")
        assert plain.endswith(
            f"starts with http://, and the server at 127.0.0.1:{port} speaks TLS; write https://127.0.0.1:{port}"
        )
        (untrusted,) = client(f"https://localhost:{port}")
        assert "the certificate of localhost is not trusted (" in untrusted
        assert "set NODE_EXTRA_CA_CERTS" in untrusted
    finally:
        server.shutdown()
        server.server_close()
    assert seen == []


def test_what_a_client_is_told_of_its_token(client, running):
    """A token that the proxy does not know, none at all, and a user's own token are told apart."""
    (wrong,) = client(running.url, token="sk-made-up-of-another-proxy")
    assert "line 4: ANTHROPIC_AUTH_TOKEN: the proxy rejects the token (HTTP 401); it is neither PROXY_STATIC_TOKEN" in wrong
    (none,) = client(running.url, token=None)
    assert (
        none == "error settings.json: has no token of the proxy; write ANTHROPIC_AUTH_TOKEN; `claude-proxy settings` prints it"
    )
    right = client(running.url, token=None, ANTHROPIC_CUSTOM_HEADERS=f"x-litellm-api-key: {ANNA}")
    assert right[0].startswith("info ")


def test_what_a_client_is_told_of_its_model(client, running):
    """A model that is not served, one that the user may not use, and one without its key are told apart."""
    (unknown,) = (line for line in client(running.url, ANTHROPIC_MODEL="gml") if "ANTHROPIC_MODEL" in line)
    assert unknown == "error settings.json line 5: ANTHROPIC_MODEL: is gml, which is not served; did you mean glm?"
    (ending,) = client(f"{running.url}/v1")
    assert ending.endswith("ANTHROPIC_BASE_URL: ends with /v1, and Claude Code adds /v1/messages by itself; remove /v1")
    (_, forbidden, *_) = client(running.url, token=ANNA, ANTHROPIC_MODEL="gpt")
    assert "error settings.json line 5: ANTHROPIC_MODEL: the user of this token may not use gpt" in forbidden
    (_, keyless, *_) = client(running.url, ANTHROPIC_MODEL="keyless")
    assert "keyless cannot be used (keyless is not ready: set NEVER_SET_API_KEY" in keyless
