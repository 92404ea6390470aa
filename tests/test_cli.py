"""cli/main.py: what is written when it is missing, what is said, and how a mistake ends the start."""

import io
import json
import os
import socket
import stat
import subprocess
import sys

import pytest

from claude_proxy.cli import main
from claude_proxy.cli import project as project_folder
from claude_proxy.config.models import ConfigError, load
from claude_proxy.config.settings import VARIABLES, Settings, SettingsError

TOKEN, MASTER = "sk-made-up-token", "sk-made-up-master"
OAUTH = "sk-ant-oat01-made-up-a"


@pytest.fixture
def project(tmp_path):
    """A fresh clone's folder: nothing of one's own in it."""
    (tmp_path / "project").mkdir()
    return tmp_path / "project"


@pytest.fixture
def data(tmp_path):
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


class Terminal(io.StringIO):
    def isatty(self):
        return True


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def stopped(capsys, *arguments):
    """Run a command that has to fail, and return the sentences that it printed."""
    with pytest.raises(SystemExit) as caught:
        main.main(arguments)
    assert caught.value.code == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    first, *mistakes = printed.err.splitlines()
    assert first == "The proxy does not start:"
    assert all(mistake.startswith("- ") for mistake in mistakes)
    return [mistake.removeprefix("- ") for mistake in mistakes]


# What is written


def test_a_fresh_clone(project):
    """``.env`` and ``config.yaml`` are made from the examples, with random tokens that nobody else can read."""
    assert main.prepare(project, None) == [project / ".env", project / "config.yaml"]
    values = project_folder.known_values(project / ".env")
    assert mode_of(project / ".env") == 0o600
    assert set(VARIABLES) <= set(values)
    tokens = [values["PROXY_STATIC_TOKEN"], values["LITELLM_MASTER_KEY"]]
    assert all(token.startswith("sk-") and len(token) > 60 for token in tokens)
    assert tokens[0] != tokens[1]
    assert files(project) == [".env", "config.yaml"]
    assert load(project / "config.yaml")


def test_what_was_written_is_accepted(project):
    """The generated ``.env`` and ``config.yaml`` are settings with which the proxy starts."""
    main.prepare(project, None)
    project_folder.load_environment(project, None)
    _, settings = main.checked(project_folder.config_path(project, None))
    assert settings.static_token
    assert settings.master_key


def test_two_clones_have_different_tokens(project, data):
    """No two clones share a token."""
    main.prepare(project, None)
    main.prepare(data, None)
    one, other = (project_folder.known_values(folder / ".env") for folder in (project, data))
    assert one["PROXY_STATIC_TOKEN"] != other["PROXY_STATIC_TOKEN"]
    assert one["LITELLM_MASTER_KEY"] != other["LITELLM_MASTER_KEY"]


def test_nothing_is_overwritten(project):
    """What is there stays as it is, at the second start and at every later one."""
    main.prepare(project, None)
    (project / ".env").write_text("PROXY_STATIC_TOKEN=mine\n")
    (project / "config.yaml").write_text("mine")
    assert main.prepare(project, None) == []
    assert (project / ".env").read_text() == "PROXY_STATIC_TOKEN=mine\n"
    assert (project / "config.yaml").read_text() == "mine"


def test_an_empty_env_is_a_decision(project):
    """An empty ``.env`` is not filled: whoever made it wants an open proxy."""
    (project / ".env").write_text("")
    assert main.prepare(project, None) == [project / "config.yaml"]
    assert (project / ".env").read_text() == ""


def test_with_a_data_folder_nothing_is_written_into_the_project(project, data):
    """In a container the project's folder is not touched; tokens and config go to the data folder."""
    assert main.prepare(project, data) == [data / ".env"]
    assert files(project) == []
    assert mode_of(data / ".env") == 0o600
    assert load(project_folder.config_path(project, data))


def test_the_tokens_of_a_data_folder_stay(project, data):
    """The second start of a container has the tokens of the first."""
    main.prepare(project, data)
    before = (data / ".env").read_text()
    assert main.prepare(project, data) == []
    assert (data / ".env").read_text() == before


def test_the_projects_own_files_come_first(project, data):
    """A project that has its files needs nothing in the data folder."""
    (project / ".env").write_text(f"PROXY_STATIC_TOKEN={TOKEN}\n")
    (project / "config.yaml").write_text("mine")
    assert main.prepare(project, data) == []
    assert files(data) == []
    assert project_folder.config_path(project, data) == project / "config.yaml"


