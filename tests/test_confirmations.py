"""signin/confirmations.py: what the identity provider says of a user at a refresh, and what follows for the sign-in."""

import logging
from dataclasses import replace

import pytest

from claude_proxy.config.oidc import Oidc
from claude_proxy.secret import Secret
from claude_proxy.signin.confirmations import Confirmations, SignInEnded
from claude_proxy.signin.id_token import NotAllowed
from claude_proxy.signin.identity import Identity
from claude_proxy.signin.key_source import KeyFile
from claude_proxy.signin.oidc_client import Identified, ProviderFailed, Refreshed, Rejected
from claude_proxy.signin.sealed_token import unseal

pytestmark = pytest.mark.anyio
NOW, DAY = 1_800_000_000.0, 86_400.0
PROVIDER = Oidc("https://login.example", "proxy")
ANNA = Identity("anna@example.org", ("team-a",), "anna@example.org")
FIRST, SECOND = Secret("made-up-first-refresh-token"), Secret("made-up-second-refresh-token")
AWAY = ProviderFailed("no response: connection refused")


class Client:
    """An ``OidcClient`` that a test tells what to do."""

    def __init__(self):
        self.provider = PROVIDER
        self.outcome = Refreshed(identity=ANNA)
        self.sent = []

    async def refresh(self, provider, token, subject):
        self.sent.append((provider, token.reveal(), subject))
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


class World:
    """One process, and a user whom the provider has identified."""

    def __init__(self, path):
        self.now, self.client, self.keys = NOW, Client(), KeyFile(path, lambda: self.now)
        self.confirmations = Confirmations(self.client, self.keys, lambda: self.now)

    async def identified(self, token=FIRST):
        return await self.confirmations.confirmed(PROVIDER, Identified(ANNA, "1", token))

    async def ask(self, identity):
        return await self.confirmations.ask(identity, NOW)

    def token_in(self, identity):
        last = identity.confirmation
        return unseal(last.sealed, self.keys.current(), last.issuer, last.client_id, last.subject).reveal()


@pytest.fixture
def world(tmp_path):
    return World(tmp_path / "signing-keys")


async def test_a_user_who_is_confirmed(world):
    """The provider's token is sent once, the user is as the provider describes them now, and the time of it is kept."""
    identity = await world.identified()
    world.now += 3600
    world.client.outcome = Refreshed(identity=replace(ANNA, groups=("team-b",)))
    found = await world.ask(identity)
    assert world.client.sent == [(PROVIDER, FIRST.reveal(), "1")]
    assert (found.goes_on, found.identity.groups, found.identity.confirmation.at) == (True, ("team-b",), NOW + 3600)
    assert world.token_in(found.identity) == FIRST.reveal()


async def test_a_token_that_the_provider_replaces(world):
    """The new token is the one that is sent next, also where the rest of the response failed."""
    identity = await world.identified()
    for outcome in (Refreshed(SECOND, ANNA), Refreshed(SECOND, problem="its keys are missing: HTTP 500")):
        world.client.outcome = outcome
        found = await world.ask(identity)
        assert (found.goes_on, world.token_in(found.identity)) == (True, SECOND.reveal())
        await world.ask(found.identity)
        assert world.client.sent[-1][1] == SECOND.reveal()


async def test_a_response_that_describes_nobody(world):
    """A provider that only accepts its token confirms the user, who keeps name and groups."""
    world.client.outcome = Refreshed()
    identity = await world.identified()
    world.now += 3600
    found = await world.ask(identity)
    assert (found.identity.groups, found.identity.confirmation.at) == (ANNA.groups, NOW + 3600)


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        (Rejected("it refused the refresh: HTTP 400 invalid_grant"), "login.example: it refused the refresh: HTTP 400"),
        (NotAllowed("Your account is not in a domain"), "not in a domain"),
        (Refreshed(identity=replace(ANNA, name="boss@example.org")), "another name"),
    ],
)
async def test_a_user_who_is_not_confirmed(world, outcome, words):
    """A refused token, a user who may no longer sign in and another name end the sign-in."""
    identity = await world.identified()
    world.client.outcome = outcome
    with pytest.raises(SignInEnded, match=words):
        await world.ask(identity)


