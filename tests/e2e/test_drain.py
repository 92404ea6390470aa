"""A stop from outside: real processes, real signals, and an upstream that goes on when it is told to."""

import csv
import json
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import upstream as up
from balancer import Balancer
from conftest import by_provider
from load import Asking, Load
from processes import MASTER_KEY, STATIC_TOKEN, Proxy, question
from test_workers import workers_of

HEADERS = {"x-litellm-api-key": STATIC_TOKEN}
STREAM = {"content-type": "text/event-stream"}
CAUGHT = re.compile(r"SigCgt:\s*([0-9a-f]+)")


class Slow:
    """An upstream's streams: each gives its beginning, waits until it is told to go on, and gives the rest."""

    def __init__(self) -> None:
        self.goes_on = threading.Event()
        self.begun = threading.Semaphore(0)
        # The models whose responses wait.
        self.holds = {"claude-sonnet-5", "glm-5"}

    def __call__(self, seen: up.Seen) -> up.Reply:
        if seen.json["model"] not in self.holds:
            return up.anthropic_reply(seen, up.text("at once"))
        if not seen.json.get("stream"):
            self.begun.release()
            self.goes_on.wait(60)
            return up.anthropic_reply(seen, up.text("whole"))
        events = up.sse(*up.events_of(up.message(up.text("from the beginning to the end"), model=seen.json["model"])))
        return up.Reply(headers=STREAM, chunks=self.chunks(events))

    def chunks(self, events: list[bytes]) -> Iterator[bytes]:
        yield from events[:3]
        self.goes_on.wait(60)
        yield from events[3:]


@pytest.fixture
def slow(upstream: up.Upstream) -> Iterator[Slow]:
    running = Slow()
    upstream.answer = by_provider(claude=running, glm=running)
    yield running
    running.goes_on.set()


def refused(client: httpx.Client, path: str, method: str = "GET") -> tuple:
    """Ask for a path, and return what shows that the proxy stops."""
    answer = client.request(method, path, json=question("demo") if method == "POST" else None, headers=HEADERS)
    error = answer.json()["error"]["type"] if method != "HEAD" else "overloaded_error"
    return answer.status_code, error, answer.headers.get("retry-after"), answer.headers.get("connection")


REFUSED = 503, "overloaded_error", "1", "close"


def test_a_stream_outlives_the_signal_and_new_requests_are_refused(start_proxy: Callable[..., Proxy], slow: Slow) -> None:
    """What was under way ends whole, streams and whole responses; meanwhile only the liveliness check is answered with 200."""
    proxy = start_proxy(PROXY_DRAIN_SECONDS="120")
    with httpx.Client(base_url=proxy.url, trust_env=False, timeout=30) as kept:
        assert kept.get("/health/readiness").status_code == 200
        streams = [Asking(proxy.url, model=model).wait_begun() for model in ("claude-sonnet-5", "glm")]
        whole = Asking(proxy.url, stream=False)
        assert slow.begun.acquire(timeout=60)
        proxy.process.send_signal(signal.SIGTERM)
        proxy.logged("3 requests in progress have 120 s to finish")

        assert refused(kept, "/v1/messages", "POST") == REFUSED
        with httpx.Client(base_url=proxy.url, trust_env=False, timeout=30) as new:
            assert refused(new, "/v1/messages", "POST") == REFUSED
            assert refused(new, "/health/readiness") == REFUSED
            assert refused(new, "/", "HEAD") == REFUSED
            assert new.get("/health/liveliness").status_code == 200
            big = new.post("/v1/messages", content=b"x" * 20_000_000, headers=HEADERS)
            assert (big.status_code, big.headers["retry-after"]) == (503, "1")
            balanced = new.get("/v1/models", headers=HEADERS | {"via": "1.1 other, 1.1 claude-proxy-balancer"})
            assert (balanced.status_code, balanced.headers["retry-after"]) == (425, "1")
        assert proxy.process.poll() is None
        slow.goes_on.set()
        assert [each.result().is_whole for each in streams] == [True, True]
        assert whole.result().status == 200
        assert json.loads(whole.content)["content"] == [{"type": "text", "text": "whole"}]
    assert proxy.process.wait(60) in {0, -signal.SIGTERM}
    assert "0 requests were cut off, 3 finished" in proxy.output
    assert sum("status=200" in line for line in proxy.output.splitlines() if "claude_proxy.requests" in line) == 3


