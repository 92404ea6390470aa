"""cli/serve_command.py: what is said at a start, and with what the server is started."""

import os
import socket
import subprocess
import sys

import pytest
from command_line import stopped

from claude_proxy.cli import main, serve_command
from claude_proxy.cli import project as project_folder
from claude_proxy.config.settings import Settings


def test_serve(project, started, capsys):
    """A fresh clone starts on its address, with the config that was made and the master key in the environment."""
    main.main(["--project", str(project), "serve"])
    ((app, options, environ),) = started
    assert app == "claude_proxy.litellm.app:app"
    assert (options["host"], options["port"]) == ("127.0.0.1", int(environ["PORT"]))
    assert environ["CONFIG_FILE_PATH"] == str(project / "config.yaml")
    values = project_folder.known_values(project / ".env")
    assert environ["LITELLM_MASTER_KEY"] == values["LITELLM_MASTER_KEY"]
    out = capsys.readouterr().out
    assert values["PROXY_STATIC_TOKEN"] not in out
    assert values["LITELLM_MASTER_KEY"] not in out


@pytest.mark.parametrize(
    ("host", "says"),
    [
        ("127.0.0.1", "PORT: {port} is in use: stop the program that uses it (an earlier start of this proxy?), or set PORT"),
        ("localhost", "PORT: {port} is in use: stop the program that uses it (an earlier start of this proxy?), or set PORT"),
        ("0.0.0.0", "PORT: {port} is in use: stop the program that uses it (an earlier start of this proxy?), or set PORT"),
        ("192.0.2.1", "HOST: 192.0.2.1 is not an address of this machine"),
        ("no such host", "HOST: no such host is not known here"),
    ],
)
def test_an_address_where_nothing_can_listen(project, host, says, capsys, started):
    """A port that another program has, and a host that is not this machine, stop the start with a sentence and no banner."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        os.environ |= {"HOST": host, "PORT": str(port)}
        (mistake,) = stopped(capsys, "--project", str(project), "serve")
    assert mistake.startswith(says.format(port=port))
    assert started == []


@pytest.mark.parametrize(
    ("with_data", "given", "expected"),
    [(False, None, ".state/pool.sqlite3"), (True, None, "pool.sqlite3"), (False, "none", None), (True, "/x/y", None)],
    ids=["project", "data", "none", "named"],
)
def test_where_the_pools_state_is(project, data, started, with_data, given, expected):
    """What the pool knows lies in the project or in the writable folder, unless the operator names another place."""
    if given:
        os.environ["CLAUDE_POOL_STATE_FILE"] = given
    main.main(["--project", str(project), *(["--data", str(data)] if with_data else []), "serve"])
    ((_, _, environ),) = started
    assert environ["CLAUDE_POOL_STATE_FILE"] == (str((data if with_data else project) / expected) if expected else given)


def test_the_number_of_workers(project, started):
    """``NUM_WORKERS`` is how many processes serve, and one by default."""
    for number in (None, "3"):
        if number:
            os.environ["NUM_WORKERS"] = number
        main.main(["--project", str(project), "serve"])
    assert [options["workers"] for _, options, _ in started] == [1, 3]


def test_the_pools_redis_is_not_litellms(project, started):
    """``REDIS_URL`` reaches the proxy under a name that LiteLLM does not know, and its workers read it again."""
    os.environ["REDIS_URL"] = "redis://:made-up@localhost"
    main.main(["--project", str(project), "serve"])
    ((_, _, environ),) = started
    assert "REDIS_URL" not in environ
    assert Settings.parse(environ).redis_url.reveal() == "redis://:made-up@localhost"


def test_dockers_database_counts_while_it_answers(project, started, tmp_path, monkeypatch):
    """The PostgreSQL of Docker's profile is used when it is there; one that DATABASE_URL names is used in its place."""
    monkeypatch.setattr(project_folder.database, "prepare", lambda environ: None)
    os.environ[project_folder.PEER_DATABASE] = str(tmp_path)
    main.main(["--project", str(project), "serve"])
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / project_folder.database.SOCKET))
        server.listen()
        main.main(["--project", str(project), "serve"])
        os.environ["DATABASE_URL"] = "postgresql://:made-up@database.example"
        main.main(["--project", str(project), "serve"])
    addresses = [environ.get("DATABASE_URL") for _, _, environ in started]
    assert addresses == [
        None,
        f"postgresql://litellm@localhost/litellm?host={tmp_path}",
        "postgresql://:made-up@database.example",
    ]