async def test_a_provider_that_is_away(world, caplog):
    """It ends nothing: a sign-in goes on for 24 h after its last confirmation, and then waits. The log says so once."""
    identity = await world.identified()
    world.client.outcome = AWAY
    with caplog.at_level(logging.INFO):
        for later, goes_on in ((3600, True), (DAY, True), (DAY + 1, False), (30 * DAY, False)):
            world.now = NOW + later
            found = await world.ask(identity)
            assert (found.goes_on, found.identity.confirmation.at) == (goes_on, NOW)
            identity = found.identity
        world.client.outcome = Refreshed(identity=ANNA)
        assert (await world.ask(identity)).goes_on
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        (
            "WARNING",
            f"login.example cannot confirm who is signed in: {AWAY}; sign-ins go on for 24 h after their last confirmation",
        ),
        ("INFO", "login.example confirms again who is signed in"),
    ]


async def test_without_a_refresh_token(world, caplog):
    """The provider is asked nothing, and the sign-in ends 24 h after its start; the log says so at the first sign-in."""
    with caplog.at_level(logging.INFO):
        identity, _ = await world.identified(None), await world.identified(None)
    assert [record.getMessage() for record in caplog.records] == [
        "login.example gives no refresh token, so a sign-in there lasts 24 h (max_age_hours), also that of a removed user"
    ]
    for one in (identity, ANNA):  # the second as an earlier version has it
        world.now = NOW + DAY
        assert (await world.ask(one)).goes_on
        world.now += 1
        with pytest.raises(SignInEnded, match="older than 24 h"):
            await world.ask(one)
    assert world.client.sent == []


async def test_max_age(world):
    """``max_age_hours`` as it is now applies."""
    with_token, without = await world.identified(), await world.identified(None)
    world.client.provider = replace(PROVIDER, max_age_seconds=3600.0)
    world.client.outcome = AWAY
    world.now += 3601
    assert not (await world.ask(with_token)).goes_on
    with pytest.raises(SignInEnded, match="older than 1 h"):
        await world.ask(without)


@pytest.mark.parametrize("changed", [{"issuer": "https://other.example"}, {"client_id": "other"}])
async def test_another_provider(world, changed):
    """A token is sent to no other provider and as no other client: users sign in again."""
    identity = await world.identified()
    world.client.provider = replace(PROVIDER, **changed)
    with pytest.raises(SignInEnded, match="another provider"):
        await world.ask(identity)
    assert world.client.sent == []


async def test_a_provider_that_is_not_ready(world):
    """A provider without its secret in the environment is like one that is away."""
    identity = await world.identified()
    world.client.provider = None
    assert (await world.ask(identity)).goes_on
    world.now += DAY + 1
    assert not (await world.ask(identity)).goes_on


async def test_signing_keys(world):
    """A replaced key still opens a token, which is then sealed with the new one; after a discarded key users sign in again."""
    identity = await world.identified()
    await world.keys.rotate(discard=False)
    world.now += 3600
    after = (await world.ask(identity)).identity
    assert after.confirmation.sealed.startswith(world.keys.current().keys[0].kid)
    await world.keys.rotate(discard=True)
    with pytest.raises(SignInEnded, match="discarded"):
        await world.ask(after)


async def test_keys_that_cannot_be_read(world, tmp_path):
    """While there are no keys nothing ends, and no token of a provider is kept in the clear."""
    identity = await world.identified()
    (tmp_path / "signing-keys").write_text("{}")
    assert not (await world.ask(identity)).goes_on
    assert (await world.identified()).confirmation.sealed == ""
    assert world.client.sent == []


async def test_nothing_shows_the_token(world, caplog):
    """Neither the identity nor the log shows a token of the provider."""
    with caplog.at_level(logging.DEBUG):
        identity = await world.identified()
        world.client.outcome = Refreshed(SECOND, problem="x")
        await world.ask(identity)
    assert "made-up" not in f"{identity} {identity.as_json()} {world.client.outcome} {caplog.text}"
