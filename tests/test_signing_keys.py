"""config/signing_keys.py: where the keys are."""

from pathlib import Path

import pytest

from claude_proxy.config.settings import Settings
from claude_proxy.config.signing_keys import (
    FILE_VARIABLE,
    GENERATED_MASTER_KEY,
    NO_MASTER_KEY,
    NO_PLACE,
    NO_STORE,
    OWN_FILE,
    Place,
    place,
)
from claude_proxy.secret import Secret

MASTER = {"LITELLM_MASTER_KEY": "sk-made-up-master"}
OWN = {OWN_FILE: "/data/signing-keys"}
NAMED = {FILE_VARIABLE: "/shared/keys"}
GENERATED = {GENERATED_MASTER_KEY: "yes"}
TWO = {"NUM_WORKERS": "2"}


@pytest.mark.parametrize(
    ("environ", "redis", "store", "expected"),
    [
        (OWN, False, True, Place(Path("/data/signing-keys"))),
        (OWN | NAMED, False, True, Place(Path("/shared/keys"))),
        (OWN | TWO, False, True, Place(Path("/data/signing-keys"))),
        ({}, False, True, NO_PLACE),
        # Replicas do not share a folder: the keys are sealed in their Redis, or in a file that the operator has named.
        (OWN | NAMED, True, True, Place(Path("/shared/keys"))),
        (OWN, True, True, Place(problem=NO_MASTER_KEY)),
        (OWN | MASTER | GENERATED, True, True, Place(problem=NO_MASTER_KEY)),
        # Without a store a login that one process starts is unknown to the other.
        (OWN, False, False, Place(Path("/data/signing-keys"))),
        (OWN | NAMED | TWO, False, False, Place(problem=NO_STORE)),
    ],
)
def test_the_place(environ, redis, store, expected):
    """It is a file that all processes have, or else there is none, with the reason."""
    assert place(environ, Settings.parse(environ), redis=redis, store=store) == expected


def test_replicas_with_a_master_key():
    """The operator's master key seals the keys of replicas."""
    found = place(OWN | MASTER, Settings.parse(MASTER), redis=True, store=True)
    assert found.sealed_by.matches(Secret("sk-made-up-master"))
    assert (found.path, found.problem) == (None, "")
