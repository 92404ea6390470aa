"""signin/sealed_token.py: the refresh token of a provider in the store."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy.secret import Secret
from claude_proxy.signin.keys import KeyRing
from claude_proxy.signin.sealed_token import seal, unseal

NOW = 1_800_000_000.0
TOKEN = Secret("made-up-refresh-token-of-the-provider")
BOUND = ("https://login.example", "proxy", "1")
RING = KeyRing.new(NOW)


def test_a_token_comes_back():
    """A process with the same keys opens a token, also after the key was replaced; the text shows nothing of it."""
    sealed = seal(TOKEN, RING.keys[0], *BOUND)
    for ring in (RING, RING.rotated(NOW + 10)):
        assert unseal(sealed, ring, *BOUND).reveal() == TOKEN.reveal()
    assert "made-up" not in sealed
    assert sealed != seal(TOKEN, RING.keys[0], *BOUND)


@pytest.mark.parametrize(
    "bound",
    [("https://evil.example", "proxy", "1"), ("https://login.example", "other", "1"), ("https://login.example", "proxy")],
)
def test_a_token_is_for_one_provider_client_and_user(bound):
    """Whoever can write to the store cannot have a token sent to another provider, or for another user."""
    assert unseal(seal(TOKEN, RING.keys[0], *BOUND), RING, *bound) is None


def test_a_discarded_key():
    """Without its key a token cannot be opened."""
    assert unseal(seal(TOKEN, RING.keys[0], *BOUND), RING.rotated(NOW, discard=True), *BOUND) is None


@given(st.text(max_size=100), st.booleans())
def test_any_text(text, names_the_key):
    """Any other text is no token, and no error."""
    assert unseal(f"{RING.keys[0].kid}.{text}" if names_the_key else text, RING, *BOUND) is None
