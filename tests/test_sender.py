"""alerts/sender.py: messages are sent with apprise, to services as they are."""

import base64
import json
import logging
import re
import socketserver
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import urlsplit

import hypothesis.strategies as st
import pytest
import requests
from hypothesis import given

from claude_proxy.alerts.sender import MARK, MAX_REASON, MIN_SECRET, NOT_AN_ADDRESS, without_secrets
from claude_proxy.alerts.sender import send as send_and_report

# apprise's own: a library for crypto that it tries, and its use of a deprecated function.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

MESSAGE = {"title": "claude-proxy: 2 alerts", "body": "Critical: The pool is empty.\nWhat to do: Add one.", "kind": "failure"}


def send(found):
    """Send, and return the reason of each message."""
    reasons = {}
    send_and_report(found, reasons.__setitem__)
    return [reasons[place] for place in range(len(found))]


class Webhook(BaseHTTPRequestHandler):
    received: list = []  # noqa: RUF012 - filled by the server's thread
    status = 200
    location = ""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.received.append((self.path, self.headers, json.loads(body)))
        self.send_response(self.status)
        self.send_header("content-length", "0")
        if self.location:
            self.send_header("location", self.location)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def webhook():
    handler = type("Handler", (Webhook,), {"received": []})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.server_port}", handler
        server.shutdown()
        thread.join()


class Mail(socketserver.StreamRequestHandler):
    """An SMTP server that takes every message."""

    received: list = []  # noqa: RUF012 - filled by the server's thread

    def handle(self):
        self.say("220 made-up ESMTP")
        for line in self.rfile:
            word = line.decode().strip().upper()
            if word.startswith(("EHLO", "HELO")):
                self.say("250-made-up\r\n250 AUTH PLAIN LOGIN")
            elif word.startswith("AUTH"):
                self.received.append(line.decode().strip())
                self.say("235 ok")
            elif word == "DATA":
                self.say("354 go on")
                self.received.append(self._message())
                self.say("250 ok")
            elif word == "QUIT":
                self.say("221 bye")
                return
            else:
                self.received.append(line.decode().strip())
                self.say("250 ok")

    def _message(self):
        lines = []
        for line in self.rfile:
            if line == b".\r\n":
                break
            lines.append(line.decode())
        return "".join(lines)

    def say(self, text):
        self.wfile.write(f"{text}\r\n".encode())


@pytest.fixture
def mail():
    handler = type("Handler", (Mail,), {"received": []})
    with socketserver.TCPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_address[1], handler.received
        server.shutdown()
        thread.join()


@pytest.fixture
def border(monkeypatch):
    """What leaves for a web address; each gets a success."""
    sent = []

    def answer(_, request, **options):
        sent.append((request, options))
        response = requests.Response()
        response.status_code, response.request, response.url = 200, request, request.url
        response._content = b"ok" if "slack" in request.url else b'{"ok": true, "result": {"message_id": 1}}'
        return response

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", answer)
    return sent


def test_a_generic_webhook(webhook):
    """The message is JSON with a title, a text and a kind; a plain web address is one, too."""
    address, handler = webhook
    assert send([{"url": f"json://{address}/alerts", **MESSAGE}, {"url": f"http://{address}/plain", **MESSAGE}]) == ["", ""]
    found = {path: body for path, _, body in handler.received}
    assert {path.rstrip("/") for path in found} == {"/alerts", "/plain"}
    for body in found.values():
        assert (body["title"], body["message"], body["type"]) == (MESSAGE["title"], MESSAGE["body"], "failure")
    assert {headers["user-agent"] for _, headers, _ in handler.received} == {"claude-proxy"}


def test_a_webhook_that_refuses(webhook):
    """The reason is in words, without the address; the other targets get their message."""
    address, handler = webhook
    handler.status = 500
    reason, unknown = send(
        [{"url": f"json://{address}/made-up-token", **MESSAGE}, {"url": "nonsense://made-up-token", **MESSAGE}]
    )
    assert "error=500" in reason
    assert "made-up-token" not in reason
    assert unknown == NOT_AN_ADDRESS


def test_an_address_is_checked_without_a_message(webhook):
    """Nothing is sent for it."""
    address, handler = webhook
    assert send([{"url": f"json://{address}/alerts"}, {"url": "nonsense://x"}]) == ["", NOT_AN_ADDRESS]
    assert handler.received == []


