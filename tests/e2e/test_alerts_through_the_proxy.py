"""Alerts of real proxies: what was noted before a start is sent once, by one of several workers, to a webhook."""

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
import upstream as up
from conftest import CONFIG, proxy_environment
from processes import MASTER_KEY, ROOT, Proxy, clean_environment

from claude_proxy.state.rows import Row
from claude_proxy.state.sqlite import SqliteStore

TOKEN = "made-up-token-of-the-webhook"
SECONDS = 90


class Webhook:
    """Takes messages; ``received`` has the title of each, by the last part of its path."""

    def __init__(self) -> None:
        self.received: list[tuple[str, str, str]] = []
        webhook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                webhook.received.append((self.path.rpartition("/")[2], body["title"], body["type"]))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def of(self, name: str) -> list[tuple[str, str]]:
        return [(title, kind) for path, title, kind in self.received if path == name]

    def wait(self, name: str, count: int) -> list[tuple[str, str]]:
        """Wait for so many messages at a path, and return them."""
        poll = threading.Event()
        for _ in range(SECONDS * 20):
            if len(self.of(name)) >= count:
                return self.of(name)
            poll.wait(0.05)
        raise AssertionError(f"{name} has not got {count} messages, of {self.received}")


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    found = Webhook()
    yield found
    found.server.shutdown()
    found.server.server_close()


def configuration(upstream: up.Upstream, webhook: Webhook, *names: str) -> str:
    targets = "".join(
        f"\n      - {{name: {name}, url: 'json://{webhook.address}/os.environ/MADE_UP_TOKEN/{name}'}}" for name in names
    )
    return CONFIG.format(url=upstream.other_url) + f"\nclaude_proxy:\n  alerts:\n    name: Team\n    to:{targets}\n"


def noted(home: Path, **alerts: object) -> None:
    """Let the state file have alerts, as a proxy has noted them an hour ago."""
    (home / ".state").mkdir(parents=True, exist_ok=True)
    store = SqliteStore(home / ".state" / "pool.sqlite3")

    async def push() -> None:
        await store.push([Row("alerts:state", time.time() - 3600, json.dumps(alerts))])
        await store.close()

    # In a thread of its own: the browser's loop of another test may run in this one.
    thread = threading.Thread(target=lambda: asyncio.run(push()))
    thread.start()
    thread.join()


def entry(text: str, *, over: bool = False, told: tuple[str, ...] = ()) -> dict[str, object]:
    since = time.time() - 3600
    found = {"severity": "warning", "text": text, "action": "Made up.", "level": 0, "since": since}
    return found | {"over": since if over else None, "told": dict.fromkeys(told, 0)}


def test_an_alert_is_sent_once_by_one_of_several_workers(
    shared_upstream: up.Upstream, webhook: Webhook, tmp_path: Path
) -> None:
    """Two workers send an alert once and the end of another once; a restart sends nothing again; no log has the token."""
    environment = proxy_environment(shared_upstream) | {
        "NUM_WORKERS": "2",
        "MADE_UP_TOKEN": TOKEN,
        "PROXY_STATIC_TOKEN": "open",
    }
    home = tmp_path / "home"
    noted(home, **{"open-proxy": entry("x"), "pool-low": entry("The pool was low.", over=True, told=("ops",))})
    proxy = Proxy(home, configuration(shared_upstream, webhook, "ops"), **environment).wait_ready()
    assert sorted(webhook.wait("ops", 2)) == [
        ("Team: This proxy is open: everyone who can reach its port can use its models and credentials.", "info"),
        ("Team: over: The pool was low.", "success"),
    ]
    shown = httpx.get(f"{proxy.url}/pool", headers={"x-litellm-api-key": MASTER_KEY}, trust_env=False).json()
    (alert,) = shown["alerts"]
    assert alert["key"] == "open-proxy"
    assert alert["since"] < time.time() - 3000
    proxy.stop()
    logged = proxy.output
    # The new target gets the alert, which shows that the rules have been evaluated; the old one had it.
    proxy = Proxy(home, configuration(shared_upstream, webhook, "ops", "later"), **environment).wait_ready()
    assert webhook.wait("later", 1) == [one for one in webhook.of("ops") if one[1] == "info"]
    proxy.stop()
    assert len(webhook.of("ops")) == 2
    assert len(webhook.of("later")) == 1
    assert TOKEN not in logged + proxy.output
    assert (logged + proxy.output).count("alert (info): This proxy is open") == 1


def test_the_commands(shared_upstream: up.Upstream, webhook: Webhook, tmp_path: Path) -> None:
    """The test message arrives at each address that can be reached; a reason and no token is shown for the other."""
    home = tmp_path / "home"
    home.mkdir()
    text = (
        configuration(shared_upstream, webhook, "ops").rstrip()
        + "\n      - {name: nobody, url: 'json://127.0.0.1:9/os.environ/MADE_UP_TOKEN'}\n"
    )
    (home / "config.yaml").write_text(text)
    (home / ".env").write_text(f"MADE_UP_TOKEN={TOKEN}\n")

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "claude_proxy", "--project", str(home), *arguments]
        environment = clean_environment(home, PYTHONPATH=str(ROOT))
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=ROOT)

    done = run("alerts", "test")
    sent, failed = done.stdout.splitlines()
    assert done.returncode == 1
    assert sent == "sent      ops"
    assert failed.startswith("not sent  nobody: ")
    assert webhook.of("ops") == [("Team: test", "info")]
    checked = run("check", "--offline")
    assert "alerts" not in checked.stdout.replace("every address for alerts can be used", "")
    assert TOKEN not in done.stdout + done.stderr + checked.stdout + checked.stderr
