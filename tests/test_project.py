"""cli/project.py: what is written when it is missing, and what is read."""

import os

import pytest
from command_line import files, mode_of, stopped

from claude_proxy.cli import command as command_module
from claude_proxy.cli import main, user_command
from claude_proxy.cli import project as project_folder
from claude_proxy.config.credentials_file import FILE_VARIABLE, OWN_FILES
from claude_proxy.config.models import ConfigError, load
from claude_proxy.config.settings import VARIABLES, SettingsError

TOKEN = "sk-made-up-token"


# Another clone


@pytest.fixture
def another_clone(tmp_path, monkeypatch):
    """The current folder is in another clone."""
    clone = tmp_path / "second"
    (clone / "claude_proxy" / "cli").mkdir(parents=True)
    (clone / "claude_proxy" / "cli" / "project.py").touch()
    (clone / "docs").mkdir()
    monkeypatch.chdir(clone / "docs")
    return clone


@pytest.mark.parametrize(
    "command",
    [
        "serve", "backup x", "restore x", "restore --force x", "user add anna", "user remove anna", "pool add x",
        "pool pause x", "pool resume x", "pool remove x", "pool set x priority=1", "sign-in revoke x", "sign-in rotate-keys",
        "budget set all day=1", "budget unset all",
    ],
)  # fmt: skip
def test_a_command_in_another_clone_changes_nothing(another_clone, command, monkeypatch, capsys):
    """In another clone, a command that writes says which clone it belongs to, and which command that clone has."""
    monkeypatch.setattr(command_module, "load_environment", lambda *_: pytest.fail("the command has begun"))
    with pytest.raises(SystemExit) as caught:
        main.main(command.split())
    words = command.split()
    called = " ".join(words[:2] if words[0] in ("user", "pool", "sign-in", "budget") else words[:1])
    root = project_folder.ROOT
    assert caught.value.code == 1
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith(
        f"Error: This folder belongs to the clone {another_clone}, but this claude-proxy belongs to {root}. "
    )
    assert first.endswith(" Nothing was done.")
    assert second.startswith(f"Error: For {another_clone}, run `{another_clone}/.venv/bin/claude-proxy {called} ...`")
    assert second.endswith(f"For {root}, add --project {root}.")


def test_a_command_that_reads_says_what_it_shows(another_clone, capsys, monkeypatch):
    """In another clone, a command that reads does so, and says on stderr whose state it shows."""
    monkeypatch.setattr(command_module, "load_environment", lambda *_: None)
    monkeypatch.setattr(user_command, "users_path", lambda *_: another_clone / "none")
    main.main(["user", "list"])
    printed = capsys.readouterr()
    first = printed.err.splitlines()[0]
    assert first.startswith(f"This folder belongs to the clone {another_clone}, but this claude-proxy belongs to ")
    assert first.endswith(f"For {another_clone}, run `{another_clone}/.venv/bin/claude-proxy user list ...`.")
    assert printed.out == ""


def test_a_folder_that_is_named_or_the_clone_s_own(another_clone, project, monkeypatch, capsys):
    """``--project`` says which folder is meant, and a command works as ever in its own clone and beside every clone."""
    with pytest.raises(SystemExit):
        main.main(["--project", str(project), "user", "remove", "nobody"])
    assert "This folder belongs to" not in capsys.readouterr().err
    assert project_folder.other_clone() == another_clone
    monkeypatch.chdir(project_folder.ROOT / "docs")
    assert project_folder.other_clone() is None
    monkeypatch.chdir(project)
    assert project_folder.other_clone() is None


# What is written


def test_a_fresh_clone(project):
    """``.env`` and ``config.yaml`` are made from the examples, with random tokens that nobody else can read."""
    assert project_folder.prepare(project, None) == [project / ".env", project / "config.yaml"]
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
    project_folder.prepare(project, None)
    project_folder.load_environment(project, None)
    _, settings = project_folder.checked(project_folder.config_path(project, None))
    assert settings.static_token
    assert settings.master_key


