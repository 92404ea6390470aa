"""The history of a real proxy: it survives the end of its processes, and replicas and the version before share it."""

import json
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
import upstream as up
from conftest import CONFIG, proxy_environment
from processes import MASTER_KEY, Proxy, new_question
from test_workers import RedisServer, redis

__all__ = ["redis"]  # a fixture

DAY = 86400.0
# What may be missing after a kill: the second that is not written yet, with what a busy machine adds.
LOST_SECONDS = 3.0
OLD_PAGE = [
    [["taken", "Dora", "claude-opus-4-8", "anthropic/claude-opus-4-8", "a"], [7, 1, 10, 20, 30, 40, 0]],
    [["total", "claude-opus-4-8"], [0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 44.5]],
    [["spent"], [[0, 2_500_000, 0]]],
]


def started(home: Any, upstream: up.Upstream, *, config: bool = True, **more: str) -> Proxy:
    text = CONFIG.format(url=upstream.other_url) if config else None
    users = "anna=sk-made-up-token-of-anna-0123456789"
    return Proxy(home, text, **(proxy_environment(upstream) | {"PROXY_USER_TOKENS": users} | more))


def history(proxy: Proxy, token: str = MASTER_KEY, **parameters: str) -> dict[str, Any]:
    headers = {"x-litellm-api-key": token}
    response = httpx.get(f"{proxy.url}/pool/history", params=parameters, headers=headers, trust_env=False)
    return response.raise_for_status().json()


