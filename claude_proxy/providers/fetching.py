"""Which URLs in a request may be fetched for a client: ``claude_proxy: fetch_hosts:`` in config.yaml. Plain values, no I/O.

Without the list no URL may be fetched; otherwise every client could reach whatever the proxy's host can reach.
"""

import ipaddress
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from claude_proxy.providers.endpoints import BLOCK, in_block

KEY = "fetch_hosts"
BUCKET = "gs://"
# Suffixes of private host names.
PRIVATE = (".local", ".internal", ".localhost", ".lan", ".home.arpa")
_NAME = re.compile(r"(?:\*\.)?[a-z0-9_-]+(?:\.[a-z0-9_-]+)+")


@dataclass(frozen=True)
class FetchHosts:
    """The hosts and buckets of the list; an entry ``*.example.org`` allows every host under that name."""

    entries: frozenset[str] = frozenset()

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "FetchHosts":
        """Read a configuration in which ``mistakes`` found no error."""
        return cls(frozenset((config.get(BLOCK) or {}).get(KEY) or ()))

    def allow(self, address: str) -> bool:
        """Whether a URL may be fetched: https at the default port of a listed host, or an object of a listed bucket.

        A URL with characters that two libraries may read differently is never allowed.
        """
        if not self.entries or not address.isascii() or not address.isprintable() or {*" \\@"} & {*address}:
            return False
        if address.startswith(BUCKET):
            return BUCKET + address.removeprefix(BUCKET).split("/", 1)[0] in self.entries
        try:
            parts = urlsplit(address)
            host, port = parts.hostname or "", parts.port
        except ValueError:
            return False
        if parts.scheme != "https" or port not in (None, 443) or BUCKET in address:
            return False
        return host in self.entries or any(f"*.{parent}" in self.entries for parent in _parents(host))


NO_HOSTS = FetchHosts()


def is_elsewhere(source: object) -> bool:
    """Whether the content of an image or a document is at a URL and not in the request."""
    return isinstance(source, dict) and source.get("type") in ("url", "file")


def is_safe(source: object, hosts: FetchHosts, *, passes: bool) -> bool:
    """Whether LiteLLM may get a ``source``: the source needs no fetching, or its URL may be fetched.

    With ``passes``, LiteLLM forwards a web URL to a provider that fetches it.
    """
    if not isinstance(source, dict):
        return False
    kind, data, address = source.get("media_type"), source.get("data"), source.get("url")
    match source.get("type"):
        case "base64" if address is None and isinstance(kind, str) and isinstance(data, str):
            return (
                ":" not in kind and ":" not in data
            )  # LiteLLM 1.106.2 looks for a URL anywhere in the data URL that it builds
        case "text" if address is None:
            return isinstance(data, str)
        case "url" if isinstance(address, str):
            return hosts.allow(address) or (passes and address.startswith(("https://", "http://")))
    return False


def _parents(host: str) -> Iterator[str]:
    while "." in host:
        host = host.partition(".")[2]
        yield host


def mistakes(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield one message per error in the list; ``config`` is a mapping that is not validated yet."""
    entries = in_block(config, KEY)
    if KEY in config:
        yield f"{KEY}: belongs under {BLOCK}; at the top level it has no effect"
    if entries is None:
        return
    if not isinstance(entries, list):
        yield f"{BLOCK}: {KEY}: should be a list of hosts: [images.example.org, '*.example.net', 'gs://bucket']"
        return
    for entry in entries:
        name = entry.removeprefix(BUCKET) if isinstance(entry, str) else ""
        if name != entry and re.fullmatch(r"[a-z0-9._-]+", name):
            continue
        if name != entry or not _NAME.fullmatch(name) or _is_address(name) or name.endswith(PRIVATE):
            yield (
                f"{BLOCK}: {KEY}: {str(entry)[:100]!r} should be the name of a public host in lower case, without scheme, port "
                "or path; '*.NAME' allows every host under NAME, 'gs://NAME' a bucket"
            )


def _is_address(name: str) -> bool:
    """Whether libraries may read a host as an IP address: 127.0.0.1, 0x7f.1."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name.rpartition(".")[2][:1].isdigit()
    return True
