"""litellm/database.py: the preparations of a proxy with a database."""

import os
import socket
import sys

import pytest

from claude_proxy.config.settings import SettingsError
from claude_proxy.litellm import database


@pytest.fixture
def path(monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])


def test_prisma_s_client_is_needed(path, tmp_path):
    """Without Prisma's client the start ends with a message that says how to install it."""
    with pytest.raises(SettingsError) as caught:
        database.prepare({database.CLIENT: str(tmp_path)})
    assert "make database" in str(caught.value)


def test_a_client_that_was_not_generated_is_none(path, tmp_path):
    """Prisma's package without a generated client is not enough."""
    (tmp_path / "prisma").mkdir()
    (tmp_path / "prisma" / "__init__.py").touch()
    sys.path.append(str(tmp_path))
    assert not database.is_generated()
    (tmp_path / "prisma" / "client.py").touch()
    assert database.is_generated()


def test_a_client_in_a_folder_is_found_by_the_workers(path, tmp_path):
    """The folder's client and engine are used by this process and its children; a configured engine has priority."""
    (tmp_path / "prisma").mkdir()
    for name in ("prisma/__init__.py", "prisma/client.py", "query-engine"):
        (tmp_path / name).touch()
    environ = {database.CLIENT: str(tmp_path), "PYTHONPATH": "/before", "DISABLE_SCHEMA_UPDATE": "true"}
    database.prepare(environ)
    assert environ["PYTHONPATH"] == os.pathsep.join(("/before", str(tmp_path)))
    assert environ["PRISMA_QUERY_ENGINE_BINARY"] == str(tmp_path / "query-engine")
    named = {**environ, "PRISMA_QUERY_ENGINE_BINARY": "/own"}
    database.prepare(named)
    assert named["PRISMA_QUERY_ENGINE_BINARY"] == "/own"


def test_a_dead_database_stops_a_start(tmp_path):
    """A database that accepts no connection is named with the cause and the remedy; its password is not in the error."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    found = database.connection_problem(f"postgresql://litellm:made-up@127.0.0.1:{port}/litellm")
    assert found == f"no database accepts connections at 127.0.0.1:{port} (Connection refused)"
    found = database.connection_problem(database.socket_url(tmp_path))
    assert found == f"no database accepts connections at the socket in {tmp_path} (No such file or directory)"


def test_a_database_that_accepts_connections(tmp_path):
    """By an address or by a socket, a database that accepts a connection is no problem; nothing is sent to it."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / database.SOCKET))
        server.listen()
        assert database.connection_problem(database.socket_url(tmp_path)) == ""
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert database.connection_problem(f"postgresql://u@127.0.0.1:{server.getsockname()[1]}/d") == ""


def test_a_socket_is_a_database(tmp_path):
    """A folder with PostgreSQL's socket is a database, with a URL without a password."""
    assert not database.listens(tmp_path)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / database.SOCKET))
        server.listen()
        assert database.listens(tmp_path)
    assert not database.listens(tmp_path), "nobody answers at what is left of it"
    assert database.socket_url(tmp_path) == f"postgresql://litellm@localhost/litellm?host={tmp_path}"


def test_a_database_that_was_there_is_waited_for(tmp_path):
    """A proxy with Prisma's client waits for its database at the start; a proxy without it does not wait."""
    slept = []
    assert not database.comes_up(tmp_path, str(tmp_path / "none"), 5, slept.append)
    assert slept == []
    (tmp_path / "prisma").mkdir()
    assert not database.comes_up(tmp_path, str(tmp_path), 5, slept.append)
    assert len(slept) == 5
    with socket.socket(socket.AF_UNIX) as server:
        assert database.comes_up(tmp_path, str(tmp_path), 5, lambda _: appear(server, tmp_path))


def appear(server, folder):
    server.bind(str(folder / database.SOCKET))
    server.listen()


def test_the_schema_asks_for_one_engine():
    """LiteLLM's schema for Prisma names five platforms, and each would be downloaded; this one names none."""
    schema = database.schema()
    assert "model LiteLLM_VerificationToken {" in schema
    assert "binaryTargets" not in schema
