"""Chat completions of providers whose format LiteLLM alone knows, asked as if LiteLLM were an endpoint of OpenAI's format.

``litellm.acompletion`` is what LiteLLM's own route calls; the route itself would authenticate, log and bill the call once more
where a request has entered LiteLLM already. Knows LiteLLM's shapes (1.106.2).
"""

import ast
import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any, NamedTuple

import litellm
from pydantic import BaseModel
from pydantic_core import PydanticSerializationError

from claude_proxy.anthropic.errors import TRACEBACK
from claude_proxy.anthropic.messages import to_json
from claude_proxy.asgi import Headers
from claude_proxy.config.deployments import CHAT_SERVER, DEFAULTS, OF_ROUTER
from claude_proxy.proxy.entrance import Entrance, current
from claude_proxy.proxy.lanes.attempt import MAX_ERROR_BYTES, STREAM, Attempt
from claude_proxy.proxy.offload import offloaded
from claude_proxy.proxy.relay import close_stream
from claude_proxy.upstream.client import StreamedResponse, TimedOutError

# Parameters of a deployment that say nothing to its provider, or that the lane has put into the request already.
LEFT_OUT = frozenset({*DEFAULTS, *OF_ROUTER, CHAT_SERVER, "max_retries", "num_retries", "stream_timeout", "timeout", "weight"})
# Chunks of a stream that may wait for the client.
MAX_WAITING = 64
# What LiteLLM puts in front of a provider's words, as often as it likes.
_PREFIX = re.compile(r"^(?:(?:litellm\.)?[A-Za-z_]{1,40}(?:Error|Exception)(?::| -) *)+")
# aiohttp's words for a host without a connection.
_UNREACHABLE = re.compile(r"Cannot connect to host ([\w.-]{1,253}:\d{1,5}) ssl:[^\[]{0,200}\[([^\]]{1,200})\]")
_DECODER = json.JSONDecoder()
# Whose account at a cloud is asked is the operator's business.
_ACCOUNT = re.compile(r"arn:aws[\w-]*:[^\s'\"]+|\bprojects/[\w:.-]+")
ACCOUNT = "(an account)"


class Failed(NamedTuple):
    """An error of LiteLLM's or of the provider's: its status, and its words as the provider has them."""

    status: int
    said: dict[str, Any]


class Completions:
    """One for the process: the endpoint of ``Lane.COMPLETION``."""

    async def send(self, attempt: Attempt, raw: bytes) -> StreamedResponse:
        """Ask for a completion; return its response once there is a part of it. Raises ``TimedOutError``."""
        body = await offloaded(len(raw), json.loads, raw)
        entrance = Entrance(attempt.request, attempt.outlet, attempt.journal, planned=True, row=attempt.deployment.row)
        response = CompletionResponse(entrance, parameters(attempt, body))
        try:
            await response.open()
        except BaseException:
            response.close()
            raise
        return response


