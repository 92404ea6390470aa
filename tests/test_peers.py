"""benchmarks/peers.py: a peer starts in isolation and is returned when it serves; two tests need real ones."""

import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from benchmarks import peers

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="a peer is put on chosen cores, as Linux can")

KEY, SECOND_KEY = "sk-made-up-key-0123456789", "sk-made-up-second-key-0123456789"
UPSTREAM = "http://127.0.0.1:9"
ANSWER = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": peers.MODEL,
    "content": [{"type": "text", "text": "hi"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 3, "output_tokens": 2},
}
STREAM = b"".join(
    f"event: {data['type']}\ndata: {json.dumps(data)}\n\n".encode()
    for data in (
        {"type": "message_start", "message": ANSWER | {"content": [], "stop_reason": None}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hi"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": {"output_tokens": 2}},
        {"type": "message_stop"},
    )
)
# It stands for a peer: what it was started with is its answer to every GET, what it was sent to every POST.
STAND_IN = """#!{python}
import json, os, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
class Handler(BaseHTTPRequestHandler):
    posted = []
    def answer(self, code, said):
        self.send_response(code)
        self.end_headers()
        self.wfile.write(json.dumps(said).encode())
    def do_GET(self):
        self.answer(200, {{"arguments": sys.argv[1:], "environment": dict(os.environ), "folder": os.getcwd(),
                           "cpus": list(os.sched_getaffinity(0)), "posted": self.posted}})
    def do_POST(self):
        self.posted.append([self.path, json.loads(self.rfile.read(int(self.headers["content-length"])))])
        self.answer({code}, "posted")
port = next(word for word in reversed(" ".join(sys.argv).replace("=", " ").split()) if word.isdigit())
HTTPServer(("127.0.0.1", int(port)), Handler).serve_forever()
"""
ENDING = "#!{python}\nimport sys\nsys.exit('no such account')\n"


@pytest.fixture
def port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return a folder of packages without programs."""
    monkeypatch.setattr(peers, "FOLDER", tmp_path / "peers")
    for package in (peers.BETTER_CCFLARE, peers.PORTKEY):
        place = peers.FOLDER / "node_modules" / package
        place.mkdir(parents=True)
        (place / "package.json").write_text('{"version": "1.2.3"}')
    (peers.FOLDER / "package.json").write_text(
        json.dumps({"dependencies": {peers.BETTER_CCFLARE: "1.2.3", peers.PORTKEY: "1.2.3"}})
    )
    return peers.FOLDER


def program(place, text, code=200):
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text.format(python=sys.executable, code=code))
    place.chmod(0o755)
    return place


@pytest.fixture
def ccflare(folder):
    return folder / "node_modules" / peers.BETTER_CCFLARE / "dist" / "better-ccflare"


def started(peer):
    return httpx.get(peer.url, trust_env=False).json()


def test_packages_are_installed_only_in_the_versions_that_are_named(folder):
    """A missing or old package is not accepted, so that only the locked version is measured."""
    assert peers.installed(folder)
    (folder / "node_modules" / peers.PORTKEY / "package.json").write_text('{"version": "1.2.2"}')
    assert not peers.installed(folder)
    shutil.rmtree(folder / "node_modules")
    assert not peers.installed(folder)


def test_without_npm_nothing_is_installed(folder, monkeypatch):
    """The message says what the machine lacks."""
    monkeypatch.setenv("PATH", str(folder))
    with pytest.raises(RuntimeError, match="npm is not installed"):
        peers.install(folder)


def test_what_npm_says_comes_along(folder, monkeypatch):
    """A failed installation is an error with npm's own output."""
    program(folder / "npm", "#!{python}\nimport sys\nsys.exit('npm error EUSAGE')\n")
    monkeypatch.setenv("PATH", str(folder))
    with pytest.raises(RuntimeError, match="npm error EUSAGE"):
        peers.install(folder)


