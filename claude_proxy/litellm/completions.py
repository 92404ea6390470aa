"""Chat completions through LiteLLM, for providers whose format only LiteLLM knows. LiteLLM is used like an OpenAI endpoint.

It calls ``litellm.acompletion`` like LiteLLM's own route. The route itself would authenticate, log and bill a request a second
time that has already entered LiteLLM. Depends on LiteLLM's shapes.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any, NamedTuple

import litellm
from pydantic import BaseModel
from pydantic_core import PydanticSerializationError

from claude_proxy.anthropic.messages import to_json
from claude_proxy.asgi import Headers
from claude_proxy.config.deployments import CHAT_SERVER, DEFAULTS, OF_ROUTER
from claude_proxy.openai.provider_words import message_in, unreachable, without_accounts, words_of_provider
from claude_proxy.proxy.entrance import Entrance, current
from claude_proxy.proxy.lanes.attempt import STREAM, Attempt
from claude_proxy.proxy.offload import offloaded
from claude_proxy.proxy.relay import close_stream
from claude_proxy.upstream.client import StreamedResponse, TimedOutError

# Parameters of a deployment that are not for its provider, or that the lane has already put into the request.
LEFT_OUT = frozenset({*DEFAULTS, *OF_ROUTER, CHAT_SERVER, "max_retries", "num_retries", "stream_timeout", "timeout", "weight"})
# The maximum number of chunks that wait for the client.
MAX_WAITING = 64


class Failed(NamedTuple):
    """An error of LiteLLM or of the provider: its status and its body."""

    status: int
    body: dict[str, Any]


class Completions:
    """One per process: the endpoint of ``Lane.COMPLETION``."""

    async def send(self, attempt: Attempt, raw: bytes) -> StreamedResponse:
        """Request a completion and return its response when its first part is there. Raises ``TimedOutError``."""
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
    """Return LiteLLM's arguments: the deployment's own parameters, overridden by the request.

    LiteLLM neither retries nor logs the call: the plan retries, and the caller of the attempt logs. Parameters that a provider
    does not accept are dropped, because the client cannot know them.
    """
    own = {name: value for name, value in (attempt.deployment.params or {}).items() if name not in LEFT_OUT}
    fixed = {"model": own["model"], "timeout": attempt.read_seconds, "num_retries": 0, "max_retries": 0, "no-log": True}
    return {"drop_params": True, **own, **body, **fixed}


class CompletionResponse(StreamedResponse):
    """LiteLLM's result, in the bytes of a chat completion.

    A task of its own reads it, because a cancelled read of LiteLLM would end its stream.
    """

    __slots__ = ("_entrance", "_first", "_over", "_params", "_task", "_waiting")

    def __init__(self, entrance: Entrance, params: Mapping[str, Any]) -> None:
        self._entrance = entrance
        self._params = params
        self._waiting: asyncio.Queue[bytes | Failed | TimedOutError] = asyncio.Queue(MAX_WAITING)
        # The first part, and whether it is the only one.
        self._first: bytes | Failed | TimedOutError = b""
        self._over = False
        self._set(200, [("content-type", STREAM if params.get("stream") else "application/json")])
        self._task = asyncio.ensure_future(self._run())

    async def open(self) -> None:
        """Wait for the first part, because LiteLLM returns some streams before it sends a request. Raises ``TimedOutError``."""
        self._first = await self._waiting.get()
        if isinstance(self._first, TimedOutError):
            raise self._first
        if isinstance(self._first, Failed):
            retry_after = self._entrance.retry_after
            headers = [("retry-after", retry_after)] if retry_after else []
            self._set(self._first.status, [("content-type", "application/json"), *headers])
            self._first, self._over = to_json(self._first.body), True

    async def piece(self) -> bytes:
        """Return the next chunk, or an error, as an event. Raises ``TimedOutError``."""
        found, self._first = self._first or (b"" if self._over else await self._waiting.get()), b""
        if isinstance(found, TimedOutError):
            raise found
        if isinstance(found, Failed):
            self._over = True
            return event(to_json({"error": {"code": found.status, "message": message_in(found.body)}}))
        self._over = self._over or not found
        return found

    async def read(self, *, cut_at: int | None = None) -> bytes:
        """Return the whole body, or its first ``cut_at`` bytes. Raises ``TimedOutError``."""
        body = bytearray()
        while (cut_at is None or len(body) < cut_at) and (piece := await self.piece()):
            body += piece
        return bytes(body[:cut_at])

    @property
    def rejection_reason(self) -> str | None:
        """None, because every result of LiteLLM is a completion."""
        return None

    def close(self) -> None:
        """End LiteLLM's work on the response, and with it the provider's."""
        self._task.cancel()

    def _set(self, status: int, headers: Headers) -> None:
        self.status, self.headers, self.first_headers = status, headers, dict(headers)

    async def _run(self) -> None:
        entrance, stream = self._entrance, None
        # LiteLLM's transport and the hooks find the request in this task's context.
        token = current.set(entrance)
        try:
            completion = await litellm.acompletion(**self._params)
            if hasattr(completion, "__aiter__"):
                stream = completion
                await self._pass(stream)
            elif problem := entrance.end_problem():
                await self._waiting.put(Failed(502, error_of(problem)))
            else:
                await self._waiting.put(event(json_of(completion)) if self._params.get("stream") else json_of(completion))
            await self._waiting.put(b"")
        except Exception as error:  # noqa: BLE001 - LiteLLM may raise anything, and all of it is this attempt's error
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
    """Return a stream event with this data."""
    return b"data: " + data + b"\n\n"


def json_of(completion: BaseModel) -> bytes:
    """Return a completion of LiteLLM, or a chunk of one, as JSON without empty fields."""
    try:
        return completion.model_dump_json(exclude_none=True, exclude_unset=True).encode()
    except PydanticSerializationError:  # a lone surrogate
        return to_json(completion.model_dump(exclude_none=True, exclude_unset=True))


def failure(error: Exception) -> Failed | TimedOutError:
    """Return the status and the message of an error of LiteLLM."""
    error = getattr(error, "original_exception", None) or error
    if isinstance(error, litellm.Timeout):
        return TimedOutError("Timeout")
    status = getattr(error, "status_code", None)
    status = status if isinstance(status, int) and 400 <= status < 600 else 500
    message = getattr(error, "message", None)
    if isinstance(message, str) and (words := unreachable(message)):
        return Failed(502, error_of(words))
    words = words_of_provider(message if isinstance(message, str) else f"{type(error).__name__}: {error}")
    return Failed(status, error_of(words))


def error_of(words: str) -> dict[str, Any]:
    """Return an error in OpenAI's shape."""
    return {"error": {"message": without_accounts(words)}}
