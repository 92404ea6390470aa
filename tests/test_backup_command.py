"""cli/backup_command.py: the commands ``backup`` and ``restore``, their passphrase and what they report."""

import getpass
import io
import os
import sys

import pytest
from command_line import files, mode_of, refused, run

from claude_proxy.cli import backup_command, encryption
from claude_proxy.cli import project as project_folder

PASSPHRASE = "made up and long enough"


@pytest.fixture(autouse=True)
def cheap(monkeypatch):
    """As cheap as is accepted: what scrypt costs is not what is tested."""
    monkeypatch.setattr(encryption, "COST", encryption.COSTS[0])


@pytest.fixture
def passphrase(tmp_path):
    path = tmp_path / "passphrase"
    path.write_text(f"{PASSPHRASE}\nnot this line\n")
    return str(path)


class Binary(io.TextIOWrapper):
    """A standard stream of bytes."""

    def __init__(self, content=b""):
        super().__init__(io.BytesIO(content))


def test_a_backup_is_restored(peopled, passphrase, tmp_path, capsys):
    """A backup is encrypted and for its owner alone; in an empty folder it makes the same files with the same modes."""
    run(peopled, "user", "add", "anna")
    saved, new = tmp_path / "saved", tmp_path / "new"
    run(peopled, "backup", str(saved), "--passphrase-file", passphrase)
    said = capsys.readouterr().err
    assert f"Wrote {saved}: 3 files, encrypted." in said
    assert mode_of(saved) == 0o600
    assert project_folder.known_values(peopled / ".env")["PROXY_STATIC_TOKEN"].encode() not in saved.read_bytes()
    run(new, "restore", str(saved), "--passphrase-file", passphrase)
    said = capsys.readouterr().err
    assert "Restored 3 of 3 files" in said
    assert "Next: run `claude-proxy check`" in said
    for name in (".env", "config.yaml", ".state/users"):
        assert (new / name).read_bytes() == (peopled / name).read_bytes()
        assert mode_of(new / name) == mode_of(peopled / name)
    (again, *_) = refused(capsys, new, "restore", str(saved), "--passphrase-file", passphrase)
    assert again == f"{new / '.env'} exists."
    run(new, "restore", "--force", str(saved), "--passphrase-file", passphrase)


def test_a_backup_without_secrets(peopled, tmp_path, capsys):
    """It is a plain file, it is restored without a passphrase, and the command says what is missing."""
    run(peopled, "user", "add", "anna")
    run(peopled, "backup", str(tmp_path / "saved"), "--without-secrets")
    assert "users: left out, because it holds secrets." in capsys.readouterr().err
    run(tmp_path / "new", "restore", str(tmp_path / "saved"))
    assert "The backup has no secrets: set the empty values in .env" in capsys.readouterr().err
    assert project_folder.known_values(tmp_path / "new" / ".env")["PROXY_STATIC_TOKEN"] == ""
    assert files(tmp_path / "new") == [".env", "config.yaml"]


def test_a_backup_through_a_pipe(peopled, tmp_path, monkeypatch, capsys):
    """With ``-`` the passphrase is the first line of the standard input, and the backup is in the streams alone."""
    monkeypatch.setattr(sys, "stdin", Binary(f"{PASSPHRASE}\n".encode()))
    monkeypatch.setattr(sys, "stdout", out := Binary())
    run(peopled, "backup", "-", "--passphrase-file", "-")
    saved = out.buffer.getvalue()
    assert encryption.is_encrypted(saved)
    monkeypatch.setattr(sys, "stdin", Binary(f"{PASSPHRASE}\n".encode() + saved))
    run(tmp_path / "new", "restore", "-", "--passphrase-file", "-")
    assert (tmp_path / "new" / ".env").read_bytes() == (peopled / ".env").read_bytes()
    assert PASSPHRASE not in capsys.readouterr().err


def test_the_passphrase_is_asked_for_twice(peopled, tmp_path, monkeypatch, capsys):
    """At a terminal it is typed without being shown, twice for a backup and once for a restore; too short a one is refused."""
    monkeypatch.setattr(backup_command, "_has_terminal", lambda: True)
    typed = iter([PASSPHRASE, PASSPHRASE, PASSPHRASE, PASSPHRASE, "another", "short", "short"])
    monkeypatch.setattr(getpass, "getpass", lambda _: next(typed))
    run(peopled, "backup", str(tmp_path / "saved"))
    run(tmp_path / "new", "restore", str(tmp_path / "saved"))
    assert refused(capsys, peopled, "backup", str(tmp_path / "other")) == ["The two passphrases differ."]
    assert refused(capsys, peopled, "backup", str(tmp_path / "other")) == [
        "The passphrase is too short: it needs 12 characters or more."
    ]
    assert not (tmp_path / "other").exists()


