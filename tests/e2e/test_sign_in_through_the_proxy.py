"""Sign-in with ``/login`` through the real proxy with two workers: the whole flow, and everything that ends a sign-in."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import httpx
import pytest
import upstream as up
from conftest import CONFIG, proxy_environment
from processes import Proxy, question

from claude_proxy.cli import main
from claude_proxy.config.users import digest_of
from claude_proxy.secret import Secret
from claude_proxy.signin.device_codes import DeviceCodes
from claude_proxy.signin.identity import Identity
from claude_proxy.state.sqlite import SqliteStore

DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
SIGN_IN = "\nclaude_proxy:\n  sign_in: {notice: Use your work account.}\n"
Result = TypeVar("Result")


class Tokens(NamedTuple):
    access: str
    refresh: str

    @classmethod
    def of(cls, response: httpx.Response) -> "Tokens":
        assert response.status_code == 200, response.text
        found = response.json()
        assert (found["token_type"], found["expires_in"]) == ("Bearer", 3600)
        assert response.headers["cache-control"] == "no-store"
        return cls(found["access_token"], found["refresh_token"])


class Client:
    """What Claude Code sends to sign in, and what its user does in a browser."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy

    def post(self, path: str, **form: str) -> httpx.Response:
        # Each request opens a connection of its own, so that either worker may get it.
        return httpx.post(f"{self.proxy.url}{path}", data=form, trust_env=False, timeout=60)

    def start(self) -> dict[str, Any]:
        response = self.post("/oauth/device_authorization", surface="claude_code", some_day="another parameter")
        assert response.status_code == 200, response.text
        return dict(response.json())

    def redeem(self, device_code: str) -> httpx.Response:
        return self.post("/oauth/token", grant_type=DEVICE_GRANT, device_code=device_code, some_day="another parameter")

    def refresh(self, token: str) -> httpx.Response:
        return self.post("/oauth/token", grant_type="refresh_token", refresh_token=token)

    def approve(self, user_code: str, identity: Identity) -> None:
        """Approve a code in the store that the workers share, as the page does."""
        assert self.codes(lambda codes: codes.approve(user_code, identity))

    def codes(self, use: Callable[[DeviceCodes], Awaitable[Result]]) -> Result:
        async def used() -> Result:
            store = SqliteStore(self.proxy.home / ".state" / "pool.sqlite3")
            try:
                return await use(DeviceCodes(store))
            finally:
                await store.close()

        return asyncio.run(used())

    def sign_in(self, name: str) -> Tokens:
        started = self.start()
        digest = digest_of(Secret(personal_token(name)))
        self.approve(started["user_code"], Identity(name, ("team-a",), token_digest=digest))
        return Tokens.of(self.redeem(started["device_code"]))

    def status(self, access: str) -> int:
        """Ask a model, at both workers in all likelihood, and return the one status of all responses."""
        found = {self.ask(access).status_code for _ in range(6)}
        assert len(found) == 1
        return found.pop()

    def ask(self, access: str) -> httpx.Response:
        return self.proxy.ask(question("demo"), token=None, authorization=f"Bearer {access}")

    def wait_until_rejected(self, access: str) -> httpx.Response:
        """A worker knows within a moment what another process has written to the store; return the refusal."""
        rejected = 0
        while rejected < 3:  # not more: an address that goes on sending wrong tokens waits for each response
            response = self.ask(access)
            rejected = rejected + 1 if response.status_code == 401 else 0
        return response


def personal_token(name: str) -> str:
    return f"sk-made-up-personal-token-of-{name}"


def command(proxy: Proxy, *arguments: str) -> None:
    """Run a command as the operator does, beside the running proxy."""
    main.main(["--project", str(proxy.home), *arguments])


def made(home: Path, shared_upstream: up.Upstream) -> Proxy:
    config = CONFIG.format(url=shared_upstream.other_url) + SIGN_IN
    return Proxy(home, config, NUM_WORKERS="2", **proxy_environment(shared_upstream))


