"""openai/provider_words.py: the provider's own words in an error of LiteLLM."""

import json

import pytest

from claude_proxy.openai.provider_words import ACCOUNT, unreachable, words_of_provider

ERROR = {"error": {"message": "made up", "code": 429}}


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (f"litellm.RateLimitError: GeminiException - {json.dumps(ERROR)}", "made up"),
        (
            f"litellm.RateLimitError: litellm.RateLimitError: Vertex_ai_betaException - {json.dumps(ERROR).encode()!r}",
            "made up",
        ),
        (f"litellm.X: VertexException - {json.dumps(ERROR, indent=1).encode()!r} Original exception: none", "made up"),
        ('litellm.RateLimitError: BedrockException - {"message":"Too many requests"}', "Too many requests"),
        ('litellm.NotFoundError: Ollama_chatException - {"error":"model not found"}', "model not found"),
        ("litellm.BadRequestError: made up", "made up"),
        ("litellm.APIError: APIError: OpenAIException - made up", "made up"),
        ("litellm.BadRequestError: {'error': 'of Python'}", "{'error': 'of Python'}"),
        ("User: arn:aws:iam::123456789012:user/x is not authorized", f"User: {ACCOUNT} is not authorized"),
        ("denied on '//aiplatform.googleapis.com/projects/my-project/locations/x'", None),
    ],
)
def test_the_words_of_an_error(message, words):
    """The message is the provider's if LiteLLM quotes it; names of accounts are removed."""
    found = words_of_provider(message)
    assert words is None or found == words
    assert "my-project" not in found


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (
            "X - Cannot connect to host a.invalid:443 ssl:<ssl.SSLContext object at 0x7f42> [Name or service not known]",
            "a.invalid:443 cannot be reached: Name or service not known.",
        ),
        ("Cannot connect to host", ""),
        ("slow down", ""),
    ],
)
def test_a_host_that_cannot_be_reached(message, words):
    """The host is named with the reason; any other message is none of this kind."""
    assert unreachable(message) == words
