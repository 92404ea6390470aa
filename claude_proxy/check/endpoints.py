"""Checks of where models are: the path of each api_base, and the hosts of providers where no api_base is set."""

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from claude_proxy.check.facts import Facts
from claude_proxy.check.findings import Finding, error, warning
from claude_proxy.check.models import claude_hosts, is_private, provider_of, resolved
from claude_proxy.config.deployments import CHAT_PROVIDERS
from claude_proxy.credentials.redaction import NO_KEY
from claude_proxy.providers.endpoints import OPENAI_HOST, Origin, Provider

# Where LiteLLM (1.108.7) sends requests of a provider without an api_base; tests/test_contract.py compares.
DEFAULT_HOSTS = {
    "cerebras": "api.cerebras.ai", "cohere_chat": "api.cohere.com", "dashscope": "dashscope.aliyuncs.com",
    "deepinfra": "api.deepinfra.com", "deepseek": "api.deepseek.com", "fireworks_ai": "api.fireworks.ai",
    "gemini": "generativelanguage.googleapis.com", "github_copilot": "api.githubcopilot.com", "groq": "api.groq.com",
    "huggingface": "router.huggingface.co", "hyperbolic": "api.hyperbolic.xyz", "minimax": "api.minimax.io",
    "mistral": "api.mistral.ai", "moonshot": "api.moonshot.ai", "nebius": "api.studio.nebius.ai", "novita": "api.novita.ai",
    "nvidia_nim": "integrate.api.nvidia.com", "openai": OPENAI_HOST, "openrouter": "openrouter.ai",
    "perplexity": "api.perplexity.ai", "sambanova": "api.sambanova.ai", "together_ai": "api.together.ai",
    "vercel_ai_gateway": "ai-gateway.vercel.sh", "volcengine": "ark.cn-beijing.volces.com", "xai": "api.x.ai",
    "zai": "api.z.ai",
}  # fmt: skip
# Hosts of these depend on a region or location of the deployment.
BEDROCK_REGION = ("aws_region_name", "AWS_REGION_NAME", "AWS_REGION", "AWS_DEFAULT_REGION")
VERTEX_LOCATION = ("vertex_location", "VERTEXAI_LOCATION", "VERTEX_LOCATION")
# Servers of chat completions that need a path, which is /v1 nearly everywhere.
WITH_PATH = frozenset({"openai", "custom_openai", "hosted_vllm", "lm_studio", "llamafile"})
# Ollama's own API, which has no /v1.
OLLAMA = frozenset({"ollama", "ollama_chat"})
# Hosts of Z.AI, and the paths there of its two formats.
ZAI, ZAI_CHAT, ZAI_MESSAGES = ("api.z.ai", "open.bigmodel.cn"), "/api/paas/v4", "/api/anthropic"
ZAI_CHAT_PATH = re.compile(r"/api/(coding/)?paas(/|$)")
CHAT_PATH, MESSAGES_PATH, ANTHROPIC_PATH = "/chat/completions", "/v1/messages", "/anthropic"


def base_of(params: Mapping[str, Any], facts: Facts) -> str:
    """Return the address that a deployment's requests are sent to; empty where that is not known."""
    if base := params.get("api_base"):
        return resolved(base, facts.environ)
    if provider_of(params, claude_hosts(facts), facts.environ) is Provider.CLAUDE:
        return claude_hosts(facts).claude_base
    prefix = str(params.get("custom_llm_provider") or str(params.get("model")).split("/", 1)[0])
    host = DEFAULT_HOSTS.get(prefix, "")
    if prefix == "bedrock" and (region := _setting(params, BEDROCK_REGION, facts)):
        host = f"bedrock-runtime.{region}.amazonaws.com"
    elif prefix == "vertex_ai" and (location := _setting(params, VERTEX_LOCATION, facts)):
        host = f"{'' if location == 'global' else f'{location}-'}aiplatform.googleapis.com"
    return f"https://{host}" if host else ""


def host_of(params: Mapping[str, Any], facts: Facts) -> str:
    """Return the host of a deployment; empty where that is not known."""
    origin = Origin.of(base_of(params, facts))
    return origin.host if origin else ""


