"""config/oidc.py: the section ``claude_proxy: sign_in: oidc:``, its errors, and what it needs."""

import pytest

from claude_proxy.config.oidc import DEFAULT_SCOPES, Oidc, is_safe, mistakes, problem

OWN = {"issuer": "https://login.example.com", "client_id": "proxy", "client_secret": "os.environ/OIDC_SECRET"}
SECRET = {"OIDC_SECRET": " made-up-client-secret "}


def under(section):
    return {"claude_proxy": {"sign_in": {"oidc": section}}}


def test_a_provider():
    """The secret comes from its variable and is not printed; openid is always a scope, and domains are in lower case."""
    found = Oidc.of(under(OWN), SECRET)
    assert (found.issuer, found.client_id, found.host) == ("https://login.example.com", "proxy", "login.example.com")
    assert (found.scopes, found.name_claim, found.groups_claim, found.trust_email) == (DEFAULT_SCOPES, "", "", False)
    assert found.client_secret.reveal() == "made-up-client-secret"
    assert "made-up" not in repr(found)
    more = {"scopes": ["email"], "allowed_domains": [" Example.COM "], "name_claim": "upn", "groups_claim": "roles"}
    found = Oidc.of(under(OWN | more | {"trust_email": True}), SECRET)
    assert (found.scopes, found.allowed_domains) == (("openid", "email"), frozenset({"example.com"}))
    assert (found.name_claim, found.groups_claim, found.trust_email) == ("upn", "roles", True)
    assert (found.offline_access, found.authorization_parameters, found.max_age_seconds) == (True, (), 86400)
    more = {"authorization_parameters": {"prompt": "consent"}, "max_age_hours": 1.5, "offline_access": False}
    found = Oidc.of(under(OWN | more), SECRET)
    assert found.authorization_parameters == (("prompt", "consent"),)
    assert (found.offline_access, found.max_age_seconds) == (False, 5400)
    assert Oidc.of(under({"issuer": "https://x.example", "client_id": "public"}), {}).client_secret is None


@pytest.mark.parametrize("config", [{}, {"claude_proxy": None}, {"claude_proxy": {"sign_in": True}}, under(None)])
def test_without_a_section(config):
    """Without a section there is no provider and no error."""
    assert Oidc.of(config, {}) is None
    assert [*mistakes(config)] == []


def test_an_unset_secret():
    """A provider whose secret is not set is not offered; the start goes on."""
    assert problem(OWN, {}) == problem(OWN, {"OIDC_SECRET": " "}) == "lacks OIDC_SECRET"
    assert Oidc.of(under(OWN), {}) is None
    assert problem(OWN, SECRET) == ""


@pytest.mark.parametrize(
    ("section", "words"),
    [
        (OWN, []),
        (OWN | {"issuer": "http://127.0.0.1:3000"}, []),
        (OWN | {"issuer": "http://localhost/realms/x/"}, []),
        ("https://login.example.com", ["should be a mapping with the keys issuer and client_id"]),
        ([], ["should be a mapping"]),
        ({}, ["issuer should be the provider's URL", "client_id should be"]),
        (OWN | {"issuer": "http://login.example.com"}, ["issuer should be"]),
        (OWN | {"issuer": "https://user:hidden@login.example.com"}, ["issuer should be"]),
        (OWN | {"issuer": "https://login.example.com?x=1"}, ["issuer should be"]),
        (OWN | {"issuer": "https://login.example.com#"}, ["issuer should be"]),
        (OWN | {"issuer": "https://l\u00f6gin.example.com"}, ["issuer should be"]),
        (OWN | {"issuer": ["https://login.example.com"]}, ["issuer should be"]),
        (
            OWN | {"issuer": "https://login.microsoftonline.com/common/v2.0"},
            ["issuer should contain the id of your own tenant"],
        ),
        (OWN | {"issuer": "https://accounts.google.com"}, ["allowed_domains is needed"]),
        (OWN | {"issuer": "https://accounts.google.com", "allowed_domains": ["example.com"]}, []),
        (OWN | {"client_id": ""}, ["client_id should be"]),
        (OWN | {"client_id": 7}, ["client_id should be"]),
        (OWN | {"client_secret": "hidden-in-the-file"}, ["client_secret should be os.environ/NAME"]),
        (OWN | {"groups_claim": ["x"]}, ["groups_claim should be the name of a claim"]),
        (OWN | {"name_claim": ""}, ["name_claim should be the name of a claim"]),
        (OWN | {"allowed_domains": "example.com"}, ["allowed_domains should be a list"]),
        (OWN | {"allowed_domains": ["@example.com"]}, ["allowed_domains should be a list"]),
        (OWN | {"allowed_domains": []}, ["allowed_domains should be a list"]),
        (OWN | {"allowed_domains": ["*"]}, ["allowed_domains should be a list"]),
        (OWN | {"scopes": "openid email"}, ["scopes should be a list"]),
        (OWN | {"scopes": ["openid email"]}, ["scopes should be a list"]),
        (OWN | {"trust_email": "yes"}, ["trust_email should be true or false"]),
        (OWN | {"authorization_parameters": {"access_type": "offline", "prompt": "consent"}}, []),
        (OWN | {"authorization_parameters": "prompt=consent"}, ["authorization_parameters should be a mapping of texts"]),
        (OWN | {"authorization_parameters": {"max_age": 7}}, ["authorization_parameters should be a mapping of texts"]),
        (OWN | {"authorization_parameters": {"a\n": "b"}}, ["authorization_parameters should be a mapping of texts"]),
        (OWN | {"authorization_parameters": {"state": "x"}}, ["should not contain state, which the proxy sets itself"]),
        (OWN | {"offline_access": "no"}, ["offline_access should be true or false"]),
        (OWN | {"max_age_hours": 2160}, []),
        (OWN | {"max_age_hours": 0}, ["max_age_hours should be a number from 1 to 2160"]),
        (OWN | {"max_age_hours": True}, ["max_age_hours should be"]),
        (OWN | {"max_age_hours": "24"}, ["max_age_hours should be"]),
        (OWN | {"max_age": 24}, ["max_age is not known; did you mean max_age_hours?"]),
        (OWN | {"secret": "x"}, ["secret is not known; did you mean client_secret?"]),
    ],
)
def test_mistakes(section, words):
    """Each error names the key and its valid values, and shows no value."""
    found = [*mistakes(under(section))]
    assert len(found) == len(words), found
    assert all(part in sentence for part, sentence in zip(words, found, strict=True))
    assert all(sentence.startswith("claude_proxy: sign_in: oidc: ") for sentence in found)
    assert "hidden" not in "".join(found)


@pytest.mark.parametrize(
    ("url", "safe"),
    [
        ("https://a.example/x", True), ("http://a.example/x", False), ("http://127.0.0.1:1/x", True), ("http://[::1]/x", True),
        ("http://localhost.evil.example/", False), ("ftp://a.example", False), ("https://a@b.example/", False),
        ("https:///x", False), ("https://a.example/\n", False), ("https://a.example/ x", False), ("javascript:alert(1)", False),
    ],
)  # fmt: skip
def test_safe_addresses(url, safe):
    """An address of a provider is HTTPS, or HTTP on this machine, without a user in it."""
    assert is_safe(url) is safe
