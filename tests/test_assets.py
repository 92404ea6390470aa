"""server/assets.py: the files of the pages, as a browser gets them."""

import gzip
import re

import pytest

from claude_proxy.access.routes import is_asset
from claude_proxy.server import assets
from claude_proxy.server.assets import hash_of_all, respond

GZIP = [("Accept-Encoding", "br, gzip")]
# Of what the first view loads, as it is transferred.
MAX_BYTES = 150_000


def get(name, headers=(), version=None):
    return respond(f"/pool/assets/{version or hash_of_all()}/{name}", list(headers))


def names():
    return sorted(path.name for path in assets.APP.iterdir() if path.suffix in assets.TYPES)


@pytest.mark.parametrize("name", names())
def test_a_file_is_kept_forever_and_compressed(name):
    """A browser gets each file with its type, compressed if it can read that, and never asks for the same one again."""
    content = (assets.APP / name).read_bytes()
    plain, packed = get(name), get(name, GZIP)
    assert plain.body == content
    assert plain.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert plain.headers["content-type"].partition(";")[0] == assets.TYPES[f".{name.partition('.')[2]}"]
    assert (plain.headers["x-content-type-options"], plain.headers["vary"]) == ("nosniff", "accept-encoding")
    if len(content) >= assets.MIN_COMPRESSED_BYTES:
        assert packed.headers["content-encoding"] == "gzip"
        assert gzip.decompress(packed.body) == content
        assert len(packed.body) < len(content)
    else:
        assert "content-encoding" not in packed.headers


def test_the_styles_are_one_file():
    """The page has one file of styles with those of every view, the shared ones first."""
    styles = [path.read_bytes() for path in assets.APP.glob("*.css")]
    found = get("pool.css")
    assert found.headers["content-type"].startswith("text/css")
    assert len(found.body) == sum(map(len, styles))
    assert all(style in found.body for style in styles)
    assert found.body.startswith((assets.APP / "base.css").read_bytes() + (assets.APP / "app.css").read_bytes())


def test_the_whole_page_is_small():
    """All files together, with the charts' library, are under 150 kB."""
    assert sum(len(one.compressed) for one in assets._assets().values()) < MAX_BYTES


@pytest.mark.parametrize("accepted", ["", "identity", "br", "gzip;q=0", "xgzip", "*"])
def test_who_does_not_accept_gzip_gets_none(accepted):
    """Without ``gzip`` in ``accept-encoding`` a file is sent as it is."""
    assert "content-encoding" not in get("main.js", [("accept-encoding", accepted)]).headers


def test_a_page_of_another_release_keeps_no_file():
    """The address of another release gets today's file, which is not kept under that address."""
    response = get("main.js", version="0123456789ab")
    assert (response.body, response.headers["cache-control"]) == (get("main.js").body, "no-cache")


@pytest.mark.parametrize("name", ["", "other.js", "../pool.html", "pool.html", "..%2fpages.py", "a/main.js", "main.js/"])
def test_nothing_else_is_served(name):
    """A name that is no file of the page is not found, whatever it looks like."""
    assert get(name).status_code == 404


@pytest.mark.parametrize(
    ("method", "route", "found"),
    [("GET", "/pool/assets/x/main.js", True), ("POST", "/pool/assets/x/main.js", False), ("GET", "/pool/assets", False)],
)
def test_what_needs_no_token(method, route, found):
    """Files are read with GET, below the page's path."""
    assert is_asset(method, route) is found


@pytest.mark.parametrize("name", [name for name in names() if name.endswith(".js")])
def test_each_import_is_a_file(name):
    """What a module imports is served beside it; no address of another host is in a file."""
    text = (assets.APP / name).read_text(encoding="utf-8")
    for imported in re.findall(r"""(?:from|import\()\s*"\./([^"]+)\"""", text):
        assert get(imported).status_code == 200, imported
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text)
