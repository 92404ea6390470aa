"""server/addresses.py: the address of the proxy as the user of a request reaches it."""

import pytest

from claude_proxy.config.settings import Settings
from claude_proxy.server.addresses import base_of

HOME = {"HOST": "127.0.0.1", "PORT": "4000"}
DOMAIN = HOME | {"PROXY_DOMAIN": "proxy.example.org"}


@pytest.mark.parametrize(
    ("environ", "scheme", "host", "base"),
    [
        (HOME, "http", "127.0.0.1:4000", "http://127.0.0.1:4000"),
        (HOME, "http", "[::1]:4000", "http://[::1]:4000"),
        (HOME, "http", "Proxy.local:4000", "http://proxy.local:4000"),
        # The server has read X-Forwarded-Proto of a balancer that it trusts.
        (HOME, "https", "proxy.example.org", "https://proxy.example.org"),
        # TLS ends in front of the proxy, at the name that the certificate is for.
        (DOMAIN, "http", "proxy.example.org", "https://proxy.example.org"),
        (DOMAIN, "http", "PROXY.example.org:8443", "https://proxy.example.org:8443"),
        (DOMAIN, "http", "127.0.0.1:4000", "http://127.0.0.1:4000"),
        (DOMAIN, "http", "proxy.example.org.evil.test", "http://proxy.example.org.evil.test"),
        (HOME, "http", "localhost", "http://localhost"),
        # What is no host is not repeated.
        (HOME, "http", "", "http://127.0.0.1:4000"),
        (HOME, "http", "user@evil.test", "http://127.0.0.1:4000"),
        (HOME, "http", "evil.test/path?x", "http://127.0.0.1:4000"),
        (HOME, "http", '"><script>', "http://127.0.0.1:4000"),
        (DOMAIN, "http", "[:1]", "http://127.0.0.1:4000"),
        (DOMAIN, "http", "proxy.example.org:99999", "http://127.0.0.1:4000"),
        (HOME | {"HOST": "::1"}, "http", "a b", "http://[::1]:4000"),
    ],
)
def test_the_address_of_a_request(environ, scheme, host, base):
    """It is that of the Host header, with https where TLS ends in front of the proxy, and nothing that is no host."""
    scope = {"type": "http", "scheme": scheme, "headers": [(b"host", host.encode())]}
    assert base_of(scope, Settings.parse(environ)) == base


def test_a_configured_address():
    """An address in config.yaml applies to every request."""
    scope = {"type": "http", "scheme": "http", "headers": []}
    assert base_of(scope, Settings.parse(HOME), "https://proxy.example.org") == "https://proxy.example.org"
    assert base_of(scope, Settings.parse(HOME)) == "http://127.0.0.1:4000"
