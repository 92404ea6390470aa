"""signin/id_token.py: which ID tokens are valid, and which user their claims are."""

import time
import warnings

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from claude_proxy.config.oidc import Oidc
from claude_proxy.signin.id_token import InvalidToken, NotAllowed, UnknownKey, claims_of, groups_of, identity_of, needed_claims

PROVIDER = Oidc("https://login.example.com", "proxy")
NONCE = "made-up-nonce"
RSA = rsa.generate_private_key(65537, 2048)
OTHER = rsa.generate_private_key(65537, 2048)
SHORT = rsa.generate_private_key(65537, 1024)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
ANNA = {"email": "anna@example.com", "email_verified": True}


def public(key, kind, kid, **more):
    algorithm = {"RSA": jwt.algorithms.RSAAlgorithm, "EC": jwt.algorithms.ECAlgorithm, "OKP": jwt.algorithms.OKPAlgorithm}[kind]
    return algorithm.to_jwk(key.public_key(), as_dict=True) | {"kid": kid} | more


KEYS = [
    public(OTHER, "RSA", "encryption", use="enc"),
    public(RSA, "RSA", "rsa", use="sig"),
    public(EC, "EC", "ec"),
    public(ED, "OKP", "ed", alg="EdDSA"),
    public(SHORT, "RSA", "short"),
    {"kid": "broken", "kty": "RSA"},
    {"kid": "shared", "kty": "oct", "k": "bWFkZS11cC1zaGFyZWQtc2VjcmV0LW9mLTMyLWJ5dGVz"},
]


def claims(**changed):
    now = int(time.time())
    found = {"iss": PROVIDER.issuer, "aud": "proxy", "sub": "1", "iat": now, "exp": now + 86_400, "nonce": NONCE} | changed
    return {name: value for name, value in found.items() if value is not None}


def token(key=RSA, algorithm="RS256", kid="rsa", **changed):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a short key, which one of the tests uses
        return jwt.encode(claims(**changed), key, algorithm, {"kid": kid} if kid else None)


@pytest.mark.parametrize(
    "sent",
    [
        token(), token(EC, "ES256", "ec"), token(ED, "EdDSA", "ed"), token(RSA, "PS384"), token(kid=None), token(aud=["proxy"]),
        token(aud=["proxy", "api"], azp="proxy"),
    ],
)  # fmt: skip
def test_a_valid_token(sent):
    """A token of the issuer for this client and this sign-in is valid, with any of the allowed signatures."""
    assert claims_of(sent, KEYS, PROVIDER, NONCE)["sub"] == "1"


def test_a_clock_that_differs():
    """A provider's clock may differ by a minute."""
    for changed in ({"exp": int(time.time()) - 30}, {"iat": int(time.time()) + 30}):
        assert claims_of(token(**changed), KEYS, PROVIDER, NONCE)["sub"] == "1"


SHARED = "made-up-shared-secret-of-32-bytes"


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (None, "missing"), ("", "missing"), (7, "missing"), ("x", "no signed token"), ("a.b.c", "no signed token"),
        ("x" * 70_000, "too long"), (token() + "x", ""), (token()[:-4] + "AAAA", "InvalidSignature"),
        (jwt.encode(claims(), None, "none", {"kid": "rsa"}), "algorithm"),
        (jwt.encode(claims(), SHARED, "HS256", {"kid": "shared"}), "algorithm"),
        (token(OTHER), "InvalidSignature"), (token(OTHER, kid="encryption"), "key id"), (token(kid="unknown"), "key id"),
        (token(SHORT, kid="short"), "InvalidKey"), (token(kid="broken"), "InvalidKey"), (token(RSA, kid="ec"), "key id"),
        (token(iss="https://evil.example"), "InvalidIssuer"), (token(iss=PROVIDER.issuer + "/"), "InvalidIssuer"),
        (token(aud="other"), "InvalidAudience"), (token(aud=None), "MissingRequiredClaim"),
        (token(aud=[]), "MissingRequiredClaim"),
        (token(exp=int(time.time()) - 120), "ExpiredSignature"), (token(exp=None), "MissingRequiredClaim"),
        (token(iat=int(time.time()) + 3600), "ImmatureSignature"), (token(iat=None), "MissingRequiredClaim"),
        (token(nbf=int(time.time()) + 3600), "ImmatureSignature"),
        (token(sub=None), "MissingRequiredClaim"), (token(sub=""), "no subject"), (token(nonce=None), "nonce"),
        (token(nonce="other"), "nonce"), (token(nonce=7), "nonce"), (token(nonce="n\u00f6"), "nonce"),
        (token(azp="other"), "another client"),
        (token(aud=["proxy", "api"]), "another client"),
    ],
)  # fmt: skip
def test_an_invalid_token(sent, reason):
    """Every other token is rejected, and the reason contains no part of it."""
    with pytest.raises(InvalidToken) as error:
        claims_of(sent, KEYS, PROVIDER, NONCE)
    assert reason in str(error.value)
    assert len(str(error.value)) < 60


def test_an_unknown_key_is_told_apart():
    """A key id that the provider does not have is a reason to fetch its keys again; a wrong signature is not."""
    with pytest.raises(UnknownKey):
        claims_of(token(kid="new"), KEYS, PROVIDER, NONCE)
    with pytest.raises(InvalidToken) as error:
        claims_of(token(OTHER), KEYS, PROVIDER, NONCE)
    assert not isinstance(error.value, UnknownKey)


