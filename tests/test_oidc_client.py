"""signin/oidc_client.py: a sign-in at a provider, its requests, and everything that a provider may respond."""

import asyncio
import base64
import dataclasses
import hashlib
import time
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from lanes import Response, Upstream

from claude_proxy.config.oidc import Oidc
from claude_proxy.secret import Secret
from claude_proxy.signin import oidc_client
from claude_proxy.signin.id_token import NotAllowed
from claude_proxy.signin.oidc_client import Attempt, OidcClient, ProviderFailed, Rejected, check_document
from claude_proxy.upstream.client import TimedOutError, UnreachableError

pytestmark = pytest.mark.anyio

ISSUER = "https://login.example.com/realms/x"
PROVIDER = Oidc(ISSUER, "pro xy", Secret("made-up:client secret"))
BACK = "https://proxy.example/signin/callback"
ATTEMPT = Attempt("made-up-state", "made-up-nonce", "made-up-verifier")
DOCUMENT = {
    "issuer": ISSUER,
    "authorization_endpoint": f"{ISSUER}/authorize",
    "token_endpoint": f"{ISSUER}/token",
    "jwks_uri": f"{ISSUER}/keys",
    "userinfo_endpoint": f"{ISSUER}/me",
}
ANNA = {"email": "anna@example.com", "email_verified": True}
KEY, NEW_KEY = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())


def id_token(key=KEY, kid="1", **changed):
    now = int(time.time())
    claims = {"iss": ISSUER, "aud": PROVIDER.client_id, "sub": "1", "iat": now, "exp": now + 86_400, "nonce": ATTEMPT.nonce}
    return jwt.encode(claims | ANNA | changed, key, "ES256", {"kid": kid})


def jwk(key=KEY, kid="1"):
    return jwt.algorithms.ECAlgorithm.to_jwk(key.public_key(), as_dict=True) | {"kid": kid}


class Provider:
    """A provider by the ends of its paths; each value is a response, or a function that returns one."""

    def __init__(self, **changed):
        self.pages = {
            "openid-configuration": Response(json=DOCUMENT),
            "token": Response(json={"id_token": id_token(), "access_token": "made-up-access"}),
            "keys": Response(json={"keys": [jwk()]}),
            "me": Response(json={"sub": "1"}),
        } | changed
        self.upstream = Upstream(lambda sent: self.pages[sent.url.rpartition("/")[2]])
        self.now = [0.0]
        self.client = OidcClient(self.upstream, lambda: PROVIDER, lambda _: False, lambda: self.now[0])

    async def identified(self, provider=PROVIDER, **returned):
        return await self.client.identify(provider, ATTEMPT, BACK, {"code": "made-up-code"} | returned)

    async def identify(self, provider=PROVIDER, **returned):
        return (await self.identified(provider, **returned)).identity

    async def refresh(self, provider=PROVIDER):
        return await self.client.refresh(provider, Secret("made-up-refresh"), "1")

    def asked(self, end):
        return [sent for sent in self.upstream.sent if sent.url.endswith(f"/{end}")]


def document(**changed):
    return Response(json={name: value for name, value in (DOCUMENT | changed).items() if value is not None})


async def test_the_address_at_the_provider():
    """The browser is sent to the provider's own endpoint with state, nonce and the challenge of PKCE, and without a secret."""
    provider = Provider()
    address = await provider.client.address(PROVIDER, ATTEMPT, BACK)
    assert address.startswith(f"{ISSUER}/authorize?")
    digest = hashlib.sha256(b"made-up-verifier").digest()
    assert {name: value for name, (value,) in parse_qs(urlsplit(address).query).items()} == {
        "response_type": "code", "client_id": "pro xy", "redirect_uri": BACK, "scope": "openid email profile",
        "state": "made-up-state", "nonce": "made-up-nonce", "code_challenge_method": "S256",
        "code_challenge": base64.urlsafe_b64encode(digest).decode().rstrip("="),
    }  # fmt: skip
    provider = Provider(**{"openid-configuration": document(authorization_endpoint=f"{ISSUER}/authorize?p=b2c")})
    assert (await provider.client.address(PROVIDER, ATTEMPT, BACK)).startswith(f"{ISSUER}/authorize?p=b2c&response_type=code&")
    values = [value for _ in range(50) for value in Attempt.new()]
    assert len({*values}) == 150
    assert all(43 <= len(value) <= 128 for value in values)


