"""server/signin_routes.py: the routes that a stranger may call, with their statuses, fields and errors."""

import asyncio
import json
import urllib.parse

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from claude_proxy.config.settings import Settings
from claude_proxy.config.sign_in import SignIn as Config
from claude_proxy.config.signing_keys import Place
from claude_proxy.secret import Secret
from claude_proxy.server import signin_routes as module
from claude_proxy.server.signin_routes import (
    DEVICE,
    DEVICE_GRANT,
    DISCOVERY,
    LOGIN_BURST,
    REFRESH_GRANT,
    REVOKE,
    TOKEN,
    TOKEN_BURST,
    SignInRoutes,
)
from claude_proxy.signin.identity import Identity
from claude_proxy.signin.sessions import Unconfirmed
from claude_proxy.signin.sign_in import SignIn
from claude_proxy.state.memory import MemoryStore
from claude_proxy.state.store import StoreUnavailable

pytestmark = pytest.mark.anyio
NOW = 1_800_000_000.0
USERS = {"PROXY_USER_TOKENS": "anna=sk-made-up-token-of-anna"}
# In the words of the protocol; every error of these routes is one of them.
ERRORS = {*module.DESCRIPTIONS}


class World:
    """The routes of one process, with a clock."""

    def __init__(self, path, environ=USERS, config=None):
        self.now = NOW
        self.settings = Settings.parse(environ)
        self.config = config or Config()
        self.store = MemoryStore()
        place = Place(path) if path else Place(problem="no reason")
        self.sign_in = SignIn(self.store, place, self.settings.users, lambda: self.config, lambda: self.now)
        self.routes = SignInRoutes(self.sign_in, self.settings, clock=lambda: self.now)

    def client(self, address="192.0.2.7", **headers):
        transport = httpx.ASGITransport(self.routes, client=(address, 1))
        return httpx.AsyncClient(transport=transport, base_url="http://proxy.test:4000", headers=headers)

    async def post(self, path, content=None, address="192.0.2.7", **form):
        async with self.client(address) as client:
            if content is not None:
                return await client.post(path, content=content)
            return await client.post(path, data=form)

    async def approved(self, identity=None):
        started = (await self.post(DEVICE)).json()
        user = self.settings.users.all_users()[0]
        who = identity or Identity("anna", token_digest=user.digest)
        assert await self.sign_in.codes.approve(started["user_code"], who)
        return started["device_code"]


@pytest.fixture
def world(tmp_path):
    return World(tmp_path / "signing-keys")


def error(response):
    """The error of a response in the words of OAuth, which nothing stores."""
    found = response.json()
    assert set(found) == {"error", "error_description"}
    assert found["error"] in ERRORS
    assert response.headers["cache-control"] == "no-store"
    return response.status_code, found["error"]


async def test_discovery_without_users(tmp_path):
    """Where nobody could sign in, discovery is a 404 in Anthropic's words, and no other route exists."""
    world = World(tmp_path / "signing-keys", {})
    async with world.client() as client:
        response = await client.get(DISCOVERY)
    assert (response.status_code, response.json()["error"]["type"]) == (404, "not_found_error")
    assert world.routes.serves(DISCOVERY)
    assert not any(map(world.routes.serves, (DEVICE, TOKEN, REVOKE)))
    assert not (tmp_path / "signing-keys").exists()


@pytest.mark.parametrize(
    ("environ", "config", "serves"),
    [
        (USERS, Config(), True), ({}, Config(provider=True), True),
        (USERS, Config(enabled=False), False), ({}, Config(enabled=False, provider=True), False),
    ],
)  # fmt: skip
def test_when_there_is_sign_in(tmp_path, environ, config, serves):
    """There is sign-in where users or an identity provider exist, unless it is turned off."""
    world = World(tmp_path / "signing-keys", environ, config)
    assert [world.routes.serves(path) for path in (DEVICE, TOKEN, REVOKE)] == [serves] * 3
    assert not world.routes.serves("/oauth/other")


async def test_a_device_code(world):
    """The response has the fields of RFC 8628, at the address of the request; parameters that are not known are ignored."""
    response = await world.post(DEVICE, surface="claude_code", some_day="x")
    found = response.json()
    assert response.status_code == 200
    assert response.headers["cache-control"] == "no-store"
    page = "http://proxy.test:4000/signin"
    assert found["verification_uri"] == page
    assert found["verification_uri_complete"] == f"{page}?user_code={found['user_code']}"
    assert set(found) == {
        "device_code", "user_code", "verification_uri", "verification_uri_complete", "expires_in", "interval",
    }  # fmt: skip
    assert (await world.sign_in.codes.find(found["user_code"])).origin == "192.0.2.7"


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"{}", b"&" * 5000, b"surface=" + b"x" * 10_000])
async def test_any_body_starts_a_login(world, content):
    """Nothing in the body of a login is a reason to refuse it."""
    assert (await world.post(DEVICE, content)).status_code == 200


