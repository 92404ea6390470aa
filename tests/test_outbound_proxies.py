"""config/outbound_proxies.py: the proxy for an origin, and unreadable settings of the environment."""

import os

import httpx
import pytest

from claude_proxy.config.outbound_proxies import OutboundProxies, outbound_proxies, read_proxy

PROXY = "http://anna:made-up-word@proxy.invalid:3128"


def proxies(exceptions: str, **more: str) -> OutboundProxies:
    return OutboundProxies.of({"HTTPS_PROXY": PROXY, "HTTP_PROXY": PROXY, "NO_PROXY": exceptions} | more)


def is_direct(exceptions: str, url: str) -> bool:
    meant = httpx.URL(url)
    return proxies(exceptions).goes_directly(meant.scheme, meant.host, meant.port)


@pytest.mark.parametrize(
    ("item", "direct", "through"),
    [
        # every host
        ("*", ["https://claude.invalid", "https://10.1.2.3", "https://[::1]"], []),
        ("*:8080", ["http://claude.invalid:8080"], ["http://claude.invalid"]),
        # names
        ("example.com", ["https://example.com", "https://a.example.com", "https://EXAMPLE.com:8443"], ["https://anexample.com"]),
        (".example.com", ["https://example.com", "https://a.b.example.com"], ["https://example.com.invalid"]),
        ("*.example.com", ["https://a.example.com"], ["https://example.org"]),
        ("Example.COM.", ["https://example.com", "https://example.com."], []),
        ("localhost", ["http://localhost:4000"], ["http://127.0.0.1"]),
        ("under_score.internal", ["http://under_score.internal"], []),
        ("bücher.example", ["https://bücher.example", "https://xn--bcher-kva.example"], ["https://bucher.example"]),
        ("xn--bcher-kva.example", ["https://a.bücher.example"], []),
        # names and addresses with a port
        ("example.com:8080", ["http://example.com:8080", "http://a.example.com:8080"], ["http://example.com", "https://example.com"]),
        ("example.com:443", ["https://example.com"], ["http://example.com"]),
        ("10.1.2.3:80", ["http://10.1.2.3"], ["https://10.1.2.3", "http://10.1.2.4"]),
        ("[::1]:8080", ["http://[::1]:8080"], ["http://[::1]"]),
        ("https://example.com", ["https://example.com"], ["http://example.com"]),
        ("http://10.0.0.1:8080/", ["http://10.0.0.1:8080"], ["http://10.0.0.1"]),
        # addresses
        ("127.0.0.1", ["http://127.0.0.1:9"], ["http://127.0.0.2", "http://localhost"]),
        ("::1", ["http://[::1]:9"], ["http://[::2]"]),
        ("[::1]", ["http://[::1]:9"], ["http://[::2]"]),
        ("0:0:0:0:0:0:0:1", ["http://[::1]"], []),
        ("::ffff:10.1.2.3", ["http://10.1.2.3"], ["http://10.1.2.4"]),
        ("fe80::1%eth0", ["http://[fe80::1]"], []),
        # networks
        ("127.0.0.0/8", ["http://127.1.2.3"], ["http://128.0.0.1", "http://localhost"]),
        ("192.168.7.9/16", ["http://192.168.0.1"], ["http://192.169.0.1"]),
        ("::1/128", ["http://[::1]"], ["http://[::2]"]),
        ("fd07:b51a:cc66:f0::/64", ["http://[fd07:b51a:cc66:f0::7]"], ["http://[fd07:b51a:cc66:f1::7]"]),
        ("[fd00::]/8", ["http://[fdff::1]"], ["http://[fe00::1]"]),
        ("0.0.0.0/0", ["http://8.8.8.8"], ["http://[::1]", "http://example.com"]),
    ],
)  # fmt: skip
def test_an_exception(item, direct, through):
    """An exception applies to exactly the origins that it covers."""
    assert proxies(item).mistakes == ()
    assert [url for url in direct if not is_direct(item, url)] == []
    assert [url for url in through if is_direct(item, url)] == []


