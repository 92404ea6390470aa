"""cli/archive.py: a backup as one file, and every file that is none."""

import gzip
import io
import json
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_proxy.cli import archive
from claude_proxy.cli.archive import MANIFEST, Backup, File, is_name, pack, unpack
from claude_proxy.cli.console import CommandError

FILES = (
    File("project/.env", 0o600, b"A=1\n"),
    File("project/a/b.py", 0o755, b""),
    File("state/pool.sqlite3", 0o600, b"\0\xff"),
)
BACKUP = Backup("0.2.0", "2026-11-30T08:00:00Z", secrets=True, files=FILES, missing=("The database.",))


def test_a_backup_comes_back():
    """Everything that is packed is unpacked, and other programs can list it."""
    packed = pack(BACKUP)
    assert unpack(packed) == BACKUP
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        assert tar.getnames() == [MANIFEST, *(file.name for file in FILES)]


@pytest.mark.parametrize(("mode", "kept"), [(0o600, 0o600), (0o666, 0o644), (0o777, 0o755), (0o4755, 0o755), (0o640, 0o640)])
def test_a_mode_gives_others_no_right_to_write(mode, kept):
    """Permissions come back without the right to write for others, and without setuid."""
    (file,) = unpack(pack(Backup("1", "now", secrets=True, files=(File("project/.env", mode, b""),)))).files
    assert file.mode == kept


@pytest.mark.parametrize(
    "name",
    [
        "", "project", "project/", "/project/a", "../project/a", "project/../a", "project/./a", "project//a", "project/a/..",
        "state/a\\b", "state/a\0", "state/a\nb", "other/a", ".env", "project/" + "a" * 121, "project/" + "a/" * 120 + "b",
        "~/a", "C:/a",
    ],
)  # fmt: skip
def test_a_name_that_leads_elsewhere(name):
    """A name outside of the two folders is refused, whatever the manifest says."""
    assert not is_name(name)
    with pytest.raises(CommandError):
        unpack(pack(Backup("1", "now", secrets=True, files=(File(name, 0o600, b""),))))


def member(name, kind=tarfile.REGTYPE, **more):
    info = tarfile.TarInfo(name)
    info.type = kind
    for key, value in more.items():
        setattr(info, key, value)
    return info


def tar_of(*members, manifest=None):
    """A compressed tar of a manifest and these members."""
    out = io.BytesIO()
    text = json.dumps(
        manifest or {"form": 1, "version": "1", "created": "now", "secrets": True, "missing": [], "files": []}
    ).encode()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        tar.addfile(member(MANIFEST, size=len(text)), io.BytesIO(text))
        for one in members:
            tar.addfile(one, io.BytesIO(b"\0" * one.size))
    return out.getvalue()


@pytest.mark.parametrize(
    "one",
    [
        member("project/a", tarfile.SYMTYPE, linkname="/etc/passwd"), member("project/a", tarfile.LNKTYPE, linkname=MANIFEST),
        member("project/a", tarfile.DIRTYPE), member("project/a", tarfile.FIFOTYPE), member("project/a", tarfile.CHRTYPE),
        member("project/not-listed"), member(MANIFEST),
    ],
    ids=["symlink", "hardlink", "folder", "pipe", "device", "not-listed", "second-manifest"],
)  # fmt: skip
def test_a_member_that_is_no_file_of_the_backup(one):
    """A link, a folder, a device and a file that the manifest does not list make the whole file unusable."""
    with pytest.raises(CommandError, match=r"damaged|forbidden"):
        unpack(tar_of(one))


def manifest_with(**changes):
    with tarfile.open(fileobj=io.BytesIO(pack(BACKUP))) as tar:
        return json.loads(tar.extractfile(MANIFEST).read()) | changes


def repacked(manifest, files=FILES):
    out = io.BytesIO()
    text = json.dumps(manifest).encode()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, content in ((MANIFEST, text), *((file.name, file.content) for file in files)):
            tar.addfile(member(name, size=len(content)), io.BytesIO(content))
    return out.getvalue()


@pytest.mark.parametrize(
    ("changes", "files"),
    [
        ({}, FILES[:-1]),
        ({}, (*FILES, FILES[0])),
        ({}, (*FILES[:-1], File(FILES[-1].name, 0o600, b"other"))),
        ({"files": []}, FILES),
        ({"files": 3}, FILES),
        ({"form": 2}, FILES),
        ({"form": "1"}, FILES),
        ({"missing": 3}, FILES),
    ],
    ids=["missing", "twice", "changed", "none", "number", "later", "text", "sentences"],
)
def test_a_manifest_that_does_not_match(changes, files):
    """Every file is there once, with the content that was packed."""
    with pytest.raises(CommandError):
        unpack(repacked(manifest_with(**changes), files))


def test_a_file_that_grows_without_end(monkeypatch):
    """A small file that unpacks to a large one is left at the bound."""
    monkeypatch.setattr(archive, "MAX_BYTES", 1000)
    with pytest.raises(CommandError, match="damaged"):
        unpack(gzip.compress(b"\0" * 10_000_000))
    with pytest.raises(CommandError, match="too large for a backup"):
        pack(Backup("1", "now", secrets=True, files=(File("project/a", 0o600, b"x" * 1001),)))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 400), st.booleans())
def test_no_file_is_a_traceback(noise, place, packed):
    """Whatever a file holds, unpacking it gives the backup or one error."""
    whole = pack(BACKUP)
    content = whole[:place] + noise + whole[place + len(noise) :] if packed else noise
    try:
        assert unpack(content) == BACKUP
    except CommandError as error:
        assert error.mistakes  # noqa: PT017 - the other outcome
