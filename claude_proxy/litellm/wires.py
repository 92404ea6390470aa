"""Where a provider's chat completions are asked, by LiteLLM's own tables: its address, its key's variable, its model's name.

Knows LiteLLM's shapes (1.106.2). What these tables cannot say is asked through LiteLLM.
"""

import os
from collections.abc import Mapping
from typing import Any

import litellm

from claude_proxy.config.deployments import CHAT_PROVIDERS, Wire
from claude_proxy.providers.endpoints import is_openai_itself

# What LiteLLM's table leaves to its client: base addresses, and the variables that hold another one or the key.
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
# Where one of these says the whole address, LiteLLM asks there.
HUGGING_FACE_ADDRESSES = ("HF_API_BASE", "HUGGINGFACE_API_BASE")
# LiteLLM puts this where a server of one's own needs no key.
NO_KEY = "fake-api-key"
RESPONSES = "responses"
AZURE_PATH = "/openai/deployments/"


def wire_of(params: Mapping[str, Any]) -> Wire | None:
    """Return how a deployment is asked, by its ``litellm_params``; None for one that LiteLLM alone can ask."""
    given, named = params.get("model"), params.get("custom_llm_provider")
    asked = named or str(given).split("/", 1)[0]
    if not isinstance(given, str) or asked not in CHAT_PROVIDERS or _has_whole_address(asked, given, params):
        return None
    base, key = params.get("api_base"), params.get("api_key")
    try:
        model, provider, found_key, found_base = litellm.get_llm_provider(
            model=given, custom_llm_provider=named, api_base=base, api_key=key
        )
    except Exception:  # noqa: BLE001 - whatever LiteLLM says of it, it is LiteLLM's to say
        return None
    if provider == "azure":
        return _azure(model, base, key, params)
    if provider not in CHAT_PROVIDERS or asked == "azure":  # some of Azure's models are others'
        return None
    if provider == "huggingface":
        model, base = _hugging_face(model, base)
    base = base or found_base or _variable(BASE_VARIABLES.get(provider, ())) or BASES.get(provider)
    key = key or (found_key if found_key != NO_KEY else None)
    # OpenAI's key is not for a server whose address the deployment names.
    if not key and (provider != "openai" or not params.get("api_base") or is_openai_itself(base)):
        key = _variable(KEY_VARIABLES.get(provider, ()))
    # Of a compatible server below `openai/` the price list knows nothing.
    known = "" if provider != "openai" else model if is_openai_itself(base) else None
    if not base or (known is not None and has_responses_alone(known or f"{provider}/{model}")):
        return None
    return Wire(base.rstrip("/"), key, model=model)


def _azure(model: str, base: str | None, key: str | None, params: Mapping[str, Any]) -> Wire | None:
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
    if base.endswith("/v1"):  # the newer form, which takes the deployment's name in the body
        return Wire(base, key, "api-key", model=model)
    version = params.get("api_version") or os.environ.get("AZURE_API_VERSION") or litellm.AZURE_DEFAULT_API_VERSION
    path = base if AZURE_PATH in base else f"{base}{AZURE_PATH}{model}"
    return Wire(path, key, "api-key", str(version), model)


def _has_whole_address(provider: str, model: str, params: Mapping[str, Any]) -> bool:
    """Whether a model of Hugging Face's has its whole address in a variable or in the model's place."""
    named = not params.get("api_base") and _variable(HUGGING_FACE_ADDRESSES)
    return provider == "huggingface" and ("://" in model or bool(named))


def _hugging_face(model: str, base: str | None) -> tuple[str, str | None]:
    """Return the model and address of Hugging Face's: its router is told the provider behind the model's name.

    LiteLLM's ``PROVIDER/ORGANISATION/MODEL`` is the router's ``ORGANISATION/MODEL:PROVIDER``.
    """
    if base:
        ends = base.rstrip("/").endswith(("/v1", "/chat/completions"))
        return model, base if ends else f"{base.rstrip('/')}/v1"
    provider, _, rest = model.partition("/")
    return f"{rest}:{provider}" if "/" in rest else model, None


def has_responses_alone(model: str) -> bool:
    """Whether OpenAI serves a model on its Responses API only, by LiteLLM's price list."""
    return (litellm.model_cost.get(model) or {}).get("mode") == RESPONSES


def _variable(names: tuple[str, ...]) -> str | None:
    return next((value for name in names if (value := os.environ.get(name))), None)