async def test_a_notice(world):
    """The operator's notice is shown beside the code."""
    world.config = Config(notice="Use your work account.")
    assert (await world.post(DEVICE)).json()["login_notice"] == "Use your work account."


async def test_the_grants(world):
    """A code is pending, gives tokens once it is approved, and the refresh token gives others."""
    started = (await world.post(DEVICE)).json()
    code = started["device_code"]
    assert error(await world.post(TOKEN, grant_type=DEVICE_GRANT, device_code=code)) == (400, "authorization_pending")
    code = await world.approved()
    first = await world.post(TOKEN, grant_type=DEVICE_GRANT, device_code=code, some_day="x")
    assert first.status_code == 200
    assert set(first.json()) == {"access_token", "token_type", "expires_in", "refresh_token"}
    second = await world.post(TOKEN, grant_type=REFRESH_GRANT, refresh_token=first.json()["refresh_token"], some_day="x")
    assert second.json()["token_type"] == "Bearer"
    assert second.headers["cache-control"] == "no-store"
    assert second.json()["refresh_token"] != first.json()["refresh_token"]


async def test_a_mail_address(world):
    """The address of the account is a field of the response, where it is known."""
    world.config = Config(provider=True)
    code = await world.approved(Identity("ben@example.org", email="ben@example.org"))
    assert (await world.post(TOKEN, grant_type=DEVICE_GRANT, device_code=code)).json()["email"] == "ben@example.org"


async def test_a_client_that_polls_too_fast(world):
    """It is told to slow down, while its code is pending; at the interval it is not, and an approval is not kept from it."""
    started = (await world.post(DEVICE)).json()
    form = {"grant_type": DEVICE_GRANT, "device_code": started["device_code"]}
    assert error(await world.post(TOKEN, **form)) == (400, "authorization_pending")
    world.now += 1
    assert error(await world.post(TOKEN, **form)) == (400, "slow_down")
    world.now += started["interval"]
    assert error(await world.post(TOKEN, **form)) == (400, "authorization_pending")
    assert await world.sign_in.codes.deny(started["user_code"])
    assert error(await world.post(TOKEN, **form)) == (400, "access_denied")


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ({}, (400, "invalid_request")),
        ({"grant_type": ""}, (400, "invalid_request")),
        ({"grant_type": "password"}, (400, "unsupported_grant_type")),
        ({"grant_type": ["a", "b"]}, (400, "invalid_request")),
        ({"grant_type": DEVICE_GRANT}, (400, "invalid_request")),
        ({"grant_type": DEVICE_GRANT, "device_code": ["a", "b"]}, (400, "invalid_request")),
        ({"grant_type": DEVICE_GRANT, "device_code": "unknown"}, (400, "expired_token")),
        ({"grant_type": REFRESH_GRANT}, (400, "invalid_request")),
        ({"grant_type": REFRESH_GRANT, "refresh_token": "unknown"}, (401, "invalid_grant")),
        ({"grant_type": REFRESH_GRANT, "refresh_token": "A" * 64}, (401, "invalid_grant")),
        ({f"field{number}": "x" for number in range(200)}, (400, "invalid_request")),
    ],
)
async def test_errors_of_the_token_endpoint(world, form, expected):
    """Each error has the status and the word of the protocol."""
    assert error(await world.post(TOKEN, **form)) == expected


@pytest.mark.parametrize(
    ("form", "says"),
    [
        ({}, "The parameter grant_type is missing. The body is a form: grant_type=VALUE."),
        ({"grant_type": ["a", "b"]}, "The parameter grant_type is there more than once."),
        ({"grant_type": DEVICE_GRANT}, "The parameter device_code is missing."),
        ({"grant_type": REFRESH_GRANT, "refresh_token": ""}, "The parameter refresh_token is missing."),
        ({f"field{number}": "x" for number in range(200)}, "too many parameters"),
    ],
)
async def test_a_wrong_request_is_told_what_it_lacks(world, form, says):
    """The description of ``invalid_request`` names the parameter, and repeats nothing of the request."""
    found = (await world.post(TOKEN, **form)).json()
    assert found["error"] == "invalid_request"
    assert says in found["error_description"]


async def test_revocation(world):
    """A token of either kind is revoked with 200, and so is an unknown one; a request without one is an error."""
    tokens = (await world.post(TOKEN, grant_type=DEVICE_GRANT, device_code=await world.approved())).json()
    assert error(await world.post(REVOKE)) == (400, "invalid_request")
    assert (await world.post(REVOKE, token="unknown")).status_code == 200
    revoked = await world.post(REVOKE, token=tokens["access_token"])
    assert (revoked.status_code, revoked.content) == (200, b"")
    assert (await world.post(REVOKE, token=tokens["refresh_token"], token_type_hint="refresh_token")).status_code == 200
    assert error(await world.post(TOKEN, grant_type=REFRESH_GRANT, refresh_token=tokens["refresh_token"])) == (
        401,
        "invalid_grant",
    )
    assert world.sign_in.tokens.find(Secret(tokens["access_token"])) is None


