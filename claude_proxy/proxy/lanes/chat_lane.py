"""The lane to providers of chat completions: translates the request, and the response back to a message."""

import functools
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from claude_proxy import __version__
from claude_proxy.anthropic.errors import STATUS_OF_ERRORS, error_body, error_message, own_refusal
from claude_proxy.anthropic.messages import readable_json, to_json
from claude_proxy.anthropic.search_blocks import UNAVAILABLE, Page
from claude_proxy.anthropic.sse import error_kind, event_data, json_object
from claude_proxy.anthropic.stream_message import message_of as stream_message
from claude_proxy.anthropic.stream_writer import StreamWriter, empty_message
from claude_proxy.anthropic.token_estimate import CHARACTERS_PER_TOKEN
from claude_proxy.anthropic.usage import Usage, usage_from
from claude_proxy.asgi import Headers
from claude_proxy.config.deployments import Deployment
from claude_proxy.credentials.credential import is_claude_credential
from claude_proxy.openai.chat_request import chat_body
from claude_proxy.openai.chat_response import NoMessage, message_of
from claude_proxy.openai.chat_round import ChatRound
from claude_proxy.openai.chat_stream import ChatStream, RequestContext
from claude_proxy.openai.tool_names import names_by_sent
from claude_proxy.providers import request_fields
from claude_proxy.providers.bounds import TooLarge
from claude_proxy.providers.call_ids import calls_in
from claude_proxy.providers.fetching import FetchHosts
from claude_proxy.providers.meter import Meter
from claude_proxy.providers.overflow import has_no_room
from claude_proxy.providers.search_stream import Round, SearchStream
from claude_proxy.providers.search_tool import SearchTool, with_search_tool, with_search_turns
from claude_proxy.proxy.lanes.attempt import NO_STREAMS, STREAM, Attempt, beginning, host_of, key_of, relay, sent_fields
from claude_proxy.proxy.lanes.messages_lane import broken
from claude_proxy.proxy.lanes.search_rounds import Passing, RoundCalls, RoundRefused, SearchRounds
from claude_proxy.proxy.offload import offloaded
from claude_proxy.proxy.outcome import DONE, Outcome, failed
from claude_proxy.proxy.provider_errors import TOO_LONG, input_tokens, overflow_of, provider_error
from claude_proxy.proxy.relay import FailedStream
from claude_proxy.proxy.response import KEEPALIVE_SECONDS
from claude_proxy.upstream.client import StreamedResponse, UpstreamClient, UpstreamError
from claude_proxy.upstream.response_bounds import CODINGS
from claude_proxy.upstream.search_client import SearchClient

logger = logging.getLogger(__name__)

PATH = "/chat/completions"
# The maximum number of learned context windows, by deployment; a provider's error contains the size of its window.
MAX_WINDOWS = 1000
# The share of a learned window that stays free because estimates are inexact, and the minimum for a response, in tokens.
SPARE = 0.05
LEAST_OUTPUT = 256
Turns = Sequence[dict[str, Any]]


class Endpoint(Protocol):
    """Where a chat completion is requested. ``send`` raises ``UpstreamError``."""

    async def send(self, attempt: Attempt, raw: bytes) -> StreamedResponse: ...


class HttpEndpoint:
    """The deployment's own URL, called with the proxy's HTTP client."""

    def __init__(self, client: UpstreamClient) -> None:
        self._client = client

    async def send(self, attempt: Attempt, raw: bytes) -> StreamedResponse:
        url, headers = address(attempt.deployment), _headers(attempt, key_of(attempt.deployment))
        sent = attempt.journal.record_sent
        return await self._client.send(url, headers, raw, read_seconds=attempt.read_seconds, on_sent=sent)


