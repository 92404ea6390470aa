"""A backup as one file: a compressed tar with a list of its contents. Bytes to bytes, no I/O.

Five rules for one that is read:
  1. it has ``manifest.json`` first, and exactly the files that this lists, each with its size and SHA-256;
  2. every member is a plain file: no link, no folder, no device;
  3. a name is ``project/...`` or ``state/...`` in short plain parts, none of which is ``.`` or ``..``;
  4. unpacked it has at most ``MAX_BYTES`` and ``MAX_FILES``;
  5. a mode gives nobody but the owner the right to write, and sets nobody's identity.
"""

import hashlib
import io
import json
import re
import tarfile
import zlib
from dataclasses import dataclass, field
from typing import Any

from claude_proxy.cli.console import CommandError

FORM = 1
MANIFEST = "manifest.json"
PROJECT, STATE = "project", "state"
MAX_FILES, MAX_BYTES, MAX_NAME = 1000, 512 * 2**20, 240
_PART = re.compile(r"[^/\\\x00-\x1f\x7f]{1,120}")
_GZIP = 31
SAFE_MODE = 0o755


@dataclass(frozen=True)
class File:
    """One file of a backup: ``name`` starts with ``PROJECT`` or ``STATE``; ``mode`` holds its permissions."""

    name: str
    mode: int
    content: bytes = field(repr=False)


@dataclass(frozen=True)
class Backup:
    """What a backup holds; ``missing`` are sentences about what it does not hold and a new machine needs."""

    version: str
    created: str
    secrets: bool
    files: tuple[File, ...]
    missing: tuple[str, ...] = ()


def pack(backup: Backup) -> bytes:
    """Return a backup as a compressed tar."""
    size = sum(len(file.content) for file in backup.files)
    if size > MAX_BYTES or len(backup.files) > MAX_FILES:
        raise CommandError(
            f"The files are too large for a backup: {len(backup.files)} files with {size} bytes; "
            f"it takes {MAX_FILES} with {MAX_BYTES}."
        )
    manifest = {
        "form": FORM,
        "version": backup.version,
        "created": backup.created,
        "secrets": backup.secrets,
        "missing": [*backup.missing],
        "files": [
            {"name": one.name, "mode": f"{one.mode & SAFE_MODE:o}", "size": len(one.content), "sha256": _digest(one.content)}
            for one in backup.files
        ],
    }
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", format=tarfile.PAX_FORMAT) as tar:
        text = json.dumps(manifest, indent=2).encode()
        for file in (File(MANIFEST, 0o600, text), *backup.files):
            member = tarfile.TarInfo(file.name)
            member.size, member.mode = len(file.content), file.mode & SAFE_MODE
            tar.addfile(member, io.BytesIO(file.content))
    return out.getvalue()


def unpack(content: bytes) -> Backup:
    """Return what a file holds that keeps every rule; raise ``CommandError`` for any other."""
    try:
        found = _members(_unzipped(content))
        manifest = json.loads(found[0].content)
        listed = {one["name"]: one for one in manifest["files"]}
        if manifest["form"] != FORM:
            raise CommandError(f"The backup has the form {manifest['form']!r:.20}, which this version does not know.")
        files = tuple(_listed(file, listed) for file in found[1:])
        if len(files) != len(manifest["files"]) or len(listed) != len(files):
            raise CommandError("The backup is damaged: files are missing.")
        version, created = (str(manifest[name])[:64] for name in ("version", "created"))
        missing = tuple(str(one)[:1000] for one in manifest["missing"])
        return Backup(version, created, manifest["secrets"] is True, files, missing)
    except (tarfile.TarError, zlib.error, ValueError, LookupError, TypeError, AttributeError, RecursionError, OSError) as error:
        raise CommandError(f"The file is damaged, or it is not a backup of claude-proxy ({type(error).__name__}).") from None


def _unzipped(content: bytes) -> bytes:
    """Decompress within the bound, the end of the stream included."""
    decompressor = zlib.decompressobj(_GZIP)
    found = decompressor.decompress(content, MAX_BYTES + 2**20)
    if not decompressor.eof or decompressor.unused_data:
        raise ValueError("no whole stream, or a longer one")
    return found


def _members(content: bytes) -> list[File]:
    found: list[File] = []
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as tar:
        for member in tar:
            if len(found) > MAX_FILES or not member.isreg() or member.issparse():
                raise ValueError("a member that no backup has")
            if found and not is_name(member.name):
                raise CommandError(f"The backup holds a file with a forbidden name: {member.name!r:.80}. Nothing was restored.")
            reader = tar.extractfile(member)
            found.append(File(member.name, member.mode, reader.read() if reader else b""))
    if not found or found[0].name != MANIFEST:
        raise ValueError("no manifest")
    return found


def is_name(name: str) -> bool:
    """Whether a name is one of a backup's."""
    top, *parts = name.split("/")
    plain = all(_PART.fullmatch(part) and part not in (".", "..") for part in parts)
    return top in (PROJECT, STATE) and bool(parts) and plain and len(name) <= MAX_NAME


def _listed(file: File, listed: dict[str, Any]) -> File:
    """Return a file with the mode of the manifest; raise ValueError unless it is the one that was packed."""
    one = listed[file.name]
    if (one["size"], one["sha256"]) != (len(file.content), _digest(file.content)):
        raise ValueError("another content")
    return File(file.name, int(one["mode"], 8) & SAFE_MODE, file.content)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
