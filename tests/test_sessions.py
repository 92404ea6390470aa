"""signin/sessions.py: refresh tokens, used once; a repeated request is no second use, and a stolen token is found out."""

import asyncio
import logging
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_proxy.config.oidc import Oidc
from claude_proxy.config.sign_in import SignIn as Config
from claude_proxy.config.signing_keys import Place
from claude_proxy.config.users import UserBook, parse_entry
from claude_proxy.secret import Secret
from claude_proxy.signin import sessions as module
from claude_proxy.signin.id_token import NotAllowed
from claude_proxy.signin.identity import Identity
from claude_proxy.signin.oidc_client import Identified, ProviderFailed, Refreshed, Rejected
from claude_proxy.signin.session import Session
from claude_proxy.signin.sessions import (
    LEASE_SECONDS,
    NAME_BYTES,
    REPEAT_SECONDS,
    SUSPECT_SECONDS,
    InvalidGrant,
    KeysUnavailable,
    Unconfirmed,
)
from claude_proxy.signin.sign_in import SignIn
from claude_proxy.state.memory import MemoryStore
from claude_proxy.state.redis import RedisStore
from claude_proxy.state.rows import Row
from claude_proxy.state.sqlite import SqliteStore
from claude_proxy.state.store import StoreUnavailable

pytestmark = pytest.mark.anyio
NOW = 1_800_000_000.0
USER = parse_entry("anna=sk-made-up-token-of-anna")
ANNA = Identity("anna", ("team-a",), "anna@example.org", USER.digest)
BEN = Identity("ben@example.org", ("team-b",))
DAY = 86_400.0


class Away(MemoryStore):
    """A store that a test takes away."""

    away = False

    async def push(self, rows):
        self._check()
        await super().push(rows)

    async def read(self, keys):
        self._check()
        return await super().read(keys)

    def _check(self):
        if self.away:
            raise StoreUnavailable(self.kind, "taken away")


class Provider:
    """An ``OidcClient`` of a provider that replaces its refresh token at each use, and refuses one that was used before."""

    def __init__(self):
        self.provider = Oidc("https://login.example", "proxy")
        self.valid, self.asked = "made-up-provider-token-0", 0
        # What it responds instead; and what waits until a test lets it go on.
        self.failure, self.groups = None, BEN.groups
        self.begun, self.open = asyncio.Event(), asyncio.Event()
        self.open.set()

    async def refresh(self, provider, token, subject):
        self.asked += 1
        self.begun.set()
        await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure
        if token.reveal() != self.valid:
            raise Rejected("it refused the refresh: HTTP 400 invalid_grant")
        self.valid = f"made-up-provider-token-{self.asked}"
        await self.open.wait()
        return Refreshed(Secret(self.valid), replace(BEN, groups=self.groups))


class World:
    """Processes that share a store and keys."""

    def __init__(self, path):
        self.now = NOW
        self.store = Away()
        self.config = Config(provider=True)
        self.path = path
        self.provider = Provider()
        self.processes = [self.process() for _ in range(2)]

    def process(self, store=None):
        users = UserBook((USER,))
        return SignIn(
            store or self.store, Place(self.path), users, lambda: self.config, lambda: self.now, provider=self.provider
        )

    @property
    def one(self):
        return self.processes[0]

    async def sign_in(self, identity=ANNA):
        started = await self.one.start("")
        assert await self.one.codes.approve(started.user_code, identity)
        return started.device_code, await self.one.redeem(started.device_code)

    async def sign_in_at_the_provider(self, token="made-up-provider-token-0"):
        """Sign Ben in; without a token, at a provider that gives none."""
        found = Identified(BEN, "1", Secret(token) if token else None)
        identity = await self.one.confirmations.confirmed(self.provider.provider, found)
        return (await self.sign_in(identity))[1]

    async def asking(self, tokens):
        """Return a refresh that waits for the provider, which has accepted its token."""
        self.provider.open.clear()
        request = asyncio.ensure_future(self.one.refresh(tokens.refresh_token))
        await self.provider.begun.wait()
        await asyncio.sleep(0)
        return request

    async def share(self):
        """Apply what the store has in every process, as the synchronization does."""
        for process in self.processes:
            process.shared.merge((await self.store.pull(0))[0])

    def accepts(self, tokens):
        return [bool(process.tokens.find(tokens.access_token)) for process in self.processes]


