"""Errors inside a response with status 200, whole or in a chunk of a stream. Values in, values out, no I/O."""

from collections.abc import Mapping
from typing import Any

from claude_proxy.anthropic.errors import error_type

# MiniMax's error codes and their HTTP statuses: rate limit, key, balance, and a request that is too long or invalid.
MINIMAX = {1002: 429, 1004: 401, 1008: 402, 1039: 400, 2013: 400}


def inner_error(completion: Mapping[str, Any], choice: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return Anthropic's error type and the message of an error; None if there is none.

    OpenAI, OpenRouter and most others have ``error`` at the top or in the choice. In Mistral and older vLLM the object itself
    is the error. MiniMax reports the status in ``base_resp``.
    """
    if error := completion.get("error") or choice.get("error"):
        return _described(error)
    if completion.get("object") == "error":
        return _described(completion)
    state = completion.get("base_resp")
    if isinstance(state, dict) and (code := state.get("status_code")):
        return _described(
            {"code": MINIMAX.get(code, 500) if isinstance(code, int) else 500, "message": state.get("status_msg")}
        )
    return None


def _described(error: object) -> tuple[str, str]:
    if not isinstance(error, dict):
        return "api_error", str(error)[:1000]
    code = error.get("code", error.get("status"))
    if isinstance(code, str) and code.isdecimal() and len(code) < 4:
        code = int(code)
    message = error.get("message")
    kind = error_type(code) if isinstance(code, int) and 400 <= code < 600 else "api_error"
    return kind, message if isinstance(message, str) else "no reason given"
