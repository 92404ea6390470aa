"""The OTLP collector for telemetry: ``claude_proxy: telemetry:`` in config.yaml. Plain values, no I/O."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from claude_proxy.config.spelling import unknown
from claude_proxy.config.web_search import REFERENCE, resolved
from claude_proxy.credentials.credential import is_claude_credential
from claude_proxy.providers.endpoints import BLOCK, Origin, in_block
from claude_proxy.secret import Secret

KEY = "telemetry"
COLLECTOR, HEADERS, CLIENTS, OWN = "collector", "headers", "clients", "own"
KEYS = (COLLECTOR, HEADERS, CLIENTS, OWN)
SIGNALS = ("metrics", "logs", "traces")
_HEADER = re.compile(r"[A-Za-z0-9-]{1,100}")


@dataclass(frozen=True)
class Telemetry:
    """A collector that receives OTLP over HTTP. ``url`` is its base: signals go to ``{url}/v1/metrics`` and so on."""

    url: str
    headers: tuple[tuple[str, Secret], ...] = ()
    # Whether Claude Code's telemetry is passed on, and whether the proxy sends traces and metrics of its own.
    clients: bool = True
    own: bool = False

    @property
    def host(self) -> str:
        """The host, as the collector's name in the log."""
        origin = Origin.of(self.url)
        return origin.host if origin else ""


def telemetry(config: Mapping[str, Any], environ: Mapping[str, str]) -> Telemetry | None:
    """Return the collector of a configuration in which ``mistakes`` found no error; None if there is no ready one."""
    found = in_block(config, KEY)
    if not isinstance(found, dict) or problem(found, environ):
        return None
    headers = tuple((name, Secret(resolved(value, environ))) for name, value in (found.get(HEADERS) or {}).items())
    url = resolved(found.get(COLLECTOR), environ).rstrip("/")
    return Telemetry(url, headers, found.get(CLIENTS, True), found.get(OWN, False))


def problem(found: Mapping[str, Any], environ: Mapping[str, str]) -> str:
    """Return why a valid section is not ready, as the rest of a sentence after its name; empty if it is ready."""
    headers = found.get(HEADERS) or {}
    for value in (found.get(COLLECTOR), *headers.values()):
        reference = REFERENCE.fullmatch(str(value or "").strip())
        if reference and not environ.get(reference[1], "").strip():
            return f"lacks {reference[1]}"
    if Origin.of(resolved(found.get(COLLECTOR), environ)) is None:
        return "has a collector that is not a URL"
    if any(is_claude_credential(word) for value in headers.values() for word in resolved(value, environ).split()):
        return "has a Claude credential in its headers, which goes to Anthropic alone"
    return ""


def mistakes(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield one message per error in the section; ``config`` is a mapping that is not validated yet."""
    if KEY in config:
        yield f"{KEY}: belongs under {BLOCK}; at the top level it has no effect"
    found, at = in_block(config, KEY), f"{BLOCK}: {KEY}"
    if found is None:
        return
    if not isinstance(found, dict):
        yield f"{at}: should be a mapping with the key {COLLECTOR}; write {KEY}: {{{COLLECTOR}: http://otel-collector:4318}}"
        return
    yield from (f"{at}: {unknown(name, KEYS)}" for name in found if name not in KEYS)
    yield from (f"{at}: {mistake}" for mistake in _mistakes_of_collector(found.get(COLLECTOR)))
    headers = found.get(HEADERS)
    if headers is not None and not _are_headers(headers):
        yield f"{at}: {HEADERS} should be a mapping of names of headers to texts, such as authorization: os.environ/NAME"
    for name in (CLIENTS, OWN):
        if not isinstance(found.get(name, True), bool):
            yield f"{at}: {name} should be true or false"


def _mistakes_of_collector(url: object) -> Iterator[str]:
    if not isinstance(url, str) or not url.strip():
        yield f"{COLLECTOR} should be the address of an OTLP collector, such as http://otel-collector:4318"
    elif REFERENCE.fullmatch(url.strip()):
        return
    elif Origin.of(url.strip()) is None:
        yield f"{COLLECTOR} should be a URL such as http://otel-collector:4318, without a user in it"
    elif url.strip().rstrip("/").endswith(tuple(f"/v1/{signal}" for signal in SIGNALS)):
        yield f"{COLLECTOR} should end before /v1: the proxy adds /v1/metrics, /v1/logs and /v1/traces"


def _are_headers(headers: object) -> bool:
    return isinstance(headers, dict) and all(
        isinstance(name, str) and _HEADER.fullmatch(name) and isinstance(value, str) and value.isprintable() and value.isascii()
        for name, value in headers.items()
    )
