"""A rolling update of the profile ``scale`` on a real engine, with the commands of docs/deploy.md, under load."""

import subprocess
import threading
from collections.abc import Iterator

import httpx
import pytest
import yaml
from compose import Compose, engine_environment, free_port, have_image
from load import Asking, Load

pytestmark = pytest.mark.timeout(900)

TOKEN = "made-up-token-of-a-team-77aa"
# Streams of the model `held` wait for the word; those of any other model do not.
UPSTREAM = """
services:
  upstream:
    image: python:3.13-slim-bookworm
    init: true
    command: [python, /upstream.py]
    volumes: ["./upstream.py:/upstream.py:ro"]
    ports: ["127.0.0.1:{port}:8000"]
    healthcheck:
      test: [CMD, python, -c, "import socket; socket.create_connection(('127.0.0.1', 8000))"]
      interval: 1s
"""
UPSTREAM_PROGRAM = """
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MESSAGE = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [],
           "stop_reason": None, "stop_sequence": None, "usage": {"input_tokens": 1, "output_tokens": 1}}
EVENTS = [
    {"type": "message_start", "message": MESSAGE},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "And then"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": {"output_tokens": 1}},
    {"type": "message_stop"},
]
go_on = threading.Event()


class Upstream(BaseHTTPRequestHandler):
    def do_GET(self):
        global go_on
        go_on.set()
        go_on = threading.Event()
        self.send_response(204)
        self.end_headers()

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(200)
        if not body.get("stream"):
            whole = json.dumps(MESSAGE | {"content": [{"type": "text", "text": "whole"}], "stop_reason": "end_turn"}).encode()
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(whole)))
            self.end_headers()
            self.wfile.write(whole)
            return
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        for number, event in enumerate(EVENTS):
            if number == 3 and body["model"] == "held":
                go_on.wait(300)
            self.wfile.write(f"event: {event['type']}\\ndata: {json.dumps(event)}\\n\\n".encode())


ThreadingHTTPServer(("", 8000), Upstream).serve_forever()
"""


@pytest.fixture(scope="module")
def scaled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Compose, int]]:
    """Two replicas behind their balancer, and the port of their upstream."""
    engine = engine_environment()
    have_image(engine, "redis:7-alpine")
    compose, port = Compose(tmp_path_factory.mktemp("rolling"), engine, profiles=("scale",)), free_port()
    folder = compose.folder
    (folder / ".env").write_text(f"PROXY_STATIC_TOKEN={TOKEN}\n", encoding="utf-8")
    config = yaml.safe_load((folder / "config.yaml.example").read_text(encoding="utf-8"))
    config["model_list"] += [
        {
            "model_name": name,
            "litellm_params": {"model": f"anthropic/{name}", "api_base": "http://upstream:8000", "api_key": "made-up"},
        }
        for name in ("held", "quick")
    ]
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    (folder / "upstream.py").write_text(UPSTREAM_PROGRAM, encoding="utf-8")
    (folder / "docker-compose.override.yml").write_text(UPSTREAM.format(port=port), encoding="utf-8")
    try:
        yield compose.up(), port
    finally:
        compose.down()


class Replacing:
    """A replica that an operator makes anew, in a thread; ``logged`` waits for what its old container says."""

    def __init__(self, compose: Compose, service: str) -> None:
        self._compose, self.service = compose, service
        self.old = self.container()
        self._thread = threading.Thread(target=self._replace, daemon=True)
        self._thread.start()

    def container(self) -> str:
        return self._compose("ps", "--quiet", self.service).stdout.strip()

    def _replace(self) -> None:
        self._compose(
            "up", "--detach", "--wait", "--wait-timeout", "200", "--no-deps", "--force-recreate", self.service, check=False
        )

    def wait_logged(self, words: str) -> None:
        command = ["docker", "logs", "--follow", self.old]
        with subprocess.Popen(
            command, env=self._compose.engine, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as following:
            assert following.stdout
            assert any(words in line for line in following.stdout), f"{self.service} ended without {words!r}"
            following.terminate()

    def wait_replaced(self) -> None:
        self._thread.join(300)
        assert not self._thread.is_alive()
        assert self.container() not in {"", self.old}


def test_a_rolling_update_loses_no_stream_and_no_request(scaled: tuple[Compose, int]) -> None:
    """Each replica is made anew while streams run and others ask: all streams end whole, all requests are answered."""
    compose, port = scaled
    url = f"http://127.0.0.1:{compose.scale_port}"
    load = Load(url, TOKEN, "quick")
    try:
        for service in ("proxy", "proxy-2"):
            streams = [Asking(url, TOKEN, model="held").wait_begun() for _ in range(6)]
            replacing = Replacing(compose, service)
            replacing.wait_logged("requests in progress have 120 s to end")
            load.wait_for(300)
            assert [each.broken for each in streams] == [""] * 6
            httpx.get(f"http://127.0.0.1:{port}/", trust_env=False)
            assert [each.result().is_whole for each in streams] == [True] * 6
            replacing.wait_replaced()
            load.wait_for(100)
    finally:
        statuses = load.stop()
    assert set(statuses) == {200}


def test_the_grace_period_fits_the_variable(scaled: tuple[Compose, int]) -> None:
    """The engine waits twenty seconds longer than the proxy, whatever PROXY_DRAIN_SECONDS says, and takes every form of it."""
    compose, _ = scaled
    assert compose.inspect()["Config"]["StopTimeout"] == 140
    for value, seconds in (("", "2m20s"), ("0", "20s"), ("0.5", "20.5s"), ("3600", "1h0m20s")):
        command = ["docker", "compose", "config", "--format", "json"]
        environment = compose.engine | {"PROXY_DRAIN_SECONDS": value}
        done = subprocess.run(command, cwd=compose.folder, env=environment, capture_output=True, text=True, check=True)
        assert f'"stop_grace_period": "{seconds}"' in done.stdout
