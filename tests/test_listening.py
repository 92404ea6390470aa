"""config/listening.py and check/listening.py: whether the proxy can listen at its address, and what is there already."""

import errno
import http.server
import json
import socket
import threading

import pytest
from test_check import closed_port, facts, only, said

from claude_proxy.check import listening
from claude_proxy.config.listening import address_error
from claude_proxy.providers.model_names import listing


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


OWN_LIST = json.dumps(listing(["glm"])).encode()
OWN_REJECTION = b'{"error": {"message": "set it as ANTHROPIC_AUTH_TOKEN in Claude Code."}}'


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (200, OWN_LIST, "info .env line 3: PORT: a proxy runs at "),
        (
            401,
            b'{"error": {"message": "set it as ANTHROPIC_AUTH_TOKEN in Claude Code."}}',
            "info .env line 3: PORT: a proxy runs",
        ),
        (200, b'{"data": [{"id": "glm", "owned_by": "library"}]}', "error .env line 3: PORT: port "),
        (404, b"", "error .env line 3: PORT: port "),
    ],
    ids=["own", "own-with-a-token", "another-api", "another-program"],
)
def test_which_program_uses_the_port(serve, status, body, says):
    """The proxy's own list or rejection is right; any other program keeps the proxy from starting."""
    only(listening.port(facts(PORT=serve(status, body))), says)
