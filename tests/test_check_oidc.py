"""check/oidc.py: whether the provider of sign-in is ready."""

import pytest
import yaml
from test_check import EXAMPLE, facts, said

from claude_proxy.check import hosts
from claude_proxy.check.oidc import oidc

OWN = {"issuer": "https://login.example.com", "client_id": "proxy", "client_secret": "os.environ/MADE_UP_SECRET"}
DOMAINS = {"allowed_domains": ["example.com"]}


@pytest.mark.parametrize(
    ("section", "environ", "words"),
    [
        (OWN, {}, ["oidc lacks MADE_UP_SECRET; nobody can sign in at login.example.com", "set MADE_UP_SECRET in .env"]),
        (OWN | {"trust_email": True}, {"MADE_UP_SECRET": "x"}, ["with an email that it has not verified", "name your domains"]),
        (OWN | {"trust_email": True} | DOMAINS, {"MADE_UP_SECRET": "x"}, []),
        (OWN, {"MADE_UP_SECRET": "x"}, []),
        (OWN | {"issuer": "x"}, {}, []),  # an error that keeps the proxy from starting is reported elsewhere
        (None, {}, []),
    ],
)
def test_the_provider(section, environ, words):
    """A provider that cannot be used, or that anyone can use, is a warning with what to do."""
    config = yaml.safe_load(EXAMPLE) | {"claude_proxy": {"sign_in": {"oidc": section}}}
    found = said(oidc(facts(config, **environ)))
    assert len(found) == bool(words)
    assert all(part in found[0] for part in words)


def test_the_host_of_the_provider():
    """The provider's host is connected to as a model's."""
    config = yaml.safe_load(EXAMPLE) | {"claude_proxy": {"sign_in": {"oidc": OWN}}}
    (target,) = [one for one in hosts.targets(facts(config, MADE_UP_SECRET="x")) if one.users == ("sign_in",)]
    assert (target.origin.host, target.ready) == ("login.example.com", True)
