"""signin/key_source.py: where a process has its keys from."""

import asyncio
import logging
import stat

import pytest

from claude_proxy.secret import Secret
from claude_proxy.signin.key_source import KeyFile, NoKeys, SealedKeys
from claude_proxy.signin.keys import KeyRing, UnusableKeys, seal
from claude_proxy.signin.shared import KEYS, SharedSignIns
from claude_proxy.state.memory import MemoryStore
from claude_proxy.state.rows import Row

pytestmark = pytest.mark.anyio
NOW = 1_800_000_000.0
MASTER, OTHER = Secret("sk-made-up-master-key"), Secret("sk-made-up-other-master-key")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "signing-keys"


def sealed(store, by=MASTER):
    return SealedKeys(store, SharedSignIns(), by, lambda: NOW)


async def test_keys_are_made_once(path):
    """Processes that start together have the same key; only the owner can read its file, and nothing else is left there."""
    files = [KeyFile(path) for _ in range(8)]
    assert files[0].current() is None
    await asyncio.gather(*(file.ensure() for file in files))
    assert len({file.current().keys for file in files}) == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [*path.parent.iterdir()] == [path]


async def test_a_rotation_reaches_other_processes(path):
    """A process sees a new key of another one at its next look, and the old key stays."""
    first, second = KeyFile(path), KeyFile(path)
    await first.ensure()
    before = second.current()
    ring = await first.rotate(discard=False)
    assert second.current() == ring
    assert ring.find(before.keys[0].kid)
    assert len((await first.rotate(discard=True)).keys) == 1
    assert len(second.current().keys) == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_a_file_with_errors(path, caplog):
    """A file with errors has no keys, is logged once, and is replaced by nothing but the command with --discard-old."""
    path.parent.mkdir()
    path.write_text("half a file")
    file = KeyFile(path)
    with caplog.at_level(logging.WARNING):
        assert file.current() is None
        await file.ensure()
        assert file.current() is None
    assert path.read_text() == "half a file"
    assert [record.getMessage() for record in caplog.records] == [
        f"sign-in is closed: the signing keys cannot be used: {path}: it holds no keys of this version"
    ]
    with pytest.raises(UnusableKeys):
        await file.rotate(discard=False)
    assert await file.rotate(discard=True) == file.current()
    assert file.problem == ""


async def test_a_file_that_was_removed(path):
    """Without its file a process has no keys, and makes new ones."""
    file = KeyFile(path)
    await file.ensure()
    before = file.current()
    path.unlink()
    assert file.current() is None
    await file.ensure()
    assert file.current() != before


async def test_a_folder_that_cannot_be_written(tmp_path, caplog):
    """Where no file can be made, sign-in is closed, with the reason."""
    (tmp_path / "file").write_text("")
    file = KeyFile(tmp_path / "file" / "signing-keys")
    await file.ensure()
    assert file.current() is None
    assert "sign-in is closed" in caplog.text


async def test_no_place():
    """Without a place there are no keys, and a rotation says why."""
    source = NoKeys("the reason")
    await source.ensure()
    assert source.current() is None
    with pytest.raises(UnusableKeys, match="the reason"):
        await source.rotate(discard=True)


async def test_replicas_have_one_key():
    """Replicas that start together at one store have the same key, and the store has it only sealed."""
    store = MemoryStore()
    replicas = [sealed(store) for _ in range(4)]
    await asyncio.gather(*(replica.ensure() for replica in replicas))
    assert len({replica.current().keys for replica in replicas}) == 1
    rows, _ = await store.pull(0)
    assert [row.key for row in rows] == [KEYS]
    assert replicas[0].current().keys[0].kid not in rows[0].value


async def test_a_rotation_reaches_other_replicas():
    """A replica has a new key once the row reaches it."""
    store = MemoryStore()
    shared = SharedSignIns()
    first, second = sealed(store), SealedKeys(store, shared, MASTER, lambda: NOW)
    await first.ensure()
    await second.ensure()
    ring = await first.rotate(discard=False)
    assert second.current() != ring
    shared.merge(await store.read([KEYS]))
    assert second.current() == ring
    assert len((await first.rotate(discard=True)).keys) == 1


async def test_another_master_key(caplog):
    """A replica with another master key has no keys, says so once, and does not replace those of the others."""
    store = MemoryStore()
    await sealed(store).ensure()
    other = sealed(store, OTHER)
    await other.ensure()
    await other.ensure()
    assert other.current() is None
    assert caplog.text.count("another LITELLM_MASTER_KEY") == 1
    with pytest.raises(UnusableKeys):
        await other.rotate(discard=False)
    assert await other.rotate(discard=True) == other.current()


async def test_a_store_that_lost_its_rows_gets_the_keys_again():
    """The keys are a part of the state that a process pushes again."""
    shared = SharedSignIns()
    row = Row(KEYS, 0.0, seal(KeyRing.new(NOW), MASTER))
    shared.merge([row])
    assert shared.everything() == [row]


async def test_keys_that_may_exist(path, tmp_path):
    """A file with errors, and a store that was not read yet, may have keys; a file that does not exist has none."""
    file = KeyFile(path)
    assert not file.unknown
    path.parent.mkdir()
    path.write_text("half a file")
    assert file.unknown
    store = MemoryStore()
    source = sealed(store)
    assert source.unknown
    await source.ensure()
    assert not source.unknown
    assert not NoKeys("the reason").unknown
