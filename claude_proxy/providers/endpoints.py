"""Identifies the provider of a deployment by its parsed host, never by its model's name. Plain values, no I/O."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import urlsplit

ANTHROPIC_API = "https://api.anthropic.com"
OPENAI_HOST = "api.openai.com"
# RFC 2606 guarantees that .invalid never resolves, so a demo request cannot leave the process even if it is not intercepted.
DEMO_HOST = "demo.invalid"
DEFAULT_PORTS = {"http": 80, "https": 443}


class Origin(NamedTuple):
    """Scheme, host and port: the scope of a credential."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> "Origin | None":
        """Parse a URL; None for a URL without a host or with user information, which has no use here except in attacks."""
        return _origin(url.partition("?")[0])


@lru_cache(maxsize=1000)
def _origin(url: str) -> Origin | None:
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname or "@" in parts.netloc:
        return None
    return Origin(parts.scheme, parts.hostname, DEFAULT_PORTS[parts.scheme] if port is None else port)


class Provider(Enum):
    """The kinds of providers that the proxy distinguishes."""

    CLAUDE = "Anthropic's own API: the only provider that gets a Claude credential"
    ANTHROPIC_FORMAT = "another provider with the Anthropic format, under LiteLLM's prefix anthropic/"
    OPENAI = "LiteLLM's prefix openai/: OpenAI or a compatible server"
    DEMO = "the response that is made inside the process"
    OTHER = "any other provider of LiteLLM"


@dataclass(frozen=True)
class Hosts:
    """Anthropic's origins: the public API, and ``ANTHROPIC_API_BASE`` if set."""

    claude_base: str = ANTHROPIC_API

    def is_claude(self, url: str) -> bool:
        """Whether a request to this URL may carry a Claude credential. Fails closed."""
        origin = Origin.of(url)
        return origin is not None and (origin == Origin.of(ANTHROPIC_API) or origin == Origin.of(self.claude_base))

    def provider(self, model: str, custom_llm_provider: str | None, api_base: str | None) -> Provider:
        """Return the kind of a deployment from LiteLLM's parameters: ``model`` with its prefix, provider and ``api_base``."""
        prefix = custom_llm_provider or model.split("/", 1)[0]
        if prefix == "anthropic":
            if api_base is None or self.is_claude(api_base):
                return Provider.CLAUDE
            origin = Origin.of(api_base)
            return Provider.DEMO if origin and origin.host == DEMO_HOST else Provider.ANTHROPIC_FORMAT
        return Provider.OPENAI if prefix == "openai" else Provider.OTHER


def is_openai_itself(api_base: str | None) -> bool:
    """Whether an ``openai/`` deployment uses OpenAI's own API (LiteLLM's default) and not a compatible server."""
    origin = Origin.of(api_base) if api_base else None
    return api_base is None or (origin is not None and origin.host == OPENAI_HOST)


def bare_model(model: str) -> str:
    """Return the model name that is sent: without LiteLLM's prefix ``anthropic/``."""
    return model.removeprefix("anthropic/")


@lru_cache(maxsize=1000)
def model_family(model: str) -> str:
    """Return the family of a Claude model: ``opus`` for ``claude-opus-4-8`` and ``claude-3-opus``.

    Anthropic has some rate limits per family. A name of another form is a family of its own.
    """
    parts = bare_model(model).split("-")
    return next((part for part in parts[1:] if part.isalpha()), model) if parts[0] == "claude" else model


def fallback_models(model: str, fallbacks: Iterable[Mapping[str, list[str]]]) -> list[str] | None:
    """Return the fallbacks of the most specific pattern that matches the model; None if no pattern matches.

    In a pattern, ``*`` matches any text. The most specific pattern has the most characters besides its stars; of two equal
    ones the first applies. LiteLLM 1.106.2 reads such a pattern as a plain name and never matches it.
    """
    best: tuple[int, list[str]] | None = None
    for entry in fallbacks:
        for pattern, models in entry.items():
            weight = len(pattern.replace("*", ""))
            if matches(pattern, model) and (best is None or weight > best[0]):
                best = weight, models
    return None if best is None else [name for name in best[1] if name != model]


def matches(pattern: str, model: str) -> bool:
    """Whether a name matches a pattern, in which ``*`` matches any text, including none."""
    head, *rest = pattern.split("*")
    if not rest:
        return pattern == model
    if not model.startswith(head):
        return False
    position = len(head)
    for part in rest[:-1]:
        position = model.find(part, position)
        if position < 0:
            return False
        position += len(part)
    return model.endswith(rest[-1]) and len(model) - len(rest[-1]) >= position


BLOCK = "claude_proxy"


def in_block(config: Mapping[str, Any], key: str) -> Any:
    """Return a section of ``BLOCK`` as written; None without one. ``config`` may be a mapping that is not validated yet."""
    block = config.get(BLOCK)
    return block.get(key) if isinstance(block, dict) else None
