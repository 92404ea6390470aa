"""Sign-in with ``/login`` at two replicas that share a Redis and the master key, which seals their keys there."""

import asyncio
from collections.abc import Iterator

import pytest
import upstream as up
from conftest import CONFIG, proxy_environment
from processes import MASTER_KEY, Proxy
from test_sign_in_through_the_proxy import Client, Tokens, personal_token
from test_workers import RedisServer

from claude_proxy.config.users import digest_of
from claude_proxy.secret import Secret
from claude_proxy.signin.device_codes import DeviceCodes
from claude_proxy.signin.identity import Identity
from claude_proxy.state.redis import RedisStore

ANNA = Identity("anna", token_digest=digest_of(Secret(personal_token("anna"))))


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    server = RedisServer()
    yield server
    server.kill()


@pytest.fixture
def replicas(
    shared_upstream: up.Upstream, redis: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Proxy]]:
    environment = proxy_environment(shared_upstream) | {
        "REDIS_URL": f"redis://127.0.0.1:{redis.port}/0", "PROXY_USER_TOKENS": f"anna={personal_token('anna')}",
        "LITELLM_MASTER_KEY": MASTER_KEY,
    }  # fmt: skip
    config = CONFIG.format(url=shared_upstream.other_url)
    running = [Proxy(tmp_path_factory.mktemp("replica"), config, **environment) for _ in range(2)]
    yield [proxy.wait_ready() for proxy in running]
    for proxy in running:
        proxy.stop()


def approve(redis: RedisServer, user_code: str) -> None:
    async def approved() -> bool:
        store = RedisStore(f"redis://127.0.0.1:{redis.port}/0")
        try:
            return await DeviceCodes(store).approve(user_code, ANNA)
        finally:
            await store.close()

    assert asyncio.run(approved())


def test_replicas_serve_one_sign_in(replicas, redis):
    """A login of one replica is redeemed and refreshed at the other. Without Redis nobody signs in; valid tokens go on."""
    first, second = map(Client, replicas)
    started = first.start()
    approve(redis, started["user_code"])
    tokens = Tokens.of(second.redeem(started["device_code"]))
    after = Tokens.of(first.refresh(tokens.refresh))
    assert Tokens.of(second.refresh(tokens.refresh)).refresh == after.refresh
    assert {client.status(one.access) for client in (first, second) for one in (tokens, after)} == {200}
    assert not any((proxy.home / ".state" / "signing-keys").exists() for proxy in replicas)
    redis.kill()
    for client in (first, second):
        away = client.post("/oauth/device_authorization")
        assert (away.status_code, away.json()["error"]) == (503, "temporarily_unavailable")
        assert client.refresh(after.refresh).status_code == 503
        assert client.status(after.access) == 200
    for proxy in replicas:
        proxy.logged("Redis is not available")
    # The Redis comes back without its rows. The replicas push what they know again, and nobody has to sign in once more.
    redis.start()
    for proxy in replicas:
        proxy.logged("Redis is back")
    later = second.refresh(after.refresh)
    while later.status_code == 503:  # the connection of this replica may still be the old one
        later = second.refresh(after.refresh)
    assert first.status(Tokens.of(later).access) == 200
