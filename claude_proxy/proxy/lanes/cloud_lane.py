"""The lane of a cloud's own clients: sends a client's bytes to Bedrock or Vertex AI with the operator's credential."""

import base64
import json
import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

from claude_proxy import __version__
from claude_proxy.anthropic.errors import STATUS_OF_ERRORS, Refused, own_refusal
from claude_proxy.anthropic.sse import events, json_object
from claude_proxy.anthropic.token_estimate import CHARACTERS_PER_TOKEN, input_tokens
from claude_proxy.anthropic.usage import usage_of
from claude_proxy.asgi import Headers
from claude_proxy.config.cloud_deployments import (
    bedrock_address,
    cloud_model,
    private_names,
    vertex_address,
    vertex_credentials,
    vertex_project,
)
from claude_proxy.config.deployments import Deployment, Lane
from claude_proxy.config.models import ActiveConfig
from claude_proxy.providers import cloud_errors
from claude_proxy.providers.cloud_routes import Action, Cloud, CloudCall
from claude_proxy.providers.event_stream import MEDIA_TYPE, Frame, FrameReader, NotAnEventStream, frame
from claude_proxy.proxy.lanes.attempt import READ_SECONDS, STREAM, Attempt, beginning, relay
from claude_proxy.proxy.lanes.messages_lane import broken
from claude_proxy.proxy.lanes.search_rounds import Passing
from claude_proxy.proxy.offload import offloaded
from claude_proxy.proxy.outcome import DONE, Outcome, failed
from claude_proxy.proxy.plan import Target
from claude_proxy.proxy.relay import FailedStream, top_level_members
from claude_proxy.proxy.response import ClientResponse
from claude_proxy.upstream.aws_signing import AwsCredentials, signed
from claude_proxy.upstream.client import BrokenOffError, StreamedResponse, UnreadableError, UpstreamClient, UpstreamError
from claude_proxy.upstream.cloud_credentials import CloudCredentialError
from claude_proxy.upstream.google_tokens import GoogleTokens
from claude_proxy.upstream.response_bounds import CODINGS

logger = logging.getLogger(__name__)

# Headers of the client that a cloud gets, as they came. Not those of AWS, which select a tier of service or guardrails.
FORWARDED = frozenset({"accept", "content-type", "anthropic-beta", "anthropic-version"})
# Headers of a response that the client gets.
RETURNED = frozenset({"content-type", "request-id", "x-amzn-requestid", "x-amzn-bedrock-content-type"})
RETURNED_PREFIXES = ("x-amzn-bedrock-input-token", "x-amzn-bedrock-output-token", "x-amzn-bedrock-cache-")
NO_CREDENTIAL = "The proxy has no usable credential for {}. Its operator can find the reason in the log."
TWO_MODELS = "model: should be in the body once"
# The fields of an estimated count, by cloud.
COUNT_FIELDS = {Cloud.BEDROCK: "inputTokens", Cloud.VERTEX: "input_tokens"}


class Sending(NamedTuple):
    """One attempt of a request to a cloud."""

    call: CloudCall
    attempt: Attempt

    @property
    def name(self) -> str:
        """The cloud's name in messages."""
        return self.call.cloud.value


