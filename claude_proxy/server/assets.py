"""The files of the pages ``/`` and ``/pool``: scripts, styles and the charts' library. They hold no data and need no token.

1. The path of a file has the hash of all files in it, so a browser keeps a file and never mixes the files of two releases.
2. A file is read and compressed once per process.
3. The styles of all views are one file, because a browser shows nothing before it has every style.
"""

import functools
import gzip
import hashlib
import importlib.util
from pathlib import Path
from typing import NamedTuple

from starlette.responses import Response

from claude_proxy.access.routes import ASSETS
from claude_proxy.asgi import Headers

APP = Path(__file__).parent / "web" / "app"
TYPES = {".js": "text/javascript", ".css": "text/css"}
# A package that holds the files of uPlot, which draws charts. Its own code, which needs other packages, is never imported.
CHARTS_PACKAGE = "uplot"
CHARTS_FILES = ("uPlot.iife.js", "uPlot.min.css")
# The styles: the shared ones first, in which the colours are, then those of the views.
STYLES, FIRST_STYLES = "pool.css", ("base.css", "app.css")
# Smaller ones fit into one packet anyway.
MIN_COMPRESSED_BYTES = 1000
FOREVER, EACH_TIME = "public, max-age=31536000, immutable", "no-cache"


class Asset(NamedTuple):
    """A file: what is sent of it, and its media type."""

    content: bytes
    compressed: bytes
    media_type: str


def respond(route: str, headers: Headers) -> Response:
    """Return the file under ``/pool/assets/HASH/NAME``, or 404.

    A page of another release gets today's file, which its browser does not keep.
    """
    version, _, name = route.removeprefix(ASSETS).partition("/")
    asset = _assets().get(name)
    if asset is None:
        return Response("not found\n", 404, media_type="text/plain", headers={"cache-control": "no-store"})
    found = {"cache-control": FOREVER if version == hash_of_all() else EACH_TIME, "x-content-type-options": "nosniff"}
    found["vary"] = "accept-encoding"
    accepted = ",".join(value for key, value in headers if key.lower() == "accept-encoding")
    coded = len(asset.content) >= MIN_COMPRESSED_BYTES and _accepts_gzip(accepted)
    if coded:
        found["content-encoding"] = "gzip"
    return Response(asset.compressed if coded else asset.content, media_type=asset.media_type, headers=found)


@functools.cache
def hash_of_all() -> str:
    """Return the hash of all names and contents."""
    digest = hashlib.sha256()
    for name, asset in sorted(_assets().items()):
        digest.update(f"{name}\0{len(asset.content)}\0".encode() + asset.content)
    return digest.hexdigest()[:12]


@functools.cache
def _assets() -> dict[str, Asset]:
    """Return every file by its name."""
    found = {path.name: path.read_bytes() for path in sorted(APP.iterdir()) if path.suffix in TYPES}
    views = [name for name in found if name.endswith(".css") and name not in FIRST_STYLES]
    found[STYLES] = b"".join(found[name] for name in (*FIRST_STYLES, *views))
    found |= {path.name: path.read_bytes() for path in _charts()}
    return {name: Asset(content, gzip.compress(content, mtime=0), TYPES[Path(name).suffix]) for name, content in found.items()}


def _charts() -> list[Path]:
    """Return the files of the charts' library; none if its package is missing, and then there are no charts."""
    found = importlib.util.find_spec(CHARTS_PACKAGE)
    folders = [*found.submodule_search_locations] if found and found.submodule_search_locations else []
    paths = [Path(folder) / "static" / name for folder in folders for name in CHARTS_FILES]
    return [path for path in paths if path.is_file()]


def _accepts_gzip(accepted: str) -> bool:
    codings = [part.strip().lower().partition(";") for part in accepted.split(",")]
    return any(name.strip() == "gzip" and options.replace(" ", "") not in {"q=0", "q=0.0"} for name, _, options in codings)