def test_what_is_not_backed_up(peopled, tmp_path, passphrase, capsys, monkeypatch):
    """Nothing is written over a file, without a passphrase, or without a file that cannot be read."""
    (tmp_path / "there").write_text("mine")
    there = refused(capsys, peopled, "backup", str(tmp_path / "there"), "--passphrase-file", passphrase)
    assert there == [f"{tmp_path / 'there'} exists. Choose another name, or add --force to replace it."]
    monkeypatch.setattr(backup_command, "_has_terminal", lambda: False)
    (says,) = refused(capsys, peopled, "backup", str(tmp_path / "new"))
    assert says.startswith("There is no terminal to ask for the passphrase: use --passphrase-file")
    (peopled / ".state").mkdir()
    (peopled / ".state" / "pool.sqlite3").write_text("nonsense" * 1000)
    state, says = refused(capsys, peopled, "backup", str(tmp_path / "new"), "--passphrase-file", passphrase)
    assert state.startswith(str(peopled / ".state" / "pool.sqlite3"))
    assert "--skip-unreadable" in says
    assert files(tmp_path) == ["passphrase", "project", "there"]
    run(peopled, "backup", str(tmp_path / "new"), "--passphrase-file", passphrase, "--skip-unreadable")
    assert "It cannot be read: copy it yourself." in capsys.readouterr().err
    run(peopled, "backup", str(tmp_path / "there"), "--passphrase-file", passphrase, "--skip-unreadable", "--force")


def test_an_empty_folder_is_no_backup(project, tmp_path, passphrase, capsys):
    """A folder without any file of a proxy is most likely the wrong one."""
    (says,) = refused(capsys, project, "backup", str(tmp_path / "saved"), "--passphrase-file", passphrase)
    assert says == f"{project}: has no .env, no config.yaml and no state. --project names another folder."


@pytest.mark.parametrize("content", [b"", b"hello", b"\x1f\x8b", encryption.MAGIC, encryption.MAGIC + os.urandom(100)])
def test_a_file_that_is_no_backup(project, tmp_path, passphrase, capsys, content):
    """Any other file is one error, and nothing is written."""
    (tmp_path / "saved").write_bytes(content)
    (says,) = refused(capsys, project, "restore", str(tmp_path / "saved"), "--passphrase-file", passphrase)
    assert "damaged" in says
    assert files(project) == []


def test_a_wrong_passphrase_and_no_file(peopled, tmp_path, passphrase, capsys):
    """Each is reported in one line."""
    run(peopled, "backup", str(tmp_path / "saved"), "--passphrase-file", passphrase)
    (tmp_path / "other").write_text("another passphrase\n")
    saved, none = str(tmp_path / "saved"), str(tmp_path / "none")
    for arguments, says in (
        ([saved, "--passphrase-file", str(tmp_path / "other")], encryption.WRONG),
        ([none], f"{none}: No such file or directory"),
        ([saved, "--passphrase-file", none], f"{none}: No such file or directory"),
    ):
        assert refused(capsys, tmp_path / "new", "restore", *arguments) == [says]
    assert not (tmp_path / "new").exists()


def test_a_container_is_backed_up_and_restored_folder_by_folder(peopled, data, tmp_path, monkeypatch, capsys):
    """In a container the project is where it is mounted, and each of the two folders is restored by the user who owns it."""
    (data / "users").write_text("anna=made-up-and-long-enough\n")
    (data / "users").chmod(0o600)
    monkeypatch.setenv("CLAUDE_PROXY_PROJECT", str(peopled))
    monkeypatch.setattr(sys, "stdin", Binary(f"{PASSPHRASE}\n".encode()))
    monkeypatch.setattr(sys, "stdout", out := Binary())
    app = tmp_path / "app"
    run(app, "--data", str(data), "backup", "-", "--passphrase-file", "-")
    new = tmp_path / "new"
    new.mkdir()
    monkeypatch.setenv("CLAUDE_PROXY_PROJECT", str(new))
    for only, there in (("state", ["users"]), ("project", [".env", "config.yaml"])):
        monkeypatch.setattr(sys, "stdin", Binary(f"{PASSPHRASE}\n".encode() + out.buffer.getvalue()))
        run(app, "--data", str(tmp_path / "volume"), "restore", "-", "--only", only, "--passphrase-file", "-")
        assert files({"state": tmp_path / "volume", "project": new}[only]) == there
    assert "Restored 2 of 3 files of the backup of" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["backup", "restore"])
def test_a_relative_path_in_a_container(peopled, monkeypatch, capsys, command):
    """In a container, whose folder is not the user's, the command says how the file comes out of it or into it."""
    monkeypatch.setenv("CLAUDE_PROXY_PROJECT", str(peopled))
    (says,) = refused(capsys, peopled, command, "claude-proxy.backup")
    assert f"proxy {command} - " in says
    assert "docker compose " in says
