"""The HTTP proxies of the environment (HTTPS_PROXY and the like), and the hosts that need none (NO_PROXY).

1. NO_PROXY is read in every form that curl or Go accept: names, with or without a leading dot or `*.`, IPv4 and IPv6 addresses
   and networks, with or without brackets, each with or without a port; `*`; commas, blanks and empty items between them.
2. A lower-case variable has priority over an upper-case one.
3. An unreadable value is ignored and reported. A proxy's URL is never shown, because it may contain a password.
"""

import functools
import ipaddress
import os
import re
import sys
import urllib.request
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httpx
from yarl import URL

SCHEMES = ("http", "https", "all")
PORTS = {"http": 80, "https": 443}
EXAMPLE = "http://proxy.example.com:3128"
EXCEPTIONS = "NO_PROXY"
EXAMPLES_OF_EXCEPTIONS = "localhost,10.0.0.0/8,.example.com"
# The longest part of an item that is shown.
SHOWN_CHARACTERS = 60
# The maximum length of a DNS name.
MAX_NAME = 253
_SEPARATORS = re.compile(r"[,\s]+")
_BRACKETED = re.compile(r"\[([^\[\]]+)\](/\d+)?(?::(\d+))?")
_NAME = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class Direct:
    """One item of NO_PROXY: a network, a name with its subdomains, or every host; optionally with one port or scheme."""

    network: Network | None = None
    name: str = ""
    port: int | None = None
    scheme: str = ""

    def covers(self, scheme: str, host: str | Address, port: int | None) -> bool:
        """Whether an origin is reached directly. ``host`` is a name in canonical form, or an address."""
        if self.port not in (None, port) or self.scheme not in ("", "all", scheme):
            return False
        if isinstance(host, str):
            return self.network is None and (not self.name or host == self.name or host.endswith(f".{self.name}"))
        return host in self.network if self.network is not None else not self.name

    @property
    def plain(self) -> str:
        """The item in a form that httpx (0.28), urllib and requests all read; empty if there is none."""
        if self.port is not None or self.scheme:
            return ""
        if self.network is None:
            return self.name or "*"
        if self.network.num_addresses == 1:
            return str(self.network.network_address)
        return str(self.network) if self.network.version == 4 else ""


@dataclass(frozen=True)
class OutboundProxies:
    """The proxy settings of the environment. ``mistakes`` has a variable and a message for each unreadable value."""

    by_scheme: Mapping[str, str] = field(default_factory=dict, repr=False, hash=False)
    direct: tuple[Direct, ...] = ()
    mistakes: tuple[tuple[str, str], ...] = ()
    # Whether the settings come from the system and not from the environment: macOS has exceptions of its own.
    of_system: bool = False

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> "OutboundProxies":
        """Read an environment, or the system's settings if the environment names no proxy."""
        named = {name.lower(): name for name in sorted(environ) if name.lower().endswith("_proxy") and environ[name].strip()}
        named |= {name: name for name in named if environ.get(name, "").strip()}
        found = {name.removesuffix("_proxy"): (variable, environ[variable]) for name, variable in named.items()}
        of_system = not found and sys.platform == "darwin"
        if of_system:
            found = {scheme: (scheme, value) for scheme, value in urllib.request.getproxies().items()}
        mistakes: list[tuple[str, str]] = []
        by_scheme = {}
        for scheme in SCHEMES:
            if scheme not in found:
                continue
            variable, value = found[scheme]
            address, mistake = read_proxy(value)
            if mistake:
                mistakes.append((variable, mistake))
            else:
                by_scheme[scheme] = address
        variable, value = found.get("no", (EXCEPTIONS, ""))
        items = [item for item in _SEPARATORS.split(value) if item]
        direct = [(item, read_exception(item)) for item in items]
        mistakes += [(variable, f"{shown(item)} is no host, address or network") for item, read in direct if read is None]
        return cls(by_scheme, tuple(read for _, read in direct if read is not None), tuple(mistakes), of_system)

    def proxy_for(self, scheme: str, host: str, port: int | None = None) -> str | None:
        """Return the URL of the proxy for an origin; None if the origin is reached directly."""
        named = self.by_scheme.get(scheme) or self.by_scheme.get("all")
        if not named or self.goes_directly(scheme, host, port):
            return None
        return named

    def goes_directly(self, scheme: str, host: str, port: int | None = None) -> bool:
        """Whether an origin is excepted from every proxy."""
        if self.of_system:
            return bool(urllib.request.proxy_bypass(host))
        if not self.direct:
            return False
        meant = _host(host)
        port = PORTS.get(scheme) if port is None else port
        return any(item.covers(scheme, meant, port) for item in self.direct)

    def simplify(self, environ: MutableMapping[str, str]) -> None:
        """Reduce an environment to values that every library reads: httpx (0.28) raises an error for others."""
        plain = dict.fromkeys(item.plain for item in self.direct)
        exceptions = "*" if "*" in plain else ",".join(filter(None, plain))
        for name in [name for name in environ if name.lower().endswith("_proxy")]:
            scheme = name.lower().removesuffix("_proxy")
            if scheme == "no":
                environ[name] = exceptions
            elif scheme in SCHEMES and environ[name].strip():
                address, mistake = read_proxy(environ[name])
                if mistake:
                    del environ[name]
                else:
                    environ[name] = address


