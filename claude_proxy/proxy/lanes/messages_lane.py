"""A provider of Anthropic's format that is not Anthropic: the request made to fit, the response without foreign thinking."""

import functools
import uuid
from collections.abc import Mapping
from typing import Any

from claude_proxy import __version__
from claude_proxy.anthropic.errors import STATUS_OF_ERRORS, own_refusal
from claude_proxy.anthropic.messages import for_provider, readable_json
from claude_proxy.anthropic.sse import error_kind, events, json_object
from claude_proxy.anthropic.stream_message import body_of
from claude_proxy.anthropic.usage import usage_of
from claude_proxy.asgi import Headers
from claude_proxy.credentials.credential import is_claude_credential
from claude_proxy.providers import compatibility, request_fields, returned
from claude_proxy.providers.bounds import TooLarge
from claude_proxy.providers.call_ids import calls_in
from claude_proxy.providers.fetching import NO_HOSTS
from claude_proxy.providers.meter import Meter
from claude_proxy.providers.thinking import ThinkingFilter
from claude_proxy.proxy.lanes.attempt import MAX_ERROR_BYTES, NO_STREAMS, STREAM, Attempt, messages_url, relay
from claude_proxy.proxy.offload import offloaded
from claude_proxy.proxy.outcome import DONE, Outcome, failed
from claude_proxy.proxy.provider_errors import input_tokens, provider_error
from claude_proxy.proxy.relay import FailedStream
from claude_proxy.proxy.response import KEEPALIVE_SECONDS
from claude_proxy.upstream.client import (
    StreamedResponse,
    TimedOutError,
    UnreachableError,
    UnreadableError,
    UpstreamClient,
    UpstreamError,
)
from claude_proxy.upstream.response_bounds import CODINGS

# What Anthropic's API wants of a client that says nothing.
VERSION = "2023-06-01"


class MessagesLane:
    """One for the process."""

    def __init__(self, client: UpstreamClient, meter: Meter) -> None:
        self._client = client
        self._meter = meter

    async def attempt(self, attempt: Attempt) -> Outcome:
        """Ask the provider once."""
        deployment = attempt.deployment
        key = deployment.api_key.reveal() if deployment.api_key else ""
        if is_claude_credential(key):
            return failed(400, own_refusal(400, "A Claude credential does not go to a provider that is not Anthropic."))
        base = deployment.api_base or ""
        host = base.partition("://")[2].partition("/")[0]
        try:
            body = await offloaded(len(attempt.request.raw), fitted_body, attempt)
        except TooLarge as error:
            return failed(400, own_refusal(400, str(error)), final=True)
        try:
            response = await self._client.send(
                messages_url(base), _headers(attempt, key), body, read_seconds=attempt.read_seconds
            )
        except UpstreamError as error:
            return broken(host, error)
        try:
            return await self._passed(attempt, host, response)
        finally:
            response.close()

    async def _passed(self, attempt: Attempt, host: str, response: StreamedResponse) -> Outcome:
        if response.status >= 400:
            try:
                body = await response.read(cut_at=MAX_ERROR_BYTES)
            except UpstreamError:
                body = b""
            return self._refused(attempt, response.status, body, response.headers)
        if reason := response.rejection_reason:
            return failed(502, own_refusal(502, f"{host} {reason}", []))
        # Some providers do not say that what they send is a stream.
        streams = attempt.request.streams and response.media_type not in NO_STREAMS
        return await (self._stream if streams else self._whole)(attempt, host, response)

    async def _stream(self, attempt: Attempt, host: str, response: StreamedResponse) -> Outcome:
        outlet = attempt.outlet
        kind = response.header("content-type") if response.media_type == STREAM else f"{STREAM}; charset=utf-8"

        def failure(error: FailedStream | UpstreamError) -> Outcome:
            if isinstance(error, FailedStream):
                said = b"\n".join(events(error.body))[:MAX_ERROR_BYTES]
                return self._refused(attempt, STATUS_OF_ERRORS.get(error.kind, 500), said, response.headers)
            return broken(host, error, late=502)

        return await relay(
            attempt,
            response,
            ThinkingFilter(attempt.request.model, attempt.deployment.row, calls_of(attempt)),
            failure,
            begin=lambda: outlet.begin(response.status, [("content-type", kind)]),
            keepalive=KEEPALIVE_SECONDS,
            needs_event=True,
        )

    def _refused(self, attempt: Attempt, status: int, body: bytes, headers: Headers) -> Outcome:
        estimate = functools.partial(input_tokens, self._meter, attempt.request, attempt.deployment)
        return provider_error(status, body, headers, estimate=estimate, asked=attempt.request.max_tokens)

    async def _whole(self, attempt: Attempt, host: str, response: StreamedResponse) -> Outcome:
        try:
            content = await response.read()
        except UpstreamError as error:
            return broken(host, error)
        if response.media_type == STREAM:  # a provider may stream what was asked for as a whole
            content = await offloaded(len(content), body_of, content)
        said = await offloaded(len(content), json_object, content) or {}
        if kind := error_kind(said):
            return self._refused(attempt, STATUS_OF_ERRORS.get(kind, 500), content[:MAX_ERROR_BYTES], response.headers)
        if attempt.request.streams or "content" not in said:
            return failed(502, own_refusal(502, f"{host} answered with what is no message", []))
        attempt.journal.usage = usage_of(content)
        if attempt.heard is not None:  # LiteLLM sends it, after whatever looks at its responses
            attempt.heard.feed(content)
            return DONE
        clean = returned.returned_response(said, attempt.deployment.row, calls_of(attempt))
        message = clean | {"model": attempt.request.model, "id": clean.get("id") or f"msg_{uuid.uuid4().hex}"}
        body = readable_json(message)
        await attempt.outlet.begin(200, [("content-type", "application/json"), ("content-length", str(len(body)))])
        await attempt.outlet.end(body)
        return DONE


