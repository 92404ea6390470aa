"""providers/fetching.py: which URLs in a request may be fetched for a client."""

import pytest

from claude_proxy.providers.fetching import NO_HOSTS, FetchHosts, is_safe, mistakes

LISTED = FetchHosts.of({"claude_proxy": {"fetch_hosts": ["images.example.org", "*.example.net", "gs://a-bucket"]}})


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("https://images.example.org/a.png", True),
        ("https://images.example.org:443/a.png", True),
        ("https://IMAGES.example.org/a.png", True),
        ("https://a.b.example.net/", True),
        ("gs://a-bucket/a.png", True),
        # another scheme, port or host
        ("http://images.example.org/a.png", False),
        ("https://images.example.org:8443/a.png", False),
        ("https://example.net/", False),
        ("https://other.images.example.org/", False),
        ("https://notexample.net/", False),
        ("gs://b-bucket/a.png", False),
        ("gs://a-bucket.evil/a.png", False),
        ("ftp://images.example.org/", False),
        ("file:///etc/passwd", False),
        # what libraries read in two ways
        ("https://images.example.org@evil.invalid/", False),
        ("https://evil.invalid\\@images.example.org/", False),
        ("https://evil.invalid/ https://images.example.org/", False),
        ("https://images.example.org\n.evil.invalid/", False),
        ("https://images.example.org/gs://b-bucket/x", False),
        ("https://images.ex\u0430mple.org/", False),
        ("https://images.example.org:port/", False),
        ("https://[::1/", False),
        ("", False),
    ],
)
def test_an_address(address, allowed):
    """Only https at a listed host and objects of a listed bucket are fetched; without a list nothing is."""
    assert LISTED.allow(address) is allowed
    assert not NO_HOSTS.allow(address)


@pytest.mark.parametrize(
    ("source", "safe", "passed"),
    [
        ({"type": "base64", "media_type": "image/png", "data": "aGk="}, True, True),
        ({"type": "text", "media_type": "text/plain", "data": "see http://x.invalid"}, True, True),
        ({"type": "url", "url": "https://other.invalid/a.png"}, False, True),
        ({"type": "url", "url": "http://other.invalid/a.png"}, False, True),
        ({"type": "url", "url": "https://images.example.org/a.png"}, True, True),
        ({"type": "url", "url": "gs://b-bucket/a.png"}, False, False),
        ({"type": "url", "url": 7}, False, False),
        ({"type": "base64", "media_type": "image/png", "data": "gs://b-bucket/a.png"}, False, False),
        ({"type": "base64", "media_type": "http://other.invalid", "data": "aGk="}, False, False),
        ({"type": "base64", "media_type": "image/png", "data": "aGk=", "url": "http://other.invalid"}, False, False),
        ({"type": "base64", "media_type": "image/png"}, False, False),
        ({"type": "file", "file_id": "https://other.invalid/a.pdf"}, False, False),
        ({"url": "https://other.invalid/a.png"}, False, False),
        ("https://other.invalid/a.png", False, False),
        (None, False, False),
    ],
)
def test_a_source(source, safe, passed):
    """LiteLLM gets only content in the request, URLs that it may fetch, and URLs that it forwards unchanged."""
    assert is_safe(source, LISTED, passes=False) is safe
    assert is_safe(source, LISTED, passes=True) is passed


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({}, []),
        ({"claude_proxy": 1}, []),
        ({"claude_proxy": {"fetch_hosts": ["a.example.org", "*.example.org", "gs://bucket_1"]}}, []),
        ({"fetch_hosts": []}, ["belongs under claude_proxy"]),
        ({"claude_proxy": {"fetch_hosts": "a.example.org"}}, ["should be a list of hosts"]),
        *(
            ({"claude_proxy": {"fetch_hosts": [entry]}}, [repr(entry)])
            for entry in (
                "https://a.example.org", "a.example.org:8443", "a.example.org/x", "*", "*.org", "localhost", "10.0.0.1",
                "127.1", "a.0x7f", "metadata.google.internal", "printer.local", "A.example.org", "gs://", "gs://bucket/x", "",
            )
        ),
        ({"claude_proxy": {"fetch_hosts": [7]}}, ["'7'"]),
    ],
)  # fmt: skip
def test_mistakes(config, words):
    """Each entry that is not a public host or a bucket gets a message that contains it."""
    found = list(mistakes(config))
    assert len(found) == len(words)
    assert all(word in sentence for word, sentence in zip(words, found, strict=True))
