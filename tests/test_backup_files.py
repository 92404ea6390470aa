"""cli/backup_files.py: which files a backup holds, and what it holds of them without secrets."""

import asyncio
import io
import os
import sqlite3

import pytest
import yaml
from dotenv import dotenv_values

from claude_proxy.cli import backup_files
from claude_proxy.cli.backup_files import LEFT_OUT, Folders, copy_of, gather
from claude_proxy.cli.project import load_environment
from claude_proxy.state.rows import Row
from claude_proxy.state.sqlite import SqliteStore

SECRET = "sk-made-up-secret"
CONFIG = f"""# an old key: {SECRET}-in-a-comment
model_list:
  - model_name: glm
    litellm_params:
      model: anthropic/glm
      api_base: https://user:{SECRET}@host.example
      api_key: {SECRET}  # {SECRET}
      extra_headers: {{x-other: made-up-secret}}
      max_tokens: 100
      vertex_credentials: vertex.json
  - model_name: other
    litellm_params: {{model: openai/other, api_key: os.environ/OTHER_API_KEY}}
litellm_settings:
  callbacks: [hooks.mine.handler, request_transformer.callback]
general_settings:
  custom_auth: custom_auth.user_api_key_auth
  master_key: os.environ/LITELLM_MASTER_KEY
"""
ENV = f"""# OLD={SECRET}
PROXY_STATIC_TOKEN={SECRET}
CLAUDE_POOL_STATE_FILE=
PORT=4321
OTHER_API_KEY_FILE=secrets/other
UNKNOWN={SECRET}
ANTHROPIC_API_BASE="https://user:{SECRET}@host.example"
CLAUDE_OAUTH_TOKENS='a={SECRET},
b={SECRET}'
"""


@pytest.fixture
def full(project):
    """A project with a file of every sort."""
    for name, text in {
        ".env": ENV, "config.yaml": CONFIG, "vertex.json": SECRET, "secrets/other": SECRET, "secrets/pooled": SECRET,
        "hooks/mine.py": "handler = 1\n", "credentials.yaml": "credentials:\n- {label: a, secret_file: secrets/pooled}\n",
        ".state/token": f"{SECRET}-generated\n", ".state/users": f"anna=sha256:{'0' * 64}\n",
        ".state/signing-keys": f"{SECRET}-that-signs\n", ".state/config.last-good.yaml": CONFIG, "notes.txt": "not named",
        ".state/.config/litellm/github_copilot/api-key.json": SECRET, "custom_auth.py": "not of the user",
    }.items():  # fmt: skip
        path = project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (project / ".env").chmod(0o600)
    for name in ("pool.sqlite3", "history.sqlite"):
        with sqlite3.connect(project / ".state" / name) as connection:
            connection.execute("CREATE TABLE rows (value)")
        connection.close()
    load_environment(project, None)
    return project


def test_everything_that_a_new_machine_needs(full):
    """A backup has the settings, the users, the state, and each file in the project that a setting names."""
    found = gather(full, None, os.environ, secrets=True)
    assert sorted(found.files) == [
        "project/.env", "project/config.yaml", "project/credentials.yaml", "project/hooks/mine.py", "project/secrets/other",
        "project/secrets/pooled", "project/vertex.json", "state/.config/litellm/github_copilot/api-key.json",
        "state/config.last-good.yaml", "state/history.sqlite", "state/pool.sqlite3", "state/signing-keys", "state/token",
        "state/users",
    ]  # fmt: skip
    assert (found.missing, found.unreadable) == ([], [])
    assert found.files["project/.env"].mode == 0o600
    assert found.files["project/config.yaml"].content == CONFIG.encode()


def test_a_backup_without_secrets_has_none(full):
    """Without secrets no token, key, hash or comment is in any file, everything else is, and what is left out is named."""
    found = gather(full, None, os.environ, secrets=False)
    assert sorted(found.files) == [
        "project/.env", "project/config.yaml", "state/config.last-good.yaml", "state/history.sqlite", "state/pool.sqlite3",
    ]  # fmt: skip
    everything = b"".join(file.content for file in found.files.values())
    assert b"made-up-secret" not in everything
    assert b"old" not in everything
    texts = (ENV, found.files["project/.env"].content.decode())
    before, after = (dotenv_values(stream=io.StringIO(text)) for text in texts)
    assert before.keys() == after.keys()
    assert {name: value for name, value in after.items() if value} == {"PORT": "4321"}
    before, after = (yaml.safe_load(text) for text in (CONFIG, found.files["project/config.yaml"].content))
    params = before["model_list"][0]["litellm_params"]
    params |= {
        "api_base": LEFT_OUT,
        "api_key": LEFT_OUT,
        "extra_headers": {"x-other": LEFT_OUT},
        "vertex_credentials": LEFT_OUT,
    }
    assert after == before
    left_out = {line.partition(": left out")[0] for line in found.missing}
    assert {str(full / name) for name in ("credentials.yaml", ".state/users", "vertex.json", "secrets/other")} <= left_out


