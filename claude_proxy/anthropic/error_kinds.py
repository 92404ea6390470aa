"""Recognises errors that report a violation of the provider's content policy."""

# Providers' sentences and error codes, in lower case.
CONTENT_POLICY = ("content_policy_violation", "content filtering policy", "violating our usage policy", "usage policies")
# A longer body may quote the request, so only its start is searched.
MAX_BYTES = 8 * 1024


def is_content_policy(body: bytes) -> bool:
    """Whether an error's body reports that the request violates the provider's content policy."""
    text = body[:MAX_BYTES].decode("utf-8", "replace").lower()
    return any(sentence in text for sentence in CONTENT_POLICY)
