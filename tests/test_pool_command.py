"""cli/pool_command.py: the pool's file by commands, and what they print, which is no secret."""

import asyncio
import io
import json
import os
import pty
import sys

import httpx
import pytest
import respx
import yaml
from command_line import mode_of, refused, run

from claude_proxy.cli import pool_command
from claude_proxy.config.settings import Settings
from claude_proxy.credentials.pool_rows import key_of
from claude_proxy.state.replication import CombinedState, Synchronizer
from claude_proxy.state.sqlite import SqliteStore

A, B, FIXED = "sk-ant-oat01-made-up-a", "sk-ant-oat01-made-up-b", "sk-ant-oat01-made-up-fixed"
KEY = "sk-made-up-master-key"


@pytest.fixture
def pool(peopled, monkeypatch, capsys):
    """Run an action; what it printed holds no secret."""
    (peopled / ".env").write_text(f"CLAUDE_OAUTH_TOKENS=fixed={FIXED}\nLITELLM_MASTER_KEY={KEY}\n")

    def call(*arguments, secret="", fails=False):
        monkeypatch.setattr(sys, "stdin", io.StringIO(f"{secret}\n"))
        if fails:
            found = refused(capsys, peopled, "pool", *arguments)
        else:
            run(peopled, "pool", *arguments)
            found = capsys.readouterr()
        assert "made-up" not in str(found)
        return found

    call.path = peopled / "credentials.yaml"
    call.folder = peopled
    return call


def entries(pool):
    return yaml.safe_load(pool.path.read_text())["credentials"]


def test_from_the_first_to_the_last(pool):
    """A credential is added, changed, paused, resumed and removed, and each time the file says so."""
    assert "Added anna" in pool("add", "anna", "priority=2", secret=A).err
    assert mode_of(pool.path) == 0o600
    pool("set", "anna", "priority=", "groups=team-a,team-b", "reserve=0.2", "max_concurrency=4")
    anna = {"label": "anna", "secret": A, "groups": ["team-a", "team-b"], "reserve": 0.2, "max_concurrency": 4}
    assert entries(pool) == [anna]
    assert "Paused anna" in pool("pause", "anna").err
    (paused,) = entries(pool)
    assert paused.pop("paused").tzinfo is not None
    assert paused == anna
    assert pool("resume", "anna").err.startswith("Resumed anna. ")
    assert entries(pool) == [anna]
    assert "Its sessions move to other credentials" in pool("remove", "anna").err
    assert entries(pool) == []


def test_the_last_one_is_removed(pool):
    """Without another credential, no session can move: the message says that the pool is empty, and what to do."""
    (pool.folder / ".env").write_text("")
    pool("add", "anna", secret=A)
    removed = pool("remove", "anna").err
    assert "The pool has no more credentials; `claude-proxy pool add LABEL` adds one." in removed
    assert "sessions" not in removed


def test_a_secret_is_typed_and_not_shown(pool, monkeypatch):
    """At a terminal the secret is asked for, and what is typed is not shown."""
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "r") as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        monkeypatch.setattr(pool_command.getpass, "getpass", lambda words: A if "anna" in words else "")
        assert pool_command._secret("anna") == A
    os.close(ours)


def test_files_and_homes_are_named_by_paths(pool):
    """A secret may stay in a file, and a login with Claude Code."""
    (pool.folder / "key").write_text(B)
    login = {"claudeAiOauth": {"accessToken": A, "expiresAt": 1}}
    (pool.folder / "home").mkdir()
    (pool.folder / "home" / ".credentials.json").write_text(json.dumps(login))
    pool("add", "b", "--secret-file", str(pool.folder / "key"))
    pool("add", "home", "--claude-home", str(pool.folder / "home"))
    assert [{*entry} for entry in entries(pool)] == [{"label", "secret_file"}, {"label", "claude_home"}]
    listed = pool("list", "--url", "http://127.0.0.1:9").out
    assert str(pool.folder / "key") in listed
    assert f"{pool.folder / 'home'} (login)" in listed
    (says,) = pool("add", "c", "--secret-file", "a", "--claude-home", "b", fails=True)
    assert "one of" in says


def test_several_labels(pool):
    """Credentials are paused, resumed and removed by several labels; one that cannot be is an error after those before it."""
    pool("add", "anna", secret=A)
    pool("add", "ben", secret=B)
    assert [line.split(".")[0] for line in pool("pause", "anna", "ben").err.splitlines()] == ["Paused anna", "Paused ben"]
    assert all("paused" in one for one in entries(pool))
    assert [line.split(".")[0] for line in pool("resume", "anna", "ben").err.splitlines()] == ["Resumed anna", "Resumed ben"]
    assert not any("paused" in one for one in entries(pool))
    with pytest.raises(SystemExit):
        pool("remove", "anna", "nobody", "ben")
    assert [one["label"] for one in entries(pool)] == ["ben"]