@pytest.fixture
def world(tmp_path):
    return World(tmp_path / "signing-keys")


async def test_a_line_of_tokens(world):
    """Each refresh, at any process, gives another refresh token and a valid access token, for the same user."""
    _, tokens = await world.sign_in()
    seen = {tokens.refresh_token.reveal()}
    for turn in range(6):
        world.now += 3600
        tokens = await world.processes[turn % 2].refresh(tokens.refresh_token)
        assert tokens.identity == ANNA
        assert world.accepts(tokens) == [True, True]
        seen.add(tokens.refresh_token.reveal())
    assert len(seen) == 7


async def test_the_store_has_no_token(world):
    """Who reads the store can neither refresh nor use anything."""
    code, tokens = await world.sign_in()
    tokens = await world.one.refresh(tokens.refresh_token)
    rows, _ = await world.store.pull(0)
    for secret in (code, tokens.refresh_token, tokens.access_token):
        assert not any(secret.reveal() in row.key + row.value for row in rows)


async def test_a_repeated_request(world):
    """A client that repeats a request because its response was lost gets the same refresh token, at any process."""
    code, first = await world.sign_in()
    world.now += REPEAT_SECONDS
    assert (await world.processes[1].redeem(code)).refresh_token.reveal() == first.refresh_token.reveal()
    second = await world.one.refresh(first.refresh_token)
    world.now += REPEAT_SECONDS
    again = await world.processes[1].refresh(first.refresh_token)
    assert again.refresh_token.reveal() == second.refresh_token.reveal()
    world.now += 3600
    assert world.accepts(await world.one.refresh(again.refresh_token)) == [True, True]


@pytest.mark.parametrize("later", [0.0, REPEAT_SECONDS + 1, 86400.0])
async def test_a_token_used_twice(world, later):
    """Once its successor was used, or too late for a repetition, a token is refused; the latest one goes on."""
    _, first = await world.sign_in()
    latest = await world.one.refresh(first.refresh_token)
    if later <= REPEAT_SECONDS:
        latest = await world.one.refresh(latest.refresh_token)
    world.now += later
    for process in world.processes:
        with pytest.raises(InvalidGrant):
            await process.refresh(first.refresh_token)
    assert world.accepts(await world.one.refresh(latest.refresh_token)) == [True, True]


async def test_an_old_token_of_the_line(world):
    """Any earlier token of a line is refused: a Claude Code that was idle for hours has such a one."""
    _, tokens = await world.sign_in()
    line = [tokens]
    for _ in range(4):
        world.now += 3600
        line.append(await world.one.refresh(line[-1].refresh_token))
    for old in line[:3]:
        with pytest.raises(InvalidGrant):
            await world.one.refresh(old.refresh_token)
    assert await world.one.refresh(line[-1].refresh_token)


@pytest.mark.parametrize(("later", "ends"), [(0.0, True), (SUSPECT_SECONDS, True), (SUSPECT_SECONDS + 1, False)])
async def test_a_stolen_token(world, later, ends):
    """A user whose token somebody else has used first has to sign in again, and that ends what the thief has."""
    (_, stolen), (_, other), (_, of_ben) = await world.sign_in(), await world.sign_in(), await world.sign_in(BEN)
    of_thief = await world.one.refresh(stolen.refresh_token)
    world.now += REPEAT_SECONDS + 1
    with pytest.raises(InvalidGrant):
        await world.processes[1].refresh(stolen.refresh_token)
    world.now += later
    _, again = await world.sign_in()
    await world.share()
    if ends:
        assert world.accepts(of_thief) == [False, False]
        with pytest.raises(InvalidGrant):
            await world.one.refresh(of_thief.refresh_token)
    else:
        assert await world.one.refresh(of_thief.refresh_token)
    for tokens in (again, other, of_ben):
        assert await world.one.refresh(tokens.refresh_token)