def test_mail(mail):
    """A message arrives at a mail server, from and to whom the address says."""
    port, received = mail
    url = f"mailto://ops:made-up-password@localhost:{port}/?from=proxy@example.org&to=anna@example.org&mode=insecure"
    assert send([{"url": url, **MESSAGE}]) == [""]
    commands = " ".join(received[:-1])
    assert "<proxy@example.org>" in commands
    assert "<anna@example.org>" in commands
    text = received[-1]
    assert "Subject: " in text
    encoded = text.partition("\r\n\r\n")[2]
    plain = encoded + "".join(_decoded(part) for part in encoded.split("\r\n\r\n"))
    assert "The pool is empty." in plain


def _decoded(part):
    try:
        return base64.b64decode(part).decode(errors="replace")
    except ValueError:
        return ""


@pytest.mark.parametrize(
    ("url", "host", "path", "secret"),
    [
        (
            "slack://TAAAAAAAA/BBBBBBBBB/cccccccccccccccccccccccc/#ops",
            "hooks.slack.com",
            "/services/TAAAAAAAA/BBBBBBBBB/",
            "ccccc",
        ),
        (
            "https://hooks.slack.com/services/TAAAAAAAA/BBBBBBBBB/cccccccccccccccccccccccc",
            "hooks.slack.com",
            "/services/T",
            "ccc",
        ),
        (f"discord://123456789012345678/{'d' * 40}", "discord.com", "/api/webhooks/123456789012345678/", "ddddd"),
        (f"https://discord.com/api/webhooks/123456789012345678/{'d' * 40}", "discord.com", "/api/webhooks/", "ddddd"),
        ("tgram://123456789:made-up-telegram-token/12315544/", "api.telegram.org", "/bot123456789:made-up-telegram-token/", ""),
        (
            "workflow://prod-0.westeurope.logic.azure.com:443/0123456789abcdef0123456789abcdef/made-up-signature-of-teams/",
            "prod-0.westeurope.logic.azure.com",
            "/workflows/0123456789abcdef0123456789abcdef/",
            "",
        ),
    ],
    ids=["slack", "slack-page", "discord", "discord-page", "telegram", "teams"],
)
def test_services_with_their_own_hosts(border, url, host, path, secret):
    """Slack, Discord, Telegram and Teams get the message at their own host, encrypted, with the token of the address."""
    assert send([{"url": url, **MESSAGE}]) == [""]
    found = [request for request, _ in border if request.method == "POST"]
    parts = urlsplit(found[-1].url)
    assert (parts.scheme, parts.hostname) == ("https", host)
    assert parts.path.startswith(path)
    assert secret in parts.path
    body = found[-1].body.decode() if isinstance(found[-1].body, bytes) else str(found[-1].body)
    assert "pool is empty" in body
    assert "2 alerts" in body
    assert "githubusercontent" not in body  # no picture from elsewhere
    assert all(options.get("verify") in (True, None) or isinstance(options["verify"], str) for _, options in border)


def test_what_a_service_refuses_is_a_reason(border, monkeypatch):
    """A revoked token of Slack is a reason, and the token is not in it."""

    def answer(_, request, **__):
        response = requests.Response()
        response.status_code, response.request, response._content = 403, request, b"invalid_token madeuptokenofslack000000"
        return response

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", answer)
    (reason,) = send([{"url": "slack://TAAAAAAAA/BBBBBBBBB/madeuptokenofslack000000/", **MESSAGE}])
    assert "403" in reason
    assert "madeuptoken" not in reason


def test_a_bug_of_a_service_is_a_reason(monkeypatch):
    """An exception in apprise keeps no message from the others, and its text is not shown."""

    def broken(*_, **__):
        raise ValueError("made-up-token")

    monkeypatch.setattr(requests.sessions.Session, "request", broken)
    (reason,) = send([{"url": "json://127.0.0.1:9/x", **MESSAGE}])
    assert reason
    assert "made-up-token" not in reason


def test_the_log_of_apprise_is_kept_apart(webhook, caplog):
    """What apprise logs, which may contain an address, is not in this process's log."""
    address, handler = webhook
    handler.status = 500
    with caplog.at_level(logging.INFO):
        send([{"url": f"json://{address}/made-up-token", **MESSAGE}])
    assert "made-up-token" not in caplog.text


@given(st.text(max_size=60), st.text(alphabet="abcde/:@?&=%#40", max_size=60))
def test_a_reason_has_no_part_of_an_address(text, url):
    """Whatever a reason says, it is one line of bounded length, and no long part of the address is in it."""
    found = without_secrets(f"{text} {url}", f"slack://{url}")
    assert len(found) <= MAX_REASON
    assert found.isprintable()
    rest = found.replace(MARK, "")
    words = [word for word in re.split(r"[/:@?&=%#]", url) if len(word) >= MIN_SECRET and word not in text]
    assert not any(word in rest for word in words)