@pytest.mark.parametrize(
    "value",
    [
        "a.invalid,b.invalid",
        " a.invalid , b.invalid ",
        "a.invalid b.invalid",
        ",,a.invalid,\t,b.invalid,",
        "a.invalid\nb.invalid",
    ],
)
def test_what_stands_between_exceptions(value):
    """Commas, blanks and empty items separate exceptions."""
    found = proxies(value)
    assert (len(found.direct), found.mistakes) == (2, ())
    assert is_direct(value, "https://a.invalid")
    assert is_direct(value, "https://b.invalid")
    assert not is_direct(value, "https://c.invalid")


UNREADABLE = [
    "[::1", "::1]", "[nonsense]", "[example.com]", "::g", "10.0.0.0/33", "10.0.0.256", "::1/129", "example.com/8",
    "a.invalid:http", "a.invalid:99999", "a.invalid:", ":8080", "*.", ".", "exa*mple.com", "10.*", "a..b", "-", "a;b",
    "ftp://a.invalid", "%", "a" * 5000, "ä" * 100, "\udcff", "\x00", "http://", "[::1]:x", "[]", "/8", "!",
]  # fmt: skip


@pytest.mark.parametrize("item", UNREADABLE)
def test_what_is_no_exception(item):
    """An unreadable item is reported, shortened if it is long, and the other items apply."""
    found = proxies(f"a.example,{item},b.example")
    ((variable, mistake),) = found.mistakes
    assert variable == "NO_PROXY"
    assert "is no host, address or network" in mistake
    assert len(mistake) < 150
    assert mistake.isprintable()
    assert found.goes_directly("https", "a.example")
    assert found.goes_directly("https", "b.example")
    assert not found.goes_directly("https", "claude.invalid")


def test_a_password_in_a_wrong_place_is_not_shown():
    """The password of a proxy URL in NO_PROXY is not logged."""
    found = proxies("http://anna:made-up-word@proxy.invalid")
    assert found.mistakes
    assert "made-up-word" not in repr(found)


@pytest.mark.parametrize(
    ("variables", "url", "expected"),
    [
        ({"HTTPS_PROXY": "http://a.invalid:1"}, "https://x.invalid", "http://a.invalid:1"),
        ({"HTTPS_PROXY": "http://a.invalid:1"}, "http://x.invalid", None),
        ({"https_proxy": "http://b.invalid", "HTTPS_PROXY": "http://a.invalid"}, "https://x.invalid", "http://b.invalid"),
        ({"https_proxy": "", "HTTPS_PROXY": "http://a.invalid"}, "https://x.invalid", "http://a.invalid"),
        ({"ALL_PROXY": "a.invalid:1"}, "http://x.invalid", "http://a.invalid:1"),
        ({"ALL_PROXY": "socks5://s.invalid", "HTTPS_PROXY": "http://a.invalid"}, "https://x.invalid", "http://a.invalid"),
        ({"ALL_PROXY": "http://a.invalid", "HTTPS_PROXY": "socks5h://s.invalid"}, "https://x.invalid", "http://a.invalid"),
        ({"ALL_PROXY": "http://a.invalid", "no_proxy": "x.invalid", "NO_PROXY": "y.invalid"}, "https://y.invalid", "http://a.invalid"),
        ({"ALL_PROXY": "http://a.invalid", "no_proxy": "", "NO_PROXY": "y.invalid"}, "https://y.invalid", None),
        ({"FTP_PROXY": "http://a.invalid", "MY_PROXY": "x"}, "https://x.invalid", None),
    ],
)  # fmt: skip
def test_which_proxy(variables, url, expected):
    """The scheme's variable has priority over ALL_PROXY, lower case over upper case, and an empty one counts as unset."""
    meant = httpx.URL(url)
    assert OutboundProxies.of(variables).proxy_for(meant.scheme, meant.host, meant.port) == expected


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("socks5://anna:made-up-word@s.invalid:1080", "SOCKS proxy"),
        ("socks5h://s.invalid", "SOCKS proxy"),
        ("SOCKS4://s.invalid", "SOCKS proxy"),
        ("ftp://made-up-word.invalid", "is not the URL"),
        ("http://", "is not the URL"),
        ("http://[made-up-word", "is not the URL"),
        ("made-up-word.invalid:port", "is not the URL"),
        ("http://anna:made-up-word@a.invalid:0", "is not the URL"),
        ("http://a b:made-up-word@a.invalid", "is not the URL"),
        ("http://a.invalid\n.made-up-word", "is not the URL"),
        ("http://ä.invalid/made-up-word", "is not the URL"),
        ("://made-up-word", "is not the URL"),
        ("made-up-word://", "is not the URL"),
    ],
)
def test_what_is_no_proxy(value, words):
    """An unusable URL is ignored, reported in words, and never shown."""
    found = OutboundProxies.of({"HTTPS_PROXY": value})
    ((variable, mistake),) = found.mistakes
    assert variable == "HTTPS_PROXY"
    assert words in mistake
    assert "made-up-word" not in mistake + repr(found)
    assert found.proxy_for("https", "x.invalid") is None


