"""Errors inside a response whose status is good, whole or a chunk of a stream. Values in, values out, no I/O."""

from collections.abc import Mapping
from typing import Any

from claude_proxy.anthropic.errors import error_type

# MiniMax's codes that say whose fault it is: rate limit, key, balance, and a request that is too long or invalid.
MINIMAX = {1002: 429, 1004: 401, 1008: 402, 1039: 400, 2013: 400}


def inner_error(said: Mapping[str, Any], choice: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return Anthropic's type and the words of an error; None where there is none.

    OpenAI, OpenRouter and most others have ``error`` at the top or in the choice. Of Mistral and older vLLM the object itself
    is the error. MiniMax says in ``base_resp`` how a request went.
    """
    if error := said.get("error") or choice.get("error"):
        return _told(error)
    if said.get("object") == "error":
        return _told(said)
    state = said.get("base_resp")
    if isinstance(state, dict) and (code := state.get("status_code")):
        return _told({"code": MINIMAX.get(code, 500) if isinstance(code, int) else 500, "message": state.get("status_msg")})
    return None


def _told(error: object) -> tuple[str, str]:
    if not isinstance(error, dict):
        return "api_error", str(error)[:1000]
    code = error.get("code", error.get("status"))
    if isinstance(code, str) and code.isdecimal() and len(code) < 4:
        code = int(code)
    message = error.get("message")
    kind = error_type(code) if isinstance(code, int) and 400 <= code < 600 else "api_error"
    return kind, message if isinstance(message, str) else "no reason given"