def test_a_secret_from_a_file_is_not_generated(project, monkeypatch):
    """A token that comes from a file is not generated beside it: that would be a mistake of the start's own making."""
    monkeypatch.setenv("PROXY_STATIC_TOKEN_FILE", "somewhere")
    main.prepare(project, None)
    values = project_folder.known_values(project / ".env")
    assert values["PROXY_STATIC_TOKEN"] == ""
    assert values["LITELLM_MASTER_KEY"]


@pytest.mark.parametrize("name", [".env", "config.yaml"])
def test_a_folder_in_place_of_a_file(project, name, capsys):
    """A folder where a file belongs, as Docker makes one for a missing mount, is said to be one."""
    (project / name).mkdir()
    (mistake,) = stopped(capsys, "--project", str(project), "serve")
    assert str(project / name) in mistake
    assert "is a folder and should be a file" in mistake


def test_a_folder_that_cannot_be_written(project, tmp_path, capsys):
    """A data folder that cannot be written is one sentence, not a traceback."""
    (mistake,) = stopped(capsys, "--project", str(project), "--data", str(tmp_path / "none"), "serve")
    assert "cannot be written" in mistake


def test_a_private_file_is_private_and_whole(tmp_path):
    """A private file appears whole and for its owner only, and nothing is left beside it."""
    main.write_private(tmp_path / ".env", "all of it\n")
    assert files(tmp_path) == [".env"]
    assert ((tmp_path / ".env").read_text(), mode_of(tmp_path / ".env")) == ("all of it\n", 0o600)


def test_of_two_private_files_the_first_stays(tmp_path):
    """Two replicas that start on one volume at once go on with the tokens of the first one."""
    for text in ("the first\n", "the second\n"):
        main.write_private(tmp_path / ".env", text)
    assert files(tmp_path) == [".env"]
    assert ((tmp_path / ".env").read_text(), mode_of(tmp_path / ".env")) == ("the first\n", 0o600)


# What is read


def test_the_environment_wins_over_env(project, monkeypatch):
    """What is set already stays, and what is set to nothing counts as not set."""
    (project / ".env").write_text("PORT=1\nHOST=::1\n")
    monkeypatch.setenv("PORT", "2")
    monkeypatch.setenv("HOST", "")
    project_folder.load_environment(project, None)
    assert (os.environ["PORT"], os.environ["HOST"]) == ("2", "::1")


def test_adding_an_env_opens_nothing(project, data):
    """Generated tokens stay in force beside a ``.env`` of the project's that leaves them empty."""
    main.prepare(project, data)
    (project / ".env").write_text("PROXY_STATIC_TOKEN=\nCLAUDE_TOKEN_MODE=passthrough\n")
    project_folder.load_environment(project, data)
    assert os.environ["PROXY_STATIC_TOKEN"] == project_folder.known_values(data / ".env")["PROXY_STATIC_TOKEN"]
    assert os.environ["CLAUDE_TOKEN_MODE"] == "passthrough"


def test_a_secret_from_a_file_beats_env(project, monkeypatch):
    """A secret that has a file is not taken from ``.env``, where its line may still stand."""
    (project / ".env").write_text(f"PROXY_STATIC_TOKEN={TOKEN}\n")
    monkeypatch.setenv("PROXY_STATIC_TOKEN_FILE", "somewhere")
    project_folder.load_environment(project, None)
    assert "PROXY_STATIC_TOKEN" not in os.environ


def test_provider_keys_from_files(tmp_path):
    """A provider's key may stand in a file; a key that is set stays; the project's own secrets are left to the settings."""
    (tmp_path / "key").write_text(" made-up-key\n")
    path = str(tmp_path / "key")
    environ = {"ZAI_API_KEY_FILE": path, "KIMI_API_KEY": "set", "KIMI_API_KEY_FILE": path, "CLAUDE_API_KEYS_FILE": path}
    project_folder.read_secret_files(environ, {"ZAI_API_KEY", "KIMI_API_KEY", "CLAUDE_API_KEYS", "OPENAI_API_KEY"})
    assert (environ["ZAI_API_KEY"], environ["KIMI_API_KEY"]) == ("made-up-key", "set")
    assert not {"CLAUDE_API_KEYS", "OPENAI_API_KEY"} & set(environ)


@pytest.mark.parametrize("content", [None, b"\xff\xfe made-up"], ids=["missing", "not-text"])
def test_provider_keys_from_files_that_cannot_be_read(tmp_path, content):
    """Every provider's key file that cannot be read is a mistake of its own, and shows nothing of what it holds."""
    path = tmp_path / "made-up-path"
    if content is not None:
        path.write_bytes(content)
    environ = {"ZAI_API_KEY_FILE": str(path), "KIMI_API_KEY_FILE": str(path)}
    with pytest.raises(SettingsError) as caught:
        project_folder.read_secret_files(environ, {"ZAI_API_KEY", "KIMI_API_KEY"})
    assert [mistake.split(":")[0] for mistake in caught.value.mistakes] == ["KIMI_API_KEY_FILE", "ZAI_API_KEY_FILE"]
    assert "made-up" not in str(caught.value)


