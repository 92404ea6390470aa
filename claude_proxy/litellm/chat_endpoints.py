"""The endpoint of a deployment's chat completions, by LiteLLM's own tables: base URL, variable of the key, model name.

Depends on LiteLLM's shapes. A deployment that these tables do not cover is called through LiteLLM.
"""

import os
from collections.abc import Mapping
from typing import Any

import litellm

from claude_proxy.config.deployments import CHAT_PROVIDERS, ChatEndpoint
from claude_proxy.providers.endpoints import is_openai_itself

# What LiteLLM's table does not contain: base URLs, and the variables of a base URL or a key.
BASES = {
    "openai": "https://api.openai.com/v1",
    "openrouter": "https://openrouter.ai/api/v1",
    "minimax": "https://api.minimax.io/v1",
    "huggingface": "https://router.huggingface.co/v1",
}
BASE_VARIABLES = {"openai": ("OPENAI_BASE_URL", "OPENAI_API_BASE"), "openrouter": ("OPENROUTER_API_BASE",)}
KEY_VARIABLES = {
    "openai": ("OPENAI_API_KEY",), "openrouter": ("OPENROUTER_API_KEY",), "minimax": ("MINIMAX_API_KEY",),
    "huggingface": ("HF_TOKEN", "HUGGINGFACE_API_KEY"),
}  # fmt: skip
# If one of these contains the whole URL, LiteLLM uses it.
HUGGING_FACE_ADDRESSES = ("HF_API_BASE", "HUGGINGFACE_API_BASE")
# LiteLLM's placeholder key for a self-hosted server without a key.
NO_KEY = "fake-api-key"
RESPONSES = "responses"
AZURE_PATH = "/openai/deployments/"


def chat_endpoint(params: Mapping[str, Any]) -> ChatEndpoint | None:
    """Return the endpoint of a deployment, by its ``litellm_params``; None for one that only LiteLLM can call."""
    given, named = params.get("model"), params.get("custom_llm_provider")
    prefix = named or str(given).split("/", 1)[0]
    if not isinstance(given, str) or prefix not in CHAT_PROVIDERS or _has_whole_address(prefix, given, params):
        return None
    base, key = params.get("api_base"), params.get("api_key")
    try:
        model, provider, found_key, found_base = litellm.get_llm_provider(
            model=given, custom_llm_provider=named, api_base=base, api_key=key
        )
    except Exception:  # noqa: BLE001 - LiteLLM reports the error itself when it is called
        return None
    if provider == "azure":
        return _azure(model, base, key, params)
    if provider not in CHAT_PROVIDERS or prefix == "azure":  # some of Azure's models belong to other providers
        return None
    if provider == "huggingface":
        model, base = _hugging_face(model, base)
    base = base or found_base or _variable(BASE_VARIABLES.get(provider, ())) or BASES.get(provider)
    key = key or (found_key if found_key != NO_KEY else None)
    # OpenAI's key is not sent to another server that the deployment names.
    if not key and (provider != "openai" or not params.get("api_base") or is_openai_itself(base)):
        key = _variable(KEY_VARIABLES.get(provider, ()))
    # The price list does not cover compatible servers under `openai/`.
    known = "" if provider != "openai" else model if is_openai_itself(base) else None
    if not base or (known is not None and has_responses_alone(known or f"{provider}/{model}")):
        return None
    return ChatEndpoint(base.rstrip("/"), key, model=model)


def _azure(model: str, base: str | None, key: str | None, params: Mapping[str, Any]) -> ChatEndpoint | None:
    base, key = base or os.environ.get("AZURE_API_BASE"), key or os.environ.get("AZURE_API_KEY")
    if (
        not base
        or not key
        or has_responses_alone(model)
        or has_responses_alone(f"azure/{model}")
        or model.startswith(f"{RESPONSES}/")
    ):
        return None
    base = base.rstrip("/")
    if base.endswith("/v1"):  # the newer form, with the deployment's name in the body
        return ChatEndpoint(base, key, "api-key", model=model)
    version = params.get("api_version") or os.environ.get("AZURE_API_VERSION") or litellm.AZURE_DEFAULT_API_VERSION
    path = base if AZURE_PATH in base else f"{base}{AZURE_PATH}{model}"
    return ChatEndpoint(path, key, "api-key", str(version), model)


def _has_whole_address(provider: str, model: str, params: Mapping[str, Any]) -> bool:
    """Whether the whole URL of a Hugging Face model is in a variable or in the model's name."""
    named = not params.get("api_base") and _variable(HUGGING_FACE_ADDRESSES)
    return provider == "huggingface" and ("://" in model or bool(named))


def _hugging_face(model: str, base: str | None) -> tuple[str, str | None]:
    """Return the model and the base URL for Hugging Face, whose router expects the provider after the model's name.

    LiteLLM's ``PROVIDER/ORGANISATION/MODEL`` is the router's ``ORGANISATION/MODEL:PROVIDER``.
    """
    if base:
        ends = base.rstrip("/").endswith(("/v1", "/chat/completions"))
        return model, base if ends else f"{base.rstrip('/')}/v1"
    provider, _, rest = model.partition("/")
    return f"{rest}:{provider}" if "/" in rest else model, None


def has_responses_alone(model: str) -> bool:
    """Whether OpenAI serves a model only on its Responses API, by LiteLLM's price list."""
    return (litellm.model_cost.get(model) or {}).get("mode") == RESPONSES


def _variable(names: tuple[str, ...]) -> str | None:
    return next((value for name in names if (value := os.environ.get(name))), None)