async def test_sign_in_that_is_closed(tmp_path):
    """Without keys a login is refused with 503, which says to ask again, and not why."""
    world = World(None)
    response = await world.post(DEVICE)
    assert error(response) == (503, "temporarily_unavailable")
    assert response.headers["retry-after"] == "5"
    assert "no reason" not in response.text


async def test_a_store_that_is_away(world, monkeypatch):
    """Every route that needs the store is a 503 in the words of OAuth."""

    async def away(*_):
        raise StoreUnavailable("Redis", "made-up")

    code = await world.approved()
    for name in ("push", "read"):
        monkeypatch.setattr(world.store, name, away)
    for path, form in (
        (DEVICE, {}),
        (TOKEN, {"grant_type": DEVICE_GRANT, "device_code": code}),
        (TOKEN, {"grant_type": REFRESH_GRANT, "refresh_token": "A" * 64}),
        (REVOKE, {"token": "A" * 64}),
    ):
        response = await world.post(path, **form)
        assert error(response) == (503, "temporarily_unavailable")
        assert "made-up" not in response.text


async def test_a_user_whom_the_provider_cannot_confirm_now(world, monkeypatch):
    """A refresh that waits for the provider is a 503, after which a client asks again and its user need not sign in."""

    async def unconfirmed(_):
        raise Unconfirmed

    monkeypatch.setattr(world.sign_in, "refresh", unconfirmed)
    response = await world.post(TOKEN, grant_type=REFRESH_GRANT, refresh_token="A" * 64)
    assert error(response) == (503, "temporarily_unavailable")


async def test_an_address_is_limited(world):
    """An address that starts more logins than a team needs is refused for a moment; another one is not."""
    for _ in range(LOGIN_BURST):
        assert (await world.post(DEVICE)).status_code == 200
    refused = await world.post(DEVICE)
    assert error(refused) == (429, "slow_down")
    assert int(refused.headers["retry-after"]) >= 1
    assert (await world.post(DEVICE, address="192.0.2.8")).status_code == 200
    world.now += 5
    assert (await world.post(DEVICE)).status_code == 200


async def test_the_token_endpoint_is_limited(world):
    """So is an address that asks for more tokens than a team, and revocation counts as well."""
    form = {"grant_type": "password"}
    for number in range(TOKEN_BURST):
        assert (await world.post(REVOKE if number % 2 else TOKEN, token="x", **form)).status_code in (200, 400)
    assert error(await world.post(TOKEN, **form)) == (429, "slow_down")


async def test_wrong_codes_are_logged_and_delayed(world, monkeypatch, caplog):
    """A wrong token is logged with its address, without the token, and delayed like wrong tokens of other routes."""
    delays = []
    monkeypatch.setattr(world.routes._failed._delays, "failed", lambda source: delays.append(source) or 0.0)
    await world.post(TOKEN, grant_type=REFRESH_GRANT, refresh_token="made-up-wrong-token")
    await world.post(TOKEN, grant_type=DEVICE_GRANT, device_code="made-up-wrong-code")
    await world.post(TOKEN, grant_type="password")
    assert delays == ["192.0.2.7"] * 2
    assert "refused POST /oauth/token from 192.0.2.7: HTTP 401" in caplog.text
    assert "made-up-wrong" not in caplog.text


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_other_methods(world, method):
    """Another method is a 405, without a body that says more, also where LiteLLM's application is around the routes."""

    async def app(scope, receive, send):
        await world.routes(scope | {"app": None}, receive, send)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://proxy.test") as client:
        for path in (DEVICE, TOKEN, REVOKE):
            assert (await client.request(method, path)).status_code == 405
        assert (await client.post(DISCOVERY)).status_code == 405


MARK = "zq9"
FIELDS = ("grant_type", "device_code", "refresh_token", "token", "token_type_hint", "client_id", MARK)
VALUES = st.one_of(
    st.sampled_from([DEVICE_GRANT, REFRESH_GRANT, f"{DEVICE_GRANT}{MARK}", "A" * 64, "eyJ.eyJ.x"]),
    st.text().map(lambda text: f"{MARK}{text}"),
)
FORMS = st.lists(st.tuples(st.sampled_from(FIELDS), VALUES), max_size=8).map(urllib.parse.urlencode).map(str.encode)


@given(path=st.sampled_from([DEVICE, TOKEN, REVOKE]), body=FORMS | st.binary(max_size=200))
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_form(tmp_path_factory, path, body):
    """Whatever is sent, the response is no 5xx, is an error of the protocol, and repeats nothing of the request."""

    async def sent():
        world = World(tmp_path_factory.getbasetemp() / "signing-keys-of-any-form")
        return await world.post(path, body)

    response = asyncio.run(sent())
    assert response.status_code in (200, 400, 401)
    assert MARK not in response.text
    if response.status_code != 200:
        error(response)
    elif path != REVOKE:
        json.loads(response.content)