# How a mistake ends


@pytest.mark.parametrize("command", ["serve", "settings"])
def test_mistakes_are_printed_together(project, command, capsys):
    """All mistakes of ``.env`` and ``config.yaml`` are printed at once, without a secret, and the exit code is 1."""
    (project / ".env").write_text(
        "PORT=http\nCLAUDE_TOKEN_MODE=both\nCLAUDE_OAUTH_TOKENS=sk-ant-api03-made-up\nPROXY_STATIC_TOKEN='made up'\n"
        "ZAI_API_KEY_FILE=/no/made-up\n"
    )
    example = (project_folder.ROOT / "config.yaml.example").read_text()
    (project / "config.yaml").write_text(example)
    mistakes = stopped(capsys, "--project", str(project), command)
    assert sorted(mistake.split(":")[0] for mistake in mistakes) == [
        "CLAUDE_OAUTH_TOKENS", "CLAUDE_TOKEN_MODE", "PORT", "PROXY_STATIC_TOKEN", "ZAI_API_KEY_FILE",
    ]  # fmt: skip
    assert "made-up" not in str(mistakes)
    assert "made up" not in str(mistakes)


def test_mistakes_of_both_files(project, capsys):
    """A mistake in ``config.yaml`` does not hide those of the settings."""
    (project / ".env").write_text("PORT=http\n")
    (project / "config.yaml").write_text("model_list: []\n")
    mistakes = stopped(capsys, "--project", str(project), "serve")
    assert any(mistake.startswith("PORT: ") for mistake in mistakes)
    assert any("model_list" in mistake for mistake in mistakes)


def test_no_command(capsys):
    """Without a command the usage is shown."""
    with pytest.raises(SystemExit) as caught:
        main.main([])
    assert caught.value.code == 2
    assert "usage: claude-proxy" in capsys.readouterr().err


# What is said

DEMO_ONLY = {
    "model_list": [{"model_name": name, "litellm_params": {"model": "anthropic/demo"}} for name in ("demo", "claude-*")]
}
GLM = {"model_name": "glm", "litellm_params": {"model": "anthropic/glm", "api_key": "os.environ/ZAI_API_KEY"}}
WITH_GLM = {"model_list": [*DEMO_ONLY["model_list"], GLM]}


def test_the_settings_command_prints_the_block(project, capsys):
    """``claude-proxy settings`` prints the block and nothing else, with the token in it."""
    main.prepare(project, None)
    main.main(["--project", str(project), "settings"])
    printed = json.loads(capsys.readouterr().out)
    assert printed["env"]["ANTHROPIC_AUTH_TOKEN"] == project_folder.known_values(project / ".env")["PROXY_STATIC_TOKEN"]


def announced(out, loaded=WITH_GLM, written=(), **environ):
    main.announce(Settings.parse(environ), written, loaded, out)
    return out.getvalue()


def test_the_token_is_announced_to_a_person_only():
    """The token is shown on a terminal, and not where output is collected; there the command that shows it is named."""
    secrets = {"PROXY_STATIC_TOKEN": TOKEN, "LITELLM_MASTER_KEY": MASTER, "CLAUDE_OAUTH_TOKENS": OAUTH}
    person, program = announced(Terminal(), **secrets), announced(io.StringIO(), **secrets)
    assert TOKEN in person
    assert TOKEN not in program
    assert "claude-proxy settings" in program
    for text in (person, program):
        assert MASTER not in text
        assert OAUTH not in text


def test_what_is_announced(project):
    """The start says what was written, how large the pool is, and which model lacks which variable."""
    text = announced(io.StringIO(), written=[project / ".env"], PROXY_STATIC_TOKEN=TOKEN, CLAUDE_OAUTH_TOKENS=OAUTH)
    assert f"Wrote {project / '.env'}." in text
    assert "Claude credentials in the pool: 1 (rotate)." in text
    assert "Model glm is not ready: ZAI_API_KEY not set." in text
    assert "WARNING" not in text


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({}, "WARNING: PROXY_STATIC_TOKEN is not set"),
        ({"ANTHROPIC_API_BASE": "http://127.0.0.1:9"}, "WARNING: ANTHROPIC_API_BASE is http://127.0.0.1:9"),
    ],
    ids=["open", "unencrypted"],
)
def test_dangers_are_announced(environ, says):
    """An open proxy, and credentials that travel unencrypted, are said loudly at every start."""
    assert says in announced(io.StringIO(), **environ)


