"""cli/encryption.py: what a passphrase encrypts, and that no change of it goes unnoticed."""

import pytest

from claude_proxy.cli import encryption
from claude_proxy.cli.encryption import CHUNK, HEADER, MAGIC, SALT, TAG, DecryptionError, decrypt, encrypt, is_encrypted

PASSPHRASE = "made up and long enough"


@pytest.fixture(autouse=True)
def cheap(monkeypatch):
    """As cheap as is accepted: what scrypt costs is not what is tested."""
    monkeypatch.setattr(encryption, "COST", encryption.COSTS[0])


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK])
def test_what_is_encrypted_is_decrypted(size):
    """Bytes of every size come back, and neither they nor the passphrase are in the file."""
    plain = (b"made-up-secret" * (size // 14 + 1))[:size]
    sealed = encrypt(plain, PASSPHRASE)
    assert is_encrypted(sealed)
    assert decrypt(sealed, PASSPHRASE) == plain
    assert b"made-up-secret" not in sealed
    assert PASSPHRASE.encode() not in sealed


def test_two_backups_have_nothing_in_common():
    """The same bytes and the same passphrase give another file each time."""
    first, second = encrypt(b"x" * 100, PASSPHRASE), encrypt(b"x" * 100, PASSPHRASE)
    assert first[len(MAGIC) : len(MAGIC) + SALT] != second[len(MAGIC) : len(MAGIC) + SALT]
    assert first[HEADER:] != second[HEADER:]


def test_a_passphrase_is_the_same_on_every_keyboard():
    """A letter with an accent is one character or two by the system, and the same passphrase."""
    assert decrypt(encrypt(b"x", "pa\u00dfwort m\u00fcde"), "pa\u00dfwort mu\u0308de") == b"x"


@pytest.mark.parametrize("passphrase", ["", "made up and long enougH", f"{PASSPHRASE} "])
def test_another_passphrase_decrypts_nothing(passphrase):
    """A wrong passphrase is reported as one, and not in the error."""
    with pytest.raises(DecryptionError) as caught:
        decrypt(encrypt(b"x", PASSPHRASE), passphrase)
    assert str(caught.value) == encryption.WRONG
    assert encryption.WRONG.startswith("The passphrase is wrong, or the file is damaged. Try the passphrase again")


SEALED_PARTS = {"magic": 5, "salt": len(MAGIC) + 1, "nonce": HEADER - 1, "first": HEADER + 5, "last": -1}


@pytest.mark.parametrize("place", [*SEALED_PARTS.values()], ids=[*SEALED_PARTS])
def test_a_changed_byte_is_noticed(place):
    """A change anywhere, in the header too, makes the whole file unreadable."""
    sealed = bytearray(encrypt(b"x" * (CHUNK + 10), PASSPHRASE))
    sealed[place] ^= 1
    with pytest.raises(DecryptionError):
        decrypt(bytes(sealed), PASSPHRASE)


def test_chunks_cannot_be_moved_cut_off_or_added():
    """The chunks of a file are all there, in their order."""
    sealed = encrypt(b"a" * CHUNK + b"b" * CHUNK + b"c" * CHUNK, PASSPHRASE)
    head, body = sealed[:HEADER], sealed[HEADER:]
    size = CHUNK + TAG
    a, b, c = (body[start : start + size] for start in range(0, len(body), size))
    assert decrypt(head + a + b + c, PASSPHRASE)
    for parts in (a + b, a, b"", b + a + c, a + b + c + c, a + c, a + b + c[:-1], a + b + c + b"x"):
        with pytest.raises(DecryptionError):
            decrypt(head + parts, PASSPHRASE)


@pytest.mark.parametrize("cost", [0, 13, 19, 31, 255])
def test_a_file_does_not_choose_what_scrypt_costs(cost):
    """A cost that would take all memory, or none, is refused before anything is computed."""
    sealed = bytearray(encrypt(b"x", PASSPHRASE))
    sealed[len(MAGIC) + SALT] = cost
    with pytest.raises(DecryptionError, match="damaged"):
        decrypt(bytes(sealed), PASSPHRASE)
