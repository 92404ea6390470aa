"""Checks of single entries of model_list: whose model it is, whether another entry has its name, and its chat_server."""

import itertools
import re
from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any

from claude_proxy.check import names
from claude_proxy.check.endpoints import host_of
from claude_proxy.check.facts import Facts
from claude_proxy.check.findings import Finding, error, info, warning
from claude_proxy.check.models import REFERENCE, claude_hosts, provider_of, resolved
from claude_proxy.check.price_list import assumed_provider
from claude_proxy.config.deployments import CHAT_SERVER
from claude_proxy.config.routing import number
from claude_proxy.credentials.credential import is_claude_credential
from claude_proxy.credentials.redaction import NO_KEY
from claude_proxy.providers.compatibility import SERVERS
from claude_proxy.providers.endpoints import ANTHROPIC_API, Origin, Provider

# Prefixes below which a chat_server applies.
SERVED_BY_ONES_OWN = frozenset({"openai", "custom_openai"})
# Providers that have several names in LiteLLM, by what users write.
OTHER_PREFIXES = {
    "google": "gemini", "claude": "anthropic", "grok": "xai", "together": "together_ai", "fireworks": "fireworks_ai",
    "vertex": "vertex_ai", "hf": "huggingface", "nvidia": "nvidia_nim", "kimi": "moonshot",
    "z.ai": "zai", "z-ai": "zai", "glm": "zai", "aws": "bedrock", "copilot": "github_copilot", "local": "ollama_chat",
    "vllm-openai": "hosted_vllm", "lmstudio": "lm_studio", "openai-compatible": "openai", "openai_compatible": "openai",
}  # fmt: skip
# Parameters that LiteLLM (1.106.2) reads as a text, and as a number.
TEXTS = frozenset(
    {"api_key", "api_base", "api_version", "custom_llm_provider", "aws_access_key_id", "aws_region_name", "vertex_location"}
)
NUMBERS = frozenset({"rpm", "tpm", "input_cost_per_token", "output_cost_per_token"})
# Settings of a model or of the router that are numbers.
SECONDS = frozenset({"timeout", "stream_timeout", "retry_after", "cooldown_time"})
COUNTS = SECONDS | {
    "max_tokens", "max_input_tokens", "max_output_tokens", "temperature", "top_p", "num_retries", "max_retries",
    "allowed_fails",
}  # fmt: skip
# Who publishes models: the first part of a model's name at Hugging Face and on servers of one's own, and no provider.
ORGANISATIONS = frozenset(
    {
        "deepseek-ai",
        "meta-llama",
        "microsoft",
        "minimaxai",
        "mistralai",
        "moonshotai",
        "nvidia-ai",
        "qwen",
        "zai-org",
        "unsloth",
    }
)


def providers(facts: Facts) -> Iterator[Finding]:
    """A model whose provider LiteLLM does not know is left out at the start; one without a prefix is left to a guess."""
    for place, entry in facts.models:
        params, at = entry["litellm_params"], facts.at("model_list", place, "litellm_params", "model")
        model, named = str(params.get("model", "")), params.get("custom_llm_provider")
        if model.endswith("/"):
            yield error(at, f"the model of {entry['model_name']} has no name behind the provider", f"write {model}MODEL")
            continue
        if "/" not in model and named is None:
            yield from _without_prefix(at, str(entry["model_name"]), model)
            continue
        prefix = str(named or model.split("/", 1)[0])
        if prefix in names.known("providers"):
            continue
        meant = OTHER_PREFIXES.get(prefix.lower()) or names.meant(prefix, names.known("providers"))
        is_name = prefix.lower() in ORGANISATIONS or not meant
        remedy = f"write PROVIDER/{model}, such as openai/{model} for a server that is compatible with OpenAI"
        remedy = remedy if is_name else f"did you mean {meant}?"
        yield error(at, f"{prefix} is not a provider that LiteLLM knows, so the start leaves {entry['model_name']} out", remedy)


def _without_prefix(at: str, name: str, model: str) -> Iterator[Finding]:
    if not model:
        return
    assumed = assumed_provider(model)
    if model.startswith("claude"):
        problem = f"model {model} has no provider prefix, so its requests do not use the pool of Claude credentials"
        yield error(at, problem, f"write anthropic/{model}")
    elif assumed:
        problem = f"model {model} has no provider prefix; LiteLLM assumes {assumed} and translates every request of {name}"
        yield warning(at, problem, f"write {assumed}/{model}")
    else:
        problem = f"model {model} has no provider prefix, and LiteLLM does not know the name, so the start leaves {name} out"
        yield error(at, problem, f"write PROVIDER/{model}, such as openai/{model} for a server that is compatible with OpenAI")


def parameters(facts: Facts) -> Iterator[Finding]:
    """Parameters whose value YAML reads as another type: LiteLLM leaves such a model out at the start."""
    for place, entry in facts.models:
        name = entry["model_name"]
        for key, value in entry["litellm_params"].items():
            if key in TEXTS and value is not None and not isinstance(value, str):
                kind = "a date" if isinstance(value, date) else "a number" if isinstance(value, int | float) else "not a text"
                problem = f"{key} of {name} is {kind} in YAML, so the start leaves {name} out"
                yield error(facts.at("model_list", place, "litellm_params", key), problem, f'put it into quotes: {key}: "..."')
            elif key in NUMBERS and number(0 if value is None else value) is None:
                problem = f"{key} of {name} is not a number, so the start leaves {name} out"
                yield error(facts.at("model_list", place, "litellm_params", key), problem, "write a number without a unit")
            elif key == "tags" and value is not None and not isinstance(value, list):
                problem = f"tags of {name} is not a list, so the start leaves {name} out"
                yield error(facts.at("model_list", place, "litellm_params", key), problem, "write tags: [NAME]")