def test_a_stop_without_requests_ends_at_once(start_proxy: Callable[..., Proxy]) -> None:
    """A proxy that nobody uses is not kept by its clients' idle connections, and refuses nobody before its end."""
    proxy = start_proxy(PROXY_DRAIN_SECONDS="3600")
    with httpx.Client(base_url=proxy.url, trust_env=False) as kept:
        assert kept.get("/health/liveliness").status_code == 200
        assert proxy.stop() in {0, -signal.SIGTERM}
    assert "no requests in progress" in proxy.output


@contextmanager
def cut_off(proxy: Proxy, slow: Slow) -> Iterator[None]:
    """Have a stream and a whole response under way, and see that what is done then ends them in words."""
    stream, whole = Asking(proxy.url).wait_begun(), Asking(proxy.url, stream=False)
    assert slow.begun.acquire(timeout=60)
    yield
    assert stream.result().broken == ""
    assert stream.last_event["error"]["type"] == "overloaded_error"
    assert (whole.result().status, json.loads(whole.content)["error"]["type"]) == (503, "overloaded_error")
    proxy.process.wait(60)
    assert "2 requests were cut off, 0 finished" in proxy.output
    logged = [line for line in proxy.output.splitlines() if "claude_proxy.requests" in line]
    assert [line.count("error=overloaded_error") for line in logged] == [1, 1]


@pytest.mark.parametrize("through_litellm", [False, True], ids=["lanes", "litellm"])
def test_what_is_over_time_ends_with_an_error(
    start_proxy: Callable[..., Proxy], slow: Slow, monkeypatch: pytest.MonkeyPatch, *, through_litellm: bool
) -> None:
    """When the time is over a stream gets an error event as its last one, and a response that has not begun is a 503."""
    monkeypatch.setattr(Proxy, "through_litellm", through_litellm)
    proxy = start_proxy(PROXY_DRAIN_SECONDS="0.2")
    with cut_off(proxy, slow):
        proxy.process.send_signal(signal.SIGTERM)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_at_once(start_proxy: Callable[..., Proxy], slow: Slow, number: signal.Signals) -> None:
    """Whichever it is, the second signal ends what is under way in the same words, and what was counted is kept."""
    proxy = start_proxy(PROXY_DRAIN_SECONDS="3600")
    poll = threading.Event()
    with cut_off(proxy, slow):
        proxy.process.send_signal(number)
        proxy.logged("2 requests in progress have 3600 s to finish")
        while proxy.process.poll() is None and "were cut off" not in proxy.output:
            proxy.process.send_signal(number)
            poll.wait(0.2)
    table = httpx.get(f"{start_proxy().url}/usage.csv", headers={"x-litellm-api-key": MASTER_KEY}, trust_env=False).text
    rows = [*csv.DictReader(table.splitlines())]
    assert [sum(int(row[column]) for row in rows) for column in ("requests", "errors")] == [2, 2]


def test_workers_drain_and_their_parent_waits(start_proxy: Callable[..., Proxy], slow: Slow) -> None:
    """Each worker lets its requests end, none takes a new one, and a second signal to the parent ends them all."""
    proxy = start_proxy(PROXY_DRAIN_SECONDS="3600", NUM_WORKERS="2")
    wait_started(proxy, 2)
    streams = [Asking(proxy.url).wait_begun() for _ in range(6)]
    proxy.process.send_signal(signal.SIGTERM)
    proxy.logged("stopping: ", times=2)
    with httpx.Client(base_url=proxy.url, trust_env=False, timeout=30) as new:
        assert refused(new, "/v1/messages", "POST") == REFUSED
    assert proxy.process.poll() is None
    slow.goes_on.set()
    assert [each.result().is_whole for each in streams] == [True] * 6
    assert proxy.process.wait(60) == 0


