"""signin/keys.py: keys that sign, and how they are kept."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy.secret import Secret
from claude_proxy.signin.keys import (
    KEPT_SECONDS,
    MAX_KEYS,
    SETTLE_SECONDS,
    KeyRing,
    UnusableKeys,
    read,
    seal,
    unseal,
    written,
)

NOW = 1_800_000_000.0
MASTER, OTHER = Secret("sk-made-up-master-key"), Secret("sk-made-up-other-master-key")


def test_a_ring_comes_back():
    """What is written to a file, or sealed, is read again as it was."""
    ring = KeyRing.new(NOW).rotated(NOW + 10)
    assert read(written(ring)) == ring
    assert unseal(seal(ring, MASTER), MASTER) == ring


def test_a_key_does_not_show_its_secret():
    """Neither a key nor a ring shows a secret when it is printed."""
    ring = KeyRing.new(NOW)
    assert json.loads(written(ring))["keys"][0]["secret"] not in repr(ring)
    assert repr(ring.keys[0]) == f"Key({ring.keys[0].kid})"


def test_a_new_key_signs_once_every_process_has_it():
    """After a rotation the old key signs for a moment; the first key of all signs immediately."""
    ring = KeyRing.new(NOW)
    assert ring.signing(NOW) == ring.keys[0]
    rotated = ring.rotated(NOW + 100)
    assert rotated.signing(NOW + 100).kid == ring.keys[0].kid
    assert rotated.signing(NOW + 100 + SETTLE_SECONDS) == rotated.keys[0]


def test_a_replaced_key_is_kept_as_long_as_its_tokens_live():
    """A replaced key is dropped only when no token that it has signed is valid, and a later rotation does not prolong that."""
    first = KeyRing.new(NOW)
    second = first.rotated(NOW + 1)
    third = second.rotated(NOW + KEPT_SECONDS)
    assert third.find(first.keys[0].kid)
    fourth = third.rotated(NOW + 1 + KEPT_SECONDS)
    assert fourth.find(first.keys[0].kid) is None
    assert fourth.find(second.keys[0].kid)


def test_discarding():
    """A rotation that discards the old keys leaves the new one alone."""
    ring = KeyRing.new(NOW)
    after = ring.rotated(NOW + 1, discard=True)
    assert len(after.keys) == 1
    assert after.find(ring.keys[0].kid) is None
    assert after.signing(NOW + 1) == after.keys[0]


def test_many_rotations_are_bounded():
    """However often keys are rotated, a file stays one that can be read."""
    ring = KeyRing.new(NOW)
    for second in range(3 * MAX_KEYS):
        ring = ring.rotated(NOW + second)
    assert read(written(ring)) == ring


def test_derived_secrets_differ():
    """What a key derives depends on the key, the purpose and the message."""
    first, second = KeyRing.new(NOW).keys[0], KeyRing.new(NOW).keys[0]
    found = {key.derive(purpose, message) for key in (first, second) for purpose in "ab" for message in (b"", b"x")}
    assert len(found) == 8
    assert all(len(one) == 32 for one in found)
    assert first.derive("a", b"x") == first.derive("a", b"x")


@pytest.mark.parametrize(
    "change",
    [
        lambda found: found["keys"].clear(),
        lambda found: found.pop("keys"),
        lambda found: found["keys"][0].update(secret="dG9vIHNob3J0"),
        lambda found: found["keys"][0].update(secret="not base64 at all"),
        lambda found: found["keys"][0].update(secret=7),
        lambda found: found["keys"][0].update(kid="a/b"),
        lambda found: found["keys"][0].update(kid=None),
        lambda found: found["keys"][0].pop("replaced"),
        lambda found: found["keys"][0].update(created="yesterday"),
        lambda found: found["keys"].append(found["keys"][0]),
        lambda found: found.update(keys=7),
    ],
)
def test_a_file_with_errors_has_no_keys(change):
    """A file of another form, with a short key or with one name twice, has no keys; none of it is used."""
    found = json.loads(written(KeyRing.new(NOW)))
    change(found)
    with pytest.raises(UnusableKeys):
        read(json.dumps(found).encode())


@given(st.binary())
def test_any_bytes(content):
    """Any bytes are keys, or an error that the caller expects."""
    with pytest.raises(UnusableKeys):
        read(content)


def test_another_master_key_opens_nothing():
    """Sealed keys are opened only with the key that sealed them, and a changed row not at all."""
    sealed = seal(KeyRing.new(NOW), MASTER)
    with pytest.raises(UnusableKeys):
        unseal(sealed, OTHER)
    for changed in ("", sealed[:-4], sealed[4:], f"A{sealed[1:]}" if sealed[0] != "A" else f"B{sealed[1:]}", "ü"):
        with pytest.raises(UnusableKeys):
            unseal(changed, MASTER)


def test_a_sealed_ring_shows_nothing():
    """Two seals of one ring differ, and neither holds the key's name."""
    ring = KeyRing.new(NOW)
    assert seal(ring, MASTER) != seal(ring, MASTER)
    assert ring.keys[0].kid not in seal(ring, MASTER)
