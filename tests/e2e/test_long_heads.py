"""Long heads of a stranger's requests, through the real proxy: the time they take grows with their length at most."""

import os
import socket
from pathlib import Path

import pytest
from processes import STATIC_TOKEN, Proxy, question

# A head may have 64 KB; the last size is close to that.
SIZES = (15_000, 30_000, 60_000)
MANY = 30
TICKS = os.sysconf("SC_CLK_TCK")
SHAPES = {
    "blanks in the token": b"x-litellm-api-key: a%bb\r\n",
    "blanks in another token's header": b"authorization: Bearer a%bb\r\n",
    "blanks in the mode": b"x-claude-token-mode: a%bb\r\n",
    "blanks in accept": b"accept: a%bb\r\n",
    "blanks in a beta": b"anthropic-beta: a%bb\r\n",
    "blanks in a header that nobody knows": b"x-header: a%bb\r\n",
}
ROUTES = (
    b"GET /v1/models", b"GET /health/liveliness", b"GET /pool", b"POST /v1/messages",
    b"GET /.well-known/oauth-authorization-server", b"GET /managed/settings",
)  # fmt: skip


def processor_seconds(proxy: Proxy) -> float:
    """What the proxy's process has used of a processor so far."""
    fields = Path(f"/proc/{proxy.process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def ask(proxy: Proxy, head: bytes) -> bytes:
    """Send one request and return the beginning of its answer."""
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=240) as connection:
        connection.sendall(head)
        return connection.recv(100)


def cost(proxy: Proxy, route: bytes, line: bytes) -> float:
    """Processor seconds of many requests with this line in their head."""
    head = b"%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%s\r\n" % (route, line)
    begun = processor_seconds(proxy)
    for _ in range(MANY):
        assert ask(proxy, head).startswith(b"HTTP/1.1 ")
    return processor_seconds(proxy) - begun


@pytest.mark.parametrize("route", ROUTES, ids=[route.decode() for route in ROUTES])
def test_long_values_take_their_share_of_time(pooled, route):
    """With no token at all: a value of four times the length costs four times as much at most, and everybody is served."""
    plain = cost(pooled, route, b"")
    for shape, line in SHAPES.items():
        small, _, large = (cost(pooled, route, line.replace(b"%b", b" " * size)) for size in SIZES)
        assert large <= 4 * (small + plain + 1 / TICKS), shape
    assert pooled.ask(question("glm"), token=STATIC_TOKEN).status_code == 200


def test_a_token_header_over_4_kb_is_refused(pooled):
    """It is refused in Anthropic's shape before anything reads it, with the right token in it or not, on every route."""
    for name in ("x-litellm-api-key", "authorization", "x-api-key", "x-claude-token-mode", "x-claude-code-session-id"):
        answer = pooled.ask(question("glm"), **{name.replace("-", "_"): STATIC_TOKEN + "x" * 4096})
        assert (answer.status_code, answer.json()["type"]) == (431, "error")
        assert answer.headers["x-should-retry"] == "false"
        assert name in answer.json()["error"]["message"]
