"""server/client_connections.py: how many connections of clients a process keeps, and which one is closed to make room."""

import pytest

from claude_proxy.server.client_connections import LOG_SECONDS, ClientConnections, Limits
from claude_proxy.server.options import MANY_FILES


class Server:
    """A server's set of open connections, each a word, beside what counts them."""

    def __init__(self, connections=4, requests=2):
        self.open = set()
        self.clients = ClientConnections(Limits(connections, requests), self.open)

    def accepts(self, *names, unsent=()):
        """Return what is closed to make room for these."""
        closed = []
        for name in names:
            self.open.add(name)
            self.clients.is_idle(name)
            if victim := self.clients.to_close(name, lambda one: one not in unsent):
                self.open.discard(victim)
                closed.append(victim)
        return closed


@pytest.mark.parametrize("files", [16, 64, 128, 256, 1024, 4096, MANY_FILES])
def test_the_files_are_enough(files):
    """Clients, one upstream connection for each request, and files of the proxy's own stay below the limit of open files."""
    limits = Limits.of_files(files)
    assert 1 <= limits.requests < limits.connections
    own = files - limits.connections - limits.requests
    assert own >= min(48, files // 4 - 8)
    assert limits.connections + limits.requests >= files // 4


def test_a_process_has_limits(monkeypatch):
    """Where the system has no limit of open files, or a very high one, the proxy's own applies."""
    found = set()
    for soft in (-1, MANY_FILES, 10 * MANY_FILES):
        monkeypatch.setattr("resource.getrlimit", lambda _, soft=soft: (soft, -1))
        found.add(Limits.of_process())
    assert found == {Limits.of_files(MANY_FILES)}


def test_the_longest_idle_connection_makes_room():
    """A new connection closes the one that has been idle longest, and none while there is room."""
    server = Server()
    assert server.accepts("a", "b", "c", "d") == []
    server.clients.is_idle("a")
    assert server.accepts("e", "f") == ["b", "c"]
    assert server.open == {"a", "d", "e", "f"}


def test_a_request_under_way_is_never_closed():
    """Connections with a request stay, however long theirs takes; with its end a connection is as idle as any other."""
    server = Server()
    server.accepts("a", "b", "c")
    assert server.clients.admits_request("a")
    assert server.clients.admits_request("b")
    assert server.accepts("d", "e", "f") == ["c", "d"]
    server.clients.is_idle("a")
    assert server.accepts("g", "h", "i") == ["e", "f", "a"]
    assert "b" in server.open


def test_a_response_on_its_way_is_the_last_choice():
    """A connection whose client has not yet taken all of a response is closed only where no other one is idle."""
    server = Server()
    server.accepts("a", "b", "c", "d")
    assert server.accepts("e", unsent={"a", "b"}) == ["c"]
    assert server.accepts("f", unsent={"a", "b", "d", "e"}) == ["a"]


def test_too_many_requests_are_refused():
    """Beyond the limit a request is refused until another one ends; a connection that has one may send its next."""
    server = Server()
    server.accepts("a", "b", "c")
    assert [server.clients.admits_request(name) for name in "abc"] == [True, True, False]
    assert server.clients.admits_request("a")
    server.clients.is_idle("b")
    assert server.clients.admits_request("c")


def test_what_is_gone_is_forgotten():
    """A connection that has ended is not the one to be closed."""
    server = Server()
    server.accepts("a", "b", "c", "d")
    server.open.discard("a")
    server.clients.is_gone("a")
    assert server.accepts("e", "f") == ["b"]


def test_the_log_has_a_line_a_minute():
    """A limit that is reached again and again is logged once a minute, each limit for itself."""
    clients = Server().clients
    assert [clients.should_log("a", now) for now in (0.0, 1.0, LOG_SECONDS, LOG_SECONDS + 1)] == [True, False, True, False]
    assert clients.should_log("b", 2.0)