async def test_a_device_code_used_twice(world):
    """A device code that is redeemed again after its tokens were used, or later, ends its sign-in."""
    for later, refreshes in ((0, True), (REPEAT_SECONDS + 1, False)):
        code, tokens = await world.sign_in()
        if refreshes:
            tokens = await world.one.refresh(tokens.refresh_token)
        world.now += later
        with pytest.raises(InvalidGrant):
            await world.processes[1].redeem(code)
        with pytest.raises(InvalidGrant):
            await world.one.refresh(tokens.refresh_token)


async def test_processes_that_replace_a_token_together(world, monkeypatch):
    """Of two processes that replace a token at the same moment, both give the one successor, and the line goes on."""
    _, tokens = await world.sign_in()
    pushed = world.store.push

    async def push_late(rows):
        monkeypatch.undo()
        other = await world.processes[1].refresh(tokens.refresh_token)
        found.append(other)
        await pushed(rows)

    found = []
    monkeypatch.setattr(world.store, "push", push_late)
    found.append(await world.one.refresh(tokens.refresh_token))
    assert found[0].refresh_token.reveal() == found[1].refresh_token.reveal()
    after = await world.one.refresh(found[0].refresh_token)
    assert world.accepts(after) == [True, True]


async def test_many_requests_at_once(world):
    """However many requests use one token at once, there is one successor."""
    code, first = await world.sign_in()
    redeemed = await asyncio.gather(*(world.processes[turn % 2].redeem(code) for turn in range(20)))
    assert {one.refresh_token.reveal() for one in redeemed} == {first.refresh_token.reveal()}
    found = await asyncio.gather(*(world.processes[turn % 2].refresh(first.refresh_token) for turn in range(20)))
    assert len({one.refresh_token.reveal() for one in found}) == 1


async def test_an_end_beats_a_refresh(world, monkeypatch):
    """A sign-in that ends while it is refreshed has ended."""
    _, tokens = await world.sign_in()
    pushed = world.store.push

    async def push_late(rows):
        monkeypatch.undo()
        await world.processes[1].sessions.revoke(tokens.refresh_token)
        await pushed(rows)

    monkeypatch.setattr(world.store, "push", push_late)
    with pytest.raises(InvalidGrant):
        await world.one.refresh(tokens.refresh_token)
    with pytest.raises(InvalidGrant):
        await world.one.refresh(tokens.refresh_token)


@pytest.mark.parametrize("kind", ["access_token", "refresh_token"])
async def test_revocation(world, kind):
    """Either token ends the whole sign-in, an expired access token too, and no other one."""
    (_, tokens), (_, other) = await world.sign_in(), await world.sign_in()
    world.now += 7200
    await world.one.sessions.revoke(getattr(tokens, kind))
    with pytest.raises(InvalidGrant):
        await world.one.refresh(tokens.refresh_token)
    assert await world.one.refresh(other.refresh_token)


@pytest.mark.parametrize("text", ["", "x", "eyJ.eyJ.x", "A" * 64, "\ud83d", "é" * 64])
async def test_what_is_no_token(world, text):
    """Any other text is an invalid grant, and revokes nothing."""
    with pytest.raises(InvalidGrant):
        await world.one.refresh(Secret(text))
    await world.one.sessions.revoke(Secret(text))
    assert [row.key for row in (await world.store.pull(0))[0]] == []