@pytest.mark.parametrize(
    ("arguments", "secret", "says"),
    [
        (["add", "anna"], "", "No secret was given. Paste it at the terminal, or send it to the standard input, as in "),
        (["add", "anna", A], A, "a change is name=value"),
        (["add", A], A, "the label should be"),
        (["add", "fixed"], A, "another credential already has the label fixed (CLAUDE_OAUTH_TOKENS)"),
        (["set", "nobody", "priority=1"], "", "has no credential nobody"),
        (["pause", "fixed"], "", "fixed comes from CLAUDE_OAUTH_TOKENS, which no command changes. To move it, run "),
        (["remove", "fixed"], "", "fixed comes from CLAUDE_OAUTH_TOKENS"),
    ],
)
def test_what_is_not_done(pool, arguments, secret, says):
    """What cannot be done is said in words without the secret, and the file stays as it is."""
    assert says in pool(*arguments, secret=secret, fails=True)[0]
    assert not pool.path.exists()


def test_a_credential_of_env_is_moved(pool):
    """The same secret under its label moves a credential into the file, and the command says what is left to do."""
    assert "CLAUDE_OAUTH_TOKENS has it too, as fixed: remove it there" in pool("add", "fixed", secret=FIXED).err
    assert [one.source for one in Settings.parse(os.environ).credentials] == [str(pool.path)]


def test_the_list_without_a_proxy(pool):
    """Who is there, by label, kind, source and terms; that no proxy answers is said beside it."""
    pool("add", "anna", "priority=2", "groups=b,a", "made=2026-03-01", "paused=true", secret=A)
    printed = pool("list", "--url", "http://127.0.0.1:9")
    lines = [line.split() for line in printed.out.splitlines()]
    assert lines == [
        ["label", "kind", "source", "terms", "state"],
        ["anna", "oauth", "credentials.yaml", "made=2026-03-01", "priority=2", "groups=a,b", "paused=true", "-"],
        ["fixed", "oauth", "CLAUDE_OAUTH_TOKENS", "-", "-"],
    ]
    assert "No proxy responds" in printed.err


def test_the_list_as_json(pool):
    """``--json`` has the same as values: terms by their names, and null for a state that is not known."""
    pool("add", "anna", "priority=2", "groups=b,a", "made=2026-03-01", secret=A)
    anna, fixed = json.loads(pool("list", "--json", "--url", "http://127.0.0.1:9").out)
    assert anna == {
        "label": "anna", "kind": "oauth", "source": "credentials.yaml", "state": None,
        "terms": {"made": "2026-03-01", "priority": 2, "groups": ["a", "b"]},
    }  # fmt: skip
    assert (fixed["label"], fixed["terms"]) == ("fixed", {})


def test_the_list_beside_a_proxy(pool):
    """The state is what the running proxy knows, asked with the master key."""
    with respx.mock(using="httpx") as mock:
        route = mock.get("http://127.0.0.1:4000/pool").mock(
            return_value=httpx.Response(200, json={"credentials": [{"label": "fixed", "state": {"words": "usable"}}]})
        )
        assert pool("list").out.splitlines()[1].split() == ["fixed", "oauth", "CLAUDE_OAUTH_TOKENS", "-", "usable"]
    assert route.calls[0].request.headers["x-litellm-api-key"] == KEY


def test_the_list_of_a_broken_file(pool, capsys):
    """What is right is listed, and what is wrong is said with an end of 1."""
    pool.path.write_text("credentials: 3\n")
    with pytest.raises(SystemExit):
        run(pool.folder, "pool", "list", "--url", "http://127.0.0.1:9")
    printed = capsys.readouterr()
    assert "fixed" in printed.out
    assert "- credentials.yaml line 1: credentials should be a list" in printed.err


def test_resume_lifts_the_rests(pool):
    """With a proxy's state file there, ``resume`` tells the proxy to forget what the credential rests for, also one of .env."""
    pool("add", "anna", secret=A)
    state = pool.folder / ".state" / "pool.sqlite3"

    async def used():
        store = SqliteStore(state)
        salt = await Synchronizer(store, CombinedState()).salt()
        await store.close()
        return salt

    async def rows():
        store = SqliteStore(state)
        found, _ = await store.pull(0)
        await store.close()
        return {row.key for row in found if row.key.startswith("lifted:")}

    salt = asyncio.run(used())
    assert "Resumed anna and ended its cooldowns." in pool("resume", "anna").err
    assert "Resumed fixed and ended its cooldowns." in pool("resume", "fixed").err
    credentials = Settings.parse(os.environ).credentials
    assert asyncio.run(rows()) == {f"lifted:{key_of(one, salt)}" for one in credentials}