@functools.cache
def outbound_proxies() -> OutboundProxies:
    """Return the proxy settings of the start, and simplify the process's environment at the first call.

    LiteLLM creates httpx clients when it is imported, so this is called before.
    """
    found = OutboundProxies.of(os.environ)
    found.simplify(os.environ)
    return found


def read_proxy(value: str) -> tuple[str, str]:
    """Return a proxy's URL and an empty text, or an empty URL and what is wrong with the value."""
    text = value.strip()
    text = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(text)
        scheme, usable = parts.scheme, bool(parts.hostname and parts.port != 0 and text.isascii() and text.isprintable())
        usable = usable and " " not in text and bool(httpx.URL(text).host) and bool(URL(text).host)
    except (ValueError, httpx.InvalidURL):
        scheme, usable = "", False
    if scheme.startswith("socks"):
        return "", f"names a SOCKS proxy, which is not supported, so it is not used; use an HTTP proxy such as {EXAMPLE}"
    if not usable or scheme not in ("http", "https"):
        return "", f"is not the URL of an HTTP proxy, so it is not used; use one such as {EXAMPLE}"
    return text, ""


def read_exception(item: str) -> Direct | None:
    """Return an item of NO_PROXY; None if it cannot be read."""
    scheme, has_scheme, rest = item.lower().rpartition("://")
    if has_scheme and scheme not in SCHEMES:
        return None
    rest = rest.rstrip("/") if has_scheme else rest
    host, port = rest, None
    if bracketed := _BRACKETED.fullmatch(rest):
        address, length, digits = bracketed.groups()
        host, port = f"{address}{length or ''}", digits
    elif rest.count(":") == 1:
        host, _, port = rest.partition(":")
    number = _port(port)
    if number == 0:
        return None
    if host == "*":
        return Direct(port=number, scheme=scheme)
    if (network := _network(host)) is not None:
        return Direct(network, port=number, scheme=scheme)
    name = _name(host.removeprefix("*").lstrip(".") if host.startswith(("*.", ".")) else host)
    return Direct(name=name, port=number, scheme=scheme) if name and not bracketed else None


def shown(item: str) -> str:
    """Return an item of NO_PROXY for a message; an item that may contain a password is not shown."""
    return "an item with an @" if "@" in item else repr(item[:SHOWN_CHARACTERS])


def _port(digits: str | None) -> int | None:
    """Return a port; None without one, and 0 for an invalid one."""
    if digits is None:
        return None
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 6 and int(digits) < 65536 else 0


def _network(text: str) -> Network | None:
    try:
        network = ipaddress.ip_network(text.partition("%")[0] if "%" in text else text, strict=False)
    except ValueError:
        return None
    mapped = network.network_address.ipv4_mapped if isinstance(network, ipaddress.IPv6Network) else None
    return ipaddress.ip_network(f"{mapped}/{network.prefixlen - 96}") if mapped and network.prefixlen >= 96 else network


def _name(text: str) -> str:
    """Return a host name in canonical form; empty for anything else."""
    name = text.rstrip(".")
    try:
        name = name if name.isascii() else name.encode("idna").decode()
    except UnicodeError:
        return ""
    # Resolvers read a name whose last part is a number as an address.
    is_number = name.rpartition(".")[2].isdigit()
    return name if len(name) <= MAX_NAME and _NAME.fullmatch(name) and not is_number else ""


def _host(host: str) -> str | Address:
    """Return a host as an address, or as a name in canonical form."""
    text = host.strip("[]").partition("%")[0].rstrip(".").lower()
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return _name(text) or text
    return (isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped) or address