async def test_the_name_of_a_sign_in_is_not_its_own_key(world):
    """The name of a sign-in in access tokens and in the store refreshes and revokes nothing."""
    _, tokens = await world.sign_in()
    found = world.one.tokens.find(tokens.access_token)
    forged = Secret(f"{found.session}{'A' * (64 - len(found.session))}")
    with pytest.raises(InvalidGrant):
        await world.one.refresh(forged)
    await world.one.sessions.revoke(forged)
    assert await world.one.refresh(tokens.refresh_token)


async def test_a_refresh_token_expires(world):
    """A sign-in that was not refreshed for its lifetime cannot be; each refresh begins the lifetime anew."""
    _, tokens = await world.sign_in()
    for _ in range(3):
        world.now += world.config.refresh_seconds
        tokens = await world.one.refresh(tokens.refresh_token)
    world.now += world.config.refresh_seconds + 1
    with pytest.raises(InvalidGrant):
        await world.one.refresh(tokens.refresh_token)
    assert await world.one.sessions.all() == []


async def test_a_clock_that_jumps(world):
    """Where the clock is set back and forth, tokens are still replaced one by one."""
    _, tokens = await world.sign_in()
    for jump in (-7200, 0, 3600, -3600, 10_000, -10_000):
        world.now += jump
        tokens = await world.one.refresh(tokens.refresh_token)
        assert (await world.processes[1].refresh(tokens.refresh_token)).refresh_token != tokens.refresh_token
        tokens = await world.one.refresh(tokens.refresh_token)


async def test_a_removed_user(world, caplog):
    """Without the personal token the next refresh is refused, and the sign-in has ended for good."""
    _, tokens = await world.sign_in()
    for process in world.processes:
        process._users.fixed = ()
    with pytest.raises(InvalidGrant):
        await world.one.refresh(tokens.refresh_token)
    for process in world.processes:
        process._users.fixed = (USER,)
    with pytest.raises(InvalidGrant):
        await world.one.refresh(tokens.refresh_token)
    assert tokens.refresh_token.reveal() not in caplog.text


async def test_a_user_who_was_removed_before_the_code_was_redeemed(world):
    """An approval is worth nothing once the user is gone."""
    started = await world.one.start("")
    assert await world.one.codes.approve(started.user_code, ANNA)
    world.one._users.fixed = ()
    with pytest.raises(InvalidGrant):
        await world.one.redeem(started.device_code)


async def test_a_removed_provider(world):
    """Without the identity provider its users cannot refresh; those with a personal token can."""
    (_, tokens), (_, personal) = await world.sign_in(BEN), await world.sign_in()
    assert (await world.one.refresh(tokens.refresh_token)).identity == BEN
    world.config = Config()
    assert await world.one.refresh(personal.refresh_token)
    with pytest.raises(InvalidGrant):
        await world.one.refresh(tokens.refresh_token)


async def test_revocation_of_a_user(world):
    """All sign-ins of a user end, and what they have approved and not redeemed; the names differ in case."""
    (_, first), (_, second), (_, other) = await world.sign_in(BEN), await world.sign_in(BEN), await world.sign_in()
    started = await world.one.start("")
    assert await world.one.codes.approve(started.user_code, BEN)
    process = world.process()
    await process.codes.withdraw("BEN@example.org")
    assert await process.sessions.revoke_user("BEN@example.org") == 2
    await world.share()
    assert [world.accepts(tokens) for tokens in (first, second, other)] == [[False] * 2, [False] * 2, [True] * 2]
    assert [one.identity for one in await world.one.sessions.all()] == [ANNA]
    assert (await world.one.redeem(started.device_code)).value == "denied"


async def test_a_store_that_is_away(world):
    """Without its store nobody signs in or refreshes, and valid access tokens go on."""
    code, tokens = await world.sign_in()
    world.store.away = True
    for call in (world.one.start(""), world.one.redeem(code), world.one.refresh(tokens.refresh_token)):
        with pytest.raises(StoreUnavailable):
            await call
    assert world.accepts(tokens) == [True, True]
    world.store.away = False
    assert await world.one.refresh(tokens.refresh_token)