@pytest.fixture(scope="module")
def proxy(shared_upstream: up.Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    home = tmp_path_factory.mktemp("sign-in")
    (home / ".state").mkdir(mode=0o700)
    users = home / ".state" / "users"
    users.write_text("".join(f"{name}={personal_token(name)}\n" for name in ("anna", "ben", "carl", "dora", "emil")))
    running = made(home, shared_upstream).wait_ready()
    yield running
    running.stop()


@pytest.fixture
def client(proxy: Proxy) -> Client:
    return Client(proxy)


def test_the_metadata(client):
    """Discovery names the endpoints at the address of the request, the two grants, and no authorization endpoint."""
    metadata = httpx.get(f"{client.proxy.url}/.well-known/oauth-authorization-server", trust_env=False).json()
    base = client.proxy.url
    assert metadata["issuer"] == base
    assert metadata["device_authorization_endpoint"] == f"{base}/oauth/device_authorization"
    assert metadata["token_endpoint"] == f"{base}/oauth/token"
    assert metadata["revocation_endpoint"] == f"{base}/oauth/revoke"
    assert metadata["grant_types_supported"] == [DEVICE_GRANT, "refresh_token"]
    assert "authorization_endpoint" not in metadata


def test_a_user_signs_in(client):
    """A code is pending until it is approved; then it gives a token with which models respond, counted for the user."""
    started = client.start()
    assert started["verification_uri_complete"] == f"{started['verification_uri']}?user_code={started['user_code']}"
    assert (started["expires_in"], started["interval"]) == (600, 5)
    assert started["login_notice"] == "Use your work account."
    pending = client.redeem(started["device_code"])
    assert (pending.status_code, pending.json()["error"]) == (400, "authorization_pending")
    client.approve(started["user_code"], Identity("anna", token_digest=digest_of(Secret(personal_token("anna")))))
    tokens = Tokens.of(client.redeem(started["device_code"]))
    assert client.status(tokens.access) == 200
    assert client.proxy.logged("user=anna") or client.proxy.logged("anna")
    assert tokens.access not in client.proxy.output
    assert tokens.refresh not in client.proxy.output


def test_a_denied_and_an_unknown_code(client):
    """A denied code and one that does not exist are errors of the protocol."""
    started = client.start()
    client.codes(lambda codes: codes.deny(started["user_code"]))
    assert client.redeem(started["device_code"]).json()["error"] == "access_denied"
    unknown = client.redeem("no-such-code")
    assert (unknown.status_code, unknown.json()["error"]) == (400, "expired_token")


def test_a_refresh_replaces_the_token(client):
    """A refresh gives new tokens, and the ones after it; a repetition within a moment gives the same refresh token."""
    first = client.sign_in("anna")
    second = Tokens.of(client.refresh(first.refresh))
    assert second.refresh != first.refresh
    assert Tokens.of(client.refresh(first.refresh)).refresh == second.refresh
    third = Tokens.of(client.refresh(second.refresh))
    assert client.status(third.access) == 200


def test_two_workers_replace_a_token_once(client):
    """However many clients use one token at the same moment, at two workers, it has one successor."""
    first = client.sign_in("anna")
    with ThreadPoolExecutor(8) as pool:
        found = [Tokens.of(response) for response in pool.map(client.refresh, [first.refresh] * 24)]
    assert len({tokens.refresh for tokens in found}) == 1
    assert client.status(Tokens.of(client.refresh(found[0].refresh)).access) == 200


def test_a_token_that_is_used_twice(client):
    """A used refresh token is refused. If its user signs in again, whoever goes on with its successors is out."""
    first = client.sign_in("ben")
    second = Tokens.of(client.refresh(first.refresh))
    third = Tokens.of(client.refresh(second.refresh))
    used = client.refresh(first.refresh)
    assert (used.status_code, used.json()["error"]) == (401, "invalid_grant")
    third = Tokens.of(client.refresh(third.refresh))
    assert client.status(third.access) == 200
    client.sign_in("ben")
    assert client.refresh(third.refresh).status_code == 401
    rejected = client.wait_until_rejected(third.access)
    assert rejected.headers["x-should-retry"] == "false"
    assert rejected.json()["error"]["type"] == "authentication_error"
    assert client.proxy.logged("the sign-in of user ben ended: one of its refresh tokens was used twice")


def test_a_device_code_is_used_once(client):
    """A device code that comes back after its tokens were used ends the sign-in too."""
    started = client.start()
    client.approve(started["user_code"], Identity("ben", token_digest=digest_of(Secret(personal_token("ben")))))
    tokens = Tokens.of(client.refresh(Tokens.of(client.redeem(started["device_code"])).refresh))
    again = [client.redeem(started["device_code"]) for _ in range(6)]
    assert {response.status_code for response in again} == {400}
    assert "expired_token" in {response.json()["error"] for response in again}
    assert client.refresh(tokens.refresh).json()["error"] == "invalid_grant"


def test_a_client_signs_out(client):
    """Revocation, as the client sends it twice, ends the sign-in; an unknown token is no error."""
    tokens = client.sign_in("anna")
    for form in ({"token": tokens.access}, {"token": tokens.refresh, "token_type_hint": "refresh_token"}, {"token": "x"}):
        assert client.post("/oauth/revoke", **form).status_code == 200
    client.wait_until_rejected(tokens.access)
    assert client.refresh(tokens.refresh).status_code == 401


def test_a_removed_user_is_signed_out(client):
    """A user who was removed is rejected by each worker from the next request on, and cannot refresh."""
    tokens, other = client.sign_in("carl"), client.sign_in("anna")
    assert client.status(tokens.access) == 200
    command(client.proxy, "user", "remove", "carl")
    client.wait_until_rejected(tokens.access)
    assert client.refresh(tokens.refresh).json()["error"] == "invalid_grant"
    assert client.status(other.access) == 200


def test_the_operator_lists_and_ends_sign_ins(client, capsys):
    """The list shows who has signed in, and no secret; ``revoke`` ends all sign-ins of one user."""
    tokens = [client.sign_in("dora"), client.sign_in("dora")]
    started = client.start()
    client.approve(started["user_code"], Identity("dora", token_digest=digest_of(Secret(personal_token("dora")))))
    capsys.readouterr()
    command(client.proxy, "sign-in", "list", "--json")
    printed = capsys.readouterr().out
    assert [row["user"] for row in json.loads(printed)].count("dora") == 2
    assert not any(token.access in printed or token.refresh in printed for token in tokens)
    command(client.proxy, "sign-in", "revoke", "Dora")
    for one in tokens:
        client.wait_until_rejected(one.access)
        assert client.refresh(one.refresh).status_code == 401
    # What was approved and not redeemed yet is withdrawn as well.
    assert client.redeem(started["device_code"]).json()["error"] == "access_denied"
    capsys.readouterr()
    command(client.proxy, "sign-in", "list", "--json")
    assert "dora" not in capsys.readouterr().out


def test_new_keys(client):
    """Tokens of a replaced key stay valid; those of a discarded one do not, and a refresh gives valid ones."""
    tokens = client.sign_in("emil")
    command(client.proxy, "sign-in", "rotate-keys")
    assert client.status(tokens.access) == 200
    command(client.proxy, "sign-in", "rotate-keys", "--discard-old")
    client.wait_until_rejected(tokens.access)
    after = Tokens.of(client.refresh(tokens.refresh))
    assert client.status(after.access) == 200


def test_other_tokens_go_on(client):
    """Personal tokens, the static token and the master key are as before."""
    assert client.proxy.ask(question("demo"), token=personal_token("anna")).status_code == 200
    assert client.proxy.ask(question("demo")).status_code == 200


def test_a_restart_signs_nobody_out(proxy, client, shared_upstream):
    """After a restart a token that is still valid is accepted, and a refresh token refreshed."""
    tokens = client.sign_in("anna")
    proxy.stop()
    again = made(proxy.home, shared_upstream).wait_ready()
    try:
        later = Client(again)
        assert later.status(tokens.access) == 200
        assert later.status(Tokens.of(later.refresh(tokens.refresh)).access) == 200
    finally:
        again.stop()
