"""Several workers and several replicas with a real Redis, behind the load balancer's own configuration."""

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import upstream as up
from balancer import Balancer
from conftest import CONFIG, TOKENS, by_credential, proxy_environment
from processes import STATIC_TOKEN, Proxy, free_port, question

CLIENTS = 6


class RedisServer:
    """A Redis of the test's own, which can be ended and started again at the same port."""

    def __init__(self) -> None:
        if shutil.which("redis-server") is None:
            pytest.skip("redis-server is not installed")
        self.port = free_port()
        self.start()

    def start(self) -> None:
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class Load:
    """Clients that ask one after the other until they are told to stop; every answer is kept, with the time of its asking."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.answers: list[tuple[float, int | str]] = []
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(CLIENTS)
        self._done = [self._pool.submit(self._client, number) for number in range(CLIENTS)]

    def _client(self, number: int) -> None:
        headers = {"x-litellm-api-key": STATIC_TOKEN, "content-type": "application/json"}
        with httpx.Client(trust_env=False, timeout=60) as client:
            for turn in range(2000):
                if self._stop.is_set():
                    return
                asked = time.monotonic()
                session = {"x-claude-code-session-id": f"session-{number}-{turn // 7}"} if number % 2 else {}
                body = question("claude-sonnet-5", stream=turn % 2 == 0)
                begun = False
                try:
                    with client.stream("POST", f"{self.url}/v1/messages", json=body, headers=headers | session) as answer:
                        begun = True
                        answer.read()
                        self.answers.append((asked, answer.status_code))
                except httpx.TransportError as error:
                    self.answers.append((asked, "cut off in its stream" if begun else repr(error)))

    def wait_for(self, more: int) -> None:
        """Wait until so many more requests have been answered."""
        poll, target = threading.Event(), len(self.answers) + more
        for _ in range(1200):
            if len(self.answers) >= target:
                return
            poll.wait(0.1)
        raise AssertionError(f"only {len(self.answers)} answers")

    def stop(self) -> list[int | str]:
        self._stop.set()
        self._pool.shutdown()
        for done in self._done:
            done.result()
        return [status for _, status in self.answers]


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    server = RedisServer()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def replicas(
    shared_upstream: up.Upstream, redis: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Proxy]]:
    """Two replicas of two workers each."""
    environment = proxy_environment(shared_upstream) | {"NUM_WORKERS": "2", "REDIS_URL": f"redis://127.0.0.1:{redis.port}/0"}
    config = CONFIG.format(url=shared_upstream.other_url)
    running = [Proxy(tmp_path_factory.mktemp("replica"), config, **environment) for _ in range(2)]
    yield [proxy.wait_ready() for proxy in running]
    for proxy in running:
        proxy.stop()


@pytest.fixture(scope="module")
def balancer(replicas: list[Proxy], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Balancer]:
    running = Balancer(tmp_path_factory.mktemp("balancer"), [replica.port for replica in replicas])
    running.wait_ready()
    yield running
    running.stop()


def workers_of(proxy: Proxy) -> list[int]:
    """The process ids of a proxy's workers: the children that serve, not Python's resource tracker."""
    children = Path(f"/proc/{proxy.process.pid}/task/{proxy.process.pid}/children").read_text().split()
    return [int(child) for child in children if "spawn_main" in Path(f"/proc/{child}/cmdline").read_text()]


def test_a_rest_noted_by_one_worker_holds_in_all(balancer, replicas, upstream):
    """When a credential turns to 429 no client sees it, and a second later no worker of no replica asks it any more."""
    assert [len(workers_of(proxy)) for proxy in replicas] == [2, 2]
    asked: list[float] = []

    def limited(_: up.Seen) -> up.Reply:
        asked.append(time.monotonic())
        return up.anthropic_error(429, "rate_limit_error", "limit", retry_after="900")

    upstream.answer = by_credential()
    load = Load(balancer.url)
    load.wait_for(60)
    assert {seen.credential for seen in upstream.seen} == set(TOKENS.values())
    upstream.answer = by_credential(a=limited)
    load.wait_for(150)
    first = asked[0]
    poll = threading.Event()
    while time.monotonic() < first + 1:
        poll.wait(0.1)
    known = len(asked)
    load.wait_for(150)
    statuses = load.stop()
    assert set(statuses) == {200}
    assert [moment - first for moment in asked[known:]] == []


def test_killed_workers_and_a_killed_redis_lose_no_request(balancer, replicas, redis, upstream):
    """After kill -9 of a worker and of Redis every request that had not begun to stream is answered, and both come back."""
    upstream.answer = by_credential()
    load = Load(balancer.url)
    load.wait_for(40)
    for proxy in replicas:
        os.kill(workers_of(proxy)[0], signal.SIGKILL)
        load.wait_for(80)
    redis.kill()
    load.wait_for(80)
    redis.start()
    load.wait_for(80)
    statuses = load.stop()
    assert {status for status in statuses if status != 200} <= {"cut off in its stream"}
    assert sum(status == 200 for status in statuses) > 300
    assert any("Redis is not available" in proxy.output for proxy in replicas)


def test_the_workers_of_one_machine_share_a_file(shared_upstream, upstream, tmp_path):
    """With no Redis, four workers share what they know through the state file, and a restart finds it there."""
    asked = 0

    def limited(_: up.Seen) -> up.Reply:
        nonlocal asked
        asked += 1
        return up.anthropic_error(429, "rate_limit_error", "limit", retry_after="900")

    environment = proxy_environment(shared_upstream) | {"NUM_WORKERS": "4"}
    config = CONFIG.format(url=shared_upstream.other_url)
    proxy = Proxy(tmp_path / "proxy", config, **environment)
    try:
        proxy.wait_ready()
        upstream.answer = by_credential(b=limited)
        load = Load(proxy.url)
        load.wait_for(150)
        known = asked
        load.wait_for(150)
        assert set(load.stop()) == {200}
        assert known >= 1
        assert asked == known
    finally:
        proxy.stop()
    again = Proxy(tmp_path / "proxy", None, **(environment | {"NUM_WORKERS": "1"}))
    try:
        again.wait_ready()
        for _ in range(6):
            assert again.ask(question("claude-sonnet-5")).status_code == 200
        assert asked == known
    finally:
        again.stop()
