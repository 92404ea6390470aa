"""What an error says, where a rule of config.yaml asks for it: a conversation that is too long, a request against a policy."""

# Anthropic's sentence, and those of providers that LiteLLM takes for the same (1.106.2), in small letters.
CONTEXT_WINDOW = (
    "prompt is too long", "exceed context limit", "this model's maximum context length is",
    "model's maximum context limit", "is longer than the model's context length", "input tokens exceed the configured limit",
    "exceeds the available context size", "exceeds the maximum number of tokens allowed",
)  # fmt: skip
CONTENT_POLICY = ("content_policy_violation", "content filtering policy", "violating our usage policy", "usage policies")
# Longer bodies are an error that quotes the request.
MAX_BYTES = 8 * 1024


def is_context_window(body: bytes) -> bool:
    """Whether an error's body says that the conversation is longer than the model can take."""
    return _says(body, CONTEXT_WINDOW)


def is_content_policy(body: bytes) -> bool:
    """Whether an error's body says that the provider's policy forbids the request."""
    return _says(body, CONTENT_POLICY)


def _says(body: bytes, sentences: tuple[str, ...]) -> bool:
    text = body[:MAX_BYTES].decode("utf-8", "replace").lower()
    return any(sentence in text for sentence in sentences)
