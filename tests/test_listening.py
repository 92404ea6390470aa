"""config/listening.py and check/listening.py: whether the proxy can listen at its address, and what is there already."""

import errno
import http.server
import json
import socket
import threading
from dataclasses import replace

import pytest
from test_check import closed_port, facts, only, said

from claude_proxy.check import listening
from claude_proxy.config.listening import address_error


@pytest.fixture
def serve():
    """Start a server that responds to every GET with this status and body."""
    started = []

    def start(status, body):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response_only(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        started.append(server)
        return str(server.server_address[1])

    yield start
    for server in started:
        server.shutdown()
        server.server_close()


def test_a_free_port():
    """There is nothing to report of a port that is free."""
    port = closed_port()
    assert address_error("127.0.0.1", port) == (0, "")
    assert said(listening.address(facts(PORT=str(port)))) == []
    assert said(listening.port(facts(PORT=str(port)))) == []


def test_a_port_in_use():
    """The error is the system's, and the sentence names the port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        number, problem = address_error("127.0.0.1", port)
        assert number == errno.EADDRINUSE
        assert problem.startswith(f"PORT: {port} is in use: ")
        assert said(listening.address(facts(PORT=str(port)))) == []


def test_an_address_of_another_machine():
    """It keeps the proxy from starting, so it is an error at the line of HOST."""
    only(listening.address(facts(HOST="192.0.2.1")), "error .env line 3: HOST: 192.0.2.1 is not an address of this machine")


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (200, b"<title>claude-proxy</title>", "info .env line 3: PORT: a proxy runs at "),
        (200, b'{"data": [{"id": "glm", "owned_by": "library"}]}', "error .env line 3: PORT: port "),
        (404, b"", "error .env line 3: PORT: port "),
    ],
    ids=["own", "another-api", "another-program"],
)
def test_which_program_uses_the_port(serve, status, body, says):
    """The proxy's own page is right; any other program keeps the proxy from starting."""
    only(listening.port(facts(PORT=serve(status, body))), says)


@pytest.mark.parametrize("started", [0, 4e9], ids=["before-the-change", "after-the-change"])
def test_a_changed_env_that_does_not_apply_yet(serve, tmp_path, started):
    """A ``.env`` that is newer than the running proxy is reported, because a change of it needs a restart."""
    path = tmp_path / ".env"
    path.write_text("PORT=1\n")
    body = json.dumps({"claude-proxy": "", "store": {"process_started": started}}).encode()
    here = facts(PORT=serve(200, body), LITELLM_MASTER_KEY="sk-made-up-master-0123456789")
    found = said(listening.port(replace(here, dotenv=replace(here.dotenv, path=path))))
    assert [one for one in found if "restart the proxy" in one] == found[1:]
    assert len(found) == (2 if started == 0 else 1)
