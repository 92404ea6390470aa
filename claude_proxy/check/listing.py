"""``claude-proxy models``: the models that the proxy serves, and the provider of each."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from claude_proxy.check.facts import Facts
from claude_proxy.check.models import claude_hosts, provider_of, resolved
from claude_proxy.config import models
from claude_proxy.config.settings import TokenMode
from claude_proxy.providers.endpoints import OPENAI_HOST, Hosts, Origin, Provider, fallback_models

# The name of a provider in the list; for every other provider it is LiteLLM's prefix.
PROVIDERS = {Provider.CLAUDE: "Claude", Provider.DEMO: "demo", Provider.ANTHROPIC_FORMAT: "anthropic format"}
TITLES = ("MODEL", "PROVIDER", "HOST", "SENT AS", "STATE", "FALLBACKS", "ACCESS GROUPS")


@dataclass(frozen=True)
class Row:
    """One entry of model_list. ``missing`` has its unset variables, ``no_credential`` is whether it needs the empty pool."""

    name: str
    provider: str
    host: str
    model: str
    missing: tuple[str, ...]
    fallbacks: tuple[str, ...]
    access_groups: tuple[str, ...]
    no_credential: bool = False

    @property
    def ready(self) -> bool:
        return not self.missing and not self.no_credential


def rows(facts: Facts) -> list[Row]:
    """Return a row for each entry, in the order of the file."""
    hosts = claude_hosts(facts)
    return [_row(entry, facts, hosts) for _, entry in facts.models]


def cells(found: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Return the titles of a table and its rows. An empty column is left out."""
    ready = {row.name for row in found if row.ready}
    lines = [_cells(row, {row.name for row in found} - ready) for row in found]
    shown = [place for place in range(len(TITLES)) if any(line[place] for line in lines)]
    return [TITLES[place] for place in shown], [[line[place] for place in shown] for line in lines]


def as_json(found: Sequence[Row]) -> str:
    """Return the same for a program."""
    return json.dumps([asdict(row) | {"ready": row.ready} for row in found], indent=2)


def chain(name: str, fallbacks: Sequence[dict[str, list[str]]]) -> tuple[str, ...]:
    """Return the fallbacks of a model, and theirs: each once, in the order in which they are tried."""
    found: list[str] = []
    waiting = list(fallback_models(name, fallbacks) or ())
    while waiting:
        model = str(waiting.pop(0))
        if model not in found and model != name:
            found.append(model)
            waiting += fallback_models(model, fallbacks) or ()
    return tuple(found)


def _row(entry: Mapping[str, Any], facts: Facts, hosts: Hosts) -> Row:
    name, params = str(entry["model_name"]), entry["litellm_params"]
    provider = provider_of(params, hosts, facts.environ)
    prefix, _, model = str(params.get("model", "")).partition("/")
    info = entry.get("model_info")
    groups = info.get("access_groups") if isinstance(info, dict) else None
    return Row(
        name=name,
        provider=PROVIDERS.get(provider, str(params.get("custom_llm_provider") or prefix)),
        host=_host(params, provider, hosts, facts),
        model=model or prefix,
        missing=models.unset_variables({"model_list": [entry]}, facts.environ).get(name, ()),
        # The demo always responds by itself.
        fallbacks=() if provider is Provider.DEMO else chain(name, fallbacks_of(facts)),
        access_groups=tuple(str(group) for group in groups) if isinstance(groups, list) else (),
        no_credential=provider is Provider.CLAUDE and not params.get("api_key") and pool_is_empty(facts),
    )


def pool_is_empty(facts: Facts) -> bool:
    """Whether requests need a credential of the pool, and the pool has none."""
    return facts.settings is not None and facts.settings.mode is TokenMode.ROTATE and not facts.settings.credentials


def _host(params: Mapping[str, Any], provider: Provider, hosts: Hosts, facts: Facts) -> str:
    base = resolved(params.get("api_base"), facts.environ)
    if not base and provider is Provider.CLAUDE:
        base = hosts.claude_base
    if not base and provider is Provider.OPENAI:
        return OPENAI_HOST
    if provider is Provider.DEMO:
        return "inside the proxy"
    origin = Origin.of(base)
    return origin.host if origin else ""


def fallbacks_of(facts: Facts) -> list[dict[str, list[str]]]:
    """Return the fallbacks of config.yaml that can be read, the default ones for every model."""
    found = [entry for entry in facts.listed("router_settings", "fallbacks") if isinstance(entry, dict)]
    default = facts.listed("router_settings", "default_fallbacks")
    found += [{"*": default}] if default else []
    named = ({str(source): targets for source, targets in entry.items()} for entry in found)
    return [entry for entry in named if all(isinstance(targets, list) for targets in entry.values())]


def _cells(row: Row, unready: Collection[str]) -> tuple[str, ...]:
    state = "no credential in the pool" if row.no_credential else "ready"
    state = f"lacks {', '.join(row.missing)}" if row.missing else state
    fallbacks = " > ".join(f"{name} (not ready)" if name in unready else name for name in row.fallbacks)
    return row.name, row.provider, row.host, row.model, state, fallbacks, ", ".join(row.access_groups)
