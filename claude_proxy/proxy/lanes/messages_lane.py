"""The lane to other providers of the Messages API: adapts the request, and removes foreign thinking from the response."""

import functools
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from claude_proxy import __version__
from claude_proxy.anthropic.errors import STATUS_OF_ERRORS, own_refusal
from claude_proxy.anthropic.messages import readable_json
from claude_proxy.anthropic.sse import error_kind, events, json_object
from claude_proxy.anthropic.stream_message import body_of
from claude_proxy.anthropic.stream_writer import StreamWriter
from claude_proxy.anthropic.usage import usage_of
from claude_proxy.asgi import Headers
from claude_proxy.credentials.credential import is_claude_credential
from claude_proxy.providers import compatibility, request_fields, returned
from claude_proxy.providers.bounds import TooLarge
from claude_proxy.providers.call_ids import calls_in
from claude_proxy.providers.fetching import NO_HOSTS
from claude_proxy.providers.messages_round import MessagesRound
from claude_proxy.providers.meter import Meter
from claude_proxy.providers.search_stream import Round, SearchStream
from claude_proxy.providers.search_tool import SearchTool, with_search_tool, with_search_turns
from claude_proxy.providers.thinking import ThinkingFilter
from claude_proxy.proxy.lanes.attempt import (
    MAX_ERROR_BYTES,
    NO_STREAMS,
    STREAM,
    Attempt,
    Failure,
    beginning,
    host_of,
    key_of,
    messages_url,
    relay,
    sent_fields,
)
from claude_proxy.proxy.lanes.search_rounds import Passing, RoundCalls, RoundRefused, SearchRounds
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
from claude_proxy.upstream.search_client import SearchClient

# The API version for a client that sends none.
VERSION = "2023-06-01"


class MessagesLane:
    """One per process."""

    def __init__(self, client: UpstreamClient, meter: Meter, web: SearchClient | None = None) -> None:
        """``web`` searches for models without a web search of their own."""
        self._client = client
        self._meter = meter
        self._web = web

    async def attempt(self, attempt: Attempt) -> Outcome:
        """Send one request to the provider, and another one after each search that the model requests."""
        if is_claude_credential(key_of(attempt.deployment)):
            return failed(400, own_refusal(400, "A Claude credential is never sent to a provider other than Anthropic."))
        host = host_of(attempt.deployment)
        offer = None
        if self._web is not None and self._web.is_ready:
            offer = await offloaded(
                len(attempt.request.raw), lambda: with_search_tool(sent_fields(attempt), attempt.deployment.row)
            )
        if self._web is not None and offer is not None:
            return await self._searching(attempt, host, self._web, *offer)
        try:
            body = await offloaded(len(attempt.request.raw), fitted_body, attempt)
        except TooLarge as error:
            return failed(400, own_refusal(400, str(error)), final=True)
        try:
            response = await self._send(attempt, body)
        except UpstreamError as error:
            return broken(host, error)
        try:
            return await self._passed(attempt, host, response)
        finally:
            response.close()

    async def _send(self, attempt: Attempt, body: bytes) -> StreamedResponse:
        url, headers = messages_url(attempt.deployment.api_base or ""), _headers(attempt, key_of(attempt.deployment))
        sent = attempt.journal.record_sent
        return await self._client.send(url, headers, body, read_seconds=attempt.read_seconds, on_sent=sent)

    async def _passed(self, attempt: Attempt, host: str, response: StreamedResponse) -> Outcome:
        if problem := await self._problem(attempt, host, response):
            return problem
        # Some providers do not mark a stream as one.
        streams = attempt.request.streams and response.media_type not in NO_STREAMS
        return await (self._stream if streams else self._whole)(attempt, host, response)

    async def _problem(self, attempt: Attempt, host: str, response: StreamedResponse) -> Outcome | None:
        """Return the outcome of an error response, or of one that cannot be forwarded; None for a good response."""
        attempt.journal.learn_request_id(response.first_headers)
        if response.status >= 400:
            return self._refused(attempt, response.status, await beginning(response), response.headers)
        reason = response.rejection_reason
        return failed(502, own_refusal(502, f"{host} {reason}", [])) if reason else None

    async def _stream(self, attempt: Attempt, host: str, response: StreamedResponse) -> Outcome:
        outlet = attempt.outlet
        kind = response.header("content-type") if response.media_type == STREAM else f"{STREAM}; charset=utf-8"
        return await relay(
            attempt,
            response,
            ThinkingFilter(attempt.request.model, attempt.deployment.row, calls_of(attempt)),
            self._failure(attempt, host, response.headers),
            begin=lambda: outlet.begin(response.status, [("content-type", kind)]),
            keepalive=KEEPALIVE_SECONDS,
            needs_event=True,
        )

    def _failure(self, attempt: Attempt, host: str, headers: Headers) -> Failure:
        def failure(error: FailedStream | UpstreamError) -> Outcome:
            if isinstance(error, FailedStream):
                parsed = b"\n".join(events(error.body))[:MAX_ERROR_BYTES]
                return self._refused(attempt, STATUS_OF_ERRORS.get(error.kind, 500), parsed, headers)
            return broken(host, error, late=502)

        return failure

    async def _searching(
        self, attempt: Attempt, host: str, web: SearchClient, fields: dict[str, Any], tool: SearchTool
    ) -> Outcome:
        """Offer the proxy's tool instead of a web search, and send another request after each call of it."""
        request, deployment = attempt.request, attempt.deployment
        writer = StreamWriter(request.model)

        async def again(turns: Sequence[dict[str, Any]]) -> tuple[StreamedResponse, Round]:
            sent = with_search_turns(fields, turns)
            try:
                body = await offloaded(len(request.raw), fitted_body, attempt, sent)
            except TooLarge as error:
                raise RoundRefused(failed(400, own_refusal(400, str(error)), final=True)) from None
            response = await self._send(attempt, body)
            if problem := await self._problem(attempt, host, response):
                response.close()
                raise RoundRefused(problem)
            estimate = functools.partial(input_tokens, self._meter, request, deployment)
            return response, MessagesRound(writer, deployment.row, calls_in(sent.get("messages")), estimate)

        try:
            response, first = await again(())
        except RoundRefused as refused:
            return refused.outcome
        except UpstreamError as error:
            return broken(host, error)
        calls = RoundCalls(again, lambda query: web.search(query, tool))
        rounds = SearchRounds(SearchStream(writer, tool, first), response, calls, attempt.outlet, streams=request.streams)
        try:
            return await (self._relayed if request.streams else self._collected)(attempt, host, rounds, response.headers)
        finally:
            await rounds.close()

    async def _relayed(self, attempt: Attempt, host: str, rounds: SearchRounds, headers: Headers) -> Outcome:
        attempt.journal.reported = lambda: rounds.stream.usage
        try:
            return await relay(
                attempt,
                rounds,
                Passing(),
                self._failure(attempt, host, headers),
                begin=lambda: attempt.outlet.begin(200, [("content-type", f"{STREAM}; charset=utf-8")]),
                keepalive=KEEPALIVE_SECONDS,
            )
        finally:
            if attempt.outlet.begun:  # of all rounds, and without the searches, which the provider has not made
                attempt.journal.usage = rounds.stream.usage

    async def _collected(self, attempt: Attempt, host: str, rounds: SearchRounds, headers: Headers) -> Outcome:
        try:
            parsed = await rounds.collected()
        except RoundRefused as refused:
            return refused.outcome
        except UpstreamError as error:
            return broken(host, error)
        body = readable_json(parsed)
        if kind := error_kind(parsed):
            return self._refused(attempt, STATUS_OF_ERRORS.get(kind, 500), body[:MAX_ERROR_BYTES], headers)
        attempt.journal.usage = rounds.stream.usage
        if attempt.capture is not None:
            attempt.capture.feed(body)
            return DONE
        await attempt.outlet.begin(200, [("content-type", "application/json"), ("content-length", str(len(body)))])
        await attempt.outlet.end(body)
        return DONE

    def _refused(self, attempt: Attempt, status: int, body: bytes, headers: Headers) -> Outcome:
        estimate = functools.partial(input_tokens, self._meter, attempt.request, attempt.deployment)
        return provider_error(status, body, headers, estimate=estimate, max_tokens=attempt.request.max_tokens)

    async def _whole(self, attempt: Attempt, host: str, response: StreamedResponse) -> Outcome:
        try:
            content = await response.read()
        except UpstreamError as error:
            return broken(host, error)
        if response.media_type == STREAM:  # some providers stream although no stream was requested
            content = await offloaded(len(content), body_of, content)
        parsed = await offloaded(len(content), json_object, content) or {}
        if kind := error_kind(parsed):
            return self._refused(attempt, STATUS_OF_ERRORS.get(kind, 500), content[:MAX_ERROR_BYTES], response.headers)
        if attempt.request.streams or "content" not in parsed:
            return failed(502, own_refusal(502, f"{host} sent a response that is not a message", []))
        attempt.journal.usage = usage_of(content)
        if attempt.capture is not None:  # LiteLLM sends the response, after its callbacks
            attempt.capture.feed(content)
            return DONE
        clean = returned.returned_response(parsed, attempt.deployment.row, calls_of(attempt))
        message = clean | {"model": attempt.request.model, "id": clean.get("id") or f"msg_{uuid.uuid4().hex}"}
        body = readable_json(message)
        await attempt.outlet.begin(200, [("content-type", "application/json"), ("content-length", str(len(body)))])
        await attempt.outlet.end(body)
        return DONE


