"""access/browsers.py: what a web page may do with an open proxy."""

import pytest

from claude_proxy.access.browsers import check_browser, check_own_page
from claude_proxy.anthropic.errors import Refused

MESSAGES = ("POST", "/v1/messages")
JSON = ("content-type", "application/json")
OWN = {"0.0.0.0", "proxy.example.org"}


def status(route, *headers):
    """The status of the refusal; None for a request that may go on."""
    try:
        check_browser(*route, headers, OWN)
    except Refused as refused:
        return refused.status
    return None


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:4000", "10.1.2.3", "[::1]:4000", "[fe80::1]", "localhost:4000", "LOCALHOST", "proxy:4000", "proxy.localhost",
        "mac.local:4000", "proxy.home.arpa", "host.docker.internal:4000", "proxy.example.org", "Proxy.Example.org:443", "",
        "localhost.:4000",
    ],
)  # fmt: skip
def test_a_name_that_no_page_can_have(host):
    """Addresses, names without a dot, private names and the proxy's own name are answered."""
    assert status(MESSAGES, ("host", host), JSON) is None


@pytest.mark.parametrize(
    "host",
    [
        "evil.example:4000", "127.0.0.1.evil.example", "localhost.evil.example", "proxy.example.org.evil.example",
        "evil.example.", "localhost@evil.example", "[::1", "1.2.3", "notlocal.example", ".", ":4000", "evil.example/localhost",
        "eviI.local.example",
    ],
)  # fmt: skip
def test_a_name_that_a_page_may_have(host):
    """Any other name may be a page's own, pointed at this machine: it is refused on every route."""
    assert status(MESSAGES, ("host", host), JSON) == 403
    assert status(("GET", "/pool"), ("host", host)) == 403


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ("http://127.0.0.1:4000", None), ("https://127.0.0.1:4000", None), ("http://127.0.0.1:5000", 403),
        ("http://evil.example", 403), ("null", 403), ("file://", 403), ("http://127.0.0.1:4000.evil.example", 403),
        ("http://[", 403), ("http://[x]", 403),
    ],
)  # fmt: skip
def test_a_page_of_another_site(origin, expected):
    """A request that a page has made is answered when the page is the proxy's own."""
    assert status(MESSAGES, ("Host", "127.0.0.1:4000"), ("Origin", origin), JSON) == expected


@pytest.mark.parametrize(("site", "expected"), [("same-origin", None), ("none", None), ("cross-site", 403), ("same-site", 403)])
def test_what_the_browser_says_of_the_page(site, expected):
    """A browser says from where a request comes, also where it sends no origin."""
    assert status(("GET", "/metrics"), ("host", "localhost"), ("sec-fetch-site", site)) == expected


@pytest.mark.parametrize(
    ("media", "expected"),
    [
        ("application/json", None), ("Application/JSON; charset=utf-8", None), ("text/plain", 415), ("", 415),
        ("application/x-www-form-urlencoded", 415), ("multipart/form-data; boundary=application/json", 415),
        ("text/plain; application/json", 415), ("application/json+x", 415),
    ],
)  # fmt: skip
def test_a_model_is_asked_in_json(media, expected):
    """What a form or a page's simple request can send is no request to a model; reading needs no type."""
    assert status(MESSAGES, ("host", "localhost"), ("content-type", media)) == expected
    assert status(("GET", "/v1/models"), ("host", "localhost"), ("content-type", media)) is None


def test_a_request_without_any_header():
    """A client that is no browser may leave all out but the type."""
    assert status(("GET", "/pool")) is None
    assert status(MESSAGES) == 415
    assert status(MESSAGES, JSON) is None


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ({}, None),
        ({"origin": "https://proxy.example", "host": "proxy.example"}, None),
        ({"origin": "https://proxy.example", "host": "inside:4000", "sec-fetch-site": "same-origin"}, None),
        ({"origin": "https://proxy.example", "host": "inside:4000"}, 403),
        ({"origin": "https://evil.example", "host": "proxy.example", "sec-fetch-site": "cross-site"}, 403),
        ({"host": "proxy.example", "sec-fetch-site": "same-site"}, 403),
        ({"origin": "null", "host": "proxy.example"}, 403),
        ({"origin": "http://[", "host": "["}, 403),
        ({"content-type": "text/plain"}, 415),
    ],
)
def test_what_changes_the_pool_comes_from_our_page(sent, expected):
    """A change is sent as JSON, by the proxy's own page or by no page at all."""
    headers = [*(dict([JSON]) | sent).items()]
    if expected is None:
        check_own_page(headers)
        return
    with pytest.raises(Refused) as caught:
        check_own_page(headers)
    assert caught.value.status == expected


@pytest.mark.parametrize(
    ("route", "headers", "expected"),
    [
        (("POST", "/v1/files"), (("content-type", "multipart/form-data; boundary=x"),), 415),
        (("POST", "/v1/files"), (("content-type", "multipart/form-data; boundary=x"), ("anthropic-version", "1")), None),
        (("POST", "/v1/files/x/cancel"), (), 415),
        (("POST", "/v1/files/x/cancel"), (("Anthropic-Version", "1"),), None),
        (("POST", "/v1/messages"), (("content-type", "text/plain"), ("anthropic-version", "1")), 415),
    ],
)
def test_an_upload_is_no_form(route, headers, expected):
    """An upload looks like a form, so it needs a header that no form and no request without a preflight can have."""
    found = None
    try:
        check_browser(*route, [("host", "localhost"), *headers], OWN, reaches_model=True)
    except Refused as refused:
        found = refused.status
    assert found == expected