class CloudLane:
    """One per process. ``environ`` has AWS's and Google's variables."""

    def __init__(self, client: UpstreamClient, config: ActiveConfig, environ: Mapping[str, str]) -> None:
        self._client = client
        self._config = config
        self._environ = environ
        self._aws = AwsCredentials(environ)
        self._google = GoogleTokens()

    async def serve(self, call: CloudCall, target: Target, outlet: ClientResponse) -> Outcome:
        """Try the deployments of a model, until one responds or the error is about the request itself.

        A count of tokens that no deployment makes is an estimate: Claude Code repeats a refused count as a billed request.
        """
        journal, request = outlet.journal, outlet.request
        outcome = Outcome()
        for one in target.in_order():
            journal.begin(one.provider, one.served, target.name, Lane.CLOUD)
            sending = Sending(call, Attempt(request, one, outlet, journal, self._patience(call, one)))
            outcome = await self._attempt(sending)
            journal.end(outcome.why)
            if outcome.refusal is not None or journal.error:
                journal.record_failed()
            if outcome.done or outcome.final:
                return outcome
        if call.action is Action.COUNT:
            return await self._estimated(call, outlet)
        return outcome

    def _patience(self, call: CloudCall, one: Deployment) -> float:
        routing = self._config.routing
        seconds = one.timeout or routing.timeout or READ_SECONDS
        return one.stream_timeout or routing.stream_timeout or seconds if call.action is Action.STREAM else seconds

    async def _attempt(self, sending: Sending) -> Outcome:
        attempt = sending.attempt
        try:
            body = await offloaded(len(attempt.request.raw), _body, sending)
            url, headers = await self._addressed(sending, body)
        except Refused as refused:
            return failed(refused.status, refused.refusal(), final=True)
        except CloudCredentialError as error:
            logger.warning("%s has no usable credential: %s", attempt.deployment.served, attempt.outlet.redact(str(error)))
            words = NO_CREDENTIAL.format(sending.name)
            return failed(502, own_refusal(502, words), cause="no usable credential")
        sent = attempt.journal.record_sent
        try:
            response = await self._client.send(url, headers, body, read_seconds=attempt.read_seconds, on_sent=sent)
        except UpstreamError as error:
            return broken(sending.name, error)
        try:
            return await self._passed(sending, response)
        finally:
            response.close()

    async def _addressed(self, sending: Sending, body: bytes) -> tuple[str, Headers]:
        """Return the URL and the headers with the operator's credential. Raises ``CloudCredentialError``."""
        call, one = sending.call, sending.attempt.deployment
        params, headers = one.params or {}, _headers(sending.attempt.request.headers, streams=call.action is Action.STREAM)
        headers += [(name.lower(), value) for name, value in one.extra_headers]
        if call.cloud is Cloud.VERTEX:
            token = await self._google.token(vertex_credentials(params, self._environ))
            project = vertex_project(params, self._environ) or token.project
            url = vertex_address(call, one, self._environ, project).url
            return url, [*headers, ("authorization", f"Bearer {token.token}")]
        url, region = bedrock_address(call, one, self._environ)
        if bearer := self._aws.bearer(params):
            return url, [*headers, ("authorization", f"Bearer {bearer}")]
        keys = await self._aws.keys(params, region)
        # Other headers need no signature, and botocore would change their white space.
        covered = [pair for pair in headers if pair[0] == "content-type"]
        own = await offloaded(len(body), signed, keys, url, region, covered, body)
        return url, [*(pair for pair in headers if pair[0] != "content-type"), *own]

    async def _passed(self, sending: Sending, response: StreamedResponse) -> Outcome:
        attempt, call = sending.attempt, sending.call
        attempt.journal.learn_request_id(response.first_headers)
        if response.status >= 400:
            return await self._refused(sending, response)
        if reason := response.rejection_reason:
            return failed(502, own_refusal(502, f"{sending.name} {reason}.", []))
        streams = response.media_type == (MEDIA_TYPE if call.cloud is Cloud.BEDROCK else STREAM)
        if call.action is Action.STREAM and call.cloud is Cloud.BEDROCK and not streams:
            return failed(502, own_refusal(502, f"{sending.name} responded without a stream.", []))
        return await (_stream if call.action is Action.STREAM and streams else _whole)(sending, response)

    async def _refused(self, sending: Sending, response: StreamedResponse) -> Outcome:
        """Return the outcome of an error; the operator's log gets the cloud's message."""
        attempt, status = sending.attempt, response.status
        one, body = attempt.deployment, await beginning(response)
        message = cloud_errors.cleaned(cloud_errors.message_of(status, body))
        logger.warning("%s responded with HTTP %d: %s", one.served, status, attempt.outlet.redact(message)[:500])
        if status in (401, 403):
            self._forget(sending)
        refusal = cloud_errors.refusal(sending.call.cloud, status, body, response.headers, private_names(one))
        return failed(refusal.status, refusal, final=status in cloud_errors.ABOUT_REQUEST)

    def _forget(self, sending: Sending) -> None:
        params = sending.attempt.deployment.params or {}
        if sending.call.cloud is Cloud.VERTEX:
            self._google.forget(vertex_credentials(params, self._environ))
        else:
            self._aws.forget(params, bedrock_address(sending.call, sending.attempt.deployment, self._environ).region)

    async def _estimated(self, call: CloudCall, outlet: ClientResponse) -> Outcome:
        tokens = await offloaded(len(outlet.request.raw), estimate, call, outlet.request.raw)
        body = json.dumps({COUNT_FIELDS[call.cloud]: tokens}).encode()
        await outlet.begin(200, [("content-type", "application/json"), ("content-length", str(len(body)))])
        await outlet.end(body)
        return DONE


