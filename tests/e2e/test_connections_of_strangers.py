"""Connections of clients that ask for nothing: who does ask is served, in front of the balancer and of the proxy itself."""

import contextlib
import resource
import socket
from collections.abc import Iterator

import httpx
import pytest
import upstream as up
from balancer import Balancer

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
    ("address", "said"),
    [("127.0.0.11", b""), ("127.0.0.12", b"G"), ("127.0.0.13", b"GET / HTTP/1.1\r\nx: ")],
    ids=["silent", "one byte", "half a head"],
)
def test_strangers_take_no_place_at_the_balancer_from_others(balancer, address, said):
    """An address has a limited number of connections; others are served meanwhile, and silent ones are cut."""
    strangers = Strangers(balancer.port, FLOOD, said, address)
    try:
        assert ask(balancer.url, "127.0.0.2") == 200
        assert not strangers.is_cut(0), "the other client had to wait"
        strangers.wait_closed()
        assert ask(balancer.url, address) == 200
    finally:
        strangers.close()


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