def test_a_second_ctrl_c_ends_all_workers(start_proxy: Callable[..., Proxy], slow: Slow) -> None:
    """A terminal's Ctrl-C reaches parent and workers: one drains, two end it, and each stream says so."""
    proxy = start_proxy(PROXY_DRAIN_SECONDS="3600", NUM_WORKERS="2")
    wait_started(proxy, 2)
    streams = [Asking(proxy.url).wait_begun() for _ in range(3)]
    send_to_group(proxy, signal.SIGINT)
    proxy.logged("stopping: ", times=2)
    assert not any(each.broken for each in streams)
    send_to_group(proxy, signal.SIGINT)
    assert {each.result().last_event["type"] for each in streams} == {"error"}
    assert proxy.process.wait(60) == 0


def wait_started(proxy: Proxy, workers: int) -> None:
    """Wait until so many workers have come to the end of their start, from which on they listen to their parent's SIGQUIT."""
    poll = threading.Event()
    for _ in range(600):
        masks = [CAUGHT.search(Path(f"/proc/{worker}/status").read_text()) for worker in workers_of(proxy)]
        if sum(bool(int(mask[1], 16) >> (signal.SIGQUIT - 1) & 1) for mask in masks if mask) == workers:
            return
        poll.wait(0.1)
    raise AssertionError(f"not all of the {workers} workers have started:\n{proxy.output}")


def send_to_group(proxy: Proxy, number: signal.Signals) -> None:
    os.killpg(proxy.process.pid, number)


def test_a_replica_that_stops_costs_no_client_anything(start_proxy: Callable[..., Proxy], slow: Slow, tmp_path: Path) -> None:
    """Behind the balancer a stop loses neither a stream that ends in time nor a request: another replica takes what comes."""
    replicas = [start_proxy(f"replica{number}", PROXY_DRAIN_SECONDS="120") for number in range(2)]
    balancer = Balancer(tmp_path, [replica.port for replica in replicas])
    try:
        balancer.wait_ready()
        streams = [Asking(balancer.url, model="glm").wait_begun() for _ in range(4)]
        slow.holds.clear()
        load = Load(balancer.url)
        load.wait_for(20)
        replicas[0].process.send_signal(signal.SIGTERM)
        replicas[0].logged("requests in progress have 120 s to finish")
        load.wait_for(300)
        slow.goes_on.set()
        assert [each.result().is_whole for each in streams] == [True] * 4
        assert replicas[0].process.wait(60) in {0, -signal.SIGTERM}
        load.wait_for(100)
        assert set(load.stop()) == {200}
    finally:
        balancer.stop()


def test_with_no_other_replica_the_balancer_says_when_to_come_back(
    start_proxy: Callable[..., Proxy], slow: Slow, tmp_path: Path
) -> None:
    """A client of the balancer reads the proxy's own words and a 503, also when every replica stops."""
    replica = start_proxy(PROXY_DRAIN_SECONDS="120")
    balancer = Balancer(tmp_path, [replica.port, replica.port])
    try:
        balancer.wait_ready()
        stream = Asking(balancer.url).wait_begun()
        replica.process.send_signal(signal.SIGTERM)
        replica.logged("1 requests in progress have")
        with httpx.Client(base_url=balancer.url, trust_env=False, timeout=30) as client:
            answer = client.post("/v1/messages", json=question("demo"), headers=HEADERS)
        assert (answer.status_code, answer.headers.get("retry-after")) == (503, "1")
        assert answer.json()["error"]["type"] == "overloaded_error"
        slow.goes_on.set()
        assert stream.result().is_whole
    finally:
        balancer.stop()