@pytest.mark.parametrize(
    "value", ["a.invalid:3128", "http://a.invalid", "https://a.invalid:1", "http://[::1]:8", " http://a.invalid "]
)
def test_a_proxys_address(value):
    """A proxy is an HTTP URL, whose scheme may be missing."""
    address, mistake = read_proxy(value)
    assert (httpx.Proxy(address).url.host, mistake) != ("", None)
    assert mistake == ""


@pytest.mark.parametrize("name", ["NO_PROXY", "no_proxy"])
@pytest.mark.parametrize(
    ("value", "left"),
    [
        ("localhost,127.0.0.0/8,::1/128,fd07:b51a:cc66:f0::/64", "localhost,127.0.0.0/8,::1"),
        ("[::1]:8080,[::1], ,.example.com,a.invalid:80", "::1,example.com"),
        ("bücher.example,[::1", "xn--bcher-kva.example"),
        ("a.invalid, *", "*"),
        ("", ""),
    ],
)
def test_what_libraries_see(monkeypatch, name, value, left):
    """The simplified environment has plain exceptions, and every library can read it."""
    environ = {"HTTPS_PROXY": PROXY, "ALL_PROXY": "socks5://s.invalid", "all_proxy": "http://[", name: value}
    OutboundProxies.of(environ).simplify(environ)
    assert environ == {"HTTPS_PROXY": PROXY, name: left}
    for each in [each for each in os.environ if each.lower().endswith("_proxy")]:
        monkeypatch.delenv(each)
    for each, text in environ.items():
        monkeypatch.setenv(each, text)
    httpx.Client().close()


@pytest.mark.parametrize("item", UNREADABLE)
def test_no_unreadable_exception_is_left(item):
    """Unreadable items are removed for the libraries."""
    environ = {"NO_PROXY": f"a.example,{item}"}
    OutboundProxies.of(environ).simplify(environ)
    assert environ == {"NO_PROXY": "a.example"}


def test_a_process_reads_its_environment_once(monkeypatch):
    """The settings of the start apply, although the environment is simplified afterwards."""
    for each in [each for each in os.environ if each.lower().endswith("_proxy")]:
        monkeypatch.delenv(each)
    monkeypatch.setenv("HTTPS_PROXY", PROXY)
    monkeypatch.setenv("NO_PROXY", "fd00::/8")
    outbound_proxies.cache_clear()
    try:
        assert outbound_proxies().goes_directly("https", "fd00::1")
        assert os.environ["NO_PROXY"] == ""
        assert outbound_proxies().goes_directly("https", "fd00::1")
    finally:
        outbound_proxies.cache_clear()