def _setting(params: Mapping[str, Any], sources: tuple[str, ...], facts: Facts) -> str:
    own, *variables = sources
    if own in params:
        return resolved(params[own], facts.environ)
    return next((value for name in variables if (value := facts.environ.get(name, "").strip())), "")


def endpoints(facts: Facts) -> Iterator[Finding]:
    """The path of an api_base: each format adds its own, and with a wrong one the provider responds with 404."""
    for place, entry in facts.models:
        params = entry["litellm_params"]
        base = resolved(params.get("api_base"), facts.environ)
        if not base:
            continue
        at, name = facts.at("model_list", place, "litellm_params", "api_base"), str(entry["model_name"])
        origin = Origin.of(base)
        if origin is None:
            missing = "://" not in base and "@" not in base
            problem = f"the api_base of {name} {'has no scheme' if missing else 'is not a URL'}"
            yield error(at, problem, "write one such as https://host/path")
            continue
        found = [*_path(at, name, params, urlsplit(base).path.rstrip("/"), facts)]
        yield from found or _format_of_zai(at, name, params, base, facts)
        key = resolved(params.get("api_key"), facts.environ)
        if origin.scheme == "http" and key and not NO_KEY.fullmatch(key) and not is_private(origin.host):
            yield warning(at, f"the key of {name} is sent to {origin.host} unencrypted", "write https://")


def _format_of_zai(at: str, name: str, params: Mapping[str, Any], base: str, facts: Facts) -> Iterator[Finding]:
    """An address of one format of Z.AI, where the model's prefix selects the other one."""
    parts = urlsplit(base)
    if parts.hostname not in ZAI:
        return
    speaks_messages = provider_of(params, claude_hosts(facts), facts.environ) is Provider.ANTHROPIC_FORMAT
    host = f"https://{parts.hostname}"
    if speaks_messages and ZAI_CHAT_PATH.match(parts.path):
        problem = f"the api_base of {name} is Z.AI's OpenAI format, and model anthropic/... sends Anthropic's format"
        yield error(at, problem, f"write {host}{ZAI_MESSAGES}")
    elif not speaks_messages and parts.path.startswith(ZAI_MESSAGES):
        problem = f"the api_base of {name} is Z.AI's Anthropic format, and its model's prefix selects chat completions"
        yield error(at, problem, f"write model: anthropic/..., or {host}{ZAI_CHAT}")


def _path(at: str, name: str, params: Mapping[str, Any], path: str, facts: Facts) -> Iterator[Finding]:
    provider = provider_of(params, claude_hosts(facts), facts.environ)
    prefix = str(params.get("custom_llm_provider") or str(params.get("model")).split("/", 1)[0])
    speaks_messages = provider in (Provider.CLAUDE, Provider.ANTHROPIC_FORMAT)
    if "/v1/v1" in path:
        yield error(at, f"the api_base of {name} has /v1 twice", "remove one")
    elif speaks_messages and path.endswith(CHAT_PATH):
        problem = f"the api_base of {name} is one of chat completions, and model anthropic/... sends Anthropic's format"
        yield error(at, problem, "write model: openai/... and an api_base that ends with /v1")
    elif speaks_messages and path.endswith("/v1"):
        yield error(at, f"the api_base of {name} ends with /v1, which the Anthropic format adds by itself", "remove /v1")
    elif prefix in CHAT_PROVIDERS and (path.endswith((ANTHROPIC_PATH, MESSAGES_PATH))):
        problem = f"the api_base of {name} is one of Anthropic's format, and model {prefix}/... sends chat completions"
        yield error(at, problem, "write model: anthropic/...")
    elif path.endswith(CHAT_PATH):
        problem = f"the api_base of {name} ends with {CHAT_PATH}, which is added by itself and is wrong for other requests"
        yield (warning if prefix in CHAT_PROVIDERS else error)(at, problem, f"remove {CHAT_PATH}")
    elif prefix in OLLAMA and path.endswith("/v1"):
        problem = f"the api_base of {name} ends with /v1, which Ollama's own API does not have"
        yield error(at, problem, "remove /v1, or write model: openai/... to use its chat completions")
    elif prefix in WITH_PATH and not path:
        yield warning(at, f"the api_base of {name} has no path", "most OpenAI-compatible servers need /v1 at its end")