def parameters(attempt: Attempt, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return what LiteLLM is called with: the deployment's own parameters, and the request over them.

    Nothing is repeated or logged here: the plan does the one, and who has begun the attempt the other. What a provider does
    not take is left out, for the client cannot know it.
    """
    own = {name: value for name, value in (attempt.deployment.params or {}).items() if name not in LEFT_OUT}
    fixed = {"model": own["model"], "timeout": attempt.read_seconds, "num_retries": 0, "max_retries": 0, "no-log": True}
    return {"drop_params": True, **own, **body, **fixed}


class CompletionResponse(StreamedResponse):
    """What LiteLLM makes of a provider's response, in the bytes of a chat completion.

    A task of its own reads it: to cancel one of LiteLLM's reads would end its stream.
    """

    __slots__ = ("_entrance", "_first", "_over", "_params", "_task", "_waiting")

    def __init__(self, entrance: Entrance, params: Mapping[str, Any]) -> None:
        self._entrance = entrance
        self._params = params
        self._waiting: asyncio.Queue[bytes | Failed | TimedOutError] = asyncio.Queue(MAX_WAITING)
        # What came first, and whether nothing comes after it.
        self._first: bytes | Failed | TimedOutError = b""
        self._over = False
        self._set(200, [("content-type", STREAM if params.get("stream") else "application/json")])
        self._task = asyncio.ensure_future(self._run())

    async def open(self) -> None:
        """Wait for the first part: LiteLLM begins some streams before it asks. Raises ``TimedOutError``."""
        self._first = await self._waiting.get()
        if isinstance(self._first, TimedOutError):
            raise self._first
        if isinstance(self._first, Failed):
            retry_after = self._entrance.retry_after
            headers = [("retry-after", retry_after)] if retry_after else []
            self._set(self._first.status, [("content-type", "application/json"), *headers])
            self._first, self._over = to_json(self._first.said), True

    async def piece(self) -> bytes:
        """Return the next chunk as an event, and an error as one. Raises ``TimedOutError``."""
        found, self._first = self._first or (b"" if self._over else await self._waiting.get()), b""
        if isinstance(found, TimedOutError):
            raise found
        if isinstance(found, Failed):
            self._over = True
            return event(to_json({"error": {"code": found.status, "message": words_in(found.said)}}))
        self._over = self._over or not found
        return found

    async def read(self, *, cut_at: int | None = None) -> bytes:
        """Return the whole body, or so many bytes of its beginning. Raises ``TimedOutError``."""
        body = bytearray()
        while (cut_at is None or len(body) < cut_at) and (piece := await self.piece()):
            body += piece
        return bytes(body[:cut_at])

    @property
    def rejection_reason(self) -> str | None:
        """Whatever LiteLLM returns is a completion."""
        return None

    def close(self) -> None:
        """End LiteLLM's work on it, and with it the provider's."""
        self._task.cancel()

    def _set(self, status: int, headers: Headers) -> None:
        self.status, self.headers, self.first_headers = status, headers, dict(headers)

    async def _run(self) -> None:
        entrance, stream = self._entrance, None
        # LiteLLM's transport and the hooks find the request in this task's context.
        token = current.set(entrance)
        try:
            answer = await litellm.acompletion(**self._params)
            if hasattr(answer, "__aiter__"):
                stream = answer
                await self._pass(stream)
            elif problem := entrance.end_problem():
                await self._waiting.put(Failed(502, error_of(problem)))
            else:
                await self._waiting.put(event(json_of(answer)) if self._params.get("stream") else json_of(answer))
            await self._waiting.put(b"")
        except Exception as error:  # noqa: BLE001 - whatever LiteLLM raises is its word on this attempt
            await self._waiting.put(failure(error))
        finally:
            await close_stream(stream)
            await entrance.close()
            current.reset(token)

    async def _pass(self, stream: AsyncIterator[Any]) -> None:
        async for chunk in stream:
            if any(choice.finish_reason for choice in chunk.choices) and (problem := self._entrance.end_problem()):
                await self._waiting.put(Failed(502, error_of(problem)))
                return
            await self._waiting.put(event(json_of(chunk)))


def event(data: bytes) -> bytes:
    """Return the event of a stream that has this data."""
    return b"data: " + data + b"\n\n"


def json_of(answer: BaseModel) -> bytes:
    """Return a completion of LiteLLM's, or a chunk of one, with what is said in it."""
    try:
        return answer.model_dump_json(exclude_none=True, exclude_unset=True).encode()
    except PydanticSerializationError:  # half a character
        return to_json(answer.model_dump(exclude_none=True, exclude_unset=True))


def failure(error: Exception) -> Failed | TimedOutError:
    """Return what an error of LiteLLM's says."""
    error = getattr(error, "original_exception", None) or error
    if isinstance(error, litellm.Timeout):
        return TimedOutError("Timeout")
    status = getattr(error, "status_code", None)
    status = status if isinstance(status, int) and 400 <= status < 600 else 500
    message = getattr(error, "message", None)
    if isinstance(message, str) and (found := _UNREACHABLE.search(message)):
        return Failed(502, error_of(f"{found[1]} cannot be reached: {found[2]}."))
    return Failed(status, said_in(message if isinstance(message, str) else f"{type(error).__name__}: {error}"))


def said_in(message: str) -> dict[str, Any]:
    """Return the provider's own error, which LiteLLM's words have in them as text; else the words."""
    message = message[: 2 * MAX_ERROR_BYTES]
    words, begins, rest = message.partition("{")
    if begins and TRACEBACK not in message:
        for text in (begins + rest, _unquoted(words, begins + rest)):
            try:
                said, _ = _DECODER.raw_decode(text)
            except (ValueError, RecursionError):
                continue
            if isinstance(said, dict) and words_in(said):
                return error_of(words_in(said))
    return error_of(_PREFIX.sub("", message))


def _unquoted(words: str, text: str) -> str:
    """Return the text of bytes that LiteLLM has written as Python does."""
    quote = words[-1:]
    if words[-2:] not in ("b'", 'b"'):
        return ""
    try:
        held: bytes = ast.literal_eval(f"b{quote}{text.rpartition(quote)[0]}{quote}")
    except (ValueError, SyntaxError):
        return ""
    return held.decode("utf-8", "replace")


def error_of(words: str) -> dict[str, Any]:
    """Return an error in OpenAI's shape."""
    return {"error": {"message": _ACCOUNT.sub(ACCOUNT, words)}}


def words_in(said: Mapping[str, Any]) -> str:
    """Return the words of a provider's error; empty without any."""
    inner = said.get("error", said)
    found = inner.get("message") if isinstance(inner, dict) else inner
    return found if isinstance(found, str) else ""