def requests(proxy: Proxy, **parameters: str) -> dict[str, int]:
    """The number of requests of each user."""
    found = history(proxy, **({"range": "7d", "by": "user", "step": "day"} | parameters))
    assert sum(row["requests"] for row in found["rows"]) == found["total"]["requests"]
    return {row["name"]: row["requests"] for row in found["rows"]}


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds."""
    poll = threading.Event()
    for _ in range(300):
        if condition():
            return
        poll.wait(0.1)
    raise AssertionError("the condition does not come true")


def kill(proxy: Proxy) -> None:
    os.killpg(proxy.process.pid, signal.SIGKILL)
    proxy.process.wait(30)


def test_a_killed_proxy_loses_its_last_second_at_most(shared_upstream, upstream, tmp_path):
    """After a kill -9 of all workers under load, every request that ended a few seconds before is in the history."""
    proxy = started(tmp_path / "proxy", shared_upstream, NUM_WORKERS="2").wait_ready()
    ended: list[float] = []
    begun = time.monotonic()
    while len(ended) < 50 or ended[-1] < begun + 2 * LOST_SECONDS:
        assert proxy.ask(new_question("claude-sonnet-5")).status_code == 200
        ended.append(time.monotonic())
    killed = time.monotonic()
    kill(proxy)
    again = started(tmp_path / "proxy", shared_upstream, config=False, NUM_WORKERS="2").wait_ready()
    try:
        found = requests(again)["static"]
        assert sum(at < killed - LOST_SECONDS for at in ended) <= found <= len(ended)
        path = tmp_path / "proxy" / ".state" / "history.sqlite"
        assert path.stat().st_mode & 0o777 == 0o600
        assert again.ask(new_question("claude-sonnet-5")).status_code == 200
        wait_for(lambda: requests(again)["static"] == found + 1)
    finally:
        again.stop()


def test_a_user_sees_their_own_usage_of_all_workers(shared_upstream, upstream, tmp_path):
    """Workers share one history; a stop writes everything, and a user with a token finds their own part of it."""
    proxy = started(tmp_path / "proxy", shared_upstream, NUM_WORKERS="2").wait_ready()
    token = "sk-made-up-token-of-anna-0123456789"
    try:
        for _ in range(10):
            proxy.ask(new_question("claude-sonnet-5"))
            proxy.ask(new_question("claude-sonnet-5"), token=token)
        wait_for(lambda: requests(proxy) == {"static": 10, "anna": 10})
        own = history(proxy, token, by="user")
        assert ([row["name"] for row in own["rows"]], own["total"]["requests"]) == (["anna"], 10)
        assert "static" not in json.dumps(own)
    finally:
        proxy.stop()
    again = started(tmp_path / "proxy", shared_upstream, config=False).wait_ready()
    try:
        assert requests(again) == {"static": 10, "anna": 10}
    finally:
        again.stop()


def test_the_usage_of_version_0_1_0_is_taken_over_once(shared_upstream, upstream, tmp_path):
    """A state file of 0.1.0 with its days and months is counted once, however often the proxy starts, by all its workers."""
    (tmp_path / "proxy" / ".state").mkdir(parents=True)
    old_state_file(tmp_path / "proxy" / ".state" / "pool.sqlite3")
    for start in range(2):
        proxy = started(tmp_path / "proxy", shared_upstream, config=start == 0, NUM_WORKERS="2").wait_ready()
        try:
            proxy.ask(new_question("claude-sonnet-5"))
            wait_for(lambda proxy=proxy, start=start: requests(proxy) == {"dora": 14, "static": start + 1})
            months = history(proxy, range="365d", step="month", user="dora")["total"]
            assert (months["requests"], months["errors"], months["usd"], months["cache_read"]) == (21, 3, 7.5, 90)
            text = httpx.get(f"{proxy.url}/metrics", headers={"x-litellm-api-key": MASTER_KEY}, trust_env=False).text
            assert 'claude_proxy_requests_total{credential="a",model="claude-opus-4-8"' in text
            assert 'claude_proxy_request_seconds_sum{model="claude-opus-4-8"} 133.5' in text
        finally:
            proxy.stop()


def old_state_file(path: Any) -> None:
    """Make a state file as version 0.1.0 leaves it: two days of two processes, and a month."""
    now = time.time()
    days = [datetime.fromtimestamp(now - back * DAY, UTC).date().isoformat() for back in (2, 3, 120)]
    value = json.dumps(OLD_PAGE).encode()
    rows = [(f"usage:{days[0]}:aa", now), (f"usage:{days[1]}:bb", now), (f"month:{days[2][:7]}", now - 100 * DAY)]
    with sqlite3.connect(path) as connection:
        connection.execute(
            "CREATE TABLE rows "
            "(key BLOB PRIMARY KEY, stamp REAL NOT NULL, value BLOB NOT NULL, seq INTEGER NOT NULL) WITHOUT ROWID"
        )
        connection.execute("CREATE INDEX rows_by_seq ON rows (seq)")
        connection.execute("CREATE TABLE counter (generation INTEGER NOT NULL, seq INTEGER NOT NULL)")
        connection.execute("INSERT INTO counter VALUES (12345, ?)", (len(rows),))
        for number, (key, stamp) in enumerate(rows, 1):
            connection.execute("INSERT INTO rows VALUES (?, ?, ?, ?)", (key.encode(), stamp, value, number))
        connection.execute(f"PRAGMA user_version = {0x434C5001}")
    connection.close()
    path.chmod(0o600)


@pytest.fixture
def replicas(shared_upstream: up.Upstream, redis: RedisServer, tmp_path: Any) -> Iterator[list[Proxy]]:
    """Two replicas of two workers, without a file for the history in common."""
    more = {"NUM_WORKERS": "2", "REDIS_URL": f"redis://127.0.0.1:{redis.port}/0"}
    running = [started(tmp_path / f"replica-{number}", shared_upstream, **more) for number in range(2)]
    yield [proxy.wait_ready() for proxy in running]
    for proxy in running:
        if proxy.process.poll() is None:
            proxy.stop()


def test_replicas_share_their_history(replicas, redis, shared_upstream, upstream, tmp_path):
    """Each replica shows the requests of both; what a killed one has counted stays, and a Redis that lost all gets it again."""
    first, second = replicas
    for _ in range(5):
        first.ask(new_question("claude-sonnet-5"))
        second.ask(new_question("claude-sonnet-5"))
    for proxy in replicas:
        wait_for(lambda proxy=proxy: requests(proxy) == {"static": 10})
    kill(second)
    redis.kill()
    redis.start()
    first.ask(new_question("claude-sonnet-5"))
    wait_for(lambda: requests(first) == {"static": 11})
    more = {"NUM_WORKERS": "2", "REDIS_URL": f"redis://127.0.0.1:{redis.port}/0"}
    third = started(tmp_path / "replica-2", shared_upstream, **more).wait_ready()
    try:
        wait_for(lambda: requests(third) == {"static": 11})
    finally:
        third.stop()
