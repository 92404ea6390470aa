"""What an error says, where a rule of config.yaml asks for it: a request against a provider's policy."""

# Providers' sentences and codes, in small letters.
CONTENT_POLICY = ("content_policy_violation", "content filtering policy", "violating our usage policy", "usage policies")
# Longer bodies are an error that quotes the request.
MAX_BYTES = 8 * 1024


def is_content_policy(body: bytes) -> bool:
    """Whether an error's body says that the provider's policy forbids the request."""
    text = body[:MAX_BYTES].decode("utf-8", "replace").lower()
    return any(sentence in text for sentence in CONTENT_POLICY)