async def test_a_user_signs_in():
    """The code is redeemed with the verifier and the client's secret, and the ID token names the user."""
    provider = Provider()
    found = await provider.identify()
    assert (found.name, found.email, found.token_digest) == ("anna@example.com", "anna@example.com", "")
    (sent,) = provider.asked("token")
    assert {name: value for name, (value,) in parse_qs(sent.body.decode()).items()} == {
        "grant_type": "authorization_code", "code": "made-up-code", "redirect_uri": BACK, "code_verifier": "made-up-verifier",
    }  # fmt: skip
    basic = base64.b64decode(sent.header("authorization").removeprefix("Basic "))
    assert (sent.method, basic) == ("POST", b"pro%20xy:made-up%3Aclient%20secret")
    assert provider.asked("me") == []
    assert all(one.response.was_closed for one in provider.upstream.sent)


@pytest.mark.parametrize(
    ("methods", "provider", "has"),
    [
        (["client_secret_post"], PROVIDER, {"client_id": ["pro xy"], "client_secret": ["made-up:client secret"]}),
        (["client_secret_post", "client_secret_basic"], PROVIDER, {}),
        (["private_key_jwt"], PROVIDER, {}),
        (None, Oidc(ISSUER, "pro xy"), {"client_id": ["pro xy"]}),
    ],
)
async def test_how_the_client_authenticates(methods, provider, has):
    """The secret is in the header, or in the form of a provider that takes it only there; a public client has none."""
    world = Provider(**{"openid-configuration": document(token_endpoint_auth_methods_supported=methods)})
    await world.identify(provider)
    (sent,) = world.asked("token")
    form = parse_qs(sent.body.decode())
    assert {name: form[name] for name in form if name.startswith("client")} == has
    assert bool(sent.header("authorization")) == (provider is PROVIDER and not has)


async def test_what_is_kept():
    """Document and keys are fetched once an hour, however many users sign in at the same time."""
    provider = Provider()
    await asyncio.gather(*(provider.identify() for _ in range(5)))
    assert (len(provider.asked("openid-configuration")), len(provider.asked("keys"))) == (1, 1)
    provider.now[0] += oidc_client.KEEP_SECONDS
    await provider.identify()
    assert (len(provider.asked("openid-configuration")), len(provider.asked("keys"))) == (2, 2)


async def test_keys_that_rotate():
    """A token with an unknown key id fetches the keys again, once for all users who wait for it."""
    provider = Provider()
    await provider.identify()
    provider.pages |= {
        "keys": Response(json={"keys": [jwk(NEW_KEY, "2")]}),
        "token": Response(json={"id_token": id_token(NEW_KEY, "2")}),
    }
    found = await asyncio.gather(*(provider.identify() for _ in range(5)))
    assert {one.name for one in found} == {"anna@example.com"}
    assert len(provider.asked("keys")) == 2
    provider.pages["token"] = Response(json={"id_token": id_token(KEY, "1")})
    with pytest.raises(Rejected, match="key id"):
        await provider.identify()
    assert len(provider.asked("keys")) == 3