class ChatLane:
    """One per process and kind of endpoint. ``web`` searches for models without a web search of their own."""

    def __init__(
        self, endpoint: Endpoint, meter: Meter, hosts: Callable[[], FetchHosts], web: SearchClient | None = None
    ) -> None:
        self._endpoint = endpoint
        self._meter = meter
        self._hosts = hosts
        self._web = web
        self._windows: OrderedDict[str, int] = OrderedDict()

    async def attempt(self, attempt: Attempt) -> Outcome:
        """Send one request to the provider, and another one after each search that the model requests."""
        if is_claude_credential(key_of(attempt.deployment)):
            return failed(400, own_refusal(400, "A Claude credential is never sent to a provider other than Anthropic."))
        try:
            raw, context, max_tokens = await self.translated(attempt)
        except TooLarge as error:
            return failed(400, own_refusal(400, str(error)), final=True)
        call = _Call(self, attempt, context, max_tokens)
        try:
            response = await self.send(attempt, raw)
        except UpstreamError as error:
            return broken(call.host, error)
        try:
            return await call.passed(response)
        finally:
            response.close()

    async def send(self, attempt: Attempt, raw: bytes) -> StreamedResponse:
        """Send a request to the provider. Raises ``UpstreamError``."""
        return await self._endpoint.send(attempt, raw)

    async def search(self, query: str, tool: SearchTool) -> list[Page] | str:
        """Return web search results, or an error code."""
        return UNAVAILABLE if self._web is None else await self._web.search(query, tool)

    async def translated(self, attempt: Attempt, turns: Turns = ()) -> tuple[bytes, RequestContext, int | None]:
        """Return the provider's request, the data for translating its response, and the maximum length of the response.

        ``turns`` are those of the searches so far, after the client's. Raises ``TooLarge``.
        """
        size = len(attempt.request.raw)
        body, context = await offloaded(size, self._translated, attempt, turns)
        return await offloaded(size, readable_json, body), context, body.get(attempt.deployment.row.max_tokens)

    def _translated(self, attempt: Attempt, turns: Turns) -> tuple[dict[str, Any], RequestContext]:
        request, deployment = attempt.request, attempt.deployment
        sent: Mapping[str, Any] = sent_fields(attempt)
        row = deployment.row
        offer = with_search_tool(sent, row) if turns or (self._web is not None and self._web.is_ready) else None
        if offer is not None:
            sent = with_search_turns(offer[0], turns)
        fitted = request_fields.translated(sent, row, hosts=self._hosts())
        body = chat_body({**(deployment.defaults or {}), **sent}, fitted, row, deployment.model)
        body |= {name: value for name, value in (deployment.extra or {}).items() if value is not None}
        if row.prompt_cache_key and (session := request.named_session):
            body.setdefault("prompt_cache_key", session)
        tools = fitted.get("tools") or ()
        more = len(to_json(turns)) // CHARACTERS_PER_TOKEN if turns else 0
        context = RequestContext(
            request.model,
            row,
            lambda: self.input_tokens(attempt) + more,
            guess=lambda: self._meter.guess(deployment.served, request.sent(row)) + more,
            ids=calls_in(sent.get("messages")),
            names=names_by_sent([str(tool.get("name")) for tool in tools]),
            lists_sources="response_format" not in body,
            search=offer[1] if offer else None,
        )
        self._fit(attempt, body, context.input_tokens)
        return body, context

    def _fit(self, attempt: Attempt, body: dict[str, Any], input_tokens: Callable[[], int]) -> None:
        """Lower a request's ``max_tokens`` if the size of the model's context window is known."""
        served, field = attempt.deployment.served, attempt.deployment.row.max_tokens
        window, requested = self._windows.get(served), body.get(field)
        if window is None or not isinstance(requested, int):
            return
        room = window - round((1 + SPARE) * input_tokens())
        if LEAST_OUTPUT <= room < requested:
            body[field] = room
            logger.info(
                "%s has a context window of %d tokens: lowered max_tokens from %d to %d", served, window, requested, room
            )

    def input_tokens(self, attempt: Attempt) -> int:
        """Return the estimated number of input tokens of a request at its provider."""
        return input_tokens(self._meter, attempt.request, attempt.deployment)

    def learn(self, attempt: Attempt, counted: Usage | None) -> None:
        """Record the provider's token count for later estimates."""
        if counted is not None:
            tokens = counted.input + counted.cache_read + counted.cache_write
            self._meter.learn(attempt.deployment.served, attempt.request.sent(attempt.deployment.row), tokens)

    def learn_window(self, served: str, window: int) -> None:
        """Record the size of a model's context window."""
        self._windows.pop(served, None)
        self._windows[served] = window
        if len(self._windows) > MAX_WINDOWS:
            self._windows.popitem(last=False)