def test_serve_without_a_master_key(project, started):
    """LiteLLM does not start without a master key, so where none is set there is a random one, another at each start."""
    (project / ".env").write_text("")
    for _ in range(2):
        os.environ.pop("LITELLM_MASTER_KEY", None)
        main.main(["--project", str(project), "serve"])
    keys = [environ["LITELLM_MASTER_KEY"] for _, _, environ in started]
    assert all(key.startswith("sk-") and len(key) > 60 for key in keys)
    assert keys[0] != keys[1]


def test_serve_forgets_what_is_meant_for_clients(project, started, monkeypatch):
    """Variables of Claude Code's in the operator's shell do not reach LiteLLM, which would act on them."""
    for name in serve_command.CLIENT_VARIABLES:
        monkeypatch.setenv(name, "made-up")
    main.main(["--project", str(project), "serve"])
    assert not set(serve_command.CLIENT_VARIABLES) & set(started[0][2])


def test_serve_asks_the_internet_for_nothing(project, started, monkeypatch):
    """LiteLLM is told to use its own lists of prices and of betas, unless the operator says otherwise."""
    monkeypatch.delenv("LITELLM_LOCAL_MODEL_COST_MAP", raising=False)
    main.main(["--project", str(project), "serve"])
    names = ("LITELLM_LOCAL_MODEL_COST_MAP", "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS")
    assert [started[0][2][name] for name in names] == ["True", "True"]


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("with_data", [False, True])
def test_where_the_people_are(project, data, started, there, with_data):
    """The file lies beside the pool's state; one that is there counts as named, one that is not is only looked for."""
    folder = data if with_data else project / ".state"
    folder.mkdir(exist_ok=True)
    if there:
        (folder / "users").write_text("")
    main.main(["--project", str(project), *(["--data", str(data)] if with_data else []), "serve"])
    ((_, _, environ),) = started
    assert environ.get("PROXY_USER_TOKENS_FILE") == (str(folder / "users") if there else None)
    assert Settings.parse(environ).users.path == folder / "users"


@pytest.mark.parametrize(
    ("soft", "hard", "then"),
    [(256, 4096, 4096), (300, 20_000, serve_command.MANY_FILES), (300, 300, 300), (12_000, 20_000, 12_000)],
)
def test_files_that_may_be_open(soft, hard, then):
    """A start lets the proxy open as many files as it may, up to a number that is plenty, and never fewer than before."""
    code = (
        f"import resource as r; r.setrlimit(r.RLIMIT_NOFILE, ({soft}, {hard})); from claude_proxy.cli import serve_command; "
        "serve_command.allow_many_connections(); print(*r.getrlimit(r.RLIMIT_NOFILE))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=project_folder.ROOT)
    assert found.stdout.split() == [str(then), str(hard)]


@pytest.mark.parametrize(("mode", "expected"), [(0o775, 0o755), (0o777, 0o755), (0o700, 0o700)])
def test_the_state_folder_is_its_owners(tmp_path, mode, expected):
    """A folder that others may write, as an earlier version made it, is its owner's again after a start."""
    folder = tmp_path / ".state"
    folder.mkdir()
    folder.chmod(mode)
    serve_command.keep_to_the_owner(folder)
    assert folder.stat().st_mode & 0o777 == expected
    serve_command.keep_to_the_owner(tmp_path / "missing")
