"""The search endpoint for models without a web search: ``claude_proxy: web_search:`` in config.yaml."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from claude_proxy.config.spelling import nearest, unknown
from claude_proxy.credentials.credential import is_claude_credential
from claude_proxy.providers.endpoints import BLOCK, Origin, in_block
from claude_proxy.providers.search_formats import FORMATS, address
from claude_proxy.secret import Secret

KEY = "web_search"
KEYS = ("provider", "api_base", "api_key", "max_results")
DEFAULT_RESULTS = 10
MOST_RESULTS = 20
REFERENCE = re.compile(r"os\.environ/([A-Za-z_][A-Za-z0-9_]*)")


@dataclass(frozen=True)
class WebSearch:
    """The search endpoint and its key, which is sent only to that host."""

    provider: str
    url: str
    api_key: Secret | None = None
    max_results: int = DEFAULT_RESULTS

    @property
    def host(self) -> str:
        """The host, as the endpoint's name in the log."""
        origin = Origin.of(self.url)
        return origin.host if origin else ""


def section(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the section as written; None without one."""
    found = in_block(config, KEY)
    return found if isinstance(found, dict) else None


def web_search(config: Mapping[str, Any], environ: Mapping[str, str]) -> WebSearch | None:
    """Return the endpoint of a configuration in which ``mistakes`` found no error; None if there is no ready one."""
    found = section(config)
    if found is None or problem(found, environ):
        return None
    key = resolved(found.get("api_key"), environ)
    return WebSearch(
        found["provider"],
        address(found["provider"], resolved(found.get("api_base"), environ)),
        Secret(key) if key else None,
        found.get("max_results") or DEFAULT_RESULTS,
    )


def resolved(value: object, environ: Mapping[str, str]) -> str:
    """Return a value, or the value of the variable that it refers to; empty if there is none."""
    if not isinstance(value, str):
        return ""
    reference = REFERENCE.fullmatch(value.strip())
    return (environ.get(reference[1], "") if reference else value).strip()


def problem(found: Mapping[str, Any], environ: Mapping[str, str]) -> str:
    """Return why a valid section is not ready, as the rest of a sentence after its name; empty if it is ready."""
    for name in ("api_base", "api_key"):
        reference = REFERENCE.fullmatch(str(found.get(name) or "").strip())
        if reference and not environ.get(reference[1], "").strip():
            return f"lacks {reference[1]}"
    if (base := resolved(found.get("api_base"), environ)) and Origin.of(base) is None:
        return "has an api_base that is not a URL"
    if is_claude_credential(resolved(found.get("api_key"), environ)):
        return "has a Claude credential as its key, which goes to Anthropic alone"
    return ""


def mistakes(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield one message per error in the section; ``config`` is a mapping that is not validated yet."""
    if KEY in config:
        yield f"{KEY}: belongs under {BLOCK}; at the beginning of a line it does nothing"
    found = in_block(config, KEY)
    if found is None:
        return
    at = f"{BLOCK}: {KEY}"
    if not isinstance(found, dict):
        yield f"{at}: should be a mapping with the key provider"
        return
    yield from (f"{at}: {unknown(name, KEYS)}" for name in found if name not in KEYS)
    provider = found.get("provider")
    if not isinstance(provider, str) or provider not in FORMATS:
        near = nearest(provider, FORMATS) if isinstance(provider, str) else None
        # The value is not shown: it may be a key in the wrong line.
        remedy = f"did you mean {near}?" if near else f"write one of them, or remove {KEY}"
        yield f"{at}: provider should be one of {', '.join(FORMATS)}; {remedy}"
        return
    known = FORMATS[provider]
    for name, needed in (("api_base", not known.base), ("api_key", known.needs_key)):
        value = found.get(name)
        if value is None and needed:
            yield f"{at}: {provider} needs an {name}"
        elif value is not None and (not isinstance(value, str) or not value.strip()):
            yield f"{at}: {name} should be a text"
    base = found.get("api_base")
    if isinstance(base, str) and base.strip() and not REFERENCE.fullmatch(base.strip()) and Origin.of(base) is None:
        yield f"{at}: api_base should be a URL such as http://searxng:8080, without a user in it"
    most = found.get("max_results")
    if most is not None and (isinstance(most, bool) or not isinstance(most, int) or not 1 <= most <= MOST_RESULTS):
        yield f"{at}: max_results should be a number from 1 to {MOST_RESULTS}"
