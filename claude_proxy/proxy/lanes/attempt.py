"""What all lanes share: the data of one attempt, and the relay of a stream to its end."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple, Protocol

from claude_proxy.anthropic.errors import STATUS_OF_ERRORS, Refusal
from claude_proxy.anthropic.messages import for_provider
from claude_proxy.asgi import Headers
from claude_proxy.config.deployments import Deployment
from claude_proxy.providers.returned import BROKEN_OFF
from claude_proxy.proxy.journal import Journal
from claude_proxy.proxy.outcome import DONE, Outcome, failed
from claude_proxy.proxy.relay import FailedStream, Read, StreamCapture, StreamEditor, relayed
from claude_proxy.proxy.request import Request
from claude_proxy.proxy.response import ClientResponse
from claude_proxy.upstream.client import StreamedResponse, UnreadableError, UpstreamError

logger = logging.getLogger(__name__)

# Headers about a connection or encoding that the client does not use, and headers that concern only Anthropic's host.
NOT_REPLAYED = frozenset(
    {
        "alt-svc", "connection", "content-encoding", "content-length", "date", "keep-alive", "location", "refresh", "server",
        "set-cookie", "strict-transport-security", "trailer", "transfer-encoding", "upgrade",
    }
)  # fmt: skip
STREAM = "text/event-stream"
# Media types that are not a stream.
NO_STREAMS = ("application/json", "text/html")
# How much of another provider's error is read. LiteLLM 1.106.2 searches it for secrets repeatedly, in the event loop: a body
# of 10 MB would block the process for minutes.
MAX_ERROR_BYTES = 8 * 1024
# The maximum silence of an upstream, in seconds, if neither the deployment nor the configuration sets one.
READ_SECONDS = 600.0


class Attempt(NamedTuple):
    """One attempt at one deployment.

    For an attempt that LiteLLM has started, ``capture`` keeps a copy of the response for LiteLLM, and ``fields`` is LiteLLM's
    version of the request, for a provider other than Claude.
    """

    request: Request
    deployment: Deployment
    outlet: ClientResponse
    journal: Journal
    read_seconds: float = READ_SECONDS
    capture: StreamCapture | None = None
    fields: Mapping[str, Any] | None = None


class Translator(Protocol):
    """Converts a stream to Messages events: ``feed`` every chunk, then ``finish`` once; ``fail`` ends it with an error."""

    def feed(self, chunk: bytes) -> bytes: ...

    def finish(self) -> bytes: ...

    def fail(self, message: str) -> bytes: ...


class Pieces(Protocol):
    """A body that arrives in parts."""

    async def piece(self) -> bytes:
        """Return the next part, empty at the end. Cancelling the wait loses no data."""
        ...


class LaneOf(Protocol):
    """A lane: makes one attempt and returns its outcome."""

    async def attempt(self, attempt: Attempt) -> Outcome: ...


Failure = Callable[[FailedStream | UpstreamError], Outcome]


async def relay(
    attempt: Attempt,
    response: Pieces,
    editor: StreamEditor,
    failure: Failure,
    *,
    begin: Callable[[], Awaitable[None]],
    keepalive: float | None = None,
    needs_event: bool = False,
    translator: Translator | None = None,
    is_encoded: bool = False,
) -> Outcome:
    """Send a stream to the client as it arrives. ``failure`` converts an error before the start to an outcome.

    With a ``translator``, the client receives its output, and an error event if the stream breaks off. ``is_encoded`` as in
    ``relayed``.
    """
    outlet, journal = attempt.outlet, attempt.journal
    capture = attempt.capture or StreamCapture()
    journal.summary = capture.summary
    served = attempt.deployment.served
    try:
        read = response.piece if translator is None else translated(response.piece, outlet, translator)
        await relayed(
            read,
            outlet,
            editor,
            capture,
            begin=begin,
            keepalive=keepalive,
            needs_event=needs_event,
            is_encoded=is_encoded,
        )
    except (FailedStream, UpstreamError) as error:
        if not outlet.begun:
            return failure(error)
        journal.error = "interrupted"
        logger.warning("%s broke off its response after %d bytes (%s)", served, capture.summary.size, words_of(error))
        return DONE
    except asyncio.CancelledError:
        if outlet.left:
            logger.info("the client disconnected during a response of %s, after %d bytes", served, capture.summary.size)
        raise
    finally:
        journal.usage = capture.summary.usage
    journal.error = capture.summary.error
    if journal.error:
        logger.warning("%s ended its response with an error: %s", served, journal.error)
    return DONE


def translated(read: Read, outlet: ClientResponse, translator: Translator) -> Read:
    """Return a reader of a translator's output."""
    ended = False

    async def translation() -> bytes:
        nonlocal ended
        out = b""
        while not out and not ended:
            try:
                chunk = await read()
            except UpstreamError as error:
                if not outlet.begun:
                    raise
                ended = True
                logger.warning("a provider broke off its response (%s)", words_of(error))
                return translator.fail(BROKEN_OFF)
            ended = not chunk
            out = translator.finish() if ended else translator.feed(chunk)
        return out

    return translation


def sent_fields(attempt: Attempt) -> Mapping[str, Any]:
    """Return the parts of a request that another provider may receive."""
    return for_provider(attempt.request.body) if attempt.fields is None else attempt.fields


def key_of(deployment: Deployment) -> str:
    """Return a deployment's key for sending; empty without one."""
    return deployment.api_key.reveal() if deployment.api_key else ""


def host_of(deployment: Deployment) -> str:
    """Return a deployment's name in errors: its host, or its provider if only LiteLLM knows the address."""
    return (deployment.api_base or "").partition("://")[2].partition("/")[0] or deployment.served.partition("/")[0]


async def beginning(response: StreamedResponse) -> bytes:
    """Return the start of an error's body; empty if it breaks off."""
    try:
        return await response.read(cut_at=MAX_ERROR_BYTES)
    except UpstreamError:
        return b""


def messages_url(base: str) -> str:
    """Return the URL of the Messages API for a deployment's base, which may contain the path already."""
    return base if base.endswith("/v1/messages") else f"{base}/v1/messages"


def failed_stream(error: FailedStream, headers: Headers, status: int) -> Outcome:
    """Return the outcome of a stream whose first event is an error; an error about the request is final."""
    about = STATUS_OF_ERRORS.get(error.kind, 500)
    return failed(about, Refusal(status, headers, error.body), final=about in (400, 413))


def words_of(error: Exception) -> str:
    """Return a short description of an error, to be put in parentheses."""
    return str(error) if isinstance(error, UnreadableError | UpstreamError) else type(error).__name__