def numbers(facts: Facts) -> Iterator[Finding]:
    """Texts where LiteLLM and the proxy need a number: 10m for a time, 8k for tokens."""
    places: list[tuple[tuple[str | int, ...], Mapping[str, Any]]] = [(("router_settings",), facts.section("router_settings"))]
    for place, entry in facts.models:
        info_of = entry.get("model_info")
        places.append((("model_list", place, "litellm_params"), entry["litellm_params"]))
        places.append((("model_list", place, "model_info"), info_of if isinstance(info_of, dict) else {}))
    for path, values in places:
        for key in sorted(COUNTS & values.keys()):
            value = values[key]
            if isinstance(value, str) and not REFERENCE.fullmatch(value) and number(value) is None:
                unit = ", in seconds" if key in SECONDS else ""
                yield error(facts.at(*path, key), f"{key} is not a number", f"write a number without a unit{unit}")


def foreign_models(facts: Facts) -> Iterator[Finding]:
    """Another provider's model or key at Claude's own host: Anthropic does not have the one and rejects the other."""
    hosts = claude_hosts(facts)
    is_anthropic = Origin.of(hosts.claude_base) == Origin.of(ANTHROPIC_API)
    for place, entry in facts.models:
        params = entry["litellm_params"]
        if provider_of(params, hosts, facts.environ) is not Provider.CLAUDE:
            continue
        if params.get("api_base") and not resolved(params["api_base"], facts.environ):
            continue  # a variable that is not set
        model = str(params.get("model")).removeprefix("anthropic/")
        name, at = entry["model_name"], facts.at("model_list", place, "litellm_params", "model")
        key = resolved(params.get("api_key"), facts.environ)
        if "*" not in model and not model.startswith("claude"):
            problem = f"{name} has no api_base, so {model} is sent to {host_of(params, facts)} with a Claude credential"
            say = error if is_anthropic else warning
            yield say(at, problem, "add the api_base of its provider, or write the provider's prefix instead of anthropic/")
        elif key and is_anthropic and not is_claude_credential(key) and not NO_KEY.fullmatch(key):
            at = facts.at("model_list", place, "litellm_params", "api_key")
            problem = f"the api_key of {name} is sent to Anthropic and is not a key of Anthropic's (sk-ant-api...)"
            yield error(at, problem, "remove it, or add the api_base of its provider")


def duplicates(facts: Facts) -> Iterator[Finding]:
    """Entries of one name: the requests are spread over them, which is intended for copies of one model only."""
    found: dict[str, list[tuple[int, Mapping[str, Any]]]] = {}
    for place, entry in facts.models:
        found.setdefault(str(entry["model_name"]), []).append((place, entry["litellm_params"]))
    for name, entries in found.items():
        if len(entries) < 2:
            continue
        first = facts.lines.at("model_list", entries[0][0])
        at = facts.at("model_list", entries[1][0])
        if any(params == entries[0][1] for _, params in entries[1:]):
            yield warning(at, f"model_name {name} is there twice with the same litellm_params ({first})", "remove one")
        elif _are_different_models([params for _, params in entries]):
            problem = f"two different models are both named {name} (the first in {first})"
            yield warning(at, problem, "rename one, if requests should not be spread over them")
        else:
            yield info(
                at, f"model_name {name} has {len(entries)} deployments (first in {first}); requests are spread over them"
            )


def _are_different_models(entries: list[Mapping[str, Any]]) -> bool:
    """Whether two of them are different models: another provider may have a longer name for the same one."""
    seen: dict[tuple[str, str], str] = {}
    # At Azure, the operator chooses the name.
    models = [str(params.get("model")).lower() for params in entries]
    short = [re.sub(r"[^a-z0-9*]", "", one.rpartition("/")[2]) for one in models if not one.startswith("azure/")]
    if any(one not in other and other not in one for one, other in itertools.combinations(short, 2)):
        return True
    for params in entries:
        prefix, _, model = str(params.get("model")).partition("/")
        if seen.setdefault((prefix, str(params.get("api_base"))), model) != model:
            return prefix != "azure"  # there the operator chooses the name
    return False


def chat_servers(facts: Facts) -> Iterator[Finding]:
    """Which server of chat completions is at an address: in model_info, by a known name, for a model openai/... ."""
    for place, entry in facts.models:
        name, params = entry["model_name"], entry["litellm_params"]
        if CHAT_SERVER in params:
            at = facts.at("model_list", place, "litellm_params", CHAT_SERVER)
            yield warning(
                at, f"{CHAT_SERVER} of {name} is in litellm_params", f"write model_info: {{{CHAT_SERVER}: NAME}} beside them"
            )
        model_info = entry.get("model_info")
        server = model_info.get(CHAT_SERVER) if isinstance(model_info, dict) else None
        if server is None:
            continue
        at = facts.at("model_list", place, "model_info", CHAT_SERVER)
        prefix = str(params.get("custom_llm_provider") or str(params.get("model")).split("/", 1)[0])
        if server not in (*SERVERS,):
            known = ", ".join(sorted(SERVERS))
            yield error(at, f"{CHAT_SERVER} of {name} is not a known server", f"write one of {known}")
        elif prefix not in SERVED_BY_ONES_OWN:
            yield warning(
                at, f"{CHAT_SERVER} of {name} has no effect on a model {prefix}/...", "write model: openai/..., or remove it"
            )
