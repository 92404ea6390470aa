"""Errors of a cloud: what a client learns of one, without the operator's accounts, and in which shape. No I/O."""

import json
import re
from collections.abc import Iterable, Mapping

from claude_proxy.anthropic.errors import Refusal, error_message, own_refusal
from claude_proxy.anthropic.sse import json_object
from claude_proxy.asgi import Headers
from claude_proxy.providers.cloud_routes import Cloud

# Names of accounts, roles, keys and projects, and what a message quotes of a signed request.
_PRIVATE = (
    (re.compile(r"arn:aws[a-z-]{0,20}:[^\s\"'<>,)\]]{1,512}"), "(an ARN)"),
    (re.compile(r"(?<![0-9A-Za-z])[0-9]{12}(?![0-9A-Za-z])"), "(an account)"),
    (re.compile(r"(?<![0-9A-Za-z])(?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{12,28}(?![0-9A-Za-z])"), "(a key)"),
    (re.compile(r"[A-Za-z0-9_.+-]{1,128}@[A-Za-z0-9.-]{1,128}\.gserviceaccount\.com"), "(a service account)"),
    (re.compile(r"projects/[A-Za-z0-9_.:-]{1,128}"), "projects/(a project)"),
    (re.compile(r"(?:Signature|Credential|X-Amz-Security-Token)[=:]\s{0,4}[^\s,]{1,4096}", re.IGNORECASE), "(a signature)"),
)
# From here on, AWS's message about a wrong signature quotes the whole signed request.
_QUOTED_REQUEST = re.compile(r"\s{0,4}The Canonical String for this request should have been", re.IGNORECASE)
MAX_WORDS = 2000
# Errors about the request itself, whose message the client handles.
ABOUT_REQUEST = frozenset({400, 413, 422})
RETRY_LATER = frozenset({408, 429, 500, 502, 503, 504, 529})
# AWS's names of errors by status, by which its clients decide.
_AWS_TYPES: Mapping[int, str] = {
    400: "ValidationException", 401: "UnrecognizedClientException", 403: "AccessDeniedException",
    404: "ResourceNotFoundException", 408: "ModelTimeoutException", 413: "ValidationException", 429: "ThrottlingException",
    503: "ServiceUnavailableException", 504: "ModelTimeoutException", 529: "ServiceUnavailableException",
}  # fmt: skip
_AWS_DEFAULT = "InternalServerException"


def cleaned(words: str, private: Iterable[str] = ()) -> str:
    """Return a cloud's message without names of accounts, keys and projects; ``private`` has more of them."""
    words = _QUOTED_REQUEST.split(words, 1)[0]
    for name in private:
        if name:
            words = words.replace(name, "(private)")
    for pattern, replacement in _PRIVATE:
        words = pattern.sub(replacement, words)
    return words


def message_of(status: int, body: bytes) -> str:
    """Return the message of a cloud's error: AWS's, Google's, or Anthropic's own."""
    text = body
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        parsed = None
    if isinstance(parsed, list) and parsed and isinstance(parsed[0], dict):
        parsed = parsed[0]
        text = json.dumps(parsed).encode()
    capital = parsed.get("Message") if isinstance(parsed, dict) else None
    words = capital if isinstance(capital, str) and capital else error_message(text, status)
    return words[:MAX_WORDS]


def refusal(cloud: Cloud, status: int, body: bytes, headers: Headers, private: Iterable[str] = ()) -> Refusal:
    """Return the client's error for a cloud's, in Anthropic's shape.

    1. An error about the request keeps its message, without names of accounts.
    2. After any other error the message is the proxy's own: the cloud's is for the operator.
    3. A rejected credential is the proxy's, so the status says nothing about the client's token.
    4. ``retry-after`` passes.
    """
    name = cloud.value
    waits = [(key.lower(), value) for key, value in headers if key.lower() == "retry-after"]
    if status in ABOUT_REQUEST:
        words = cleaned(message_of(status, body), private)
        return own_refusal(400 if status == 422 else status, words)
    if status in (401, 403):
        return own_refusal(502, f"{name} does not accept the proxy's credential for this model. {_OPERATOR}")
    if status == 404:
        return own_refusal(404, f"{name} does not have this model in the proxy's account and region. {_OPERATOR}")
    if status == 429:
        return own_refusal(
            429, f"{name} limits the proxy's requests at the moment (throttling). Please try again later.", waits
        )
    if status in RETRY_LATER:
        return own_refusal(status, f"{name} cannot respond at the moment (HTTP {status}). Please try again later.", waits)
    return own_refusal(502, f"{name} responded with HTTP {status}. {_OPERATOR}", [])


_OPERATOR = "Its operator can find the reason in the log."


def shaped(cloud: Cloud, status: int, body: bytes) -> tuple[list[tuple[str, str]], bytes]:
    """Return more headers and the body for an error in Anthropic's shape, as the cloud's client expects it.

    Bedrock's errors have their message at the top, and their type in a header. On Vertex AI they have Anthropic's shape.
    """
    if cloud is not Cloud.BEDROCK:
        return [], body
    found = json_object(body) or {}
    error = found.get("error")
    words = error.get("message") if isinstance(error, dict) else None
    if not isinstance(words, str):
        return [], body
    kind = _AWS_TYPES.get(status, "ValidationException" if status < 500 else _AWS_DEFAULT)
    return [("x-amzn-errortype", kind)], json.dumps({"message": words}).encode()