async def test_a_store_that_lost_its_rows(world):
    """What a process pushes again is enough to refresh, and no sign-in that has ended comes back."""
    (_, tokens), (_, ended) = await world.sign_in(), await world.sign_in()
    tokens = await world.one.refresh(tokens.refresh_token)
    await world.one.sessions.revoke(ended.refresh_token)
    await world.share()
    world.store = Away()
    after = [world.process() for _ in range(2)]
    await world.store.push(world.one.shared.everything())
    assert await after[0].refresh(tokens.refresh_token)
    with pytest.raises(InvalidGrant):
        await after[1].refresh(ended.refresh_token)


async def test_a_store_that_lost_its_rows_a_moment_ago(world):
    """A refresh does not wait until the rows were pushed again, and one that has ended is not refreshed by it."""
    (_, tokens), (_, ended) = await world.sign_in(), await world.sign_in()
    await world.one.sessions.revoke(ended.refresh_token)
    for prefix in ("signin:", "signout:"):
        await world.store.prune(prefix, 0.0, 0)
    assert await world.one.refresh(tokens.refresh_token)
    with pytest.raises(InvalidGrant):
        await world.one.refresh(ended.refresh_token)


async def test_without_keys(world):
    """Without keys nobody can start to sign in."""
    closed = SignIn(world.store, Place(problem="no reason"), UserBook((USER,)), lambda: world.config, lambda: world.now)
    with pytest.raises(KeysUnavailable):
        await closed.start("")
    with pytest.raises(KeysUnavailable):
        await closed.refresh(Secret("A" * 64))


async def test_a_discarded_key(world):
    """Refresh tokens do not depend on the key that was the newest when they were made."""
    _, tokens = await world.sign_in()
    world.now += 3600
    await world.one.keys.rotate(discard=True)
    after = await world.processes[1].refresh(tokens.refresh_token)
    assert world.accepts(tokens) == [False, False]
    assert world.accepts(after) == [True, True]


@pytest.mark.parametrize("value", ["", "[]", "{}", '{"identity": {"name": "anna"}}'])
async def test_a_row_of_another_version(world, value):
    """A row that cannot be read refreshes nothing, and the list leaves it out."""
    _, tokens = await world.sign_in()
    (row,) = [row for row in (await world.store.pull(0))[0] if row.key.startswith("signin:")]
    await world.store.push([Row(row.key, NOW + 9, value)])
    assert Session.of_row(Row(row.key, NOW, value)) is None
    with pytest.raises(InvalidGrant):
        await world.one.refresh(tokens.refresh_token)
    assert await world.one.sessions.all() == []


@given(st.binary(max_size=80))
@settings(max_examples=50)
async def test_any_bytes_as_a_token(tmp_path_factory, content):
    """Whatever is sent, a refresh token that was never issued is an invalid grant."""
    world = World(tmp_path_factory.mktemp("any") / "signing-keys")
    with pytest.raises(InvalidGrant):
        await world.one.refresh(Secret(content.decode("latin-1")))


def test_a_sign_in_has_a_name_of_its_own():
    """A sign-in's name has 128 bits."""
    assert NAME_BYTES >= 16


async def test_the_provider_is_asked_at_each_refresh(world):
    """Its current groups apply, its token is replaced, and a repetition of the client asks it nothing."""
    tokens = await world.sign_in_at_the_provider()
    for turn in range(1, 5):
        world.now += 3600
        world.provider.groups = (f"team-{turn}",)
        used, tokens = tokens, await world.processes[turn % 2].refresh(tokens.refresh_token)
        again = await world.processes[0].refresh(used.refresh_token)
        assert (again.refresh_token.reveal(), world.provider.asked) == (tokens.refresh_token.reveal(), turn)
        assert tokens.identity.groups == (f"team-{turn}",)
        assert world.one.tokens.find(tokens.access_token).groups == (f"team-{turn}",)


