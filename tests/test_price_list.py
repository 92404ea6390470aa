"""check/price_list.py: the provider that LiteLLM assumes for a model without a prefix is told without importing LiteLLM."""

import litellm
import pytest

from claude_proxy.check import price_list
from claude_proxy.check.price_list import assumed_provider

MODELS = (
    "gpt-4o", "gpt-5.2", "claude-sonnet-5-5", "gemini-2.5-flash", "command-a-03-2025", "deepseek-chat", "qwen3-coder",
    "glm-5.3", "gemini-flash-latest", "kimi-k2",
)  # fmt: skip


def assumed_by_litellm(model):
    try:
        return litellm.get_llm_provider(model=model)[1]
    except litellm.BadRequestError:
        return None


@pytest.mark.parametrize("model", MODELS)
def test_it_is_what_litellm_assumes(model):
    """LiteLLM and the price list agree, and on a model that LiteLLM does not know as well."""
    assert assumed_provider(model) == assumed_by_litellm(model)


def test_without_a_price_list(monkeypatch):
    """Where there is no price list, no provider is known."""
    monkeypatch.setattr(price_list, "FILE", "gone.json")
    price_list._entries.cache_clear()
    assert assumed_provider("gpt-4o") is None
    price_list._entries.cache_clear()