class BedrockStream:
    """A stream of Bedrock, read as events of the Messages API, and sent in the frames that they came in.

    It is the reader of a relay and its ``StreamEditor``. Three rules:
      1. a frame leaves in the bytes it came in, as soon as it is whole;
      2. only an exception whose message names an account is written again;
      3. a stream that ends inside a frame has broken off.
    """

    def __init__(self, response: StreamedResponse, private: tuple[str, ...]) -> None:
        self._response = response
        self._private = private
        self._reader = FrameReader()
        self._ready = bytearray()

    async def piece(self) -> bytes:
        """Return the events of the frames that have arrived, empty at the end. Raises ``UpstreamError``."""
        while data := await self._response.piece():
            found = bytearray()
            try:
                for one in self._reader.feed(data):
                    known = self._cleaned(one)
                    self._ready += known.raw
                    found += known.event
            except NotAnEventStream as error:
                raise UnreadableError(f"sent a stream that cannot be read ({error})") from None
            if found:
                return bytes(found)
        if self._reader.finish():
            raise BrokenOffError("the stream ended inside a frame")
        return b""

    def feed(self, _: bytes) -> bytes:
        """Return the frames of the events that were read."""
        ready, self._ready = bytes(self._ready), bytearray()
        return ready

    def finish(self) -> bytes:
        return self.feed(b"")

    def _cleaned(self, one: Frame) -> Frame:
        if not one.exception:
            return one
        words = cloud_errors.cleaned(one.message, self._private)
        if words == one.message:
            return one
        payload = json.dumps({"message": words}).encode()
        headers = {name: words if name == ":error-message" else value for name, value in one.headers.items()}
        return Frame(frame(headers, payload), headers, payload)


async def _stream(sending: Sending, response: StreamedResponse) -> Outcome:
    attempt = sending.attempt

    def failure(error: FailedStream | UpstreamError) -> Outcome:
        if not isinstance(error, FailedStream):
            return broken(sending.name, error, late=502)
        status = STATUS_OF_ERRORS.get(error.kind, 500)
        body = next(iter(events(error.body)), b"")
        refusal = cloud_errors.refusal(sending.call.cloud, status, body, response.headers, private_names(attempt.deployment))
        return failed(refusal.status, refusal, final=status in cloud_errors.ABOUT_REQUEST)

    async def begin() -> None:
        await attempt.outlet.begin(response.status, _returned(response), of_claude=True)

    if sending.call.cloud is Cloud.BEDROCK:
        frames = BedrockStream(response, private_names(attempt.deployment))
        return await relay(attempt, frames, frames, failure, begin=begin, needs_event=True, is_encoded=True)
    return await relay(attempt, response, Passing(), failure, begin=begin, needs_event=True)


async def _whole(sending: Sending, response: StreamedResponse) -> Outcome:
    attempt = sending.attempt
    try:
        content = await response.read()
    except UpstreamError as error:
        return broken(sending.name, error)
    if sending.call.action is not Action.COUNT:
        attempt.journal.usage = usage_of(content)
    headers = [*_returned(response), ("content-length", str(len(content)))]
    await attempt.outlet.begin(response.status, headers, of_claude=True)
    await attempt.outlet.end(content)
    return DONE


def _returned(response: StreamedResponse) -> list[tuple[str, str]]:
    return [pair for pair in response.headers if pair[0] in RETURNED or pair[0].startswith(RETURNED_PREFIXES)]


def _headers(sent: Headers, *, streams: bool) -> list[tuple[str, str]]:
    """Return the headers for a cloud, without a credential; betas as they came, in each header that had them."""
    kept = [(name.lower(), value) for name, value in sent if name.lower() in FORWARDED]
    # A stream that is not compressed passes at once.
    return [*kept, ("user-agent", f"claude-proxy/{__version__}"), ("accept-encoding", "identity" if streams else CODINGS)]


def _body(sending: Sending) -> bytes:
    """Return the client's body; for a count on Vertex AI with the cloud's id as its model. Raises ``Refused``."""
    raw, call = sending.attempt.request.raw, sending.call
    if call.cloud is not Cloud.VERTEX or call.action is not Action.COUNT:
        return raw
    try:
        text = raw.decode()
        found = [(value, span) for name, value, span in top_level_members(text) if name == "model"]
    except (ValueError, RecursionError):
        raise Refused(400, "The body is not a JSON object.") from None
    if len(found) != 1:
        raise Refused(400, TWO_MODELS)
    value, (start, end) = found[0]
    model = cloud_model(Cloud.VERTEX, sending.attempt.deployment)
    return raw if value == model else f"{text[:start]}{json.dumps(model)}{text[end:]}".encode()


def estimate(call: CloudCall, raw: bytes) -> int:
    """Return the estimated input tokens of a count; a body of Bedrock holds the request in base64."""
    fields: Mapping[str, Any] | None = json_object(raw)
    if call.cloud is Cloud.BEDROCK:
        try:
            fields = json_object(base64.b64decode((fields or {})["input"]["invokeModel"]["body"], validate=True))
        except (KeyError, TypeError, ValueError):
            fields = None
    if fields is None:
        return max(1, len(raw) // CHARACTERS_PER_TOKEN)
    return input_tokens(fields, lambda text: len(text) // CHARACTERS_PER_TOKEN)