def calls_of(attempt: Attempt) -> frozenset[str]:
    """Return the ids of the tool calls in the conversation."""
    fields = attempt.request.body if attempt.fields is None else attempt.fields
    return calls_in(fields.get("messages"))


def fitted_body(attempt: Attempt, sent: Mapping[str, Any] | None = None) -> bytes:
    """Return the body for the provider, from the client's request or from ``sent``. Raises ``TooLarge``.

    An unpaired surrogate becomes a question mark, because most providers reject it.
    """
    deployment = attempt.deployment
    sent = sent_fields(attempt) if sent is None else sent
    fields: dict[str, Any] = {name: value for name, value in sent.items() if name not in request_fields.FIELDS}
    fields |= {"model": deployment.model}
    fields |= request_fields.translated(sent, deployment.row, relayed=True, hosts=NO_HOSTS)
    fields |= {name: value for name, value in (deployment.defaults or {}).items() if name not in fields}
    fields |= deployment.thinking or {}
    return readable_json(fields)


def _headers(attempt: Attempt, key: str) -> Headers:
    """Return the headers for the provider; from the client only the version and the betas that the provider supports.

    The key is sent in two headers: Kimi reads ``x-api-key``, OpenRouter ``Authorization``.
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
    """Return the outcome of a missing or incomplete response; ``late`` is the status for a timeout."""
    if isinstance(error, TimedOutError):
        return failed(late, own_refusal(late, f"{host} did not respond in time.", []), cause="no response in time")
    if isinstance(error, UnreachableError):
        return failed(502, own_refusal(502, f"{host} cannot be reached: {error}.", []), cause=f"cannot be reached: {error}")
    words = f"{host} {error}" if isinstance(error, UnreadableError) else f"{host} broke off its response ({error})"
    return failed(502, own_refusal(502, words, []))