def test_malformed_keys():
    """Keys of any shape are no error of the proxy's."""
    for key in ({}, {"kty": "RSA"}, {"kty": "RSA", "n": 7, "e": []}, {"kty": "RSA", "n": "AQ", "e": "AQ"}, {"kty": ["RSA"]}):
        with pytest.raises(InvalidToken):
            claims_of(token(kid=None), [key], PROVIDER, NONCE)


def named(claims, has_token=lambda _: False, **options):
    return identity_of({"sub": "1"} | claims, Oidc(PROVIDER.issuer, "proxy", **options), has_token)


def test_the_name_of_a_user():
    """The name is the verified email in lower case, the name of a user without an email, or the claim that is configured."""
    found = named({"email": "Anna@Example.com", "email_verified": True, "preferred_username": "boss"})
    assert (found.name, found.email, found.groups, found.token_digest) == ("anna@example.com", "Anna@Example.com", (), "")
    assert named({"preferred_username": "Anna"}).name == "anna"
    assert named({"upn": "anna", "email": "x@example.com"}, name_claim="upn").name == "anna"
    assert named({"email": "anna@example.com"}, trust_email=True).name == "anna@example.com"
    assert named({"email": "anna@example.com", "email_verified": "true"}).name == "anna@example.com"


@pytest.mark.parametrize(
    ("claims", "options", "words"),
    [
        ({}, {}, "did not send your email address"),
        ({"email": "anna@example.com"}, {}, "has not verified your email address"),
        ({"email": "anna@example.com", "email_verified": False, "preferred_username": "anna"}, {}, "has not verified"),
        ({"email": "anna@example.com", "email_verified": 1.5}, {}, "has not verified"),
        ({"preferred_username": "ceo@example.com"}, {}, "looks like an email"),
        ({"preferred_username": "anna"}, {"name_claim": "email"}, "did not send your email"),
        (ANNA, {"name_claim": "upn"}, "did not send the claim"),
        ({"upn": ["anna"]}, {"name_claim": "upn"}, "did not send the claim"),
        ({"upn": "an\nna"}, {"name_claim": "upn"}, "did not send the claim"),
        ({"upn": "x" * 400}, {"name_claim": "upn"}, "did not send the claim"),
        ({"upn": "<script>"}, {"name_claim": "upn"}, "cannot be used here"),
        ({"upn": "Admin"}, {"name_claim": "upn"}, "reserved"),
        ({"upn": "\u0430nna"}, {"name_claim": "upn"}, "cannot be used here"),
        ({"upn": "sk-ant-oat01-x"}, {"name_claim": "upn"}, "cannot be used here"),
        (ANNA, {"allowed_domains": frozenset({"other.com"})}, "not in a domain"),
        (ANNA | {"email": "anna@sub.example.com"}, {"allowed_domains": frozenset({"example.com"})}, "not in a domain"),
        ({"preferred_username": "example.com"}, {"allowed_domains": frozenset({"example.com"})}, "not in a domain"),
        ({"upn": "example.com"}, {"name_claim": "upn", "allowed_domains": frozenset({"example.com"})}, "not in a domain"),
        ({"email": "@example.com"}, {"trust_email": True, "allowed_domains": frozenset({"example.com"})}, "not in a domain"),
    ],
)
def test_who_may_not_sign_in(claims, options, words):
    """A user without a name that can be trusted and used, or of another domain, is not signed in and is told why."""
    with pytest.raises(NotAllowed) as error:
        named(claims, **options)
    assert words in str(error.value)
    assert "<" not in str(error.value)


def test_domains():
    """The domain of the verified email decides, or of the configured claim; upper and lower case are one."""
    domains = frozenset({"example.com"})
    assert named({"email": "anna@EXAMPLE.com", "email_verified": True}, allowed_domains=domains).name == "anna@example.com"
    assert named({"upn": "anna@example.com"}, name_claim="upn", allowed_domains=domains).name == "anna@example.com"


def test_the_name_of_a_personal_token():
    """A verified email or a configured claim is the same user as a personal token's; a name that a user chose is not."""
    assert named(ANNA, lambda _: True).name == "anna@example.com"
    assert named({"upn": "anna"}, lambda _: True, name_claim="upn").name == "anna"
    asked = []
    with pytest.raises(NotAllowed) as error:
        named({"preferred_username": "Anna"}, lambda name: asked.append(name) or True)
    assert "already has a personal token" in str(error.value)
    assert asked == ["anna"]


def test_groups():
    """Groups are case-folded and sorted, each once; a value that is no name of a group is left out."""
    assert groups_of(["Team-B", "team-a", "TEAM-A", "", " ", 7, None, "x\n", "y" * 300]) == ("team-a", "team-b")
    assert (groups_of("Team-A"), groups_of(None), groups_of({"team-a": 1}), groups_of([])) == (("team-a",), (), (), ())
    assert named(ANNA | {"roles": ["Team-A"]}, groups_claim="roles").groups == ("team-a",)
    assert named(ANNA | {"roles": ["Team-A"]}).groups == ()
    with pytest.raises(NotAllowed) as error:
        named(ANNA | {"roles": [f"team-{number}" for number in range(1000)]}, groups_claim="roles")
    assert "too many groups" in str(error.value)


def test_the_claims_that_are_needed():
    """What decides who a user is may have to be fetched separately."""
    assert needed_claims(PROVIDER) == ("email",)
    provider = Oidc(PROVIDER.issuer, "proxy", name_claim="upn", groups_claim="roles", allowed_domains=frozenset({"x.example"}))
    assert needed_claims(provider) == ("upn", "roles", "email")
