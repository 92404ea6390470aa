"""providers/compatibility.py: the table of providers, and the row of a deployment."""

import json

import pytest

from claude_proxy.providers.compatibility import ROWS, STRICT, Thinking, allowed_betas, dialect

ROW = {row.name: row for row in ROWS}
BEDROCK, ZAI = ROW["bedrock"], ROW["zai"]
EVERY_ROW = pytest.mark.parametrize("row", [STRICT, *ROWS], ids=lambda row: row.name)


@pytest.mark.parametrize(
    ("model", "provider", "base", "name"),
    [
        ("anthropic/glm-5", None, "https://api.z.ai/api/anthropic", "zai"),
        ("anthropic/glm-5", "anthropic", "https://open.bigmodel.cn/api/anthropic", "zai"),
        ("anthropic/kimi-for-coding", None, "https://api.kimi.com/coding", "kimi"),
        ("anthropic/kimi-k3", None, "https://api.moonshot.ai:443/anthropic", "kimi"),
        ("anthropic/deepseek-chat", None, "https://API.DeepSeek.com/anthropic", "deepseek"),
        ("anthropic/MiniMax-M3", None, "https://api.minimax.io/anthropic", "minimax"),
        ("anthropic/anthropic/claude-opus-4-8", None, "https://openrouter.ai/api", "openrouter"),
        ("anthropic/kimi-for-coding", None, "https://api.kimi.com.evil.tld", "unknown"),
        ("anthropic/kimi-for-coding", None, "https://evil.tld/api.kimi.com", "unknown"),
        ("anthropic/claude-opus-4-8", None, "https://gateway.invalid", "unknown"),
        ("anthropic/us.anthropic.claude-x", None, "https://gateway.invalid", "unknown"),
        ("bedrock/us.anthropic.claude-sonnet-5-v1:0", None, None, "bedrock"),
        ("bedrock/invoke/anthropic.claude-opus-4-8", "bedrock", None, "bedrock"),
        ("bedrock/us.amazon.nova-pro", None, None, "bedrock-converse"),
        ("bedrock/arn:aws:bedrock:eu-central-1:1:application-inference-profile/x", None, None, "bedrock-converse"),
        ("vertex_ai/claude-sonnet-5", None, None, "vertex"),
        ("vertex_ai/claude-opus-4-5@20251101", None, None, "vertex"),
        ("vertex_ai/gemini-3.1-pro", None, None, "gemini-on-vertex"),
        ("vertex_ai/not-claude", None, None, "gemini-on-vertex"),
        ("gemini/gemini-3.1-pro", None, None, "gemini"),
        ("openai/gpt-5.2", None, None, "openai"),
        ("openai/gpt-5.2", None, "https://api.openai.com/v1", "openai"),
        ("openai/qwen3-coder", None, "http://127.0.0.1:11434/v1", "openai-compatible"),
        ("azure/my-deployment", None, "https://x.openai.azure.com", "azure"),
        ("openrouter/qwen/qwen3", None, None, "openrouter-chat"),
        ("groq/openai/gpt-oss-120b", None, None, "groq"),
        ("openai/gpt-oss-120b", None, "https://api.groq.com/openai/v1", "groq"),
        ("openai/kimi-k2", None, "https://api.moonshot.ai.evil.tld/v1", "openai-compatible"),
        ("hosted_vllm/qwen3", None, "http://127.0.0.1:8000/v1", "vllm"),
        ("tomorrow/claude-opus-4-8", None, None, "unknown"),
    ],
)
def test_which_row_a_deployment_has(model, provider, base, name):
    """The provider's prefix and the parsed host decide; an unknown provider gets the strictest row."""
    assert dialect(model, provider, base).name == name


OWN = "http://127.0.0.1:8000/v1"


@pytest.mark.parametrize(
    ("model", "provider", "base", "server", "name"),
    [
        ("openai/qwen3", None, OWN, "sglang", "sglang"),
        ("openai/qwen3", None, OWN, "llama.cpp", "llama-cpp"),
        ("openai/qwen3", None, OWN, "vllm", "vllm"),
        ("openai/qwen3", None, OWN, "lm-studio", "lm-studio"),
        ("openai/qwen3", None, OWN, "ollama", "ollama"),
        ("qwen3", "custom_openai", OWN, "sglang", "sglang"),
        ("openai/qwen3", None, OWN, "tomorrow", "openai-compatible"),
        ("openai/qwen3", None, OWN, ["sglang"], "openai-compatible"),
        ("openai/qwen3", None, "https://api.openai.com/v1", "sglang", "openai"),
        ("openai/qwen3", None, "https://api.groq.com/openai/v1", "sglang", "groq"),
        ("anthropic/qwen3", None, OWN, "sglang", "unknown"),
        ("anthropic/qwen3", None, None, "sglang", "unknown"),
        ("huggingface/org/m", None, None, None, "hugging-face"),
        ("openai/org/m", None, "https://router.huggingface.co/v1", None, "hugging-face"),
        ("github_copilot/gpt-5.2", None, None, None, "github-copilot"),
        ("llamafile/m", None, OWN, None, "llamafile"),
    ],
)
def test_which_server_is_at_an_address(model, provider, base, server, name):
    """`chat_server` names the server, for chat completions at an address that is not in the table."""
    assert dialect(model, provider, base, server).name == name


@EVERY_ROW
def test_the_default_is_the_strictest(row):
    """No row accepts less than the row for unknown providers."""
    assert (STRICT.cache_control, STRICT.thinking, STRICT.effort) == (False, Thinking.NONE, False)
    assert (STRICT.betas, STRICT.server_tools) == (frozenset(), ())
    assert row.name == STRICT.name or row.prefix or row.hosts or row.server


@pytest.mark.parametrize(
    ("header", "row", "kept"),
    [
        (
            "context-1m-2025-08-07, claude-code-20250219,effort-2025-11-24",
            BEDROCK,
            ["context-1m-2025-08-07", "effort-2025-11-24"],
        ),
        ("context-1m-2025-08-07,effort-2025-11-24,context-1m-2025-08-07", ROW["vertex"], ["context-1m-2025-08-07"]),
        ("context-1m-2025-08-07", ZAI, []),
        ("context-1m-2025-08-07", STRICT, []),
        ("", BEDROCK, []),
        (None, BEDROCK, []),
    ],
    ids=["bedrock", "vertex", "anthropic-format", "unknown", "empty", "none"],
)
def test_betas(header, row, kept):
    """A beta is sent only to a provider whose row names it."""
    assert allowed_betas(header, row) == kept


def test_a_row_is_plain():
    """A row has only names, numbers and flags, so it can be written into an issue."""
    assert all(json.dumps([row.name, row.prefix, row.hosts, row.vendor, sorted(row.betas)]) for row in ROWS)
    assert len({row.name for row in ROWS}) == len(ROWS)