# The start


@pytest.fixture
def started(monkeypatch):
    """What the server would have been started with."""
    import uvicorn  # noqa: PLC0415 - as the code under test does

    calls = []
    with socket.socket() as probe:  # another program of this machine's may be at the default port
        probe.bind(("127.0.0.1", 0))
        monkeypatch.setenv("PORT", str(probe.getsockname()[1]))
    monkeypatch.setattr(uvicorn, "run", lambda app, **options: calls.append((app, options, dict(os.environ))))
    monkeypatch.setattr(sys, "path", list(sys.path))
    return calls


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
        ("127.0.0.1", "PORT: {port} is in use: stop the other program, or set PORT"),
        ("localhost", "PORT: {port} is in use: stop the other program, or set PORT"),
        ("0.0.0.0", "PORT: {port} is in use: stop the other program, or set PORT"),
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
    monkeypatch.setattr(main.database, "prepare", lambda environ: None)
    os.environ[project_folder.PEER_DATABASE] = str(tmp_path)
    main.main(["--project", str(project), "serve"])
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / main.database.SOCKET))
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
    for name in main.CLIENT_VARIABLES:
        monkeypatch.setenv(name, "made-up")
    main.main(["--project", str(project), "serve"])
    assert not set(main.CLIENT_VARIABLES) & set(started[0][2])


def test_serve_asks_the_internet_for_nothing(project, started, monkeypatch):
    """LiteLLM is told to use its own price list, unless the operator says otherwise."""
    monkeypatch.delenv("LITELLM_LOCAL_MODEL_COST_MAP", raising=False)
    main.main(["--project", str(project), "serve"])
    assert started[0][2]["LITELLM_LOCAL_MODEL_COST_MAP"] == "True"


def test_a_config_that_cannot_be_read(project, monkeypatch):
    """A ``config.yaml`` that belongs to somebody else is said to be so, with what to do."""
    (project / "config.yaml").write_text("mine")
    monkeypatch.setattr(os, "access", lambda path, _: path != project / "config.yaml")
    with pytest.raises(ConfigError, match="cannot read it; `chmod a"):
        project_folder.config_path(project, None)


# The people


@pytest.fixture
def peopled(project):
    """A project that is set up, with nobody in it yet."""
    main.prepare(project, None)
    return project


def run(project, *arguments):
    main.main(["--project", str(project), *arguments])


def refused(capsys, project, *arguments):
    """Run a command that cannot be done, and return the sentences that it printed."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        run(project, *arguments)
    printed = capsys.readouterr()
    assert (caught.value.code, printed.out) == (1, "")
    first, *mistakes = printed.err.splitlines()
    assert first == "This was not done:"
    return mistakes


def test_user_add(peopled, capsys):
    """``user add`` prints a block with a new token, this once: the file, the list and later blocks hold none."""
    run(peopled, "user", "add", "anna", "--url", "https://proxy.example.org")
    printed = capsys.readouterr()
    block = json.loads(printed.out)["env"]
    token = block["ANTHROPIC_AUTH_TOKEN"]
    assert block["ANTHROPIC_BASE_URL"] == "https://proxy.example.org"
    assert "shown this once" in printed.err
    users = peopled / ".state" / "users"
    assert mode_of(users) == 0o600
    run(peopled, "user", "list")
    run(peopled, "settings", "--user", "anna")
    later = capsys.readouterr()
    assert "anna  20" in later.out
    assert json.loads(later.out[later.out.index("{") :])["env"]["ANTHROPIC_AUTH_TOKEN"] == "the-token-of-anna"
    assert "cannot be shown again" in later.err
    assert token not in f"{printed.err}{later}{users.read_text()}"
    book = Settings.parse(os.environ).users
    assert [user.name for user in book.everybody()] == ["anna"]


NOTE = "this address works on this machine only; --url https://... gives the one for others"


@pytest.mark.parametrize("command", [("settings",), ("user", "add", "anna")], ids=["settings", "user-add"])
@pytest.mark.parametrize(
    ("environ", "arguments", "url", "noted"),
    [
        ({}, (), "http://127.0.0.1:4000", False),
        ({"HOST": "0.0.0.0"}, (), "http://127.0.0.1:4000", True),
        ({"HOST": "0.0.0.0", "PROXY_DOMAIN": "proxy.example.com"}, (), "https://proxy.example.com", False),
        ({"HOST": "0.0.0.0"}, ("--url", "http://127.0.0.1:9"), "http://127.0.0.1:9", False),
    ],
    ids=["loopback", "everywhere", "domain", "given"],
)
def test_a_block_for_others_has_an_address_for_others(peopled, capsys, command, environ, arguments, url, noted):
    """Where others reach the proxy, a block has the domain's address, or it is said that they need another one."""
    os.environ |= environ
    run(peopled, *command, *arguments)
    printed = capsys.readouterr()
    assert json.loads(printed.out)["env"]["ANTHROPIC_BASE_URL"] == url
    assert (NOTE in printed.err) is noted


