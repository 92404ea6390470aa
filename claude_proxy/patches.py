"""What is changed in LiteLLM (1.106.2) and in what it sends with, each where there is no hook. The contract tests guard it."""

import asyncio
import copy
import functools
from collections.abc import Mapping, MutableMapping
from typing import Any

import litellm
from aiohttp import ClientPayloadError
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError
from litellm.litellm_core_utils.litellm_logging import Logging
from litellm.llms.anthropic.pass_through.adapters.streaming_iterator import _CombinedChunkSplitter
from litellm.types.utils import ModelResponse, Usage
from openai import NotGiven, Omit
from openai.resources.chat.completions import completions

from claude_proxy.exchange import current


@functools.cache
def give_each_call_a_chunk() -> None:
    """Let LiteLLM see one call in a chunk: 1.106.2 makes one block of the calls that Gemini and Groq send in one."""
    by_kind = _CombinedChunkSplitter._split_by_payload_kind  # noqa: SLF001 - no other seam before the translation

    def split(chunk: Any) -> tuple[Any, ...]:
        return tuple(piece for part in by_kind(chunk) for piece in one_call_each(part))

    _CombinedChunkSplitter._split_by_payload_kind = staticmethod(split)  # noqa: SLF001


def one_call_each(chunk: Any) -> tuple[Any, ...]:
    """Return a chunk as chunks with one call each; the same one when it has no more."""
    calls = getattr(chunk.choices[0].delta, "tool_calls", None) if len(chunk.choices) == 1 else None
    if not calls or len(calls) == 1:
        return (chunk,)
    pieces = tuple(copy.deepcopy(chunk, {id(calls): []}) for _ in calls)  # without a copy of all calls in each
    for piece, call in zip(pieces, calls, strict=True):
        piece.choices[0].delta.tool_calls = [call]
    return pieces


@functools.cache
def build_nothing_unread() -> None:
    """Let LiteLLM take the usage that a stream told, where nothing reads the whole answer that it builds from the chunks.

    1.106.2 builds one of each translated stream, and sends the client its usage: a third of what such a stream costs.
    """
    build = litellm.stream_chunk_builder

    def built(chunks: Any, *args: Any, **more: Any) -> Any:
        exchange = current.get()
        told = _told_usage(chunks) if exchange is not None and not exchange.booked else None
        return build(chunks, *args, **more) if told is None else ModelResponse(usage=told)

    litellm.stream_chunk_builder = built


def _told_usage(chunks: Any) -> Usage | None:
    """Return what the last chunk that says both counts says; None without one: LiteLLM estimates them then."""
    told = (getattr(chunk, "usage", None) for chunk in reversed(chunks or ()))
    return next((use for use in told if isinstance(use, Usage) and use.prompt_tokens and use.completion_tokens), None)


@functools.cache
def leave_chats_as_they_are() -> None:
    """Let the package ``openai`` send the messages that LiteLLM has made for it, as they are.

    It goes through every part of every message for names to change (2.x), and in a chat there are none: with a body of
    100,000 tokens that is a quarter of what the request costs.
    """

    async def given(data: Mapping[str, object], _: object) -> dict[str, object]:
        return {name: value for name, value in data.items() if not isinstance(value, NotGiven | Omit)}

    vars(completions)["async_maybe_transform"] = given


@functools.cache
def end_what_cannot_be_understood() -> None:
    """Let aiohttp, LiteLLM's HTTP client, tell the reader of an answer that what follows is no HTTP.

    Its parser (3.14.5) tells the connection alone and drops the answer: who reads that waits for ever, without a time-out.
    A reader that was woken by the same packet looks only at what there is to read, and waits again: so it is told afterwards.
    """
    fail = ResponseHandler.set_exception

    def set_exception(connection: ResponseHandler, error: BaseException, *cause: BaseException) -> None:
        answer = connection._payload  # noqa: SLF001 - no other way from the connection to its answer
        fail(connection, error, *cause)
        if isinstance(error, HttpProcessingError) and answer is not None and not answer.is_eof():
            told = ClientPayloadError(f"the answer cannot be understood: {error.message}")
            asyncio.get_running_loop().call_soon(answer.set_exception, told)

    ResponseHandler.set_exception = set_exception  # type: ignore[method-assign,assignment]


def keep_no_records(request: MutableMapping[str, Any]) -> None:
    """Take a stream's records away, as it begins: LiteLLM then neither assembles what was served nor reckons its cost."""
    records = request.pop("litellm_logging_obj", None)
    if isinstance(records, Logging):
        records.model_call_details["has_dispatched_final_stream_success"] = True
