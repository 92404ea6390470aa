"""Connections of clients that ask for nothing: who does ask is served, in front of the balancer and of the proxy itself."""

import contextlib
import resource
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
import upstream as up
from balancer import Balancer
from conftest import CONFIG, by_provider, proxy_environment
from processes import STATIC_TOKEN, Proxy, question

from claude_proxy.access.failed_logins import FREE_ATTEMPTS
from claude_proxy.server.client_connections import Limits

# More than one address may have at the balancer.
FLOOD = 1200


@pytest.fixture(autouse=True)
def many_files() -> Iterator[None]:
    """Let this process open as many sockets as a test needs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4 * FLOOD
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip("the system allows too few open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Strangers:
    """Sockets of one address, each of which sends the same bytes and then nothing. The server may close some at once."""

    def __init__(self, port: int, count: int, said: bytes = b"", address: str = "127.0.0.1") -> None:
        self.sockets = [socket.socket() for _ in range(count)]
        for one in self.sockets:
            one.settimeout(60)
            one.bind((address, 0))
            with contextlib.suppress(ConnectionError):
                one.connect(("127.0.0.1", port))
                one.sendall(said)

    def wait_closed(self) -> None:
        """Wait until the server has closed every one of them."""
        for one in self.sockets:
            try:
                while one.recv(65536):
                    pass
            except TimeoutError:
                raise
            except OSError:  # it was refused, or reset
                pass

    def is_cut(self, number: int) -> bool:
        """Whether the server has closed this one, with a word or without."""
        one = self.sockets[number]
        one.settimeout(0)
        try:
            one.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        finally:
            one.settimeout(60)
        return True

    def close(self) -> None:
        for one in self.sockets:
            one.close()


def ask(url: str, address: str = "127.0.0.1") -> int:
    """Ask on a new connection from this address of the machine."""
    with httpx.Client(transport=httpx.HTTPTransport(local_address=address), timeout=60) as client:
        return client.get(url).status_code


# --- The balancer ------------------------------------------------------------------------------------------------------------


def served(_: up.Seen) -> up.Reply:
    return up.Reply(body=b"served")


@pytest.fixture(scope="module")
def replicas() -> Iterator[up.Upstream]:
    """Two small servers in the place of the replicas."""
    running = up.Upstream(served)
    yield running
    running.close()


@pytest.fixture(scope="module")
def balancer(replicas: up.Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Balancer]:
    ports = [int(url.rpartition(":")[2]) for url in (replicas.url, replicas.other_url)]
    running = Balancer(tmp_path_factory.mktemp("balancer"), ports)
    yield running.wait_ready()
    running.stop()


@pytest.mark.parametrize(
    "kinds",
    [{"127.0.0.11": b"", "127.0.0.12": b"G"}, {"127.0.0.13": b"GET / HTTP/1.1\r\nx: "}],
    ids=["silent and one byte", "half a head"],
)
def test_strangers_take_no_place_at_the_balancer_from_others(balancer, kinds):
    """An address has a limited number of connections; others are served meanwhile, and silent ones are cut."""
    strangers = [Strangers(balancer.port, FLOOD, said, address) for address, said in kinds.items()]
    try:
        assert ask(balancer.url, "127.0.0.2") == 200
        assert not any(each.is_cut(0) for each in strangers), "the other client had to wait"
        for address, each in zip(kinds, strangers, strict=True):
            each.wait_closed()
            assert ask(balancer.url, address) == 200
    finally:
        for each in strangers:
            each.close()


def test_a_team_behind_one_address_has_room(balancer):
    """Hundreds of connections of one address are served, each of them, while all of them are open."""
    with httpx.Client(trust_env=False, timeout=60, limits=httpx.Limits(max_connections=None)) as client:
        opened = [client.send(client.build_request("GET", balancer.url), stream=True) for _ in range(600)]
        assert {answer.status_code for answer in opened} == {200}
        for answer in opened:
            answer.close()


def test_the_balancer_repeats_a_request_with_its_body(balancer, replicas):
    """A request whose replica closes the connection without a response is repeated at the other one, with all of its body."""

    def answer(seen: up.Seen) -> up.Reply:
        if seen.is_claude and seen.body:
            raise ConnectionAbortedError("made up: this replica is about to end")
        return up.Reply(body=str(len(seen.body)).encode())

    replicas.answer = answer
    try:
        answers = [httpx.post(balancer.url, content=b"x" * 400_000, trust_env=False) for _ in range(4)]
    finally:
        replicas.answer = served
    assert {(answer.status_code, answer.text) for answer in answers} == {(200, "400000")}


# --- The proxy itself --------------------------------------------------------------------------------------------------------

FILES = 128
AUTHENTICATED = {"x-litellm-api-key": STATIC_TOKEN}


class Narrow(Proxy):
    """One that may open few files."""

    files = FILES


@pytest.fixture
def proxy(upstream: up.Upstream, tmp_path) -> Iterator[Proxy]:
    running = Narrow(tmp_path / "proxy", CONFIG.format(url=upstream.other_url), **proxy_environment(upstream))
    running.wait_ready()
    assert resource.prlimit(running.process.pid, resource.RLIMIT_NOFILE)[1] == FILES
    yield running
    running.stop()


class Streams:
    """Streams that have begun and that end when they are told to."""

    def __init__(self, proxy: Proxy, upstream: up.Upstream, count: int) -> None:
        self._url = proxy.url
        self._end = threading.Event()
        upstream.answer = by_provider(glm=self._held)
        self._begun = threading.Semaphore(0)
        self._threads = ThreadPoolExecutor(count)
        self._texts = [self._threads.submit(self._read) for _ in range(count)]
        for _ in range(count):
            assert self._begun.acquire(timeout=60), "a stream did not begin"

    def _held(self, seen: up.Seen) -> up.Reply:
        first, *others = up.sse(*up.events_of(up.message(up.text("from glm"), model=seen.json["model"])))

        def chunks() -> Iterator[bytes]:
            yield first
            self._end.wait(120)
            yield from others

        return up.Reply(headers={"content-type": "text/event-stream"}, chunks=chunks())

    def _read(self) -> str:
        body = question("glm", stream=True)
        with (
            httpx.Client(trust_env=False, timeout=120) as client,
            client.stream("POST", f"{self._url}/v1/messages", json=body, headers=AUTHENTICATED) as answer,
        ):
            parts = answer.iter_text()
            text = next(parts)
            self._begun.release()
            return text + "".join(parts)

    def end(self) -> list[str]:
        """Let them end, and return what each of them was."""
        self._end.set()
        self._threads.shutdown()
        return [text.result() for text in self._texts]


@pytest.mark.parametrize("said", [b"", b"G"], ids=["silent", "one byte"])
def test_strangers_beyond_the_file_limit_take_no_place_from_others(proxy, upstream, said):
    """More connections than the proxy may open files, and streams go on, new clients are served, and nobody waits."""
    streams = Streams(proxy, upstream, 10)
    strangers = Strangers(proxy.port, 3 * FILES, said)
    try:
        for _ in range(5):
            assert httpx.get(f"{proxy.url}/v1/models", headers=AUTHENTICATED, trust_env=False).status_code == 200
        assert not strangers.is_cut(-1), "the other clients had to wait"
        texts = streams.end()
        assert [text.count("event: message_stop") for text in texts] == [1] * 10
    finally:
        strangers.close()
    assert proxy.ask(question("glm")).status_code == 200
    proxy.logged("closing idle client connections to make room")


def test_requests_beyond_the_file_limit_are_refused_one_by_one(proxy, upstream):
    """Where each request has its connection and there are too many, one more gets a 503 that says when to repeat it."""
    streams = Streams(proxy, upstream, Limits.of_files(FILES).requests)
    for _ in range(3):
        refused = proxy.ask(question("glm", "x" * 300_000))
        assert (refused.status_code, refused.json()["error"]["type"]) == (503, "overloaded_error")
        assert int(refused.headers["retry-after"]) > 0
    texts = streams.end()
    assert [text.count("event: message_stop") for text in texts] == [1] * len(texts)
    assert proxy.ask(question("glm", stream=True)).status_code == 200
    assert len(proxy.logged("refusing requests with HTTP 503")) == 1


def test_a_flood_of_wrong_tokens(own_pooled):
    """Wrong tokens are refused, each at once or after a bounded wait; the log has one line, and a right token is served."""
    with ThreadPoolExecutor(60) as threads:
        refused = [threads.submit(own_pooled.ask, question("glm"), token=f"sk-made-up-{number}") for number in range(60)]
        assert {own_pooled.ask(question("glm")).status_code for _ in range(5)} == {200}
        answers = [each.result() for each in refused]
    statuses = [answer.status_code for answer in answers]
    assert set(statuses) == {401, 429}
    assert statuses.count(401) >= FREE_ATTEMPTS
    assert all("retry-after" in answer.headers for answer in answers if answer.status_code == 429)
    assert len(own_pooled.logged("refused POST '/v1/messages' from 127.0.0.1: HTTP 401")) == 1