def calls_of(attempt: Attempt) -> frozenset[str]:
    """Return the ids of the calls that the conversation of an attempt has."""
    fields = attempt.request.body if attempt.fields is None else attempt.fields
    return calls_in(fields.get("messages"))


def fitted_body(attempt: Attempt) -> bytes:
    """Return the body that the provider understands. Raises ``TooLarge``.

    Half a character becomes a question mark: most providers refuse it.
    """
    request, deployment = attempt.request, attempt.deployment
    sent = for_provider(request.body) if attempt.fields is None else attempt.fields
    fields: dict[str, Any] = {name: value for name, value in sent.items() if name not in request_fields.FIELDS}
    fields |= {"model": deployment.model}
    fields |= request_fields.translated(sent, deployment.row, relayed=True, hosts=NO_HOSTS)
    fields |= {name: value for name, value in (deployment.defaults or {}).items() if name not in fields}
    fields |= deployment.thinking or {}
    return readable_json(fields)


def _headers(attempt: Attempt, key: str) -> Headers:
    """Return the headers for the provider: nothing of the client's but the version and the betas that the provider knows.

    The key goes in both headers: Kimi reads ``x-api-key``, OpenRouter ``Authorization``.
    """
    sent: Mapping[str, str] = {name.lower(): value for name, value in reversed(attempt.request.headers)}
    headers = {
        "accept": STREAM if attempt.request.streams else "application/json",
        "content-type": "application/json",
        "user-agent": f"claude-proxy/{__version__}",
        "anthropic-version": sent.get("anthropic-version", VERSION),
        "accept-encoding": CODINGS,
    }
    betas = ",".join(value for name, value in attempt.request.headers if name.lower() == "anthropic-beta")
    allowed = compatibility.allowed_betas(betas, attempt.deployment.row)
    if allowed:
        headers["anthropic-beta"] = ",".join(allowed)
    if key:
        headers |= {"x-api-key": key, "authorization": f"Bearer {key}"}
    headers |= {name.lower(): value for name, value in attempt.deployment.extra_headers}
    return [*headers.items()]


def broken(host: str, error: UpstreamError, late: int = 504) -> Outcome:
    """Return the outcome of a response that did not come, or not to its end; ``late`` is the status of a silence."""
    if isinstance(error, TimedOutError):
        return failed(late, own_refusal(late, f"{host} did not answer in time.", []))
    if isinstance(error, UnreachableError):
        return failed(502, own_refusal(502, f"{host} cannot be reached: {error}.", []))
    words = f"{host} {error}" if isinstance(error, UnreadableError) else f"{host} broke its response off ({error})"
    return failed(502, own_refusal(502, words, []))