def test_what_is_elsewhere_is_named(full, tmp_path, monkeypatch):
    """A file outside of the project, a secret of the environment and a database are named, for they are not in the backup."""
    (tmp_path / "elsewhere").write_text(SECRET)
    (full / ".env").write_text(f"ZAI_API_KEY_FILE={tmp_path / 'elsewhere'}\nDATABASE_URL=postgresql://x:{SECRET}@host/db\n")
    monkeypatch.setenv("LITELLM_MASTER_KEY", SECRET)
    monkeypatch.setenv("DATABASE_URL", f"postgresql://x:{SECRET}@host/db")
    missing = gather(full, None, os.environ, secrets=True).missing
    assert f"{tmp_path / 'elsewhere'}: is outside of the project's folder. Copy it yourself." in missing
    assert any(line.startswith("LITELLM_MASTER_KEY: is set in the environment") for line in missing)
    assert any("pg_dump" in line for line in missing)
    assert SECRET not in "".join(missing)


def test_a_login_of_claude_code_stays_where_it_is(full):
    """A login renews itself, so that a copy would end it: its credential is named, and its folder is not in the backup."""
    (full / "home").mkdir()
    (full / "home" / ".credentials.json").write_text(SECRET)
    (full / "credentials.yaml").write_text("credentials:\n- {label: ben, claude_home: home}\n")
    found = gather(full, None, os.environ, secrets=True)
    assert found.missing == ["the login of ben (home). Log in with Claude Code on the new machine."]
    assert not [name for name in found.files if name.startswith("project/home")]


def test_a_container_has_two_folders(full, data, monkeypatch):
    """In a container the project is where it is mounted, and generated tokens are in the folder for data."""
    monkeypatch.setenv("CLAUDE_PROXY_PROJECT", str(full))
    (data / ".env").write_text(f"LITELLM_MASTER_KEY={SECRET}\n")
    (data / "users").write_text("")
    monkeypatch.setenv("PROXY_USER_TOKENS_FILE", str(data / "users"))
    found = gather(data, data, os.environ, secrets=True)
    assert {"project/.env", "project/config.yaml", "state/.env", "state/users"} <= set(found.files)


def test_a_file_that_cannot_be_read(full, monkeypatch):
    """A file that the user may not read, a broken state and, without secrets, a broken config.yaml are named."""
    read = backup_files.Path.read_bytes

    def denied(path):
        if path.name == ".env":
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(backup_files.Path, "read_bytes", denied)
    (full / ".state" / "pool.sqlite3").write_bytes(b"nonsense" * 1000)
    (full / "config.yaml").write_text("a: [")
    env, config, state = gather(full, None, os.environ, secrets=False).unreadable
    assert env == f"{full / '.env'}: Permission denied."
    assert config.startswith(f"{full / 'config.yaml'}: its text has errors")
    assert state.startswith(f"{full / '.state' / 'pool.sqlite3'}: ")


def test_the_state_is_copied_under_a_writer(tmp_path):
    """A copy has what was committed, and nothing of a transaction that is under way."""
    path = tmp_path / "a b?#.sqlite3"
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("PRAGMA journal_mode=WAL")
    writer.execute("CREATE TABLE rows (value)")
    writer.execute("INSERT INTO rows VALUES (1)")
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("INSERT INTO rows VALUES (2)")
    copy = tmp_path / "copy"
    copy.write_bytes(copy_of(path))
    writer.close()
    reader = sqlite3.connect(copy)
    assert reader.execute("SELECT value FROM rows").fetchall() == [(1,)]
    reader.close()


def test_the_state_is_copied_without_the_alerts_that_were_sent(tmp_path):
    """A restored proxy sends no end of an alert that it has not sent, so the copy has no such row, and all others."""
    path = tmp_path / "pool.sqlite3"

    async def fill():
        store = SqliteStore(path)
        await store.push([Row("alerts:state", 1.0, '{"pool-low": {}}'), Row("alerts:lease", 1.0, "[]"), Row("other", 1.0, "1")])
        await store.close()

    async def keys(file):
        store = SqliteStore(file)
        found = {row.key for row in (await store.pull(0))[0]}
        await store.close()
        return found

    asyncio.run(fill())
    copy = tmp_path / "copy.sqlite3"
    copy.write_bytes(copy_of(path))
    assert asyncio.run(keys(copy)) == {"alerts:lease", "other"}
    assert asyncio.run(keys(path)) == {"alerts:state", "alerts:lease", "other"}


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (".env", "project/.env"), (".state/users", "state/users"), ("a/../b", "project/b"), ("../x", None), (".", None),
        (".state", "project/.state"), (".state/../../x", None),
    ],
)  # fmt: skip
def test_the_name_of_a_file(project, path, name):
    """A file has a name in the folder that it is in, and none outside of both."""
    assert Folders.of(project, None, {}).name_of(project / path) == name
