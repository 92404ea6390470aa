"""Encrypts a backup with a passphrase: scrypt, and AES-256-GCM in chunks. Bytes to bytes, no I/O.

Three rules:
  1. every byte is authenticated, the header too; a chunk cannot be cut off, moved or taken from another backup, because its
     nonce holds its number and whether it is the last one;
  2. each backup has a key and nonces of its own, by a random salt;
  3. what scrypt costs is in the header, so that it can grow, and bounded, so that no file makes a restore take all memory.
"""

import os
import struct
import unicodedata

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

MAGIC = b"claude-proxy backup, encrypted, form 1\n"
# The power of two that is scrypt's cost (128 MiB of memory), and those that are accepted.
COST, COSTS = 17, range(14, 19)
SALT, NONCE_START, TAG = 16, 7, 16
HEADER = len(MAGIC) + SALT + 1 + NONCE_START
CHUNK = 2**20

WRONG = (
    "The passphrase is wrong, or the file is damaged. Try the passphrase again: capital letters and spaces make a difference, "
    "and of a --passphrase-file only the first line is read. If it is right, copy the backup again."
)


class DecryptionError(ValueError):
    """The passphrase is another one, or the file was changed; the message is a sentence."""


def encrypt(plain: bytes, passphrase: str) -> bytes:
    """Return the encrypted bytes."""
    header = MAGIC + os.urandom(SALT) + bytes([COST]) + os.urandom(NONCE_START)
    cipher = AESGCM(_key(header, passphrase))
    starts = range(0, len(plain), CHUNK) or range(1)
    last = starts[-1]
    chunks = (
        cipher.encrypt(_nonce(header, number, last=start == last), plain[start : start + CHUNK], header)
        for number, start in enumerate(starts)
    )
    return header + b"".join(chunks)


def decrypt(sealed: bytes, passphrase: str) -> bytes:
    """Return the bytes that were encrypted; raise ``DecryptionError``."""
    header, body = sealed[:HEADER], memoryview(sealed)[HEADER:]
    if len(header) < HEADER or not is_encrypted(sealed) or header[len(MAGIC) + SALT] not in COSTS or len(body) < TAG:
        raise DecryptionError("The file is damaged, or it is not a backup of claude-proxy.")
    cipher = AESGCM(_key(header, passphrase))
    starts = range(0, len(body), CHUNK + TAG)
    plain = bytearray()
    for number, start in enumerate(starts):
        nonce = _nonce(header, number, last=start == starts[-1])
        try:
            plain += cipher.decrypt(nonce, bytes(body[start : start + CHUNK + TAG]), header)
        except InvalidTag:
            raise DecryptionError("The file is damaged: a part of it was changed or is missing." if number else WRONG) from None
    return bytes(plain)


def is_encrypted(content: bytes) -> bool:
    """Whether bytes are of this form."""
    return content.startswith(MAGIC)


def _key(header: bytes, passphrase: str) -> bytes:
    salt, cost = header[len(MAGIC) : len(MAGIC) + SALT], header[len(MAGIC) + SALT]
    words = unicodedata.normalize("NFC", passphrase).encode()
    return Scrypt(salt=salt, length=32, n=2**cost, r=8, p=1).derive(words)


def _nonce(header: bytes, number: int, *, last: bool) -> bytes:
    return header[-NONCE_START:] + struct.pack(">IB", number, last)
