"""cli/running_proxy.py: what is asked of the running proxy, and the sentence for every way in which that fails."""

import socket
import threading

import httpx
import pytest
import respx

from claude_proxy.cli import running_proxy
from claude_proxy.cli.running_proxy import Connection, ProxyUnavailable, ask, ask_json, url_of
from claude_proxy.config.settings import Settings
from claude_proxy.secret import Secret

URL = "http://127.0.0.1:4000"
TOKEN = "sk-made-up-token"


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:4000"), ("0.0.0.0", "http://127.0.0.1:4000"), ("::", "http://127.0.0.1:4000"),
        ("::1", "http://[::1]:4000"), ("proxy.example", "http://proxy.example:4000"),
    ],
)  # fmt: skip
def test_the_address_of_the_proxy(host, url):
    """The running proxy is where HOST and PORT say; on this machine, when it listens on every address."""
    assert url_of(Settings.parse({"HOST": host})) == url


@pytest.mark.parametrize(
    ("response", "path", "says"),
    [
        (httpx.Response(401), "/pool", "rejects the token of .env (HTTP 401). Use the .env that"),
        (httpx.Response(403), "/usage.csv", "/usage.csv needs the master key: set LITELLM_MASTER_KEY in .env"),
        (httpx.Response(307, headers={"location": "https://x.example"}), "/pool", "redirects to another address (HTTP 307)"),
        (httpx.Response(503), "/pool", "responded with HTTP 503. Its log has the reason."),
        (httpx.ConnectError("[Errno 111] Connection refused"), "/pool", "at http://127.0.0.1:4000 (connection refused)."),
        (httpx.ConnectError("[Errno -2] Name or service not known"), "/pool", "(host not found). Start it with"),
        (httpx.ConnectError("sk-made-up-token"), "/pool", "(ConnectError). Start it with"),
        (httpx.ReadTimeout("x"), "/pool", "(no response within 15 seconds)"),
        (httpx.RemoteProtocolError("x"), "/pool", "is not claude-proxy, or it has another version: no complete HTTP response"),
    ],
)  # fmt: skip
def test_a_proxy_that_gives_no_response(response, path, says):
    """What failed is one sentence with the address, the reason and what to do, and without the token."""
    with respx.mock(using="httpx") as mock:
        mock.get(f"{URL}{path}").mock(side_effect=[response])
        with pytest.raises(ProxyUnavailable) as caught:
            ask(URL, path, Secret(TOKEN))
    assert says in str(caught.value)
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize("url", ["nowhere", "ftp://127.0.0.1", "http://127.0.0.1:port", "http://", "http://user:made-up@"])
def test_an_address_that_is_none(url):
    """An address that cannot be asked is named with an example of one that can, and without its password."""
    with pytest.raises(ProxyUnavailable, match="is not an address such as http://127") as caught:
        ask(url, "/pool", None)
    assert "made-up" not in str(caught.value)


def test_the_password_of_an_address_is_not_shown():
    """A name and a password in an address are for the request, and not for an error."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        with pytest.raises(ProxyUnavailable) as caught:
            ask(f"http://user:made-up@127.0.0.1:{probe.getsockname()[1]}", "/pool", None)
    assert "made-up" not in str(caught.value)
    assert "connection refused" in str(caught.value)


@pytest.mark.parametrize("body", [b"hello", b"", b"\xff\xfe{", b"[" * 100_000])
def test_a_response_that_is_not_json(body):
    """Where a web page or nonsense responds, the error says that this is not claude-proxy."""
    with respx.mock(using="httpx") as mock:
        mock.get(f"{URL}/pool").respond(content=body)
        with pytest.raises(ProxyUnavailable, match="is not claude-proxy, or it has another version: the response is not JSON"):
            ask_json(URL, "/pool", None)


def test_a_response_without_an_end(monkeypatch):
    """A server that sends bytes for ever is left at the bound."""
    monkeypatch.setattr(running_proxy, "MAX_BYTES", 1000)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()

        def serve():
            peer, _ = server.accept()
            with peer:
                peer.sendall(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n")
                try:
                    while True:
                        peer.sendall(b"x" * 500)
                except OSError:
                    return

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(ProxyUnavailable, match="the response does not end"):
            ask(f"http://127.0.0.1:{server.getsockname()[1]}", "/pool", None)
        thread.join()


def test_a_response_that_has_not_changed_is_not_sent_again():
    """A kept connection sends the tag of a path's last response; after a 304 that response is returned, the same object."""
    tagged = httpx.Response(200, json={"a": 1}, headers={"etag": 'W/"1"'})
    with respx.mock(using="httpx") as mock:
        mock.get(f"{URL}/pool").mock(side_effect=[tagged, httpx.Response(304), httpx.Response(200, json={"a": 2}), tagged])
        mock.get(f"{URL}/other").respond(json=[])
        connection = Connection(URL, Secret(TOKEN))
        first, again = connection.get_json("/pool"), connection.get_json("/pool")
        assert connection.get_json("/other") == []
        assert (first, connection.get_json("/pool"), connection.get_json("/pool")) == ({"a": 1}, {"a": 2}, {"a": 1})
        connection.close()
        sent = [call.request.headers for call in mock.calls]
    assert again is first
    assert [headers.get("if-none-match") for headers in sent] == [None, 'W/"1"', None, 'W/"1"', 'W/"1"']
    assert {headers["x-litellm-api-key"] for headers in sent} == {TOKEN}


def test_an_error_has_its_status():
    """The status of a response with an error is known, and a 304 that nobody asked for is one."""
    for response, status in ((httpx.Response(404), 404), (httpx.Response(304), 304), (httpx.ConnectError("x"), None)):
        with respx.mock(using="httpx") as mock:
            mock.get(f"{URL}/pool").mock(side_effect=[response])
            with pytest.raises(ProxyUnavailable) as caught:
                Connection(URL, None).get_json("/pool")
        assert caught.value.status == status