def test_user_add_from_standard_input(peopled, capsys, monkeypatch):
    """A token of one's own need not stand in the list of processes."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("made-up-and-long-enough\n"))
    run(peopled, "user", "add", "anna", "--token", "-")
    assert json.loads(capsys.readouterr().out)["env"]["ANTHROPIC_AUTH_TOKEN"] == "made-up-and-long-enough"


def test_a_token_that_is_known_is_shown(peopled, capsys):
    """Whoever's token itself stands in the variable gets a block with it."""
    os.environ["PROXY_USER_TOKENS"] = "anna=made-up-and-long-enough"
    run(peopled, "settings", "--user", "anna", "--format", "vscode")
    assert "made-up-and-long-enough" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ("user", "add", "admin"),
        ("user", "add", "anna", "--model", "nobody-serves-this"),
        ("user", "add", "anna", "--url", "nowhere"),
        ("user", "add", "anna", "--token", "short"),
        ("user", "remove", "anna"),
        ("settings", "--user", "anna"),
        ("settings", "--model", "nobody-serves-this"),
    ],
)
def test_what_cannot_be_done_changes_nothing(peopled, capsys, arguments):
    """A command with a mistake says so in a sentence, prints nothing to paste and writes nobody down."""
    assert len(refused(capsys, peopled, *arguments)) == 1
    assert not (peopled / ".state" / "users").exists()


def test_user_remove_works_with_broken_settings(peopled, capsys):
    """Taking somebody out needs nothing else to be right."""
    run(peopled, "user", "add", "anna")
    (peopled / ".env").write_text("PORT=http\n")
    (peopled / "config.yaml").write_text("model_list: []\n")
    run(peopled, "user", "remove", "anna")
    capsys.readouterr()
    run(peopled, "user", "list")
    assert capsys.readouterr().out == ""


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


def test_people_of_the_variable_beside_a_file(project):
    """PROXY_USER_TOKENS is read from ``.env`` although PROXY_USER_TOKENS_FILE is set: these two are for different people."""
    (project / ".env").write_text("PROXY_USER_TOKENS_FILE=somewhere\nPROXY_USER_TOKENS=anna=made-up-and-long-enough\n")
    project_folder.load_environment(project, None)
    assert os.environ["PROXY_USER_TOKENS"] == "anna=made-up-and-long-enough"
    assert os.environ["PROXY_USER_TOKENS_FILE"] == "somewhere"


def test_people_are_announced():
    """The start says how many people there are, and no longer that the proxy is open."""
    text = announced(io.StringIO(), PROXY_USER_TOKENS="anna=made-up-and-long-enough")
    assert "People with a token of their own: 1." in text
    assert "WARNING" not in text
    assert "made-up" not in text


@pytest.mark.parametrize(
    ("soft", "hard", "then"), [(256, 4096, 4096), (300, 20_000, main.MANY_FILES), (300, 300, 300), (12_000, 20_000, 12_000)]
)
def test_files_that_may_be_open(soft, hard, then):
    """A start lets the proxy open as many files as it may, up to a number that is plenty, and never fewer than before."""
    code = (
        f"import resource as r; r.setrlimit(r.RLIMIT_NOFILE, ({soft}, {hard})); from claude_proxy.cli import main; "
        "main.allow_many_connections(); print(*r.getrlimit(r.RLIMIT_NOFILE))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=project_folder.ROOT)
    assert found.stdout.split() == [str(then), str(hard)]


@pytest.mark.parametrize(("mode", "expected"), [(0o775, 0o755), (0o777, 0o755), (0o700, 0o700)])
def test_the_state_folder_is_its_owners(tmp_path, mode, expected):
    """A folder that others may write, as an earlier version made it, is its owner's again after a start."""
    folder = tmp_path / ".state"
    folder.mkdir()
    folder.chmod(mode)
    main.keep_to_the_owner(folder)
    assert folder.stat().st_mode & 0o777 == expected
    main.keep_to_the_owner(tmp_path / "missing")