async def test_claims_of_userinfo():
    """What the ID token lacks is fetched with the access token; the ID token's own claims win, and the subject must be one."""
    bare = Response(json={"id_token": id_token(email=None, email_verified=None), "access_token": "made-up-access"})
    provider = Provider(token=Response(json={"id_token": id_token(), "access_token": "made-up-access"}))
    provider.pages["me"] = Response(json={"sub": "1", "email": "boss@example.com", "roles": ["Team-A"]})
    named = Oidc(ISSUER, "pro xy", groups_claim="roles")
    found = await provider.identify(named)
    assert (found.name, found.groups) == ("anna@example.com", ("team-a",))
    (sent,) = provider.asked("me")
    assert (sent.method, sent.header("authorization")) == ("GET", "Bearer made-up-access")
    provider.pages |= {"token": bare, "me": Response(json={"sub": "2"} | ANNA)}
    with pytest.raises(Rejected, match="another user"):
        await provider.identify(named)
    provider.pages["me"] = Response(401, json={"error": "x"})
    with pytest.raises(ProviderFailed, match="userinfo endpoint responded with HTTP 401"):
        await provider.identify(named)


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        ({"error": "access_denied"}, "the error access_denied"), ({"error": "x\n" + "y" * 500}, "the error x"),
        ({"code": ""}, "no code"), ({"code": "x" * 5000}, "no code"), ({"iss": "https://evil.example"}, "another issuer"),
    ],
)  # fmt: skip
async def test_what_the_browser_brings_back(returned, words):
    """An error, a response without a code and that of another issuer are rejected without a request for tokens."""
    provider = Provider()
    with pytest.raises(Rejected) as error:
        await provider.identify(**returned)
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 200
    assert provider.asked("token") == []


async def test_a_provider_that_names_itself():
    """A provider that says it names itself in its responses must do so (RFC 9207)."""
    provider = Provider(**{"openid-configuration": document(authorization_response_iss_parameter_supported=True)})
    with pytest.raises(Rejected, match="another issuer"):
        await provider.identify()
    assert (await provider.identify(iss=ISSUER)).name == "anna@example.com"


@pytest.mark.parametrize(
    ("listed", "scopes", "requested"),
    [
        (None, ("openid",), "openid"),
        ("offline_access", ("openid",), "openid"),
        (["openid", "offline_access"], ("openid", "groups"), "openid groups offline_access"),
        (["offline_access"], ("openid", "offline_access"), "openid offline_access"),
        (["openid"], ("openid", "offline_access"), "openid offline_access"),
    ],
)
async def test_the_scope_for_a_refresh_token(listed, scopes, requested):
    """``offline_access`` is requested where the provider lists it or config.yaml names it."""
    world = Provider(**{"openid-configuration": document(scopes_supported=listed)})
    provider = Oidc(
        ISSUER, "pro xy", scopes=scopes, authorization_parameters=(("prompt", "consent"), ("access_type", "offline"))
    )
    query = parse_qs(urlsplit(await world.client.address(provider, ATTEMPT, BACK)).query)
    without = await world.client.address(dataclasses.replace(provider, offline_access=False), ATTEMPT, BACK)
    assert parse_qs(urlsplit(without).query)["scope"] == [" ".join(scopes)]
    assert (query["scope"], query["prompt"], query["access_type"]) == ([requested], ["consent"], ["offline"])


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (None, None), ("made-up-refresh", "made-up-refresh"), ("", None), (7, None), ("x" * 9000, None), ("a\nb", None),
        ("größe", None),
    ],
)  # fmt: skip
async def test_the_provider_s_refresh_token(sent, kept):
    """A refresh token that can be sent again is kept, and hides itself."""
    tokens = {"id_token": id_token(), "refresh_token": sent}
    found = await Provider(token=Response(json=tokens)).identified()
    assert found.subject == "1"
    assert (found.refresh_token and found.refresh_token.reveal()) == kept
    assert "made-up-refresh" not in repr(found)


async def test_a_refresh():
    """One request sends the refresh token with the client's secret; the new ID token names the user, without a nonce."""
    provider = Provider()
    provider.pages["token"] = Response(
        json={"id_token": id_token(nonce=None, groups=["New"]), "refresh_token": "made-up-second"}
    )
    found = await provider.refresh(Oidc(ISSUER, "pro xy", PROVIDER.client_secret, groups_claim="groups"))
    assert (found.refresh_token.reveal(), found.identity.groups, found.problem) == ("made-up-second", ("new",), "")
    (sent,) = provider.asked("token")
    assert parse_qs(sent.body.decode()) == {"grant_type": ["refresh_token"], "refresh_token": ["made-up-refresh"]}
    assert sent.header("authorization").startswith("Basic ")
    assert provider.asked("me") == []


