"""What Claude Code expects of a gateway: this proxy meets every row, and a gateway that loses things does not."""

import functools
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from forked_process import ForkedProcess

from conformance import proxies, rows, run
from conformance.target import Target
from conformance.upstream import Upstream


@pytest.fixture(scope="module", params=[False, True], ids=["direct", "through-litellm"])
def ours(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> run.Results:
    start = functools.partial(proxies.ours, through_litellm=request.param)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(proxies, "Process", ForkedProcess)
        return run.check_started(start, tmp_path_factory.mktemp("conformance"))


@pytest.mark.parametrize("row", rows.ROWS, ids=lambda row: row.id)
def test_this_proxy_meets_every_row(ours, row):
    """Each expectation is met by the real proxy before the scripted upstream, through both entrances."""
    assert ours[row.id] == run.Result(met=True)


class Lossy(BaseHTTPRequestHandler):
    """Forwards bodies, and no header in either direction but the type of the content; reads an answer to its end first."""

    protocol_version = "HTTP/1.1"
    upstream: Upstream

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        request = urllib.request.Request(f"{self.upstream.url}{self.path}", body, {"content-type": "application/json"})
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request) as answer:
                status, kind, content = answer.status, answer.headers["content-type"], answer.read()
        except urllib.error.HTTPError as error:
            status, kind, content = error.code, error.headers["content-type"], error.read()
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def lossy() -> Iterator[Target]:
    upstream = Upstream()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Lossy,), {"upstream": upstream}))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    target = Target(f"http://127.0.0.1:{server.server_address[1]}", "made-up", upstream)
    yield target
    target.close()
    server.shutdown()
    server.server_close()
    upstream.close()


LOST = ["anthropic-beta", "anthropic-version", "user-agent", "x-claude-code-session-id", "x-stainless", "own-login"]
LOST += ["headers-of-tomorrow", "response-headers", "stream-headers", "error-429", "error-529", "first-event"]
KEPT = [
    "body-value",
    "body-bytes",
    "system",
    "query",
    "proxy-token",
    "response-bytes",
    "stream-bytes",
    "recovery-signature",
    "ping",
]


def test_the_suite_sees_what_a_gateway_loses(lossy, monkeypatch):
    """Rows about what a forwarder loses fail, and rows about what it keeps are met."""
    monkeypatch.setattr("conformance.responses.HOLD_SECONDS", 0.5)
    found = run.run([row for row in rows.ROWS if row.id in (*LOST, *KEPT)], lossy)
    assert {name for name, result in found.items() if result.met is False} == set(LOST)
    assert {name for name, result in found.items() if result.met} == set(KEPT)


def test_a_proxy_that_runs_already_is_checked_from_outside(lossy, capsys, monkeypatch):
    """Without the upstream what cannot be seen is not checked, nothing is written, and a failed row is exit code 1."""
    monkeypatch.setenv("TOKEN", "made-up")
    before = run.DOCUMENT.read_bytes()
    assert run.main(["--url", lossy.url]) == 1
    out = capsys.readouterr().out
    assert f"{sum(row.needs_upstream for row in rows.ROWS)} not checked" in out
    assert run.DOCUMENT.read_bytes() == before