def test_the_lock_names_exact_versions_their_hashes_and_no_host():
    """Every machine installs the same bytes, from any registry."""
    wanted = json.loads((peers.FOLDER / "package.json").read_text())
    lock = json.loads((peers.FOLDER / "package-lock.json").read_text())["packages"]
    packages = {place.removeprefix("node_modules/"): package for place, package in lock.items() if place}
    assert {name: packages[name]["version"] for name in wanted["dependencies"]} == wanted["dependencies"]
    assert {name: packages[name]["version"] for name in wanted["overrides"]} == wanted["overrides"]
    assert [name for name, package in packages.items() if not package["integrity"].startswith("sha512-")] == []
    assert [name for name, package in packages.items() if "resolved" in package] == []


def test_a_peer_gets_its_home_its_cores_and_nothing_of_this_environment(ccflare, tmp_path, port, monkeypatch):
    """A peer gets nothing of the measuring user's environment, so it finds no account or setting of theirs."""
    program(ccflare, STAND_IN)
    monkeypatch.setenv("OPENROUTER_API_KEY", "sk-made-up-of-somebody")
    before = os.sched_getaffinity(0)
    cpu = max(before)
    peer = peers.start_better_ccflare(tmp_path / "home", UPSTREAM, KEY, port, {cpu})
    try:
        said = started(peer)
        assert said["environment"]["HOME"] == str(tmp_path / "home")
        assert said["environment"]["BETTER_CCFLARE_HOST"] == "127.0.0.1"
        assert "OPENROUTER_API_KEY" not in said["environment"]
        assert "PATH" not in said["environment"]
        assert (said["cpus"], os.sched_getaffinity(0)) == ([cpu], before)
        assert said["folder"].startswith(str(tmp_path / "home"))
    finally:
        peer.stop()


def test_better_ccflare_has_an_account_for_each_key_in_this_order(ccflare, tmp_path, port):
    """The first key has priority and is used at the given upstream, like the others."""
    program(ccflare, STAND_IN)
    peer = peers.start_better_ccflare(tmp_path / "home", UPSTREAM, KEY, port, os.sched_getaffinity(0), keys=[SECOND_KEY])
    try:
        paths, accounts = zip(*started(peer)["posted"], strict=True)
    finally:
        peer.stop()
    assert set(paths) == {"/api/accounts/anthropic-compatible"}
    assert [(account["apiKey"], account["priority"]) for account in accounts] == [(KEY, 0), (SECOND_KEY, 1)]
    assert {account["customEndpoint"] for account in accounts} == {UPSTREAM}
    assert (peer.name, peer.headers) == ("better-ccflare 1.2.3", {})


def test_a_stopped_peer_is_gone(ccflare, tmp_path, port):
    """After stop the port is closed and the process has ended."""
    program(ccflare, STAND_IN)
    peer = peers.start_better_ccflare(tmp_path / "home", UPSTREAM, KEY, port, os.sched_getaffinity(0))
    assert started(peer)["folder"]
    peer.stop()
    assert peer.process.poll() is not None
    with pytest.raises(httpx.ConnectError):
        started(peer)


def test_a_peer_that_ends_is_an_error_with_its_output(ccflare, tmp_path, port):
    """The error contains the peer's output."""
    program(ccflare, ENDING)
    with pytest.raises(RuntimeError, match="no such account"):
        peers.start_better_ccflare(tmp_path / "home", UPSTREAM, KEY, port, os.sched_getaffinity(0))


def test_a_peer_that_takes_no_account_is_stopped(ccflare, tmp_path, port):
    """A peer that cannot be measured is stopped, and its key is in no message."""
    program(ccflare, STAND_IN, code=400)
    with pytest.raises(RuntimeError, match="rejects an account: 400") as raised:
        peers.start_better_ccflare(tmp_path / "home", UPSTREAM, KEY, port, os.sched_getaffinity(0))
    assert KEY not in str(raised.value)
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{port}", trust_env=False)