def test_two_clones_have_different_tokens(project, data):
    """No two clones share a token."""
    project_folder.prepare(project, None)
    project_folder.prepare(data, None)
    one, other = (project_folder.known_values(folder / ".env") for folder in (project, data))
    assert one["PROXY_STATIC_TOKEN"] != other["PROXY_STATIC_TOKEN"]
    assert one["LITELLM_MASTER_KEY"] != other["LITELLM_MASTER_KEY"]


def test_nothing_is_overwritten(project):
    """What is there stays as it is, at the second start and at every later one."""
    project_folder.prepare(project, None)
    (project / ".env").write_text("PROXY_STATIC_TOKEN=mine\n")
    (project / "config.yaml").write_text("mine")
    assert project_folder.prepare(project, None) == []
    assert (project / ".env").read_text() == "PROXY_STATIC_TOKEN=mine\n"
    assert (project / "config.yaml").read_text() == "mine"


def test_an_empty_env_is_a_decision(project):
    """An empty ``.env`` is not filled: the generated token is kept elsewhere."""
    (project / ".env").write_text("")
    assert project_folder.prepare(project, None) == [project / "config.yaml"]
    assert (project / ".env").read_text() == ""


def test_with_a_data_folder_nothing_is_written_into_the_project(project, data):
    """In a container the project's folder is not touched; tokens and config go to the data folder."""
    assert project_folder.prepare(project, data) == [data / ".env"]
    assert files(project) == []
    assert mode_of(data / ".env") == 0o600
    assert load(project_folder.config_path(project, data))


def test_the_tokens_of_a_data_folder_stay(project, data):
    """The second start of a container has the tokens of the first."""
    project_folder.prepare(project, data)
    before = (data / ".env").read_text()
    assert project_folder.prepare(project, data) == []
    assert (data / ".env").read_text() == before


def test_the_projects_own_files_come_first(project, data):
    """A project that has its files needs nothing in the data folder."""
    (project / ".env").write_text(f"PROXY_STATIC_TOKEN={TOKEN}\n")
    (project / "config.yaml").write_text("mine")
    assert project_folder.prepare(project, data) == []
    assert files(data) == []
    assert project_folder.config_path(project, data) == project / "config.yaml"


def test_a_secret_from_a_file_is_not_generated(project, monkeypatch):
    """A token that comes from a file is not generated beside it: that would be a mistake of the start's own making."""
    monkeypatch.setenv("PROXY_STATIC_TOKEN_FILE", "somewhere")
    project_folder.prepare(project, None)
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
    project_folder.write_private(tmp_path / ".env", "all of it\n")
    assert files(tmp_path) == [".env"]
    assert ((tmp_path / ".env").read_text(), mode_of(tmp_path / ".env")) == ("all of it\n", 0o600)


def test_of_two_private_files_the_first_stays(tmp_path):
    """Two replicas that start on one volume at once go on with the tokens of the first one."""
    for text in ("the first\n", "the second\n"):
        project_folder.write_private(tmp_path / ".env", text)
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


def test_only_a_start_waits_for_a_database(project, tmp_path, monkeypatch):
    """`settings` or `user add` beside a database of Docker's that was stopped says at once what a start waits to say."""
    waited = []
    monkeypatch.setenv(project_folder.PEER_DATABASE, str(tmp_path))
    monkeypatch.setattr(project_folder.database, "comes_up", lambda folder, client, seconds: waited.append(seconds))
    project_folder.load_environment(project, None)
    project_folder.load_environment(project, None, starts=True)
    assert waited == [0, project_folder.database.WAIT_SECONDS]


def test_adding_an_env_opens_nothing(project, data):
    """Generated tokens stay in force beside a ``.env`` of the project's that leaves them empty."""
    project_folder.prepare(project, data)
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


def test_a_config_that_cannot_be_read(project, monkeypatch):
    """A ``config.yaml`` that belongs to somebody else is said to be so, with what to do."""
    (project / "config.yaml").write_text("mine")
    monkeypatch.setattr(os, "access", lambda path, _: path != project / "config.yaml")
    with pytest.raises(ConfigError, match="cannot read it; run `chmod a"):
        project_folder.config_path(project, None)


