"""litellm/chat_endpoints.py: the endpoints of chat completions, by the tables of the installed LiteLLM."""

import litellm
import pytest

from claude_proxy.config.deployments import CHAT_PROVIDERS, ChatEndpoint
from claude_proxy.litellm.chat_endpoints import chat_endpoint, has_responses_alone

OWN = "https://own.invalid/v1"
# Servers of one's own, whose address stands nowhere but in config.yaml or in a variable.
NEED_A_BASE = {"custom_openai", "hosted_vllm", "lm_studio"}
AZURE = {"model": "azure/mine", "api_base": "https://x.openai.azure.com/", "api_key": "made-up"}


@pytest.mark.parametrize("provider", sorted(CHAT_PROVIDERS - {"azure"}))
def test_a_providers_address(provider):
    """LiteLLM's tables contain the provider's address; config.yaml contains that of a self-hosted server."""
    endpoint = chat_endpoint({"model": f"{provider}/org/m", "api_key": "made-up"})
    if provider in NEED_A_BASE:
        assert endpoint is None
        return
    assert endpoint.base.startswith(("https://", "http://127.0.0.1"))
    assert not endpoint.base.endswith("/")
    assert (endpoint.key, endpoint.key_header, endpoint.version, endpoint.model) == ("made-up", "authorization", None, "org/m")


@pytest.mark.parametrize("provider", sorted(CHAT_PROVIDERS - {"azure"}))
def test_a_deployments_own_address_goes_first(provider, monkeypatch):
    """The deployment's address has priority over LiteLLM's tables and all variables, and uses the deployment's key."""
    monkeypatch.setenv(f"{provider.upper()}_API_BASE", "https://other.invalid")
    monkeypatch.setenv(f"{provider.upper()}_API_KEY", "made-up-other")
    endpoint = chat_endpoint({"model": f"{provider}/m", "api_base": f"{OWN}/", "api_key": "made-up"})
    assert endpoint == ChatEndpoint(OWN, "made-up", model="m")


@pytest.mark.parametrize("provider", ["groq", "openai", "openrouter", "minimax", "mistral", "zai", "hosted_vllm", "moonshot"])
def test_a_provider_that_is_named_apart(provider):
    """``custom_llm_provider`` names the provider of a model without a prefix."""
    named = {"custom_llm_provider": provider, "api_base": OWN, "api_key": "made-up"}
    endpoint = ChatEndpoint(OWN, "made-up", model="org/m")
    assert chat_endpoint({"model": "org/m"} | named) == chat_endpoint({"model": f"{provider}/org/m"} | named) == endpoint
    assert chat_endpoint({"model": "org/m"} | named | {"custom_llm_provider": "bedrock"}) is None


KEYS = {
    "openai": "OPENAI_API_KEY", "openrouter": "OPENROUTER_API_KEY", "minimax": "MINIMAX_API_KEY", "groq": "GROQ_API_KEY",
    "deepseek": "DEEPSEEK_API_KEY", "moonshot": "MOONSHOT_API_KEY", "mistral": "MISTRAL_API_KEY", "zai": "ZAI_API_KEY",
    "xai": "XAI_API_KEY", "together_ai": "TOGETHER_API_KEY", "fireworks_ai": "FIREWORKS_API_KEY",
    "hosted_vllm": "HOSTED_VLLM_API_KEY", "cerebras": "CEREBRAS_API_KEY", "nvidia_nim": "NVIDIA_NIM_API_KEY",
}  # fmt: skip


@pytest.mark.parametrize(("provider", "variable"), KEYS.items(), ids=KEYS)
def test_a_key_of_the_environment(provider, variable, monkeypatch):
    """The variable's key is used if the deployment has none; LiteLLM's placeholder is never used."""
    params = {"model": f"{provider}/m"} | ({"api_base": OWN} if provider in NEED_A_BASE else {})
    assert chat_endpoint(params).key is None
    monkeypatch.setenv(variable, "made-up-env")
    assert chat_endpoint(params).key == "made-up-env"
    assert chat_endpoint(params | {"api_key": "made-up"}).key == "made-up"


@pytest.mark.parametrize(
    ("provider", "variable"),
    [
        ("openai", "OPENAI_BASE_URL"), ("openai", "OPENAI_API_BASE"), ("openrouter", "OPENROUTER_API_BASE"),
        ("hosted_vllm", "HOSTED_VLLM_API_BASE"), ("lm_studio", "LM_STUDIO_API_BASE"),
    ],
)  # fmt: skip
def test_an_address_of_the_environment(provider, variable, monkeypatch):
    """The variable's address is used if the deployment has none."""
    monkeypatch.setenv(variable, f"{OWN}/")
    assert chat_endpoint({"model": f"{provider}/m"}).base == OWN


# Azure


@pytest.mark.parametrize(
    ("more", "base", "version"),
    [
        ({}, "https://x.openai.azure.com/openai/deployments/mine", litellm.AZURE_DEFAULT_API_VERSION),
        ({"api_version": "2025-01-01"}, "https://x.openai.azure.com/openai/deployments/mine", "2025-01-01"),
        (
            {"api_base": "https://x.openai.azure.com/openai/deployments/other"},
            "https://x.openai.azure.com/openai/deployments/other",
            litellm.AZURE_DEFAULT_API_VERSION,
        ),
        ({"api_base": "https://x.openai.azure.com/openai/v1/"}, "https://x.openai.azure.com/openai/v1", None),
    ],
    ids=["deployment", "version", "whole-address", "newer-form"],
)
def test_azures_addresses(more, base, version):
    """The older form has the deployment's name in the path and a version; the newer one has neither."""
    assert chat_endpoint(AZURE | more) == ChatEndpoint(base, "made-up", "api-key", version, "mine")