@pytest.mark.usefixtures("folder")
def test_a_peer_that_is_not_installed_is_an_error(tmp_path, port):
    """A missing or invalid program is reported like all other reasons."""
    with pytest.raises(RuntimeError, match="cannot be started"):
        peers.start_better_ccflare(tmp_path / "home", UPSTREAM, KEY, port, os.sched_getaffinity(0))


def test_portkey_is_told_its_upstream_by_headers(folder, tmp_path, port, monkeypatch):
    """One key is sent in plain headers; with several the next one is used after a 429."""
    program(folder / "node", STAND_IN)
    monkeypatch.setenv("PATH", str(folder))
    peer = peers.start_portkey(tmp_path / "home", UPSTREAM, KEY, port, os.sched_getaffinity(0))
    try:
        arguments = started(peer)["arguments"]
    finally:
        peer.stop()
    assert arguments[:2] == ["--require", str(folder / "loopback.cjs")]
    assert "--headless" in arguments
    assert peer.headers == {"x-portkey-provider": "anthropic", "x-portkey-custom-host": f"{UPSTREAM}/v1", "x-api-key": KEY}
    config = json.loads(peers._portkey_headers(UPSTREAM, [KEY, SECOND_KEY])["x-portkey-config"])
    assert config["strategy"] == {"mode": "fallback", "on_status_codes": [429]}
    assert [target["api_key"] for target in config["targets"]] == [KEY, SECOND_KEY]


@pytest.mark.parametrize("arguments", ["0", "0, undefined"])
def test_a_node_server_without_an_address_listens_on_loopback(arguments):
    """Portkey's gateway names no address and would accept requests from other machines."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node is not installed")
    told = "() => { console.log(server.address().address); server.close(); }"
    script = f"const server = require('node:http').createServer(); server.listen({arguments}, {told});"
    command = [node, "--require", str(peers.FOLDER / "loopback.cjs"), "--eval", script]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "127.0.0.1"


class Upstream(BaseHTTPRequestHandler):
    """Responds streamed or whole, and with a 429 to the first key."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.keys.append(self.headers["x-api-key"])
        limited = self.headers["x-api-key"] == KEY
        answer = {"type": "error", "error": {"type": "rate_limit_error", "message": "limited"}} if limited else ANSWER
        streamed = body.get("stream") and not limited
        content = STREAM if streamed else json.dumps(answer).encode()
        self.send_response(429 if limited else 200)
        self.send_header("content-type", "text/event-stream" if streamed else "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def upstream():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    server.keys = []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def real():
    """Install the real peers from the lock; skip with the reason if that is not possible."""
    if platform.machine() != "x86_64":
        pytest.skip("better-ccflare's package is for x86-64")
    if not peers.installed():
        try:
            peers.install()
        except RuntimeError as error:
            pytest.skip(str(error))


@pytest.mark.usefixtures("real")
@pytest.mark.parametrize("start", [peers.start_better_ccflare, peers.start_portkey])
def test_a_real_peer_answers_and_goes_on_with_the_second_key(start, upstream, tmp_path, port):
    """The upstream's response arrives, streamed and whole, although the first key is limited."""
    url = f"http://127.0.0.1:{upstream.server_port}"
    peer = start(tmp_path / "home", url, KEY, port, os.sched_getaffinity(0), keys=[SECOND_KEY])
    question = {"model": peer.model, "max_tokens": 10, "messages": [{"role": "user", "content": "hello"}]}
    headers = {"anthropic-version": "2023-06-01", **peer.headers}
    try:
        whole, streamed = (
            httpx.post(f"{peer.url}/v1/messages", json=question | more, headers=headers, trust_env=False)
            for more in ({}, {"stream": True})
        )
    finally:
        peer.stop()
    assert (whole.status_code, whole.json()["content"]) == (200, ANSWER["content"])
    assert (streamed.status_code, streamed.content) == (200, STREAM)
    assert upstream.keys[:2] == [KEY, SECOND_KEY]
