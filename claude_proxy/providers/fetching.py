"""Which addresses in a request may be fetched on a client's behalf: ``claude_proxy: fetch_hosts:`` in config.yaml.

Without the list none are: whoever may ask the proxy could reach whatever the proxy's host can reach. Plain values, no I/O.
"""

import ipaddress
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from claude_proxy.providers.endpoints import BLOCK

KEY = "fetch_hosts"
BUCKET = "gs://"
# Names that no public host has.
PRIVATE = (".local", ".internal", ".localhost", ".lan", ".home.arpa")
_NAME = re.compile(r"(?:\*\.)?[a-z0-9_-]+(?:\.[a-z0-9_-]+)+")


@dataclass(frozen=True)
class FetchHosts:
    """The hosts and buckets of the list; an entry ``*.example.org`` stands for every host under that name."""

    entries: frozenset[str] = frozenset()

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "FetchHosts":
        """Read a configuration that ``mistakes`` has nothing against."""
        return cls(frozenset((config.get(BLOCK) or {}).get(KEY) or ()))

    def allow(self, address: str) -> bool:
        """Whether an address may be fetched: https at the default port of a listed host, or an object of a listed bucket.

        Characters that two libraries may read in two ways are in no address that is allowed.
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
    """Whether what an image or a document shows is not in the request, but at an address."""
    return isinstance(source, dict) and source.get("type") in ("url", "file")


def is_safe(source: object, hosts: FetchHosts, *, passes: bool) -> bool:
    """Whether LiteLLM may be given a ``source``: one that it has nothing to fetch for, or whose address it may fetch.

    With ``passes`` LiteLLM sends the address of the web on to a provider that fetches it.
    """
    if not isinstance(source, dict):
        return False
    kind, data, address = source.get("media_type"), source.get("data"), source.get("url")
    match source.get("type"):
        case "base64" if address is None and isinstance(kind, str) and isinstance(data, str):
            return ":" not in kind and ":" not in data  # LiteLLM 1.106.2 looks for an address anywhere in what it makes of them
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
    """Yield a sentence for each mistake in the list; ``config`` is a mapping, and nothing else is known of it."""
    block = config.get(BLOCK)
    entries = block.get(KEY) if isinstance(block, dict) else None
    if KEY in config:
        yield f"{KEY}: belongs under {BLOCK}; at the beginning of a line it allows nothing"
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
                "or path; '*.' in front stands for every host under it, gs://NAME for a bucket"
            )


def _is_address(name: str) -> bool:
    """Whether libraries may read a host as the address of a computer: 127.0.0.1, 0x7f.1."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name.rpartition(".")[2][:1].isdigit()
    return True