def test_a_config_that_is_not_yaml(project, monkeypatch):
    """The start's error has the line, the cause and what to write, and not the parser's words."""
    monkeypatch.setattr(os, "environ", {})
    path = project / "config.yaml"
    path.write_text("model_list:\n  - model_name: a\n\t  litellm_params: {model: openai/a}\n")
    with pytest.raises(SettingsError) as caught:
        project_folder.checked(path)
    [mistake] = caught.value.mistakes
    assert mistake == (f"{path}: is not YAML: line 3: is indented with a tab, which YAML does not allow; indent it with spaces")


def test_people_of_the_variable_beside_a_file(project):
    """PROXY_USER_TOKENS is read from ``.env`` although PROXY_USER_TOKENS_FILE is set: these two are for different people."""
    (project / ".env").write_text("PROXY_USER_TOKENS_FILE=somewhere\nPROXY_USER_TOKENS=anna=made-up-and-long-enough\n")
    project_folder.load_environment(project, None)
    assert os.environ["PROXY_USER_TOKENS"] == "anna=made-up-and-long-enough"
    assert os.environ["PROXY_USER_TOKENS_FILE"] == "somewhere"


def test_where_the_credentials_are(project, data, monkeypatch):
    """A file that is named counts from the project's folder; else it is there, or in the data folder."""
    project_folder.load_environment(project, data)
    assert os.environ[OWN_FILES].split("\n") == [str(project / "credentials.yaml"), str(data / "credentials.yaml")]
    for named, path in (("pool/mine.yaml", project / "pool/mine.yaml"), (str(data / "mine.yaml"), data / "mine.yaml")):
        monkeypatch.setenv(FILE_VARIABLE, named)
        project_folder.load_environment(project, None)
        assert os.environ[FILE_VARIABLE] == str(path)


def test_in_a_container_the_project_is_where_it_is_mounted(project, data, monkeypatch):
    """The folder that Docker's compose file mounts counts, and not that of the image."""
    monkeypatch.setenv(project_folder.MOUNTED_PROJECT, "/project")
    project_folder.load_environment(project, data)
    assert os.environ[OWN_FILES].split("\n") == ["/project/credentials.yaml", str(data / "credentials.yaml")]
    monkeypatch.setenv(FILE_VARIABLE, "pool/mine.yaml")
    project_folder.load_environment(project, data)
    assert os.environ[FILE_VARIABLE] == "/project/pool/mine.yaml"


@pytest.mark.parametrize("with_data", [False, True])
def test_a_token_is_generated_and_kept(project, data, with_data):
    """Where nothing says who may use the proxy, the first start writes a token for its owner alone; the next ones use it."""
    home, folder = (data, data) if with_data else (None, project / ".state")
    (project / ".env").write_text("PROXY_STATIC_TOKEN=\n")
    found = []
    for written in ([folder / "token"], [], []):
        os.environ.pop("PROXY_STATIC_TOKEN", None)
        project_folder.load_environment(project, home)
        assert project_folder.generate_token(project, home) == written
        found.append(os.environ["PROXY_STATIC_TOKEN"])
        assert project_folder.is_generated(project, home)
    os.environ["PROXY_STATIC_TOKEN"] = "sk-made-up-other"
    assert not project_folder.is_generated(project, home)
    assert len(set(found)) == 1
    assert found[0].startswith("sk-")
    assert len(found[0]) > 60
    assert (mode_of(folder / "token"), folder.stat().st_mode & 0o077) == (0o600, 0 if not with_data else mode_of(data) & 0o077)


def test_replicas_agree_on_a_token(project, data, monkeypatch):
    """Of two replicas that start at the same moment both use the token that was written first."""
    write = project_folder.write_private

    def late(path, text):
        write(path, "sk-made-up-token-of-the-other-replica\n")
        write(path, text)

    monkeypatch.setattr(project_folder, "write_private", late)
    project_folder.generate_token(project, data)
    assert os.environ["PROXY_STATIC_TOKEN"] == "sk-made-up-token-of-the-other-replica"


def test_a_token_that_cannot_be_kept(project, data):
    """Where the folder cannot be written the start ends with the cause and the remedy, and opens nothing."""
    (project / ".state").write_text("not a folder")
    with pytest.raises(ConfigError, match=r"no token can be kept there; make the folder writable .* or set PROXY_STATIC_TOKEN"):
        project_folder.generate_token(project, None)
