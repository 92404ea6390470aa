"""Answers of Anthropic's as they were met in public, word for word, for the tests of single rules and those through the proxy.

The times in them count from a moment that the test names, in Unix seconds.
"""

import json
from typing import NamedTuple

HOUR, DAY = 3600, 86400
UNIFIED = "anthropic-ratelimit-unified-"

LIMIT = "This request would exceed your account's rate limit. Please try again later."
KINDS = {
    400: "invalid_request_error", 401: "authentication_error", 402: "billing_error", 403: "permission_error",
    404: "not_found_error", 413: "request_too_large", 429: "rate_limit_error", 500: "api_error", 529: "overloaded_error",
}  # fmt: skip


class Given(NamedTuple):
    """An answer: header names in lower case, the body's bytes, and the model whose request it answered."""

    status: int
    headers: dict[str, str]
    body: bytes
    model: str


def given(status, message, model="claude-sonnet-5", /, *, retry_after=None, x_should_retry=None, **unified):
    """Return an error as Anthropic words it; ``unified`` are its limit headers by their short names, ``__`` for ``-``."""
    body = {"type": "error", "error": {"type": KINDS[status], "message": message}, "request_id": "req_011made"}
    headers = {"content-type": "application/json", "request-id": "req_011made"}
    headers |= {UNIFIED + name.replace("__", "-"): str(value) for name, value in unified.items()}
    headers |= {} if retry_after is None else {"retry-after": str(retry_after)}
    headers |= {} if x_should_retry is None else {"x-should-retry": x_should_retry}
    return Given(status, headers, json.dumps(body).encode(), model)


def windows(now, **changed):
    """Return the limit headers of a subscription with room in both of its windows, and what is different."""
    usual = {
        "status": "allowed", "5h__status": "allowed", "5h__reset": now + HOUR, "5h__utilization": "0.31",
        "7d__status": "allowed", "7d__reset": now + 4 * DAY, "7d__utilization": "0.12", "reset": now + HOUR,
        "representative__claim": "five_hour", "overage__status": "rejected", "overage__disabled__reason": "org_level_disabled",
    }  # fmt: skip
    return usual | changed


def limits(now: int) -> dict[str, Given]:
    """Return the 429 that are about a limit of the credential."""
    five_hours = {"status": "rejected", "5h__status": "rejected", "5h__utilization": "1.0"}
    week = {"7d__status": "rejected", "7d__utilization": "1.02", "representative__claim": "seven_day"}
    family = {"status": "rejected", "reset": now + 2 * DAY}
    return {
        "five-hours": given(429, LIMIT, retry_after=HOUR, **windows(now, **five_hours)),
        "week": given(429, LIMIT, **windows(now, status="rejected", reset=now + 4 * DAY, **week)),
        "both-windows": given(429, LIMIT, retry_after=7999, **windows(now, **five_hours | week)),
        "no-aggregate-status": given(429, LIMIT, **{"5h__status": "rejected", "5h__reset": now + HOUR}),
        "threshold-surpassed": given(
            429, LIMIT, **windows(now, **{"5h__utilization": "1.0", "5h__surpassed__threshold": "1.0"})
        ),
        "family-opus": given(
            429, LIMIT, "claude-opus-4-8",
            **windows(
                now, **family | {"7d_opus__status": "rejected", "7d_opus__reset": now + 2 * DAY},
                representative__claim="seven_day_opus",
            ),
        ),
        "family-fable": given(
            429, LIMIT, "claude-fable-5-1",
            **windows(now, **family | {"7d_oi__status": "rejected", "7d_oi__reset": now + 2 * DAY}),
        ),
        "family-of-tomorrow": given(
            429, LIMIT, "claude-sonnet-5",
            **windows(now, **family | {"7d_xyz__status": "rejected", "7d_xyz__reset": now + 2 * DAY}),
        ),
        "family-by-claim": given(
            429, LIMIT, "claude-opus-4-8", **windows(now, **family | {"representative__claim": "seven_day_opus"})
        ),
        "throttle": given(429, "This request would exceed your rate limit of requests per minute.", retry_after=30,
                          **windows(now)),
    }  # fmt: skip