class _Call:
    """One request in progress, and the handling of its response."""

    def __init__(self, lane: ChatLane, attempt: Attempt, context: RequestContext, max_tokens: int | None) -> None:
        self._lane = lane
        self._attempt = attempt
        self._context = context
        self._max_tokens = max_tokens
        self.host = host_of(attempt.deployment)

    async def passed(self, response: StreamedResponse) -> Outcome:
        """Send the provider's response to the client."""
        self._attempt.journal.learn_request_id(response.first_headers)
        if response.status >= 400:
            return await self._refused(response.status, await beginning(response), response.headers)
        if reason := response.rejection_reason:
            return failed(502, own_refusal(502, f"{self.host} {reason}", []))
        streams = self._attempt.request.streams and response.media_type not in NO_STREAMS
        return await (self._stream if streams else self._whole)(response)

    async def _stream(self, response: StreamedResponse) -> Outcome:
        attempt, outlet = self._attempt, self._attempt.outlet
        rounds = self._rounds(response)
        stream = rounds.stream if rounds else ChatStream(self._context)
        attempt.journal.reported = lambda: stream.usage

        def failure(error: FailedStream | UpstreamError) -> Outcome:
            if isinstance(error, FailedStream):
                return self._error(STATUS_OF_ERRORS.get(error.kind, 502), event_data(error.body), response.headers)
            return broken(self.host, error, late=502)

        try:
            outcome = await relay(
                attempt,
                rounds or response,
                Passing(),
                failure,
                begin=lambda: outlet.begin(200, [("content-type", f"{STREAM}; charset=utf-8")]),
                keepalive=KEEPALIVE_SECONDS,
                translator=None if rounds else stream,
            )
        finally:
            if outlet.begun:
                # With the service tier and the reported price, which are no part of the translation.
                attempt.journal.usage = stream.usage
            if rounds:
                await rounds.close()
        self._lane.learn(attempt, stream.counted)
        return outcome

    def _rounds(self, response: StreamedResponse) -> SearchRounds | None:
        """Return the rounds of a request with a search by the proxy; None for any other request."""
        context, attempt = self._context, self._attempt
        if (tool := context.search) is None:
            return None
        writer = StreamWriter(context.model)

        async def again(turns: Turns) -> tuple[StreamedResponse, Round]:
            following, context = await self._again(turns)
            return following, ChatRound(context, writer)

        stream = SearchStream(writer, tool, ChatRound(context, writer))
        calls = RoundCalls(again, lambda query: self._lane.search(query, tool))
        return SearchRounds(stream, response, calls, attempt.outlet, streams=attempt.request.streams)

    async def _again(self, turns: Turns) -> tuple[StreamedResponse, RequestContext]:
        """Send a request with more turns. Raises ``RoundRefused`` and ``UpstreamError``."""
        try:
            raw, context, _ = await self._lane.translated(self._attempt, turns)
        except TooLarge as error:
            raise RoundRefused(failed(400, own_refusal(400, str(error)), final=True)) from None
        response = await self._lane.send(self._attempt, raw)
        problem = None
        if response.status >= 400:
            problem = self._error(response.status, await beginning(response), response.headers)
        elif reason := response.rejection_reason:
            problem = failed(502, own_refusal(502, f"{self.host} {reason}", []))
        if problem is not None:
            response.close()
            raise RoundRefused(problem)
        return response, context

    async def _whole(self, response: StreamedResponse) -> Outcome:
        attempt = self._attempt
        if not attempt.request.streams and (rounds := self._rounds(response)):
            return await self._collected(rounds, response.headers)
        try:
            content = await response.read()
        except UpstreamError as error:
            return broken(self.host, error)
        if response.media_type == STREAM:  # some providers stream although no stream was requested
            return await self._unasked(content, response.headers)
        parsed = await offloaded(len(content), json_object, content) or {}
        try:
            message, counted = await offloaded(len(content), message_of, parsed, self._context)
        except NoMessage as error:
            status = STATUS_OF_ERRORS.get(error.kind, 502)
            body = to_json(error_body(error.kind, f"{self.host}: {error}"))
            return self._error(status, body, response.headers)
        if attempt.request.streams:
            return failed(502, own_refusal(502, f"{self.host} sent a response that is not a stream", []))
        self._lane.learn(attempt, counted)
        return await self._send(message, counted)

    async def _collected(self, rounds: SearchRounds, headers: Headers) -> Outcome:
        """Respond with the message of several rounds, once it is complete."""
        try:
            parsed = await rounds.collected()
        except UpstreamError as error:
            return broken(self.host, error)
        except RoundRefused as refused:
            return refused.outcome
        finally:
            await rounds.close()
        return await self._of_stream(parsed, rounds.stream.counted, rounds.stream.usage, headers)

    async def _unasked(self, content: bytes, headers: Headers) -> Outcome:
        """Respond with the message that an unrequested stream contains."""
        stream = ChatStream(self._context)
        parsed = await offloaded(len(content), lambda: stream_message(stream.feed(content) + stream.finish())) or {}
        return await self._of_stream(parsed, stream.counted, stream.usage, headers)

    async def _of_stream(self, parsed: dict[str, Any], counted: Usage | None, usage: Usage, headers: Headers) -> Outcome:
        if kind := error_kind(parsed):
            return self._error(STATUS_OF_ERRORS.get(kind, 502), to_json(parsed), headers)
        self._lane.learn(self._attempt, counted)
        return await self._send(parsed, usage)

    async def _send(self, message: dict[str, Any], usage: Usage | None = None) -> Outcome:
        attempt, outlet = self._attempt, self._attempt.outlet
        attempt.journal.usage = usage or usage_from(message["usage"])
        body = to_json(message)
        if attempt.capture is not None:
            attempt.capture.feed(body)
            return DONE
        await outlet.begin(200, [("content-type", "application/json"), ("content-length", str(len(body)))])
        await outlet.end(body)
        return DONE

    async def _refused(self, status: int, body: bytes, headers: Headers) -> Outcome:
        """Return the outcome of a provider's error, or the response that Anthropic would have sent."""
        if status in TOO_LONG and has_no_room(error_message(body, status)):
            return await self._cut_short()
        return self._error(status, body, headers)

    def _error(self, status: int, body: bytes, headers: Headers) -> Outcome:
        """Return the outcome of an error, and learn the context window from it."""
        attempt = self._attempt
        found = overflow_of(status, body)
        if found is not None and found.window is not None:
            self._lane.learn_window(attempt.deployment.served, found.window)
        estimate = functools.partial(self._lane.input_tokens, attempt)
        return provider_error(status, body, headers, estimate=estimate, max_tokens=self._max_tokens)

    async def _cut_short(self) -> Outcome:
        """Respond like Anthropic if no token fits into the window: with a message cut at its start."""
        attempt, outlet = self._attempt, self._attempt.outlet
        usage = Usage(self._context.input_tokens(), 1)
        if not attempt.request.streams:
            message = empty_message(self._context.model, usage) | {"stop_reason": "max_tokens"}
            return await self._send(message)
        writer = StreamWriter(self._context.model)
        events = writer.start(usage.input) + writer.end("max_tokens", None, usage)
        if attempt.capture is not None:
            attempt.capture.feed(events)
        attempt.journal.usage = usage
        await outlet.begin(200, [("content-type", f"{STREAM}; charset=utf-8")])
        await outlet.end(events)
        return DONE


def address(deployment: Deployment) -> str:
    """Return the URL of a deployment's chat completions."""
    base = (deployment.api_base or "").rstrip("/")
    path = base if base.endswith(PATH) else f"{base}{PATH}"
    return f"{path}?api-version={deployment.api_version}" if deployment.api_version else path


def _headers(attempt: Attempt, key: str) -> Headers:
    """Return the headers for the provider: none of the client's, and the key in the header that the provider reads."""
    deployment = attempt.deployment
    headers = {
        "accept": STREAM if attempt.request.streams else "application/json",
        "content-type": "application/json",
        "user-agent": f"claude-proxy/{__version__}",
        "accept-encoding": CODINGS,
    }
    if key:
        headers |= {"api-key": key} if deployment.key_header == "api-key" else {"authorization": f"Bearer {key}"}
    headers |= {name.lower(): value for name, value in deployment.extra_headers}
    return [*headers.items()]
