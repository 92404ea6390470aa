"""What every lane shares: one attempt's parts, and the end of a response that is relayed."""

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
from claude_proxy.proxy.relay import FailedStream, Heard, Mender, Read, relayed
from claude_proxy.proxy.request import Request
from claude_proxy.proxy.response import ClientResponse
from claude_proxy.upstream.client import StreamedResponse, UnreadableError, UpstreamError

logger = logging.getLogger(__name__)

# Headers that describe a connection or an encoding that the client does not see, and what is about Anthropic's host alone.
NOT_REPLAYED = frozenset(
    {
        "alt-svc", "connection", "content-encoding", "content-length", "date", "keep-alive", "location", "refresh", "server",
        "set-cookie", "strict-transport-security", "trailer", "transfer-encoding", "upgrade",
    }
)  # fmt: skip
STREAM = "text/event-stream"
# Instead of a stream these are no response.
NO_STREAMS = ("application/json", "text/html")
# Of another provider's error so much is read. LiteLLM 1.106.2 looks for secrets in it over and over, in the event loop: a body
# of 10 MB stops the whole process for minutes.
MAX_ERROR_BYTES = 8 * 1024
# How long one silence of an upstream may last, in seconds, when neither the deployment nor the configuration says.
READ_SECONDS = 600.0


class Attempt(NamedTuple):
    """One attempt at one deployment.

    Of an attempt that LiteLLM has begun, ``heard`` keeps a copy of the response for it, and ``fields`` is the request as
    LiteLLM has it, for a provider that is not Claude.
    """

    request: Request
    deployment: Deployment
    outlet: ClientResponse
    journal: Journal
    read_seconds: float = READ_SECONDS
    heard: Heard | None = None
    fields: Mapping[str, Any] | None = None


class Translator(Protocol):
    """Makes a Messages stream of another one: ``feed`` every chunk, then ``finish`` once; ``fail`` ends it with an error."""

    def feed(self, chunk: bytes) -> bytes: ...

    def finish(self) -> bytes: ...

    def fail(self, message: str) -> bytes: ...


class Pieces(Protocol):
    """A body that arrives in pieces."""

    async def piece(self) -> bytes:
        """Return what is next, and nothing at the end. Nothing is lost when the wait for it is cancelled."""
        ...


class LaneOf(Protocol):
    """A lane: makes one attempt and returns what became of it."""

    async def attempt(self, attempt: Attempt) -> Outcome: ...


Failure = Callable[[FailedStream | UpstreamError], Outcome]


async def relay(
    attempt: Attempt,
    response: Pieces,
    mender: Mender,
    failure: Failure,
    *,
    begin: Callable[[], Awaitable[None]],
    keepalive: float | None = None,
    needs_event: bool = False,
    translator: Translator | None = None,
) -> Outcome:
    """Send a stream to the client while it arrives. ``failure`` makes an outcome of one that fails before it has begun.

    With a ``translator`` the client gets what it makes of the stream, and an error event where the stream breaks off.
    """
    outlet, journal = attempt.outlet, attempt.journal
    heard = attempt.heard or Heard()
    served = attempt.deployment.served
    try:
        read = response.piece if translator is None else translated(response.piece, outlet, translator)
        await relayed(read, outlet, mender, heard, begin=begin, keepalive=keepalive, needs_event=needs_event)
    except (FailedStream, UpstreamError) as error:
        if not outlet.begun:
            return failure(error)
        journal.error = "interrupted"
        logger.warning("%s broke its answer off after %d bytes (%s)", served, heard.summary.size, words_of(error))
        return DONE
    except asyncio.CancelledError:
        if outlet.left:
            logger.info("the client left during an answer of %s, after %d bytes", served, heard.summary.size)
        raise
    finally:
        journal.usage = heard.summary.usage
    journal.error = heard.summary.error
    if journal.error:
        logger.warning("%s ended its answer with %s", served, journal.error)
    return DONE


def translated(read: Read, outlet: ClientResponse, translator: Translator) -> Read:
    """Return a reader of what a translator makes of a stream."""
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
                logger.warning("a provider broke its answer off (%s)", words_of(error))
                return translator.fail(BROKEN_OFF)
            ended = not chunk
            out = translator.finish() if ended else translator.feed(chunk)
        return out

    return translation


def sent_fields(attempt: Attempt) -> Mapping[str, Any]:
    """Return what another provider may see of a request."""
    return for_provider(attempt.request.body) if attempt.fields is None else attempt.fields


def key_of(deployment: Deployment) -> str:
    """Return a deployment's key, to be sent; empty without one."""
    return deployment.api_key.reveal() if deployment.api_key else ""


def host_of(deployment: Deployment) -> str:
    """Return what a deployment's other end is called in errors: its host, or its provider where LiteLLM knows the address."""
    return (deployment.api_base or "").partition("://")[2].partition("/")[0] or deployment.served.partition("/")[0]


async def beginning(response: StreamedResponse) -> bytes:
    """Return the beginning of an error; nothing where it breaks off."""
    try:
        return await response.read(cut_at=MAX_ERROR_BYTES)
    except UpstreamError:
        return b""


def messages_url(base: str) -> str:
    """Return the address of the Messages API below a deployment's base, which may name it already."""
    return base if base.endswith("/v1/messages") else f"{base}/v1/messages"


def failed_stream(error: FailedStream, headers: Headers, status: int) -> Outcome:
    """Return the outcome of a stream whose first event is an error: as with a status, one about the request is final."""
    about = STATUS_OF_ERRORS.get(error.kind, 500)
    return failed(about, Refusal(status, headers, error.body), final=about in (400, 413))


def words_of(error: Exception) -> str:
    """Return what became of a response, in words that may stand in brackets."""
    return str(error) if isinstance(error, UnreadableError | UpstreamError) else type(error).__name__