WINDOWLESS = {
    "windowless": given(429, LIMIT, x_should_retry="true"),
    "windowless-haiku": given(429, "Error", "claude-haiku-4-5", x_should_retry="true"),
}
# Anthropic does not take the request for Claude Code's own. Each credential would get the same answer.
DISGUISED = {
    "disguised-sonnet": given(429, "Error"),
    "disguised-opus": given(429, "Error", "claude-opus-4-8"),
    "disguised-fable": given(429, "Error", "claude-fable-5-1"),
    "disguised-x-should-retry": given(429, "Error", x_should_retry="true"),
}
LONG_CONTEXT = "Extra usage is required for long context requests."
FAST_MODE = "Usage credits are required for fast mode."
ENTITLEMENT = {
    "long-context-429": given(429, LONG_CONTEXT),
    "long-context-429-with-windows": given(429, LONG_CONTEXT, status="rejected", overage__status="rejected"),
    "long-context-400": given(400, LONG_CONTEXT),
    "fast-mode-429": given(429, FAST_MODE, "claude-opus-4-8"),
    "fast-mode-400": given(400, FAST_MODE, "claude-opus-4-8"),
}
ONLY_CLAUDE_CODE = "This credential is only authorized for use with Claude Code and cannot be used for other API requests."
NOT_NATIVE = {
    "third-party": given(400, "Third-party apps now draw from your extra usage, not your plan limits."),
    "only-claude-code-400": given(400, ONLY_CLAUDE_CODE),
    "bare-400": given(400, "Error"),
}
NOT_NATIVE_403 = {"only-claude-code-403": given(403, ONLY_CLAUDE_CODE)}
OUR_FAULT = {
    "oat-as-x-api-key": given(401, "invalid x-api-key"),
    "no-oauth-beta": given(401, "OAuth authentication is currently not supported."),
}
EXPIRED = "OAuth token has expired. Please obtain a new token or refresh your existing token."
NOT_ALLOWED = "OAuth authentication is currently not allowed for this organization."
NO_CREDIT = (
    "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or purchase credits."
)
REFUSED_TOKEN = {
    "expired": given(401, EXPIRED),
    "invalid-token": given(401, "OAuth access token is invalid."),
    "invalid-credentials": given(401, "Invalid authentication credentials"),
}
REFUSED_ACCOUNT = {
    "organisation-policy-401": given(401, NOT_ALLOWED),
    "organisation-policy-403": given(403, NOT_ALLOWED),
    "revoked": given(403, "OAuth token has been revoked. Please obtain a new token."),
    "organisation-disabled": given(400, "This organization has been disabled."),
    "no-credit": given(400, NO_CREDIT),
    "identity": given(400, "Identity verification is required to continue."),
}
REFUSED_CREDENTIAL = REFUSED_TOKEN | REFUSED_ACCOUNT
# Refusals that the request itself may have caused, as far as the status tells.
UNCONFIRMED = {name: each for name, each in REFUSED_CREDENTIAL.items() if each.status == 400}
# How validation errors quote the request; ``{}`` stands for the client's words.
QUOTATIONS = {
    "block-type": "messages.0.content.0: Input tag '{}' found using 'type' does not match any of the expected tags: 'text'",
    "tool-type": "tools.0: Input tag '{}' found using 'type' does not match any of the expected tags: 'custom'",
    "role": 'messages: Unexpected role "{}". Allowed roles are "user" or "assistant".',
    "model": "model: {}",
    "model-in-front": "'{}' does not support thinking.",
    "model-in-front-plain": "{} does not support image input.",
    "tool-choice": "tool_choice: Tool '{}' not found in provided tools",
    "tool-name": "tools.0.custom.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$', got '{}'",
    "tool-result": "messages.2.content.0: unexpected `tool_use_id` found in `tool_result` blocks: {}. Each needs a `tool_use`.",
    "beta-header": "Unexpected value(s) `{}` for the `anthropic-beta` header. Please consult our documentation.",
    "version-header": 'anthropic-version: "{}" is not a valid version',
    "field": "{}: Extra inputs are not permitted",
    "field-of-a-block": "messages.0.content.0.text.{}: Extra inputs are not permitted",
    "field-of-thinking": "messages.0.content.0.thinking: {}: Extra inputs are not permitted",
    "media-type": "messages.0.content.0.image.source.base64.media_type: Input should be 'image/png', got '{}'",
    "several": "2 validation errors:\nmessages.0.content.0: Input tag '{}' found\n{}: Extra inputs are not permitted",
}  # fmt: skip
# Refusals of thinking blocks on which Claude Code does not act by itself.
FOUND_TOOL_USE = (
    "messages.3.content.1.type: Expected `thinking` or `redacted_thinking`, but found `tool_use`. When `thinking` is enabled, "
    "a final `assistant` message must start with a thinking block (preceeding the lastmost set of `tool_use` and `tool_result` "
    "blocks). Please consult our documentation at https://docs.claude.com/en/docs/build-with-claude/extended-thinking"
)
FOUND_TEXT = (
    "messages.5.content.0: If an assistant message contains any thinking blocks, the first block must be `thinking` or "
    "`redacted_thinking`. Found `text`."
)
THINKING_DISABLED = (
    "messages.11.content.0: When thinking is disabled, an `assistant` message in the final position cannot contain `thinking`. "
    "To use thinking blocks, enable `thinking` in your request."
)
THINKING = (
    FOUND_TOOL_USE, FOUND_TOOL_USE.replace("`", ""), FOUND_TEXT, THINKING_DISABLED,
    "messages.1: The final block in an assistant message cannot be `thinking`.",
    "messages.23.content.2: Invalid `data` in `redacted_thinking` block",
)  # fmt: skip
OVERLOADED = {"overloaded": given(529, "Overloaded"), "server-error": given(500, "Internal server error")}