async def test_the_store_has_no_token_of_the_provider(world, caplog):
    """Who reads the store, or the log, can ask the provider nothing."""
    with caplog.at_level(logging.DEBUG):
        tokens = await world.sign_in_at_the_provider()
        await world.one.refresh(tokens.refresh_token)
    rows, _ = await world.store.pull(0)
    assert "made-up-provider" not in "".join(row.value for row in rows) + caplog.text


@pytest.mark.parametrize("failure", [Rejected("it refused the refresh: HTTP 400 invalid_grant"), NotAllowed("No.")])
async def test_a_user_who_was_removed_at_the_provider(world, caplog, failure):
    """The next refresh is refused, all tokens of the sign-in end in every process, and the log says why. No other one ends."""
    tokens, (_, other) = await world.sign_in_at_the_provider(), await world.sign_in()
    world.provider.failure = failure
    with caplog.at_level(logging.INFO), pytest.raises(InvalidGrant):
        await world.one.refresh(tokens.refresh_token)
    assert f"the sign-in of user ben@example.org ended: login.example: {failure}" in caplog.messages
    await world.share()
    assert world.accepts(tokens) == [False, False]
    world.provider.failure = None
    with pytest.raises(InvalidGrant):
        await world.processes[1].refresh(tokens.refresh_token)
    assert world.provider.asked == 1
    assert await world.one.refresh(other.refresh_token)


async def test_a_provider_that_is_away(world):
    """Refreshes go on for 24 h; then they wait, without an end of the sign-in, until the provider is back."""
    tokens = await world.sign_in_at_the_provider()
    world.provider.failure = ProviderFailed("HTTP 503")
    for _ in range(24):
        world.now += 3600
        tokens = await world.one.refresh(tokens.refresh_token)
    world.now += 3600
    for process in world.processes * 2:
        with pytest.raises(Unconfirmed):
            await process.refresh(tokens.refresh_token)
    assert world.provider.asked == 28
    world.provider.failure = None
    tokens = await world.one.refresh(tokens.refresh_token)
    assert world.accepts(tokens) == [True, True]


async def test_a_provider_without_refresh_tokens(world, caplog):
    """A sign-in there lasts ``max_age_hours``; then its user signs in again, and nothing was asked."""
    tokens = await world.sign_in_at_the_provider(token=None)
    for _ in range(24):
        world.now += 3600
        tokens = await world.one.refresh(tokens.refresh_token)
    world.now += 3600
    with caplog.at_level(logging.INFO), pytest.raises(InvalidGrant):
        await world.one.refresh(tokens.refresh_token)
    assert "the sign-in of user ben@example.org ended: it is older than 24 h" in caplog.text
    assert world.provider.asked == 0
    assert await world.one.sessions.all() == []


async def test_processes_that_ask_the_provider_together(world, monkeypatch):
    """However many requests and processes use one token at once, the provider is asked once, and all get one successor."""
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.0)
    tokens = await world.sign_in_at_the_provider()
    for turn in range(1, 4):
        world.now += 3600
        found = await asyncio.gather(*(world.processes[one % 2].refresh(tokens.refresh_token) for one in range(10)))
        assert len({one.refresh_token.reveal() for one in found}) == 1
        assert world.provider.asked == turn
        tokens = found[0]


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
async def test_processes_with_a_store_of_their_own_connection(world, monkeypatch, request, tmp_path, kind):
    """The same holds in a file and in a Redis, which each process has opened for itself."""
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.01)
    if kind == "redis":
        server = request.getfixturevalue("new_redis")()
        server.start()
        stores = [RedisStore(server.url) for _ in range(3)]
    else:
        stores = [SqliteStore(tmp_path / "state.sqlite3") for _ in range(3)]
    world.processes = [world.process(store) for store in stores]
    tokens = await world.sign_in_at_the_provider()
    for turn in range(1, 6):
        world.now += 3600
        found = await asyncio.gather(*(world.processes[one % 3].refresh(tokens.refresh_token) for one in range(9)))
        assert len({one.refresh_token.reveal() for one in found}) == 1
        assert world.provider.asked == turn
        tokens = found[0]
    for store in stores:
        await store.close()


