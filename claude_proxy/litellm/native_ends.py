"""Reads the provider's own stop reason from the response on its way to LiteLLM. The request's path determines the format.

LiteLLM (1.108.7) reports an unknown or missing stop reason as a normal end.
"""

import re
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import httpx

from claude_proxy.proxy.entrance import Entrance, current


class NativeEnds(NamedTuple):
    """The stop reason in one format; ``good`` has the reasons that LiteLLM knows, and is empty if LiteLLM knows all."""

    # The end of the request's path.
    at: str
    pattern: re.Pattern[bytes]
    good: frozenset[str] = frozenset()


# In a JSON string the quotes would be escaped, so a model's text never matches.
_GEMINI = re.compile(rb'"finishReason"\s{0,8}:\s{0,8}"([A-Z_]{1,40})"')
_CHAT = re.compile(rb'"finish_reason"\s{0,8}:\s{0,8}"([A-Za-z_]{1,40})"|^data:\s{0,8}\[(DONE)\]', re.MULTILINE)
# Google's reference, "FinishReason".
_GEMINI_ENDS = frozenset(
    {
        "STOP", "MAX_TOKENS", "SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY",
        "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION",
    }
)  # fmt: skip
# AWS's reference, "StopReason"; its other reasons mean a malformed response.
_BEDROCK_ENDS = frozenset(
    {
        "end_turn", "tool_use", "max_tokens", "stop_sequence", "guardrail_intervened", "content_filtered",
        "model_context_window_exceeded",
    }
)  # fmt: skip
_BEDROCK = re.compile(rb'"stopReason"\s{0,8}:\s{0,8}"([a-z_]{1,40})"')
FORMATS = (
    NativeEnds(":generateContent", _GEMINI, _GEMINI_ENDS),
    NativeEnds(":streamGenerateContent", _GEMINI, _GEMINI_ENDS),
    NativeEnds("/converse", _BEDROCK, _BEDROCK_ENDS),
    NativeEnds("/converse-stream", _BEDROCK, _BEDROCK_ENDS),
    NativeEnds("/api/chat", re.compile(rb'"(done)"\s{0,8}:\s{0,8}true')),
    NativeEnds("/chat/completions", _CHAT),
    NativeEnds("/responses", re.compile(rb'"type"\s{0,8}:\s{0,8}"response\.(completed|incomplete|failed)"')),
)
# A whole JSON response is complete; only these formats also report how it ended.
WHOLE = (":generateContent", "/converse")
# The longest match, in bytes.
LONGEST = 80


def watched(response: httpx.Response) -> httpx.Response:
    """Return a response whose stop reason is recorded for the client's request."""
    entrance = current.get()
    if entrance is None or not response.is_success:
        return response
    path, streams = response.request.url.path, entrance.request.streams
    found = next((one for one in FORMATS if path.endswith(one.at) and (streams or one.at in WHOLE)), None)
    if found is not None:
        entrance.native_end, entrance.good_ends = "", found.good
        response.stream = _Watched(response.stream, entrance, found.pattern)
    return response


class _Watched(httpx.AsyncByteStream):
    """A body that is searched for its last stop reason, wherever the chunks are cut."""

    def __init__(self, stream: Any, entrance: Entrance, pattern: re.Pattern[bytes]) -> None:
        self._stream = stream
        self._entrance = entrance
        self._pattern = pattern

    async def __aiter__(self) -> AsyncIterator[bytes]:
        tail = b""
        async for chunk in self._stream:
            seen = tail + chunk
            if found := self._pattern.findall(seen):
                last = found[-1]
                self._entrance.native_end = (last if isinstance(last, bytes) else b"".join(last)).decode()
            tail = seen[-LONGEST:]
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()
