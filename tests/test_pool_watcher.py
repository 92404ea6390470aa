"""config/pool_watcher.py: when the pool's files are read, what is applied, and what is logged."""

import json
import logging

import pytest

from claude_proxy.config.pool_watcher import PATIENT_LOOKS, PoolWatcher, difference
from claude_proxy.config.settings import Settings
from claude_proxy.credentials.credential import Credential, Kind
from claude_proxy.secret import Secret

A, B, K = "sk-ant-oat01-made-up-a", "sk-ant-oat01-made-up-b", "sk-ant-api03-made-up-k"
NOW = 1_800_000_000.0


class Watched:
    """A watcher over a folder, and the applied pools. Nothing waits: each check is a call."""

    def __init__(self, folder, **variables):
        self.path = folder / "credentials.yaml"
        self.environ = {"CLAUDE_CREDENTIALS_FILE": str(self.path)} | variables
        self.now = NOW
        self.taken = []
        settings = Settings.parse(self.environ)
        self.watcher = PoolWatcher(self.environ, settings.credentials, self.taken.append, clock=lambda: self.now)
        self.look()
        self.taken.clear()

    def write(self, text, name="credentials.yaml"):
        part = self.path.with_name("new")
        part.write_text(text)
        part.replace(self.path.with_name(name))

    def entries(self, *entries):
        self.write("credentials:\n" + "".join(f"  - {{label: {label}, {more}}}\n" for label, more in entries))

    def look(self, times=2):
        for _ in range(times):
            if self.watcher.has_changed():
                self.watcher.apply(self.watcher.read())
            self.watcher.apply_expiry()

    def labels(self):
        return [one.label for one in self.watcher.credentials]


@pytest.fixture
def told(caplog):
    own = logging.getLogger("claude_proxy")
    own.propagate = True
    caplog.set_level(logging.INFO, "claude_proxy")

    def lines():
        found = [f"{record.levelname} {record.getMessage()}" for record in caplog.records]
        assert "made-up" not in " ".join(found)
        caplog.clear()
        return found

    return lines


def test_an_edit_is_put_in_force_and_said_in_one_line(tmp_path, told):
    """Added, removed, renamed, paused and changed credentials are in one log line, by labels."""
    watched = Watched(tmp_path)
    watched.entries(("a", f"secret: {A}"), ("b", f"secret: {B}"))
    watched.look()
    assert watched.labels() == ["a", "b"]
    assert told() == ["INFO the pool changed: new: a, b"]
    watched.entries(("anna", f"secret: {A}, paused: true"), ("k", f"secret: {K}"))
    watched.look()
    assert told() == ["INFO the pool changed: renamed: a to anna; paused: anna; new: k; removed: b"]
    watched.entries(("anna", f"secret: {A}"), ("k", f"secret: {K}, priority: 2"))
    watched.look()
    assert told() == ["INFO the pool changed: resumed: anna; changed: k"]
    assert len(watched.taken) == 3


def test_half_an_edit_is_not_read(tmp_path):
    """A file is read when it is the same at two checks, or after some checks if it keeps changing."""
    watched = Watched(tmp_path)
    watched.entries(("a", f"secret: {A}"))
    watched.look(1)
    assert watched.labels() == []
    watched.look(1)
    assert watched.labels() == ["a"]
    for turn in range(PATIENT_LOOKS + 1):
        watched.entries(("a", f"secret: {A}, priority: {turn}"))
        watched.look(1)
    assert watched.watcher.credentials[0].terms.priority == PATIENT_LOOKS


def test_a_broken_edit_changes_nothing(tmp_path, told):
    """With an error the pool is unchanged; the error is logged once and is a problem while it lasts, and its end is logged."""
    watched = Watched(tmp_path)
    watched.entries(("a", f"secret: {A}"))
    watched.look()
    told()
    for more in ("prioritty: 1", "prioritty: 2"):
        watched.entries(("a", f"secret: {A}, {more}"), ("b", f"secret: {B}"))
        watched.look()
    says = "credentials.yaml line 2, a: prioritty is not known; did you mean priority?"
    assert told() == [f"ERROR {says}; the pool stays unchanged"]
    assert watched.watcher.problems == (says,)
    assert watched.labels() == ["a"]
    watched.entries(("a", f"secret: {A}"))
    watched.look()
    assert told() == ["INFO the errors in the pool's files are fixed; the pool is unchanged"]
    assert watched.watcher.problems == ()


