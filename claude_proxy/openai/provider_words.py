"""The provider's own words in an error of LiteLLM (1.106.2), which quotes them as text. Plain values, no I/O."""

import ast
import json
import re
from collections.abc import Mapping
from typing import Any

from claude_proxy.anthropic.errors import TRACEBACK

# How much of a message is read, in characters.
MAX_MESSAGE = 16 * 1024
# Prefixes that LiteLLM adds to a provider's message, possibly several.
_PREFIX = re.compile(r"^(?:(?:litellm\.)?[A-Za-z_]{1,40}(?:Error|Exception)(?::| -) *)+")
# aiohttp's message for a host that cannot be reached.
_UNREACHABLE = re.compile(r"Cannot connect to host ([\w.-]{1,253}:\d{1,5}) ssl:[^\[]{0,200}\[([^\]]{1,200})\]")
_DECODER = json.JSONDecoder()
# Names of cloud accounts, which clients may not see.
_ACCOUNT = re.compile(r"arn:aws[\w-]*:[^\s'\"]+|\bprojects/[\w:.-]+")
ACCOUNT = "(an account)"


def words_of_provider(message: str) -> str:
    """Return the provider's own message, which LiteLLM's contains as text; else LiteLLM's, without its prefixes."""
    message = message[:MAX_MESSAGE]
    words, brace, rest = message.partition("{")
    if brace and TRACEBACK not in message:
        for text in (brace + rest, _unquoted(words, brace + rest)):
            try:
                decoded, _ = _DECODER.raw_decode(text)
            except (ValueError, RecursionError):
                continue
            if isinstance(decoded, dict) and message_in(decoded):
                return without_accounts(message_in(decoded))
    return without_accounts(_PREFIX.sub("", message))


def unreachable(message: str) -> str:
    """Return which host cannot be reached, and why; empty for a message of something else."""
    found = _UNREACHABLE.search(message[:MAX_MESSAGE])
    return f"{found[1]} cannot be reached: {found[2]}." if found else ""


def without_accounts(words: str) -> str:
    """Return a message without names of cloud accounts."""
    return _ACCOUNT.sub(ACCOUNT, words)


def message_in(decoded: Mapping[str, Any]) -> str:
    """Return the message of a provider's error; empty without one."""
    inner = decoded.get("error", decoded)
    found = inner.get("message") if isinstance(inner, dict) else inner
    return found if isinstance(found, str) else ""


def _unquoted(words: str, text: str) -> str:
    """Return the text of bytes that LiteLLM has formatted as a Python literal."""
    quote = words[-1:]
    if words[-2:] not in ("b'", 'b"'):
        return ""
    try:
        held: bytes = ast.literal_eval(f"b{quote}{text.rpartition(quote)[0]}{quote}")
    except (ValueError, SyntaxError):
        return ""
    return held.decode("utf-8", "replace")