async def test_a_provider_that_is_slow(world, monkeypatch):
    """Another request waits for a while, and is then told to come back; the first one gets its tokens."""
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.0)
    tokens = await world.sign_in_at_the_provider()
    first = await world.asking(tokens)
    with pytest.raises(Unconfirmed):
        await world.processes[1].refresh(tokens.refresh_token)
    world.provider.open.set()
    again = await world.processes[1].refresh((await first).refresh_token)
    assert (world.provider.asked, world.accepts(again)) == (2, [True, True])


async def test_a_client_that_leaves(world):
    """What the provider has replaced by then is kept: the client repeats its request and gets its tokens."""
    tokens = await world.sign_in_at_the_provider()
    request = await world.asking(tokens)
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    world.provider.open.set()
    tokens = await world.one.refresh(tokens.refresh_token)
    assert await world.one.refresh(tokens.refresh_token)
    assert world.provider.asked == 2


async def test_a_process_that_stops_while_it_asks(world, monkeypatch):
    """Another process asks again once the time of the first is over, and does not wait longer, however clocks are set."""
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.0)
    tokens = await world.sign_in_at_the_provider()
    (row,) = [row for row in (await world.store.pull(0))[0] if row.key.startswith("signin:")]
    for until in (NOW + LEASE_SECONDS, NOW + 10 * LEASE_SECONDS):
        there = Session.of_row(row)
        await world.store.push([replace(there, at=there.at + 1, lease="made-up", lease_until=until).row(there.at)])
        if until - NOW <= LEASE_SECONDS:
            with pytest.raises(Unconfirmed):
                await world.one.refresh(tokens.refresh_token)
            assert world.provider.asked == 0
            world.now += LEASE_SECONDS
        tokens = await world.one.refresh(tokens.refresh_token)
        (row,) = [row for row in (await world.store.pull(0))[0] if row.key.startswith("signin:")]
        world.now = NOW
    assert world.provider.asked == 2


async def test_a_lease_that_ended_too_early(world, monkeypatch):
    """If a process asks for longer than its lease, the second question, which the provider refuses, ends no sign-in."""
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.0)
    tokens = await world.sign_in_at_the_provider()
    refresh, late = world.provider.refresh, asyncio.Event()

    async def refused_late(*sent):
        monkeypatch.setattr(world.provider, "refresh", refresh)
        world.now += LEASE_SECONDS
        late.set()
        found = await world.processes[1].refresh(tokens.refresh_token)
        assert found.refresh_token
        raise Rejected("it refused the refresh: HTTP 400 invalid_grant")

    monkeypatch.setattr(world.provider, "refresh", refused_late)
    found = await world.one.refresh(tokens.refresh_token)
    assert late.is_set()
    assert world.accepts(await world.one.refresh(found.refresh_token)) == [True, True]


async def test_a_store_that_goes_away_while_the_provider_is_asked(world):
    """The provider's new token is pushed when the store is back, and the client's own token still works then."""
    tokens = await world.sign_in_at_the_provider()
    request = await world.asking(tokens)
    world.store.away = True
    world.provider.open.set()
    with pytest.raises(StoreUnavailable):
        await request
    world.store.away = False
    await world.store.push(world.one.shared.changed())
    world.now += 3600
    tokens = await world.processes[1].refresh(tokens.refresh_token)
    assert (world.provider.asked, world.accepts(tokens)) == (2, [True, True])