def test_azures_variables(monkeypatch):
    """Address, key and version may come from the environment; without an address or a key LiteLLM makes the request."""
    assert chat_endpoint({"model": "azure/mine"}) is None
    monkeypatch.setenv("AZURE_API_BASE", "https://x.openai.azure.com")
    assert chat_endpoint({"model": "azure/mine"}) is None
    monkeypatch.setenv("AZURE_API_KEY", "made-up")
    monkeypatch.setenv("AZURE_API_VERSION", "2025-01-01")
    assert chat_endpoint({"model": "azure/mine"}) == chat_endpoint(AZURE | {"api_version": "2025-01-01"})


# Hugging Face


@pytest.mark.parametrize(
    ("model", "base", "asked", "name"),
    [
        ("org/m", None, "https://router.huggingface.co/v1", "org/m"),
        ("together/org/m", None, "https://router.huggingface.co/v1", "org/m:together"),
        ("fireworks-ai/org/m", None, "https://router.huggingface.co/v1", "org/m:fireworks-ai"),
        ("org/m:cheapest", None, "https://router.huggingface.co/v1", "org/m:cheapest"),
        ("tgi", "https://own.invalid", "https://own.invalid/v1", "tgi"),
        ("tgi", "https://own.invalid/v1/", "https://own.invalid/v1", "tgi"),
        ("a/b/c", OWN, OWN, "a/b/c"),
    ],
)
def test_hugging_faces_addresses(model, base, asked, name):
    """The router gets the provider after the model's name; a self-hosted endpoint has its own address."""
    params = {"model": f"huggingface/{model}", "api_key": "made-up"} | ({"api_base": base} if base else {})
    assert chat_endpoint(params) == ChatEndpoint(asked, "made-up", model=name)


def test_hugging_faces_variables(monkeypatch):
    """Two variables may hold the key; a whole URL, in a variable or as the model, is left to LiteLLM."""
    params = {"model": "huggingface/org/m"}
    assert chat_endpoint(params).key is None
    monkeypatch.setenv("HUGGINGFACE_API_KEY", "made-up-older")
    assert chat_endpoint(params).key == "made-up-older"
    monkeypatch.setenv("HF_TOKEN", "made-up")
    assert chat_endpoint(params).key == "made-up"
    assert chat_endpoint({"model": "huggingface/https://own.invalid"}) is None
    monkeypatch.setenv("HF_API_BASE", "https://own.invalid/v1/chat/completions")
    assert chat_endpoint(params) is None
    assert chat_endpoint(params | {"api_base": OWN}).base == OWN


# What LiteLLM alone can ask


@pytest.mark.parametrize(
    "model",
    [
        "openai/gpt-5-codex", "azure/gpt-5-codex", "azure/responses/mine", "azure/codex-mini", "xai/grok-4.20-multi-agent",
    ],
)  # fmt: skip
def test_a_model_of_the_responses_api(model):
    """By LiteLLM's price list, such a model is not available on chat completions."""
    assert chat_endpoint(AZURE | {"model": model, "api_base": None if model.startswith(("openai", "xai")) else OWN}) is None


def test_a_name_of_openais_at_a_compatible_server():
    """The price list does not apply to a compatible server."""
    assert has_responses_alone("gpt-5-codex")
    assert chat_endpoint({"model": "openai/gpt-5-codex", "api_base": OWN}).model == "gpt-5-codex"


@pytest.mark.parametrize(
    "model",
    [
        "gemini/x", "bedrock/x", "vertex_ai/x", "ollama_chat/x", "ollama/x", "anthropic/x", "nobody/x", "gpt-5", "x", "",
        "azure/mistral-large-latest", None, 7,
    ],
)  # fmt: skip
def test_other_formats(model):
    """Providers with another format, and unknown ones, have no endpoint here."""
    assert chat_endpoint({"model": model, "api_base": OWN, "api_key": "made-up"}) is None


def test_what_litellm_refuses(monkeypatch):
    """LiteLLM reports its error itself."""

    def refuse(**_):
        raise litellm.BadRequestError("made up", "m", "groq")

    monkeypatch.setattr(litellm, "get_llm_provider", refuse)
    assert chat_endpoint({"model": "groq/m"}) is None


@pytest.mark.parametrize(
    ("base", "key"),
    [
        (None, "made-up-openai"),
        ("https://api.openai.com/v1", "made-up-openai"),
        ("http://127.0.0.1:8000/v1", None),
        ("https://api.openai.com.evil.tld/v1", None),
    ],
)
def test_openais_key_stays_at_openai(monkeypatch, base, key):
    """A server that the deployment names without a key of its own does not get OpenAI's key."""
    monkeypatch.setenv("OPENAI_API_KEY", "made-up-openai")
    found = chat_endpoint({"model": "openai/made-up"} | ({} if base is None else {"api_base": base}))
    assert found.key == key
