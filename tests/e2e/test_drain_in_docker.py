"""The profile ``scale`` on a real engine: a rolling update with the commands of docs/deploy.md, under load, and a death."""

import json
import subprocess
import threading
from collections.abc import Iterator

import httpx
import pytest
from compose import PATIENCE, Compose, engine_environment, free_port, have_image
from load import Asking, Load
from processes import question

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def scaled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Compose, int]]:
    """Two replicas behind their balancer, and the port of their upstream."""
    engine = engine_environment()
    have_image(engine, "redis:7-alpine")
    compose, port = Compose(tmp_path_factory.mktemp("rolling"), engine, profiles=("scale",)), free_port()
    compose.add_upstream("held", "quick", port=port)
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
        patient = ("--wait", "--wait-timeout", str(PATIENCE))
        self._compose("up", "--detach", *patient, "--no-deps", "--force-recreate", self.service, check=False)

    def wait_logged(self, words: str) -> None:
        command = ["docker", "logs", "--follow", self.old]
        with subprocess.Popen(
            command, env=self._compose.engine, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as following:
            assert following.stdout
            assert any(words in line for line in following.stdout), f"{self.service} ended without {words!r}"
            following.terminate()

    def wait_replaced(self) -> None:
        self._thread.join(2 * PATIENCE)
        assert not self._thread.is_alive()
        assert self.container() not in {"", self.old}


def test_a_rolling_update_loses_no_stream_and_no_request(scaled: tuple[Compose, int]) -> None:
    """Each replica is made anew while streams run and others ask: all streams end whole, all requests are answered.

    The new containers have the token that the first ones generated: it lasts until somebody sets another one.
    """
    compose, port = scaled
    url, token = f"http://127.0.0.1:{compose.scale_port}", compose.token
    load = Load(url, token, "quick", pause=0.1)
    try:
        for service in ("proxy", "proxy-2"):
            streams = [Asking(url, token, model="held").wait_begun() for _ in range(6)]
            replacing = Replacing(compose, service)
            replacing.wait_logged("requests in progress have 120 s to finish")
            load.wait_for(300)
            assert [each.broken for each in streams] == [""] * 6
            httpx.get(f"http://127.0.0.1:{port}/", trust_env=False)
            assert [each.result().is_whole for each in streams] == [True] * 6
            replacing.wait_replaced()
            load.wait_for(100)
            block = json.loads(compose("exec", "-T", service, "claude-proxy", "settings").stdout)["env"]
            assert block["ANTHROPIC_AUTH_TOKEN"] == token
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


def test_two_replicas_share_a_redis_behind_a_balancer(scaled: tuple[Compose, int]) -> None:
    """Both have the one token that was made, and one Redis; one of them may die without a lost request."""
    compose, _ = scaled
    url, token = f"http://127.0.0.1:{compose.scale_port}", compose.token
    second = json.loads(compose("exec", "-T", "proxy-2", "claude-proxy", "settings").stdout)
    assert second["env"]["ANTHROPIC_AUTH_TOKEN"] == token
    assert [one["env"]["ANTHROPIC_BASE_URL"] for one in (compose.settings(), second)] == [url, url]
    with httpx.Client(base_url=url, headers={"authorization": f"Bearer {token}"}, trust_env=False, timeout=60) as client:

        def ask() -> int:
            return client.post("/v1/messages", json=question("demo")).status_code

        assert {ask() for _ in range(8)} == {200}
        assert "claude-proxy:" in compose("exec", "-T", "redis", "redis-cli", "--scan").stdout
        compose("kill", "proxy-2")
        assert {ask() for _ in range(8)} == {200}
    # On a full machine a response of Redis may take longer than its time limit, once; then it is back.
    logs = compose.logs()
    assert logs.count("Redis is not available") == logs.count("Redis is back")
