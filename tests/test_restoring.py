"""cli/restoring.py: where the files of a backup go, and that nothing else is touched."""

import pytest
from command_line import files, mode_of

from claude_proxy.cli import restoring
from claude_proxy.cli.archive import Backup, File
from claude_proxy.cli.backup_files import Folders
from claude_proxy.cli.console import CommandError
from claude_proxy.cli.project import known_values


def backup(**contents):
    """A backup with these files; two underscores are a slash."""
    found = tuple(File(name.replace("__", "/").replace("_dot_", "."), 0o640, text) for name, text in contents.items())
    return Backup("1", "now", secrets=True, files=found)


FILES = {"project__a": b"a", "project__b__c": b"c", "state__users": b"u", "state__pool_dot_sqlite3": b"s"}


@pytest.fixture
def folders(tmp_path):
    return Folders(tmp_path / "new", tmp_path / "new" / ".state")


def restored(one, folders, *, force=False, has_data=False, only=None):
    found = restoring.targets(one, folders, has_data=has_data, only=only)
    restoring.write(found, folders, force=force)
    return {str(target.path.relative_to(folders.project)) for target in found}


def test_every_file_has_its_place_and_its_mode(folders):
    """Files are written with their modes; the folder for the state is for its owner alone."""
    assert restored(backup(**FILES), folders) == {"a", "b/c", ".state/users", ".state/pool.sqlite3"}
    assert (folders.project / "b" / "c").read_bytes() == b"c"
    assert mode_of(folders.project / "a") == 0o640
    assert mode_of(folders.state) == 0o700
    assert files(folders.project) == [".state", "a", "b"]


@pytest.mark.parametrize(("only", "there"), [("project", {"a", "b/c"}), ("state", {".state/users", ".state/pool.sqlite3"})])
def test_one_of_the_folders(folders, only, there):
    """``--only`` restores the files of one folder: in a container another user writes each."""
    assert restored(backup(**FILES), folders, only=only) == there


def test_nothing_is_replaced_unless_it_is_asked_for(folders):
    """A file that exists stays, nothing else is written, and every such file is named; ``--force`` replaces them."""
    folders.state.mkdir(parents=True)
    (folders.project / "a").write_text("mine")
    (folders.state / "users").symlink_to(folders.project / "nowhere")
    for name in ("pool.sqlite3", "pool.sqlite3-wal", "pool.sqlite3-shm"):
        (folders.state / name).write_text("old")
    with pytest.raises(CommandError) as caught:
        restored(backup(**FILES), folders)
    assert caught.value.mistakes[:3] == tuple(
        f"{path} exists." for path in (folders.project / "a", folders.state / "users", folders.state / "pool.sqlite3")
    )
    # The advice names the folder, because --force there would replace the files of another proxy.
    assert f"the files of the proxy in {folders.project}: to replace them, stop that proxy" in caught.value.mistakes[-1]
    assert (folders.project / "a").read_text() == "mine"
    assert files(folders.project) == [".state", "a"]
    restored(backup(**FILES), folders, force=True)
    assert (folders.project / "a").read_bytes() == b"a"
    assert files(folders.state) == ["pool.sqlite3", "users"]
    assert not (folders.state / "users").is_symlink()
    assert files(folders.project) == [".state", "a", "b"]


def test_a_link_leads_nowhere(folders, tmp_path):
    """Nothing is written through a link that leads out of the folder, and nothing in place of a folder."""
    outside = tmp_path / "outside"
    outside.mkdir()
    folders.project.mkdir()
    (folders.project / "b").symlink_to(outside)
    for force in (False, True):
        with pytest.raises(CommandError, match="a link or a folder is in the way"):
            restored(backup(project__b__c=b"c", project__a=b"a"), folders, force=force)
    assert files(outside) == []
    assert files(folders.project) == ["b"]
    (folders.project / "a").mkdir()
    with pytest.raises(CommandError, match="in the way"):
        restored(backup(project__a=b"a"), folders, force=True)


def test_a_folder_that_cannot_be_written(folders, monkeypatch):
    """A folder that the user may not write stops the restore before the first file, with what can be done."""
    folders.project.mkdir()
    monkeypatch.setattr(restoring.os, "access", lambda path, _: path != folders.project)
    with pytest.raises(CommandError, match="--only state"):
        restored(backup(**FILES), folders)
    assert files(folders.project) == []


@pytest.mark.parametrize("name", [".git/hooks/x", ".venv/lib/x.pth", "claude_proxy/new.py", "custom_auth.py"])
def test_the_proxys_own_code_is_never_restored(folders, name):
    """A backup cannot bring code into the proxy's own folders."""
    with pytest.raises(CommandError, match="forbidden name"):
        restored(backup(**{f"project/{name}": b""}), folders, force=True)


def test_the_generated_tokens_of_a_container(folders):
    """Without a folder for data the generated tokens of one go into the project's .env, where it leaves them empty."""
    own, generated = b"PORT=1\nA=\nB=mine", b"A=generated\nB=other\nC='x y'\n"
    kept = (File("project/.env", 0o644, own), File("state/.env", 0o600, generated))
    one = Backup("1", "now", secrets=True, files=kept)
    restored(one, folders)
    assert known_values(folders.project / ".env") == {"PORT": "1", "A": "generated", "B": "mine", "C": "x y"}
    assert mode_of(folders.project / ".env") == 0o600
    assert not folders.state.exists()
    separate = Folders(folders.project.parent / "other", folders.project.parent / "data")
    restoring.write(restoring.targets(one, separate, has_data=True, only=None), separate, force=False)
    assert (separate.state / ".env").read_bytes() == generated
    assert (separate.project / ".env").read_bytes() == own


def test_a_containers_credentials_without_its_own_file(folders):
    """The pool's file of a container's data is the project's where there is no folder for data."""
    one = Backup(
        "1", "now", secrets=True, files=(File("state/credentials.yaml", 0o600, b"x"), File("state/.env", 0o600, b"A=1\n"))
    )
    assert restored(one, folders) == {"credentials.yaml", ".env"}
