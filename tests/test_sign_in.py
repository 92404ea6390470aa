"""signin/sign_in.py: the parts of one process together."""

import logging

import pytest

from claude_proxy.config.sign_in import SignIn as Config
from claude_proxy.config.signing_keys import Place
from claude_proxy.config.users import UserBook, parse_entry
from claude_proxy.secret import Secret
from claude_proxy.signin.identity import Identity
from claude_proxy.signin.sessions import Tokens
from claude_proxy.signin.sign_in import SignIn
from claude_proxy.state.memory import MemoryStore
from claude_proxy.state.store import StoreUnavailable

pytestmark = pytest.mark.anyio
NOW = 1_800_000_000.0
USER = parse_entry("anna=sk-made-up-token-of-anna")
SEALED = Place(sealed_by=Secret("sk-made-up-master-key"))


def made(place, store=None, users=(USER,), config=None, clock=lambda: NOW):
    return SignIn(store, place, UserBook(users), lambda: config or Config(), clock)


@pytest.mark.parametrize(
    ("users", "config", "enabled"),
    [
        ((USER,), Config(), True),
        ((), Config(), False),
        ((), Config(provider=True), True),
        ((USER,), Config(enabled=False), False),
    ],
)
async def test_when_it_is_enabled(tmp_path, users, config, enabled):
    """Keys are made at the start where somebody can sign in, and nothing is written elsewhere."""
    sign_in = made(Place(tmp_path / "keys"), users=users, config=config)
    assert sign_in.enabled is enabled
    await sign_in.prepare()
    assert (tmp_path / "keys").exists() is enabled


async def test_why_it_is_closed(caplog):
    """A place without keys is logged at the start, once, with the reason."""
    with caplog.at_level(logging.WARNING):
        await made(Place(problem="the reason")).prepare()
    assert [record.getMessage() for record in caplog.records] == ["sign-in with /login is closed: the reason"]


async def test_a_store_that_is_away_at_the_start():
    """A start does not wait for the store, and the first login makes the keys."""
    store = MemoryStore()

    async def away(_):
        raise StoreUnavailable("Redis", "made-up")

    read, store.read = store.read, away
    sign_in = made(SEALED, store)
    await sign_in.prepare()
    store.read = read
    await sign_in.start("")
    assert sign_in.keys.current()


async def test_replicas(tmp_path):
    """A login that one replica started and another approved is redeemed at a third, and all accept its token."""
    store = MemoryStore()
    replicas = [made(SEALED, store) for _ in range(3)]
    started = await replicas[0].start("")
    assert await replicas[1].codes.approve(started.user_code, Identity("anna", token_digest=USER.digest))
    tokens = await replicas[2].redeem(started.device_code)
    assert isinstance(tokens, Tokens)
    for replica in replicas:
        await replica.prepare()
        assert replica.tokens.find(tokens.access_token).name == "anna"


async def test_a_process_without_a_store_forgets(tmp_path):
    """In the memory of a process, codes go when they are old, because nothing else removes them."""
    now = [NOW]
    sign_in = made(Place(tmp_path / "keys"), clock=lambda: now[0])
    await sign_in.start("")
    now[0] += 3600
    await sign_in.start("")
    rows, _ = await sign_in._memory.pull(0)
    assert {row.stamp for row in rows} == {NOW + 3600}


async def test_tokens_that_cannot_be_checked_yet():
    """Until a replica has read the keys it cannot check tokens; without users there is nothing to check."""
    sign_in = made(SEALED, MemoryStore())
    assert not sign_in.tokens.ready
    assert made(SEALED, MemoryStore(), users=()).tokens.ready
    await sign_in.prepare()
    assert sign_in.tokens.ready
