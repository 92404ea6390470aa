"""check/names.py: which known name a wrong one is most like."""

import pytest

from claude_proxy.check import names


@pytest.mark.parametrize(
    ("name", "candidates", "meant"),
    [
        ("OPENAI_KEY", ["ZAI_API_KEY", "OPENAI_API_KEY"], "OPENAI_API_KEY"),
        ("ZAI_KEY", ["OPENAI_API_KEY", "ZAI_API_KEY"], "ZAI_API_KEY"),
        ("OPEN_AI_API_KEY", ["OPENAI_API_KEY"], "OPENAI_API_KEY"),
        ("openai_api_key", ["OPENAI_API_KEY"], "OPENAI_API_KEY"),
        ("OPENAI_API_TOKEN", ["OPENAI_API_KEY"], "OPENAI_API_KEY"),
        ("GEMINI_API_KEY", ["GOOGLE_API_KEY"], "GOOGLE_API_KEY"),
        ("NVIDIA_NIM_API_KEY", ["NVIDIA_API_KEY"], "NVIDIA_API_KEY"),
        ("AZURE_API_BASE", ["AZURE_API_KEY", "AZURE_ENDPOINT"], "AZURE_ENDPOINT"),
        ("OPNEAI_API_KEY", ["OPENAI_API_KEY"], "OPENAI_API_KEY"),
        # Two names.
        ("COHERE_API_KEY", ["CEREBRAS_API_KEY"], None),
        ("AZURE_API_BASE", ["AZURE_API_KEY"], None),
        ("AWS_ACCESS_KEY_ID", ["AWS_SECRET_ACCESS_KEY"], None),
        ("ZAI_API_KEY", ["OPENAI_API_KEY", "XAI_API_KEY"], None),
        ("OPENAI_API_KEY_2", ["OPENAI_API_KEY"], None),
        ("OPENAI_KEY_WORK", ["OPENAI_API_KEY"], None),
        ("OPENAI_API_KEY", ["OPENAI_API_KEY"], None),
    ],
)
def test_the_variable_that_is_meant(name, candidates, meant):
    """A name stands for another one that has the same words or nearly the same letters, and never for another provider's."""
    assert names.meant_variable(name, candidates) == meant
