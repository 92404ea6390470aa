"""Several workers and several replicas with a real Redis, behind the load balancer's own configuration."""

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import upstream as up
from balancer import Balancer
from conftest import CONFIG, TOKENS, by_credential, proxy_environment
from load import Load
from processes import MASTER_KEY, Proxy, free_port, new_question


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
    """The process ids of a proxy's workers: the children that serve, not Python's resource tracker; forked ones by a name."""
    children = Path(f"/proc/{proxy.process.pid}/task/{proxy.process.pid}/children").read_text().split()
    return [
        int(child)
        for child in children
        if any("spawn_main" in Path(f"/proc/{child}/{file}").read_text() for file in ("cmdline", "comm"))
    ]


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


def test_every_replica_lists_the_requests_of_all(replicas, upstream):
    """Each worker of each replica lists the same requests, also after Redis was replaced."""
    for number in range(6):
        assert replicas[number % 2].ask(new_question(f"claude-listed-{number}")).status_code == 200

    def listed(proxy: Proxy) -> list[str]:
        headers = {"x-litellm-api-key": MASTER_KEY}
        answer = httpx.get(f"{proxy.url}/pool/requests?q=claude-listed", headers=headers, trust_env=False).json()
        return [one["requested"] for one in answer["requests"]]

    expected = [f"claude-listed-{number}" for number in reversed(range(6))]
    poll = threading.Event()
    for _ in range(200):
        found = [listed(proxy) for proxy in replicas for _ in range(4)]
        if all(names == expected for names in found):
            return
        poll.wait(0.1)
    raise AssertionError(found)


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
            assert again.ask(new_question("claude-sonnet-5")).status_code == 200
        assert asked == known
    finally:
        again.stop()