async def test_a_refresh_without_an_id_token():
    """The ID token of a refresh is optional: then the userinfo describes the user, or nobody does."""
    provider = Provider(token=Response(json={"access_token": "made-up-access"}))
    provider.pages["me"] = Response(json={"sub": "1", "groups": ["New"]} | ANNA)
    found = await provider.refresh(Oidc(ISSUER, "pro xy", groups_claim="groups"))
    assert (found.identity.name, found.identity.groups, found.refresh_token) == ("anna@example.com", ("new",), None)
    provider.pages["token"] = Response(json={"x": "y"})
    found = await provider.refresh()
    assert (found.identity, found.problem) == (None, "")


@pytest.mark.parametrize(
    ("page", "response", "kind", "words"),
    [
        ("token", Response(400, json={"error": "invalid_grant"}), Rejected, "HTTP 400 invalid_grant"),
        ("token", Response(400, json={"error": "interaction_required"}), Rejected, "interaction_required"),
        ("token", Response(403, json={"error": "access_denied"}), Rejected, "HTTP 403 access_denied"),
        ("token", Response(500, json={"error": "invalid_grant"}), ProviderFailed, "HTTP 500"),
        ("token", Response(400, json={"error": "unauthorized_client"}), ProviderFailed, "unauthorized_client"),
        ("token", Response(400, json={"error": "unknown: made-up-refresh"}), ProviderFailed, "HTTP 400"),
        ("token", Response(400, body=b"<html>"), ProviderFailed, "HTTP 400"),
        ("token", Response(401, json={"error": "invalid_client"}), ProviderFailed, "invalid_client"),
        ("token", Response(429), ProviderFailed, "HTTP 429"),
        ("token", Response(302), ProviderFailed, "HTTP 302"),
        ("token", Response(json=[]), ProviderFailed, "HTTP 200"),
        ("token", UnreachableError("connection refused"), ProviderFailed, "connection refused"),
        ("token", TimedOutError("x"), ProviderFailed, "no response"),
        ("openid-configuration", Response(503), ProviderFailed, "HTTP 503"),
        ("token", Response(json={"id_token": id_token(sub="2")}), Rejected, "another user"),
        ("token", Response(json={"id_token": id_token(email_verified=False)}), NotAllowed, "not verified"),
    ],
)
async def test_what_a_refresh_may_end_with(page, response, kind, words):
    """A refused token, another user and one who may not sign in end the sign-in; anything else is the provider's failure."""
    provider = Provider(**{page: response})
    with pytest.raises(kind) as error:
        await provider.refresh()
    assert words in str(error.value)
    assert "made-up" not in str(error.value)
    assert len(provider.asked("token")) <= 1


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"keys": Response(500)}, "its keys are missing"),
        ({"id": id_token(NEW_KEY)}, "ID token is not valid: InvalidSignature"),
        ({"id": "x"}, "ID token is not valid"),
        ({"id": id_token(email=None), "me": Response(500)}, "userinfo endpoint responded with HTTP 500"),
    ],
)
async def test_a_replaced_token_is_not_lost(changed, words):
    """Once the provider has replaced its token, the new one is returned, whatever fails after that."""
    tokens = {"id_token": changed.pop("id", id_token()), "refresh_token": "made-up-second", "access_token": "made-up-access"}
    found = await Provider(token=Response(json=tokens), **changed).refresh()
    assert (found.refresh_token.reveal(), found.identity) == ("made-up-second", None)
    assert words in found.problem


async def test_a_provider_that_hangs(monkeypatch):
    """The time before and after the request for tokens is limited, also where requests wait for each other."""
    monkeypatch.setattr(oidc_client, "BEFORE_SECONDS", 0.0)
    with pytest.raises(ProviderFailed, match="no discovery document within"):
        await Provider().refresh()
    monkeypatch.undo()
    monkeypatch.setattr(oidc_client, "AFTER_SECONDS", 0.0)
    assert "no keys or userinfo within" in (await Provider().refresh()).problem


LARGE = Response(chunks=[b" " * oidc_client.MAX_BYTES, b" {}"])