def test_a_file_that_is_gone_changes_nothing(tmp_path, told):
    """A deleted file is an error while the proxy runs; an empty list is none."""
    watched = Watched(tmp_path)
    watched.entries(("a", f"secret: {A}"))
    watched.look()
    told()
    watched.path.unlink()
    watched.look()
    assert told() == ["ERROR credentials.yaml is missing; the pool stays unchanged"]
    assert watched.labels() == ["a"]
    watched.entries()
    watched.look()
    assert watched.labels() == []


def test_the_files_of_the_variables(tmp_path, told):
    """A change of the file in a variable's _FILE is applied, unless it has an error."""
    tokens = tmp_path / "tokens"
    tokens.write_text(f"a={A}")
    watched = Watched(tmp_path, CLAUDE_OAUTH_TOKENS_FILE=str(tokens))
    assert watched.labels() == ["a"]
    watched.write(f"a={A},b={B}", "tokens")
    watched.look()
    assert watched.labels() == ["a", "b"]
    assert told() == ["INFO the pool changed: new: b"]
    watched.write(f"a={K}", "tokens")
    watched.look()
    tokens.unlink()
    watched.look()
    assert [line.split(":")[0] for line in told()] == ["ERROR CLAUDE_OAUTH_TOKENS", "ERROR CLAUDE_OAUTH_TOKENS_FILE"]
    assert watched.labels() == ["a", "b"]


def test_a_file_that_an_entry_names(tmp_path, told):
    """A secret file is watched while an entry names it, even if it is missing."""
    watched = Watched(tmp_path)
    watched.entries(("a", "secret_file: a"))
    watched.look()
    watched.write(A, "a")
    watched.look(4)
    assert watched.labels() == ["a"]
    watched.write(B, "a")
    watched.look()
    assert watched.watcher.credentials[0].secret.reveal() == B
    assert told()[-1] == "INFO the pool changed: new: a; removed: a"


def test_a_login_is_taken_up_when_it_is_renewed(tmp_path, told):
    """A renewed login is the same credential; an expired login is logged once and reported to the pool."""

    def login(token, expires):
        words = {"claudeAiOauth": {"accessToken": token, "expiresAt": expires * 1000}}
        watched.write(json.dumps(words), "login.json")

    watched = Watched(tmp_path)
    login(A, NOW + 60)
    watched.entries(("anna", "claude_home: login.json"))
    watched.look(4)
    watched.taken.clear()
    told()
    watched.now = NOW + 61
    watched.look()
    assert told() == ["WARNING credential anna: its login has expired: start Claude Code in that home"]
    assert len(watched.taken) == 1
    login(B, NOW + 120)
    watched.look()
    assert told() == ["INFO the pool changed: login renewed: anna"]
    assert [one[0].secret.reveal() for one in watched.taken] == [A, B]


def test_no_change_is_no_news(tmp_path, told):
    """A rewritten file with the same content changes nothing."""
    watched = Watched(tmp_path)
    watched.entries(("a", f"secret: {A}"))
    watched.look()
    watched.taken.clear()
    told()
    watched.entries(("a", f"secret: {A}"))
    watched.look(4)
    assert (watched.taken, told()) == ([], [])


@pytest.mark.anyio
async def test_the_watch_outlives_what_is_unforeseen(tmp_path, monkeypatch, told):
    """After any error in a read the watch continues."""
    watched = Watched(tmp_path)
    looks = []

    async def sleep(_):
        looks.append(1)
        if len(looks) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("asyncio.sleep", sleep)
    monkeypatch.setattr(watched.watcher, "has_changed", lambda: 1 / 0)
    with pytest.raises(KeyboardInterrupt):
        await watched.watcher.run()
    assert told()[0].startswith("ERROR the pool's files could not be read")


def test_the_difference_of_another_kind():
    """A credential with a corrected kind counts as changed."""
    one = Credential("a", Kind.OAUTH, Secret("made-up-of-another-form"))
    assert difference([one], [Credential("a", Kind.API_KEY, one.secret)]) == "changed: a"
    assert difference([one], [one]) == ""
