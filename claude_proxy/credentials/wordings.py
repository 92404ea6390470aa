"""Sentences of Anthropic by which a response is recognized, each with public reports of it. No I/O.

Each is the start of a message, in lower case without backticks; more text may follow. "CC" is the issue tracker of Claude
Code.
"""

import re
from datetime import UTC, datetime

EXTRA_USAGE = (
    "extra usage is required",  # "... for long context requests.": CC #42616, #43276, #50784, #53607; CLIProxyAPI #2464
    "usage credits are required",  # "... for fast mode."
)
NOT_CLAUDE_CODE = (
    "third-party apps now draw from your extra usage",  # "..., not your plan limits. ...": CC #45048, #45911
    "this credential is only authorized for use with claude code",  # "... and cannot be used for ...": clewdr #129
)
WRONG_HEADER = (
    "oauth authentication is currently not supported",  # a bearer token without its beta header: CC #28091
    "invalid x-api-key",  # an OAuth token in the API key header: LiteLLM #22040
)
OUT_OF_CREDIT = (
    "your credit balance is too low",  # "... to access the Anthropic API. Please go to ...": CC #66314; alone: CC #91322
)
REFUSED_ACCOUNT = (
    "this organization has been disabled",  # CC #9384, #19028
    "identity verification is required",  # "... to continue.": CC #88505
    "oauth authentication is currently not allowed for this organization",  # CC #6312, #6752 (401), #65714, #65044 (403)
    "oauth token has been revoked",  # "... Please obtain a new token.": CC #5210, #9635, #29497
)
# Refusals of thinking blocks that Claude Code does not handle itself (2.1.197), without the position in front of them.
UNHEALED_THINKING = (
    "expected thinking or redacted_thinking, but found",  # CC #20705, n8n #22550
    "if an assistant message contains any thinking blocks, the first block must be thinking",  # CC #20705, #20691
    "a final assistant message must start with a thinking block",
    "when thinking is enabled, a final assistant message must start with a thinking block",
    "the final block in an assistant message cannot be thinking",  # forgecode #2107
    "when thinking is disabled, an assistant message in the final position cannot contain thinking",  # forgecode #1195
    "invalid data in redacted_thinking block",  # CC #56708
    "each thinking block must contain thinking",  # claude-code-hub's list
    "thinking blocks are not supported",
)
# Limits of the account in words without a time.
OUT_OF_EXTRA_USAGE = (
    "you're out of extra usage",  # "... Add more at ..." and "... Ask your workspace admin ...": CC #45035, #45276
    "your org is out of usage",  # "... · add funds to continue": Claude Code 2.1.332's own list
)
TOO_MANY_SESSIONS = ("too many active sessions",)
# The code of a limit set by an API account's tier (Anthropic's reference, "Errors").
SPENT_CODE = "enforced_spend_limit_reached"
# Spending limits of an API account, as whole messages (Anthropic's reference, "Rate limits"; CC #38035).
_SPENT = re.compile(
    r"you have reached your (?:specified )?(?:workspace )?api usage limits"
    r"(?:: your organization has crossed its monthly api usage threshold, set for its tier)?\."
    r"(?: you will regain access on (?P<day>\d{4}-\d\d-\d\d) at (?P<time>\d\d:\d\d) utc\.)?"
)
_REGAINED_AT = re.compile(r"you will regain access on (?P<day>\d{4}-\d\d-\d\d) at (?P<time>\d\d:\d\d) utc\b")


def is_spent(message: str) -> bool:
    """Return whether a whole message, in lower case, reports that an account has reached its spending limit."""
    return _SPENT.fullmatch(" ".join(message.split())) is not None


def regained_at(message: str) -> float | None:
    """Return when the account may be used again, in Unix seconds; None if the message does not contain it."""
    found = _REGAINED_AT.search(" ".join(message.split()))
    if found is None:
        return None
    try:
        return datetime.fromisoformat(f"{found['day']}T{found['time']}").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None