@pytest.mark.parametrize(
    ("page", "response", "kind", "words"),
    [
        ("openid-configuration", Response(404), ProviderFailed, "discovery document is missing: HTTP 404"),
        ("openid-configuration", Response(302, headers={"location": "https://evil.example"}), ProviderFailed, "HTTP 302"),
        ("openid-configuration", Response(body=b"<html>"), ProviderFailed, "missing: HTTP 200"),
        ("openid-configuration", Response(body=b"[" * 100_000), ProviderFailed, "missing: HTTP 200"),
        ("openid-configuration", document(issuer=f"{ISSUER}/"), ProviderFailed, "names another issuer"),
        ("openid-configuration", LARGE, ProviderFailed, "more than 512 KB"),
        ("openid-configuration", UnreachableError("connection refused"), ProviderFailed, "no response: connection refused"),
        ("openid-configuration", TimedOutError("x"), ProviderFailed, "no response"),
        ("keys", Response(500), ProviderFailed, "its keys are missing: HTTP 500"),
        ("keys", Response(json={"keys": {}}), ProviderFailed, "its keys are missing"),
        ("keys", Response(json={"keys": [7, None]}), Rejected, "key id"),
        ("token", Response(400, json={"error": "invalid_grant"}), Rejected, "HTTP 400 invalid_grant"),
        ("token", Response(400, json={"error": ["x"]}), Rejected, "HTTP 400"),
        ("token", Response(401, json={"error": "invalid_client"}), ProviderFailed, "HTTP 401 invalid_client"),
        ("token", Response(500), ProviderFailed, "HTTP 500"),
        ("token", Response(json=[]), ProviderFailed, "HTTP 200"),
        ("token", LARGE, ProviderFailed, "more than 512 KB"),
        ("token", Response(json={}), Rejected, "ID token is not valid: it is missing"),
        ("token", Response(json={"id_token": id_token(nonce="other")}), Rejected, "nonce"),
        ("token", Response(json={"id_token": id_token(NEW_KEY)}), Rejected, "InvalidSignature"),
        ("token", Response(json={"id_token": id_token(email_verified=False)}), NotAllowed, "not verified"),
    ],
)
async def test_what_a_provider_may_respond(page, response, kind, words):
    """Each failure has its reason in words for the log, without a secret, and is no other exception."""
    provider = Provider(**{page: response})
    with pytest.raises(kind) as error:
        await provider.identify()
    assert words in str(error.value)
    assert "made-up" not in str(error.value)


async def test_a_provider_that_fails_is_asked_again():
    """A failed discovery is reported for some seconds without another request, and then tried again."""
    provider = Provider(**{"openid-configuration": Response(500)})
    for _ in range(3):
        with pytest.raises(ProviderFailed):
            await provider.identify()
    assert len(provider.upstream.sent) == 1
    provider.pages["openid-configuration"] = document()
    provider.now[0] += oidc_client.FAILED_SECONDS
    assert (await provider.identify()).name == "anna@example.com"


@pytest.mark.parametrize("name", ["authorization_endpoint", "token_endpoint", "jwks_uri", "userinfo_endpoint"])
@pytest.mark.parametrize(
    "url",
    ["http://login.example.com/x", "https://127.0.0.1/x", "http://localhost/x", "javascript:1", "", 7, "https://a@b.example"],
)
def test_addresses_in_the_document(name, url):
    """Every address is HTTPS and not this machine, so that a document cannot make the proxy request its own network's HTTP."""
    with pytest.raises(ProviderFailed, match=name):
        check_document(DOCUMENT | {name: url}, ISSUER)


def test_a_document_on_this_machine():
    """An issuer on this machine may have addresses there; the userinfo endpoint may be missing, no other."""
    local = {name: value.replace("https://login.example.com", "http://127.0.0.1:1") for name, value in DOCUMENT.items()}
    check_document(local, local["issuer"])
    del local["userinfo_endpoint"]
    check_document(local, local["issuer"])
    del local["jwks_uri"]
    with pytest.raises(ProviderFailed, match="jwks_uri"):
        check_document(local, local["issuer"])
